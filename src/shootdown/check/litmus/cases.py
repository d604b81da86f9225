"""Cases: what one search is about, a litmus test under a policy and a behaviour, in a geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...mmu.behaviour import BEHAVIOURS
from ...mmu.policies.policy import AS_VERSION, RECOVER, ZAP_TABLES
from ...mmu.policies.registry import POLICIES
from .litmus import Geometry, Litmus

BUFFERS_MAX = 4
"""Entries of a store buffer; two tell all apart that matters here, and each multiplies the states."""


@dataclass(frozen=True)
class Case:
    """One search.

    buffers  entries of each CPU's store buffer, 0 for sequential consistency
    ranged   a flush of a range flushes no more than that; a test may ask for it itself
    """

    test: Litmus
    policy: str
    behaviour: str
    geometry: Geometry
    buffers: int = 0
    ranged: bool = False

    def __post_init__(self) -> None:
        """What the test asks for holds whoever makes the case."""
        object.__setattr__(self, "ranged", self.ranged or self.test.ranged)

    @property
    def expected(self) -> str:
        """What the test says that the verdict must be."""
        return self.test.expected(self.policy, self.behaviour)

    def __str__(self) -> str:
        return f"{self.test.name} under {self.policy}"


def cases(
    tests: Sequence[Litmus], policies: Sequence[str], behaviour: str | None, tiny: bool, buffers: int, ranged: bool
) -> list[Case]:
    """All that the tests are for, of the policies (none: those that each test names) and the behaviour, if one is."""
    found = []
    for test in tests:
        for policy in policies or test.policies:
            chosen = behaviour_of(test, policy, behaviour)
            if chosen is not None:
                found.append(Case(test, policy, chosen, test.tiny if tiny else test.full, buffers, ranged))
    return found


def behaviour_of(test: Litmus, policy: str, asked: str | None) -> str | None:
    """The behaviour to check a test with: the one that was asked for, or the test's default; None if it is not for it.

    A policy with a behaviour of its own is checked with that one where the test has it; an exact policy with no other.
    """
    own = POLICIES[policy].behaviour
    if POLICIES[policy].exact and asked not in (None, own):
        return None
    chosen = asked or own
    if asked is not None and not test.is_for(asked):
        return None
    if asked is None and chosen not in test.behaviours:
        if POLICIES[policy].exact:
            return None
        chosen = test.behaviours[0]
    # A test of a collapse is for the forms of it that its policies and behaviours have.
    if any(task["run"] == "collapse" for task in test.host):
        if form_of(policy, chosen) not in {form_of(p, b) for p in test.policies for b in test.behaviours}:
            return None
    return chosen


def form_of(policy: str, behaviour: str) -> int:
    """How huge pages come back under a policy and a behaviour (policies/policy.py)."""
    named = POLICIES[policy].collapse
    if named != AS_VERSION:
        return int(named)
    return RECOVER if BEHAVIOURS[behaviour].promote else ZAP_TABLES


def pairs(test: Litmus) -> list[tuple[str, str]]:
    """The policies and behaviours that a test is for."""
    return [(p, b) for p in test.policies for b in test.behaviours if behaviour_of(test, p, b) is not None]
