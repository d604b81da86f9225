"""The columns of one kind of event, filled from events on pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .events import Array, Events
from .formats import SLICED, Field, Layout
from .ring import Ints

KIND_BYTES, EVENT_BYTES, SLICE_BYTES = 2048, 64, 64
"""What a kind takes for a batch, an event besides its fields (order, time, CPU, task, and while it is sorted), and a
field besides its bytes if it is an object of its own."""
BLOCK_BYTES = 1 << 20
"""Bytes of events that are copied out of their pages at once."""


class Columns:
    """Grows all columns of a kind at their end; ``short`` counts the events that lacked some of their fields."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.size, self.short = layout, 0, 0
        fixed = [f for f in layout.fields if f.size]
        # Of an event's bytes those from the first field to the end of the last are needed.
        self.begin = min([f.offset for f in fixed], default=0)
        self.end = max([f.offset + f.size for f in fixed], default=1)
        self.slices = [f for f in layout.fields if f.kind in SLICED]
        plain = [f for f in layout.fields if f.kind not in SLICED]
        self.block = np.dtype(
            {
                "names": [f.name for f in plain],
                "formats": [f.dtype or f"V{f.size}" for f in plain],
                "offsets": [f.offset - self.begin for f in plain],
                "itemsize": self.end - self.begin,
            }
        )
        # Order, time, CPU and task; then the fields by name.
        self.head: list[Array] = [np.empty(0, dtype) for dtype in (np.int64, np.int64, np.int16, np.int32)]
        types = {f.name: np.dtype(object) if f.kind in SLICED else self.block[f.name] for f in layout.fields}
        self.fields: dict[str, Array] = {name: np.empty(0, dtype) for name, dtype in types.items()}

    def cost(self, count: int, held: int) -> int:
        """Bytes of memory that so many events take, at least, whose data has ``held`` bytes."""
        each = EVENT_BYTES + self.end - self.begin + sum(f.size for f in self.layout.fields)
        return KIND_BYTES + count * each + len(self.slices) * (count * SLICE_BYTES + held)

    def add(
        self,
        flat: NDArray[np.uint8],
        offset: Ints,
        length: Ints,
        head: list[Array],
        growth: float,
    ) -> None:
        """Take events at these places of ``flat``; in the end there may be ``growth`` times as many as so far.

        ``head`` is their order, time, CPU and task.
        """
        first, last = self.size, self.size + offset.size
        if last > self.head[0].size:
            self._make_room(max(last, int(last * growth)))
        self.size = last
        for column, part in zip(self.head, head, strict=True):
            column[first:last] = part
        span = self.end - self.begin
        step = max(1, BLOCK_BYTES // span)
        source = np.ndarray((flat.size - span + 1,), f"V{span}", flat.data, strides=(1,))
        for at in range(0, offset.size, step):
            block = source[offset[at : at + step] + self.begin]
            lacking = np.flatnonzero(length[at : at + step] < self.end)
            if lacking.size:  # what an event lacks of its format reads as zero, not as its neighbour
                self.short += lacking.size
                there = np.arange(self.begin, self.end) < length[at : at + step][lacking, None]
                block.view(np.uint8).reshape(-1, span)[lacking] *= there
            named = block.view(self.block)
            for name in self.block.names or ():
                self.fields[name][first + at : first + at + block.size] = named[name]
        for f in self.slices:
            self.fields[f.name][first:last] = _slices(f, flat, offset, length)

    def _make_room(self, room: int) -> None:
        """Memory that is not written to costs nothing, copying does: better too long than too short."""

        def longer(column: Array) -> Array:
            found = np.empty(room, column.dtype)
            found[:size] = column[:size]
            return found

        size = self.size
        self.head = [longer(column) for column in self.head]
        self.fields = {name: longer(column) for name, column in self.fields.items()}

    def events(self) -> Events:
        """The finished columns."""
        fields = {name: column[: self.size] for name, column in self.fields.items()}
        order, time, cpu, pid = (column[: self.size] for column in self.head)
        return Events(self.layout.name, order, time, cpu, pid, fields)


def _slices(f: Field, flat: NDArray[np.uint8], offset: Ints, length: Ints) -> Array:
    """A field with its own place and length in every event, as an array of bytes objects."""
    at = np.full(offset.size, f.offset)
    size = length - f.offset
    if f.kind != "rest":
        words = np.ndarray((flat.size - 3,), "<u4", flat.data, strides=(1,))
        where = np.where(size >= 4, words[offset + f.offset], 0).astype(np.int64)
        at = (where & 0xFFFF) + (f.offset + 4 if f.kind == "relative" else 0)
        size = np.minimum(where >> 16, length - at)
    out = np.empty(offset.size, object)
    for i, (start, n) in enumerate(zip((offset + at).tolist(), size.tolist(), strict=True)):
        out[i] = flat[start : start + n].tobytes()
    return out
