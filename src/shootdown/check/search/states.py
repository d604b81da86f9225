"""The set of all states found so far: rows in the order in which they were found, and a hash index over them.

Its arrays are made here, by compiled code: mypyc 2.4 loses a reference to a ``vec`` whenever interpreted code hands one
to compiled code, and so would never free these, the largest that we have.
"""

from __future__ import annotations

from collections.abc import Iterable

from librt.vecs import append, vec
from mypy_extensions import i64

from .compact import copied, enter_again, insert_hash, keep, turn
from .layout import (
    ACTIONS,
    CAPACITY,
    COMPACT,
    INDEX_MASK,
    LOW,
    MASK,
    MULTIPLIER,
    RING,
    STATES,
    TAG_MASK,
    TAG_SHIFT,
    WIDTH,
    Tables,
)


def insert(t: Tables, parent: i64, action: i64) -> i64:
    """Number of the state ``row``, entered if it is new; -1 - number for one that was known, -MASK if full."""
    p = t.p
    if p[COMPACT] != 0:
        return insert_hash(t, parent)
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
    if p[COMPACT] != 0:
        return keep(t, parent)
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


def move_rows(t: Tables, old_width: i64, moves: Iterable[int]) -> None:
    """Bring all states into another layout, in which a row has ``WIDTH`` words instead of ``old_width``.

    ``moves``: four numbers for bits that move together: their old word, their mask there, their new word, and by how
    much they move to the left.
    """
    p = t.p
    width, rows = p[WIDTH], t.rows
    runs: vec[i64] = vec[i64](capacity=0)
    for each in moves:
        runs = append(runs, i64(each))
    fresh: vec[i64] = copied(vec[i64](capacity=0), p[CAPACITY] * width)
    n: i64 = 0
    while n < p[STATES]:
        k: i64 = 0
        while k < len(runs):
            bits = rows[n * old_width + runs[k]] & runs[k + 1]
            by = runs[k + 3]
            fresh[n * width + runs[k + 2]] |= bits << by if by >= 0 else bits >> -by
            k += 4
        n += 1
    t.rows = fresh


def make_room(t: Tables, states: i64) -> None:
    """Room for so many states, of which those that there are remain."""
    p = t.p
    if p[COMPACT] != 0:
        turn(t, states)
        return
    t.rows = copied(t.rows, states * p[WIDTH])
    t.parents = copied(t.parents, states)
    p[CAPACITY] = states
    p[RING] = MASK


def rebuild_index(t: Tables, size: i64) -> None:
    """Enter all states into an empty index of ``size`` entries, a power of two."""
    p = t.p
    if p[COMPACT] != 0:
        enter_again(t, size)
        return
    t.index = copied(vec[i64](capacity=0), size)
    p[INDEX_MASK] = size - 1
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
