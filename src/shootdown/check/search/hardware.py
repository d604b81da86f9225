"""What happens by itself: CPUs hold whatever a walk can meet, and RCU callbacks run when their grace period is over."""

from __future__ import annotations

from mypy_extensions import i64

from ..program.steps import HOLDS_FREED, HOLDS_STALE, LEAK, MISCOUNT
from .flushes import mark
from .layout import (
    ENTRIES,
    F_FLAGS,
    F_FREE,
    F_NODE,
    F_PENDING,
    F_TLB,
    LEVELS,
    MISSING_ENTRY,
    PREFIXES,
    ROOT_WORDS,
    ROOTS_WORD,
    SPTES,
    TABLE_WORDS,
    TABLES,
    VALUES,
    VCPUS,
    WORD_FIRST,
    Tables,
    bit_of,
    get,
    put,
)
from .stakes import P1, P2, stake


def closure(t: Tables, held: i64, root: i64) -> i64:
    """All that a CPU that runs on ``root`` and holds ``held`` could come to hold now; -1 if an entry has no bit yet.

    From the root and from every table that a held entry leads to, each present entry of current memory: places are
    visited from the top, so one pass is enough.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    tables, entries, prefixes, values, sptes = p[TABLES], p[ENTRIES], p[PREFIXES], p[VALUES], p[SPTES]
    what, entry, bit, lead = t.what, t.entry, t.bit, t.lead
    prefix: i64 = 0
    first = root * prefixes
    while prefix < prefixes:
        table: i64 = 0
        while table < tables:
            if (prefix == 0 and table == root) or (prefix != 0 and held & lead[(first + prefix) * tables + table] != 0):
                i: i64 = 0
                while i < entries:
                    word = table * entries + i
                    v = word * values + get(row, 0, word, fw, fs, fm)
                    if what[v] > 0:
                        # An entry's place is that of its table and its index; the place of what is below follows it.
                        place = (first + prefix) * entries + i
                        b = bit[place * sptes + entry[v]]
                        if b < 0:
                            t.out[0] = MISSING_ENTRY
                            t.out[1] = place
                            t.out[2] = v
                            return -1
                        held |= bit_of(b)
                    i += 1
            table += 1
        prefix += 1
    return held


def met(t: Tables, held: i64, root: i64, gfn: i64, what: i64, table: i64, end: i64) -> i64:
    """The word of an entry that a walk for ``gfn`` by a CPU that holds ``held`` may meet; -1 for none.

    It is one of ``what`` (1 a leaf, 0 not present, -1 reserved), in one of the tables from ``table`` on up to ``end``.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    tables, entries, prefixes, values, levels = p[TABLES], p[ENTRIES], p[PREFIXES], p[VALUES], p[LEVELS]
    prefix: i64 = 0
    level = levels
    while level > 0:
        i = t.path[gfn * (levels + 1) + level]
        at = table
        while at < end:
            if (prefix == 0 and at == root) or (
                prefix != 0 and held & t.lead[(root * prefixes + prefix) * tables + at] != 0
            ):
                word = at * entries + i
                if t.what[word * values + get(row, 0, word, fw, fs, fm)] == what:
                    return word
            at += 1
        prefix = prefix * entries + i + 1
        level -= 1
    return -1


def free_table(t: Tables, table: i64) -> None:
    """Put a table back: its words become 0, and who may reach it is marked."""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    put(row, p[F_FREE], get(row, 0, p[F_FREE], fw, fs, fm) | bit_of(table), fw, fs, fm)
    clear_table(t, table)
    vcpu: i64 = 0
    while vcpu < p[VCPUS]:
        word = p[ROOT_WORDS] + vcpu
        root = t.child[word * p[VALUES] + get(row, 0, word, fw, fs, fm)]
        if root == table or get(row, 0, p[F_TLB] + vcpu, fw, fs, fm) & t.into[table] != 0:
            f = p[F_FLAGS] + vcpu
            put(row, f, get(row, 0, f, fw, fs, fm) | HOLDS_FREED, fw, fs, fm)
            mark(t, vcpu, t.into[table])
            stake(t, P2)
        vcpu += 1


def clear_table(t: Tables, table: i64) -> None:
    """Set all words of a table to their first value."""
    p = t.p
    word: i64 = table * p[ENTRIES]
    end = word + p[ENTRIES]
    while word < end:
        put(t.row, word, 0, t.fw, t.fs, t.fm)
        word += 1
    i: i64 = 0
    while i < p[TABLE_WORDS]:
        if t.word_table[i] == table:
            put(t.row, p[WORD_FIRST] + i, 0, t.fw, t.fs, t.fm)
        i += 1


def run_callbacks(t: Tables, queued: i64) -> None:
    """Free the tables whose grace period is over; at once, for a later callback could break no more.

    What is glued behind the end of a section must find them free, so this cannot wait for the end of the step.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    k: i64 = 0
    while k < p[TABLES]:
        if get(row, 0, p[F_PENDING] + k, fw, fs, fm) == queued:
            put(row, p[F_PENDING] + k, 0, fw, fs, fm)
            free_table(t, k)
        k += 1


def mark_stale(t: Tables, promise: i64) -> bool:
    """Mark every vCPU that holds a translation of a promised range which memory does not give; False: a bit is missing.

    ``promise`` numbers the range; ``ranges`` holds the mask of entries that map something of it.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    v: i64 = 0
    while v < p[VCPUS]:
        word = p[ROOT_WORDS] + v
        root = t.child[word * p[VALUES] + get(row, 0, word, fw, fs, fm)]
        if root >= 0:
            held = get(row, 0, p[F_TLB] + v, fw, fs, fm) & t.ranges[promise] & t.under[root]
            if held != 0:
                given = closure(t, 0, root)
                if given < 0:
                    return False
                if held & ~given != 0:
                    f = p[F_FLAGS] + v
                    put(row, f, get(row, 0, f, fw, fs, fm) | HOLDS_STALE, fw, fs, fm)
                    mark(t, v, held & ~given)
                    stake(t, P1)
        v += 1
    return True


def buffered(t: Tables, base: i64) -> bool:
    """Does a store wait for its way to memory in the state at ``base``?"""
    n: i64 = 0
    while n < len(t.buffers):
        if get(t.rows, base, t.buffers[n], t.fw, t.fs, t.fm) != 0:
            return True
        n += 1
    return False


def grace(t: Tables, base: i64) -> bool:
    """Does a table wait for its grace period, or a store for its way to memory, in the state at ``base``?"""
    if buffered(t, base):
        return True
    table: i64 = 0
    while table < t.p[TABLES]:
        if get(t.rows, base, t.p[F_PENDING] + table, t.fw, t.fs, t.fm) != 0:
            return True
        table += 1
    return False


def unaccounted(t: Tables, base: i64) -> i64:
    """What is wrong if everything is at rest in the state at ``base`` (its host tasks are over): LEAK, MISCOUNT, or 0.

    At rest: each vCPU is at the beginning of its round, and no callback waits.
    """
    p = t.p
    if p[ROOTS_WORD] < 0:
        return 0
    v: i64 = 0
    while v < p[VCPUS]:
        if get(t.rows, base, p[F_NODE] + v, t.fw, t.fs, t.fm) != 0:
            return 0
        v += 1
    if grace(t, base):
        return 0
    if leaks(t, base):
        return LEAK
    return MISCOUNT if miscounts(t, base) else 0


def miscounts(t: Tables, base: i64) -> bool:
    """Does a root on the list count other references than those of its vCPUs and, unless it was zapped, the MMU's?"""
    p = t.p
    fw, fs, fm, rows = t.fw, t.fs, t.fm, t.rows
    values = p[VALUES]
    listed = t.child[p[ROOTS_WORD] * values + get(rows, base, p[ROOTS_WORD], fw, fs, fm)]
    table: i64 = 0
    while listed != 0:
        word = t.counts[3 * table]
        if listed & 1 != 0 and word >= 0:
            counted = t.child[word * values + get(rows, base, word, fw, fs, fm)] - t.lent[table]
            invalid, scheduled = t.counts[3 * table + 1], t.counts[3 * table + 2]
            if invalid < 0 or t.child[invalid * values + get(rows, base, invalid, fw, fs, fm)] == 0:
                counted -= 1
            elif scheduled >= 0:
                counted -= t.child[scheduled * values + get(rows, base, scheduled, fw, fs, fm)]
            n: i64 = 0
            while n < len(t.users):
                if t.child[t.users[n] * values + get(rows, base, t.users[n], fw, fs, fm)] == table:
                    counted -= 1
                n += 1
            if counted != 0:
                return True
        listed >>= 1
        table += 1
    return False


def leaks(t: Tables, base: i64) -> bool:
    """Is a table neither free nor linked from a root on the list, in the state at ``base``, which is at rest?"""
    p = t.p
    fw, fs, fm, rows = t.fw, t.fs, t.fm, t.rows
    tables, entries, values = p[TABLES], p[ENTRIES], p[VALUES]
    linked = t.child[p[ROOTS_WORD] * values + get(rows, base, p[ROOTS_WORD], fw, fs, fm)]
    before: i64 = 0
    while linked != before:
        before = linked
        word: i64 = 0
        while word < tables * entries:
            if linked & bit_of(word // entries) != 0:
                x = word * values + get(rows, base, word, fw, fs, fm)
                if t.what[x] == 2:
                    linked |= bit_of(t.child[x])
            word += 1
    return linked | get(rows, base, p[F_FREE], fw, fs, fm) != bit_of(tables) - 1
