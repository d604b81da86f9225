"""Nanoseconds per SPTE of the kernel's own C and of our MMU: the same work, one after the other in one process."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from ..compare.pair import POLICY_OF
from .workloads import HUGE, Work, Workload, ours_of, theirs_of


@dataclass(frozen=True)
class Timing:
    """Medians for one operation, in nanoseconds per SPTE, of so many runs each."""

    name: str
    theirs_ns: float
    ours_ns: float

    @property
    def times(self) -> float:
        """How many times as long ours takes."""
        return self.ours_ns / self.theirs_ns


def measure(workload: Workload, library: Path, behaviour: str, number: int, runs: int) -> Timing:
    """Time an operation on so many pages, in turns."""
    number = number // HUGE * HUGE
    theirs, ours = [], []
    for _ in range(runs):
        theirs.append(seconds(theirs_of(workload, library, number)))
        ours.append(seconds(ours_of(workload, behaviour, POLICY_OF[behaviour], number, slots=1)))
    middle = [statistics.median(taken) / number * 1e9 for taken in (theirs, ours)]
    return Timing(workload.name, *middle)


def seconds(work: Work) -> float:
    """The processor's time that something takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin
