"""Schedules as tables with a column for each task: plain ASCII of 72 columns, so that a mail client leaves it alone."""

from __future__ import annotations

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
        parts = [textwrap.wrap(cell, self.each) or [""] for cell in cells]
        places = textwrap.wrap(where, self.where) or [""] if self.where else [""]
        height = max(len(places), *(len(part) for part in parts))
        lines = []
        for n in range(height):
            texts = [(part[n] if n < len(part) else "").ljust(self.each) for part in parts]
            texts.append(places[n] if n < len(places) else "")
            lines.append(" ".join([number.rjust(3) if n == 0 else "   ", *texts]).rstrip())
        return lines


def broken_lines(texts: Iterable[str]) -> list[str]:
    """What broke, in sentences."""
    lines: list[str] = []
    for text in texts:
        first = "        " if lines else "BROKEN: "
        lines += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent="        ")
    return lines
