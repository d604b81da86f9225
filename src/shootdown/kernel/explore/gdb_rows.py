"""What gdb reads: its commands ``row`` and ``rows``, which go along a schedule (gdb.py writes what it holds).

It runs in gdb's own Python, so it imports nothing of this package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import gdb  # type: ignore[import-untyped]

TOLD: dict[str, Any] = json.loads(Path(os.environ["SHOOTDOWN_ROWS"]).read_text(encoding="utf-8"))
EVENTS: list[int] = TOLD["events"]
END = len(EVENTS) + 1
OURS = (("c", "explore"), ("c", "shims"))
"""The folders of our own C that accesses go through, wherever the package was built."""
FRAMES = 200
"""Frames of a stack at most; a task's has some ten."""
HELP = "row: to the next.  row N: to row N.  row end: to what breaks.  rows: all."


def value(text: str) -> int:
    """An integer expression of the program that runs."""
    return int(gdb.parse_and_eval(text))


class Position:
    """The row that was done last, or is gone to; 0: none."""

    row = 0
    stops: tuple[EventDone, Broken] | None = None


class EventDone(gdb.Breakpoint):  # type: ignore[misc]
    """Stops where the last event of the wanted row is done."""

    def stop(self) -> bool:
        """Asked by gdb at each event."""
        return Position.row < END and value("number") == EVENTS[Position.row - 1]


class Broken(gdb.Breakpoint):  # type: ignore[misc]
    """Stops where a promise breaks."""

    def stop(self) -> bool:
        """Asked by gdb wherever something may be; the first counts."""
        return value("sd_engine.broken") == 0


def on_library(event: Any) -> None:
    """Set what stops the program once its library is there."""
    if Position.stops is None and gdb.lookup_global_symbol("sd_explore") is not None:
        Position.stops = EventDone("sd_event_done", internal=True), Broken("broken", internal=True)
        for stop in Position.stops:
            stop.silent = True


def is_explorers(frame: Any) -> bool:
    """Is a frame the explorer's own, or a shim's?"""
    table = frame.find_sal().symtab
    return table is None or Path(table.fullname()).parts[-3:-1] in OURS


class FromTheTree:
    """Has ``backtrace`` begin at the innermost frame that is not the explorer's own, if there is one."""

    name, priority, enabled = "shootdown", 100, True

    def filter(self, frames: Iterable[Any]) -> Iterable[Any]:
        """Asked by gdb; ``backtrace -no-filters`` shows all."""
        every = list(islice(frames, FRAMES))
        between = any(each.inferior_frame().name() == "sd_explore" for each in every)
        rest = list(dropwhile(lambda each: is_explorers(each.inferior_frame()), every))
        return every if between or not rest else rest


def select() -> None:
    """Select the innermost frame that is not the explorer's own; none is where it looks by itself, between steps."""
    frame = gdb.selected_frame()
    while frame is not None and frame.name() != "sd_explore":
        if not is_explorers(frame):
            frame.select()
            gdb.execute("frame")
            return
        frame = frame.older()


def go_to(row: int) -> None:
    """Run up to a row; from the start if it lies behind."""
    lives, behind, Position.row = gdb.selected_inferior().pid != 0, row <= Position.row, row
    if lives and behind:
        gdb.execute("kill", to_string=True)
    gdb.execute("continue" if lives and not behind else "run", to_string=True)
    if gdb.selected_inferior().pid == 0:
        Position.row = 0
        print("The schedule is over.")
        return
    lines = [TOLD["head"][0], *TOLD["rows"][row - 1]] if row < END else [line for line in TOLD["end"] if line]
    print("\n".join(lines))
    select()


class Row(gdb.Command):  # type: ignore[misc]
    """Go to a row of the schedule, and select the frame that did it."""

    def invoke(self, argument: str, from_tty: bool) -> None:
        """``row``, ``row N``, ``row end``."""
        text = argument.strip()
        row = Position.row + 1 if not text else END if text == "end" else int(text) if text.isdigit() else 0
        if not 1 <= row <= END:
            raise gdb.GdbError(f"there are rows 1 to {len(EVENTS)}, and row end")
        go_to(row)


class Rows(gdb.Command):  # type: ignore[misc]
    """Print the schedule."""

    def invoke(self, argument: str, from_tty: bool) -> None:
        """The row that was done last is marked."""
        lines = list(TOLD["head"])
        for number, row in enumerate(TOLD["rows"], 1):
            lines += [f">{line[1:]}" if n == 0 and number == Position.row else line for n, line in enumerate(row)]
        print("\n".join([*lines, *TOLD["end"]]))


gdb.frame_filters["shootdown"] = FromTheTree()
for setting in ("confirm off", "pagination off", "print thread-events off"):
    gdb.execute(f"set {setting}")
gdb.execute("handle SIGVTALRM nostop noprint pass", to_string=True)
gdb.events.new_objfile.connect(on_library)
Row("row", gdb.COMMAND_RUNNING)
Rows("rows", gdb.COMMAND_STATUS)
print(f"{len(EVENTS)} rows. Begin with row: it starts the program. {HELP}")
