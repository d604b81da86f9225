"""Grows a real trace: repeats its pages with their times moved on, so that any number of events can be had.

    python -m tests.grow SOURCE TARGET EVENTS

writes an uncompressed version 7 file. Of a fraction of a repetition, and if EVENTS is less than the source has, the
first pages of every CPU are taken. Only the times of pages are moved: absolute times between events stay.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shootdown.trace.container import OPTIONS, Container, open_container
from shootdown.trace.formats import parse_page_layout
from shootdown.trace.ring import walk

from .datfile import Recording, write

GAP = 1000
"""Ticks between the last event of a repetition and the first of the next."""
POINTERS = (
    "DONE",
    "BUFFER",
    "STRINGS",
    "HEADER_INFO",
    "FTRACE_EVENTS",
    "EVENT_FORMATS",
    "KALLSYMS",
    "PRINTK",
    "CMDLINES",
)


def unpacked(source: Path) -> tuple[Recording, int]:
    """A trace as an uncompressed recording of version 7, with the metadata that decoding needs; how many events."""
    file = os.open(source, os.O_RDONLY)
    try:
        box = open_container(str(source), file)
        recording = _metadata(box)
        recording.cpus = {data.cpu: [b"".join(box.pages(data))] for data in box.data}
    finally:
        os.close(file)
    return recording, sum(int(_starts(recording, pieces).size) for pieces in recording.cpus.values())


def grow(source: Path, target: Path, events: int) -> int:
    """Write a trace of about that many events (a page more or less a CPU); how many there are."""
    recording, count = unpacked(source)
    whole, rest = divmod(events, count)
    pages = {cpu: _pages(recording, pieces) for cpu, pieces in recording.cpus.items()}
    walked = {cpu: walk(data, parse_page_layout(recording.header_page, str(source))) for cpu, data in pages.items()}
    span = max(int(w.time.max()) for w in walked.values()) - min(int(w.time.min()) for w in walked.values()) + GAP
    total = whole * count
    cut = {}
    for cpu, records in walked.items():
        upto = np.searchsorted(records.page, np.arange(len(pages[cpu]) + 1))
        cut[cpu] = int(np.searchsorted(upto, upto[-1] * rest / count))
        total += int(upto[cut[cpu]])
    recording.cpus = {cpu: _repeated(data, whole, cut[cpu], span) for cpu, data in pages.items()}
    write(target, recording)
    return total


def _metadata(box: Container) -> Recording:
    systems: dict[str, list[str]] = {}
    for system, text in box.formats:
        systems.setdefault(system, []).append(text)
    return Recording(
        page_size=box.page_size,
        header_page=box.header_page,
        ftrace=systems.pop("ftrace", []),
        systems=list(systems.items()),
        cmdlines=box.cmdlines,
        options=[(n, d) for n, d in box.options if n >= len(OPTIONS) or OPTIONS[n] not in POINTERS],
        clock=box.clock,
    )


def _pages(recording: Recording, pieces: object) -> np.ndarray:
    assert isinstance(pieces, list)
    return np.frombuffer(pieces[0], np.uint8).reshape(-1, recording.page_size)


def _starts(recording: Recording, pieces: object) -> np.ndarray:
    return walk(_pages(recording, pieces), parse_page_layout(recording.header_page, "")).offset


def _repeated(pages: np.ndarray, whole: int, rest: int, span: int) -> Iterator[bytes]:
    """The pages of a CPU ``whole`` times and ``rest`` of them once more, each time ``span`` later."""
    for k in range(whole + 1):
        moved = (pages if k < whole else pages[:rest]).copy()
        stamps = moved[:, :8].copy().view("<i8") + k * span
        moved[:, :8] = stamps.view(np.uint8)
        yield moved.tobytes()


if __name__ == "__main__":
    print(grow(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), "events")
