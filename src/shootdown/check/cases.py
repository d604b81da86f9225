"""Cases: what one search is about, a litmus test under a policy and a behaviour, in a geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..mmu.behaviour import BEHAVIOURS
from ..mmu.policies.registry import POLICIES
from .litmus import Geometry, Litmus


@dataclass(frozen=True)
class Case:
    """One search."""

    test: Litmus
    policy: str
    behaviour: str
    geometry: Geometry

    @property
    def expected(self) -> str:
        """What the test says that the verdict must be."""
        return self.test.expected(self.policy, self.behaviour)

    def __str__(self) -> str:
        return f"{self.test.name} under {self.policy}"


def cases(tests: Sequence[Litmus], policies: Sequence[str], behaviour: str | None, tiny: bool) -> list[Case]:
    """All that the tests are for, of the policies (none: those that each test names) and the behaviour, if one is."""
    found = []
    for test in tests:
        for policy in policies or test.policies:
            chosen = behaviour_of(test, policy, behaviour)
            if chosen is not None:
                found.append(Case(test, policy, chosen, test.tiny if tiny else test.full))
    return found


def behaviour_of(test: Litmus, policy: str, asked: str | None) -> str | None:
    """The behaviour to check a test with: the one that was asked for, or the test's default; None if it is not for it.

    A policy that promotes huge pages implies one that can, where the test has it.
    """
    if asked is not None:
        return asked if asked in test.behaviours else None
    if POLICIES[policy].promotes:
        return next((name for name in test.behaviours if BEHAVIOURS[name].promote), test.behaviours[0])
    return test.behaviours[0]
