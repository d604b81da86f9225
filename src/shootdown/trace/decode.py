"""trace.dat to typed columns: every event by its own layout, all CPUs merged by time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..errors import InputError
from .container import OPTIONS, Container, open_container
from .events import Array, Events, Lost, Trace
from .formats import SLICED, Field, Layout, common_places, parse_layout, parse_name, parse_page_layout, shown
from .ring import Ints, Records, walk

BATCH_MIN, BATCH_MAX, BATCH_PAGES = 4 << 20, 16 << 20, 256
"""Bytes of pages that are walked together: enough pages to be worth array operations, few enough to stay in caches."""
PAGES_FREE, PAGES_RATIO = 32 << 20, 100
"""Decompressed pages may be this long, plus this many times the file: beyond lies a decompression bomb."""
HELD_FREE, HELD_RATIO = 64 << 20, 128
"""The same for what is kept of the events, which lying layouts could make longer than their pages."""
KIND_BYTES, EVENT_BYTES, SLICE_BYTES = 2048, 64, 64
"""What a kind takes for a batch, an event besides its fields (row, time, CPU, task, order), and a field besides its
bytes if it is an object of its own."""
BLOCK_BYTES = 16 << 20
"""Bytes of events that are copied out of their pages at once."""
HEAP_BYTES = 16 << 20
COMMS_MAX = 1 << 16
"""Task names; the kernel saves at most 32768."""
UNKNOWN_MAX = 16
"""How many kinds without a format are counted apart."""

Progress = Callable[[int], None]


class _Growing:
    """An array that grows at its end. A few large blocks of memory cost less than many small ones that stay."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.room: Array = np.empty(0, dtype)
        self.size = 0

    def extend(self, part: Array) -> None:
        """Append the elements of ``part``."""
        size = self.size + part.size
        if size > self.room.size:
            room = np.empty(max(size, 2 * self.size), self.room.dtype)
            room[: self.size] = self.array
            self.room = room
        self.room[self.size : size] = part
        self.size = size

    @property
    def array(self) -> Array:
        """All elements."""
        return self.room[: self.size]


@dataclass(slots=True)
class _Kind:
    """What was collected of one kind of event.

    rows    its events' numbers in the order of the file, among all events that were asked for
    block   their bytes from the first field (``begin``) to the end of the last (``end``)
    slices  by name, the fields that have no fixed place or length
    fixed   bytes of memory that an event takes, and ``loose`` times its length
    """

    layout: Layout
    begin: int
    end: int
    fixed: int
    loose: int
    rows: _Growing
    block: _Growing
    slices: dict[str, _Growing]
    short: int = 0

    def cost(self, part: Ints, length: Ints) -> int:
        """Bytes of memory that these events of a batch take, at least."""
        return KIND_BYTES + part.size * self.fixed + (self.loose * int(length[part].sum()) if self.loose else 0)


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
    spans: list[tuple[int, int]] = []
    for origin, pages in _batches(box):
        records = walk(pages, layout)
        cpus = [box.data[k].cpu for k in origin.tolist()]
        for page in records.broken:
            box.warn("page", f"{path}: a page of CPU {cpus[page]} is damaged; its events are read up to the damage")
        trace.lost += [Lost(cpus[p], t, None if n < 0 else n) for p, t, n in records.missed]
        if records.offset.size:
            spans.append((int(records.time.min()), int(records.time.max())))
            if not collected.add(records, pages, origin):
                break
            if progress:
                progress(collected.total)

    trace.counts = collected.count()
    if spans:
        trace.first, trace.last = min(a for a, _ in spans), max(b for _, b in spans)
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


def _batches(box: Container) -> Iterator[tuple[Ints, NDArray[np.uint8]]]:
    """Pages with the index in ``box.data`` of each, until all are read or more than such a file can honestly hold."""
    held: list[bytes] = []
    origin: list[int] = []
    size = box.page_size
    allowed = PAGES_FREE + PAGES_RATIO * box.size
    waiting = 0

    def batch() -> tuple[Ints, NDArray[np.uint8]]:
        pages = np.frombuffer(b"".join(held), np.uint8).reshape(-1, size)
        origins = np.repeat(np.array(origin), [len(h) // size for h in held])
        held.clear()
        origin.clear()
        return origins, pages

    for index, data in enumerate(box.data):
        if waiting and data.page_size != size:
            yield batch()
            waiting = 0
        size = data.page_size
        enough = min(max(BATCH_MIN, BATCH_PAGES * size), BATCH_MAX)
        for piece in box.pages(data, enough):
            whole = len(piece) - len(piece) % size
            if whole != len(piece):
                box.warn("cut", f"{box.path}: CPU {data.cpu}'s data ends within a page, which is left out")
            allowed -= max(whole, size)
            if allowed < 0:
                box.warn("bomb", f"{box.path}: its data is over {PAGES_RATIO} times its size; the rest is left out")
                break
            held.append(piece[:whole])
            origin.append(index)
            waiting += whole
            if waiting >= enough:
                yield batch()
                waiting = 0
        if allowed < 0:
            break
    if waiting:
        yield batch()


class _Collector:
    """Takes the events of batch after batch apart by kind, then makes columns of each kind."""

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
        self.kinds: dict[int, _Kind] = {}
        self.wanted = np.zeros(1 << 16, np.bool_)
        self.wanted[[n for n, name in self.names.items() if wanted is None or name in wanted]] = True
        self.counts = np.zeros(1 << 16, np.int64)
        self.rows = 0
        self.too_short = 0
        self.room = HELD_FREE + HELD_RATIO * box.size
        self.cpu_of = np.array([data.cpu for data in box.data], np.int16)
        self.newest: dict[int, int] = {}
        self.times, self.cpus, self.pids = _Growing(np.int64), _Growing(np.int16), _Growing(np.int32)

    @property
    def total(self) -> int:
        """Events so far, of all kinds."""
        return int(self.counts.sum())

    def add(self, records: Records, pages: NDArray[np.uint8], origin: Ints) -> bool:
        """Take the events of a batch, whose pages come from these of ``box.data``; False if there is no more room."""
        flat = pages.reshape(-1)
        offset, length, time, page = records.offset, records.length, records.time, records.page
        whole = length >= max(self.type_at + 2, self.pid_at + 4)
        if not whole.all():
            self.too_short += int(whole.size - whole.sum())
            offset, length, time, page = offset[whole], length[whole], time[whole], page[whole]
        number = flat.view("<u2").take((offset + self.type_at) >> 1)
        counts = np.bincount(number, minlength=1 << 16)
        self.counts += counts
        present = [n for n in np.flatnonzero(counts).tolist() if self.wanted[n] and self._known(n)]
        if sum(counts[n] for n in present) < number.size:
            mine = np.flatnonzero(self.wanted[number])
            number, offset, length, time, page = (x[mine] for x in (number, offset, length, time, page))
        by_kind = np.argsort(number, kind="stable")
        ends = np.cumsum(counts[present]).tolist()
        parts = [(self.kinds[n], by_kind[end - counts[n] : end]) for n, end in zip(present, ends, strict=True)]
        self.room -= sum(kind.cost(part, length) for kind, part in parts)
        if self.room < 0:
            self.box.warn(
                "bomb", f"{self.box.path}: its events are over {HELD_RATIO} times its size; the rest is left out"
            )
            return False
        self.pids.extend(flat.view("<i4").take((offset + self.pid_at) >> 2))
        reach = max([0, *(kind.end for kind, _ in parts)])
        if offset.size and int(offset.max()) + reach > flat.size:
            # An event that is shorter than its format may be the last on the last page.
            flat = np.concatenate([flat, np.zeros(reach, np.uint8)])
        for kind, part in parts:
            kind.rows.extend(part + self.rows)
            _take(kind, flat, offset.take(part), length.take(part))
        source = origin.take(page)
        self.times.extend(self._held_up(time, source))
        self.cpus.extend(self.cpu_of.take(source))
        self.rows += number.size
        return True

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
        fixed = [f for f in layout.fields if f.size]
        begin, end = min([f.offset for f in fixed], default=0), max([f.offset + f.size for f in fixed], default=1)
        slices = {f.name: _Growing(object) for f in layout.fields if f.kind in SLICED}
        each = EVENT_BYTES + end - begin + len(slices) * SLICE_BYTES + sum(f.size for f in layout.fields)
        rows, block = _Growing(np.int64), _Growing(f"V{end - begin}")
        self.kinds[number] = _Kind(layout, begin, end, each, len(slices), rows, block, slices)
        return True

    def _held_up(self, time: Ints, source: Ints) -> Ints:
        """The times, but none before one recorded earlier in the same buffer, even if the clock stepped back."""
        begins = np.flatnonzero(np.diff(source, prepend=-1)).tolist()
        for begin, end in zip(begins, [*begins, source.size][1:], strict=True):
            part, newest = time[begin:end], self.newest.get(int(source[begin]), int(time[begin]))
            if part[0] < newest or (part[1:] < part[:-1]).any():
                part[0] = max(part[0], newest)
                np.maximum.accumulate(part, out=part)
            self.newest[int(source[begin])] = int(part[-1])
        return time

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
        """Merge all CPUs by time (equal times by CPU, as ``trace-cmd report`` does), and make each kind's columns."""
        time, cpu, pid = self.times.array, self.cpus.array, self.pids.array
        place = np.empty(time.size, np.int64)
        place[np.argsort(time, kind="stable")] = np.arange(time.size)
        for number in list(self.kinds):
            kind = self.kinds.pop(number)
            if not kind.rows.size:
                continue
            name = kind.layout.name
            if kind.short:
                self.box.warn(
                    "missing", f"{self.box.path}: {kind.short} events of {shown(name)} are shorter than their format; "
                    "missing bytes read as 0",
                )  # fmt: skip
            row = kind.rows.array
            sort = np.argsort(place.take(row), kind="stable")
            row = row.take(sort)
            trace.events[name] = Events(
                name, place.take(row), time.take(row), cpu.take(row), pid.take(row), _columns(kind, sort)
            )


def _take(kind: _Kind, flat: NDArray[np.uint8], offset: Ints, length: Ints) -> None:
    """Copy the fields' bytes of some events of a kind out of their pages."""
    span = kind.end - kind.begin
    short = length < kind.end
    if short.any():
        kind.short += int(short.sum())
    source = np.ndarray((flat.size - span + 1,), f"V{span}", flat.data, strides=(1,))
    step = max(1, BLOCK_BYTES // span)
    for first in range(0, offset.size, step):
        block = source[offset[first : first + step] + kind.begin]
        lacking = np.flatnonzero(short[first : first + step])
        if lacking.size:  # what an event lacks of its format reads as zero, not as its neighbour
            there = np.arange(kind.begin, kind.end) < length[first : first + step][lacking, None]
            block.view(np.uint8).reshape(-1, span)[lacking] *= there
        kind.block.extend(block)
    for f in kind.layout.fields:
        if f.kind in SLICED:
            kind.slices[f.name].extend(_slices(f, flat, offset, length))


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


def _columns(kind: _Kind, sort: Ints) -> dict[str, Array]:
    """The columns of a kind from all that was taken, which is given up."""
    span = kind.end - kind.begin
    block = kind.block.array.take(sort)
    columns = {}
    for f in kind.layout.fields:
        if f.kind in SLICED:
            columns[f.name] = kind.slices[f.name].array[sort]
        else:
            dtype = f.dtype or f"V{f.size}"
            columns[f.name] = np.ndarray((sort.size,), dtype, block.data, f.offset - kind.begin, (span,)).copy()
    return columns


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
