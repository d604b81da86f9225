"""Operations that no probe tells of: recovered from what the changes of a thread do, and in which order.

Only the kind of an operation and the gfns that it ranges over are taken from the changes; what our MMU then does within
them is compared like everything else.
"""

from __future__ import annotations

from ...mmu.spte import PAGES, is_frozen, is_table
from .. import codes as s
from . import operation
from .operation import Op
from .record import FIELDS, Event
from .shape import COLLAPSE, PROTECT, SPLIT, UNMAP, ZAP, what_of


def infer(ops: list[Op], recorded: frozenset[int]) -> list[Op]:
    """The same operations, those cut further that hold what no probe tells apart."""
    found: list[Op] = []
    logging: set[int] = set()
    for op in sorted(ops, key=lambda op: op.begin):
        if op.kind == operation.REGION and op.first.code == s.SET_REGION and op.first.c & 1:
            logging.add(op.vm)
        if needs_cutting(op, recorded):
            found.extend(cut(op, logging))
        else:
            found.append(op)
    return found


def needs_cutting(op: Op, recorded: frozenset[int]) -> bool:
    """Is it unknown what the operation is, or where it ends?"""
    if not op.expected:
        return False
    if op.kind == operation.UNKNOWN:
        return True
    if op.kind == operation.INVALIDATE:
        return not any(e.code == s.UNMAP for e in op.calls)
    if op.kind == operation.RING:
        return not any(e.code == s.RING_RESET for e in op.calls)
    return op.kind == operation.REGION and op.first.code != s.SET_REGION and s.SET_REGION not in recorded


def cut(op: Op, logging: set[int]) -> list[Op]:
    """Runs of changes that one operation can have made."""
    runs: list[tuple[str, list[Event]]] = []
    root_gone = False
    below = -1
    for e in op.expected:
        if e.code != s.CHANGED:
            if runs:
                runs[-1][1].append(e)
            continue
        what = what_of(e)
        if runs and below > e.b and is_frozen(e.d):
            # Of a table that was removed just before.
            runs[-1][1].append(e)
            continue
        below = e.b if is_table(e.c, e.b) else -1
        if runs and goes_on(runs[-1], what, e, root_gone):
            if what == ZAP and runs[-1][0] == UNMAP:
                runs[-1] = (ZAP, runs[-1][1])
            runs[-1][1].append(e)
        else:
            runs.append((what, [e]))
            root_gone = False
        if what == ZAP and e.b >= 4:
            root_gone = True
    return [made(op, what, events, k == 0, logging) for k, (what, events) in enumerate(runs)]


def goes_on(run: tuple[str, list[Event]], what: str, e: Event, root_gone: bool) -> bool:
    """Can a change belong to the operation of those before it?"""
    kind, events = run
    last = next((x for x in reversed(events) if x.code == s.CHANGED), e)
    if kind == ZAP:
        return what in (ZAP, UNMAP) and not (root_gone and e.b < 4)
    if kind == UNMAP:
        return what == ZAP or (what == UNMAP and e.a > last.a)
    if kind == SPLIT:
        return what in (SPLIT, PROTECT)
    if kind == PROTECT:
        return what in (PROTECT, SPLIT) and e.a > last.a
    return kind == what and e.a > last.a


def made(op: Op, what: str, events: list[Event], first: bool, logging: set[int]) -> Op:
    """The operation of a run of changes."""
    kind = op.kind
    if what in (PROTECT, SPLIT):
        reaps = any(e.code == s.CLEAR_PT for e in op.calls)
        kind = operation.GET_LOG if op.vm in logging or reaps else operation.REGION
        logging.add(op.vm)
    elif what == COLLAPSE:
        kind = operation.REGION
        logging.discard(op.vm)
    elif what == UNMAP:
        kind = operation.INVALIDATE
    elif what == ZAP:
        kind = op.kind if first and op.kind == operation.REGION else operation.ZAP_ALL
    new = Op(kind, op.first if first else events[0], op.vm, True)
    new.begin, new.end = events[0].at, events[-1].at
    new.expected = events
    new.guess = what
    new.torn, new.after_loss, new.pid = op.torn, op.after_loss, op.pid
    new.calls = list(op.calls) if first else []
    if what == UNMAP:
        new.calls.append(unmap_of(events))
    return new


def unmap_of(events: list[Event]) -> Event:
    """The call that unmaps the range from the first changed gfn to the last."""
    changed = [e for e in events if e.code == s.CHANGED]
    first, last = changed[0], changed[-1]
    numbers = [s.MISSING] * FIELDS
    numbers[1:4] = [first.a, last.a + PAGES[last.b], max(first.e, 0)]
    return Event(first.at, s.UNMAP, first.time, first.cpu, first.pid, *numbers)
