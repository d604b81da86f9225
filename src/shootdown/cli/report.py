"""Plain text of at most 80 columns, and JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from ..figures import Range

SCHEMA = "shootdown/1"
"""Version of the JSON output; it changes when a field changes its meaning or goes."""
WIDTH = 80


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table: the first ``left`` columns flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def wrap(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Text in lines of at most 80 columns; a longer word, as a path, stays whole, since it is there to be copied."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def exact(value: Range | None) -> int | list[int] | None:
    """For JSON: a number, [least, most], or null for unknown."""
    if value is None:
        return None
    return value[0] if value[0] == value[1] else list(value)


def dump(command: str, body: dict[str, Any]) -> str:
    """The JSON document of a command."""
    return json.dumps({"schema": SCHEMA, "command": command, **body}, indent=1)
