"""What happened along a path through the states: access by access, with the values that were read and written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..program import steps
from ..program.automaton import Node
from . import layout
from .model import Model


@dataclass
class Event:
    """One access of one program.

    program      its number
    node         where the program stood
    result       what it got
    before, after   the word's value, where the access is about one
    state        the state that the step led to; only the last access of a step is followed by it
    last         is it the last of its step?
    """

    program: int
    node: Node
    result: Any
    before: Any
    after: Any
    state: int
    last: bool


def events_of(model: Model, path: list[tuple[int, int, int, int]]) -> Iterator[Event]:
    """The accesses along a path, hidden ones left out (nobody can see or disturb them)."""
    for before, program, choice, after in path:
        found = list(_step(model, before, program, choice))
        shown = [event for event in found if not event.node.access.hidden] or found[:1]
        for n, event in enumerate(shown):
            event.state, event.last = after, n == len(shown) - 1
            yield event


def _step(model: Model, before: int, program: int, choice: int) -> Iterator[Event]:
    """The accesses that one step is made of, followed through the tables as ``core.explore`` does."""
    t = model.t
    node = model.node_of(before, program)
    left = right = layout.HIDDEN
    if model.movers:
        left, right = left | layout.LEFT_MOVER, right | layout.RIGHT_MOVER
    written: dict[int, int] = {}
    past = takes = False
    while True:
        at = model.automata.nodes[node]
        step, word = int(t.kind[node]), int(t.a[node])
        result = 0
        old: Any = None
        if step in (steps.UPDATE, steps.STORE):
            number = written.get(word, model.field(before, word))
            old = model.values[word][number]
            result = number if step == steps.UPDATE else 0
        elif step == steps.GUEST or step in steps.BRANCHES:
            result = choice
        elif step == steps.ALLOC:
            free = model.field(before, int(t.p[layout.F_FREE]))
            result = next((n for n in range(model.setting.tables) if free >> n & 1), -1)
        edge = model.ways(node).get(result, -1)
        new = old
        given: Any = result
        if step == steps.UPDATE:
            given = at.access.result(old)
            new = at.access.written(old)
            if int(t.put[edge]) >= 0:
                written[word] = int(t.put[edge])
        elif at.access.step == steps.STORE:
            new = at.access.operands[0]
            if step == steps.STORE:
                written[word] = int(t.b[node])
        yield Event(program, at, given, old, new, before, False)
        past = past or not int(t.flags[node]) & right
        takes = takes or step in steps.TAKES
        if edge < 0:
            return
        node = int(t.to[edge])
        if int(t.kind[node]) in steps.FIRST:
            return
        if takes and int(t.kind[node]) in steps.WAITS:
            return
        if past and not int(t.flags[node]) & left:
            return
