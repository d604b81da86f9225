"""Schedules: the shortest way to a broken promise."""

from __future__ import annotations

from dataclasses import dataclass

from ..litmus.build import build
from ..litmus.cases import Case
from ..program import steps
from ..search.livelock import livelock
from ..search.model import Model
from ..search.search import path, search
from ..source.source import Source
from .story import Story, story

FINE_STATES = 5_000_000
"""States that the search for the schedule with the fewest accesses may take."""


@dataclass
class Schedule:
    """A way to a broken promise.

    path     (state before, program, choice, state after) of each step
    broken   what broke (steps.py), and ``state`` where, in ``model``
    program  whose step broke it; of a deadlock, the mask of those in it
    """

    case: Case
    model: Model
    path: list[tuple[int, int, int, int]]
    broken: int
    state: int
    program: int


def schedule_of(case: Case, source: Source) -> Schedule:
    """The schedule with the fewest accesses of a case that is refuted.

    A search that glues accesses keeps the verdict but not the least number of accesses, so this one does not; only
    where that takes too many states, the glued schedule stands.
    """
    for movers, states_max in ((False, FINE_STATES), (True, 1 << 31)):
        model = Model(build(case, source), movers)
        result = search(model, states_max)
        if result.broken:
            break
        found = None if result.stopped else livelock(model)
        if found:
            return Schedule(case, model, path(model, found.state), steps.LIVELOCK, found.state, found.tasks)
    return Schedule(case, model, path(model, result.state), result.broken, result.state, result.program)


def told(schedule: Schedule) -> Story:
    """A schedule as users read it."""
    return story(schedule.model, schedule.path, schedule.broken, schedule.state, schedule.program)
