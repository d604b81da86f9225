"""Plain text of at most 80 columns, and JSON: how figures, ranges and unknowns are written."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

SCHEMA = "shootdown/1"
"""Version of the JSON output; it changes when a field changes its meaning or goes."""
WIDTH = 80

Range = tuple[int, int]


def number(value: int | None) -> str:
    """A count with thousands set off; "unknown" for None."""
    return "unknown" if value is None else f"{value:,}"


def count(number_of: int, what: str, many: str = "") -> str:
    """A number with its noun: "1 finding", "2 findings", "3 entries"."""
    return f"{number(number_of)} {what if number_of == 1 else many or what + 's'}"


def span(value: Range | None) -> str:
    """A count, or "least..most"; "unknown" for None."""
    if value is None:
        return "unknown"
    return number(value[0]) if value[0] == value[1] else f"{number(value[0])}..{number(value[1])}"


def seconds(value: tuple[float, float]) -> str:
    """An interval of time with a unit that suits its upper end, two digits: "1.8..160 ms"."""
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e3, "ms"), (1e6, "us")) if value[1] * s >= 1), (1e6, "us"))
    low, high = (digits(v * scale) for v in value)
    return f"{low} {unit}" if low == high else f"{low}..{high} {unit}"


def digits(value: float) -> str:
    """Two significant digits, without an exponent."""
    if value == 0:
        return "0"
    places = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:,.{max(0, places)}f}"


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table: the first ``left`` columns flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def wrap(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Text in lines of at most 80 columns."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent, break_on_hyphens=False
    )


def exact(value: Range | None) -> int | list[int] | None:
    """For JSON: a number, [least, most], or null for unknown."""
    if value is None:
        return None
    return value[0] if value[0] == value[1] else list(value)


def dump(command: str, body: dict[str, Any]) -> str:
    """The JSON document of a command."""
    return json.dumps({"schema": SCHEMA, "command": command, **body}, indent=1)
