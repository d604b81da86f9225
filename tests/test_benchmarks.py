"""The benchmarks time what they say: each operation, made ready and done once at a small size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import profile, slots
from benchmarks.operations import OPERATIONS, Operation
from shootdown.kernel.workloads import HUGE
from tests.structure import ROOT


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
