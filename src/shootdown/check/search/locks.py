"""Who waits for whom: deadlocks are found in every state, also of some programs while others go on.

A program is stuck if it waits for one that is stuck, or over: neither ever lets go of what it holds.
"""

from __future__ import annotations

from mypy_extensions import i64

from ..program.steps import PAGES_LOCK, READ_LOCK, SLOTS_LOCK, SRCU_SYNC, WRITE_LOCK
from .layout import F_PAGES, F_READERS, F_SLOTS, F_SYNC, F_WAITING, F_WRITER, PROGRAMS, Tables, bit_of, get


def blockers_of(t: Tables, program: i64, kind: i64, vcpu: i64) -> i64:
    """The programs (a mask) that hold up a step in ``row``; ``vcpu``: whose interrupt it waits for, if it does."""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    if kind == READ_LOCK:
        return get(row, 0, p[F_WRITER], fw, fs, fm) | get(row, 0, p[F_WAITING], fw, fs, fm)
    if kind == WRITE_LOCK:
        return get(row, 0, p[F_WRITER], fw, fs, fm) | get(row, 0, p[F_READERS], fw, fs, fm)
    if kind == PAGES_LOCK:
        return get(row, 0, p[F_PAGES], fw, fs, fm)
    if kind == SLOTS_LOCK:
        return get(row, 0, p[F_SLOTS], fw, fs, fm)
    if kind == SRCU_SYNC:
        return get(row, 0, p[F_SYNC] + program, fw, fs, fm)
    return bit_of(vcpu)


def stuck_of(t: Tables, waiting: i64, ended: i64) -> i64:
    """Those among the programs ``waiting`` (masks; ``blockers`` says for whom) that can never go on."""
    stuck = waiting
    before: i64 = 0
    while stuck != before:
        before = stuck
        program: i64 = 0
        while program < t.p[PROGRAMS]:
            if stuck & bit_of(program) != 0 and t.blockers[program] & (stuck | ended) == 0:
                stuck &= ~bit_of(program)
            program += 1
    return stuck
