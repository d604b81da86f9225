"""The schedule of a refuted scenario of the kernel's C as a table, with the tree's own files and lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ...check.schedule import phrases
from ...check.schedule.columns import WIDTH, Columns, Table, broken_lines
from ..library.build import C
from .scenario import Event, Frame, Held, Outcome, Scenario
from .wording import Words, access, cached, changed_by, is_told, proves

MARK = "+"
"""Before the names of our own files, which stand for what is around the tree's three."""
TAKES = {"read_lock": "{} for read", "write_lock": "{} for write", "spin_lock": "{}", "mutex_lock": "{}",
         "rcu_read_lock": "an RCU section", "srcu_read_lock": "an SRCU section"}  # fmt: skip
LEAVES = {"read_unlock": "read_lock", "write_unlock": "write_lock", "spin_unlock": "spin_lock",
          "mutex_unlock": "mutex_lock", "rcu_read_unlock": "rcu_read_lock",
          "srcu_read_unlock": "srcu_read_lock"}  # fmt: skip


def table(outcome: Outcome, scenario: Scenario) -> Table:
    """A schedule as users read it."""
    words = Words(scenario)
    words.learn_roots(outcome.events)
    for event in outcome.events:
        for seen in event.cached:
            words.learn(seen)
    events = _told(outcome)
    names = [
        task.name or (f"vCPU{task.vcpu}" if task.vcpu >= 0 else f"task {n}") for n, task in enumerate(scenario.tasks)
    ]
    shown = sorted({event.cpu for event in events if event.cpu >= 0})
    if not outcome.events:
        return Table([], [], before_all(outcome))
    columns = Columns([names[n] for n in shown] or ["task"], [where(event.frames) for event in events])
    found = Table(columns.head(), [], [])
    before: dict[int, list[str]] = {}
    sets: dict[int, tuple[Held, ...]] = {}
    holds: dict[int, list[str]] = {n: [] for n in range(len(names))}
    for number, row in enumerate(rows(outcome, scenario), 1):
        event = row[0]
        place = where(event.frames)
        column = shown.index(event.cpu) if event.cpu >= 0 else 0
        lines = columns.row(number, column, access(event, words, len(row) - 1), place)
        for each in row:
            words.follow(each)
            _hold(holds, each)
            sets |= {seen.vcpu: seen.held for seen in each.cached}
            lines += _notes(each, words, before, names)
        found.rows.append(lines)
    texts = [broken_by(outcome, names)]
    if outcome.place:
        texts.append(f"At {where(outcome.place)}, in {outcome.place[0].function}.")
    proof = [cached(each, words) for each in sets.get(outcome.vcpu, ()) if proves(each, outcome.broken)]
    if outcome.vcpu >= 0 and proof:
        texts.append(f"It may have cached {'; '.join(proof)}.")
    found.end += ["", *broken_lines(texts), ""]
    for n in range(len(names)):
        found.end += textwrap.wrap(
            f"{names[n]}: {_stands(outcome, n)}holds {', '.join(holds[n]) or 'no lock'}", WIDTH, subsequent_indent="  "
        )
    found.end += [line for text in words.legend() for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    if any(where(event.frames).startswith(MARK) for event in events):
        found.end += textwrap.wrap(
            f"{MARK}: in our drivers, which stand for the kernel's code around the MMU's own files", WIDTH
        )
    return found


def before_all(outcome: Outcome) -> list[str]:
    """What broke while the VM was made, before any task took a step."""
    place = outcome.place[0] if outcome.place else None
    texts = [f"Before any task runs, while the VM is made: {outcome.message}."]
    if place:
        texts.append(f"At {where(outcome.place)}, in {place.function}.")
    texts.append(
        "If no patch is to blame, a driver of ours does not fit this tree (kernel/c/drivers: heads say what they need)."
    )
    return broken_lines(texts)


def broken_by(outcome: Outcome, names: Sequence[str]) -> str:
    """The broken promise in a sentence; ``names``: of the tasks, those of vCPUs first."""
    if outcome.broken == "leak":
        return phrases.LEAKED
    who = outcome.vcpu if outcome.broken.endswith("in reach") or outcome.broken == "stale" else outcome.cpu
    if outcome.broken in phrases.BREAKS and 0 <= who < len(names):
        return f"{names[who]} {phrases.BREAKS[outcome.broken]}."
    return f"{outcome.message}."


def rows(outcome: Outcome, scenario: Scenario) -> list[list[Event]]:
    """The events of each row of the table."""
    return [list(group) for _, group in groupby(_told(outcome), key=lambda event: _group(event, scenario))]


def _told(outcome: Outcome) -> list[Event]:
    changed = changed_by(outcome.events)
    return [event for event in outcome.events if is_told(event, changed)]


def where(frames: tuple[Frame, ...]) -> str:
    """File and line of an access: of the first frame that is no accessor inlined from a header."""
    for frame in frames:
        if frame.file.endswith(".c"):
            return f"{MARK if frame.file.startswith(str(C)) else ''}{Path(frame.file).name}:{frame.line}"
    return f"{Path(frames[0].file).name}:{frames[0].line}" if frames else ""


def _stands(outcome: Outcome, task: int) -> str:
    """After which of its accesses a task stands."""
    done = [event for event in outcome.events if event.cpu == task and event.frames]
    return f"after {where(done[-1].frames)}, " if done else ""


def _group(event: Event, scenario: Scenario) -> object:
    """Equal for accesses that make one row: those to entries in a row that no other task can name."""
    if event.table >= 0 and event.index >= scenario.entries:
        return event.cpu, event.kind, event.table, event.before, event.after, where(event.frames)
    return id(event)


def _hold(holds: dict[int, list[str]], event: Event) -> None:
    if event.kind in TAKES:
        holds[event.cpu].append(TAKES[event.kind].format(event.name or "a lock"))
    elif event.kind in LEAVES:
        text = TAKES[LEAVES[event.kind]].format(event.name or "a lock")
        if text in holds[event.cpu]:
            holds[event.cpu].remove(text)


def _notes(event: Event, words: Words, before: dict[int, list[str]], names: list[str]) -> list[str]:
    """Lines under a row: tables that were freed by it, and what a vCPU may newly have cached or has dropped."""
    lines = []
    for each in event.cached:
        now = [cached(held, words) for held in each.held]
        known = before.get(each.vcpu)
        before[each.vcpu] = now
        if now == known or (known is None and not now):
            continue
        fresh = [text for text in now if text not in (known or [])]
        name = names[each.vcpu]
        if fresh:
            lines += textwrap.wrap(f"* {name} may cache {'; '.join(fresh)}", WIDTH - 4, subsequent_indent="  ")
        elif not now:
            lines.append(f"* {name} holds nothing cached")
    return ["    " + line for line in lines]
