"""Hash compaction: of states that are expanded only a hash of 62 bits is kept, and no parent; rows wait in a ring.

Two states with one hash are taken for one, so that a state may be missed. The hash is multilinear (Lemire and Kaser,
2014): two parts, each the upper 31 bits of k0 + k1 * c1 + k2 * c2 + ... modulo 2 ** 62, over the row's pieces c of 31
bits, with keys k that were drawn at random. So any two rows have one hash with a probability of 2 ** -62, and of n
states some two with at most n * (n - 1) / 2 times that: ``omission``.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i64

from .layout import CAPACITY, INDEX_MASK, MASK, NEXT, RING, STATES, WIDTH, Tables

LOW_31: Final[i64] = 0x7FFF_FFFF
UPPER: Final[i64] = 0x3FFF_FFFF_8000_0000


def omission(states: int) -> float:
    """The probability, at most, that a search which kept so many states missed one."""
    return states * (states - 1) / 2 / 2**62


def insert_hash(t: Tables, parent: i64) -> i64:
    """Number of the state ``row`` if its hash is new; -1 if it is known, -MASK if there is no room."""
    p = t.p
    mask, index = p[INDEX_MASK], t.index
    h = long_hash(t) + 1
    q = place(h) & mask
    while index[q] != 0:
        if index[q] == h:
            return -1
        q = (q + 1) & mask
    if 4 * (p[STATES] + 1) > 3 * (mask + 1):
        return -MASK
    n = keep(t, parent)
    if n >= 0:
        index[q] = h
    return n


def keep(t: Tables, parent: i64) -> i64:
    """Number of a state made of ``row``, which is in the ring from now on; -MASK if that is full."""
    p = t.p
    width, n = p[WIDTH], p[STATES]
    # The row of the state at hand, which is the parent's, is needed still.
    if n - parent >= p[CAPACITY]:
        return -MASK
    base = (n & p[RING]) * width
    k: i64 = 0
    while k < width:
        t.rows[base + k] = t.row[k]
        k += 1
    p[STATES] = n + 1
    return n


def turn(t: Tables, states: i64) -> None:
    """Have a ring of so many rows, a power of two, with those that wait in it."""
    p = t.p
    width, old = p[WIDTH], p[RING]
    rows = copied(vec[i64](capacity=0), states * width)
    n = p[NEXT]
    while n < p[STATES]:
        k: i64 = 0
        while k < width:
            rows[(n & (states - 1)) * width + k] = t.rows[(n & old) * width + k]
            k += 1
        n += 1
    t.rows = rows
    p[RING] = states - 1
    p[CAPACITY] = states


def enter_again(t: Tables, size: i64) -> None:
    """Have an index of ``size`` entries, a power of two, with all hashes in it."""
    index = copied(vec[i64](capacity=0), size)
    mask = size - 1
    n: i64 = 0
    have: i64 = len(t.index)
    while n < have:
        h = t.index[n]
        if h != 0:
            q = place(h) & mask
            while index[q] != 0:
                q = (q + 1) & mask
            index[q] = h
        n += 1
    t.index = index
    t.p[INDEX_MASK] = mask


def place(h: i64) -> i64:
    """Where in an index a hash may be found, before the mask."""
    return h ^ (h >> 31)


def long_hash(t: Tables) -> i64:
    """62 bits of ``row``."""
    row, keys, width = t.row, t.keys, t.p[WIDTH]
    a, b = keys[0], keys[1]
    k: i64 = 0
    at: i64 = 2
    while k < width:
        low, high = row[k] & LOW_31, (row[k] >> 31) & LOW_31
        a = (a + low * keys[at] + high * keys[at + 1]) & MASK
        b = (b + low * keys[at + 2] + high * keys[at + 3]) & MASK
        at += 4
        k += 1
    return (a & UPPER) | (b >> 31)


def copied(old: vec[i64], size: i64) -> vec[i64]:
    """The same, with zeros behind it up to a size."""
    new: vec[i64] = vec[i64](capacity=size)
    n: i64 = 0
    have: i64 = len(old)
    while n < size:
        new = append(new, old[n] if n < have else 0)
        n += 1
    return new
