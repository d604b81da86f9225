"""Schedules as plain data: what each access did, in words and values, to be drawn as a table, a diagram or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...machine import words
from ...mmu.spte import unsigned
from ..program import steps
from ..search import layout
from ..search.model import Model
from ..search.replay import Event, events_of
from ..source.source import place_in
from .places import Places
from .wording import FREED, broken, held, legend, value, word

MEMORY, RCU = "memory", "RCU"
"""What accesses go to, besides a vCPU."""


@dataclass(frozen=True)
class Note:
    """What hardware or RCU may have done after an access; ``about``: whose CPU, else MEMORY."""

    about: str
    text: str


@dataclass(frozen=True)
class Move:
    """One access of a task.

    access         what it did, in words
    to             MEMORY, RCU or another vCPU that it is about; "" for none
    where, function   file, line and function of the MMU
    word           the word that it is about, "" for none, with the values ``before`` and ``after`` in words
    spte_before, spte_after   the same of an SPTE, as hexadecimal
    """

    number: int
    task: str
    access: str
    to: str
    where: str
    function: str
    word: str
    before: str
    after: str
    spte_before: str
    spte_after: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Story:
    """A schedule.

    tasks      those that take part
    broken     what broke, in sentences; nothing in a run that keeps every promise
    standing   where each task is at the end, and what it holds
    legend     entries bit by bit
    """

    tasks: tuple[str, ...]
    moves: tuple[Move, ...]
    broken: tuple[str, ...]
    standing: tuple[str, ...]
    legend: tuple[str, ...]


def story(model: Model, path: Sequence[tuple[int, int, int, int]], kind: int, state: int, program: int) -> Story:
    """The story of a path through a model's states, at whose end (``state``) something of a ``kind`` is broken (0: no).

    ``program``: whose step broke it; of a deadlock, the mask of those in it.
    """
    events = list(events_of(model, list(path)))
    if kind == steps.USE_AFTER_FREE and events:
        events[-1].before = FREED
    names = [each.name for each in model.setting.programs]
    places, known = Places(model), {v: held(model, 0, v) for v in range(model.setting.vcpus)}
    moves: list[Move] = []
    raws: list[int] = []
    freed = model.field(0, int(model.t.p[layout.F_FREE]))
    for number, event in enumerate(events, 1):
        notes: list[Note] = []
        if event.last:
            notes = _notes(model, event.state, known, freed)
            freed = model.field(event.state, int(model.t.p[layout.F_FREE]))
        if isinstance(event.node.access.word, int):
            raws += [raw for raw in (event.before, event.after) if raw is not FREED]
        moves.append(_move(model, number, event, places, names, tuple(notes)))
    return Story(
        tuple(names[n] for n in sorted({event.program for event in events})), tuple(moves),
        tuple(broken(model, kind, state, program)) if kind else (), tuple(_standing(model, state)),
        tuple(legend(model, raws)),
    )  # fmt: skip


def _move(
    model: Model, number: int, event: Event, places: Places, names: Sequence[str], notes: tuple[Note, ...]
) -> Move:
    at = event.node.access
    about = before = after = spte_before = spte_after = ""
    if at.word is not None:
        about = word(at.word, model, places.found)
        before, after = value(at.word, event.before, model), value(at.word, event.after, model)
    if isinstance(at.word, int):
        spte_before, spte_after = ("" if raw is FREED else f"{unsigned(raw):x}" for raw in (event.before, event.after))
    where = function = ""
    if event.node.stack:
        file, function, line = event.node.stack[0]
        where = place_in(file, line) or f"check/{Path(file).name}:{line}"
    return Move(
        number, names[event.program], places.tell(event), _to(event, at.word, names), where, function, about, before,
        after, spte_before, spte_after, notes,
    )  # fmt: skip


def _to(event: Event, about: Any, names: Sequence[str]) -> str:
    """What an access is about."""
    at = event.node.access
    if at.step in (steps.SEND_IPI, steps.WAIT_IPI):
        return names[at.number]
    if at.step == steps.FLUSH_RANGE:
        return names[int(at.operands[0][event.result])]
    if at.step == steps.CALL_RCU:
        return RCU
    if isinstance(about, tuple) and about[0] in (words.VCPU_REQUESTS, words.VCPU_MODE):
        return names[about[1]]
    return MEMORY if about is not None or at.step in (steps.ALLOC, steps.FREE) else ""


def _notes(model: Model, state: int, known: dict[int, list[str]], freed: int) -> list[Note]:
    """After a step: tables that were freed by it, and what a vCPU may newly have cached or has dropped."""
    found = []
    free = model.field(state, int(model.t.p[layout.F_FREE]))
    gone = [f"T{n}" for n in range(model.setting.tables) if free >> n & 1 and not freed >> n & 1]
    if gone:
        found.append(Note(MEMORY, f"{', '.join(gone)} freed"))
    for v, before in known.items():
        now = held(model, state, v)
        if now == before:
            continue
        name = model.setting.programs[v].name
        fresh, gone = ([text for text in one if text not in other] for one, other in ((now, before), (before, now)))
        if fresh:
            what = f"may cache {'; '.join(fresh)}"
        else:
            what = f"drops {'; '.join(gone)}" if now else "holds nothing cached"
        found.append(Note(name, f"{name} {what}"))
        known[v] = now
    return found


def _standing(model: Model, state: int) -> list[str]:
    """Who is where at the end, and holds what."""
    p, lines = model.t.p, []
    for n, program in enumerate(model.setting.programs):
        parts = []
        for text, f in (
            ("mmu_lock for read", layout.F_READERS), ("mmu_lock for write", layout.F_WRITER),
            ("a place in the queue for mmu_lock", layout.F_WAITING), ("the pages lock", layout.F_PAGES),
            ("slots_lock", layout.F_SLOTS), ("an SRCU section", layout.F_SRCU),
            ("an RCU section", layout.F_RCU),
        ):  # fmt: skip
            if model.field(state, int(p[f])) >> n & 1:
                parts.append(text)
        at = model.automata.nodes[model.node_of(state, n)]
        where = f"at {Path(at.stack[0][0]).name}:{at.stack[0][2]}" if at.stack else "at an assertion"
        where = {steps.GUEST: "in the guest", steps.END: "at its end"}.get(at.access.step, where)
        lines.append(f"{program.name}: {where}, holds {', '.join(parts) or 'no lock'}")
    return lines
