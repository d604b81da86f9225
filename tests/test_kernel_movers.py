"""Gluing steps of the C that cannot be told apart changes no verdict: the suite, with every access a step of its own.

SHOOTDOWN_SOUND=1 tries all tests on each tree at hand; else a few are tried.
"""

from __future__ import annotations

import os

import pytest

from shootdown.check.litmus.litmus import suite
from shootdown.check.verdict.verdict import UNDETERMINED
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.verdict import cases, judge
from shootdown.kernel.source.likeness import likeness
from tests.trees import VERSIONS, explored

TESTS = {test.name: test for test in suite()}
FEW = ("zap-range-notifier", "unmap-tables", "read-fault-upgrade", "write-protect-notifier", "zap-all-fast")
LARGE = {
    "nested-collapses": "6.12: more than 7 M states when 20 s are over",
    "slot-delete-both": "6.12: more states than 20 s are enough for",
}
"""Tests whose search without movers does not end, and why."""
NAMES = sorted(TESTS) if os.environ.get("SHOOTDOWN_SOUND") else FEW


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_movers_change_no_verdict(name: str, version: str) -> None:
    """What breaks, or that nothing does, is the same with movers and without; without, no schedule is shorter."""
    library = explored(version)
    asked = cases([TESTS[name]], likeness(library.tree).behaviour, True)
    if not asked:
        pytest.skip(f"not for {version}")
    glued, every = (
        judge(asked[0], library, Options(movers=movers), Budget(seconds=20)).outcome for movers in (True, False)
    )
    if every.word == UNDETERMINED and name in LARGE:
        pytest.skip(LARGE[name])
    assert (glued.word, glued.broken) == (every.word, every.broken)
    assert glued.states <= every.states and (not glued.broken or glued.depth <= every.depth)
