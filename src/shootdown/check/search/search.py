"""Searching a model: to the first violation, which is the shortest, or to the end; and single steps of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import core, layout
from .compact import omission
from .model import Model, TooLarge
from .rows import Restart, grow, repack

SLICE = 10_000
"""States that are expanded before budgets are looked at."""

Progress = Callable[[int, int, float], None]
"""Called with states, states that wait to be expanded, and seconds."""


@dataclass
class Result:
    """How a search ended.

    broken       what broke (steps.py), 0 for nothing
    state        where it broke
    program      whose step broke it; of a deadlock, the mask of those in it
    states, transitions, depth, seconds
    stopped      why the search did not finish, "" if it did
    omission     the probability, at most, that hash compaction missed a state
    """

    broken: int
    state: int
    program: int
    states: int
    transitions: int
    depth: int
    seconds: float
    stopped: str = ""
    omission: float = 0.0


def supply(model: Model, missing: int) -> None:
    """Add to the tables what the loop missed."""
    out = model.t.out
    if missing == layout.MISSING_EDGE:
        model.edge(int(out[1]), int(out[2]))
    elif missing == layout.MISSING_ENTRY:
        model.bit(int(out[1]), int(out[2]))


def search(
    model: Model,
    states_max: int = 1 << 31,
    seconds_max: float = 1e9,
    progress: Progress | None = None,
    stop: int = layout.STOP_ALL,
) -> Result:
    """Explore until something breaks, all is explored, or a budget runs out.

    ``stop``: what counts as broken (layout.py); after STOP_NEVER, ``breaches`` says what broke.
    """
    begun = time.process_time()
    stopped = ""
    broken, state, program = 0, 0, -1
    while True:
        p = model.t.p
        p[layout.STOP], p[layout.ONLY_PROGRAM] = stop, -1
        p[layout.LAST] = p[layout.NEXT] + SLICE
        try:
            if model.changed:
                repack(model)
            found = core.explore(model.t)
            if found == layout.VIOLATION:
                broken, state, program = (int(model.t.out[n]) for n in (1, 2, 3))
                break
            if found == layout.DONE and p[layout.NEXT] >= p[layout.STATES]:
                break
            taken = time.process_time() - begun
            if taken > seconds_max:
                stopped = f"{seconds_max:g} s are over"
                break
            if found == layout.FULL or model.compact:
                if p[layout.STATES] >= states_max:
                    stopped = f"more than {states_max:,} states"
                    break
            if found == layout.FULL:
                grow(model, states_max)
            elif found != layout.DONE:
                supply(model, found)
            if progress:
                progress(int(p[layout.STATES]), int(p[layout.STATES] - p[layout.NEXT]), taken)
        except Restart:
            model.begin()
        except TooLarge as error:
            stopped = str(error)
            break
    p = model.t.p
    states = int(p[layout.STATES])
    last = state if broken else states - 1
    depth = int(p[layout.DEPTH]) + (last >= p[layout.LEVEL_END]) if model.compact else len(path(model, last))
    return Result(
        broken, state, program, states, int(p[layout.TRANSITIONS]), depth, time.process_time() - begun, stopped,
        omission(states) if model.compact else 0.0,
    )  # fmt: skip


def breaches(model: Model) -> frozenset[int]:
    """All that broke, now in one run and then in another, in a search that nothing stopped."""
    mask = int(model.t.p[layout.BREACHES])
    return frozenset(n for n in range(mask.bit_length()) if mask >> n & 1)


def path(model: Model, state: int) -> list[tuple[int, int, int, int]]:
    """(state before, program, choice, state after) of each step from the start to a state."""
    found = []
    while state:
        parent, action = divmod(int(model.t.parents[state]), layout.ACTIONS)
        found.append((parent, action // layout.CHOICES, action % layout.CHOICES, state))
        state = parent
    return found[::-1]


def step(model: Model, state: int, program: int, choice: int) -> tuple[int, int]:
    """Let one program take one step: the state after it (-1: it cannot), and what broke (0: nothing)."""
    if _expand(model, state, layout.STOP_ALL, program, choice):
        return int(model.t.out[2]), int(model.t.out[1])
    return int(model.t.out[4]), 0


def standing(model: Model, state: int) -> tuple[int, int]:
    """What is broken in a state as such, a deadlock or a leak (0: nothing), and the mask of those in the deadlock."""
    if _expand(model, state, layout.STOP_STANDING, -1, 0):
        return int(model.t.out[1]), int(model.t.out[3])
    return 0, -1


def _expand(model: Model, state: int, stop: int, program: int, choice: int) -> bool:
    """Expand one state, by one program or (-1) by all; was there a violation?"""
    while True:
        p = model.t.p
        p[layout.STOP], p[layout.ONLY_PROGRAM], p[layout.ONLY_CHOICE] = stop, program, choice
        p[layout.NEXT], p[layout.LAST] = state, state + 1
        model.t.out[4] = -1
        try:
            if model.changed:
                repack(model)
            found = core.explore(model.t)
            if found in (layout.VIOLATION, layout.DONE):
                return bool(found == layout.VIOLATION)
            if found == layout.FULL:
                grow(model, 1 << 31)
            else:
                supply(model, found)
        except Restart:
            model.begin()
            raise
