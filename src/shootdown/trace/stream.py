"""All events that matter to the MMU as one stream in time order: a code and up to six numbers each.

The loops that follow the kernel's state (operations, rebuild) run over this stream; chunks of plain lists keep them
fast when compiled and memory small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .codes import KINDS, LOST, MISSING
from .events import Array, Events, Trace

CHUNK = 1 << 16
"""Events handed over at once."""


@dataclass(slots=True)
class Chunk:
    """Consecutive events, one element an event in every list; numbers that a kind lacks are ``MISSING``.

    A ``LOST`` stands where a gap begins in which the kernel dropped events (a: 1), and where it ends (a: -1).
    """

    code: list[int]
    time: list[int]
    cpu: list[int]
    pid: list[int]
    a: list[int]
    b: list[int]
    c: list[int]
    d: list[int]
    e: list[int]


def chunks(trace: Trace) -> Iterator[Chunk]:
    """The stream of a trace; SPTEs and addresses become signed 64-bit numbers."""
    kinds = [(KINDS[name], events) for name, events in trace.events.items() if name in KINDS]
    end = max([0, *(int(e.order[-1]) + 1 for _, e in kinds if len(e))])
    lost = place_lost(trace, [events for _, events in kinds])
    for low in range(0, end, CHUNK):
        size = min(CHUNK, end - low)
        head = np.zeros((4, size), np.int64)
        numbers = np.full((5, size), MISSING, np.int64)
        for (code, fields), events in kinds:
            first, last = np.searchsorted(events.order, (low, low + size))
            if first == last:
                continue
            at = events.order[first:last] - low
            head[0, at] = code
            head[1, at] = events.time[first:last]
            head[2, at] = events.cpu[first:last]
            head[3, at] = events.pid[first:last]
            for k, name in enumerate(fields):
                number = _number(events, name, first, last)
                if number is not None:
                    numbers[k, at] = number
        keep = np.flatnonzero(head[0])
        rows = np.concatenate([head, numbers])[:, keep]
        for order, row in reversed([x for x in lost if low <= x[0] < low + size]):
            rows = np.insert(rows, np.searchsorted(keep, order - low), row, axis=1)
        yield Chunk(*rows.tolist())


def place_lost(trace: Trace, kinds: list[Events]) -> list[tuple[int, list[int]]]:
    """(order of the event before which it belongs, its row) of the beginning and the end of each gap in the recording.

    A gap lasts from its CPU's last event to the one after it; what other CPUs did meanwhile is seen, but not all.
    """
    if not trace.lost or not kinds:
        return []
    order = np.concatenate([e.order for e in kinds])
    time = np.concatenate([e.time for e in kinds])
    cpu = np.concatenate([e.cpu for e in kinds])
    by_order = np.argsort(order)
    order, time, cpu = order[by_order], time[by_order], cpu[by_order]
    placed: list[tuple[int, list[int]]] = []
    for number in {gap.cpu for gap in trace.lost}:
        mine = np.flatnonzero(cpu == number)
        times = time[mine]
        for gap in (g for g in trace.lost if g.cpu == number):
            after = int(np.searchsorted(times, gap.time))
            first = int(order[mine[after - 1]]) + 1 if after else 0
            last = int(order[mine[after]]) if after < mine.size else int(order[-1])
            placed.append((min(first, last), [LOST, gap.time, gap.cpu, 0, 1, *[MISSING] * 4]))
            placed.append((last, [LOST, gap.time, gap.cpu, 0, -1, *[MISSING] * 4]))
    return sorted(placed, key=lambda place: place[0])


def _number(events: Events, name: str, first: int, last: int) -> Array | None:
    column = events.fields.get(name)
    if column is None or column.dtype.kind not in "iu":
        return None
    part = column[first:last]
    return part.view(np.int64) if part.dtype.itemsize == 8 else part.astype(np.int64)
