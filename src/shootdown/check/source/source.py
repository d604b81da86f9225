"""Loads the MMU's Python sources a second time, as they are or with a patch, for the checker to look into.

The installed package may be compiled, and compiled functions have no frames; so the checker runs the ``.py`` files that
lie beside, under a name of their own.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ...errors import InputError

PACKAGE = Path(__file__).resolve().parents[2]
PARTS = ("machine", "mmu")

_numbers = itertools.count()


class Source(importlib.abc.MetaPathFinder):
    """The sources under ``folder`` (with ``machine/`` and ``mmu/`` in it), importable under ``name``."""

    def __init__(self, folder: Path = PACKAGE) -> None:
        self.folder = folder
        self.name = f"shootdown_checked_{next(_numbers)}"
        top = ModuleType(self.name)
        top.__path__ = []
        sys.modules[self.name] = top
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module of this copy, as plain source only."""
        parts = fullname.split(".")
        if parts[0] != self.name or len(parts) < 2 or parts[1] not in PARTS:
            return None
        place = self.folder.joinpath(*parts[1:])
        if (place / "__init__.py").is_file():
            file, search = place / "__init__.py", [str(place)]
        else:
            file, search = place.with_suffix(".py"), None
        if not file.is_file():
            return None
        loader = importlib.machinery.SourceFileLoader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=search)

    def module(self, name: str) -> ModuleType:
        """The copy of a module, such as ``mmu.zap``."""
        try:
            return importlib.import_module(f"{self.name}.{name}")
        except Exception as error:
            raise InputError(f"{place_of(error)}: {type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Forget the copy."""
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.split(".")[0] == self.name]:
            del sys.modules[name]


def place_of(error: BaseException) -> str:
    """File and line of the MMU's sources where an error rose, as ``mmu/zap.py:33``."""
    place, trace = "mmu", error.__traceback__
    while trace is not None:
        place = place_in(trace.tb_frame.f_code.co_filename, trace.tb_lineno) or place
        trace = trace.tb_next
    return place


def place_in(file: str, line: int) -> str:
    """A line of the MMU's sources, whichever copy it is in; "" of another file."""
    parts = Path(file).parts
    for depth in (2, 3):  # mmu/zap.py, mmu/policies/rcu.py; folders further up have the user's names
        if parts[-depth:][0] in PARTS:
            return f"{'/'.join(parts[-depth:])}:{line}"
    return ""
