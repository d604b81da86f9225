"""Pages of all CPUs in windows: what they recorded at about the same time is read together."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from .container import Container

WINDOW_MIN, WINDOW_MAX, WINDOW_PAGES = 4 << 20, 16 << 20, 256
"""Bytes of pages that are read together: enough pages to be worth array operations, few enough to stay in caches."""
SHARE = 4
"""Pieces of each CPU in a window if all CPUs recorded as much. What is read ahead of the slowest has to be kept."""
PAGES_FREE, PAGES_RATIO = 32 << 20, 100
"""Decompressed pages may be this long, plus this many times the file: beyond lies a decompression bomb."""


@dataclass(slots=True)
class Window:
    """Pages, those of each source (an index in ``Container.data``) together and in order.

    parts   (source, whole pages), by source
    open    the sources of which there may be more
    """

    parts: list[tuple[int, bytes]]
    open: list[int]


class Windows:
    """Reads windows, until all is read or more than such a file can honestly hold."""

    def __init__(self, box: Container, stamp_at: int) -> None:
        """``stamp_at`` is where on a page its time is."""
        self.box, self.stamp_at = box, stamp_at
        self.allowed = PAGES_FREE + PAGES_RATIO * box.size
        self.pieces: list[Iterator[bytes]] = []
        for data in box.data:
            share = max(1, WINDOW_MIN // (SHARE * len(box.data) * data.page_size))
            self.pieces.append(box.pages(data, share * data.page_size))
        # The time of the last page that was read of each source: next comes the source that is behind the others.
        self.behind = [(-(1 << 63), source) for source in range(len(box.data))]

    def read(self, least: int) -> Window | None:
        """The next window, of at least so many bytes if they are there; None at the end."""
        if not self.behind:
            return None
        size, parts, enough = 0, [], WINDOW_MIN
        while self.behind and size < max(least, enough):
            newest, source = self.behind[0]
            data = self.box.data[source]
            enough = min(max(WINDOW_MIN, WINDOW_PAGES * data.page_size), WINDOW_MAX)
            piece = next(self.pieces[source], None)
            if piece is None:
                heapq.heappop(self.behind)
                continue
            whole = len(piece) - len(piece) % data.page_size
            if whole != len(piece):
                self.box.warn("cut", f"{self.box.path}: CPU {data.cpu}'s data ends within a page, which is left out")
            self.allowed -= max(whole, data.page_size)
            if self.allowed < 0:
                self.box.warn(
                    "bomb", f"{self.box.path}: its data is over {PAGES_RATIO} times its size; the rest is left out"
                )
                self.behind.clear()
            elif whole:
                at = whole - data.page_size + self.stamp_at
                stamp = int.from_bytes(piece[at : at + 8], "little", signed=True)
                heapq.heapreplace(self.behind, (max(newest, stamp), source))
                parts.append((source, piece[:whole]))
                size += whole
        parts.sort(key=lambda part: part[0])
        return Window(parts, [source for _, source in self.behind])
