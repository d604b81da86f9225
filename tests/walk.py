"""Schedules to follow by hand: ``python -m tests.walk SEED`` picks ten at random and prints them.

``python -m tests.walk NAME`` prints those whose name begins so. On the kernel's C they are of the trees that
SHOOTDOWN_LINUX names. docs/checking.md tells of a walk.
"""

from __future__ import annotations

import random
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.schedule.drawing import table
from shootdown.check.schedule.schedule import schedule_of, told
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import REFUTED
from shootdown.kernel.explore import verdict as of_c
from shootdown.kernel.explore.scenario import Options
from shootdown.kernel.explore.schedule import table as c_table
from shootdown.kernel.explore.verdict import Judged

from . import kernel_planted, trees
from .bug_table import ALL
from .kernel_bugs import PLANTED, Planted
from .mutations import Mutation
from .test_check_suite import mutated

SUITE, PLANTED_HERE, DEFECTS, PLANTED_IN_C = "suite", "planted", "C", "planted in C"
TAKEN = {SUITE: 3, PLANTED_HERE: 3, DEFECTS: 2, PLANTED_IN_C: 2}
"""How many of each are picked."""
KERNELS = ("6.1", "6.12", "6.13", "6.18")
TESTS = {test.name: test for test in suite()}


class Lines(Protocol):
    """Finds a schedule."""

    def __call__(self) -> list[str]:
        """Its lines."""


@dataclass(frozen=True)
class Candidate:
    """A schedule that can be had: its name, the command that prints it, and what finds it."""

    name: str
    command: str
    lines: Lines


def ours(case: Case, source: Source) -> list[str]:
    """The schedule of a case on our MMU."""
    return table(told(schedule_of(case, source))).lines()


def of_suite() -> Iterator[Candidate]:
    """What the suite refutes as expected: tests under a policy, and known defects."""
    for test in suite():
        for policy, behaviour in pairs(test):
            if test.expected(policy, behaviour) == REFUTED:
                case = Case(test, policy, behaviour, test.full)
                command = f"shootdown check {test.name} --policy {policy} --behaviour {behaviour}"
                yield Candidate(f"{SUITE}: {test.name} {policy} {behaviour}", command, partial(ours, case, Source()))


def with_bug(bug: Mutation) -> list[str]:
    """The schedule of a bug that is planted in our MMU."""
    test = TESTS[bug.test]
    case = Case(test, bug.policy, bug.behaviour or test.behaviours[0], test.full if bug.full else test.tiny)
    with tempfile.TemporaryDirectory() as folder, mutated(bug, Path(folder)) as source:
        return ours(case, source)


def planted() -> Iterator[Candidate]:
    """The bugs that are planted in our MMU and refuted."""
    for bug in ALL:
        if bug.breaks:
            name = f"{PLANTED_HERE}: {bug.site}"
            yield Candidate(name, f"python -m tests.walk {shlex.quote(name)}", partial(with_bug, bug))


def on_c(found: Judged) -> list[str]:
    """The schedule of a verdict on the C."""
    return c_table(found.outcome, found.scenario).lines()


def defect(version: str, case: Case) -> list[str]:
    """The schedule of a known defect of a kernel."""
    return on_c(of_c.judge(case, trees.explored(version), Options(), kernel_planted.BUDGET))


def bug_in_c(version: str, bug: Planted) -> list[str]:
    """The schedule of a bug that is planted in a kernel's C."""
    return on_c(kernel_planted.tried(bug, version))


def defects() -> Iterator[Candidate]:
    """The known defects of kernels, on their own C."""
    for version in KERNELS:
        for case in of_c.cases(suite(), version, tiny=False):
            if case.expected == REFUTED:
                command = f"shootdown check --tree {trees.tree(version)} {case.test.name}"
                yield Candidate(f"{DEFECTS}: {version} {case.test.name}", command, partial(defect, version, case))


def planted_in_c() -> Iterator[Candidate]:
    """The bugs that are planted in the C and refuted."""
    for bug in PLANTED:
        for version in bug.versions:
            if bug.breaks:
                name = f"{PLANTED_IN_C}: {version} {bug.name}, {bug.test}"
                yield Candidate(name, f"python -m tests.walk {shlex.quote(name)}", partial(bug_in_c, version, bug))


KINDS = {SUITE: of_suite, PLANTED_HERE: planted, DEFECTS: defects, PLANTED_IN_C: planted_in_c}


def picked(seed: int) -> list[Candidate]:
    """Ten of them; they depend on the seed and on what there is to pick."""
    chance = random.Random(seed)
    return [each for kind, count in TAKEN.items() for each in chance.sample(list(KINDS[kind]()), count)]


def main(words: list[str]) -> None:
    """Print the schedules that are picked, or named."""
    asked = " ".join(words)
    if asked.isdecimal():
        found = picked(int(asked))
    else:
        found = [each for kind in KINDS.values() for each in kind() if asked and each.name.startswith(asked)]
    for each in found:
        print(f"== {each.name}\n   {each.command}\n", flush=True)
        print("\n".join([*each.lines(), ""]), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except pytest.skip.Exception as missing:
        sys.exit(str(missing))
