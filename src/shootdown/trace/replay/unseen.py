"""Entries of which the record tells only later: those made before it began, or changed while events were lost.

The old value of an entry's next change tells what it held; that it is taken over is an input, and counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...mmu.spte import PAGES, SpteFormat, differs_beyond_hardware, is_frozen, is_last, is_present, is_table
from .. import codes as s
from .operation import FAST_FAULT, RACING, Op
from .record import Event

if TYPE_CHECKING:
    from .task import Task


@dataclass(slots=True)
class Told:
    """An entry's value, told by a later event, which is ``at`` that position."""

    vm: int
    as_id: int
    level: int
    gfn: int
    value: int
    at: int


class Gaps:
    """Where events were lost: from ``begin`` to ``end``, on one of the CPUs."""

    def __init__(self, events: list[Event]) -> None:
        self.edges: list[int] = []
        self.depth: list[int] = []
        depth = 0
        for e in events:
            if e.code == s.LOST:
                depth += e.a
                self.edges.append(e.at)
                self.depth.append(depth)

    def between(self, first: int, last: int) -> int | None:
        """A place between two events of an entry from which on other ones may have been lost; None if there is none."""
        k = bisect_right(self.edges, first)
        if k and self.depth[k - 1] > 0:
            return first
        if k < len(self.edges) and self.edges[k] < last:
            return self.edges[k]
        return None


def told_later(ops: list[Op], gaps: Gaps, fmt: SpteFormat, empty: int) -> dict[int, list[Told]]:
    """By position (-1: the start, else where events were lost): what entries held there, parents first."""
    events = sorted(_events(ops), key=lambda item: item[0].at)
    held: dict[tuple[int, int, int, int], tuple[int, int]] = {}
    born: dict[tuple[int, int, int, int], int] = {}
    cut: set[tuple[int, int, int, int]] = set()
    found: dict[int, list[Told]] = {}
    for e, vm in events:
        as_id, level, gfn, old, new = _entry(e)
        name = (vm, as_id, level, gfn)
        table = (vm, as_id, level, gfn >> (9 * level))
        before = held.get(name)
        made = born.get(table, -1)
        if before is None or before[0] < made:
            at, value = made, None if made >= 0 else empty
        else:
            at, value = before
        gap = -1 if before is None and made < 0 else gaps.between(at, e.at)
        if before is None and made < 0 and is_frozen(new) and table not in cut:
            # Of a table that was cut off before the record began: it is out of reach.
            gap = None
        if gap is not None and value is not None and _differs(value, old, level, fmt):
            found.setdefault(gap, []).append(Told(vm, as_id, level, gfn, old, e.at))
        held[name] = (e.at, new)
        if is_table(old, level):
            cut.add((vm, as_id, level - 1, gfn >> (9 * (level - 1))))
        if is_table(new, level):
            born[(vm, as_id, level - 1, gfn >> (9 * (level - 1)))] = e.at
    for told in found.values():
        told.sort(key=lambda t: -t.level)
    return found


def _events(ops: list[Op]) -> Iterable[tuple[Event, int]]:
    for op in ops:
        for e in op.expected:
            if e.code == s.CHANGED or (op.kind == FAST_FAULT and is_present(e.d) and not is_last(e.d, 2)):
                yield e, op.vm


def _entry(e: Event) -> tuple[int, int, int, int, int]:
    if e.code == s.CHANGED:
        return max(e.e, 0), e.b, e.a, e.c, e.d
    return 0, 1, e.b >> 12, e.d, e.e


def _differs(value: int, old: int, level: int, fmt: SpteFormat) -> bool:
    if is_frozen(value) or value == old:
        return not is_frozen(value) and value != old
    return bool(differs_beyond_hardware(value, old, level, fmt))


def leads_to(task: Task, gfn: int, level: int, new: int) -> bool:
    """Is a table linked on the way to the next recorded change of a fault, where the record began with it?

    Nothing tells of tables that are older than the recording, but that the kernel had no need to make them.
    """
    e = task.head()
    if task.vm.config.born or task.op.kind not in RACING or e is None or e.code != s.CHANGED:
        return False
    return is_table(new, level) and e.b < level and gfn <= e.a < gfn + PAGES[level]
