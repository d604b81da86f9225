"""An MMU that was written otherwise and does the same gets the same verdicts: the suite looks at what it does.

SHOOTDOWN_REFACTORED=1 has each change searched by itself, over the whole suite; else all are made at once, and tested
in what is small.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.verdict.verdict import check

from .mutations import Mutation
from .refactored import REFACTORED
from .test_check_suite import BUDGET, COUNTS, TESTS, mutated

ALL = os.environ.get("SHOOTDOWN_REFACTORED", "") == "1"
STATES_MAX = 10_000 if not ALL else 1 << 60
STEP = 1 if ALL else 12
CHANGES = REFACTORED if ALL else {"all at once": tuple(change for every in REFACTORED.values() for change in every)}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_refactored_mmu_gets_the_same_verdicts(name: str, tmp_path: Path) -> None:
    """Each test of the suite says of it what it says of the MMU as it is."""
    found = {}
    expected = {}
    cases = [
        Case(test, policy, behaviour, test.tiny)
        for test in TESTS.values()
        for policy, behaviour in pairs(test)
        if COUNTS[f"{test.name} {policy} {behaviour}"][0] <= STATES_MAX
    ]
    with mutated(Mutation(name, CHANGES[name], "", 0), tmp_path) as source:
        for case in cases[::STEP]:
            expected[str(case), case.behaviour] = case.expected
            found[str(case), case.behaviour] = check(case, source, BUDGET).word
    assert found == expected
