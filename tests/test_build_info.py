"""What the package says about its own build."""

from pathlib import Path

from shootdown import build_info


def test_a_build_calls_itself_what_it_is() -> None:
    """``compiled()`` and ``describe()`` agree with the file that Python loaded."""
    is_source = Path(build_info.__file__).suffix == ".py"
    assert build_info.compiled() is not is_source
    if is_source:
        assert build_info.describe() == "plain Python: slow; install a C compiler and python3-dev and reinstall"
    else:
        assert build_info.describe() == "compiled (mypyc)"
