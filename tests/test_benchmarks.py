"""The benchmarks time what they say: each operation, made ready and done once at a small size.

The suite's figures are those in docs/suite.md.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import profile, slots
from benchmarks.operations import OPERATIONS, Operation
from benchmarks.suite import Row, asked, late, measured, recorded
from shootdown.kernel.cost.workloads import HUGE
from tests.bug_table import ALL
from tests.structure import ROOT

STATES_MAX = 100
"""Of the searches that are done again."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_can_be_timed(operation: Operation) -> None:
    """It is made ready for two regions, and done; its name is its own, and docs/speed.md has it."""
    operation.ready(2 * HUGE)()
    assert [other.name for other in OPERATIONS].count(operation.name) == 1
    assert operation.name in (ROOT / "docs" / "speed.md").read_text()


def test_every_operation_can_be_profiled(capsys: pytest.CaptureFixture[str]) -> None:
    """What the profiler runs does its work: here with a file in the place of ``perf``."""
    with Path(os.devnull).open("wb") as control:
        profile.operate("collapse, 6.12", HUGE, control.fileno())
    assert float(capsys.readouterr().out) > 0
    assert profile.plain("CPyDef_fault___map_gfn") == "fault.map_gfn"


@pytest.mark.parametrize("number", slots.NUMBERS[:4])
def test_a_fault_can_be_timed_with_any_number_of_slots(number: int) -> None:
    """Each slot is used, if only the pages of one table."""
    assert slots.fault(number, 2 * HUGE) > 0


def test_the_page_of_figures_is_of_this_suite() -> None:
    """docs/suite.md has a row for each case, with the verdict that the test expects, and no other."""
    rows = recorded()
    assert [tuple(row[:4]) for row in rows] == [
        (case.test.name, case.policy, case.behaviour, case.expected) for case in asked()
    ]
    assert {row[0] for row in recorded("## Planted bugs")} == {bug.site for bug in ALL}


def test_the_page_of_figures_is_up_to_date() -> None:
    """The smallest searches take as many states and steps as docs/suite.md says; else it is to be written again."""
    rows = {tuple(row[:3]): row for row in recorded()}
    small = [
        case
        for case in asked()
        if int(rows[case.test.name, case.policy, case.behaviour][4].replace(",", "")) <= STATES_MAX
    ]
    assert len(small) >= 3
    for case in small:
        assert list(measured(case).cells()[4:7]) == rows[case.test.name, case.policy, case.behaviour][4:7], case


def test_what_takes_too_long_is_named() -> None:
    """A refutation that takes longer than the aim, with its schedule, is one that the command complains of."""
    slow = Row("t", "rcu", "6.12", "refuted", "refuted", 9, 9, 9, 1.0, 9, 1.5)
    assert late([slow, replace(slow, schedule_seconds=0.5), replace(slow, accesses=0)]) == [slow]
    assert slow.cells()[3] == "refuted"
    assert replace(slow, verdict="holds").cells()[3] == "holds!"
