"""The benchmarks time what they say: each operation, made ready and done once at a small size."""

from __future__ import annotations

import pytest

from benchmarks.operations import OPERATIONS, Operation
from shootdown.kernel.workloads import HUGE
from tests.structure import ROOT


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_can_be_timed(operation: Operation) -> None:
    """It is made ready for two regions, and done; its name is its own, and docs/speed.md has it."""
    operation.ready(2 * HUGE)()
    assert [other.name for other in OPERATIONS].count(operation.name) == 1
    assert operation.name in (ROOT / "docs" / "speed.md").read_text()
