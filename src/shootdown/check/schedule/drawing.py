"""A story as a table, and as a sequence diagram in Mermaid's language."""

from __future__ import annotations

import re
import textwrap

from .columns import WIDTH, Columns, Table, broken_lines
from .story import MEMORY, RCU, Story


def table(story: Story) -> Table:
    """A table with a column for each task, and what came of it below."""
    places = [move.where.rpartition("/")[2] for move in story.moves]
    columns = Columns(story.tasks, places)
    found = Table(columns.head(), [], [])
    for move, place in zip(story.moves, places, strict=True):
        lines = columns.row(move.number, story.tasks.index(move.task), move.access, place)
        for note in move.notes:
            lines += textwrap.wrap(f"    * {note.text}", WIDTH, subsequent_indent="      ")
        found.rows.append(lines)
    end = found.end
    end.append("")
    if story.broken:
        end += [*broken_lines(story.broken), ""]
    for text in (*story.standing, *story.legend):
        end += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return found


def mermaid(story: Story) -> list[str]:
    """A sequence diagram: an arrow for each access to memory, RCU or another vCPU, a note for all else."""
    others = [name for name in (MEMORY, RCU) if any(move.to == name for move in story.moves)]
    others += [MEMORY] if MEMORY not in others and any(move.notes for move in story.moves) else []
    named = {note.about for move in story.moves for note in move.notes} | {move.to for move in story.moves}
    tasks = [*story.tasks, *sorted(named - {*story.tasks, MEMORY, RCU, ""})]
    short = {name: f"p{n}" for n, name in enumerate([*tasks, *others])}
    lines = ["sequenceDiagram", *(f"    participant {key} as {_safe(name)}" for name, key in short.items())]
    for move in story.moves:
        text = _safe(f"{move.number} {move.access}")
        task = short[move.task]
        if move.to and move.to != move.task:
            lines.append(f"    {task}->>{short[move.to]}: {text}")
        else:
            lines.append(f"    Note over {task}: {text}")
        lines += [f"    Note over {short[note.about]}: {_safe(note.text)}" for note in move.notes]
    if story.broken and short:
        keys = list(short.values())
        over = keys[0] if len(keys) == 1 else f"{keys[0]},{keys[-1]}"
        lines.append(f"    Note over {over}: {_safe('BROKEN: ' + ' '.join(story.broken))}")
    return lines


def _safe(text: str) -> str:
    """Text of a diagram: what ends a statement there, or begins an entity, is written as one."""
    return re.sub(r"[#;<\n\r]", lambda found: f"#{ord(found[0])};", text)
