"""All that is wrong with what a CPU holds, for searches that go on after the first thing that breaks."""

from __future__ import annotations

from mypy_extensions import i64

from ..program.steps import FREED_IN_REACH, HOLDS_FREED, HOLDS_STALE, REVOKED_IN_REACH, STALE, WRITABLE_IN_REACH
from .hardware import leads_to_freed
from .layout import F_FLAGS, F_REVOKED, ROOT_WORDS, VALUES, Tables, bit_of, get
from .logs import writes_protected


def has_revoked(t: Tables, held: i64) -> bool:
    """May a CPU that holds ``held`` reach a page that was taken back?"""
    x = get(t.row, 0, t.p[F_REVOKED], t.fw, t.fs, t.fm)
    k: i64 = 0
    while x != 0:
        if x & 1 != 0 and held & t.maps[k] != 0:
            return True
        x >>= 1
        k += 1
    return False


def breaches(t: Tables, vcpu: i64, held: i64) -> i64:
    """What a vCPU in the guest that holds ``held`` breaks (steps.py), by bit, each whatever the others do."""
    p = t.p
    word = p[ROOT_WORDS] + vcpu
    root = t.child[word * p[VALUES] + get(t.row, 0, word, t.fw, t.fs, t.fm)]
    flags = get(t.row, 0, p[F_FLAGS] + vcpu, t.fw, t.fs, t.fm)
    found: i64 = 0
    if flags & HOLDS_FREED != 0 or leads_to_freed(t, held, root):
        found |= bit_of(FREED_IN_REACH)
    if flags & HOLDS_STALE != 0:
        found |= bit_of(STALE)
    if has_revoked(t, held):
        found |= bit_of(REVOKED_IN_REACH)
    if writes_protected(t, held):
        found |= bit_of(WRITABLE_IN_REACH)
    return found
