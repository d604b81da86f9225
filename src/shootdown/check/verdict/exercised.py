"""What a search exercised: who asked for flushes, gave way and freed, what was waited for, what was at stake."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ...machine import words
from ..program import steps
from ..program.automaton import Node
from ..schedule.wording import WAITS
from ..search import layout
from ..search.model import Model
from ..source.source import place_in

PLUMBING = ("mmu/requests.py", "mmu/resched.py", "mmu/vcpu.py")
"""Files through which others ask for flushes and give way."""


@dataclass(frozen=True)
class Exercised:
    """Each in its order: places as ``function (file:line)``, locks by name, properties by number.

    flushes   who asked all vCPUs for one
    yields    who gave way
    frees     who handed over or freed a table
    waits     what some task had to wait for
    at_stake  properties that were in danger in some step (stakes.py)
    """

    flushes: tuple[str, ...] = ()
    yields: tuple[str, ...] = ()
    frees: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    at_stake: tuple[str, ...] = ()


def exercised(model: Model) -> Exercised:
    """What the search of a model exercised."""
    waited, stakes = int(model.t.p[layout.WAITED]), int(model.t.p[layout.AT_STAKE])
    waits = [text for kind, text in WAITS.items() if waited >> kind & 1]
    # Deadlocks, and what is done without a lock, are in danger wherever a task has to wait.
    at_stake = [f"P{n + 1}" for n in range(layout.STAKES) if stakes >> n & 1 or (n == 5 and waited)]
    return Exercised(
        _places(model, asks_for_flush),
        _places(model, lambda node, results: node.access.step == steps.CHOOSE and 1 in results),
        _places(model, lambda node, results: node.access.step in (steps.CALL_RCU, steps.FREE) and bool(results)),
        tuple(sorted(waits)),
        tuple(at_stake),
    )


def asks_for_flush(node: Node, results: Collection[int]) -> bool:
    """Is this an access that asks a vCPU for a flush? ``results``: those with which it was made."""
    access = node.access
    word: Any = access.word
    if access.step == steps.FLUSH_RANGE:
        return bool(results)
    return (
        bool(results) and access.verb == "or" and word[0] == words.VCPU_REQUESTS
        and bool(access.operands[0] & words.TLB_FLUSH)
    )  # fmt: skip


def asker(node: Node) -> str:
    """Who is behind an access, as ``function (file:line)``."""
    for file, function, line in node.stack:
        place = place_in(file, line)
        if not place.startswith(PLUMBING):
            return f"{function} ({place or f'programs.py:{line}'})"
    return ""


def _places(model: Model, wanted: Callable[[Node, Collection[int]], bool]) -> tuple[str, ...]:
    nodes = model.automata.nodes[: len(model.local)]
    found = {asker(node) for n, node in enumerate(nodes) if wanted(node, model.ways(n))}
    return tuple(sorted(found - {""}))
