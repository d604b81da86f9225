"""Bad input gives an InputError in one line, or a trace with warnings: no other exception, no flood, no hang.

What is read of a damaged file is consistent: columns of one length, in order, no more events than were counted.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shootdown.errors import InputError
from shootdown.trace.container import MAGIC
from shootdown.trace.decode import read_trace_dat
from shootdown.trace.events import Trace
from shootdown.trace.formats import PageLayout
from shootdown.trace.read import read_trace
from shootdown.trace.ring import walk

from . import corpus
from .damaged import make, read
from .datfile import absolute, discarded, event, extend, page, record
from .grow import unpacked

# What is no recording


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """An empty file is named as such."""
    path = tmp_path / "empty.dat"
    path.touch()
    with pytest.raises(InputError, match=r"empty\.dat: is empty"):
        read_trace(str(path))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory is an InputError that names it, whether it is opened by name or handed over open."""
    with pytest.raises(InputError, match="is a directory"):
        read_trace(str(tmp_path))
    file = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InputError, match=f"{tmp_path}: offset 0: cannot be read .is a directory"):
        read_trace_dat(str(tmp_path), file)
    os.close(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is an InputError that names it."""
    with pytest.raises(InputError, match=r"none\.dat: no such file"):
        read_trace(str(tmp_path / "none.dat"))


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A file that may not be read is an InputError that names it."""
    path = tmp_path / "secret.dat"
    path.write_bytes(MAGIC)
    path.chmod(0)
    with _unprivileged(), pytest.raises(InputError, match=r"secret\.dat: permission denied"):
        read_trace(str(path))


@contextmanager
def _unprivileged() -> Iterator[None]:
    """As the user nobody, if the tests run as root, who may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\x17\x08\x44trac1ng7\0", "not a trace.dat"),
        (b"PERFILE2" + bytes(100), "not a trace.dat"),
        (MAGIC, "cut short"),
        (MAGIC + b"7", "cut short"),
        (MAGIC + b"5\0", "version '5' is not known"),
        (MAGIC + b"\x1b[31m\n77777777\0", r"version '\x1b[31m\n77777777' is not known"),
        (MAGIC + b"7\0\x01\x08\0\0\x10\0zstd\0", "big-endian"),
        (MAGIC + b"7\0\0\x08\0\0\0\0none\0\0" + bytes(8), "page size of 0 bytes"),
        (MAGIC + b"7\0\0\x08\0\0\x01\x10none\0\0" + bytes(8), "page size of 268500992 bytes"),
        (MAGIC + b"7\0\0\x08\x01\x10\0\0none\0\0" + bytes(8), "page size of 4097 bytes"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0lzo\0001\0" + bytes(8), "compression 'lzo' is not known"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0" + b"x" * 5000, "cut short"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0none\0\0" + bytes(8), "no buffer with events"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0none\0\0" + b"\xff" * 8, "0 of 16 bytes here"),
        (MAGIC + b"6\0\0\x08\0\x10\0\0" + bytes(8), "cut short"),
        (MAGIC + b"6\0\0\x08\0\x10\0\0header_page\0" + b"\xff" * 8, "cut short"),
    ],
)
def test_wrong_headers_are_named(head: bytes, what: str) -> None:
    """Magic, version, byte order, page size and compression that are wrong are said to be, with the offset."""
    error = read(head)
    assert isinstance(error, InputError) and what in str(error), error


# Real files, cut and changed anywhere


@cache
def small(form: str) -> tuple[bytes, dict[str, int]]:
    """A real recording of 3760 events as "v6", "v7", "v7 zlib" or "v7 zstd", and the offsets of its parts."""
    version, _, compression = form.partition(" ")
    recording, _ = unpacked(corpus.get("6.12-smm"))
    cpus = {cpu: b"".join(pieces) for cpu, pieces in recording.cpus.items()}
    recording.version, recording.compression = int(version[1:]), compression or "none"
    recording.cpus = {cpu: [data[at : at + 40960] for at in range(0, len(data), 40960)] for cpu, data in cpus.items()}
    return make(recording)


@cache
def real(name: str) -> tuple[bytes, dict[str, int]]:
    """A carried recording's file; the offsets of its parts are not known."""
    return corpus.get(name).read_bytes(), {}


FILES: dict[str, Callable[[], tuple[bytes, dict[str, int]]]] = {
    **{form: partial(small, form) for form in ("v6", "v7", "v7 zlib", "v7 zstd")},
    **{name: partial(real, name) for name in ("6.12-smm", "6.1-nxhuge", "6.1-dlp-mono-v6")},
}
each_file = pytest.mark.parametrize("name", FILES)


CUT = "cut short( or damaged)?: .*"
AGAIN = "copy or record the file again"
FUZZ = int(os.environ.get("SHOOTDOWN_FUZZ", "1"))
"""How many times the usual number of examples to try. At 1 they are the same every time, so that a change is blamed
only for what it broke; beyond they are new ones."""


def more(count: int) -> settings:
    """Settings for ``count`` examples, however long each takes."""
    return settings(
        max_examples=count * FUZZ,
        derandomize=FUZZ == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@each_file
@more(60)
@given(where=st.floats(0, 1))
def test_any_prefix_of_a_file_is_read_or_refused(name: str, where: float) -> None:
    """A file cut at any byte gives the events before the cut and a warning, or an error that says so."""
    data, _ = FILES[name]()
    whole = read(data)
    assert isinstance(whole, Trace) and whole.warnings == []
    cut = read(data[: int(where * (len(data) - 1))])
    if isinstance(cut, Trace):
        assert cut.total <= whole.total
        assert cut.warnings or cut.total == whole.total
    elif where * (len(data) - 1) >= len(MAGIC):
        assert re.fullmatch(rf"DIR/damaged.dat: offset \d+: {CUT}; {AGAIN}", str(cut)), str(cut)


@pytest.mark.parametrize("command", ["compare", "show", "replay"])
def test_each_command_says_the_same_of_a_cut_file(command: str, tmp_path: Path) -> None:
    """Which file, where, and what to do about it."""
    path = tmp_path / "cut.dat"
    path.write_bytes(small("v7")[0][:5000])
    result = subprocess.run(
        [sys.executable, "-m", "shootdown", command, str(path)], capture_output=True, check=False, text=True
    )
    said = f"shootdown: {path}: offset 5000: cut short or damaged: the file has 0 of 16 bytes here; {AGAIN}\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", said)


def test_a_cut_recording_of_version_6_gives_the_events_before_the_cut() -> None:
    """Of a file cut within its last CPU's data all whole pages are read, and a warning names the CPU."""
    data, places = small("v6")
    whole, cut = read(data), read(data[: places["cpu1"] + 10 * 4096 + 100])
    assert isinstance(whole, Trace) and isinstance(cut, Trace)
    assert cut.warnings == [
        "DIR/damaged.dat: CPU 1's data ends within a page, which is left out",
        f"DIR/damaged.dat: offset {places['cpu1'] + 10 * 4096 + 100}: the data of CPU 1 is cut short; "
        "the rest of CPU 1 is left out",
    ]
    assert 500 < cut.total < whole.total
    for name, events in cut.events.items():
        full = whole.events[name]
        for cpu in (0, 1):
            mine, its = events.cpu == cpu, full.cpu == cpu
            assert np.array_equal(events.time[mine], full.time[its][: mine.sum()])
            for field, column in events.fields.items():
                assert np.array_equal(column[mine], full.fields[field][its][: mine.sum()])


def test_a_damaged_chunk_costs_only_what_follows_it_on_its_cpu() -> None:
    """Of a CPU with a broken chunk the chunks before are read, and all of the other CPUs."""
    data, places = small("v7 zstd")
    whole = read(data)
    damaged = bytearray(data)
    at = places["cpu1"] + 4
    for _ in range(2):
        at += 8 + struct.unpack_from("<I", data, at)[0]
    damaged[at + 8 : at + 40] = bytes(32)
    found = read(bytes(damaged))
    assert isinstance(whole, Trace) and isinstance(found, Trace)
    assert re.search(rf"offset {at}: zstd data is broken .*; the rest of CPU 1 is left out", found.warnings[0])
    mine = {cpu: sum(int((e.cpu == cpu).sum()) for e in found.events.values()) for cpu in (0, 1)}
    assert mine[0] == sum(int((e.cpu == 0).sum()) for e in whole.events.values())
    assert 1000 < mine[1] < sum(int((e.cpu == 1).sum()) for e in whole.events.values())


BYTES = st.one_of(
    st.binary(min_size=1, max_size=8), st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\xff" * 4, b"\x7f\xff"])
)


@each_file
@more(80)
@given(st.lists(st.tuples(st.floats(0, 1), BYTES), min_size=1, max_size=8))
def test_bytes_changed_anywhere_are_survived(name: str, changes: list[tuple[float, bytes]]) -> None:
    """Some bytes changed anywhere in a file: it is read or refused."""
    data = bytearray(FILES[name]()[0])
    size = len(data)
    for where, content in changes:
        at = int(where * (size - 1))
        data[at : at + len(content)] = content
    read(bytes(data[:size]))


@pytest.mark.parametrize("name", ["v6", "v7", "v7 zlib", "v7 zstd"])
@more(150)
@given(st.data())
def test_bytes_changed_in_headers_are_survived(name: str, data: st.DataObject) -> None:
    """Bytes changed where sizes, offsets and counts are: in the file's header, sections, options, tables, chunks."""
    content, places = small(name)
    damaged = bytearray(content)
    spots = {"header": 0, **places}
    for _ in range(data.draw(st.integers(1, 3))):
        at = spots[data.draw(st.sampled_from(sorted(spots)))] + data.draw(st.integers(0, 120) | st.integers(0, 2000))
        change = data.draw(BYTES)
        damaged[at : at + len(change)] = change
    read(bytes(damaged[: len(content)]))


@pytest.mark.parametrize("name", ["v6", "v7"])
@more(150)
@given(
    st.lists(st.tuples(st.integers(0, 35), st.integers(0, 60) | st.integers(0, 4095), BYTES), min_size=1, max_size=6)
)
def test_bytes_changed_in_ring_pages_are_survived(name: str, changes: list[tuple[int, int, bytes]]) -> None:
    """Bytes changed in the pages' own headers and in the headers and data of events: what is left is consistent."""
    content, places = small(name)
    damaged = bytearray(content)
    for number, offset, change in changes:
        at = places["cpu1"] + number * 4096 + offset
        damaged[at : at + len(change)] = change
    assert isinstance(read(bytes(damaged[: len(content)])), Trace)


@more(150)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("0123456789;:\n\t []*x") | st.characters()), max_size=12))
def test_characters_changed_in_formats_are_survived(changes: list[tuple[float, str]]) -> None:
    """Characters changed in the event formats and in header_page: the other events are read."""
    recording, _ = unpacked(corpus.get("6.12-smm"))
    text = recording.header_page + "\f" + "\f".join(one for _, formats in recording.systems for one in formats)
    for where, letter in changes:
        at = int(where * (len(text) - 1))
        text = text[:at] + letter + text[at + 1 :]
    recording.header_page, *formats = text.split("\f")
    recording.systems = [("kvm", formats)]
    read(make(recording)[0])


# Ring pages by a second, slow walker


LAYOUT = PageLayout(0, 8, 8, 16)


def followed(data: bytes, number: int) -> tuple[list[tuple[int, int, int, int]], bool]:
    """(offset, length, time, page) of a page's events, one after the other, and whether the page is broken."""
    base = number * len(data)
    time, commit = struct.unpack_from("<qQ", data)
    used = commit & (1 << 27) - 1
    upper = time >> 59 << 59
    end, at = min(16 + used, len(data)), 16
    found: list[tuple[int, int, int, int]] = []
    while at + 4 <= end:
        (header,) = struct.unpack_from("<I", data, at)
        told = struct.unpack_from("<I", data, at + 4)[0] if at + 8 <= len(data) else 0
        kind, delta = header & 31, header >> 5
        body, length = at + 4, 4 * kind
        if kind == 0:
            body, length = at + 8, told - 4
        elif kind == 29 and delta == 0:
            return found, 16 + used > len(data)
        elif kind == 29:
            length = told
        elif kind >= 30:
            length, delta = 4, delta + (told << 27)
        if (kind in (0, 29) and told < 4) or body + (length + 3) // 4 * 4 > end:
            return found, True
        time = upper | delta if kind == 31 else time + delta
        time = (time + (1 << 63)) % (1 << 64) - (1 << 63)
        if kind < 29:
            found.append((base + body, length, time, number))
        at = body + (length + 3) // 4 * 4
    return found, 16 + used > len(data)


PIECES = st.one_of(
    st.builds(event, st.integers(0, 2000), st.binary(min_size=1, max_size=200)),
    st.builds(extend, st.integers(0, (1 << 59) - 1)),
    st.builds(absolute, st.integers(0, (1 << 59) - 1)),
    st.builds(discarded, st.integers(1, 50), st.integers(0, 5).map(lambda n: 4 * n)),
    st.builds(struct.Struct("<I").pack, st.integers(0, (1 << 32) - 1)),
    st.builds(struct.Struct("<II").pack, st.sampled_from([0, 29, 32 | 29]), st.integers(0, 64)),
    st.just(struct.pack("<I", 29)),
)
PAGES = st.lists(
    st.builds(
        lambda stamp, pieces, more: struct.pack("<qQ", stamp, max(0, len(b"".join(pieces)) + more)) + b"".join(pieces),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.lists(PIECES, max_size=12),
        st.sampled_from([0, 0, 0, 0, -3, 1, 8, 5000, 1 << 26]),
    ).map(lambda content: content[:4096].ljust(4096, b"\0")),
    min_size=1,
    max_size=5,
)


@more(600)
@given(PAGES)
def test_pages_are_walked_like_a_single_event_at_a_time(pages: list[bytes]) -> None:
    """Whatever the pages hold, walking all in step finds what following each event by event finds."""
    records = walk(np.frombuffer(b"".join(pages), np.uint8).reshape(-1, 4096), LAYOUT)
    found: list[tuple[int, int, int, int]] = []
    broken: list[int] = []
    for number, data in enumerate(pages):
        events, is_broken = followed(data, number)
        found += events
        broken += [number] * is_broken
    columns = (records.offset, records.length, records.time, records.page)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == found
    assert records.broken == broken


@pytest.mark.parametrize(
    ("missed", "count"), [(0, []), (-1, [-1]), (7, [7]), ((1 << 48), [1 << 48]), ((1 << 62), [-1])]
)
def test_lost_events_are_counted_where_the_count_can_be_true(missed: int, count: list[int]) -> None:
    """A page tells how many events were dropped before it, or only that some were; a count beyond reason is none."""
    records = walk(np.frombuffer(page(5, event(0, record(1, 1)), missed), np.uint8).reshape(-1, 4096), LAYOUT)
    assert [(number, time, n) for number, time, n in records.missed] == [(0, 5, n) for n in count]
