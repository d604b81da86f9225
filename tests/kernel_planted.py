"""Tries the bugs of kernel_bugs.py on the C of trees: ``python -m tests.kernel_planted [part of a name]...``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from shootdown.check.litmus import suite
from shootdown.check.verdict import UNDETERMINED
from shootdown.errors import InputError
from shootdown.kernel.build import EXPLORE, C, build
from shootdown.kernel.edits import Edit, body, edited, masked
from shootdown.kernel.probes import X86
from shootdown.kernel.scenario import Budget, Options, Outcome
from shootdown.kernel.tree import Tree
from shootdown.kernel.verdict import Judged, cases, judge

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


def is_driver(tree: Tree, edit: Edit) -> bool:
    """Is the function in none of the tree's files that are built?"""
    return not any(is_in(tree.read(file), edit.function) for file in FILES)


def planted(tree: Tree, edits: tuple[Edit, ...], drivers: Path) -> Tree:
    """A tree with edits; those of drivers are made in a folder of them."""
    for edit in edits:
        file = next((file for file in FILES if is_in(tree.read(file), edit.function)), "")
        if file:
            tree = tree.with_changes({file: edited(tree.read(file), edit)})
        else:
            path = next(path for path in sorted(drivers.glob("*.c")) if is_in(path.read_text(), edit.function))
            path.write_text(edited(path.read_text(), edit))
    return tree


def tried(bug: Planted, version: str, without: bool = False) -> Judged:
    """What a test gives with a bug planted, or ``without``."""
    tree = planted(linux(version), bug.upon, DRIVERS)
    (case,) = cases([SUITE[bug.test]], version, tiny=True)
    options = Options(ranged=bug.ranged, failures=bug.failures)
    if without:
        return judge(case, build(tree, EXPLORE), options, BUDGET)
    if not any(is_driver(tree, edit) for edit in bug.edits):
        return judge(case, build(planted(tree, bug.edits, DRIVERS), EXPLORE), options, BUDGET)
    with tempfile.TemporaryDirectory(prefix="shootdown-drivers-") as folder:
        for path in DRIVERS.iterdir():
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        return judge(case, build(planted(tree, bug.edits, Path(folder)), EXPLORE, Path(folder)), options, BUDGET)


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
