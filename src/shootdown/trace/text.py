"""Traces as people paste them: text of trace-cmd report, tracefs or perf script to the same columns as a trace.dat."""

from __future__ import annotations

import codecs
import operator
import re
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from . import text_lines as known
from .events import Array, Events, Lost, Trace

PIECE = 1 << 20
"""Bytes that are read together."""
LINE_MAX = 64 << 10
"""Characters of the longest line that is looked at."""
BATCH = 1 << 12
"""Events between two conversions of their texts to columns; more of them at once are slower (cache, collector)."""
REPORT = 1 << 16
"""Events between two reports of progress."""
WRAPPED_MAX, BLOCK_MAX = 4, 8
"""Lines into which a mail program may have broken one event, and lines that are kept to find that out."""
FORMS_MAX, KINDS_MAX = 32, 4096
"""Ways to write one event, and kinds of events, that a file may show; beyond is damage."""
RARE = 20
"""A probe always shows the same values: where under one in so many of its lines differs, those lines are damaged."""
DECIMAL_DIGITS, DECIMAL_MIN = 7, 16
"""So many hexadecimal numbers of so many digits, and none with any of a to f: they are decimal ones."""
SCALE = [10 ** (9 - digits) for digits in range(10)]

Progress = Callable[[int], None]
Line = tuple[int, str, "re.Match[str] | None"]
"""Number, text, and the match of its head if an event begins with it."""


def looks_like_text(head: bytes) -> bool:
    """Can a file that begins so be text, rather than a trace.dat, a perf.data, or something compressed?"""
    odd = sum(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in head)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        high = 0
    except UnicodeDecodeError:
        high = sum(byte >= 0x7F for byte in head)
    return b"\0" not in head and not head.startswith(b"PERFILE") and odd * 50 <= len(head) and high * 3 <= len(head)


def read_text(
    stream: BinaryIO, path: str, wanted: Collection[str] | None = None, progress: Progress | None = None
) -> Trace:
    """Read a trace as text: whole or in parts, in any order, quoted and wrapped by a mail program or not.

    ``wanted`` limits the columns to these kinds ("kvmmmu:kvm_mmu_get_page"); counts are of all kinds. Fields that the
    text does not show are missing, a task or CPU that it does not show is -1, events whose system cannot be told are
    "unknown:NAME". fast_page_fault has two fields that only text has: ``spurious`` and ``fixed``. Numbers of probes are
    uint64 if written as hexadecimal, else int64. Lines that are no events are left out; ``warnings`` says how many.
    Raises InputError if there is no event at all.
    """
    return _Reader(path, wanted, progress).read(stream)


@dataclass(slots=True)
class _Rows:
    """The events of one kind that are written in one form: texts since the last conversion, and columns before that.

    first    line of the first one
    bare     how many hexadecimal numbers may be decimal ones, ``letters`` if any of them shows that they are not
    left_out  fields that cannot be told
    """

    form: known.Form
    first: tuple[int, str] = (0, "")
    count: int = 0
    pending: list[tuple[int, str, str, re.Match[str]]] = field(default_factory=list)
    columns: list[tuple[Array, ...]] = field(default_factory=list)
    bare: int = 0
    letters: bool = False
    left_out: tuple[str, ...] = ()

    def convert(self) -> None:
        """Turn the pending texts into (place among all events, CPU, task, fields...)."""
        if not self.pending:
            return
        places, cpus, pids, found = zip(*self.pending, strict=True)
        self.pending.clear()
        texts = list(zip(*(match.groups() for match in found), strict=True))
        for at in self.form.bare:
            numbers = [v for v in texts[at] if len(v) >= DECIMAL_DIGITS and v[1] != "x"]
            self.bare += len(numbers)
            self.letters |= not all(map(str.isdecimal, numbers))
        who = (np.array(places, np.int64), np.array([*map(int, cpus)], np.int16), np.array([*map(int, pids)], np.int32))
        what = (read(column) for (_, read), column in zip(self.form.fields, texts, strict=True))
        self.columns.append((*who, *what))


@dataclass(slots=True)
class _Kind:
    """One kind of event; ``rows`` is the form of its latest line, ``learn`` makes new forms where no table has them."""

    name: str
    wanted: bool
    forms: list[_Rows]
    learn: Callable[[str], known.Form | None] | None
    rows: _Rows | None = None


class _Reader:
    """Reads one stream; the state is what was found so far."""

    def __init__(self, path: str, wanted: Collection[str] | None, progress: Progress | None) -> None:
        self.trace = Trace(path, "")
        self.wanted, self.progress = wanted, progress
        self.head = known.FTRACE
        self.block: list[Line] = []
        self.ticks: bool | None = None
        self.times = array("q")
        self.kinds: dict[str, _Kind] = {}
        self.points: dict[str, _Kind] = {}
        self.probes: dict[str, _Kind] = {}
        self.comms: dict[str, str] = {}
        self.processes: dict[str, str] = {}
        self.cpus: set[str] = set()
        self.waiting: list[tuple[str | None, int | None]] = []
        self.lines = self.bad = self.broken = self.unplaced = 0
        self.first_bad: tuple[int, str] | None = None
        self.first_line: tuple[int, str] | None = None
        self.long: list[int] = []

    def read(self, stream: BinaryIO) -> Trace:
        """All lines of ``stream``; see ``read_text``."""
        block = self.block
        for lines in self._pieces(stream):
            for number, line in enumerate(lines, self.lines + 1):
                line = line.strip()
                found, goes_on = self.head.match(line), False
                if found is None:
                    found, goes_on = self._other(number, line)
                if block and not goes_on:
                    self._settle()
                elif len(block) == BLOCK_MAX:
                    self._settle(keep=WRAPPED_MAX - 1)
                if found or goes_on:
                    block.append((number, line, found))
            self.lines += len(lines)
        self._settle()
        return self._finish()

    def _pieces(self, stream: BinaryIO) -> Iterator[list[str]]:
        """The stream's lines, some thousands at a time; one that is too long is given as empty."""
        rest, more = b"", True
        while more and (self.times or self.lines < known.HOPELESS):
            piece = stream.read(PIECE)
            more = bool(piece)
            whole, ended, rest = (rest + piece).rpartition(b"\n") if more else (rest, b"", b"")
            # Of a line that is too long already, keep just enough to know that it is.
            rest = rest[: 4 * LINE_MAX + 1]
            lines = whole.decode(errors="replace").split("\n") if ended or whole else []
            if lines and max(map(len, lines)) > LINE_MAX:
                self.long += [self.lines + i for i, line in enumerate(lines, 1) if len(line) > LINE_MAX]
                lines = [line if len(line) <= LINE_MAX else "" for line in lines]
            yield lines

    def _other(self, number: int, line: str) -> tuple[re.Match[str] | None, bool]:
        """A line that does not begin as the event before: (its head if it is one, whether it may go on with that).

        An event of another tool or in a quotation has a head; a header or a mark of loss is noted.
        """
        if not line:
            return None, False
        self.first_line = self.first_line or (number, line)
        plain = _unquoted(line)
        for head in known.HEADS:
            if found := head.match(plain):
                if plain is line:
                    self.head = head
                return found, False
        if lost := known.LOST.search(plain) or known.PERF_RECORD.search(plain):
            self._settle()
            if lost.re is known.LOST or lost[2]:
                self.waiting.append((lost[1], int(lost[2]) if lost[2] else None))
            return None, False
        if known.NO_EVENT.match(plain):
            self._header(plain)
            return None, False
        return None, bool(plain)

    def _header(self, line: str) -> None:
        trace = self.trace
        if cpus := known.CPUS.search(line):
            trace.cpus = max(trace.cpus, int(cpus[1]))
        if kernel := known.KERNEL.search(line):
            trace.kernel = kernel[1]
        if written := known.WRITTEN.search(line):
            trace.lost_total = (trace.lost_total or 0) + max(0, int(written[2]) - int(written[1]))
        if not trace.form and (tool := known.TOOL.search(line)):
            trace.form = "tracefs trace" if tool[0][0] == "#" else "trace-cmd report"

    def _settle(self, keep: int = 0) -> None:
        """Take the events of the block, lines each of which may be an event or part of one, but for its last lines."""
        block = self.block
        at = int(len(block) == 1 and self._take(*block[0]))
        while at < len(block) - keep:
            for size in range(min(WRAPPED_MAX, len(block) - at), 0, -1):
                number, line, match = block[at]
                if size > 1:
                    line = " ".join(_unquoted(part) for _, part, _ in block[at : at + size])
                    match = next((m for m in (head.match(line) for head in known.HEADS) if m), None)
                if self._take(number, line, match, size > 1):
                    break
            else:
                self._reject(block[at][:2], block[at][2] is not None)
            at += size
        del block[:at]

    def _reject(self, line: tuple[int, str], is_event: bool, count: int = 1) -> None:
        self.bad += count
        self.broken += count if is_event else 0
        self.first_bad = min(self.first_bad or line, line)

    def _take(self, number: int, line: str, match: re.Match[str] | None, is_joined: bool = False) -> bool:
        """Add the event; False if it is none, or its text is not all there."""
        if match is None:
            return False
        comm, pid, process, cpu, seconds, fraction, ticks, name, text = match.groups()
        kind = (self.probes if text[:1] == "(" else self.points).get(name) or self._kind(name, text)
        if kind is None:
            return False
        rows = kind.rows
        found = rows.form.match(text) if rows else None
        if rows is None or found is None:
            rows, found = self._form(kind, (number, line), match, is_joined)
            if rows is None or found is None:
                return False

        if fraction:
            time, is_ticks = int(seconds) * 1_000_000_000 + int(fraction) * SCALE[len(fraction)], False
        elif ticks[-1] == "s":
            time, is_ticks = int(ticks[:-2]) * 1000, False
        else:
            time, is_ticks = int(ticks), True
        is_placed = pid is not None and cpu is not None
        if not is_placed and ":" not in name:
            return False
        if is_ticks is not self.ticks and not self._clock(is_ticks, match):
            return False
        if not is_placed:
            pid, cpu = pid or "-1", cpu or "-1"
            self.unplaced += 1
        if process and process[0] != "-":
            if match.re is known.PERF:
                pid, process = process, pid
            self.processes[pid] = process
        self.comms[pid] = comm
        self.cpus.add(cpu)
        if self.waiting:
            self._place_lost(int(cpu), time)
        rows.count += 1
        if kind.wanted:
            rows.pending.append((len(self.times), cpu, pid, found))
        self.times.append(time)
        if len(self.times) % BATCH == 0:
            self._convert()
        return True

    def _kind(self, name: str, text: str) -> _Kind | None:
        """The kind of event of that name, new or in a new spelling; None if there are too many or nothing tells it."""
        system, _, plain = name.rpartition(":")
        is_probe = text.startswith(("(", "__probe_"))
        if system in ("kvm", "kvmmmu"):
            full = name
        elif system in ("kprobes", "probe") or is_probe:
            full = f"kprobes:{plain}"
        elif system or plain in known.KINDS:
            full = name if system else known.KINDS[plain]
        elif text:
            full = f"unknown:{plain}"
        else:
            return None
        kind = self.kinds.get(full)
        if kind is None:
            if len(self.kinds) == KINDS_MAX:
                return None
            written = [_Rows(form) for form in known.forms(full)]
            learn = None if written else known.learn_probe if full.startswith("kprobes:") else known.learn_loose
            kind = self.kinds[full] = _Kind(full, self.wanted is None or full in self.wanted, written, learn)
        (self.probes if text.startswith("(") else self.points)[name] = kind
        return kind

    def _form(
        self, kind: _Kind, line: tuple[int, str], match: re.Match[str], is_joined: bool
    ) -> tuple[_Rows | None, re.Match[str] | None]:
        """The form in which the event's text is written, from now on the kind's latest; None if it is in none."""
        if is_joined and kind.learn is known.learn_loose:
            return None, None  # any text would do, and so would a paragraph of the mail
        texts = [match[9], known.PERF_PLACE.sub("", match[9])] if match.re is known.PERF else [match[9]]
        for text in texts:
            for rows in kind.forms:
                if found := rows.form.match(text):
                    kind.rows = rows
                    return rows, found
        for text in texts if kind.learn and len(kind.forms) < FORMS_MAX else ():
            if kind.learn and (form := kind.learn(text)) and (found := form.match(text)):
                kind.rows = _Rows(form, line)
                kind.forms.append(kind.rows)
                return kind.rows, found
        return None, None

    def _clock(self, is_ticks: bool, match: re.Match[str]) -> bool:
        """Does the time fit the clock of the first event? That one also tells the tool, where no header did."""
        if self.ticks is not None:
            return False
        self.ticks = is_ticks
        if match.re is known.PERF:
            self.trace.form = "perf script"
        elif not self.trace.form:
            has_flags = match.string[match.end(4) : max(match.start(5), match.start(7))].strip("] ")
            is_padded = match.start(9) - match.end(8) > 2
            self.trace.form = "tracefs trace" if has_flags and not is_padded else "trace-cmd report"
        return True

    def _place_lost(self, cpu: int, time: int) -> None:
        mine = [(c, count) for c, count in self.waiting if c is None or int(c) == cpu]
        self.waiting = [one for one in self.waiting if one not in mine]
        self.trace.lost += [Lost(cpu, time, count) for _, count in mine]

    def _convert(self) -> None:
        for kind in self.kinds.values():
            for rows in kind.forms:
                rows.convert()
        if self.progress and len(self.times) % REPORT == 0:
            self.progress(len(self.times))

    def _finish(self) -> Trace:
        trace = self.trace
        if not self.times:
            number, line = self.first_bad or self.first_line or (1, "")
            raise InputError(
                f"no event in {self.lines} lines, this one reads {_short(line)}" if line else "empty",
                path=trace.path,
                line=number,
                advice="give the text of 'trace-cmd report', of tracefs's 'trace' or 'trace_pipe', or of 'perf script'",
            )
        self._convert()
        time = np.frombuffer(self.times, np.int64)
        trace.first, trace.last = int(time.min()), int(time.max())
        used = [(kind, forms) for kind in self.kinds.values() if (forms := self._used(kind))]
        self._leave_out_decimals([rows for _, forms in used for rows in forms if rows.form.bare])
        asked_for = np.zeros(time.size, np.bool_)
        for kind, forms in used:
            trace.counts[kind.name] = sum(rows.count for rows in forms)
            for rows in forms:
                for columns in rows.columns:
                    asked_for[columns[0]] = True
        by_time = np.argsort(time, kind="stable")
        by_time = by_time[asked_for[by_time]]
        order = np.empty_like(by_time, shape=time.size)
        order[by_time] = np.arange(by_time.size)
        for kind, forms in used:
            if kind.wanted:
                trace.events[kind.name] = self._events(kind.name, forms, time, order)

        trace.clock, trace.hertz = ("x86-tsc", None) if self.ticks else ("", 1e9)
        trace.cpus = max(trace.cpus, *(int(cpu) + 1 for cpu in self.cpus))
        # "trace.dat: comm" is what trace-cmd writes for several files, "<...>" what all write for an unknown task.
        comms = {int(pid): (comm or "").rpartition(": ")[2].strip() for pid, comm in self.comms.items()}
        trace.comms = {pid: comm for pid, comm in comms.items() if comm not in ("", "<...>")}
        trace.tgids = {int(pid): int(process) for pid, process in self.processes.items()}
        trace.lost += [Lost(int(cpu or -1), trace.last, count) for cpu, count in self.waiting]
        trace.lost.sort(key=lambda lost: lost.time)
        self._warn()
        return trace

    def _used(self, kind: _Kind) -> list[_Rows]:
        """The kind's forms, less those that only damaged lines of a probe have."""
        forms = sorted((rows for rows in kind.forms if rows.count), key=lambda rows: -rows.count)
        if kind.learn is not known.learn_probe or len(forms) < 2:
            return forms
        kept = []
        for rows in forms:
            mine, usual = rows.form.names, forms[0]
            is_cut = any(len(r.form.names) > len(mine) and r.form.names[: len(mine)] == mine for r in forms)
            if is_cut or (mine != usual.form.names and rows.count * RARE < usual.count):
                self._reject(rows.first, True, rows.count)
            else:
                kept.append(rows)
        return kept

    def _leave_out_decimals(self, raw: list[_Rows]) -> None:
        """Raw fields that an old trace-cmd may have printed as decimal numbers cannot be told from hexadecimal ones."""
        if sum(rows.bare for rows in raw) < DECIMAL_MIN or any(rows.letters for rows in raw):
            return
        for rows in raw:
            rows.left_out = tuple(rows.form.fields[at][0] for at in rows.form.bare)
        names = sorted({name for rows in raw for name in rows.left_out})
        self._say(
            f"raw numbers look decimal, as an older 'trace-cmd report -R' prints them; left out: {', '.join(names)}"
        )

    def _events(self, name: str, forms: list[_Rows], time: NDArray[np.int64], order: NDArray[np.int64]) -> Events:
        """The kind's columns in the order of time, of the fields that every form shows."""
        shown = [{n: i for i, (n, _) in enumerate(rows.form.fields, 3) if n not in rows.left_out} for rows in forms]
        common = [n for n in shown[0] if all(n in fields for fields in shown)]
        if missing := sorted({n for fields in shown for n in fields if n not in common}):
            self._say(f"not every line of {name} shows {', '.join(missing)}; left out")

        def column(at: Callable[[dict[str, int]], int]) -> Array:
            places = [(at(fields), rows) for rows, fields in zip(forms, shown, strict=True)]
            return _join([columns[place] for place, rows in places for columns in rows.columns])

        place = column(lambda _: 0)
        sort = np.argsort(order[place])
        cpu, pid = column(lambda _: 1)[sort], column(lambda _: 2)[sort]
        fields = {n: column(operator.itemgetter(n))[sort] for n in common}
        return Events(name, order[place][sort], time[place][sort], cpu, pid, fields)

    def _say(self, what: str) -> None:
        self.trace.warnings.append(f"{self.trace.path}: {what}")

    def _warn(self) -> None:
        if self.first_bad:
            number, line = self.first_bad
            broken = f" ({self.broken} of them damaged events)" if self.broken else ""
            self._say(f"{self.bad} of {self.lines} lines are not events{broken}, first: line {number}: {_short(line)}")
        if self.long:
            self._say(f"{len(self.long)} lines over {LINE_MAX >> 10} KiB are left out, first: line {self.long[0]}")
        if self.unplaced:
            self._say(f"{self.unplaced} events do not show their CPU or task, which are given as -1")


def _join(parts: list[Array]) -> Array:
    """One column; of numbers that are signed in some parts only, signed if any is negative."""
    if len({part.dtype for part in parts}) > 1:
        is_signed = any(part.dtype.kind == "i" and part.min() < 0 for part in parts)
        parts = [part.astype(np.int64 if is_signed else np.uint64) for part in parts]
    return np.concatenate(parts)


def _unquoted(line: str) -> str:
    """The line without the marks of a quotation in a mail."""
    return line.lstrip("> ") if line[0] == ">" else line


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
