"""Schedules: the shortest way to a broken promise, and what of it is worth telling."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from . import layout, steps
from .build import build
from .cases import Case
from .columns import WIDTH, Columns, Table, broken_lines
from .model import Model
from .places import Places
from .replay import Event, events_of
from .search import path, search
from .source import Source
from .wording import broken, held, legend

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
        setting = build(case.test, case.geometry, case.policy, case.behaviour, source)
        model = Model(setting, movers)
        result = search(model, states_max)
        if result.broken:
            break
    return Schedule(case, model, path(model, result.state), result.broken, result.state, result.program)


def table(schedule: Schedule) -> Table:
    """A schedule as users read it."""
    model = schedule.model
    events = list(events_of(model, schedule.path))
    shown = sorted({event.program for event in events})
    names = [model.setting.programs[n].name for n in shown]
    columns = Columns(names, [_where(event) for event in events])
    found = Table(columns.head(), [], [])
    places = Places(model)
    before = {v: held(model, 0, v) for v in range(model.setting.vcpus)}
    raws: list[int] = []
    freed = model.field(0, int(model.t.p[layout.F_FREE]))
    for number, event in enumerate(events, 1):
        lines = columns.row(number, shown.index(event.program), places.tell(event), _where(event))
        if isinstance(event.node.access.word, int):
            raws += [event.before, event.after]
        if event.last:
            lines += _notes(model, event.state, before, freed)
            freed = model.field(event.state, int(model.t.p[layout.F_FREE]))
        found.rows.append(lines)
    end = found.end
    end.append("")
    end += broken_lines(broken(model, schedule.broken, schedule.state, schedule.program))
    end += ["", *_state(model, schedule.state)]
    end += [line for text in legend(model, raws) for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return found


def _where(event: Event) -> str:
    """File and line of an access."""
    if not event.node.stack:
        return ""
    file, _, line = event.node.stack[0]
    return f"{Path(file).name}:{line}"


def _notes(model: Model, state: int, before: dict[int, list[str]], freed: int) -> list[str]:
    """Lines under a step: tables that were freed by it, and what a vCPU may newly have cached or has dropped."""
    lines = []
    free = model.field(state, int(model.t.p[layout.F_FREE]))
    gone = [f"T{n}" for n in range(model.setting.tables) if free >> n & 1 and not freed >> n & 1]
    if gone:
        lines.append(f"    * {', '.join(gone)} freed")
    for v, known in before.items():
        now = held(model, state, v)
        if now == known:
            continue
        name = model.setting.programs[v].name
        fresh = [text for text in now if text not in known]
        text = f"    * {name} may cache {'; '.join(fresh)}" if fresh else f"    * {name} holds nothing cached"
        lines += textwrap.wrap(text, WIDTH, initial_indent="", subsequent_indent="      ")
        before[v] = now
    return [line if line.startswith("    ") else "    " + line.strip() for line in lines]


def _state(model: Model, state: int) -> list[str]:
    """Who holds what at the end."""
    p, lines = model.t.p, []
    for n, program in enumerate(model.setting.programs):
        bit = 1 << n
        parts = []
        for text, f in (
            ("mmu_lock for read", layout.F_READERS), ("mmu_lock for write", layout.F_WRITER),
            ("a place in the queue for mmu_lock", layout.F_WAITING), ("the pages lock", layout.F_PAGES),
            ("slots_lock", layout.F_SLOTS), ("an SRCU section", layout.F_SRCU),
            ("an RCU section", layout.F_RCU),
        ):  # fmt: skip
            if model.field(state, int(p[f])) & bit:
                parts.append(text)
        at = model.automata.nodes[model.node_of(state, n)]
        where = "in the guest" if at.access.step == steps.GUEST else "at its end" if at.access.step == steps.END else ""
        where = where or (f"at {Path(at.stack[0][0]).name}:{at.stack[0][2]}" if at.stack else "at an assertion")
        lines += textwrap.wrap(
            f"{program.name}: {where}, holds {', '.join(parts) or 'no lock'}", WIDTH, subsequent_indent="  "
        )
    return lines
