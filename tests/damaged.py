"""Reads damaged files as the tests of bad input want: an InputError in one line, or a trace that is consistent."""

from __future__ import annotations

import os
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from shootdown.errors import InputError
from shootdown.trace.container import OPTIONS
from shootdown.trace.decode import read_trace_dat
from shootdown.trace.events import Array, Trace

from .datfile import Recording, event, event_format, page, record, write

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
        columns: list[Array] = [events.time, events.cpu, events.pid, *events.fields.values()]
        assert all(column.shape == events.order.shape for column in columns)
        assert events.cpu.min() >= 0 and events.cpu.max() < max(trace.cpus, 1)
    assert 0 <= trace.cpus <= 1 << 15


def make(recording: Recording) -> tuple[bytes, dict[str, int]]:
    """The bytes of a recording's file, and the offsets of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.dat")
        places = write(path, recording)
        return path.read_bytes(), places


def with_buffers(data: bytes, places: dict[str, int], *buffers: tuple[int, list[tuple[int, int, int]]]) -> bytes:
    """A version 7 file with other BUFFER options than its own: size of pages, and CPU, offset and size of data."""
    found = bytearray(data[: data.rfind(struct.pack("<Q", places["BUFFER"])) - struct.calcsize("<HI")])
    for page_size, cpus in buffers:
        option = struct.pack("<QB6sII", places["BUFFER"], 0, b"local", page_size, len(cpus))
        option += b"".join(struct.pack("<IQQ", *cpu) for cpu in cpus)
        found += struct.pack("<HI", OPTIONS.index("BUFFER"), len(option)) + option
    found += struct.pack("<HIQ", 0, 8, 0)
    struct.pack_into("<Q", found, places["OPTIONS"] + 8, len(found) - places["OPTIONS"] - 16)
    return bytes(found)


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
