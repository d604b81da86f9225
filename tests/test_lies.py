"""Files that lie about sizes, places and counts give an InputError in one line, or a trace with warnings."""

from __future__ import annotations

import re
import struct

import pytest

from shootdown.errors import InputError
from shootdown.trace.container import SECTION_MAX
from shootdown.trace.events import Trace

from .damaged import FORMAT, accepted, make, one, read, refused, with_buffers
from .datfile import event, event_format, header_page, page, record


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
    first, second = (4096, [(0, places["cpu0"], 4096)]), (8192, [(1, places["cpu1"], 8192)])
    trace = read(with_buffers(data, places, first, second))
    assert isinstance(trace, Trace) and trace.total == 203 and trace.warnings == []


def test_buffers_of_one_cpu_are_merged_by_time() -> None:
    """Events of a CPU that come from two buffers keep their times and interleave."""
    first = page(10, event(0, record(1000, 1, bytes(12))) + event(20, record(1000, 1, bytes(12))))
    second = page(15, event(0, record(1000, 2, bytes(12))) + event(20, record(1000, 2, bytes(12))))
    data, places = make(one(cpus={0: [first], 1: [second]}))
    buffers = [(4096, [(0, places[cpu], 4096)]) for cpu in ("cpu0", "cpu1")]
    trace = read(with_buffers(data, places, *buffers))
    assert isinstance(trace, Trace) and trace.warnings == []
    events = trace.events["kvm:e"]
    assert (events.time.tolist(), events.pid.tolist(), events.cpu.tolist()) == ([10, 15, 30, 35], [1, 2, 1, 2], [0] * 4)


def test_the_last_event_of_all_may_be_short() -> None:
    """An event shorter than its format at the very end of the last page reads as zero there too."""
    full = page(5, event(0, record(1000, 7)) * 340)
    fields = accepted(one(cpus={0: [full]})).events["kvm:e"].fields
    assert fields["a"].tolist() == fields["b"].tolist() == [0] * 340


def test_events_of_the_same_name_or_number_are_told_apart() -> None:
    """Of two formats with one number or one name the first counts, and a warning names the other."""
    other = event_format("e", 1001, ["u64 x:8:8:0"])
    again = event_format("other", 1000, ["u64 x:8:8:0"])
    events = event(0, record(1000, 1, bytes(12))) + event(1, record(1001, 2, bytes(12)))
    trace = accepted(one(systems=[("kvm", [FORMAT, other, again])], cpus={0: [page(5, events)]}))
    assert trace.counts == {"kvm:e": 1, "unknown:1001": 1}
    assert list(trace.events["kvm:e"].fields) == ["a", "b"]
    assert [line.partition(": ")[2] for line in trace.warnings] == [
        "'kvm:e' has the number or the name of another event; left out",
        "'kvm:other' has the number or the name of another event; left out",
    ]


def test_chunks_beyond_their_cpu_are_not_read() -> None:
    """A count of chunks that goes on behind the CPU's data ends there, even if more chunks follow."""
    pages = [page(time, event(0, record(1000, time, bytes(12)))) for time in (1, 2)]
    data, places = make(one(compression="zstd", cpus={0: pages}))
    (packed,) = struct.unpack_from("<I", data, places["cpu0"] + 4)
    trace = read(with_buffers(data, places, (4096, [(0, places["cpu0"], 12 + packed)])))
    assert isinstance(trace, Trace) and trace.events["kvm:e"].pid.tolist() == [1]
    assert "2 chunks do not fit into CPU 0's data; the rest of CPU 0 is left out" in trace.warnings[0]
