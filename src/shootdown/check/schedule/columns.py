"""Schedules as tables with a column for each task: plain ASCII of 72 columns, so that a mail client leaves it alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, WHERE_MAX = 72, 18


@dataclass
class Table:
    """A schedule in lines of at most 72 columns: its head, the rows of each access, and what broke, with its proof."""

    head: list[str]
    rows: list[list[str]]
    end: list[str]

    def lines(self) -> list[str]:
        """The whole."""
        return [*self.head, *(line for row in self.rows for line in row), *self.end]


class Columns:
    """How wide the columns are: of tasks with these ``names``, and of the places in ``where``."""

    def __init__(self, names: Sequence[str], where: Iterable[str]) -> None:
        self.names = names
        self.where = min(max(map(len, where), default=0), WHERE_MAX)
        self.each = (WIDTH - 4 - self.where - 2 * len(names)) // max(1, len(names))

    def head(self) -> list[str]:
        """The names of the columns, and a rule."""
        rule = " ".join(["---", *["-" * self.each] * len(self.names), "-" * self.where])
        return [self._row("#", self.names, "where")[0], rule]

    def row(self, number: int, task: int, text: str, where: str) -> list[str]:
        """What one task did, over several lines if it takes them."""
        cells = [""] * len(self.names)
        cells[task] = text
        return self._row(str(number), cells, where)

    def _row(self, number: str, cells: Sequence[str], where: str) -> list[str]:
        parts = [fold(cell, self.each, "_.(") for cell in cells]
        places = fold(where, self.where, "_") if self.where else [""]
        height = max(len(places), *(len(part) for part in parts))
        lines = []
        for n in range(height):
            texts = [(part[n] if n < len(part) else "").ljust(self.each) for part in parts]
            texts.append(places[n] if n < len(places) else "")
            lines.append(" ".join([number.rjust(3) if n == 0 else "   ", *texts]).rstrip())
        return lines


def fold(text: str, width: int, ends: str) -> list[str]:
    """Lines of a text; a word that is too long for one goes on after one of the characters ``ends``, if it can."""
    lines = [""]
    for word in text.split():
        pieces = [word] if len(word) <= width else re.findall(f"[^{ends}]*[{ends}]|[^{ends}]+", word)
        for n, piece in enumerate(pieces):
            space = " " * (n == 0 and lines[-1] != "")
            if len(lines[-1]) + len(space) + len(piece) <= width:
                lines[-1] += space + piece
                continue
            lines += [piece[at : at + width] for at in range(0, len(piece), width)]
    return lines[1:] if lines[0] == "" and len(lines) > 1 else lines


def broken_lines(texts: Iterable[str]) -> list[str]:
    """What broke, in sentences."""
    lines: list[str] = []
    for text in texts:
        first = "        " if lines else "BROKEN: "
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent="        ")
    return lines
