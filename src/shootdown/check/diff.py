"""Unified diffs: their hunks, and files with them applied, where each line knows the hunks that changed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import InputError

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
    """

    file: str
    start: int
    where: str
    diff: str
    body: list[tuple[str, str]] = field(default_factory=list)
    lines: frozenset[int] = frozenset()
    function: str = ""

    @property
    def old(self) -> list[str]:
        """Lines without the change, context included."""
        return [text for sign, text in self.body if sign != "+"]

    def __str__(self) -> str:
        line = min(self.lines, default=self.start)
        return f"{self.file}:{line}" + (f" {self.function}" if self.function else "")


@dataclass
class Line:
    """A line of a file, and the hunks that changed it or what stood next to it; ``by`` is the one that added it."""

    text: str
    hunks: set[Hunk] = field(default_factory=set)
    by: Hunk | None = None


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
        match = re.match(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
        if match and file:
            hunk = Hunk(file, int(match[1]), f"{path}:{n + first}", diff)
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
        after = _changed(lines[at:end], hunk)
        # Hunks without context: what was removed shows in what stands around the hunk.
        if at and hunk.body[0][0] == "-":
            lines[at - 1].hunks.add(hunk)
        if end < len(lines) and hunk.body[-1][0] == "-":
            lines[end].hunks.add(hunk)
        lines[at:end] = after
        shift += len(after) - (end - at)
    return None


def _changed(before: list[Line], hunk: Hunk) -> list[Line]:
    """The lines of a hunk when it is applied. What was removed shows in what now stands around it."""
    left, after, removed = iter(before), list[Line](), False
    for sign, text in hunk.body:
        if sign == "-":
            next(left)
            removed = True
            if after:
                after[-1].hunks.add(hunk)
            continue
        line = Line(text, by=hunk) if sign == "+" else next(left)
        if sign == "+" or removed:
            line.hunks.add(hunk)
        removed = False
        after.append(line)
    return after


def _find(lines: list[str], old: list[str], near: int) -> int | None:
    """Where ``old`` stands in ``lines``, as near to ``near`` as can be."""
    if not old:
        return min(max(near + 1, 0), len(lines))
    places = [n for n in range(len(lines) - len(old) + 1) if lines[n] == old[0] and lines[n : n + len(old)] == old]
    return min(places, key=lambda n: abs(n - near), default=None)
