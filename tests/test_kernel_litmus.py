"""Litmus tests as scenarios of the kernel's C."""

from __future__ import annotations

from shootdown.check.litmus.litmus import suite
from shootdown.kernel.explore.litmus import scenario
from shootdown.kernel.explore.scenario import Options


def test_every_test_is_a_scenario() -> None:
    """Each test has its vCPUs, the tasks of its host and a start on the C, in both geometries; none is left out."""
    for test in suite():
        for geometry in (test.tiny, test.full):
            found = scenario(test, geometry, Options())
            names = [task.name for task in found.tasks]
            assert len(found.guests) >= geometry.vcpus and found.start
            assert names[-len(test.host) :] == [entry["name"] for entry in test.host]
