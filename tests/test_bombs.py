"""A small file cannot take much memory or time: what it holds when decompressed, and what is made of it, is bounded.

Each bomb is a file of at most 1 MB that claims, or really holds, a thousand times as much. Reading it takes less than
1 GB of memory and a minute, and gives a trace with a warning or an InputError.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from shootdown.trace.compression import PIECE_MAX
from shootdown.trace.container import OPTIONS, SECTION_MAX

from .corpus import SAMPLE
from .damaged import FORMAT, make, one, with_buffers
from .datfile import Recording, event, event_format, extend, header_page, page, record
from .grow import grow
from .peak import measure

MEGABYTE = 1 << 20
MEMORY_MAX = 1000 * MEGABYTE

CHUNKS = 60
"""Chunks of the largest size that there may be; the reader gives up before it has seen all."""


def repeated(data: bytes, algorithm: str = "zstd") -> bytes:
    """``PIECE_MAX`` bytes of this, as small as it gets."""
    whole = (data * (PIECE_MAX // len(data) + 1))[:PIECE_MAX]
    return zstandard.ZstdCompressor(level=19).compress(whole) if algorithm == "zstd" else zlib.compress(whole, 9)


def chunked(recording: Recording, piece: bytes, cpus: int = 1, chunks: int = CHUNKS, size: int = PIECE_MAX) -> bytes:
    """The file of a recording with its data replaced: ``cpus`` CPUs that share ``chunks`` compressed pieces."""
    data, places = make(recording)
    start = places["cpu0"]
    body = struct.pack("<I", chunks) + (struct.pack("<II", len(piece), size) + piece) * chunks
    pointer = struct.pack("<Q", places["OPTIONS"])
    head = data[:start].replace(pointer, struct.pack("<Q", start + len(body)), 1)
    moved = {**places, "OPTIONS": start + len(body)}
    cpus_data = [(cpu, start, len(body)) for cpu in range(cpus)]
    return with_buffers(head + body + data[places["OPTIONS"] :], moved, (recording.page_size, cpus_data))


def with_fields(fields: list[str], data: bytes, page_size: int = 4096) -> bytes:
    """Pages full of the smallest events that hold ``data``, of a kind with these fields."""
    single = event(0, record(1000, 5, data))
    events = single * ((page_size - 16) // len(single))
    recording = one(
        compression="zstd",
        page_size=page_size,
        header_page=header_page(page_size),
        systems=[("kvm", [event_format("e", 1000, fields)])],
        cpus={0: [page(5, events, page_size=page_size)]},
    )
    return chunked(recording, repeated(page(5, events, page_size=page_size)))


def many_kinds() -> bytes:
    """Tens of thousands of kinds, an event of each in turn."""
    numbers = range(50000)
    formats = [FORMAT, *(f"name: e{number}\nID: {number}\nfield:u8 a;\toffset:8;\tsize:1;" for number in numbers)]
    pages = [page(5, b"".join(event(0, record(n, 5)) for n in numbers[k : k + 340])) for k in numbers[::340]]
    return chunked(one(compression="zstd", systems=[("kvm", formats)]), repeated(b"".join(pages)))


def section(name: str, content: bytes) -> bytes:
    """A file with a section of metadata that holds this when decompressed."""
    data, places = make(one(compression="zstd"))
    small = zstandard.ZstdCompressor(level=3).compress(content)
    extra = (
        struct.pack("<HHIQ", OPTIONS.index(name), 1, 0, len(small) + 8)
        + struct.pack("<II", len(small), len(content))
        + small
    )
    pointer = struct.pack("<HIQ", OPTIONS.index(name), 8, places[name])
    assert data.count(pointer) == 1
    return data.replace(pointer, struct.pack("<HIQ", OPTIONS.index(name), 8, len(data))) + extra


def options(content: bytes, sections: int) -> bytes:
    """A file whose options go on in ``sections`` compressed sections that hold this, one after the other."""
    data, _ = make(one(compression="zstd"))
    found, slot = bytearray(data), 8192
    found[-8:] = struct.pack("<Q", len(data))
    for number in range(sections):
        following = len(found) + slot if number + 1 < sections else 0
        whole = content + struct.pack("<HIQ", 0, 8, following)
        small = zstandard.ZstdCompressor(level=3).compress(whole)
        head = struct.pack("<HHIQ", 0, 1, 0, len(small) + 8) + struct.pack("<II", len(small), len(whole))
        found += (head + small).ljust(slot, b"\0")
    return bytes(found)


def sized(text: str, count: int) -> bytes:
    """A section of one system with ``count`` times the same event format."""
    return (
        struct.pack("<I", 1)
        + b"kvm\0"
        + struct.pack("<I", count)
        + (struct.pack("<Q", len(text)) + text.encode()) * count
    )


def shared_by_cpus(version: int) -> bytes:
    """Tens of thousands of CPUs that share the same pages."""
    pages = page(5, event(0, record(1000, 5, bytes(12))) * 160) * 100
    if version == 7:
        return chunked(one(compression="zstd"), zstandard.ZstdCompressor().compress(pages), 30000, 20, len(pages))
    data, places = make(one(version=6, cpus={cpu: [pages] if cpu == 0 else [] for cpu in range(30000)}))
    table = struct.pack("<QQ", places["cpu0"], len(pages)) * 30000
    at = places["BUFFER"] + len("flyrecord\0")
    return data[:at] + table + data[at + len(table) :]


EVENTS = page(5, event(0, record(1000, 5)) * 340)
TINY = one(compression="zstd", cpus={0: [EVENTS]})

BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd: empty pages": lambda: chunked(TINY, repeated(bytes(4096))),
    "zlib: empty pages": lambda: chunked(one(compression="zlib"), repeated(bytes(4096), "zlib")),
    "zstd: more than it claims": lambda: chunked(TINY, repeated(bytes(4096)), size=4096),
    "zlib: more than it claims": lambda: chunked(one(compression="zlib"), repeated(bytes(4096), "zlib"), size=4096),
    "zstd: small chunks": lambda: chunked(TINY, zstandard.ZstdCompressor().compress(EVENTS), 1, 8000, 4096),
    "zstd: nothing in chunks": lambda: chunked(TINY, zstandard.ZstdCompressor().compress(b""), 20000, 20000, 0),
    "many CPUs with the same chunks": lambda: shared_by_cpus(7),
    "many CPUs with the same pages": lambda: shared_by_cpus(6),
    "events of nothing": lambda: chunked(TINY, repeated(EVENTS)),
    "events too short for their type": lambda: chunked(TINY, repeated(page(5, event(0, b"1234") * 510))),
    "times": lambda: chunked(TINY, repeated(page(5, extend(1) * 510))),
    "damaged pages": lambda: chunked(TINY, repeated(struct.pack("<QQQ", 5, 8, 0).ljust(4096, b"\0"))),
    "pages full of lost events": lambda: chunked(TINY, repeated(page(5, event(0, record(1000, 5, bytes(12))), -1))),
    "large pages": lambda: with_fields(["u64 a:8:8:0"], bytes(8), 512 << 10),
    "large pages of nothing": lambda: with_fields([], b"", 512 << 10),
    "one field": lambda: with_fields(["u32 a:8:4:0"], bytes(4)),
    "a field beyond the event": lambda: with_fields(["u64 a:65528:8:0"], b""),
    "a long field beyond the event": lambda: with_fields(["char a[65528]:8:65528:0"], b""),
    "fields on top of each other": lambda: with_fields([f"u64 f{i}:8:8:0" for i in range(1000)], bytes(8)),
    "long fields on top of each other": lambda: with_fields([f"u8 f{i}[60000]:8:60000:0" for i in range(1000)], b""),
    "strings all over the event": lambda: with_fields(
        [f"__data_loc char[] f{i}:8:4:0" for i in range(1000)], struct.pack("<HH", 0, 4000) + bytes(3000)
    ),
    "empty strings": lambda: with_fields([f"__data_loc char[] f{i}:8:4:0" for i in range(1000)], bytes(4)),
    "ends of the event": lambda: with_fields([f"char f{i}[]:8:0:0" for i in range(1000)], bytes(4000)),
    "many kinds": many_kinds,
    "formats of nothing": lambda: section("EVENT_FORMATS", bytes(SECTION_MAX)),
    "empty formats": lambda: section(
        "EVENT_FORMATS", struct.pack("<I", 1) + b"k\0\xff\xff\xff\xff" + bytes(SECTION_MAX - 10)
    ),
    "the same format again": lambda: section("EVENT_FORMATS", sized(FORMAT, 40000)),
    "a format of fields": lambda: section(
        "EVENT_FORMATS", sized(FORMAT + "field:u8 a;\toffset:8;\tsize:1;\tsigned:0;\n" * 390000, 1)
    ),
    "a format of beginnings": lambda: section("EVENT_FORMATS", sized(FORMAT + "field:" * 2700000, 1)),
    "a format of names": lambda: section("EVENT_FORMATS", sized("name: a\nID: x\n" * 1000000 + FORMAT, 1)),
    "a format of digits": lambda: section("EVENT_FORMATS", sized(FORMAT.replace("1000", "1" * 16000000), 1)),
    "a page's layout of fields": lambda: section(
        "HEADER_INFO",
        b"header_page\0" + struct.pack("<Q", 16000000) + (b"\tfield: a b;\toffset:0;\tsize:8;\n" * 600000)[:16000000],
    ),
    "task names": lambda: section("CMDLINES", _names()),
    "task names of nothing": lambda: section("CMDLINES", struct.pack("<Q", 16000000) + b"\n" * 16000000),
    "options of nothing": lambda: options(bytes([99, 0, 0, 0, 0, 0]) * 2700000, 1),
    "long options": lambda: options(struct.pack("<HI", 99, 16000000) + bytes(16000000), 100),
    "a clock of brackets": lambda: options(struct.pack("<HI", 4, 16000000) + b"[" * 16000000, 1),
    "counters": lambda: options(struct.pack("<HI", 2, 11000000) + b"overrun: 1\n" * 1000000, 10),
}


def _names() -> bytes:
    text = "".join(f"{pid} a\n" for pid in range(1700000))[:15900000].encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_a_megabyte_takes_less_than_a_gigabyte(bomb: str, tmp_path: Path) -> None:
    """Whatever a file of 1 MB claims or holds, reading it takes less than 1 GB and ends."""
    path = tmp_path / "bomb.dat"
    data = BOMBS[bomb]()
    assert len(data) <= MEGABYTE
    path.write_bytes(data.ljust(MEGABYTE, b"\0"))
    found = measure(path)
    assert found["peak"] < MEMORY_MAX, found
    assert len(found["warnings"]) < 40
    assert found["result"] == "read" or re.fullmatch(r".*bomb\.dat: offset \d+: .+", found["result"])


@pytest.mark.slow
def test_a_small_kind_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """Events are read as they come: without their columns, millions of them take no more than 300 MB."""
    path = tmp_path / "large.dat"
    count = grow(SAMPLE, path, 6_000_000)
    assert path.stat().st_size > 250 * MEGABYTE
    found = measure(path, "kvmmmu:kvm_mmu_split_huge_page")
    path.unlink()
    assert found["total"] == count and found["warnings"] == []
    assert 0 < found["columns"] < MEGABYTE
    assert found["peak"] - found["columns"] < 300 * MEGABYTE, found
