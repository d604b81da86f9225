"""The process that explores: ``python -m shootdown.kernel.explore.child`` reads a request, writes a result; both JSON.

It loads a library with code that nobody has checked, so it has limits of its own and is killed when it does not answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from itertools import count
from pathlib import Path
from typing import Any

from . import abi

ROOM = 1 << 30
"""Address space for Python and the library itself."""

PLACES = 1 << 16
"""Blocks of code of a library at most."""


def limit(seconds: float, size: int) -> None:
    """Bound memory and CPU time; no core; die with the parent; leave Ctrl-C to it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if size:
        resource.setrlimit(resource.RLIMIT_AS, (2 * size + ROOM, 2 * size + ROOM))
    if seconds:
        cpu = 2 * int(seconds) + 60
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _task(struct: abi.TaskStruct, task: list[Any]) -> None:
    struct.op, struct.vcpu, struct.again = task[0], task[1], task[2]
    struct.args = len(task[3])
    for n, value in enumerate(task[3]):
        struct.arg[n] = value % (1 << 64)


def scenario_of(request: dict[str, Any]) -> abi.ScenarioStruct:
    """The C struct of a request."""
    s = abi.ScenarioStruct()
    for name in (*abi.NUMBERS, *abi.BUDGETS, *abi.SWITCHES, *abi.MASKS, "seconds_max", "pfn_base"):
        setattr(s, name, request[name])
    for gfn, (pfn, level, writable) in enumerate(request["host"]):
        s.host_pfn[gfn], s.host_level[gfn], s.host_writable[gfn] = pfn, level, writable
    for n, (accesses, writes) in enumerate(request["guest"]):
        s.guest[n].accesses, s.guest[n].writes = len(accesses), writes
        for m, (gfn, code) in enumerate(accesses):
            s.guest[n].access[m].gfn, s.guest[n].access[m].code = gfn, code
    for n, task in enumerate(request["task"]):
        _task(s.task[n], task)
    for n, task in enumerate(request["start"]):
        _task(s.start[n], task)
    for n, (offset, size) in enumerate(request["range"]):
        s.range[n].offset, s.range[n].bytes = offset, size
    for n, (gfn, pfn) in enumerate(request["frame"]):
        s.frame[n].gfn, s.frame[n].pfn = gfn, pfn
    for word in request["written"]:
        s.written[word // 64] |= 1 << word % 64
    s.replay = (ctypes.c_uint * max(1, len(request["replay"])))(*request["replay"])
    return s


def answer(library: ctypes.CDLL, r: abi.ResultStruct) -> dict[str, Any]:
    """A result as plain data."""
    library.sd_name_of.restype = library.sd_kind_name.restype = library.sd_recorded_name.restype = ctypes.c_char_p

    def name(address: int) -> str:
        return str(library.sd_name_of(ctypes.c_ulonglong(address)).decode())

    found: dict[str, Any] = {
        key: getattr(r, key)
        for key in (*abi.COUNTS, "verdict", "cpu", "vcpu", "table", "depth", "ended", "reached", "seconds")
    }  # fmt: skip
    found["message"] = r.message.decode(errors="replace")
    found["name"] = name(r.address)
    found["choices"] = [r.choice[n] for n in range(r.choices)]
    found["written"] = [n for n in range(abi.WORDS) if r.written[n // 64] >> n % 64 & 1]
    found["events"] = [
        [
            e.cpu,
            library.sd_kind_name(e.kind).decode(),
            e.table,
            e.index,
            e.last,
            library.sd_recorded_name(e.name).decode(),
            e.before,
            e.after,
            e.pc,
        ]
        for e in (r.event[n] for n in range(r.events))
    ]
    found["held"] = [
        [h.event, h.vcpu, h.root, h.level, h.leaf, h.rights, h.dirty, h.gfn, h.target]
        for h in (r.held[n] for n in range(r.helds))
    ]
    found["races"] = [
        [name(x.address), x.address, list(x.pc), list(x.write), list(x.marked)]
        for x in (r.race[n] for n in range(r.races))
    ]
    return found


def base_of(path: str) -> int:
    """Where a library is loaded."""
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if line.rstrip().endswith(os.path.realpath(path)):
                return int(line.split("-")[0], 16)
    return 0


def ran(library: ctypes.CDLL) -> list[int]:
    """Which blocks of code ran, of a library that tells (c/coverage)."""
    if not hasattr(library, "sd_ran"):
        return []
    places = (ctypes.c_uint * PLACES)()
    return list(places[: min(PLACES, library.sd_ran(places, PLACES))])


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    limit(request["seconds_max"], request["bytes_max"])
    library = ctypes.CDLL(request["library"], mode=os.RTLD_NOW)
    library.sd_op_name.restype = ctypes.c_char_p
    ops = [name.decode() for name in iter(map(library.sd_op_name, count()).__next__, None)]
    if missing := [name for name in request["ops"] if name not in ops]:
        print(json.dumps({"error": f"the library has no operation '{missing[0]}'; it has {', '.join(ops)}"}))
        return
    for task in (*request["task"], *request["start"]):
        task[0] = ops.index(task[0])
    scenario, result = scenario_of(request), abi.ResultStruct()
    library.sd_explore(ctypes.byref(scenario), ctypes.byref(result))
    found = answer(library, result)
    found["base"] = base_of(request["library"])
    found["ran"] = ran(library)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
