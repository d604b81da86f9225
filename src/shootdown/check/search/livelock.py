"""Progress (P8): a cycle that a fair scheduler may go round for ever while a task of the host has not ended.

Fair is strongly fair: a program that can go on again and again does. A cycle is a strongly connected part of the graph
of all states in which each program takes a step, or can take none in any of its states. What fails that is looked at
again without the states in which the programs that take no step could take one (the emptiness check of Streett
automata). Every choice may be answered in any way for ever: that a walk is asked to give way at each place, and what
the guest does, is not the MMU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..program import steps
from . import layout
from .model import Model
from .search import step

Edge = tuple[int, int]
"""Program and state after."""


@dataclass(frozen=True)
class Livelock:
    """The first ``state`` of a fair cycle, and the ``tasks`` of the host that do not end in it, as a mask."""

    state: int
    tasks: int


def livelock(model: Model) -> Livelock | None:
    """A livelock among the states of a finished search in which nothing broke; None if there is none."""
    graph = [list(_edges(model, state)) for state in range(int(model.t.p[layout.STATES]))]
    setting = model.setting
    hosts = [n for n, program in enumerate(setting.programs) if program.vcpu < 0 and not program.buffer]
    todo = [[state for state in range(len(graph)) if not all(_ended(model, state, n) for n in hosts)]]
    while todo:
        for part in components(graph, todo.pop()):
            inside = set(part)
            moves = {program for state in part for program, after in graph[state] if after in inside}
            starved = {program for state in part for program, _ in graph[state]} - moves
            if not moves:
                continue
            if not starved:
                first = min(part)
                return Livelock(first, sum(1 << n for n in hosts if not _ended(model, first, n)))
            todo.append([state for state in part if not starved & {program for program, _ in graph[state]}])
    return None


def _ended(model: Model, state: int, program: int) -> bool:
    return model.automata.nodes[model.node_of(state, program)].access.step == steps.END


def _edges(model: Model, state: int) -> Iterator[Edge]:
    """Every step that a program can take in a state."""
    t, p = model.t, model.t.p
    for program in range(len(model.setting.programs)):
        node = model.node_of(state, program)
        kind = int(t.kind[node])
        choices = 1
        if kind == steps.GUEST:
            choices = 1 + int(t.spot[program * int(p[layout.GFNS_MAX])])
        elif kind in steps.BRANCHES:
            choices = int(t.a[node])
        elif kind == steps.END:
            choices = 0
        for choice in range(choices):
            after, _ = step(model, state, program, choice)
            if after >= 0:
                yield program, after


def components(graph: Sequence[Sequence[Edge]], states: Sequence[int]) -> Iterator[list[int]]:
    """The strongly connected parts of a graph, of some of its states only (Tarjan 1972, without recursion)."""
    allowed, number, low = set(states), dict[int, int](), dict[int, int]()
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in states:
        if root in number:
            continue
        calls: list[tuple[int, Iterator[Edge]]] = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while calls:
            state, left = calls[-1]
            after = next(
                (each for _, each in left if each in allowed and (each not in number or each in on_stack)), None
            )
            if after is None:
                calls.pop()
                if calls:
                    low[calls[-1][0]] = min(low[calls[-1][0]], low[state])
                if low[state] == number[state]:
                    part = [stack.pop()]
                    while part[-1] != state:
                        part.append(stack.pop())
                    on_stack.difference_update(part)
                    yield part
            elif after in number:
                low[state] = min(low[state], number[after])
            else:
                number[after] = low[after] = len(number)
                stack.append(after)
                on_stack.add(after)
                calls.append((after, iter(graph[after])))
