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
from typing import Final

from ...errors import InputError
from .run import request_of
from .scenario import Budget, Outcome, Scenario
from .schedule import rows, table

ROWS: Final = Path(__file__).with_name("gdb_rows.py")


def step(library: Path, about: Scenario, outcome: Outcome) -> None:
    """Run gdb on a library that followed a schedule, until its user leaves it. Raises InputError if there is no gdb."""
    gdb = shutil.which("gdb")
    if gdb is None:
        raise InputError("gdb is not found", advice="install gdb, or leave --gdb out")
    shown = table(outcome, about)
    numbers = {id(event): number for number, event in enumerate(outcome.events)}
    request = request_of(library, about, Budget(seconds=0), outcome.schedule)
    with tempfile.TemporaryDirectory(prefix="shootdown-") as folder:
        asked, told = Path(folder, "request.json"), Path(folder, "rows.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        told.write_text(json.dumps({
            "events": [numbers[id(row[-1])] for row in rows(outcome, about)],
            "head": shown.head, "rows": shown.rows, "end": shown.end,
        }), encoding="utf-8")  # fmt: skip
        package = str(Path(__file__).resolve().parents[3])
        environment = {**os.environ, "PYTHONPATH": package, "SHOOTDOWN_ROWS": str(told)}
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is gdb's
        try:
            subprocess.run(
                [
                    gdb, "-q", "-iex", "set debuginfod enabled off", "-iex", "set auto-load python-scripts off",
                    "-ex", f"set args -m shootdown.kernel.explore.child < {asked} > {os.devnull}",
                    "-ex", f"source {ROWS}", sys.executable,
                ],
                env=environment, check=False,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, before)
