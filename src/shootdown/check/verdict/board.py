"""Figures of searches that run, in memory that this process and its workers share."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

DONE, NOW, WAITING, MEMORY, FIELDS = 0, 1, 2, 3, 4


class Board:
    """A row for each worker: states of cases that are done, states and frontier of the one it is at, and megabytes."""

    def __init__(self, rows: int) -> None:
        self.array: Any = RawArray("q", rows * FIELDS)

    def row(self, number: int) -> Callable[[int, int, float], None]:
        """A function that notes the progress of the searches of one worker, one after the other."""
        array, first = self.array, number * FIELDS

        def report(states: int, waiting: int, seconds: float) -> None:
            if states < array[first + NOW]:
                array[first + DONE] += array[first + NOW]
            array[first + NOW], array[first + WAITING] = states, waiting
            array[first + MEMORY] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

        return report

    def total(self, field: int) -> int:
        """Of all workers."""
        return sum(self.array[field::FIELDS])

    @property
    def states(self) -> int:
        """All that were found so far."""
        return self.total(DONE) + self.total(NOW)
