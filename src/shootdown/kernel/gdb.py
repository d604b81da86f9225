"""A saved schedule under gdb: the child that explores follows it, and gdb stops at each row of the printed table.

What gdb is told by ``rows`` and ``row`` is in gdb_rows.py, which gdb reads.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from ..errors import InputError
from .build import Library
from .explore import request_of
from .scenario import Budget, Schedule
from .schedule import rows, table
from .schedule_file import follow, scenario_of

ROWS: Final = Path(__file__).with_name("gdb_rows.py")


def step(data: dict[str, Any], name: str, library: Library) -> None:
    """Run gdb on a library of build.STEPPED until its user leaves it.

    Raises InputError if there is no gdb, or the schedule does not break the same on this library.
    """
    gdb = shutil.which("gdb")
    if gdb is None:
        raise InputError("gdb is not found", advice="install gdb, or leave --gdb out")
    outcome, about = follow(data, name, library)
    shown = table(outcome, about)
    numbers = {id(event): number for number, event in enumerate(outcome.events)}
    _, schedule = scenario_of(data, name)
    request = request_of(library.path, about, Budget(seconds=0), Schedule(schedule.choices, schedule.written))
    with tempfile.TemporaryDirectory(prefix="shootdown-") as folder:
        asked, told = Path(folder, "request.json"), Path(folder, "rows.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        told.write_text(json.dumps({
            "events": [numbers[id(row[-1])] for row in rows(outcome, about)],
            "head": shown.head, "rows": shown.rows, "end": shown.end,
            "ours": str(Path(__file__).parent / "c" / "explore"),
        }), encoding="utf-8")  # fmt: skip
        package = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": package, "SHOOTDOWN_ROWS": str(told)}
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is gdb's
        try:
            subprocess.run(
                [
                    gdb, "-q", "-iex", "set debuginfod enabled off", "-iex", "set auto-load python-scripts off",
                    "-ex", f"set args -m shootdown.kernel.child < {asked} > {os.devnull}",
                    "-ex", f"source {ROWS}", sys.executable,
                ],
                env=environment, check=False,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, before)
