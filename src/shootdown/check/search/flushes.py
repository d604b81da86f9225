"""What a flush drops of what a CPU may hold: all, or what the hardware must drop of a range.

A flush of a range drops each translation that maps something of it, and each way to a table all of whose pages lie in
it. What else a CPU holds it may keep: so a flush that is too small shows.

Source: of translations, Intel SDM volume 3, 4.10.4.1: an entry for the page that holds the address goes, with all that
were made of a larger page. Of ways to tables, what KVM counts on: it cuts a table off and flushes all that was mapped
by it (``handle_removed_pt``, 6.12), while hosts of Hyper-V, whose hypercall is the flush (TLFS,
HvCallFlushGuestPhysicalAddressList), are promised nothing of caches of upper levels. That less than all of a table's
pages leaves the way to it is what we take to be the worst; INVLPG on bare metal would drop more.
"""

from __future__ import annotations

from mypy_extensions import i64

from ..program.steps import HOLDS_FREED, HOLDS_STALE, IPI, IRQ_OFF, PROGRAMS_MAX
from .layout import F_FLAGS, F_MARKED, F_TLB, RANGED, ROOT_WORDS, TABLES, VALUES, Tables, get, put


def flush(t: Tables, vcpu: i64, program: i64) -> i64:
    """Drop all that a vCPU's CPU holds, and marks with it; the table of its root, -1 if its own thread does that."""
    root = drop(t, vcpu, -1)
    if vcpu == program:
        return -1
    return root


def flush_range(t: Tables, number: i64, choice: i64) -> i64:
    """Drop what the flush of that number takes from the vCPU that ``choice`` means; the table of its root."""
    return drop(t, t.targets[number * PROGRAMS_MAX + choice], t.drops[number])


def drop(t: Tables, vcpu: i64, entries: i64) -> i64:
    """Drop some entries (a mask, -1 for all); the table of the root that the vCPU is on.

    A CPU that runs its guest fills again at once, as after a write to that table.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    f = p[F_TLB] + vcpu
    put(row, f, get(row, 0, f, fw, fs, fm) & ~entries, fw, fs, fm)
    f = p[F_FLAGS] + vcpu
    flags = get(row, 0, f, fw, fs, fm) & (IRQ_OFF | IPI)
    if p[RANGED] != 0:
        # What was marked and is still there is as bad as before.
        marked = get(row, 0, p[F_MARKED] + vcpu, fw, fs, fm) & ~entries
        put(row, p[F_MARKED] + vcpu, marked, fw, fs, fm)
        table: i64 = 0
        while table < p[TABLES]:
            if marked & t.into[table] != 0:
                flags |= HOLDS_FREED
                marked &= ~t.into[table]
            table += 1
        if marked != 0:
            flags |= HOLDS_STALE
    put(row, f, flags, fw, fs, fm)
    word = p[ROOT_WORDS] + vcpu
    return t.child[word * p[VALUES] + get(row, 0, word, fw, fs, fm)]


def mark(t: Tables, vcpu: i64, entries: i64) -> None:
    """Note which of a vCPU's entries are why it is marked, if a flush can drop some of what it holds."""
    p = t.p
    if p[RANGED] != 0:
        f = p[F_MARKED] + vcpu
        held = get(t.row, 0, p[F_TLB] + vcpu, t.fw, t.fs, t.fm) & entries
        put(t.row, f, get(t.row, 0, f, t.fw, t.fs, t.fm) | held, t.fw, t.fs, t.fm)
