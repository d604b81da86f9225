"""Bugs planted in the kernel's own C are refuted, or harmless, as tests/kernel_bugs.py has it.

SHOOTDOWN_SOUND=1 tries all of them on each tree at hand; else a few are tried.
"""

from __future__ import annotations

import os

import pytest

from shootdown.check.verdict.verdict import HOLDS
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.schedule import table
from shootdown.kernel.explore.verdict import cases, judge
from shootdown.kernel.source.c_text import masked
from tests.kernel_bugs import HARMLESS, PLANTED, Planted
from tests.kernel_planted import SUITE, agrees, find, tried
from tests.trees import VERSIONS, explored, linux

pytestmark = pytest.mark.slow
EVERY = "SHOOTDOWN_SOUND" in os.environ
FEW = (
    "no flush before giving way", "a removed table is freed at once", "NX recovery does not hear that a flush is owed",
    "a notifier leaves invalid roots alone", "a split does not ask whether it got a table",
)  # fmt: skip
"""Tried where not all are."""
ASKED = [(bug, version) for bug in PLANTED for version in bug.versions if EVERY or (bug.name in FEW and bug.breaks)]
MAY_FAIL = ("fault-no-memory", "log-clear-huge", "log-on-huge", "split-no-memory", "split-two-vcpus")
"""Tests in which the C allocates what it can do without."""


@pytest.mark.parametrize(("bug", "version"), ASKED, ids=[f"{version}-{bug.name}-{bug.test}" for bug, version in ASKED])
def test_a_planted_bug_of_the_kernels_is_refuted(bug: Planted, version: str) -> None:
    """An edit of the C is refuted by its test, which holds without it, with a schedule for a mail; or is harmless."""
    found = tried(bug, version)
    assert agrees(bug, found.outcome, tried(bug, version, without=True).outcome)
    if bug.breaks:
        lines = table(found.outcome, found.scenario).lines()
        assert max(map(len, lines)) <= 72
        assert any(line.startswith("BROKEN: ") for line in lines)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_edit_fits_each_tree(version: str) -> None:
    """Every edit of the table finds its function and what it changes, and no two bugs are the same edit and test."""
    seen = set()
    for bug in PLANTED:
        if version in bug.versions:
            seen.add((bug.edits, bug.test, bug.ranged, bug.failures))
            texts = find(linux(version), (*bug.upon, *bug.edits))
            assert all(masked(after) != masked(before) for before, after in texts.values())
    assert len(seen) == sum(version in bug.versions for bug in PLANTED)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MAY_FAIL)
def test_allocations_may_fail(name: str, version: str) -> None:
    """Where one allocation of each run fails, whichever, the C keeps its promises; and more can happen."""
    asked = cases([SUITE[name]], version, tiny=True)
    if not asked:
        pytest.skip(f"not for {version}")
    none, one = (
        judge(asked[0], explored(version), Options(failures=failures), Budget(states=1_000_000, seconds=60.0))
        for failures in (0, 1)
    )
    assert one.verdict.word == HOLDS == none.verdict.word
    assert one.outcome.states > none.outcome.states or "split" not in name


def test_what_is_harmless_has_a_twin_that_is_not() -> None:
    """No row is shown by harmless edits alone, unless its bug is harmless by itself."""
    rows = {bug.row for bug in PLANTED if bug.breaks == HARMLESS and bug.row}
    refuted = {bug.row for bug in PLANTED if bug.breaks != HARMLESS}
    assert rows - refuted == {"B23", "B25", "B26", "B34", "B45", "E18", "E20"}
