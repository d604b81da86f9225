"""The packed form of a search: what a row of a state holds where, and the tables by which programs go on.

A state is a row of ``width`` words of 62 bits, in which every field has its place.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import vec
from mypy_extensions import i64

from ..program.steps import PROGRAMS_MAX

MASK: Final[i64] = (1 << 62) - 1
LOW: Final[i64] = 0xFFFF_FFFF
MULTIPLIER: Final[i64] = 0x1E37_79B9_7F4A_7C15

# What ``explore`` returns.
DONE: Final = 0
MISSING_EDGE: Final = 1
MISSING_ENTRY: Final = 2
VIOLATION: Final = 3
FULL: Final = 4

ACTIONS: Final = 1024
"""A parent is kept as ``state * ACTIONS + program * CHOICES + choice``."""
CHOICES: Final = 128

TAG_SHIFT: Final = 20
TAG_MASK: Final[i64] = 0x3FFF_FFFF

# Scalars in ``Tables.p``.
WIDTH: Final = 0
WORDS: Final = 1
TABLES: Final = 2
ENTRIES: Final = 3
VCPUS: Final = 4
PROGRAMS: Final = 5
LEVELS: Final = 6
PREFIXES: Final = 7
VALUES: Final = 8
SPTES: Final = 9
F_READERS: Final = 11
F_WRITER: Final = 12
F_WAITING: Final = 13
F_PAGES: Final = 14
F_RCU: Final = 15
F_FREE: Final = 16
F_REVOKED: Final = 17
F_PENDING: Final = 18
F_FLAGS: Final = 19
F_TLB: Final = 20
F_NODE: Final = 21
ROOT_WORDS: Final = 22
"""Number of the first vCPU's word for its root; the others follow."""
MOVERS: Final = 23
NODES_MAX: Final = 24
GFNS_MAX: Final = 25
NEXT: Final = 26
"""State to expand next."""
STATES: Final = 27
TRANSITIONS: Final = 28
INDEX_MASK: Final = 29
CAPACITY: Final = 30
ONLY_PROGRAM: Final = 31
ONLY_CHOICE: Final = 32
"""Expand by one program and choice only, -1 for all."""
WORD_FIRST: Final = 33
"""Field of the first word that is no SPTE; SPTE ``table * entries + i`` is field ``table * entries + i``."""
TABLE_WORDS: Final = 34
"""How many words belong to tables besides SPTEs (``word_table`` says to which, -1 to none)."""
STOP: Final = 35
"""Which violations to report; the other kind is passed over."""
STOP_ALL: Final = 1
STOP_STANDING: Final = 2
"""Those of a state as such, a deadlock or a leak, and none that a step commits."""
STOP_NEVER: Final = 3
"""None: what breaks is noted in ``BREACHES``, and the search goes on from there."""
LAST: Final = 36
"""Expand states below this number only."""
ROOTS_WORD: Final = 37
"""The word that is the list of roots, -1 while nobody reads it; its ``child`` is the mask of their tables."""
F_SLOTS: Final = 38
F_SRCU: Final = 39
F_SYNC: Final = 40
"""Of the first program; the others follow. Whom it waits for in ``synchronize_srcu``."""
F_WATCHED: Final = 41
F_WRITTEN: Final = 42
"""Pages of the guest that were written since the user last learned so."""
F_PROTECTED: Final = 43
RAN: Final = 45
"""What the step at hand put at stake (stakes.py), and the functions of a witness that it is in, by bit."""
AT_STAKE: Final = 46
"""What any step put at stake."""
WAITED: Final = 47
"""The kinds of steps that were held up, by bit."""
GOAL: Final = 48
"""Of a search for a witness, what must have run and been at stake at its end; else 0. Then it is part of a state."""
F_RAN: Final = 49
COMPACT: Final = 50
"""Of states that are expanded only hashes are kept (compact.py); else 0."""
RING: Final = 51
"""State n has row ``n & p[RING]``: all bits set, unless only rows that wait to be expanded are kept."""
LEVEL_END: Final = 52
"""The first state that is a step further away than the one at hand."""
DEPTH: Final = 53
"""How many steps the state at hand is away from the start."""
ENDLESS: Final = 54
"""The programs, by bit, that need not end for all to be at rest: vCPUs and store buffers."""
BREACHES: Final = 55
"""What broke in a search that nothing stops (steps.py), by bit."""
AMISS: Final = 56
"""The mask of entries that hardware may hold and never should (amiss.py)."""
F_BACKED: Final = 57
"""Pages of which it was promised that they are memory, and no MMIO."""
RANGED: Final = 58
"""A flush of a range leaves what is outside of it; else 0. Then ``F_MARKED`` is part of a state."""
F_MARKED: Final = 59
"""Of the first vCPU; the others follow. Which of the entries that it holds are why it is marked."""
STAKES: Final = 6
"""Bits of ``RAN`` that are of properties; those of functions follow."""

# Flags of a node.
LEFT_MOVER: Final = 1
RIGHT_MOVER: Final = 2
HIDDEN: Final = 4
"""No step of its own, ever."""
FRONT: Final = 8
"""Nothing is glued to its front."""
TAKER: Final = 16
"""Takes what others may wait for."""
WAITER: Final = 32
"""May have to wait."""


class Tables:
    """All that the loop reads and fills; every array is a packed vector of 64-bit words.

    Fields of a row: word ``fw``, shift ``fs``, mask ``fm``, by the number of the field.

    Of a node: its ``kind`` (steps.py), ``a`` (word, table, vCPU or number), ``b`` (identifier of a value), its local
    number in its program, its ``flags``, and ``edge``, the first of a chain through ``link``: ``seen`` (result), ``to``
    (next node), ``put`` (identifier of the value that is written, -1 for none). ``nodes``: by program and local number,
    the node.

    ``touch`` is the table in whose memory (entries, fields, list links) the access is made, -1 for none.

    Of a value, by word and identifier (``word * values + id``): ``what`` (0 not present, 1 leaf, 2 table), ``child``
    (the table it points to) and ``entry`` (number of the SPTE); for a vCPU's root ``child`` is the table.

    Of what a guest can do, by program and choice: ``act`` (guest.py), ``gfns``, ``spot`` (table) and ``able``, the mask
    of held entries of which one must be there. ``gfns`` and ``spot`` of choice 0: how many choices are faults, and how
    many there are. ``soiled`` by value: identifier of the SPTE with D set (-1: not by a CPU), ``touched`` with A;
    ``volatile``: a leaf that may change at any time; ``pfn``: the first page of a leaf, -1 of all else; ``logged``:
    mask of the gfns that a word with this value says were written. ``pml`` by gfn and value: identifier of the value
    that logs the gfn in the word ``pml_word`` of it.

    Of what hardware may hold: ``bit`` by place and SPTE (-1: none yet), ``lead`` by place and table (mask of entries
    there that lead to that table), ``into`` by table, ``maps`` by number of the pfn that is taken back (``gone``),
    ``under`` by tag, ``writable`` by gfn, ``amiss`` by kind of what should not be (masks of entries).

    Of what is at stake: ``alike`` by SPTE (mask of entries that are equal), ``page`` (frame) and ``writes`` (the right
    to) of leaves, by value; ``ran`` by node, the functions of a witness that it is in.

    ``counts`` by table: the words of its count of references as a root, of whether it is invalid, and whether it is
    scheduled to be zapped, -1 for none; ``users``: the words that name roots of vCPUs; ``lent`` by table: references
    that nobody puts. ``child`` of these words' values is the number, or the root.

    ``buffers``: the words that are store buffers; of the last programs, one each.

    Of flushes of a range, by number: ``drops`` (mask of entries), ``targets`` by choice, the vCPU.

    ``keys``: random numbers by which compact.py hashes.

    ``blockers``: of each program that waits in the state at hand, the mask of those that it waits for.
    """

    def __init__(self) -> None:
        empty: vec[i64] = vec[i64](capacity=0)
        self.p: vec[i64] = vec[i64]([0] * 64)
        self.fw = empty
        self.fs = empty
        self.fm = empty
        self.kind = empty
        self.a = empty
        self.b = empty
        self.touch = empty
        self.local = empty
        self.flags = empty
        self.edge = empty
        self.link = empty
        self.seen = empty
        self.to = empty
        self.put = empty
        self.nodes = empty
        self.what = empty
        self.child = empty
        self.entry = empty
        self.word_table = empty
        self.bit = empty
        self.lead = empty
        self.into = empty
        self.maps = empty
        self.gone = empty
        self.under = empty
        self.gfns = empty
        self.path = empty
        self.ranges = empty
        self.act = empty
        self.spot = empty
        self.able = empty
        self.soiled = empty
        self.touched = empty
        self.volatile = empty
        self.pfn = empty
        self.logged = empty
        self.pml = empty
        self.pml_word = empty
        self.writable = empty
        self.amiss = empty
        self.alike = empty
        self.page = empty
        self.writes = empty
        self.ran = empty
        self.rows = empty
        self.parents = empty
        self.index = empty
        self.row = empty
        self.keys = empty
        self.drops = empty
        self.targets = empty
        self.buffers = empty
        self.counts = empty
        self.users = empty
        self.lent = empty
        self.blockers: vec[i64] = vec[i64]([0] * PROGRAMS_MAX)
        self.out: vec[i64] = vec[i64]([0] * 8)


def get(row: vec[i64], base: i64, f: i64, fw: vec[i64], fs: vec[i64], fm: vec[i64]) -> i64:
    """A field of a row that begins at ``base``."""
    return (row[base + fw[f]] >> fs[f]) & fm[f]


def put(row: vec[i64], f: i64, value: i64, fw: vec[i64], fs: vec[i64], fm: vec[i64]) -> None:
    """Set a field of the row at 0."""
    w = fw[f]
    s = fs[f]
    row[w] = (row[w] & ~(fm[f] << s)) | (value << s)


def bit_of(n: i64) -> i64:
    """2 to the power of n, 0 <= n < 62; a constant must not stand on the left of ``<<`` in compiled code."""
    return (1 << 62) >> (62 - n)
