"""A Linux tree of the user's: where it is, which version, and the text of its files, perhaps with changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ...errors import InputError
from . import probes
from .probes import X86
from .tarball import WANTED, extracted

BUILT: Final = (X86 + "mmu/tdp_mmu.c", X86 + "mmu/tdp_iter.c", X86 + "mmu/spte.c")
"""The files that are compiled, as they are."""

EMPTIED: Final = ("kvm_cache_regs.h", "x86.h", "cpuid.h")
"""Headers of the tree that are not copied, so that ours of the same name are found: little is wanted of them."""

HEADERS: Final = tuple(
    X86 + name for name in ("mmu.h", "mmu/mmu_internal.h", "mmu/tdp_iter.h", "mmu/tdp_mmu.h", "mmu/spte.h")
)
"""Headers that our drivers include."""

TOP: Final = frozenset(
    "arch block certs crypto Documentation drivers fs include init io_uring ipc kernel lib LICENSES mm net rust "
    "samples scripts security sound tools usr virt".split()
)
"""The folders at the top of a tree."""

NEEDED: Final = tuple(sorted({"Makefile", *BUILT, *HEADERS, *probes.PROBED}))


@dataclass(frozen=True)
class Tree:
    """A tree: ``name`` as the user gave it, ``folder`` where its files are.

    changed  files that patches changed, by name, and their text; None: removed
    partial  only what concerns KVM was extracted, so that other files are not known
    """

    name: str
    folder: Path
    version: str
    partial: bool = False
    changed: Mapping[str, str | None] = field(default_factory=dict)

    def text(self, file: str) -> str | None:
        """The text of a file, or None if there is no such file."""
        if file in self.changed:
            return self.changed[file]
        path = self.folder / file
        if file.startswith("/") or ".." in Path(file).parts or not path.is_file():
            return None
        return path.read_bytes().decode("utf-8", "surrogateescape")

    def read(self, file: str) -> str:
        """The text of a file. Raises InputError if there is none."""
        text = self.text(file)
        if text is None:
            raise InputError(f"{self.name}: no {file}", advice="give a whole Linux tree, or one with all of KVM")
        return text

    def lacks(self, file: str) -> bool:
        """Is it sure that there is no such file? In a partial tree only where all was extracted, or no tree has any."""
        top, below, _ = file.partition("/")
        foreign = bool(below) and top not in TOP
        return self.text(file) is None and (not self.partial or foreign or file.startswith(WANTED))

    def with_changes(self, changed: Mapping[str, str | None]) -> Tree:
        """The tree with other text in some files."""
        return replace(self, changed={**self.changed, **changed})


def find_tree(name: str) -> Tree:
    """The tree in a folder or tarball. Raises InputError if it is none, naming what is missing."""
    path = Path(name)
    if path.is_dir():
        # Every whole tree has this file.
        tree = Tree(name, path.resolve(), "", partial=not (path / "Kbuild").is_file())
    elif path.is_file():
        tree = Tree(name, extracted(path), "", partial=True)
    else:
        raise InputError(f"{name}: no such folder or file", advice="give a Linux tree, or a tarball of one")
    missing = [file for file in NEEDED if not (tree.folder / file).is_file()]
    if missing == list(NEEDED):
        raise InputError(f"{name}: no Linux tree: it has no {missing[0]}, and so on", advice="give its top folder")
    if missing:
        rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{name}: no {missing[0]}{rest}", advice="give a whole Linux tree with KVM's TDP MMU (5.15 on)"
        )
    return replace(tree, version=version_of(tree.read("Makefile"), name))


def version_of(makefile: str, name: str) -> str:
    """As ``6.12.117-rc1``, from the first lines of a Makefile."""
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)", makefile, re.MULTILINE))
    if not {"VERSION", "PATCHLEVEL"} <= found.keys():
        raise InputError(f"{name}: its Makefile names no version", advice="give the top folder of a Linux tree")
    return f"{found['VERSION']}.{found['PATCHLEVEL']}.{found.get('SUBLEVEL') or 0}{found.get('EXTRAVERSION', '')}"


def sources(tree: Tree) -> dict[str, str]:
    """The files that a build reads, by name: those that are compiled, and all of the tree that they include."""
    found: dict[str, str] = {}
    todo = [(file, "") for file in (*BUILT, *HEADERS)]
    while todo:
        file, by = todo.pop(0)
        if file in found:
            continue
        if tree.text(file) is None and by:
            raise InputError(f"{tree.name}: {by} includes {file}, which is not there")
        found[file] = tree.read(file)
        for included in re.findall(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', found[file], re.MULTILINE):
            if Path(included).name not in EMPTIED:
                todo.append((_included(tree, file, included), file))
    return found


def _included(tree: Tree, by: str, name: str) -> str:
    """The file that an include with quotes means: next to the one that includes it, or in KVM's folder."""
    beside = Path(by).parent / name
    if name.startswith("/") or ".." in Path(name).parts:
        raise InputError(f"{tree.name}: {by} includes {name}, from outside", advice="name it from KVM's folder")
    return str(beside) if tree.text(str(beside)) is not None else X86 + name
