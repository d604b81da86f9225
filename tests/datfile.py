"""Writes trace.dat files of versions 6 and 7, honest and dishonest ones, for the tests of the reader.

Source: the manual pages trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5), and for the pages kernel/trace/ring_buffer.c.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import zstandard

from shootdown.trace.container import MAGIC, OPTIONS

COMMON = (
    "unsigned short common_type:2",
    "unsigned char common_flags:1",
    "unsigned char common_preempt_count:1",
    "int common_pid:4:1",
)


def header_page(page_size: int = 4096) -> str:
    """The file events/header_page of a 64-bit kernel."""
    return (
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
        "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
        "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
        f"\tfield: char data;\toffset:16;\tsize:{page_size - 16};\tsigned:0;\n"
    )


def event_format(name: str, number: int, fields: Sequence[str], show: str = '""') -> str:
    """An event's format file; a field is ``declaration:offset:size:signed``, the common ones are put before them."""
    lines = [f"name: {name}", f"ID: {number}", "format:"]
    at = 0
    for text in COMMON:
        declaration, size, *signed = text.split(":")
        lines.append(f"\tfield:{declaration};\toffset:{at};\tsize:{size};\tsigned:{len(signed)};")
        at += int(size)
    lines.append("")
    for text in fields:
        declaration, offset, size, is_signed = text.split(":")
        lines.append(f"\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{is_signed};")
    return "\n".join([*lines, "", f"print fmt: {show}", ""])


def record(number: int, pid: int, fields: bytes = b"", flags: int = 0) -> bytes:
    """The data of one event: the fields that all share, then its own."""
    return struct.pack("<HBBi", number, flags, 0, pid) + fields


def event(delta: int, data: bytes) -> bytes:
    """An event in the ring buffer, ``delta`` (27 bits) after the one before it."""
    data += bytes(-len(data) % 4)
    if 0 < len(data) <= 28 * 4:
        return struct.pack("<I", delta << 5 | len(data) // 4) + data
    return struct.pack("<II", delta << 5, len(data) + 4) + data


def extend(delta: int) -> bytes:
    """A TIME_EXTEND: ``delta`` (59 bits) more than 27 bits can say."""
    return struct.pack("<II", (delta & (1 << 27) - 1) << 5 | 30, delta >> 27)


def absolute(time: int) -> bytes:
    """A TIME_STAMP: the time itself, but for its upper 5 bits."""
    return struct.pack("<II", (time & (1 << 27) - 1) << 5 | 31, time >> 27 & 0xFFFFFFFF)


def discarded(delta: int, size: int) -> bytes:
    """An event that the kernel threw away after it was reserved: padding with a delta."""
    return struct.pack("<II", delta << 5 | 29, size + 4) + bytes(size)


def page(stamp: int, events: bytes, missed: int = 0, page_size: int = 4096) -> bytes:
    """A ring-buffer page; ``missed`` events were dropped before it, -1 if unknown."""
    commit = len(events) | (0 if not missed else 1 << 31 if missed < 0 else 3 << 30)
    whole = struct.pack("<QQ", stamp, commit) + events + (struct.pack("<Q", missed) if missed > 0 else b"")
    assert len(whole) <= page_size
    return whole + bytes(page_size - len(whole))


@dataclass(slots=True)
class Recording:
    """What a trace.dat holds; ``cpus`` has for every CPU its pages in pieces, each of which becomes a chunk."""

    version: int = 7
    compression: str = "none"
    page_size: int = 4096
    header_page: str = header_page()
    ftrace: Sequence[str] = ()
    systems: Sequence[tuple[str, Sequence[str]]] = ()
    cmdlines: str = ""
    options: Sequence[tuple[int, bytes]] = ()
    clock: str = "local"
    cpus: Mapping[int, Iterable[bytes]] = field(default_factory=dict, repr=False)


def write(path: Path, what: Recording) -> dict[str, int]:
    """Write the file; the offsets of its parts by name ("EVENT_FORMATS", "BUFFER", "cpu0", ...)."""
    with path.open("wb") as out:
        out.write(MAGIC + b"%d\0" % what.version + b"\0\x08" + struct.pack("<I", what.page_size))
        return _write_v7(out, what) if what.version == 7 else _write_v6(out, what)


def pack(algorithm: str, data: bytes) -> bytes:
    """Compressed data."""
    if algorithm == "zlib":
        return zlib.compress(data, 6)
    return zstandard.ZstdCompressor(level=3).compress(data)


def _sized(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _parts(what: Recording) -> dict[str, bytes]:
    """The metadata, the same in both versions but for what is around each part."""
    systems = b"".join(
        name.encode() + b"\0" + struct.pack("<I", len(formats)) + b"".join(map(_sized, formats))
        for name, formats in what.systems
    )
    return {
        "HEADER_INFO": b"header_page\0" + _sized(what.header_page) + b"header_event\0" + _sized("\n"),
        "FTRACE_EVENTS": struct.pack("<I", len(what.ftrace)) + b"".join(map(_sized, what.ftrace)),
        "EVENT_FORMATS": struct.pack("<I", len(what.systems)) + systems,
        "KALLSYMS": struct.pack("<I", 0),
        "PRINTK": struct.pack("<I", 0),
        "CMDLINES": _sized(what.cmdlines),
    }


def _option(name_or_number: str | int, data: bytes) -> bytes:
    number = OPTIONS.index(name_or_number) if isinstance(name_or_number, str) else name_or_number
    return struct.pack("<HI", number, len(data)) + data


def _align(out: BinaryIO, size: int) -> None:
    out.write(bytes(-out.tell() % size))


def _write_v6(out: BinaryIO, what: Recording) -> dict[str, int]:
    places = {}
    for name, data in _parts(what).items():
        places[name] = out.tell()
        out.write(data)
    clock = what.clock.encode()
    places["CPUCOUNT"] = out.tell()
    out.write(struct.pack("<I", max(what.cpus, default=-1) + 1))
    places["OPTIONS"] = out.tell()
    options = [*what.options, (OPTIONS.index("TRACECLOCK"), b"")]
    out.write(b"options  \0" + b"".join(_option(n, d) for n, d in options) + bytes(2))
    places["BUFFER"] = out.tell()
    out.write(b"flyrecord\0")
    table = out.tell()
    out.write(bytes(16 * (max(what.cpus, default=-1) + 1)) + struct.pack("<Q", len(clock)) + clock)
    for cpu, pieces in what.cpus.items():
        _align(out, what.page_size)
        places[f"cpu{cpu}"] = begin = out.tell()
        out.writelines(pieces)
        end = out.tell()
        out.seek(table + 16 * cpu)
        out.write(struct.pack("<QQ", begin, end - begin))
        out.seek(end)
    return places


def _write_v7(out: BinaryIO, what: Recording) -> dict[str, int]:
    packed = what.compression != "none"
    out.write(what.compression.encode() + b"\0" + (b"1\0" if packed else b"\0"))
    first = out.tell()
    out.write(bytes(8))
    places, options = {}, b""
    for name, data in _parts(what).items():
        places[name] = out.tell()
        if packed:
            small = pack(what.compression, data)
            out.write(struct.pack("<HHIQ", OPTIONS.index(name), 1, 0, len(small) + 8))
            out.write(struct.pack("<II", len(small), len(data)) + small)
        else:
            out.write(struct.pack("<HHIQ", OPTIONS.index(name), 0, 0, len(data)) + data)
        options += _option(name, struct.pack("<Q", places[name]))
    options += b"".join(_option(n, d) for n, d in what.options)
    places["BUFFER"] = out.tell()
    out.write(struct.pack("<HHIQ", OPTIONS.index("BUFFER"), int(packed), 0, 0))
    table = b""
    for cpu, pieces in what.cpus.items():
        _align(out, what.page_size)
        places[f"cpu{cpu}"] = begin = out.tell()
        if packed:
            _chunks(out, what.compression, pieces)
        else:
            out.writelines(pieces)
        table += struct.pack("<IQQ", cpu, begin, out.tell() - begin)
    places["OPTIONS"] = end = out.tell()
    out.seek(places["BUFFER"] + 8)
    out.write(struct.pack("<Q", end - places["BUFFER"] - 16))
    out.seek(first)
    out.write(struct.pack("<Q", end))
    out.seek(end)
    clock = b"\0" + what.clock.encode() + b"\0"
    head = struct.pack("<Q", places["BUFFER"]) + clock + struct.pack("<II", what.page_size, len(what.cpus))
    options += _option("BUFFER", head + table) + _option("DONE", bytes(8))
    out.write(struct.pack("<HHIQ", 0, 0, 0, len(options)) + options)
    return places


def _chunks(out: BinaryIO, algorithm: str, pieces: Iterable[bytes]) -> None:
    at = out.tell()
    out.write(bytes(4))
    count = 0
    for piece in pieces:
        small = pack(algorithm, piece)
        out.write(struct.pack("<II", len(small), len(piece)) + small)
        count += 1
    end = out.tell()
    out.seek(at)
    out.write(struct.pack("<I", count))
    out.seek(end)
