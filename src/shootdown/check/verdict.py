"""Checking a test: the search, and what its end means in the words that users get."""

from __future__ import annotations

from dataclasses import dataclass

from ..mmu.behaviour import BEHAVIOURS
from ..mmu.policies.registry import POLICIES
from . import steps
from .build import build
from .litmus import Geometry, Litmus
from .model import Model
from .search import Progress, Result, search
from .source import Source

HOLDS, REFUTED, UNDETERMINED, NOT_EXERCISED = "holds", "refuted", "undetermined", "not exercised"


FINE_STATES, FINE_SECONDS = 500_000, 20.0
"""Of the second search that a patch gets, without gluing, in the tiny geometry; it looks for deadlocks."""


@dataclass
class Budget:
    """When to give up: states, and seconds of CPU time."""

    states: int = 50_000_000
    seconds: float = 600.0


@dataclass
class Verdict:
    """What a test gave for a policy and a behaviour.

    word    one of the four above
    reason  for the two last, why; for ``refuted``, nothing
    result  figures of the search
    model   the search itself, for its schedule
    """

    test: Litmus
    policy: str
    behaviour: str
    geometry: Geometry
    word: str
    reason: str
    result: Result
    model: Model

    @property
    def expected(self) -> str:
        """What the test says that it must be."""
        return self.test.expected(self.policy, self.behaviour)


def check(
    test: Litmus,
    policy: str,
    behaviour: str,
    geometry: Geometry,
    source: Source,
    budget: Budget,
    progress: Progress | None = None,
    watch: frozenset[str] = frozenset(),
) -> Verdict:
    """Explore a test; ``watch`` names files whose executed lines are noted."""
    model = Model(build(test, geometry, policy, behaviour, source), watch=watch)
    result = search(model, budget.states, budget.seconds, progress)
    word, reason = HOLDS, ""
    if result.broken:
        word = REFUTED
    elif result.stopped:
        word, reason = UNDETERMINED, result.stopped
    else:
        ran = {function for node in model.automata.nodes for _, function, _ in node.stack}
        missing = [name for name in test.exercises if name not in ran]
        ended = {node.program for node in model.automata.nodes if node.access.step == steps.END}
        endless = [p.name for n, p in enumerate(model.setting.programs) if not p.again and n not in ended]
        if missing:
            word, reason = NOT_EXERCISED, f"{', '.join(missing)} never ran"
        elif endless:
            word, reason = NOT_EXERCISED, f"{', '.join(endless)} never comes to an end"
        elif watch:
            # Gluing steps hides deadlocks; a patch may have brought some.
            fine = Model(build(test, test.tiny, policy, behaviour, source), movers=False, watch=watch)
            found = search(fine, FINE_STATES, FINE_SECONDS)
            if found.broken:
                word, model, result, geometry = REFUTED, fine, found, test.tiny
    return Verdict(test, policy, behaviour, geometry, word, reason, result, model)


def behaviour_of(test: Litmus, policy: str, asked: str | None) -> str | None:
    """The behaviour to check a test with: the one that was asked for, or the test's default; None if it is not for it.

    A policy that promotes huge pages implies one that can, where the test has it.
    """
    if asked is not None:
        return asked if asked in test.behaviours else None
    if POLICIES[policy].promotes:
        return next((name for name in test.behaviours if BEHAVIOURS[name].promote), test.behaviours[0])
    return test.behaviours[0]
