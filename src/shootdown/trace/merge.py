"""Merges the events of all CPUs by time as they are read, and keeps those that later ones may precede."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ring import Ints

NEVER = -(1 << 63)
"""Before any time."""


@dataclass(slots=True)
class Found:
    """Events, those of each source (an index in ``Container.data``) in order.

    flat    the bytes that hold them, with ``RECORD_MAX`` bytes to spare behind
    offset  where in ``flat`` the event's data begins, a multiple of 4
    length  bytes of the data
    time    as the clock gave it, but never before an earlier event of the same source
    source  int32, where it comes from
    number  uint32, its kind
    """

    flat: NDArray[np.uint8]
    offset: Ints
    length: Ints
    time: Ints
    source: NDArray[np.int32]
    number: NDArray[np.uint16]

    def take(self, rows: Ints) -> Found:
        """Some of the events, in that order."""
        return Found(
            self.flat,
            self.offset.take(rows),
            self.length.take(rows),
            self.time.take(rows),
            self.source.take(rows),
            self.number.take(rows),
        )

    def packed(self) -> Found:
        """The same events without the bytes between them."""
        words = (self.length + 3) >> 2
        end = np.cumsum(words)
        begin = end - words
        where = np.repeat((self.offset >> 2) - begin, words)
        where += np.arange(where.size)
        flat = self.flat.view("<u4").take(where).view(np.uint8)
        return Found(flat, begin << 2, self.length, self.time, self.source, self.number)


def nothing() -> Found:
    """No events."""
    none = np.empty(0, np.int64)
    return Found(np.empty(0, np.uint8), none, none, none, none.astype(np.int32), none.astype(np.uint16))


def join(parts: list[Found]) -> Found:
    """All events of these, which share their bytes."""
    if len(parts) == 1:
        return parts[0]
    return Found(
        parts[0].flat,
        np.concatenate([part.offset for part in parts]),
        np.concatenate([part.length for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.number for part in parts]),
    )


class Clock:
    """Holds up the times of each source where its clock steps back, and knows how far all have got."""

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}

    def hold_up(self, time: Ints, page: Ints, origin: NDArray[np.int32]) -> None:
        """Let no time be before one recorded earlier in the same source; ``origin`` is the source of each page."""
        pages = np.flatnonzero(np.diff(origin, prepend=-1))
        begins = np.searchsorted(page, pages).tolist()
        for source, begin, end in zip(origin[pages].tolist(), begins, [*begins, page.size][1:], strict=True):
            if begin == end:
                continue
            part, newest = time[begin:end], self.newest.get(source, NEVER)
            if part[0] < newest or (part[1:] < part[:-1]).any():
                part[0] = max(part[0], newest)
                np.maximum.accumulate(part, out=part)
            self.newest[source] = int(part[-1])

    def until(self, sources: list[int]) -> tuple[int, int] | None:
        """The time and the source up to which no event of these sources can come any more; None without sources."""
        return min([(self.newest.get(source, NEVER), source) for source in sources], default=None)


def by_time(found: Found, until: tuple[int, int] | None) -> tuple[Ints, Ints]:
    """Rows of the events up to and including this time and source, in order of both; and all other rows.

    Equal times come by source, as in ``trace-cmd report``.
    """
    rows = np.lexsort((found.source, found.time))
    if until is None:
        return rows, rows[:0]
    time, source = until
    times = found.time.take(rows)
    first, end = np.searchsorted(times, time), np.searchsorted(times, time, "right")
    size = int(first + np.searchsorted(found.source.take(rows[first:end]), source, "right"))
    return rows[:size], rows[size:]
