"""The set of all states found so far: rows in the order in which they were found, and a hash index over them."""

from __future__ import annotations

from librt.vecs import vec
from mypy_extensions import i64

from .layout import ACTIONS, CAPACITY, INDEX_MASK, LOW, MASK, MULTIPLIER, STATES, TAG_MASK, TAG_SHIFT, WIDTH, Tables


def insert(t: Tables, parent: i64, action: i64) -> i64:
    """Number of the state ``row``, entered if it is new; -1 - number for one that was known, -MASK if full."""
    p = t.p
    width, mask = p[WIDTH], p[INDEX_MASK]
    row, rows, index = t.row, t.rows, t.index
    h = hash_of(row, 0, width)
    q = h & mask
    tag = (h >> TAG_SHIFT) & TAG_MASK
    while index[q] != 0:
        if index[q] >> 32 == tag:
            j = (index[q] & LOW) - 1
            k: i64 = 0
            while k < width and rows[j * width + k] == row[k]:
                k += 1
            if k == width:
                return -1 - j
        q = (q + 1) & mask
    n = add_state(t, parent, action)
    if n >= 0:
        index[q] = (tag << 32) | (n + 1)
    return n


def add_state(t: Tables, parent: i64, action: i64) -> i64:
    """Number of a state made of ``row``, whether or not there was an equal one; -MASK if there is no room."""
    p = t.p
    width, n = p[WIDTH], p[STATES]
    if n >= p[CAPACITY]:
        return -MASK
    k: i64 = 0
    while k < width:
        t.rows[n * width + k] = t.row[k]
        k += 1
    t.parents[n] = parent * ACTIONS + action
    p[STATES] = n + 1
    return n


def rebuild_index(t: Tables) -> None:
    """Enter all states into an index that was emptied."""
    p = t.p
    width, mask = p[WIDTH], p[INDEX_MASK]
    rows, index = t.rows, t.index
    n: i64 = 0
    while n < p[STATES]:
        h = hash_of(rows, n * width, width)
        q = h & mask
        while index[q] != 0:
            q = (q + 1) & mask
        index[q] = (((h >> TAG_SHIFT) & TAG_MASK) << 32) | (n + 1)
        n += 1


def hash_of(row: vec[i64], base: i64, width: i64) -> i64:
    """62 bits that depend on all of a row."""
    h: i64 = 0
    k: i64 = 0
    while k < width:
        h = ((h ^ row[base + k]) * MULTIPLIER) & MASK
        h = h ^ (h >> 32)
        k += 1
    return h
