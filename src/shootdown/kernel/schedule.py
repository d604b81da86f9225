"""The schedule of a refuted scenario of the kernel's C as a table, with the tree's own files and lines."""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

from ..check.columns import WIDTH, Columns, Table, broken_lines
from .scenario import Event, Frame, Outcome, Scenario
from .wording import Words, access, cached, is_told

DRIVERS = str(Path(__file__).resolve().parent / "c")
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
    for event in outcome.events:
        for seen in event.cached:
            words.learn(seen)
    events = [event for event in outcome.events if is_told(event)]
    names = [task.name for task in scenario.tasks]
    shown = sorted({event.cpu for event in events if event.cpu >= 0})
    columns = Columns([names[n] for n in shown] or ["task"], [where(event.frames) for event in events])
    found = Table(columns.head(), [], [])
    before: dict[int, list[str]] = {}
    holds: dict[int, list[str]] = {n: [] for n in range(len(names))}
    for number, row in enumerate(rows(outcome, scenario), 1):
        event = row[0]
        place = where(event.frames)
        column = shown.index(event.cpu) if event.cpu >= 0 else 0
        lines = columns.row(number, column, access(event, words, len(row) - 1), place)
        for each in row:
            words.follow(each)
            _hold(holds, each)
            lines += _notes(each, words, before, names)
        found.rows.append(lines)
    texts = [f"{outcome.message}."]
    if outcome.place:
        texts.append(f"At {where(outcome.place)}, in {outcome.place[0].function}.")
    for vcpu, held in before.items():
        if vcpu == outcome.vcpu:
            texts.append(
                f"{names[vcpu]} may have cached {'; '.join(held)}." if held else f"{names[vcpu]} holds nothing."
            )
    found.end += ["", *broken_lines(texts), ""]
    for n in range(len(names)):
        found.end += textwrap.wrap(
            f"{names[n]}: holds {', '.join(holds[n]) or 'no lock'}", WIDTH, subsequent_indent="  "
        )
    found.end += [line for text in words.legend() for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    if any(where(event.frames).startswith(MARK) for event in events):
        found.end += textwrap.wrap(
            f"{MARK}: in our drivers, which stand for the kernel's code around the MMU's own files", WIDTH
        )
    return found


def rows(outcome: Outcome, scenario: Scenario) -> list[list[Event]]:
    """The events of each row of the table."""
    told = filter(is_told, outcome.events)
    return [list(group) for _, group in groupby(told, key=lambda event: _group(event, scenario))]


def where(frames: tuple[Frame, ...]) -> str:
    """File and line of an access: of the first frame that is no accessor inlined from a header."""
    for frame in frames:
        if frame.file.endswith(".c"):
            return f"{MARK if frame.file.startswith(DRIVERS) else ''}{Path(frame.file).name}:{frame.line}"
    return f"{Path(frames[0].file).name}:{frames[0].line}" if frames else ""


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
