"""trace.dat versions 6 and 7: where the sections, options, event formats and ring-buffer pages of a recording lie.

Source: the manual pages trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5) of trace-cmd.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import InputError, reason
from .compression import ALGORITHMS, decompress
from .formats import shown

MAGIC = b"\x17\x08\x44tracing"
META_MAX = 64 << 20
"""Bytes of metadata of version 6, all symbols of the kernel included."""
SECTION_MAX, SECTIONS_MAX = 16 << 20, 32 << 20
"""Decompressed bytes of one section of metadata, and of all together; the formats of all events take 3 MiB."""
OPTIONS_MAX, FORMATS_MAX, CPUS_MAX = 1 << 16, 1 << 16, 1 << 15
PAGE_MIN, PAGE_MAX = 4096, 512 << 10
"""Bytes of a ring-buffer page: the kernel makes them of at most 128 of its own pages."""
WARNINGS_MAX = 3
"""Lines of warning of one cause; the rest are counted."""

OPTIONS = (
    "DONE DATE CPUSTAT BUFFER TRACECLOCK UNAME HOOK OFFSET CPUCOUNT VERSION PROCMAPS TRACEID TIME_SHIFT GUEST TSC2NSEC "
    "STRINGS HEADER_INFO FTRACE_EVENTS EVENT_FORMATS KALLSYMS PRINTK CMDLINES BUFFER_TEXT"
).split()
"""Names of the options by their number."""

COMPRESSED = 1
AGAIN = "copy or record the file again"


@dataclass(slots=True)
class CpuData:
    """Ring-buffer pages of one CPU: ``size`` bytes of the file from ``offset``, in compressed chunks or plain."""

    cpu: int
    offset: int
    size: int
    page_size: int
    compressed: bool


@dataclass(slots=True)
class Container:
    """An opened trace.dat: everything but the events, and where the pages with the events are.

    options   (number, data) in the order of the file, those that point to sections included
    formats   (system, text of the event's format file), "ftrace" for ftrace's own events
    places    offsets of the sections that were read, by name
    data      pages by CPU, of all buffers
    read_of_data  bytes of them that were read so far
    """

    path: str
    file: int
    size: int
    version: int = 0
    page_size: int = 4096
    compression: str = "none"
    header_page: str = ""
    options: list[tuple[int, bytes]] = field(default_factory=list)
    formats: list[tuple[str, str]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    cmdlines: str = ""
    clock: str = ""
    cpus: int = 0
    data: list[CpuData] = field(default_factory=list)
    sections_left: int = SECTIONS_MAX
    read_of_data: int = 0
    warned: dict[str, list[str]] = field(default_factory=dict)
    more: Counter[str] = field(default_factory=Counter)

    def warn(self, cause: str, line: str) -> None:
        """Note a line of warning; of many with the same cause the first few are kept."""
        lines = self.warned.setdefault(cause, [])
        if len(lines) < WARNINGS_MAX:
            lines.append(line)
        else:
            self.more[cause] += 1

    def warnings(self) -> list[str]:
        """All lines of warning, cause by cause."""
        found = []
        for cause, lines in self.warned.items():
            found += lines
            if self.more[cause]:
                found.append(f"{self.path}: and {self.more[cause]} more like the last")
        return found

    @property
    def share_read(self) -> float:
        """Which part of the pages was read so far, from 0 to 1."""
        return min(1.0, self.read_of_data / max(1, sum(data.size for data in self.data)))

    def option(self, name: str) -> list[bytes]:
        """Data of every option of that name."""
        number = OPTIONS.index(name)
        return [data for n, data in self.options if n == number]

    def text(self, name: str) -> str:
        """The first option of that name as text of at most 1000 characters, "" if there is none."""
        found = self.option(name)
        return found[0][:1000].split(b"\0")[0].decode(errors="replace") if found else ""

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes at ``offset``, else InputError."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _ends("the file", max(0, self.size - offset), size, self.path, min(offset, self.size))
        data = _pread(self.path, self.file, size, offset)
        if len(data) != size:
            raise InputError("could not be read to its end", path=self.path, offset=offset + len(data))
        return data

    def pages(self, data: CpuData, piece: int = 4 << 20) -> Iterator[bytes]:
        """The pages of a CPU, decompressed, in pieces of ``piece`` bytes or as the file has them.

        Stops with a warning where the file is damaged.
        """
        try:
            yield from self._chunks(data) if data.compressed else self._plain(data, piece)
        except InputError as error:
            self.warn("data", f"{error}; the rest of CPU {data.cpu} is left out")

    def _plain(self, data: CpuData, piece: int) -> Iterator[bytes]:
        end = min(data.offset + data.size, self.size)
        for at in range(data.offset, end, piece):
            self.read_of_data += min(piece, end - at)
            yield self.read(at, min(piece, end - at))
        if end < data.offset + data.size:
            raise InputError(f"the data of CPU {data.cpu} is cut short", path=self.path, offset=self.size)

    def _chunks(self, data: CpuData) -> Iterator[bytes]:
        at, end = data.offset, data.offset + data.size
        (chunks,) = struct.unpack("<I", self.read(at, 4))
        at += 4
        for _ in range(chunks):
            if at >= end:
                raise InputError(f"{chunks} chunks do not fit into CPU {data.cpu}'s data", path=self.path, offset=at)
            packed, size = struct.unpack("<II", self.read(at, 8))
            self.read_of_data += 8 + packed
            yield decompress(self.compression, self.read(at + 8, packed), size, self.path, at)
            at += 8 + packed


def _ends(what: str, there: int, wanted: int, path: str, offset: int) -> InputError:
    """What is read ends before it should."""
    text = f"cut short or damaged: {what} has {there} of {wanted} bytes here"
    return InputError(text, path=path, offset=offset, advice=AGAIN)


class Cursor:
    """Reads one field after the other from bytes; running out of them is an InputError that names the file's offset.

    ``base`` is where the bytes are in the file; what was decompressed is all there.
    """

    def __init__(self, data: bytes, path: str, base: int, what: str, packed: bool = False) -> None:
        self.data, self.path, self.base, self.what, self.packed, self.at = data, path, base, what, packed, 0

    @property
    def offset(self) -> int:
        """Where in the file the next field is."""
        return self.base if self.packed else self.base + self.at

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if self.at + size > len(self.data):
            raise _ends(self.what, len(self.data) - self.at, size, self.path, self.offset)
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """The next unsigned little-endian number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def string(self) -> str:
        """The next string, up to its NUL."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            self.take(len(self.data) - self.at + 1)
        return (self.take(end + 1 - self.at))[:-1].decode(errors="replace")

    def text(self) -> str:
        """The next text, after its length in 8 bytes."""
        return self.take(self.number(8)).decode(errors="replace")

    def done(self) -> bool:
        """Is nothing left?"""
        return self.at >= len(self.data)


def is_trace_dat(head: bytes) -> bool:
    """Does a file that begins so claim to be a trace.dat?"""
    return head.startswith(MAGIC)


def open_container(path: str, file: int) -> Container:
    """Read all metadata of the trace.dat open as ``file`` (a descriptor that can seek; it stays open)."""
    box = Container(path, file, os.fstat(file).st_size)
    head = Cursor(_pread(path, file, 4096, 0), path, 0, "the file header")
    if not is_trace_dat(head.data):
        raise InputError("not a trace.dat", path=path, offset=0, advice="give a file that trace-cmd record wrote")
    head.take(len(MAGIC))
    version = head.string()
    if version not in ("6", "7"):
        raise InputError(
            f"trace.dat version {shown(version)} is not known (6 and 7 are)", path=path, offset=len(MAGIC),
            advice="record with --file-version 7",
        )  # fmt: skip
    box.version = int(version)
    if head.number(1) != 0:
        raise InputError(
            "recorded on a big-endian machine; KVM x86 traces are little-endian", path=path, offset=head.at - 1
        )
    head.number(1)
    box.page_size = _page_size(head)
    if box.version == 7:
        at = head.at
        box.compression = head.string()
        if box.compression not in ALGORITHMS:
            raise InputError(
                f"compression {shown(box.compression)} is not known", path=path, offset=at,
                advice="record with --compression zstd, zlib or none",
            )  # fmt: skip
        head.string()
        _read_v7(box, head.number(8), head.at - 8)
    else:
        _read_v6(box, head.at)
    for count in box.option("CPUCOUNT"):
        box.cpus = max(box.cpus, min(int.from_bytes(count[:4], "little"), CPUS_MAX))
    if not box.header_page or not box.formats:
        raise InputError(
            "holds no event formats", path=path, offset=box.places.get("EVENT_FORMATS", head.at),
            advice="record again; the file's metadata is incomplete",
        )  # fmt: skip
    return box


def _pread(path: str, file: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(file, size, offset)
    except OSError as error:
        raise InputError(f"cannot be read ({reason(error)})", path=path, offset=offset) from None


def _page_size(cursor: Cursor) -> int:
    offset, size = cursor.offset, cursor.number(4)
    if not PAGE_MIN <= size <= PAGE_MAX or size & (size - 1):
        raise InputError(f"a page size of {size} bytes cannot be", path=cursor.path, offset=offset)
    return size


def _add_data(box: Container, data: CpuData, offset: int) -> None:
    if data.cpu >= CPUS_MAX:
        box.warn("cpu", f"{box.path}: offset {offset}: there is no CPU {data.cpu}; its data is left out")
        return
    box.cpus = max(box.cpus, data.cpu + 1)
    if data.size:
        box.data.append(data)


# ------------------------------------------------------------------------------------------------ version 7


def _section(box: Container, offset: int, name: str) -> Cursor:
    """The contents of a section that is one piece; ``name`` is which one must be there."""
    number, flags, _, size = struct.unpack("<HHIQ", box.read(offset, 16))
    if number != (0 if name == "OPTIONS" else OPTIONS.index(name)):
        raise InputError(f"section {name} is not where the file says", path=box.path, offset=offset)
    at, packed, plain = offset + 16, size, size
    if flags & COMPRESSED:
        at, packed, plain = offset + 24, *struct.unpack("<II", box.read(offset + 16, 8))
    if max(packed, plain) > min(SECTION_MAX, box.sections_left):
        raise InputError(f"section {name} of {max(packed, plain)} bytes is too long", path=box.path, offset=offset)
    box.sections_left -= plain
    data = box.read(at, packed)
    if flags & COMPRESSED:
        data = decompress(box.compression, data, plain, box.path, offset)
    box.places[name] = offset
    return Cursor(data, box.path, at, f"section {name}", packed=bool(flags & COMPRESSED))


def _read_v7(box: Container, first: int, header: int) -> None:
    seen: set[int] = set()
    offset = first
    while offset:
        try:
            if offset in seen:
                raise InputError("the options sections form a loop", path=box.path, offset=offset)
            seen.add(offset)
            offset = _options_v7(box, _section(box, offset, "OPTIONS"))
        except InputError as error:
            # What was read before the damage (a file cut at its end) may still hold events.
            if not box.data:
                raise
            box.warn("options", f"{error}; what follows is left out")
            break
    if not box.option("BUFFER"):
        raise InputError("cut short: it describes no buffer with events", path=box.path, offset=header, advice=AGAIN)
    readers = {
        "HEADER_INFO": _read_header_info,
        "FTRACE_EVENTS": _read_ftrace_formats,
        "EVENT_FORMATS": _read_formats,
        "CMDLINES": _read_cmdlines,
    }
    for name, reader in readers.items():
        for data in box.option(name)[:1]:
            try:
                reader(box, _section(box, int.from_bytes(data[:8], "little"), name))
            except InputError as error:
                if name == "HEADER_INFO":
                    raise
                box.warn("section", f"{error}; what follows in this section is left out")
    box.clock = box.clock or _chosen_clock(box.text("TRACECLOCK"))


def _options_v7(box: Container, section: Cursor) -> int:
    """Take the options of a section; the offset of the next one, 0 at the end."""
    while not section.done():
        number = section.number(2)
        size = section.number(4)
        option = Cursor(b"", box.path, section.offset, "an option", section.packed)
        option.data = section.take(size)
        if number == 0:
            return option.number(8) if size >= 8 else 0
        if len(box.options) == OPTIONS_MAX:
            raise InputError(f"has more than {OPTIONS_MAX} options", path=box.path, offset=option.offset)
        box.options.append((number, option.data))
        if OPTIONS[number : number + 1] == ["BUFFER"]:
            _buffer_v7(box, option)
    return 0


def _buffer_v7(box: Container, option: Cursor) -> None:
    offset = option.number(8)
    option.string()
    clock = option.string()
    box.clock = box.clock or clock
    page_size = _page_size(option)
    _, flags, _, _ = struct.unpack("<HHIQ", box.read(offset, 16))
    for _ in range(option.number(4)):
        at = option.offset
        cpu, start, size = option.number(4), option.number(8), option.number(8)
        _add_data(box, CpuData(cpu, start, size, page_size, bool(flags & COMPRESSED)), at)


def _read_header_info(box: Container, section: Cursor) -> None:
    box.places["header_page"] = section.offset
    section.take(len("header_page\0"))
    box.header_page = section.text()


def _read_ftrace_formats(box: Container, section: Cursor) -> None:
    for _ in range(section.number(4)):
        _add_format(box, section, "ftrace")


def _read_formats(box: Container, section: Cursor) -> None:
    box.places["EVENT_FORMATS"] = section.offset
    for _ in range(section.number(4)):
        system = section.string()
        for _ in range(section.number(4)):
            _add_format(box, section, system)


def _add_format(box: Container, section: Cursor, system: str) -> None:
    if len(box.formats) == FORMATS_MAX:
        raise InputError(f"has more than {FORMATS_MAX} event formats", path=box.path, offset=section.offset)
    box.formats.append((system, section.text()))


def _read_cmdlines(box: Container, section: Cursor) -> None:
    box.cmdlines = section.text()


def _chosen_clock(text: str) -> str:
    """The clock in brackets of a trace_clock file ("[local] global counter"); a bare word is that clock."""
    found = re.search(r"\[([^\[\]]+)\]", text)
    return found.group(1) if found else text.strip() if text.strip() and " " not in text.strip() else ""


# ------------------------------------------------------------------------------------------------ version 6


def _read_v6(box: Container, at: int) -> None:
    meta = Cursor(box.read(at, min(box.size - at, META_MAX)), box.path, at, "the metadata")
    _read_header_info(box, meta)
    meta.take(len("header_event\0"))
    meta.take(meta.number(8))
    _read_ftrace_formats(box, meta)
    _read_formats(box, meta)
    meta.take(meta.number(4))  # kallsyms
    meta.take(meta.number(4))  # printk formats
    _read_cmdlines(box, meta)
    cpus = meta.number(4)
    kind = meta.take(10)
    if kind == b"options  \0":
        while (number := meta.number(2)) != 0:
            if len(box.options) == OPTIONS_MAX:
                raise InputError(f"has more than {OPTIONS_MAX} options", path=box.path, offset=meta.offset)
            box.options.append((number, meta.take(meta.number(4))))
        kind = meta.take(10)
    if kind != b"flyrecord\0":
        raise InputError(
            f"holds {'latency text' if kind == b'latency  ' + bytes(1) else 'neither events nor text'}, not events",
            path=box.path,
            offset=meta.offset - 10,
            advice="record with trace-cmd record",
        )
    for cpu in range(cpus):
        offset, size = meta.number(8), meta.number(8)
        _add_data(box, CpuData(cpu, offset, size, box.page_size, False), meta.offset - 16)
    if box.option("TRACECLOCK"):
        box.clock = _chosen_clock(meta.text()[:1000])
    if box.option("BUFFER"):
        box.warn("instance", f"{box.path}: buffers of further instances are not read (version 6)")
