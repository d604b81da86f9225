"""Bad input gives an InputError in one line, or a trace with warnings: no other exception, no flood, no hang.

What is read of a damaged file is consistent: columns of one length, in order, no more events than were counted.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shootdown.errors import InputError
from shootdown.trace.container import MAGIC, OPTIONS, SECTION_MAX
from shootdown.trace.decode import read_trace_dat
from shootdown.trace.events import Trace
from shootdown.trace.formats import PageLayout
from shootdown.trace.read import read_trace
from shootdown.trace.ring import walk

from . import corpus
from .datfile import Recording, absolute, discarded, event, event_format, extend, header_page, page, record, write
from .grow import unpacked

WARNINGS_MAX = 40
"""Lines of warning that a damaged file may cause."""


def read(data: bytes) -> Trace | InputError:
    """What reading a file with these bytes gives; asserts what holds of any outcome."""
    file = os.memfd_create("damaged")
    try:
        with os.fdopen(os.dup(file), "wb") as out:
            out.write(data)
        with np.errstate(all="raise"):
            trace = read_trace_dat("DIR/damaged.dat", file)
    except InputError as error:
        assert re.fullmatch(r"DIR/damaged\.dat: offset \d+: [^\n\r]+", str(error)), str(error)
        assert str(error).isprintable() and len(str(error)) < 300
        return error
    finally:
        os.close(file)
    _check(trace)
    return trace


def _check(trace: Trace) -> None:
    assert len(trace.warnings) <= WARNINGS_MAX
    for line in trace.warnings:
        assert line.startswith("DIR/damaged.dat: ") and line.isprintable() and len(line) < 400, line
    assert all(len(name) < 600 and number > 0 for name, number in trace.counts.items())
    orders = [events.order for events in trace.events.values()]
    every = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    assert np.array_equal(np.sort(every), np.arange(every.size))
    assert every.size <= trace.total
    for name, events in trace.events.items():
        assert len(events) <= trace.counts[name]
        assert (np.diff(events.order) > 0).all()
        columns = [events.time, events.cpu, events.pid, *events.fields.values()]
        assert all(column.shape == events.order.shape for column in columns)
        assert events.cpu.min() >= 0 and events.cpu.max() < max(trace.cpus, 1)
    assert 0 <= trace.cpus <= 1 << 15


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
        (MAGIC, "ends early"),
        (MAGIC + b"7", "ends early"),
        (MAGIC + b"5\0", "version '5' is not known"),
        (MAGIC + b"\x1b[31m\n77777777\0", r"version '\x1b[31m\n77777777' is not known"),
        (MAGIC + b"7\0\x01\x08\0\0\x10\0zstd\0", "big-endian"),
        (MAGIC + b"7\0\0\x08\0\0\0\0none\0\0" + bytes(8), "page size of 0 bytes"),
        (MAGIC + b"7\0\0\x08\0\0\x01\x10none\0\0" + bytes(8), "page size of 268500992 bytes"),
        (MAGIC + b"7\0\0\x08\x01\x10\0\0none\0\0" + bytes(8), "page size of 4097 bytes"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0lzo\0001\0" + bytes(8), "compression 'lzo' is not known"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0" + b"x" * 5000, "ends early"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0none\0\0" + bytes(8), "no buffer with events"),
        (MAGIC + b"7\0\0\x08\0\x10\0\0none\0\0" + b"\xff" * 8, "wants 16 bytes"),
        (MAGIC + b"6\0\0\x08\0\x10\0\0" + bytes(8), "ends early"),
        (MAGIC + b"6\0\0\x08\0\x10\0\0header_page\0" + b"\xff" * 8, "ends early"),
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


def make(recording: Recording) -> tuple[bytes, dict[str, int]]:
    """The bytes of a recording's file, and the offsets of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.dat")
        places = write(path, recording)
        return path.read_bytes(), places


@cache
def real(name: str) -> tuple[bytes, dict[str, int]]:
    """A carried recording's file; the offsets of its parts are not known."""
    return corpus.get(name).read_bytes(), {}


FILES: dict[str, Callable[[], tuple[bytes, dict[str, int]]]] = {
    **{form: partial(small, form) for form in ("v6", "v7", "v7 zlib", "v7 zstd")},
    **{name: partial(real, name) for name in ("6.12-smm", "6.1-nxhuge", "6.1-dlp-mono-v6")},
}
each_file = pytest.mark.parametrize("name", FILES)


def more(count: int) -> settings:
    """Settings for ``count`` examples, however long each takes."""
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


@each_file
@more(60)
@given(where=st.floats(0, 1))
def test_any_prefix_of_a_file_is_read_or_refused(name: str, where: float) -> None:
    """A file cut at any byte gives the events before the cut and a warning, or an InputError."""
    data, _ = FILES[name]()
    whole = read(data)
    assert isinstance(whole, Trace) and whole.warnings == []
    cut = read(data[: int(where * (len(data) - 1))])
    if isinstance(cut, Trace):
        assert cut.total <= whole.total
        assert cut.warnings or cut.total == whole.total


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
    """(offset, length, time, page) of a page's events, one after the other as the kernel's reader goes; broken or not."""
    base = number * len(data)
    time, commit = struct.unpack_from("<qQ", data)
    used = commit & (1 << 27) - 1
    upper = time >> 59 << 59
    end, at, found = min(16 + used, len(data)), 16, []
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
    found, broken = [], []
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


# Descriptions that lie


FORMAT = event_format("e", 1000, ["u64 a:8:8:0", "s32 b:16:4:1"])


def one(**changes: Any) -> Recording:
    """A recording of three events of one kind on one page, with some parts replaced."""
    data = [record(1000, 5, struct.pack("<Qi", 1 << i, -i)) for i in range(3)]
    recording = Recording(
        systems=[("kvm", [FORMAT])], cpus={0: [page(100, b"".join(event(i, d) for i, d in enumerate(data)))]}
    )
    for name, value in changes.items():
        setattr(recording, name, value)
    return recording


def refused(recording: Recording) -> str:
    """The message of a file that must be refused."""
    error = read(make(recording)[0])
    assert isinstance(error, InputError), error
    return str(error)


def accepted(recording: Recording) -> Trace:
    """The trace of a file that must be read."""
    trace = read(make(recording)[0])
    assert isinstance(trace, Trace), trace
    return trace


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no event formats"),
        ("nothing", "header_page has no field 'timestamp'"),
        (header_page().replace("commit", "c0mmit"), "header_page has no field 'commit'"),
        (header_page().replace("offset:16", "offset:16000000"), "behind the events"),
        (header_page().replace("offset:16", "offset:" + "9" * 5000), "no field 'data'"),
        (header_page().replace("offset:16", "offset:8"), "behind the events"),
        (header_page().replace("offset:16", "offset:18"), "behind the events"),
        (header_page().replace("offset:0", "offset:999999999"), "behind the events"),
        (header_page().replace("offset:0", "offset:-8"), "no field 'timestamp'"),
        (header_page().replace("offset:8;\tsize:8", "offset:9;\tsize:4"), "no ring buffer that is known"),
        (header_page().replace("size:8;\tsigned:0", "size:4;\tsigned:0"), "no ring buffer that is known"),
        (header_page().replace("size:8;\tsigned:1", "size:2;\tsigned:1"), "no ring buffer that is known"),
    ],
)
def test_absurd_pages_layouts_are_refused(text: str, what: str, version: int) -> None:
    """A header_page that describes no ring buffer is refused, whatever its numbers."""
    assert what in refused(one(header_page=text, version=version))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "an event format of system 'kvm' has no name or ID; left out"),
        (FORMAT.replace("ID: 1000", "ID: 70000"), "has the number 70000, which does not fit in 16 bits"),
        (FORMAT.replace("ID: 1000", "ID: " + "1" * 5000), "has no name or ID"),
        (FORMAT.replace("name: e", "name: "), "has no name or ID"),
        (FORMAT.replace("offset:8", "offset:65530"), "field 'a' lies outside any event; its events are only counted"),
        (FORMAT.replace("offset:8;\tsize:8", "offset:8;\tsize:99999999"), "field 'a' lies outside any event"),
        (FORMAT.replace("s32 b", "u64 a"), "field 'a' is one too many"),
        (FORMAT.replace("offset:16;\tsize:4", "offset:16;\tsize:0"), "field 'b' has no size"),
        (event_format("e", 1000, [f"u8 f{i}:{i}:1:0" for i in range(2000)]), "is one too many"),
    ],
)
def test_a_damaged_format_costs_only_its_own_events(text: str, what: str) -> None:
    """Events whose format cannot be true are counted, the others are read, and a warning says why."""
    good = event_format("good", 1001, ["u64 a:8:8:0"])
    events = event(0, record(1000, 1, bytes(12))) + event(1, record(1001, 2, struct.pack("<Q", 77)))
    trace = accepted(one(systems=[("kvm", [text, good])], cpus={0: [page(5, events)]}))
    assert trace.events.keys() == {"kvm:good"} and trace.events["kvm:good"].fields["a"].tolist() == [77]
    assert trace.total == 2
    assert any(what in line for line in trace.warnings), trace.warnings


def test_events_without_a_format_are_counted() -> None:
    """Kinds that no format describes are counted by number, and beyond a few together."""
    events = b"".join(event(1, record(2000 + i // 2, 1)) for i in range(100))
    trace = accepted(one(cpus={0: [page(5, events)]}))
    assert trace.total == 100 and not trace.events
    assert len(trace.counts) == 17 and trace.counts["unknown:2000"] == 2 and trace.counts["unknown:others"] == 68


@pytest.mark.parametrize("version", [6, 7])
def test_missing_formats_are_refused(version: int) -> None:
    """Without any event format there is nothing to be read."""
    assert "holds no event formats" in refused(one(systems=[], version=version))
    no_type = FORMAT.replace("common_type", "common_kind")
    assert "do not say where an event's type and task are" in refused(
        one(systems=[("kvm", [no_type])], version=version)
    )


def test_names_out_of_a_file_are_shown_harmlessly() -> None:
    """Control characters and overlong names in a format do not get into messages."""
    system, name = "\x1b[2J\nkvm", "\x1b[31m" + "x" * 250
    text = FORMAT.replace("name: e", f"name: {name}").replace("offset:8", "offset:65530")
    assert accepted(one(systems=[(system, [text, "nothing"])])).warnings == [
        r"DIR/damaged.dat: an event format of system '\x1b[2J\nkvm' has no name or ID; left out",
        rf"DIR/damaged.dat: format of '\x1b[2J\nkvm:\x1b[31m{'x' * 23}...': field 'a' lies outside any event; "
        "its events are only counted",
    ]


def test_events_shorter_than_their_format_read_as_zero() -> None:
    """What an event lacks of its format is zero, not a part of its neighbour; a warning counts such events."""
    events = event(0, record(1000, 1, bytes([255] * 4))) + event(1, record(1000, 2, bytes([255] * 12)))
    trace = accepted(one(cpus={0: [page(5, events)]}))
    fields = trace.events["kvm:e"].fields
    assert (fields["a"].tolist(), fields["b"].tolist()) == ([0xFFFFFFFF, (1 << 64) - 1], [0, -1])
    assert trace.warnings == [
        "DIR/damaged.dat: 1 events of 'kvm:e' are shorter than their format; missing bytes read as 0"
    ]


def test_events_too_short_for_a_type_are_left_out() -> None:
    """An event that ends before its type and task is not taken for any kind."""
    trace = accepted(one(cpus={0: [page(5, event(0, b"\xe8\x03\0\0") + event(1, record(1000, 1, bytes(12))))]}))
    assert trace.counts == {"kvm:e": 1}
    assert "1 events are too short to say what they are" in trace.warnings[0]


def test_places_of_strings_that_lie_give_what_is_there() -> None:
    """A string that claims to lie or end outside its event is cut to the event."""
    text = event_format("e", 1000, ["__data_loc char[] a:8:4:0", "__rel_loc u8[] b:12:4:0", "char c[]:16:0:0"])
    claims = [(16, 4), (16, 400), (60000, 5), (0, 65535), (19, 1), (20, 1)]
    events = b"".join(
        event(0, record(1000, 1, struct.pack("<HHHH", at, size, at & 3, size) + b"text")) for at, size in claims
    )
    fields = accepted(one(systems=[("kvm", [text])], cpus={0: [page(5, events)]})).events["kvm:e"].fields
    whole = [record(1000, 1, struct.pack("<HHHH", at, size, at & 3, size) + b"text") for at, size in claims]
    assert fields["a"].tolist() == [b"text", b"text", b"", whole[3], b"t", b""]
    assert fields["b"].tolist() == [b"text", b"text", b"text", b"text", b"t", b"t"]
    assert fields["c"].tolist() == [b"text"] * 6


@pytest.mark.parametrize("length", [0, 1, 3, 5000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [0, 29 | 32])
def test_lengths_of_events_that_lie_cost_the_rest_of_the_page(kind: int, length: int) -> None:
    """An event that claims a length it cannot have ends its page with a warning; what was before it is read."""
    events = event(0, record(1000, 1, bytes(12))) + struct.pack("<II", kind, length) + bytes(40)
    trace = accepted(one(cpus={0: [page(5, events) + page(9, event(0, record(1000, 2, bytes(12))))]}))
    assert trace.events["kvm:e"].pid.tolist() == [1, 2]
    assert trace.warnings == ["DIR/damaged.dat: a page of CPU 0 is damaged; its events are read up to the damage"]


def test_a_page_that_claims_more_than_its_size_is_read_to_its_end() -> None:
    """A page's count of bytes in use that is longer than the page is a warning, not a read past it."""
    data = bytearray(page(5, event(0, record(1000, 1, bytes(12)))) + page(9, event(0, record(1000, 2, bytes(12)))))
    data[8:12] = struct.pack("<I", (1 << 27) - 1)
    trace = accepted(one(cpus={0: [bytes(data)]}))
    assert trace.events["kvm:e"].pid.tolist() == [1, 2] and "a page of CPU 0 is damaged" in trace.warnings[0]


def test_many_damaged_pages_are_a_few_lines() -> None:
    """Of many warnings with the same cause the first are shown and the others counted."""
    bad = struct.pack("<QQII", 5, 8, 0, 0).ljust(4096, b"\0")
    trace = accepted(one(cpus={0: [page(1, event(0, record(1000, 1, bytes(12)))) + bad * 500]}))
    assert len(trace.warnings) == 4 and trace.warnings[-1] == "DIR/damaged.dat: and 497 more like the last"


@pytest.mark.parametrize("cpu", [1 << 15, 70000, 0xFFFFFFFF])
def test_cpus_that_cannot_be_are_left_out(cpu: int) -> None:
    """A CPU's number beyond what a machine can have is a warning; the other CPUs are read."""
    data, places = make(one(cpus={0: one().cpus[0], 1: one().cpus[0]}))
    damaged = data.replace(struct.pack("<IQQ", 1, places["cpu1"], 4096), struct.pack("<IQQ", cpu, places["cpu1"], 4096))
    trace = read(damaged)
    assert isinstance(trace, Trace) and trace.total == 3 and trace.cpus == 1
    assert re.search(rf"offset \d+: there is no CPU {cpu}; its data is left out", trace.warnings[0])


@pytest.mark.parametrize("count", [3, 1 << 16, 0xFFFFFFFF])
def test_version_6_with_too_many_cpus_is_refused(count: int) -> None:
    """A count of CPUs beyond the table that follows is damage."""
    data, places = make(one(version=6, clock="", options=[(1, b"")]))
    damaged = bytearray(data[: places["cpu0"]])
    damaged[places["CPUCOUNT"] : places["CPUCOUNT"] + 4] = struct.pack("<I", count)
    error = read(bytes(damaged))
    assert isinstance(error, InputError | Trace)
    assert not isinstance(error, Trace) or error.total == 0


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (7, b"9" * 1000),
        (7, b"-0xffffffffffffffff\0"),
        (1, b"0xffffffffffffffff\0"),
        (1, b"\xff" * 50),
        (14, struct.pack("<IIq", 0xFFFFFFFF, 0, -(1 << 63))),
        (14, struct.pack("<IIq", 0xFFFFFFFF, 32, (1 << 63) - 1)),
        (14, struct.pack("<IIq", 1, 0xFFFFFFFF, 0)),
        (14, b"\1"),
        (2, b"overrun: " + b"9" * 5000),
        (3, b""),
        (4, b"[" * 5000),
        (5, b"\xff" * 3000),
        (8, b"\xff\xff\xff\xff"),
        (8, b""),
        (0xFFFF, b"unknown"),
    ],
)
@pytest.mark.parametrize("version", [6, 7])
def test_options_that_lie_are_survived(number: int, content: bytes, version: int) -> None:
    """Offsets, dates, calibrations, counts and texts in options may be anything."""
    stamps = page((1 << 64) - 1, event(0, record(1000, 5, bytes(12)))) + page(
        1 << 63, event(9, record(1000, 5, bytes(12)))
    )
    read(make(one(version=version, options=[(number, content)], cpus={0: [stamps]}))[0])


@pytest.mark.parametrize(
    "text", ["9" * 5000 + " x", "x", " ", "1", "1 \x1b[2J", "-5 a\n5 b\n5 c", "\n" * 1000, "\x85\u2028 7"]
)
def test_task_names_that_lie_are_survived(text: str) -> None:
    """Lines of task names without a number, or with an absurd one, are passed over."""
    trace = accepted(one(cmdlines=text))
    assert trace.total == 3 and trace.comms[0] == "<idle>"


def test_a_loop_of_options_is_noticed() -> None:
    """Sections of options that lead back to themselves are read once, with a warning."""
    data, places = make(one())
    damaged = bytearray(data)
    damaged[-8:] = struct.pack("<Q", places["OPTIONS"])
    trace = read(bytes(damaged))
    assert isinstance(trace, Trace) and trace.total == 3
    assert re.fullmatch(
        rf"DIR/damaged\.dat: offset {places['OPTIONS']}: the options sections form a loop; what follows is left out",
        trace.warnings[0],
    )


@pytest.mark.parametrize("size", [1, 8, 100, SECTION_MAX, SECTION_MAX + 1, 1 << 32, (1 << 64) - 1])
@pytest.mark.parametrize("part", ["HEADER_INFO", "FTRACE_EVENTS", "EVENT_FORMATS", "CMDLINES", "OPTIONS"])
@pytest.mark.parametrize("compression", ["none", "zstd", "zlib"])
def test_sizes_of_sections_that_lie_are_survived(compression: str, part: str, size: int) -> None:
    """A section that claims another size is read as far as it goes or refused, at once."""
    data, places = make(one(compression=compression))
    damaged = bytearray(data)
    struct.pack_into("<Q", damaged, places[part] + 8, size)
    read(bytes(damaged))
    if compression != "none" and part != "OPTIONS":
        struct.pack_into("<Q", damaged, places[part] + 8, struct.unpack_from("<Q", data, places[part] + 8)[0])
        for at in (16, 20):
            struct.pack_into("<I", damaged, places[part] + at, min(size, 0xFFFFFFFF))
        read(bytes(damaged))


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize("value", [0, 1, 4095, 4097, SECTION_MAX + 1, 0xFFFFFFFF])
def test_sizes_of_chunks_that_lie_end_the_cpu(compression: str, at: int, value: int) -> None:
    """A count of chunks, or a chunk's sizes, that cannot be true end the CPU's data with a warning."""
    data, places = make(one(compression=compression))
    damaged = bytearray(data)
    struct.pack_into("<I", damaged, places["cpu0"] + at, value)
    trace = read(bytes(damaged))
    assert isinstance(trace, Trace)
    assert trace.warnings or trace.total == 3 or (at == 0 and value == 0)


def test_pages_of_other_buffers_may_have_another_size() -> None:
    """Each buffer's pages are taken apart by the size that its option gives."""
    big = page(50, event(0, record(1000, 9, bytes(12))) * 200, page_size=8192)
    data, places = make(one(cpus={0: one().cpus[0], 1: [big]}))
    offset, size = struct.unpack("<QI", data[-8 - 6 - 20 * 2 - 8 - len("local\0") - 9 :][:8] + bytes(4))
    assert offset == places["BUFFER"] and size == 0
    first = struct.pack("<QB6sII", places["BUFFER"], 0, b"local", 4096, 1) + struct.pack(
        "<IQQ", 0, places["cpu0"], 4096
    )
    second = struct.pack("<QB6sII", places["BUFFER"], 0, b"local", 8192, 1) + struct.pack(
        "<IQQ", 1, places["cpu1"], 8192
    )
    start = data.rfind(struct.pack("<HI", OPTIONS.index("BUFFER"), 8 + 7 + 8 + 40))
    options = b"".join(struct.pack("<HI", OPTIONS.index("BUFFER"), len(x)) + x for x in (first, second))
    tail = options + struct.pack("<HIQ", 0, 8, 0)
    rebuilt = bytearray(data[:start] + tail)
    struct.pack_into("<Q", rebuilt, places["OPTIONS"] + 8, len(rebuilt) - places["OPTIONS"] - 16)
    trace = read(bytes(rebuilt))
    assert isinstance(trace, Trace) and trace.total == 203 and trace.warnings == []
