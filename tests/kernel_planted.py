"""Tries the bugs of kernel_bugs.py on the C of trees: ``python -m tests.kernel_planted [part of a name]...``."""

from __future__ import annotations

import sys
import tempfile
from functools import cache
from pathlib import Path

from shootdown.check.litmus.litmus import suite
from shootdown.check.verdict.verdict import UNDETERMINED
from shootdown.errors import InputError
from shootdown.kernel.explore.scenario import Budget, Options, Outcome
from shootdown.kernel.explore.verdict import Judged, cases, judge
from shootdown.kernel.library.build import EXPLORE, C, Library, build
from shootdown.kernel.source.c_text import body, masked
from shootdown.kernel.source.probes import X86
from shootdown.kernel.source.tree import Tree
from tests.edits import Edit, edited

from .kernel_bugs import PLANTED, Planted
from .trees import linux

SUITE = {test.name: test for test in suite()}
BUDGET = Budget(states=3_000_000, seconds=120.0)
FILES = tuple(X86 + "mmu/" + name for name in ("tdp_mmu.c", "tdp_iter.c", "tdp_iter.h", "spte.c"))
DRIVERS = C / "drivers"


def is_in(text: str, function: str) -> bool:
    """Does a file define a function?"""
    try:
        body(masked(text), function)
    except InputError:
        return False
    return True


@cache
def is_driver(function: str) -> bool:
    """Is a function one of our drivers'?"""
    return any(is_in(path.read_text(encoding="utf-8"), function) for path in DRIVERS.glob("*.c"))


def find(tree: Tree, edits: tuple[Edit, ...]) -> dict[str, tuple[str, str]]:
    """By file of the tree, or name of a driver, its text before the edits and after."""
    texts = {file: tree.read(file) for file in FILES}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in sorted(DRIVERS.glob("*.c"))}
    found: dict[str, tuple[str, str]] = {}
    for edit in edits:
        file = next(name for name, text in texts.items() if is_in(text, edit.function))
        before = found[file] if file in found else (texts[file], texts[file])
        found[file] = (before[0], edited(before[1], edit))
    return found


def library(tree: Tree, edits: tuple[Edit, ...]) -> Library:
    """The library of a tree with edits, of its own files and of drivers."""
    found = find(tree, edits)
    tree = tree.with_changes({file: after for file, (_, after) in found.items() if file in FILES})
    drivers = {file: after for file, (_, after) in found.items() if file not in FILES}
    if not drivers:
        return build(tree, EXPLORE)
    with tempfile.TemporaryDirectory(prefix="shootdown-drivers-") as folder:
        for path in DRIVERS.iterdir():
            text = drivers.get(path.name) or path.read_text(encoding="utf-8")
            (Path(folder) / path.name).write_text(text, encoding="utf-8")
        return build(tree, EXPLORE, Path(folder))


def tried(bug: Planted, version: str, without: bool = False) -> Judged:
    """What a test gives with a bug planted, or ``without``."""
    (case,) = cases([SUITE[bug.test]], version, tiny=True)
    edits = bug.upon if without else (*bug.upon, *bug.edits)
    return judge(case, library(linux(version), edits), Options(ranged=bug.ranged, failures=bug.failures), BUDGET)


def agrees(bug: Planted, found: Outcome, control: Outcome) -> bool:
    """Is what was found with a bug, and without it, what the table says?"""
    deeper = control.word == UNDETERMINED and not bug.without and control.depth > found.depth
    return (found.broken, found.stopped) == (bug.breaks, "") and (
        deeper or (control.broken, control.stopped) == (bug.without, "")
    )


def main(parts: list[str]) -> int:
    """A line for each; 1 if one is not as the table says."""
    wrong = 0
    for bug in PLANTED:
        for version in bug.versions:
            if parts and not any(part in f"{bug.row} {bug.name} {bug.test} {version}" for part in parts):
                continue
            found, control = tried(bug, version).outcome, tried(bug, version, without=True).outcome
            ok = agrees(bug, found, control)
            wrong += not ok
            got = found.broken or found.word + (f" ({found.stopped})" if found.stopped else "")
            print(
                f"{'ok   ' if ok else 'WRONG'} {bug.row:4} {version:5} {bug.test:24} {got:20}"
                f" {found.depth:4} steps {found.states:8} states; without: {control.word}; {bug.name}",
                flush=True,
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
