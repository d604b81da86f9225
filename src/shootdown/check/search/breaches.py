"""All that is wrong with what a CPU holds, and which of it is told."""

from __future__ import annotations

from typing import Final

from librt.vecs import vec
from mypy_extensions import i64

from ..program.steps import (
    EXECUTABLE_IN_REACH,
    FREED_IN_REACH,
    HOLDS_FREED,
    HOLDS_STALE,
    OTHER_IN_REACH,
    REVOKED_IN_REACH,
    STALE,
    UNKNOWN_IN_REACH,
    WRITABLE_IN_REACH,
)
from .layout import AMISS, F_FLAGS, F_FREE, F_PROTECTED, F_REVOKED, Tables, bit_of, get

ORDER: Final = (
    FREED_IN_REACH, STALE, WRITABLE_IN_REACH, REVOKED_IN_REACH, UNKNOWN_IN_REACH, EXECUTABLE_IN_REACH, OTHER_IN_REACH,
)  # fmt: skip
"""Of all that one vCPU breaks, the first is told: what stands before explains what is behind."""


def reaches(held: i64, asked: i64, masks: vec[i64]) -> bool:
    """Is one of the entries ``held`` in the mask of one of those that are asked for, by bit?"""
    n: i64 = 0
    while asked != 0:
        if asked & 1 != 0 and held & masks[n] != 0:
            return True
        asked >>= 1
        n += 1
    return False


def breaches(t: Tables, vcpu: i64, held: i64, root: i64) -> i64:
    """What a vCPU in the guest that runs on ``root`` and holds ``held`` breaks (steps.py), by bit."""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    found: i64 = 0
    flags = get(row, 0, p[F_FLAGS] + vcpu, fw, fs, fm)
    free = get(row, 0, p[F_FREE], fw, fs, fm)
    if flags & HOLDS_FREED != 0 or free & bit_of(root) != 0 or reaches(held, free, t.into):
        found |= bit_of(FREED_IN_REACH)
    if flags & HOLDS_STALE != 0:
        found |= bit_of(STALE)
    if reaches(held, get(row, 0, p[F_PROTECTED], fw, fs, fm), t.writable):
        found |= bit_of(WRITABLE_IN_REACH)
    if reaches(held, get(row, 0, p[F_REVOKED], fw, fs, fm), t.maps):
        found |= bit_of(REVOKED_IN_REACH)
    if held & p[AMISS] != 0:
        n: i64 = 0
        while n < len(t.amiss):
            if held & t.amiss[n] != 0:
                found |= bit_of(UNKNOWN_IN_REACH + n)
            n += 1
    return found


def first_of(found: i64) -> i64:
    """What is told of several things that a vCPU breaks."""
    for kind in ORDER:
        if found & bit_of(kind) != 0:
            return kind
    return 0
