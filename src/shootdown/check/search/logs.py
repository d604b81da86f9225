"""What guests write, what logs say of it, and who is in slots_lock or an SRCU section: what most tests do without."""

from __future__ import annotations

from mypy_extensions import i64

from ..program.guest import DIRTIES, TOUCHES, WRITES
from ..program.steps import (
    BACK,
    END,
    GUEST,
    HARVEST,
    PROTECT,
    SLOTS_LOCK,
    SLOTS_UNLOCK,
    SRCU_LOCK,
    SRCU_SYNC,
    SRCU_UNLOCK,
    SRCU_WAIT,
    UNWATCH,
    WATCH,
)
from .hardware import buffered, met
from .layout import (
    F_BACKED,
    F_NODE,
    F_PROTECTED,
    F_SLOTS,
    F_SRCU,
    F_SYNC,
    F_TLB,
    F_WATCHED,
    F_WRITTEN,
    GFNS_MAX,
    NODES_MAX,
    PROGRAMS,
    ROOT_WORDS,
    VALUES,
    VCPUS,
    WORD_FIRST,
    WORDS,
    Tables,
    bit_of,
    get,
    put,
)
from .stakes import P3, stake


def take(t: Tables, program: i64, kind: i64, a: i64) -> bool:
    """Take one of these steps: slots_lock, SRCU, and the promises about writes; False if it is blocked."""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    me = bit_of(program)
    if kind == SLOTS_LOCK:
        if get(row, 0, p[F_SLOTS], fw, fs, fm) != 0:
            return False
        put(row, p[F_SLOTS], me, fw, fs, fm)
    elif kind == SLOTS_UNLOCK:
        put(row, p[F_SLOTS], 0, fw, fs, fm)
    elif kind == SRCU_LOCK:
        put(row, p[F_SRCU], get(row, 0, p[F_SRCU], fw, fs, fm) | me, fw, fs, fm)
    elif kind == SRCU_UNLOCK:
        put(row, p[F_SRCU], get(row, 0, p[F_SRCU], fw, fs, fm) & ~me, fw, fs, fm)
        f = p[F_SYNC]
        end = f + p[PROGRAMS]
        while f < end:
            put(row, f, get(row, 0, f, fw, fs, fm) & ~me, fw, fs, fm)
            f += 1
    elif kind == SRCU_WAIT:
        put(row, p[F_SYNC] + program, get(row, 0, p[F_SRCU], fw, fs, fm), fw, fs, fm)
    elif kind == SRCU_SYNC:
        return get(row, 0, p[F_SYNC] + program, fw, fs, fm) == 0
    elif kind == PROTECT:
        put(row, p[F_PROTECTED], get(row, 0, p[F_PROTECTED], fw, fs, fm) | a, fw, fs, fm)
    elif kind == WATCH:
        put(row, p[F_WATCHED], get(row, 0, p[F_WATCHED], fw, fs, fm) | a, fw, fs, fm)
    elif kind == UNWATCH:
        put(row, p[F_WATCHED], get(row, 0, p[F_WATCHED], fw, fs, fm) & ~a, fw, fs, fm)
    elif kind == BACK:
        put(row, p[F_BACKED], get(row, 0, p[F_BACKED], fw, fs, fm) | a, fw, fs, fm)
    if kind == UNWATCH or kind == HARVEST:
        put(row, p[F_WRITTEN], get(row, 0, p[F_WRITTEN], fw, fs, fm) & ~a, fw, fs, fm)
    return True


def act(t: Tables, program: i64, choice: i64) -> i64:
    """Let the guest of a vCPU write or read a page: the table whose entry it changed, -1 for none, -2: it cannot.

    Changed is the row: the pages that were written since the user last learned so, D or A of a leaf, the log.
    """
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    values = p[VALUES]
    x = program * p[GFNS_MAX] + choice
    kind, gfn = t.act[x], t.gfns[x]
    held = get(row, 0, p[F_TLB] + program, fw, fs, fm)
    word = p[ROOT_WORDS] + program
    root = t.child[word * values + get(row, 0, word, fw, fs, fm)]
    written: i64 = -1
    if kind == WRITES:
        if held & t.able[x] & t.under[root] == 0:
            return -2
    else:
        word = met(t, held, root, gfn, 1, t.spot[x], t.spot[x] + 1)
        if word < 0:
            return -2
        before = get(row, 0, word, fw, fs, fm)
        after = t.soiled[word * values + before] if kind == DIRTIES else t.touched[word * values + before]
        if after < 0:
            return -2
        put(row, word, after, fw, fs, fm)
        written = t.spot[x]
        if kind == TOUCHES:
            return written
        word = t.pml_word[gfn]
        if word >= 0:
            put(row, word, t.pml[gfn * values + get(row, 0, word, fw, fs, fm)], fw, fs, fm)
    log = get(row, 0, p[F_WATCHED], fw, fs, fm) & bit_of(gfn)
    if log != 0:
        stake(t, P3)
    if kind == WRITES and get(row, 0, p[F_WRITTEN], fw, fs, fm) & log == log:
        return -2  # it could, and nothing would change
    put(row, p[F_WRITTEN], get(row, 0, p[F_WRITTEN], fw, fs, fm) | log, fw, fs, fm)
    return written


def is_backed(t: Tables, gfn: i64) -> bool:
    """Was it promised that a page is memory?"""
    return get(t.row, 0, t.p[F_BACKED], t.fw, t.fs, t.fm) & bit_of(gfn) != 0


def lost_write(t: Tables, base: i64) -> bool:
    """Is there a page in the state at ``base`` that was written, and that no bitmap or ring says was?

    Only to be asked where every task is at rest: else the one that owes the log may be about to write it.
    """
    p = t.p
    fw, fs, fm, rows = t.fw, t.fs, t.fm, t.rows
    values = p[VALUES]
    written = get(rows, base, p[F_WRITTEN], fw, fs, fm)
    if written == 0 or buffered(t, base):
        return False
    v: i64 = 0
    while v < p[VCPUS]:
        at = get(rows, base, p[F_NODE] + v, fw, fs, fm)
        kind = t.kind[t.nodes[v * p[NODES_MAX] + at]]
        if at != 0 and kind != GUEST and kind != END:
            return False
        v += 1
    word: i64 = p[WORD_FIRST]
    while word < p[WORDS]:
        written &= ~t.logged[word * values + get(rows, base, word, fw, fs, fm)]
        word += 1
    return written != 0
