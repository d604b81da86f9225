"""Figures in words: how counts, ranges, shares, times and unknowns are written."""

from __future__ import annotations

import math

Range = tuple[int, int]


def number(value: int | None) -> str:
    """A count with thousands set off; "unknown" for None."""
    return "unknown" if value is None else f"{value:,}"


def count(number_of: int, what: str, many: str = "") -> str:
    """A number with its noun: "1 finding", "2 findings", "3 entries"."""
    return f"{number(number_of)} {what if number_of == 1 else many or what + 's'}"


def span(value: Range | None, to: str = "..") -> str:
    """A count, or "least..most", in a sentence with `` to `` between them; "unknown" for None."""
    if value is None:
        return "unknown"
    return number(value[0]) if value[0] == value[1] else f"{number(value[0])}{to}{number(value[1])}"


def percent(part: float, whole: float) -> str:
    """A share in words: never 100 % of less than all, never 0 % of something."""
    if part == whole:
        return "100 %"
    rounded = round(100 * part / whole)
    return "0 %" if not part else ">99 %" if rounded > 99 else "<1 %" if rounded < 1 else f"{rounded} %"


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
