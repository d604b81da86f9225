"""``trace-cmd report`` as an oracle: its raw output of a recording, compared with what the package decoded.

``-R`` prints every field of every event instead of the event's own text, ``-N`` without plugins, which replace some
events' fields by their own text, and ``-t --raw-ts`` the time as it was recorded. No event fails to print that way;
without ``-R``, kvm_mmu_get_page and kvm_mmu_prepare_zap_page show as ``[FAILED TO PARSE]``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shootdown.trace.decode import read_trace_dat
from shootdown.trace.events import Events, Trace

from .datfile import write
from .grow import unpacked

RAW = ("-R", "-N", "-t", "--raw-ts")
EVENT = re.compile(rb" *(.+)-(\d+) +\[(\d+)\] *([\d.]+): (\S+?): *(.*)")
DROPPED = re.compile(rb"CPU:(\d+) \[(?:(\d+) )?EVENTS DROPPED\]")

needs_trace_cmd = pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")


def decode(path: Path) -> Trace:
    """All columns of a recording."""
    file = os.open(path, os.O_RDONLY)
    try:
        return read_trace_dat(str(path), file)
    finally:
        os.close(file)


def run(*words: str) -> bytes:
    """The output of trace-cmd; it must have nothing to complain about."""
    done = subprocess.run(["trace-cmd", *words], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"})
    assert not done.stderr, done.stderr[:500]
    return done.stdout


def report(path: Path, *options: str) -> bytes:
    """trace-cmd's raw report of a recording."""
    return run("report", *(options or RAW), "-i", str(path))


def convert(path: Path, target: Path, *options: str) -> None:
    """Have trace-cmd write a recording in another form."""
    command = ["trace-cmd", "convert", "-i", str(path), "-o", str(target), *options]
    subprocess.run(command, capture_output=True, check=True)


def readable(path: Path, folder: Path) -> Path:
    """A recording that trace-cmd can read: itself, or if it is compressed with zlib a copy that is not."""
    if b"zlib\0" not in path.read_bytes()[:64]:
        return path
    copy = folder / "unpacked.dat"
    write(copy, unpacked(path)[0])
    return copy


def compare(trace: Trace, text: bytes) -> int:
    """Assert that each event of the report was decoded to the same; how many there were."""
    lines = text.splitlines()
    rows: dict[bytes, list[tuple[int, tuple[bytes, ...]]]] = {}
    dropped: list[tuple[int, int, int | None]] = []
    waiting: list[tuple[int, int | None]] = []
    count = 0
    for line in lines:
        if found := EVENT.fullmatch(line):
            groups = found.groups()
            rows.setdefault(groups[4], []).append((count, groups))
            dropped += [(cpu, _time(groups[3]), lost) for cpu, lost in waiting]
            waiting.clear()
            count += 1
        elif found := DROPPED.fullmatch(line):
            waiting.append((int(found[1]), int(found[2]) if found[2] else None))
        elif line:
            assert line == b"cpus=%d" % trace.cpus, f"a line of another form: {line!r}"
    assert [(x.cpu, x.time, x.count) for x in sorted(trace.lost, key=lambda x: (x.time, x.cpu))] == dropped
    kinds = {name.partition(":")[2].encode(): events for name, events in trace.events.items()}
    assert len(kinds) == len(trace.events), "two systems have an event of the same name"
    assert {name: len(events) for name, events in kinds.items()} == {name: len(found) for name, found in rows.items()}
    assert sum(trace.counts.values()) == count
    for name, printed in rows.items():
        _compare_kind(kinds[name], printed, trace.comms)
    return count


def _compare_kind(events: Events, rows: list[tuple[int, tuple[bytes, ...]]], comms: dict[int, str]) -> None:
    order, groups = zip(*rows, strict=True)
    comm, pid, cpu, time, _, values = zip(*groups, strict=True)
    _same(events.name, "order", events.order, np.array(order))
    _same(events.name, "pid", events.pid, np.array([int(x) for x in pid]))
    _same(events.name, "cpu", events.cpu, np.array([int(x) for x in cpu]))
    _same(events.name, "time", events.time.astype(np.uint64), np.array([_time(x) for x in time], np.uint64))
    decoded = [comms.get(x, "<...>") for x in events.pid.tolist()]
    assert decoded == [x.decode(errors="replace") for x in comm], events.name
    shape = re.compile(rb" ".join(rb"%s=(.*?)" % field.encode() for field in events.fields))
    found = [shape.fullmatch(text) for text in values]
    assert all(found), f"{events.name} has other fields than {list(events.fields)}: {values[found.index(None)]!r}"
    columns = zip(*(match.groups() for match in found if match), strict=True)
    for (field, column), texts in zip(events.fields.items(), columns, strict=True):
        if column.dtype.kind in "iu":
            _compare_numbers(f"{events.name} {field}", column, texts)
        else:
            for value, text in zip(column.tolist(), texts, strict=True):
                _compare_bytes(f"{events.name} {field}", value, text)


def _compare_numbers(where: str, column: np.ndarray, texts: tuple[bytes, ...]) -> None:
    """trace-cmd prints a field as the event's own text would: in decimal, in hexadecimal with 0x, or without.

    Of a whole column without 0x and without a letter it cannot be told which, so either may be it.
    """
    bits = 8 * column.dtype.itemsize
    readings = []
    if not any(text.startswith(b"0x") or (text.isalnum() and not text.isdigit()) for text in texts):
        readings.append([int(text) for text in texts])
    if not any(text.startswith(b"-") for text in texts):
        # What is printed in hexadecimal has no sign: it is the bits of the number.
        readings.append([_signed(int(text, 16), bits) if column.dtype.kind == "i" else int(text, 16) for text in texts])
    values = column.tolist()
    for reading in readings:
        if reading == values:
            return
    reading = readings[0]
    wrong = next(i for i, value in enumerate(values) if value != reading[i])
    raise AssertionError(f"{where}, event {wrong}: decoded {values[wrong]}, trace-cmd says {texts[wrong]!r}")


def _time(text: bytes) -> int:
    """Ticks as they are, or seconds with nine digits after the point as nanoseconds."""
    return int(text.replace(b".", b""))


def _signed(value: int, bits: int) -> int:
    low = value & (1 << bits) - 1
    return low - (1 << bits) if low >> (bits - 1) else low


def _compare_bytes(where: str, value: bytes, text: bytes) -> None:
    """trace-cmd prints an array of printable characters as text up to its NUL, and any other by its bytes."""
    if text.startswith(b"ARRAY["):
        assert value == bytes.fromhex(text[6:-1].replace(b",", b"").decode()), where
    else:
        assert value.split(b"\0")[0] == text, where


def _same(name: str, what: str, decoded: np.ndarray, told: np.ndarray) -> None:
    wrong = np.flatnonzero(decoded != told)
    if wrong.size:
        first = int(wrong[0])
        raise AssertionError(
            f"{name}, event {first} of {told.size}: {what} is {decoded[first]}, trace-cmd says {told[first]}"
        )


def formats(path: Path) -> dict[str, dict[str, Any]]:
    """Number and fields of each event that ``trace-cmd dump`` knows of, by name."""
    text = run("dump", "--events", "-i", str(path)).decode()
    found = {}
    for part in re.split(r"^name: ", text, flags=re.M)[1:]:
        fields = re.findall(r"field:([^;]+);\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d);", part)
        own = [(d, int(o), int(s), x == "1") for d, o, s, x in fields if " common_" not in d]
        number = re.search(r"^ID: (\d+)", part, re.M)
        assert number
        found[part.split("\n")[0]] = {"number": int(number[1]), "fields": own}
    return found
