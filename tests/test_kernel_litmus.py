"""Which litmus tests the kernel's C can run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shootdown.check.litmus import suite
from shootdown.errors import InputError
from shootdown.kernel.litmus import is_expressible, scenario
from shootdown.kernel.scenario import Options
from shootdown.kernel.verdict import cases

TESTS = {test.name: test for test in suite()}


def test_a_test_is_run_as_it_is_or_not_at_all() -> None:
    """What the drivers do not have is refused, and never left out of a test that then says something else."""
    left_out = {name for name, test in TESTS.items() if not is_expressible(test)}
    assert left_out == {
        name
        for name, test in TESTS.items()
        if test.mapped_nested or any(key in entry for entry in test.vcpus for key in ("nested", "switches", "ahead"))
    }
    assert left_out
    assert not {case.test.name for case in cases(list(TESTS.values()), "6.12", True)} & left_out
    for name in left_out:
        with pytest.raises(InputError, match="nested guests"):
            scenario(TESTS[name], TESTS[name].tiny, Options())


def test_every_other_test_is_a_scenario() -> None:
    """All that remain have tasks, guests and a start, in both geometries."""
    for test in filter(is_expressible, TESTS.values()):
        for geometry in (test.tiny, test.full):
            found = scenario(replace(test, defects=frozenset()), geometry, Options())
            assert len(found.guests) >= geometry.vcpus
