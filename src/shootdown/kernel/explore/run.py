"""Exploring a built library: all orders of steps of a scenario, in a child process with limits.

The library is built from code that nobody has checked, so it is loaded by a process of its own only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..library.build import C
from ..library.variables import ranges
from . import abi
from .scenario import (
    BROKEN,
    NO_PFN,
    Budget,
    Cached,
    Event,
    Frame,
    Held,
    Outcome,
    Race,
    Scenario,
    Schedule,
    Task,
    bounds_of,
)

Child = subprocess.Popen[bytes]
"""A process that explores."""
PATIENCE = 4
"""Wall time that is granted, in CPU seconds of the budget."""


def real_gfn(gfn: int, entries: int, levels: int) -> int:
    """The gfn whose index at each level is the digit of the test's gfn."""
    return sum(gfn // entries**n % entries << 9 * n for n in range(levels))


def _host(scenario: Scenario) -> list[tuple[int, int, int]]:
    found = []
    for gfn in range(min(abi.GFNS_MAX, scenario.entries**scenario.levels)):
        page, level, writable = scenario.host.get(gfn, (gfn, 1, True))
        pfn = NO_PFN if page < 0 else scenario.pfn_base + real_gfn(page, scenario.entries, 5)
        found.append((pfn, level, int(writable)))
    return found


def _task(task: Task) -> list[Any]:
    return [task.op, task.vcpu, int(task.again), list(task.args)]


def _pages(scenario: Scenario) -> list[tuple[int, int]]:
    """Each gfn with the frame of each page that the host has there at some time, in order of gfns."""
    return [
        (gfn, scenario.pfn_base + real_gfn(page, scenario.entries, 5))
        for gfn, pages in sorted(scenario.pages.items())
        for page in sorted(pages)
    ]


def _check(scenario: Scenario, frames: list[tuple[int, int]]) -> None:
    """Refuse what the explorer has no room for."""
    for what, count, most in (
        ("tasks", len(scenario.tasks), abi.CPUS_MAX), ("vCPUs", scenario.vcpus, abi.VCPUS_MAX),
        ("tables", scenario.tables, abi.TABLES_MAX), ("operations at the start", len(scenario.start), abi.STARTS_MAX),
        ("arguments", max((len(t.args) for t in (*scenario.tasks, *scenario.start)), default=0), abi.ARGS_MAX),
        ("accesses of a guest", max((len(g.accesses) for g in scenario.guests), default=0), abi.ACCESSES_MAX),
        ("gfns", scenario.entries**scenario.levels, abi.GFNS_MAX), ("pages of the host", len(frames), abi.FRAMES_MAX),
    ):  # fmt: skip
        if count > most:
            raise InputError(f"{count} {what}: the explorer has room for {most}")
    if scenario.entries not in (2, 4):
        raise InputError(f"{scenario.entries} entries of a table: it must be 2 or 4")
    threads = [task.vcpu for task in scenario.tasks if task.vcpu >= 0]
    if threads != list(range(scenario.vcpus)) or [t.vcpu for t in scenario.tasks[: len(threads)]] != threads:
        raise InputError("the first tasks must be those of the vCPUs, one for each, in order")


def request_of(library: Path, scenario: Scenario, budget: Budget, schedule: Schedule | None) -> dict[str, Any]:
    """What a child is asked."""
    frames = _pages(scenario)
    _check(scenario, frames)
    options, hardware = scenario.options, scenario.hardware
    switches = {name: int(getattr(options, name)) for name in ("movers", "reuse", "late", "ranged", "tso", "races")}
    found = ranges(library)
    if len(found) > abi.RANGES_MAX:
        raise InputError(f"{len(found)} groups of variables: too many", path=str(library))
    return {
        "library": str(library.resolve()),
        "levels": scenario.levels, "entries": scenario.entries, "tables": scenario.tables,
        "root_level": scenario.top,
        "vcpus": scenario.vcpus, "tasks": len(scenario.tasks), "starts": len(scenario.start), "ranges": len(found),
        "yields": options.yields, "failures": options.failures, **switches,
        "ept": int(hardware.ept), "sets_accessed": int(hardware.sets_accessed), "logs": int(hardware.logs),
        "mmio": int(hardware.mmio), "nx": int(scenario.nx), "frames": len(frames), "frame": frames,
        "accessed": hardware.accessed, "dirty": hardware.dirty,
        "mmu_writable": hardware.mmu_writable,
        "states_max": budget.states, "bytes_max": budget.bytes, "seconds_max": budget.seconds,
        "pfn_base": scenario.pfn_base, "host": _host(scenario),
        "guest": [(guest.accesses, sum(1 << gfn for gfn in set(guest.writes))) for guest in scenario.guests],
        "task": [_task(task) for task in scenario.tasks], "start": [_task(task) for task in scenario.start],
        "ops": sorted({task.op for task in (*scenario.tasks, *scenario.start)}),
        "range": found,
        "replay": list(schedule.choices) if schedule else [], "replays": len(schedule.choices) if schedule else 0,
        "written": list(schedule.written) if schedule else [],
    }  # fmt: skip


def _run(request: dict[str, Any], running: set[Child] | None = None) -> dict[str, Any]:
    """Have a child answer a request; it is killed when it takes too long, or with us.

    As long as it runs it is one of ``running``, for those who may end it before.
    """
    package = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    patience = request["seconds_max"] * PATIENCE + 60 if request["seconds_max"] else None
    child = subprocess.Popen(
        [sys.executable, "-m", "shootdown.kernel.explore.child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    running = set() if running is None else running
    running.add(child)
    try:
        output, errors = child.communicate(json.dumps(request).encode(), patience)
    except subprocess.TimeoutExpired:
        return {"died": f"the explorer gave no answer in {patience:g} s"}
    finally:
        running.discard(child)
        child.kill()
        child.wait()
    if child.returncode == 0 and output:
        answer: dict[str, Any] = json.loads(output)
        if "error" in answer:
            raise InputError(answer["error"], path=request["library"])
        return answer
    last = errors.decode(errors="replace").strip().splitlines()[-1:]
    if child.returncode < 0:
        return {"died": _ended_by(Path(request["library"]), -child.returncode, last[0] if last else "")}
    raise InputError(f"cannot be explored: {last[0] if last else 'no answer'}", path=request["library"])


def _ended_by(library: Path, number: int, last: str) -> str:
    """What ended a child, and where, if it could still say (c/explore/traps.c)."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    offset = re.fullmatch(r"fault at ([0-9a-f]+)", last)
    frames = frames_of(library, 1, {int(offset[1], 16) + 1}) if offset else {}
    found = in_source(next(iter(frames.values()), ()), SHIMS)
    where = f" in {found[0].function} ({Path(found[0].file).name}:{found[0].line})" if found else ""
    return f"the explorer was ended by {name}{where}, which says nothing about the tree: a mistake in our C, or memory"


def frames_of(library: Path, base: int, addresses: set[int]) -> dict[int, tuple[Frame, ...]]:
    """Where in the source each return address is, from the access outwards; empty where nothing is known."""
    wanted = sorted(address for address in addresses if address > base > 0)
    if not wanted:
        return {}
    text = "".join(f"{address - base - 1:#x}\n" for address in wanted)
    try:
        done = subprocess.run(
            ["addr2line", "-a", "-f", "-i", "-e", str(library)], input=text, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: list[list[str]] = []
    for line in done.stdout.splitlines():
        if line.startswith("0x") and ":" not in line:
            found.append([])
        else:
            found[-1].append(line)
    return {address: tuple(_frames(lines)) for address, lines in zip(wanted, found, strict=True)}


def _frames(lines: list[str]) -> list[Frame]:
    found = []
    for function, place in zip(lines[::2], lines[1::2], strict=True):
        file, _, line = place.split(" ")[0].rpartition(":")
        if function != "??" and file != "??":
            found.append(Frame(function, os.path.normpath(file), int(line) if line.isdigit() else 0))
    return found


def in_source(frames: tuple[Frame, ...], shims: str) -> tuple[Frame, ...]:
    """The frames without the innermost that are our own shims': the first is the tree's line."""
    for n, frame in enumerate(frames):
        if not frame.file.startswith(shims):
            return frames[n:]
    return frames


def _cached(found: list[list[int]]) -> dict[int, list[Cached]]:
    """By event, what vCPUs hold after it; an entry of level 0 ends a set."""
    after: dict[int, list[Cached]] = {}
    held: list[Held] = []
    for event, vcpu, root, level, leaf, rights, dirty, gfn, target in found:
        if level == 0:
            after.setdefault(event, []).append(Cached(vcpu, bool(leaf), tuple(held)))
            held = []
        else:
            held.append(Held(root, level, gfn, bool(leaf), rights, bool(dirty), target))
    return after


SHIMS = str(C / "shims")


def _outcome(library: Path, scenario: Scenario, answer: dict[str, Any]) -> Outcome:
    addresses = {answer["pc"], *(event[8] for event in answer["events"])}
    addresses |= {pc for race in answer["races"] for pc in race[2]}
    places = frames_of(library, answer["base"], addresses)

    def place(pc: int) -> tuple[Frame, ...]:
        return in_source(places.get(pc, ()), SHIMS)

    cached = _cached(answer["held"])
    events, step = [], 1
    for n, (cpu, kind, table, index, last, name, before, after, pc) in enumerate(answer["events"]):
        events.append(
            Event(
                step,
                cpu,
                kind,
                table,
                index,
                name,
                before,
                after,
                pc - answer["base"] if pc else 0,
                place(pc),
                tuple(cached.get(n, ())),
            )
        )
        step += last
    verdict, states = BROKEN[answer["verdict"]], max(1, answer["states"])
    stopped = verdict in ("stopped", "broken")
    return Outcome(
        broken="" if stopped else verdict,
        stopped=answer["message"] if stopped else "",
        message=answer["message"],
        place=place(answer["pc"]) or (events[-1].frames if events else ()),
        cpu=answer["cpu"],
        vcpu=answer["vcpu"],
        deadlocked=tuple(n for n in range(64) if answer["address"] >> n & 1) if verdict == "deadlock" else (),
        states=answer["states"],
        transitions=answer["transitions"],
        depth=answer["depth"],
        seconds=answer["seconds"],
        bytes_a_state=answer["bytes"] / states,
        restarts=answer["restarts"],
        ended=tuple(n for n in range(64) if answer["ended"] >> n & 1),
        reached=tuple(n for n in range(64) if answer["reached"] >> n & 1),
        bounds=bounds_of(scenario),
        schedule=Schedule(tuple(answer["choices"]), tuple(answer["written"])),
        events=tuple(events),
        ran=frozenset(answer["ran"]),
        races=tuple(
            Race(
                name or f"{address:#x}",
                (place(pc[0]), place(pc[1])),
                (bool(write[0]), bool(write[1])),
                (bool(marked[0]), bool(marked[1])),
            )
            for name, address, pc, write, marked in answer["races"]
        ),
    )


def _died(scenario: Scenario, why: str) -> Outcome:
    return Outcome(bounds_of(scenario), stopped=why, message=why)


def explore(
    library: Path, scenario: Scenario, budget: Budget | None = None, running: set[Child] | None = None
) -> Outcome:
    """Follow every order of steps, the shortest first, until something breaks or all is seen."""
    answer = _run(request_of(library, scenario, budget or Budget(), None), running)
    return _died(scenario, answer["died"]) if "died" in answer else _outcome(library, scenario, answer)


def replay(library: Path, scenario: Scenario, schedule: Schedule) -> Outcome:
    """Follow one schedule, and tell each access of it."""
    answer = _run(request_of(library, scenario, Budget(), schedule))
    found = _died(scenario, answer["died"]) if "died" in answer else _outcome(library, scenario, answer)
    return replace(found, schedule=schedule)


def steps(outcome: Outcome) -> list[list[Event]]:
    """The events of a schedule, step by step."""
    return [list(group) for _, group in groupby(outcome.events, key=lambda event: event.step)]
