"""Which build runs: the modules compiled by mypyc, or the plain Python sources."""

from importlib.machinery import EXTENSION_SUFFIXES


def compiled() -> bool:
    """Whether this module runs as machine code; all compiled modules are built together, or none is."""
    return __file__.endswith(tuple(EXTENSION_SUFFIXES))


def describe() -> str:
    """The build in words for a version line; of a slow one, what to do about it."""
    if compiled():
        return "compiled (mypyc)"
    return "plain Python: slow; install a C compiler and python3-dev and reinstall"
