"""What operations cost on the C of two trees: flushes, freed tables, requests and time, for the same work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ...machine.words import LOG_DIRTY_PAGES
from ...mmu.access import WRITE
from ..library.apart import Step, apart
from ..library.native import Config, KernelBug, calls
from .workloads import HUGE, WORKLOADS, TheirVm, Work, mapped

NUMBER: Final = HUGE * HUGE
"""Pages of 4 KiB that each operation is about: 1 GiB."""
RUNS: Final = 15
"""Timed runs on each tree, in turns."""
LEAST: Final = 0.1
"""A smaller difference is none."""
FAILS: Final = "fails"
SECONDS: Final = 120
"""Of the processor's time for one operation on both trees."""


USUAL: Final = Config()


@dataclass(frozen=True)
class Job:
    """An operation, and how the VM is made that it is done on; ``ready`` as ``theirs`` of a Workload."""

    name: str
    ready: Callable[[TheirVm, int], Work]
    config: Config = USUAL


def _unmap(vm: TheirVm, first: int, end: int) -> None:
    """The host takes pages back."""
    vm.c.invalidate_range_start(first, end, True)
    vm.c.invalidate_range_end(first, end)


def _unmap_pieces(vm: TheirVm, number: int) -> None:
    for first in range(0, number, HUGE):
        _unmap(vm, first, first + HUGE)


def _reflag(flags: int) -> Callable[[TheirVm, int], Work]:
    return lambda vm, number: partial(vm.c.set_memory_region, 0, 0, 0, number, flags)


def _log_off(vm: TheirVm, number: int) -> Work:
    """Logging ends, and its huge pages come back."""
    vm.c.set_memory_region(0, 0, 0, number, LOG_DIRTY_PAGES)
    vm.map(number)
    return _reflag(0)(vm, number)


def _log_round(vm: TheirVm, number: int) -> Work:
    """The log is read, and what was written is protected again."""
    vm.c.set_memory_region(0, 0, 0, number, LOG_DIRTY_PAGES)
    vm.c.faults(0, 0, number, 1, WRITE)
    return partial(vm.c.get_dirty_log, 0, False)


def _huge_faults(vm: TheirVm, number: int) -> Work:
    """Faults find tables where the host now has huge pages."""
    vm.c.host_level(2)
    return partial(vm.map, number, HUGE)


def _delete(vm: TheirVm, number: int) -> Work:
    """The slot goes, and the vCPU gets another root."""

    def work() -> None:
        vm.c.set_memory_region(0, 0, 0, 0, 0)
        vm.c.enter(0)

    return work


JOBS: Final = (
    *(Job(w.name, w.theirs, Config(host_level=w.host_level, nx_huge_pages=w.nx)) for w in WORKLOADS),
    Job("unmap", mapped(lambda vm, number: partial(_unmap, vm, 0, number))),
    Job("unmap 2M at a time", mapped(lambda vm, number: partial(_unmap_pieces, vm, number))),
    Job("unmap, giving way", mapped(lambda vm, number: partial(_unmap, vm, 0, number)),
        Config(resched_every=1000)),
    Job("zap leafs, giving way", mapped(lambda vm, number: partial(vm.c.zap_range, 0, number)),
        Config(resched_every=1000)),
    Job("age and flush", mapped(lambda vm, number: partial(vm.c.age, 0, number, True))),
    Job("huge faults on tables", mapped(_huge_faults)),
    Job("log on", mapped(_reflag(LOG_DIRTY_PAGES), HUGE), Config(host_level=2)),
    Job("log off", mapped(_log_off, HUGE), Config(host_level=2)),
    Job("read the log", mapped(_log_round)),
    Job("delete the slot", mapped(_delete)),
    Job("delete it, leafs only", mapped(_delete), Config(slot_zap_all=False)),
    Job("NX recovery, giving way", next(w.theirs for w in WORKLOADS if w.name == "NX recovery"),
        Config(host_level=2, nx_huge_pages=True, resched_every=16)),
)  # fmt: skip
COUNTS: Final = (
    "remote flushes of all", "remote flushes of a range", "pages in those ranges", "tables freed",
    "other requests to vCPUs", "flushes of the own TLB",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What an operation cost on one tree: by COUNTS, and nanoseconds per SPTE of each run; or why it did not end."""

    counts: tuple[int, ...] = ()
    times_ns: tuple[float, ...] = ()
    failed: str = ""


@dataclass(frozen=True)
class Change:
    """What of an operation is another after than before, each in words."""

    operation: str
    what: str
    before: str
    after: str


def once(job: Job, library: Path) -> tuple[tuple[int, ...], float]:
    """Do it once: counts, and nanoseconds per SPTE. Raises KernelBug, also for a WARN."""
    vm = TheirVm(library, NUMBER, job.config)
    work = job.ready(vm, NUMBER)
    vm.c.drain()
    vm.c.forget_notes()
    before = vm.c.counters()
    begin = time.perf_counter()
    work()
    taken = time.perf_counter() - begin
    vm.c.drain()
    after = vm.c.counters()
    for problem in vm.c.problems():
        raise KernelBug(f"{problem.place}: {problem.kind}: {problem.what}")
    did = {name: after[name] - before[name] for name in after}
    whole = after["flush_requests"] - did["range_flushes"]
    return (
        whole, did["range_flushes"], did["range_pages"], after["freed"],
        did["requests"] - after["flush_requests"], did["local_flushes"],
    ), taken / NUMBER * 1e9  # fmt: skip


def measure(job: Job, libraries: tuple[Path, Path], runs: int = RUNS) -> tuple[Cost, Cost]:
    """Do it on both, in turns, in a process of its own; the first time counts, the others are timed."""
    for library in libraries:
        calls(library)
    failed = ["", ""]

    def work(step: Step) -> list[tuple[tuple[int, ...], list[float], str]]:
        found: list[tuple[tuple[int, ...], list[float], str]] = []
        for side, library in enumerate(libraries):
            step(side)
            try:
                found.append((once(job, library)[0], [], ""))
            except KernelBug as bug:
                found.append(((), [], str(bug)))
        for _ in range(0 if any(bug for _, _, bug in found) else runs):
            for side, library in enumerate(libraries):
                step(side)
                found[side][1].append(once(job, library)[1])
        return found

    ended = apart(work, SECONDS)
    if ended.answer is None:
        failed[ended.step] = ended.how
        return Cost(failed=failed[0]), Cost(failed=failed[1])
    before, after = (Cost(counts, tuple(times), bug) for counts, times, bug in ended.answer)
    return before, after


def changes(job: Job, before: Cost, after: Cost) -> list[Change]:
    """What differs. Time does if most runs of one are faster than all of the other, and the fastest are LEAST apart.

    Of runs that are alike, one comparison in 450 would have the first: 15 of each, the 8 fastest of one kind. The
    fastest is told, since whatever disturbs a run makes it slower.
    """
    if before.failed or after.failed:
        ends = [cost.failed or "it ends" for cost in (before, after)]
        return [Change(job.name, FAILS, *ends)] if ends[0] != ends[1] else []
    found = [
        Change(job.name, what, f"{one:,}", f"{other:,}")
        for what, one, other in zip(COUNTS, before.counts, after.counts, strict=True)
        if one != other
    ]
    if before.times_ns and after.times_ns:
        one_ns, other_ns = min(before.times_ns), min(after.times_ns)
        faster = before.times_ns if one_ns < other_ns else after.times_ns
        low, high = sorted((one_ns, other_ns))
        if statistics.median(faster) < high and high > low * (1 + LEAST):
            found.append(Change(job.name, "ns per SPTE", f"{one_ns:.1f}", f"{other_ns:.1f}"))
    return found


def compare(libraries: tuple[Path, Path], tell: Callable[[int], None] = lambda done: None) -> list[Change]:
    """All of JOBS on two trees' native libraries; nothing where both are the same."""
    found: list[Change] = []
    for number, job in enumerate(JOBS if libraries[0] != libraries[1] else ()):
        tell(number)
        found += changes(job, *measure(job, libraries))
    return found
