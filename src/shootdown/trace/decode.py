"""trace.dat to typed columns: every event by its own layout, all CPUs merged by time."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import Columns
from .container import OPTIONS, Container, open_container
from .events import Array, Lost, Trace
from .formats import RECORD_MAX, PageLayout, common_places, parse_layout, parse_name, parse_page_layout, shown
from .merge import Clock, Found, by_time, join, nothing
from .ring import Ints, Records, walk
from .windows import Window, Windows

HELD_FREE, HELD_RATIO = 64 << 20, 128
"""What is kept of the events may be this long, plus this many times the file: lying layouts could make them longer than
their pages."""
SPARE = 1.2
"""How much longer columns are made than they seem to become by what of the file has been read."""
HEAP_BYTES = 16 << 20
COMMS_MAX = 1 << 16
"""Task names; the kernel saves at most 32768."""
UNKNOWN_MAX = 16
"""How many kinds without a format are counted apart."""

Progress = Callable[[int], None]


def read_trace_dat(
    path: str, file: int, wanted: Collection[str] | None = None, progress: Progress | None = None
) -> Trace:
    """Decode the trace.dat open as ``file`` (a descriptor that can seek).

    ``wanted`` limits the columns to these kinds ("kvmmmu:kvm_mmu_get_page"); counts are of all kinds. Raises InputError
    if nothing can be read; where a part is damaged, the rest is read and ``warnings`` says so.
    """
    box = open_container(path, file)
    layout = parse_page_layout(box.header_page, path, box.places["header_page"])
    trace = Trace(path, _form(box), cpus=box.cpus, clock=box.clock or "local")
    trace.kernel = _release(box)
    trace.comms = _comms(box.cmdlines)
    trace.options = [(OPTIONS[n] if n < len(OPTIONS) else str(n), data) for n, data in box.options]
    for stat in box.option("CPUSTAT"):
        stopped = re.search(rb"now ts:\s*(\d{1,9})\.(\d{6})\b", stat)
        if stopped:
            trace.ended = max(trace.ended, int(stopped[1]) * 10**9 + int(stopped[2]) * 1000)
        for number in re.findall(rb"(?:overrun|dropped events): (\d{1,18})", stat.replace(b"commit overrun", b"")):
            trace.lost_total = (trace.lost_total or 0) + int(number)

    _keep_heap()
    collected = _Collector(box, wanted)
    trace.defined = frozenset(collected.names.values())
    collected.read(layout, progress)
    collected.finish(trace)
    _set_clock(trace, box)
    trace.warnings = box.warnings()
    return trace


def _keep_heap() -> None:
    """Have the C library keep freed memory for the next batch: glibc does once it has seen a block this large freed.

    Else every batch's arrays come from pages that the kernel has to clear first, which takes as long as decoding them.
    """
    np.empty(HEAP_BYTES, np.uint8)


def _form(box: Container) -> str:
    return f"trace.dat version {box.version}" + (f", {box.compression}" if box.version == 7 else "")


def _release(box: Container) -> str:
    words = box.text("UNAME").split()
    return words[2] if len(words) > 2 else ""


def _comms(cmdlines: str) -> dict[int, str]:
    found = {0: "<idle>"}
    for line in cmdlines.split("\n", COMMS_MAX)[:COMMS_MAX]:
        pid, _, comm = line.partition(" ")
        with contextlib.suppress(ValueError):
            found[int(pid)] = comm
    return found


class _Collector:
    """Merges the events of window after window by time and puts them into the columns of their kinds."""

    def __init__(self, box: Container, wanted: Collection[str] | None) -> None:
        self.box = box
        self.type_at, self.pid_at = common_places(
            [text for _, text in box.formats], box.path, box.places.get("EVENT_FORMATS", box.places["header_page"])
        )
        self.formats: dict[int, tuple[str, str]] = {}
        self.names: dict[int, str] = {}
        known: set[str] = set()
        for system, text in box.formats:
            try:
                number, name = parse_name(system, text, box.path)
            except InputError as error:
                box.warn("format", f"{error}; left out")
                continue
            if number in self.names or name in known:
                box.warn("format", f"{box.path}: {shown(name)} has the number or the name of another event; left out")
                continue
            known.add(name)
            self.formats[number], self.names[number] = (system, text), name
        self.kinds: dict[int, Columns] = {}
        self.wanted = np.zeros(1 << 16, np.bool_)
        self.wanted[[n for n, name in self.names.items() if wanted is None or name in wanted]] = True
        self.counts = np.zeros(1 << 16, np.int64)
        self.too_short = 0
        self.allowed = self.room = HELD_FREE + HELD_RATIO * box.size
        self.cpu_of = np.array([data.cpu for data in box.data], np.int16)
        self.clock = Clock()
        self.lost: list[tuple[int, Lost]] = []
        self.spans: list[tuple[int, int]] = []
        self.kept = nothing()
        self.order = 0

    @property
    def total(self) -> int:
        """Events so far, of all kinds."""
        return int(self.counts.sum())

    def read(self, layout: PageLayout, progress: Progress | None) -> None:
        """Read window by window; whatever no later event can precede goes into its columns at once."""
        windows = Windows(self.box, layout.timestamp)
        while window := windows.read(self.kept.flat.size):
            found = self._find(window, layout)
            if self.room < 0:
                self.box.warn(
                    "bomb", f"{self.box.path}: its events are over {HELD_RATIO} times its size; the rest is left out"
                )
                break
            self._give_out(found, self.clock.until(window.open))
            if progress and self.total:
                progress(self.total)
        # Where reading ended early, there still may be events that waited for others.
        self._give_out(self.kept, None)

    def _find(self, window: Window, layout: PageLayout) -> Found:
        """The events that were kept, and the wanted ones of a window."""
        kept = self.kept
        held = [kept.flat.tobytes(), *(pages for _, pages in window.parts), bytes(RECORD_MAX)]
        flat = np.frombuffer(b"".join(held), np.uint8)
        found, begin = [Found(flat, kept.offset, kept.length, kept.time, kept.source, kept.number)], kept.flat.size
        for size, run in itertools.groupby(window.parts, lambda part: self.box.data[part[0]].page_size):
            sources, pieces = zip(*run, strict=True)
            origin = np.repeat(np.array(sources, np.int32), [len(piece) // size for piece in pieces])
            end = begin + size * origin.size
            records = walk(flat[begin:end].reshape(-1, size), layout)
            records.offset += begin
            found.append(self._choose(flat, records, origin))
            begin = end
        return join([part for part in found if part.offset.size] or found[:1])

    def _choose(self, flat: NDArray[np.uint8], records: Records, origin: NDArray[np.int32]) -> Found:
        """The wanted ones of the events on some pages; all are counted."""
        for source in origin[records.broken].tolist():
            cpu = self.cpu_of[source]
            self.box.warn(
                "page", f"{self.box.path}: a page of CPU {cpu} is damaged; its events are read up to the damage"
            )
        for number, when, missed in records.missed:
            source = int(origin[number])
            self.lost.append((source, Lost(int(self.cpu_of[source]), when, None if missed < 0 else missed)))
        offset, length, time, page = records.offset, records.length, records.time, records.page
        if time.size:
            self.spans.append((int(time.min()), int(time.max())))
        whole = length >= max(self.type_at + 2, self.pid_at + 4)
        if not whole.all():
            self.too_short += int(whole.size - whole.sum())
            offset, length, time, page = offset[whole], length[whole], time[whole], page[whole]
        self.clock.hold_up(time, page, origin)
        kinds = flat.view("<u2").take((offset + self.type_at) >> 1)
        counts = np.bincount(kinds, minlength=1 << 16)
        self.counts += counts
        found = Found(flat, offset, length, time, np.take(origin, page), kinds)
        present = [n for n in np.flatnonzero(counts).tolist() if self.wanted[n] and self._known(n)]
        if sum(counts[n] for n in present) < kinds.size:
            found = found.take(np.flatnonzero(self.wanted[kinds]))
        loose = any(self.kinds[n].slices for n in present)
        held = np.bincount(found.number, found.length, 1 << 16) if loose else counts
        self.room -= sum(self.kinds[n].cost(int(counts[n]), int(held[n])) for n in present)
        return found

    def _give_out(self, found: Found, until: tuple[int, int] | None) -> None:
        """Put the events up to this time and source into their columns; the others are kept."""
        rows, later = by_time(found, until)
        self.kept = found.take(later).packed() if later.size else nothing()
        if not rows.size:
            return
        number = found.number.take(rows)
        counts = np.bincount(number)
        by_kind = np.argsort(number, kind="stable")
        rows = rows.take(by_kind)
        offset, length, time = found.offset.take(rows), found.length.take(rows), found.time.take(rows)
        cpu = self.cpu_of.take(found.source).take(rows)
        pid = found.flat.view("<i4").take((offset + self.pid_at) >> 2)
        by_kind += self.order  # from here on, the events' positions among all
        self.order += rows.size
        growth = min(SPARE / self.box.share_read, self.allowed / (self.allowed - self.room))
        end = 0
        for kind in np.flatnonzero(counts).tolist():
            begin, end = end, end + int(counts[kind])
            part = slice(begin, end)
            head: list[Array] = [by_kind[part], time[part], cpu[part], pid[part]]
            self.kinds[kind].add(found.flat, offset[part], length[part], head, growth)

    def _known(self, number: int) -> bool:
        """Is there a usable layout of this kind of events? Parsed when the first of them comes."""
        if number in self.kinds:
            return True
        try:
            layout = parse_layout(*self.formats[number], self.box.path)
        except InputError as error:
            self.box.warn("format", f"{error}; its events are only counted")
            self.wanted[number] = False
            return False
        self.kinds[number] = Columns(layout)
        return True

    def count(self) -> dict[str, int]:
        """How many events of each kind there were, wanted or not; what has no format is called by its number."""
        found = {self.names[n]: int(self.counts[n]) for n in np.flatnonzero(self.counts).tolist() if n in self.names}
        unknown = {n: int(self.counts[n]) for n in np.flatnonzero(self.counts).tolist() if n not in self.names}
        for n in sorted(unknown, key=lambda n: -unknown[n])[:UNKNOWN_MAX]:
            found[f"unknown:{n}"] = unknown.pop(n)
        if unknown:
            found["unknown:others"] = sum(unknown.values())
        if self.too_short:
            self.box.warn(
                "short", f"{self.box.path}: {self.too_short} events are too short to say what they are; left out"
            )
        return found

    def finish(self, trace: Trace) -> None:
        """Hand over all that was read."""
        trace.counts = self.count()
        trace.lost += [lost for _, lost in sorted(self.lost, key=lambda lost: lost[0])]
        if self.spans:
            trace.first, trace.last = min(a for a, _ in self.spans), max(b for _, b in self.spans)
        for _, kind in sorted(self.kinds.items()):
            if not kind.size:
                continue
            name = kind.layout.name
            if kind.short:
                self.box.warn(
                    "missing", f"{self.box.path}: {kind.short} events of {shown(name)} are shorter than their format; "
                    "missing bytes read as 0",
                )  # fmt: skip
            trace.events[name] = kind.events()


def _set_clock(trace: Trace, box: Container) -> None:
    """Apply what the options say about time, as trace-cmd does.

    DATE and OFFSET move it; TSC2NSEC turns ticks of the TSC into nanoseconds (its own offset is for guests' traces).
    """
    ticks = "tsc" in trace.clock or trace.clock in ("counter", "uptime")
    trace.hertz = None if ticks else 1e9
    offset = _whole(box.text("OFFSET")) + 1000 * _whole(box.text("DATE"))
    multiplier = bits = 0
    for scale in box.option("TSC2NSEC"):
        multiplier, bits = (int.from_bytes(scale[i : i + 4], "little") for i in (0, 4))
    if multiplier and bits <= 32:
        trace.hertz = 1e9
    else:
        multiplier = 0
    if not multiplier and not offset:
        return

    def convert(time: Ints) -> Ints:
        if multiplier:  # the kernel's mul_u64_u32_shr, in halves that do not overflow
            ticks = time.view(np.uint64)
            low, high = (ticks & 0xFFFFFFFF) * np.uint64(multiplier), (ticks >> 32) * np.uint64(multiplier)
            time = ((low >> bits) + (high << (32 - bits))).view(np.int64)
        return time + np.array([offset & (1 << 64) - 1], np.uint64).view(np.int64)

    for events in trace.events.values():
        events.time = convert(events.time)
    ends = convert(np.array([trace.first, trace.last, *(x.time for x in trace.lost)], np.int64)).tolist()
    trace.first, trace.last = ends[:2]
    trace.lost = [Lost(x.cpu, time, x.count) for x, time in zip(trace.lost, ends[2:], strict=True)]


def _whole(text: str) -> int:
    """A whole number as the C library's strtoll reads it, 0 if there is none."""
    found = re.match(r"([+-]?)(?:0x([0-9a-fA-F]{1,16})|([0-9]{1,18}))", text)
    if not found:
        return 0
    size = int(found[2], 16) if found[2] else int(found[3])
    return -size if found[1] == "-" else size
