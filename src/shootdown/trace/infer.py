"""Which kind of operation a change belongs to, where no probe tells: from the values alone."""

from __future__ import annotations

from mypy_extensions import i64

from ..mmu.spte import WRITABLE, SpteFormat, is_frozen, is_leaf, is_present, is_table
from .op import (
    AGE,
    CHANGE_PTE,
    CLEAR_DIRTY,
    COLLAPSE,
    MAP,
    NOTIFIER,
    SLOT_DELETE,
    SPLIT,
    UNKNOWN,
    WRITE_PROTECT,
    ZAP_ROOT,
    Op,
)


def kind_of_change(old: i64, new: i64, level: i64, fmt: SpteFormat) -> int:
    """What makes such a change outside a fault and a notifier, both of which have tracepoints of their own."""
    if is_leaf(old, level) and is_leaf(new, level):
        gone = old & ~new
        if gone & WRITABLE:
            return WRITE_PROTECT
        if gone & fmt.accessed:
            return AGE
        return CLEAR_DIRTY if gone & fmt.dirty else UNKNOWN
    if is_leaf(old, level):
        return SPLIT if is_table(new, level) else ZAP_ROOT
    if is_table(old, level):
        return COLLAPSE if is_frozen(new) or is_leaf(new, level) else ZAP_ROOT
    return MAP if is_present(new) else UNKNOWN


def repeats(op: Op, kind: int, gfn: i64, old: i64, level: i64) -> bool:
    """Does a change of that kind go on with ``op``? A walk only goes up: one that starts again below is another one."""
    if kind == SPLIT and op.kind in (WRITE_PROTECT, CLEAR_DIRTY):
        # Huge pages are split on the way where the dirty log is cleared.
        return True
    if op.kind == kind:
        return kind not in (WRITE_PROTECT, CLEAR_DIRTY, AGE) or gfn > op.last_gfn
    return op.kind == COLLAPSE and kind == ZAP_ROOT and is_table(old, level) and gfn > op.last_gfn


def fits(op: Op, old: i64, new: i64, level: i64) -> bool:
    """Can the operation that the thread was last seen in have made the change?

    Only for operations whose end no event shows: what comes after them in the thread may be something else.
    """
    if not op.loose:
        return True
    gone = is_leaf(old, level) and not is_present(new)
    if op.kind == NOTIFIER:
        return gone and (op.room < 0 or op.leafs < op.room)
    if op.kind == MAP:
        return is_frozen(new) or (not gone and (is_present(new) or not is_present(old)))
    if op.kind == AGE:
        return is_leaf(old, level) and is_leaf(new, level)
    if op.kind == CHANGE_PTE:
        return level == 1 and is_leaf(old, level) != is_leaf(new, level)
    if op.kind == SLOT_DELETE:
        return not is_present(new)
    return True
