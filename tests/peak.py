"""How much memory reading a file takes at most, measured in a process of its own.

    python -m tests.peak FILE [KIND ...]

reads FILE, or only the columns of these kinds, and prints as JSON what came of it and the peak of resident memory in
bytes, over what the process had after its imports. It is killed after a minute of CPU time.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from shootdown.errors import InputError
from shootdown.trace.decode import read_trace_dat
from shootdown.trace.events import Array

from .structure import ROOT

SECONDS_MAX, ADDRESSES_MAX = 60, 8 << 30


def measure(path: Path, *kinds: str) -> dict[str, Any]:
    """Read a file in a new process: ``result``, ``warnings``, ``total``, ``columns`` (bytes) and ``peak`` (bytes)."""
    source = str(Path(sys.modules["shootdown"].__file__ or "").parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, str(ROOT)])}
    command = [sys.executable, "-m", "tests.peak", str(path), *kinds]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=10 * SECONDS_MAX)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def _main(path: str, kinds: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
    before = _peak()
    found: dict[str, Any] = {"result": "read", "warnings": [], "total": 0, "columns": 0}
    try:
        trace = read_trace_dat(path, os.open(path, os.O_RDONLY), kinds or None)
    except InputError as error:
        found["result"] = str(error)
    else:
        found["warnings"], found["total"] = trace.warnings, trace.total
        for events in trace.events.values():
            arrays: list[Array] = [events.order, events.time, events.cpu, events.pid, *events.fields.values()]
            found["columns"] += sum(array.nbytes for array in arrays)
    print(json.dumps({**found, "peak": _peak() - before}))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
