"""Unified diffs: their hunks, and files with them applied, where each line knows the hunks that changed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...errors import InputError

NONE = "/dev/null"


@dataclass(eq=False)
class Hunk:
    """One hunk of a patch.

    file    the changed file, as ``mmu/zap.py``
    start   line of the old file where it should be, from 1
    where   file and line of the patch
    diff    which diff of the patch it is from: line numbers count from the file before that diff
    body    its lines: the sign, and the text
    lines   lines of the changed file that stand for it, once all is applied
    function  the function around them
    heading   what the diff says behind the second @@
    """

    file: str
    start: int
    where: str
    diff: str
    body: list[tuple[str, str]] = field(default_factory=list)
    lines: frozenset[int] = frozenset()
    function: str = ""
    heading: str = ""

    @property
    def old(self) -> list[str]:
        """Lines without the change, context included."""
        return [text for sign, text in self.body if sign != "+"]

    def __str__(self) -> str:
        line = min(self.lines, default=self.start)
        return f"{self.file}:{line}" + (f" {self.function}" if self.function else "")


@dataclass
class Line:
    """A line of a file, and the hunks that changed it or what stood next to it.

    by      the one that added it
    before, after  those that removed lines before or after it, and put none in their place
    """

    text: str
    hunks: set[Hunk] = field(default_factory=set)
    by: Hunk | None = None
    before: set[Hunk] = field(default_factory=set)
    after: set[Hunk] = field(default_factory=set)


def read_hunks(path: str, text: str, name: Callable[[int, str, str], str], first: int = 1) -> list[Hunk]:
    """The hunks of a diff, or of a mail that holds one.

    ``name`` gives the file that a diff is about, from the line of the patch and its new and old names. ``first`` is the
    number of the text's first line.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines and not lines[-1]:
        lines.pop()
    hunks: list[Hunk] = []
    file = diff = ""
    n = 0
    while n < len(lines):
        line = lines[n]
        if line.startswith("+++ ") and n and lines[n - 1].startswith("--- "):
            diff = f"{path}:{n - 1 + first}"
            file = name(n + first, line[4:].split("\t")[0].strip(), lines[n - 1][4:].split("\t")[0].strip())
        match = re.match(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@ ?(.*)", line)
        if match and file:
            hunk = Hunk(file, int(match[1]), f"{path}:{n + first}", diff, heading=match[4])
            n = _body(path, lines, n + 1, hunk, int(match[2] or 1), int(match[3] or 1), first)
            hunks.append(hunk)
            continue
        n += 1
    return hunks


def _body(path: str, lines: list[str], n: int, hunk: Hunk, old: int, new: int, first: int) -> int:
    """Read the lines of a hunk from the n-th line on; where it ends."""
    while old > 0 or new > 0:
        if n >= len(lines):
            raise InputError(f"{hunk.where}: the hunk is cut short")
        line = lines[n] or " "
        sign, text = line[0], line[1:]
        if sign == "\\":
            n += 1
            continue
        if sign not in " +-":
            raise InputError(f"{path}:{n + first}: a line of a hunk begins with none of ' ', '+', '-'")
        hunk.body.append((sign, text))
        old -= sign != "+"
        new -= sign != "-"
        n += 1
    return n


def fit(lines: list[Line], hunks: Sequence[Hunk]) -> int | None:
    """Apply the hunks of one file to its lines, one after the other; the number of the first that does not fit."""
    shift, diff = 0, ""
    for number, hunk in enumerate(hunks):
        shift = shift if hunk.diff == diff else 0
        diff = hunk.diff
        at = _find([line.text for line in lines], hunk.old, hunk.start - 1 + shift)
        if at is None:
            return number
        end = at + len(hunk.old)
        around = (lines[at - 1] if at else None, lines[end] if end < len(lines) else None)
        after = _changed(lines[at:end], hunk, *around)
        lines[at:end] = after
        shift += len(after) - (end - at)
    return None


def _changed(lines: list[Line], hunk: Hunk, above: Line | None, below: Line | None) -> list[Line]:
    """The lines of a hunk when it is applied. What was removed shows in what now stands around it."""
    left, after = iter(lines), list[Line]()
    last, removed, added = above, False, False
    carried: set[Hunk] = set()

    def end_of_run(line: Line | None) -> None:
        if removed and line is not None:
            line.hunks.add(hunk)
        if removed and not added:
            if last is not None:
                last.after.add(hunk)
            if line is not None:
                line.before.add(hunk)

    for sign, text in hunk.body:
        if sign == "-":
            old = next(left)
            # What earlier ones removed next to it shows in what comes instead.
            carried |= old.before | old.after
            removed = True
            if last is not None:
                last.hunks.add(hunk)
            continue
        if sign == "+":
            last = Line(text, {hunk}, by=hunk)
            added = True
        else:
            line = next(left)
            end_of_run(line)
            last, removed, added = line, False, False
        last.before |= carried
        carried = set()
        after.append(last)
    end_of_run(below)
    if below is not None:
        below.before |= carried
    elif last is not None:
        last.after |= carried
    return after


def _find(lines: list[str], old: list[str], near: int) -> int | None:
    """Where ``old`` stands in ``lines``, as near to ``near`` as can be."""
    if not old:
        return min(max(near + 1, 0), len(lines))
    places = [n for n in range(len(lines) - len(old) + 1) if lines[n] == old[0] and lines[n : n + len(old)] == old]
    return min(places, key=lambda n: abs(n - near), default=None)
