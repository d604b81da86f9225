"""Every event is decoded to what ``trace-cmd report`` says of it, field by field.

trace-cmd 3.1.6 with libtraceevent 1.7 was the oracle. Where trace-cmd is not installed its stored output of three small
recordings takes its place; see ``tests/data/README.md`` for the command that made it.
"""

from __future__ import annotations

import lzma
import random
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from shootdown.trace.decode import read_trace_dat
from shootdown.trace.windows import WINDOW_MIN

from . import corpus, oracle
from .datfile import Recording, absolute, discarded, event, event_format, extend, page, record, write
from .grow import grow
from .structure import ROOT

STORED = sorted((ROOT / "tests" / "data" / "oracle").glob("*.txt.xz"))


def agrees(path: Path, folder: Path) -> None:
    """Assert that every event of the recording is as trace-cmd reports it now."""
    trace = oracle.decode(path)
    assert oracle.compare(trace, oracle.report(oracle.readable(path, folder))) == trace.total > 0
    assert trace.warnings == []


@oracle.needs_trace_cmd
@corpus.each_carried()
def test_each_event_of_the_carried_recordings_is_as_trace_cmd_says(path: Path, tmp_path: Path) -> None:
    """Name, order, CPU, task, time, every field and every place of lost events are trace-cmd's, in both versions."""
    agrees(path, tmp_path)


@pytest.mark.slow
@oracle.needs_trace_cmd
@corpus.each_shared()
def test_each_event_of_the_collection_is_as_trace_cmd_says(path: Path, tmp_path: Path) -> None:
    """The same of every recording of the collection."""
    agrees(path, tmp_path)


@pytest.mark.parametrize("stored", STORED, ids=[path.name.partition(".txt")[0] for path in STORED])
def test_each_event_is_as_trace_cmd_said(stored: Path) -> None:
    """The same by trace-cmd's stored output, so that something of it is checked everywhere."""
    trace = oracle.decode(corpus.get(stored.name.removesuffix(".txt.xz")))
    assert oracle.compare(trace, lzma.decompress(stored.read_bytes())) == trace.total > 3000


@oracle.needs_trace_cmd
@pytest.mark.parametrize("name", ["6.12-smm", "6.1-smallring", "6.12-dlp-tsc", "6.12-dlp-global-v7none"])
def test_a_recording_that_trace_cmd_converts_stays_the_same(name: str, tmp_path: Path) -> None:
    """Version 6 as trace-cmd writes it from version 7 gives the same events.

    trace-cmd 3.1.6 converts no other way well: to version 7 it leaves all events out, and behind an idle CPU some.
    """
    path = tmp_path / "converted.dat"
    oracle.convert(corpus.get(name), path, "--file-version", "6")
    old, new = oracle.decode(corpus.get(name)), oracle.decode(path)
    assert (new.form, new.warnings) == ("trace.dat version 6", [])
    for what in ("kernel", "clock", "cpus", "comms", "counts", "first", "last", "lost", "lost_total"):
        assert getattr(old, what) == getattr(new, what), what
    assert old.events.keys() == new.events.keys()
    for kind, events in old.events.items():
        its = new.events[kind]
        assert np.array_equal(events.order, its.order) and np.array_equal(events.time, its.time)
        assert all(np.array_equal(column, its.fields[field]) for field, column in events.fields.items())


@oracle.needs_trace_cmd
@pytest.mark.parametrize("events", [1000, 3760, 10_000])
def test_grown_recordings_are_as_trace_cmd_says(events: int, tmp_path: Path) -> None:
    """A recording cut or repeated for benchmarks is one that trace-cmd reads, about as long as wanted."""
    path = tmp_path / "grown.dat"
    count = grow(corpus.get("6.12-smm"), path, events)
    assert abs(count - events) < 300
    trace = oracle.decode(path)
    assert trace.warnings == []
    assert oracle.compare(trace, oracle.report(path)) == trace.total == count


@oracle.needs_trace_cmd
@corpus.each_carried()
def test_fields_have_the_types_that_the_recording_describes(path: Path, tmp_path: Path) -> None:
    """A field's width and sign are those of the format that trace-cmd finds in the file."""
    told = oracle.formats(oracle.readable(path, tmp_path))
    for kind, events in oracle.decode(path).events.items():
        fields = told[kind.partition(":")[2]]["fields"]
        assert [re.sub(r"\[.*", "", d.split()[-1]).lstrip("*") for d, *_ in fields] == list(events.fields), kind
        for (declared, _, size, signed), column in zip(fields, events.fields.values(), strict=True):
            if "[" not in declared:
                assert (column.dtype.itemsize, column.dtype.kind) == (size, "i" if signed else "u"), (kind, declared)


# Recordings made up, to reach what the real ones lack


FIELDS: dict[str, tuple[str, int, str]] = {
    "u8": ("u8 %s", 1, "B"),
    "s8": ("s8 %s", 1, "b"),
    "bool": ("bool %s", 1, "?"),
    "u16": ("unsigned short %s", 2, "H"),
    "s16": ("short %s", 2, "h"),
    "u32": ("unsigned int %s", 4, "I"),
    "s32": ("int %s", 4, "i"),
    "u64": ("u64 %s", 8, "Q"),
    "s64": ("s64 %s", 8, "q"),
    "pointer": ("void * %s", 8, "Q"),
    "text": ("char %s[16]", 16, ""),
    "bytes": ("u8 %s[6]", 6, ""),
    "dynamic text": ("__data_loc char[] %s", 4, ""),
    "dynamic bytes": ("__data_loc u8[] %s", 4, ""),
    "relative text": ("__rel_loc char[] %s", 4, ""),
}
"""How a kind of field is declared, its size, and the letter that packs it."""


SIGNED = ("s8", "s16", "s32", "s64")


class Maker:
    """Makes up a recording from a seed: formats with fields packed or with gaps, pages with all that may be on them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: dict[int, list[tuple[str, int]]] = {}
        for number in self.random.sample(range(1, 1 << 16), self.random.randint(1, 4)):
            at, fields = 8, []
            for kind in self.random.choices(list(FIELDS), k=self.random.randint(0, 6)):
                at += self.random.choice([0, 0, 1, 2, 3])
                fields.append((kind, at))
                at += FIELDS[kind][1]
            self.kinds[number] = fields

    def recording(self) -> Recording:
        """A recording of up to three CPUs, in any form that trace-cmd reads."""
        version = self.random.choice([6, 7])
        systems: dict[str, list[str]] = {}
        for number in self.kinds:
            systems.setdefault(self.random.choice(["kvm", "kprobes"]), []).append(self.format(number))
        return Recording(
            version=version,
            compression=self.random.choice(["none", "zstd"]) if version == 7 else "none",
            systems=list(systems.items()),
            cmdlines=self.random.choice(["", "1 init\n77 two words\n", "40000 a-b-c\n12 x\n"]),
            cpus={cpu: [self.pages()] for cpu in range(self.random.randint(1, 3))},
        )

    def format(self, number: int) -> str:
        """An event's format file."""
        fields = [
            f"{FIELDS[kind][0] % f'f{i}'}:{at}:{FIELDS[kind][1]}:{int(kind in SIGNED)}"
            for i, (kind, at) in enumerate(self.kinds[number])
        ]
        return event_format(f"event{number}", number, fields)

    def pages(self) -> bytes:
        """A CPU's pages: data short and long, discarded events, both kinds of times, lost events."""
        time = self.random.choice([0, 5, 1 << 40, self.random.randrange(1 << 58)])
        found = b""
        for _ in range(self.random.randint(1, 3)):
            stamp, events, missed = time, b"", 0
            for _ in range(self.random.randint(0, 12)):
                what = self.random.choice(["data"] * 6 + ["extend", "absolute", "discarded", "long"])
                delta = self.random.choice([0, 1, 100, (1 << 27) - 2])
                if what == "extend":
                    delta = self.random.randrange(1 << 50)
                    events += extend(delta)
                elif what == "absolute":
                    events += absolute(time + delta)
                elif what == "discarded":
                    delta += 1
                    events += discarded(delta, 4 * self.random.randint(1, 8))
                else:
                    if not events:
                        # trace-cmd tells of lost events only if the page begins with data.
                        delta, missed = 0, self.random.choice([0, -1, 7])
                    events += event(delta, self.record() + bytes(120 if what == "long" else 0))
                time += delta
            found += page(stamp, events, missed)
            time += self.random.choice([0, 1, 1000])
        return found

    def record(self) -> bytes:
        """An event with values of all sizes and signs."""
        number = self.random.choice(list(self.kinds))
        fields = self.kinds[number]
        end = max((at + FIELDS[kind][1] for kind, at in fields), default=8)
        data, tail = bytearray(record(number, self.random.choice([0, 1, 12, 77, 40000]))), b""
        data += bytes(end - len(data))
        for kind, at in fields:
            _, size, letter = FIELDS[kind]
            if letter:
                bits = 8 * size - (kind in SIGNED)
                low = -(1 << bits) if kind in SIGNED else 0
                value = self.random.choice([0, 1, low, (1 << bits) - 1, self.random.randrange(low, 1 << bits)])
                struct.pack_into("<" + letter, data, at, value)
            elif kind in ("text", "bytes"):
                data[at : at + size] = self.content(kind, size).ljust(size, b"\0")
            else:
                content = self.content(kind, self.random.randint(2, 40))
                start = end + len(tail) - (at + 4 if kind.startswith("relative") else 0)
                struct.pack_into("<I", data, at, len(content) << 16 | start)
                tail += content
        return bytes(data) + tail

    def content(self, kind: str, size: int) -> bytes:
        """Text with its NUL; or bytes of which one is no letter, else trace-cmd would show them as text."""
        if kind.endswith("text"):
            return bytes(self.random.choices(range(33, 127), k=self.random.randint(1, size - 1))) + b"\0"
        return b"\x01" + self.random.randbytes(size - 1)


@oracle.needs_trace_cmd
@pytest.mark.parametrize("seeds", [range(k, k + 40) for k in range(0, 200, 40)], ids=lambda seeds: f"from {seeds[0]}")
def test_made_up_recordings_are_as_trace_cmd_says(seeds: range, tmp_path: Path) -> None:
    """Fields of every type at any place, strings, both kinds of times, padding, lost events: all as trace-cmd's."""
    for seed in seeds:
        path = tmp_path / f"{seed}.dat"
        write(path, Maker(seed).recording())
        trace = oracle.decode(path)
        assert trace.warnings == [], seed
        try:
            oracle.compare(trace, oracle.report(path))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


CLOCKS: dict[str, tuple[str, list[tuple[int, bytes]]]] = {
    "offset": ("local", [(7, b"12345\0")]),
    "negative offset": ("local", [(7, b"-12345\0")]),
    "hexadecimal offset": ("mono", [(7, b"0x1000\0")]),
    "date": ("mono", [(1, b"0x5f1d2c3b4a\0")]),
    "date and offset": ("boot", [(1, b"0x10\0"), (7, b"7\0")]),
    "tsc": ("x86-tsc", []),
    "calibrated tsc": ("x86-tsc", [(14, struct.pack("<IIQ", 1398101333, 32, 0))]),
    "calibrated tsc, odd shift": ("x86-tsc", [(14, struct.pack("<IIQ", 1398101333, 29, 5000000))]),
    "calibrated tsc, shift 0": ("x86-tsc", [(14, struct.pack("<IIQ", 3, 0, 5000000))]),
    "calibrated tsc with offset": ("tsc2nsec", [(14, struct.pack("<IIQ", 2000000000, 32, 1)), (7, b"99\0")]),
}
"""Clocks with the options (number and data) that say how to convert their times."""


@oracle.needs_trace_cmd
@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("clock", CLOCKS)
def test_times_are_converted_as_trace_cmd_does(clock: str, version: int, tmp_path: Path) -> None:
    """Offsets, dates and calibrations of the TSC in the options change the times as in trace-cmd's report."""
    path = tmp_path / "trace.dat"
    times = [1 << 40, (1 << 40) + 1, 1 << 41, 3 << 50]
    name, options = CLOCKS[clock]
    data = [record(1000, 5) for _ in times]
    found = b"".join(page(time, event(0, one), missed=7) for time, one in zip(times, data, strict=True))
    systems = [("kvm", [event_format("e", 1000, [])])]
    write(path, Recording(version=version, clock=name, options=options, systems=systems, cpus={0: [found]}))
    trace = oracle.decode(path)
    assert (trace.clock, trace.warnings) == (name, [])
    assert oracle.compare(trace, oracle.report(path, "-R", "-N", "-t")) == 4


@oracle.needs_trace_cmd
def test_a_clock_that_steps_back_does_not_reorder_its_cpu(tmp_path: Path) -> None:
    """Events come in trace-cmd's order even if a CPU's clock stepped back; their times are then held, not printed."""
    path = tmp_path / "trace.dat"
    cpus = {0: [1000, 50, 60, 2000], 1: [900, 1000, 1500, 40]}
    pages = {
        cpu: [b"".join(page(time, event(0, record(1000 + cpu, i))) for i, time in enumerate(times))]
        for cpu, times in cpus.items()
    }
    systems = [("kvm", [event_format("e0", 1000, []), event_format("e1", 1001, [])])]
    write(path, Recording(systems=systems, cpus=pages))
    events = oracle.decode(path).events
    rows = sorted(
        (order, cpu, pid) for e in events.values() for order, cpu, pid in zip(e.order, e.cpu, e.pid, strict=True)
    )
    printed = re.findall(rb"-(\d+) +\[(\d+)\]", oracle.report(path))
    assert [(int(cpu), int(pid)) for pid, cpu in printed] == [(cpu, pid) for _, cpu, pid in rows]
    assert events["kvm:e0"].time.tolist() == [1000, 1000, 1000, 2000]
    assert events["kvm:e1"].time.tolist() == [900, 1000, 1500, 1500]


@oracle.needs_trace_cmd
def test_a_clock_that_steps_back_between_batches_does_not_reorder_its_cpu(tmp_path: Path) -> None:
    """The same where so many pages lie before the step that they were decoded by then."""
    path = tmp_path / "trace.dat"
    times = [*range(5000, 6100), *range(10, 20)]
    pages = [page(time, event(0, record(1000, number))) for number, time in enumerate(times)]
    other = [page(time, event(0, record(1000, 0))) for time in (5050, 6099, 7000)]
    systems = [("kvm", [event_format("e", 1000, [])])]
    write(path, Recording(systems=systems, cpus={0: pages, 1: other}))
    assert len(pages) * 4096 > WINDOW_MIN
    events = oracle.decode(path).events["kvm:e"]
    printed = re.findall(rb"-(\d+) +\[(\d+)\]", oracle.report(path))
    assert [(int(cpu), int(pid)) for pid, cpu in printed] == list(
        zip(events.cpu.tolist(), events.pid.tolist(), strict=True)
    )
    assert events.time[events.cpu == 0].tolist() == [*range(5000, 6100), *[6099] * 10]


@oracle.needs_trace_cmd
def test_cpus_that_are_read_in_turns_are_merged_as_trace_cmd_says(tmp_path: Path) -> None:
    """Bursts, pauses and equal times on CPUs with far more than a window of pages: the order is trace-cmd's."""
    path, chance = tmp_path / "trace.dat", random.Random(1)
    cpus = {}
    for cpu, count in enumerate((1500, 40, 700)):
        times = np.cumsum([chance.choice([0, 0, 1, 30, 2000 * (cpu == 1)]) for _ in range(count)]).tolist()
        cpus[cpu] = [page(time, event(0, record(1000, k)) + event(1, record(1000, k))) for k, time in enumerate(times)]
    write(path, Recording(systems=[("kvm", [event_format("e", 1000, [])])], cpus=cpus))
    events = oracle.decode(path).events["kvm:e"]
    printed = re.findall(rb"-(\d+) +\[(\d+)\]", oracle.report(path))
    assert [(int(cpu), int(pid)) for pid, cpu in printed] == list(
        zip(events.cpu.tolist(), events.pid.tolist(), strict=True)
    )


def test_times_do_not_depend_on_what_else_is_asked_for(tmp_path: Path) -> None:
    """An event held up by another kind's time is so even if that kind is not wanted."""
    path = tmp_path / "trace.dat"
    pages = [page(time, event(0, record(1000 + k % 2, k))) for k, time in enumerate([10, 90, 40, 95])]
    systems = [("kvm", [event_format("e0", 1000, []), event_format("e1", 1001, [])])]
    write(path, Recording(systems=systems, cpus={0: pages}))
    assert oracle.decode(path).events["kvm:e0"].time.tolist() == [10, 90]
    with path.open("rb") as file:
        assert read_trace_dat(str(path), file.fileno(), ["kvm:e0"]).events["kvm:e0"].time.tolist() == [10, 90]
