"""The last line of a comparison: where the flushes come from, and what would save them."""

from __future__ import annotations

from ..figures import percent, span
from ..trace.history import History
from ..trace.op import COLLAPSE, MAP, NAMES
from .price import OperationCost

SAVED_BY = {
    "notifier": "one for each range that the host unmapped, and one more each time that a zap gives way",
    "clear dirty": "one for each harvest of the dirty log, so longer rounds would save them",
    "write-protect": "one for each slot whose logging began; no policy here saves them",
    "age": "one for each range found young; 6.13 dropped these (b9883ee40d7e), which no policy here counts",
    "NX recovery": "one for each batch of recovered pages, so a longer recovery period would save them",
    "slot delete": "one for each slot deleted alone; zapping all roots instead (the default quirk) flushes none",
    "zap leafs": "one for each range that KVM itself zapped",
}
"""What to make of it when most flushes come from one kind of operation."""


def advice(history: History, operations: list[OperationCost], seen: bool, expected: tuple[int, int]) -> str:
    """One sentence, or two where events were lost; ``expected``: flushes by the kernel's rules."""
    rows = [row for row in operations if row.flushes[1]]
    low, high = (sum(row.flushes[end] for row in rows) for end in (0, 1))
    lost = ""
    if history.trace.lost and seen:
        lost = f"Events were lost: the operations seen should have flushed {span(expected, ' to ')} times. "
    if not high and not history.state.changes:
        return "No change of page tables was recorded, so there is nothing to price."
    how = "recorded" if lost else "" if seen else "inferred"
    if not high:
        return f"{lost}No remote flush{how and f' ({how})'}: these changes of page tables needed none."
    most = max(row.flushes[1] for row in rows)
    top = [row for row in rows if row.flushes[1] == most]
    names = " and ".join([", ".join(row.name for row in top[:-1]), top[-1].name] if len(top) > 1 else [top[0].name])
    count = f"{span((low, high), ' to ')} {how} flushes".replace("  ", " ")
    if low != high:
        share = f"{span(top[0].flushes, ' to ')} of {count} come from {names}"
    else:
        share = f"{percent(most * len(top), high)} of {count} come from {names}"
    if len(top) > 1:
        return f"{lost}{share}, alike."
    return f"{lost}{share}{_remedy(history, top[0].name)}."


def _remedy(history: History, name: str) -> str:
    if name == NAMES[COLLAPSE]:
        return _batched([op.cuts for op in history.ops if op.kind == COLLAPSE and op.cuts])
    if name == NAMES[MAP]:
        faults = [op for op in history.ops if op.kind == MAP]
        if sum(op.huge for op in faults) > sum(op.replaced for op in faults):
            return ": faults that zapped a huge page in their way; 6.12 splits it without a flush"
        return ": faults that put a huge page in a table's place; no policy here saves them"
    return f": {SAVED_BY[name]}" if name in SAVED_BY else ""


def _batched(calls: list[int]) -> str:
    if sum(calls) == len(calls):
        return "; 6.13 would need as many, since each call collapsed one region"
    batched = "1 + yields" if len(calls) == 1 else f"1 + yields for each of {len(calls)} calls"
    return f"; 6.13 would batch them into {batched}"
