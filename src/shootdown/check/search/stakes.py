"""What is at stake when an entry changes: a search in which no promise was ever in danger says nothing of it.

Nothing here is part of a state; only a search for a witness keeps it there (``GOAL`` in ``layout``).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from .layout import F_TLB, RAN, VALUES, VCPUS, Tables, get

# Bits of the properties; literals, since compiled code computes no constant beforehand.
P1: Final = 1
"""A page was taken away from a vCPU that may have cached it, or a translation of it was promised to be gone."""
P2: Final = 2
"""A table was cut off, or freed, that a vCPU may have cached the way to."""
P3: Final = 4
"""A guest wrote a page whose writes are logged, or a leaf changed in which a CPU or a fault may set bits."""
P4: Final = 8
"""A leaf lost its right to be written while a vCPU may have cached that."""
P5: Final = 16
"""A page was mapped, or a huge page gave way to a table."""
P6: Final = 32
"""A table was given out, or handed over to be freed; besides, wherever a task has to wait for another."""


def stake(t: Tables, bits: i64) -> None:
    """Note that some properties are at stake in the step at hand."""
    t.p[RAN] = t.p[RAN] | bits


def changed(t: Tables, word: i64, before: i64, after: i64) -> None:
    """Note what is at stake as an entry goes from one value to another."""
    values = t.p[VALUES]
    x, y = word * values + before, word * values + after
    if t.what[y] == 1 and (t.what[x] != 1 or t.page[x] != t.page[y]):
        stake(t, P5)
    if t.what[x] <= 0:
        return
    if t.what[x] == 1 and t.what[y] == 2:
        stake(t, P5)
    if t.volatile[x] != 0:
        stake(t, P3)
    if not _cached(t, t.alike[t.entry[x]]):
        return
    if t.what[x] == 2:
        if t.child[x] != t.child[y]:
            stake(t, P2)
    elif t.what[y] != 1 or t.page[x] != t.page[y]:
        stake(t, P1)
    elif t.writes[x] != 0 and t.writes[y] == 0:
        stake(t, P4)


def _cached(t: Tables, mask: i64) -> bool:
    """May a vCPU have cached one of these entries?"""
    vcpu: i64 = 0
    while vcpu < t.p[VCPUS]:
        if get(t.row, 0, t.p[F_TLB] + vcpu, t.fw, t.fs, t.fm) & mask != 0:
            return True
        vcpu += 1
    return False
