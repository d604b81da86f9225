"""A recorded trace as columns: what every reader (trace.dat, text) gives and everything else takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SPTE_CHANGED = "kvmmmu:kvm_tdp_mmu_spte_changed"


@dataclass(slots=True)
class Events:
    """All events of one kind, in the order in which they happened; every array has one element an event.

    order   int64, the event's position among all events that were asked for (so kinds can be merged again)
    time    int64, nanoseconds, or ticks where the clock counts ticks (``Trace.clock``)
    cpu     int16, the CPU that recorded it
    pid     int32, the task that ran there (its thread id)
    fields  by the names of the format description, typed as recorded (u64 is uint64); where the input is text, a field
            that the text does not show is missing
    """

    name: str
    order: NDArray[np.int64]
    time: NDArray[np.int64]
    cpu: NDArray[np.int16]
    pid: NDArray[np.int32]
    fields: dict[str, Array]

    def __len__(self) -> int:
        return len(self.order)


@dataclass(slots=True, frozen=True)
class Lost:
    """Where the kernel dropped events: before the event at ``time`` on ``cpu``; ``count`` is None if unknown."""

    cpu: int
    time: int
    count: int | None


@dataclass(slots=True)
class Trace:
    """One recording.

    form      what was read: "trace.dat version 7, zstd", "trace-cmd report", "tracefs trace", "perf script"
    kernel    release of the recorded kernel ("6.1.0-56-amd64"), "" where the input does not tell
    clock     "local", "global", "mono", "x86-tsc", ...; "" where the input does not tell
    hertz     ticks of ``time`` in a second, None where unknown (x86-tsc without a calibration)
    cpus      how many CPUs the recorded machine had, or at least showed
    comms     task name by pid
    tgids     process id by pid, where the recording has it
    counts    events by kind ("kvmmmu:kvm_mmu_get_page"), also of kinds that were not asked for
    defined   kinds that the recording could hold, occurred or not; empty where the input does not tell
    first, last  time of the first and last event of any kind (0, 0 for an empty trace)
    ended     when the recording was stopped, perhaps long after the last event; 0 where the input does not tell
    events    the kinds that were asked for and occurred, by "system:name"
    lost      where events were dropped, by CPU and time
    lost_total   what the kernel's own counters say was lost (overrun and dropped), None where not recorded
    options   trace.dat's options in the order of the file: name (or number) and raw data
    warnings  one line each: what was wrong with the input and what was done about it
    """

    path: str
    form: str
    kernel: str = ""
    clock: str = ""
    hertz: float | None = 1e9
    cpus: int = 0
    comms: dict[int, str] = field(default_factory=dict)
    tgids: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    defined: frozenset[str] = frozenset()
    first: int = 0
    last: int = 0
    ended: int = 0
    events: dict[str, Events] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    lost_total: int | None = None
    options: list[tuple[str, bytes]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def records(self, name: str) -> bool:
        """Was that kind recorded, so that its absence means that it did not happen?

        A kprobe that is defined counts as recorded if any kprobe fired, since they are switched on as a group.
        """
        if name in self.counts:
            return True
        system = name.partition(":")[0]
        return name in self.defined and any(other.startswith(system + ":") for other in self.counts)

    @property
    def total(self) -> int:
        """Events of all kinds."""
        return sum(self.counts.values())

    def seconds(self, ticks: float) -> float:
        """A span of ``time`` in seconds; of a clock without a known rate, as if a tick were a nanosecond."""
        return ticks / (self.hertz or 1e9)

    def stamp(self, time: int) -> str:
        """A moment as trace-cmd shows it: seconds, or ticks of a clock without a known rate."""
        return str(time) if self.hertz is None else f"{time // 10**9}.{time % 10**9:09d}"
