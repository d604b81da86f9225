"""``shootdown check --schedule``: a saved schedule is followed again, and printed as a whole or step by step."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from ..check.schedule.columns import Table
from ..check.schedule.drawing import table
from ..check.schedule.schedule import Schedule, told
from ..check.schedule.schedule_file import follow, read
from ..check.source.source import Source
from ..check.verdict.patched import patched
from ..errors import InputError
from .report import dump
from .verdicts import FINE, JSON, MERMAID, REFUTED_CODE, TABLE, drawn, promise


def follow_file(path: str, form: str, step: bool) -> int:
    """Follow the schedule in a file, print it, and say by the exit code whether something breaks at its end."""
    if step and form != TABLE:
        raise InputError("--step is for tables: leave --json and --format out")
    if step and (not (sys.stdin.isatty() and sys.stdout.isatty())):
        raise InputError("--step needs a terminal, and goes without --json")
    data = read(Path(path))
    with patched([(path, data["patch"])] if data["patch"] else []) as sources:
        source = Source(sources.folder)
        try:
            schedule = follow(data, path, source)
            _show(schedule, form, step)
        finally:
            source.close()
    if not schedule.broken:
        print(f"shootdown: {path}: nothing breaks at its end", file=sys.stderr)
    return REFUTED_CODE if schedule.broken else FINE


def _show(schedule: Schedule, form: str, step: bool) -> None:
    case, shown = schedule.case, told(schedule)
    if form == JSON:
        body = {"test": case.test.name, "policy": case.policy, "behaviour": case.behaviour,
                "steps": len(schedule.path), "broken": bool(schedule.broken), "schedule": asdict(shown)}  # fmt: skip
        print(dump("check --schedule", body))
        return
    if form == MERMAID:
        # Nothing but the diagram, so that a renderer can read it from a pipe.
        print("\n".join(drawn(shown, form)))
        return
    print("\n".join([*promise(case), ""]))
    if step:
        _step_through(table(shown))
    else:
        print("\n".join(table(shown).lines()))


def _step_through(shown: Table) -> None:
    """A row at each Enter, and the end behind the last; q, or the end of input, stops."""
    print("\n".join(shown.head))
    for row in shown.rows:
        # The terminal shows the Enter, which ends the line.
        print("\n".join(row), end="", flush=True)
        typed = sys.stdin.readline()
        if not typed:
            print()
        if not typed or typed.strip().lower() == "q":
            return
    print("\n".join(shown.end))
