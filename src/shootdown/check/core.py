"""The hot loop: expands packed states by table look-up until all are explored or something is missing or wrong.

A state is a row of ``width`` words of 62 bits, in which every field has its place. The loop never runs MMU code: what a
program does next is in the tables that ``model`` fills when the loop reports that something is missing. Compiled or
not, it gives the same rows; products are masked because only compiled ones wrap.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import vec
from mypy_extensions import i64

MASK: Final[i64] = (1 << 62) - 1
LOW: Final[i64] = 0xFFFF_FFFF
MULTIPLIER: Final[i64] = 0x1E37_79B9_7F4A_7C15

# What ``explore`` returns.
DONE: Final = 0
MISSING_EDGE: Final = 1
MISSING_ENTRY: Final = 2
VIOLATION: Final = 3
FULL: Final = 4

ACTIONS: Final = 256
"""A parent is kept as ``state * ACTIONS + program * CHOICES + choice``."""
CHOICES: Final = 32

TAG_SHIFT: Final = 20
TAG_MASK: Final[i64] = 0x3FFF_FFFF


class Tables:
    """All that the loop reads and fills; every array is a packed vector of 64-bit words.

    Fields of a row: word ``fw``, shift ``fs``, mask ``fm``, by the number of the field.

    Of a node: its ``kind`` (steps.py), ``a`` (word, table, vCPU or number), ``b`` (identifier of a value), its local
    number in its program, its flags (1: left mover, 2: right mover, 4: no step of its own, ever), and ``edge``, the
    first of a chain through ``link``: ``seen`` (result), ``to`` (next node), ``put`` (identifier of the value that is
    written, -1 for none). ``nodes``: by program and local number, the node.

    ``touch`` is the table in whose memory (entries, fields, list links) the access is made, -1 for none.

    Of a value, by word and identifier (``word * values + id``): ``what`` (0 not present, 1 leaf, 2 table), ``child``
    (the table it points to) and ``entry`` (number of the SPTE); for a vCPU's root ``child`` is the table.

    Of what hardware may hold: ``bit`` by place and SPTE (-1: none yet), ``lead`` by place and table (mask of entries
    there that lead to that table), ``into`` by table, ``maps`` by pfn, ``under`` by tag (masks of entries).
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
        self.under = empty
        self.gfns = empty
        self.path = empty
        self.ranges = empty
        self.rows = empty
        self.parents = empty
        self.index = empty
        self.row = empty
        self.out: vec[i64] = vec[i64]([0] * 8)


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
PFNS: Final = 10
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
"""1: report violations; 0: go on."""
LAST: Final = 36
"""Expand states below this number only."""


def get(row: vec[i64], base: i64, f: i64, fw: vec[i64], fs: vec[i64], fm: vec[i64]) -> i64:
    """A field of a row that begins at ``base``."""
    return (row[base + fw[f]] >> fs[f]) & fm[f]


def put(row: vec[i64], f: i64, value: i64, fw: vec[i64], fs: vec[i64], fm: vec[i64]) -> None:
    """Set a field of the row at 0."""
    w = fw[f]
    s = fs[f]
    row[w] = (row[w] & ~(fm[f] << s)) | (value << s)


def bit_of(n: i64) -> i64:
    """2 to the power of n, 0 <= n < 62; a constant must not stand on the left of a shift in compiled code."""
    top: i64 = MASK + 1
    return top >> (62 - n)


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
                    if what[v] != 0:
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


def can_fault(t: Tables, held: i64, root: i64, gfn: i64) -> bool:
    """May a walk for ``gfn`` by a CPU that holds ``held`` meet an entry that is not present?"""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    tables, entries, prefixes, values, levels = p[TABLES], p[ENTRIES], p[PREFIXES], p[VALUES], p[LEVELS]
    prefix: i64 = 0
    level = levels
    while level > 0:
        i = t.path[gfn * (levels + 1) + level]
        table: i64 = 0
        while table < tables:
            if (prefix == 0 and table == root) or (
                prefix != 0 and held & t.lead[(root * prefixes + prefix) * tables + table] != 0
            ):
                word = table * entries + i
                if t.what[word * values + get(row, 0, word, fw, fs, fm)] == 0:
                    return True
            table += 1
        prefix = prefix * entries + i + 1
        level -= 1
    return False


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
            put(row, f, get(row, 0, f, fw, fs, fm) | 4, fw, fs, fm)
        vcpu += 1


def leads_to_freed(t: Tables, held: i64, root: i64) -> bool:
    """May a CPU that runs on ``root`` and holds ``held`` walk into a table that is free?"""
    free = get(t.row, 0, t.p[F_FREE], t.fw, t.fs, t.fm)
    table: i64 = 0
    while free != 0:
        if free & 1 != 0 and (table == root or held & t.into[table] != 0):
            return True
        free >>= 1
        table += 1
    return False


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


def hash_of(row: vec[i64], base: i64, width: i64) -> i64:
    """62 bits that depend on all of a row."""
    h: i64 = 0
    k: i64 = 0
    while k < width:
        h = ((h ^ row[base + k]) * MULTIPLIER) & MASK
        h = h ^ (h >> 32)
        k += 1
    return h


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


def explore(t: Tables) -> i64:
    """Expand states in the order in which they were found, from ``p[NEXT]`` on.

    ``out[4]`` is the state that the last step led to. Returns DONE, MISSING_EDGE (out: node, result), MISSING_ENTRY
    (out: place, value), VIOLATION (out: what, state, program) or FULL. A state that was cut short is expanded again
    from its beginning, which changes nothing.
    """
    p = t.p
    fw, fs, fm = t.fw, t.fs, t.fm
    kinds, na, nb, flags, edge, link = t.kind, t.a, t.b, t.flags, t.edge, t.link
    touch = t.touch
    seen, to, puts, nodes, local = t.seen, t.to, t.put, t.nodes, t.local
    row, rows, out = t.row, t.rows, t.out
    width, tables, entries, vcpus, programs = p[WIDTH], p[TABLES], p[ENTRIES], p[VCPUS], p[PROGRAMS]
    values, nodes_max, movers = p[VALUES], p[NODES_MAX], p[MOVERS]
    f_readers, f_writer, f_waiting, f_pages = p[F_READERS], p[F_WRITER], p[F_WAITING], p[F_PAGES]
    f_rcu, f_free, f_revoked, f_pending = p[F_RCU], p[F_FREE], p[F_REVOKED], p[F_PENDING]
    f_flags, f_tlb, f_node, root_words = p[F_FLAGS], p[F_TLB], p[F_NODE], p[ROOT_WORDS]
    only, only_choice = p[ONLY_PROGRAM], p[ONLY_CHOICE]
    spte_words = tables * entries
    queued = bit_of(programs)
    left: i64 = 5 if movers != 0 else 4
    right: i64 = 6 if movers != 0 else 4
    current = p[NEXT]
    while current < p[STATES] and current < p[LAST]:
        base = current * width
        before = p[TRANSITIONS]
        moved = 0
        over = 0
        c: i64 = 0
        while c < programs:
            me = bit_of(c)
            node = nodes[c * nodes_max + get(rows, base, f_node + c, fw, fs, fm)]
            kind = kinds[node]
            choices: i64 = 1
            if kind == 15:
                choices = 1 + t.gfns[c * p[GFNS_MAX]]
            elif kind == 21:
                choices = na[node]
            elif kind == 0:
                choices = 0
                over += 1
            choice: i64 = 0
            if only >= 0:
                choice = only_choice
                choices = only_choice + 1 if only == c else 0
            while choice < choices:
                k: i64 = 0
                while k < width:
                    row[k] = rows[base + k]
                    k += 1
                node = nodes[c * nodes_max + get(row, 0, f_node + c, fw, fs, fm)]
                kind = kinds[node]
                past = False
                bad: i64 = 0
                written: i64 = -1
                # Can the step end a grace period, or concern a vCPU that took no part in it?
                marks = False
                while True:
                    a = na[node]
                    r: i64 = 0
                    enabled = True
                    write: i64 = -1
                    x = touch[node]
                    if x >= 0 and get(row, 0, f_free, fw, fs, fm) & bit_of(x) != 0:
                        bad = 1
                    if kind == 11 or kind == 12 or kind == 14 or kind == 22 or kind == 23:
                        marks = True
                    if kind == 1:
                        r = get(row, 0, a, fw, fs, fm)
                    elif kind == 2:
                        # Hidden writes go to tables that no vCPU reaches.
                        if a < spte_words and flags[node] & 4 == 0:
                            written = a // entries
                        put(row, a, nb[node], fw, fs, fm)
                    elif kind == 3:
                        if get(row, 0, f_writer, fw, fs, fm) != 0 or get(row, 0, f_waiting, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_readers, get(row, 0, f_readers, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == 4:
                        put(row, f_readers, get(row, 0, f_readers, fw, fs, fm) & ~me, fw, fs, fm)
                    elif kind == 5:
                        put(row, f_waiting, get(row, 0, f_waiting, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == 6:
                        if get(row, 0, f_writer, fw, fs, fm) != 0 or get(row, 0, f_readers, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_writer, me, fw, fs, fm)
                            put(row, f_waiting, get(row, 0, f_waiting, fw, fs, fm) & ~me, fw, fs, fm)
                    elif kind == 7:
                        put(row, f_writer, 0, fw, fs, fm)
                    elif kind == 8:
                        if get(row, 0, f_pages, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_pages, me, fw, fs, fm)
                    elif kind == 9:
                        put(row, f_pages, 0, fw, fs, fm)
                    elif kind == 10:
                        put(row, f_rcu, get(row, 0, f_rcu, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == 11:
                        put(row, f_rcu, get(row, 0, f_rcu, fw, fs, fm) & ~me, fw, fs, fm)
                        k = 0
                        while k < tables:
                            x = get(row, 0, f_pending + k, fw, fs, fm)
                            if x != 0:
                                put(row, f_pending + k, x & ~me, fw, fs, fm)
                            k += 1
                        run_callbacks(t, queued)
                    elif kind == 12:
                        if (
                            get(row, 0, f_pending + a, fw, fs, fm) != 0
                            or get(row, 0, f_free, fw, fs, fm) & bit_of(a) != 0
                        ):
                            bad = 5
                        put(row, f_pending + a, queued | get(row, 0, f_rcu, fw, fs, fm), fw, fs, fm)
                        run_callbacks(t, queued)
                    elif kind == 13:
                        x = get(row, 0, f_free, fw, fs, fm)
                        r = -1
                        k = 0
                        while k < tables:
                            if x & bit_of(k) != 0:
                                r = k
                                put(row, f_free, x & ~bit_of(k), fw, fs, fm)
                                break
                            k += 1
                    elif kind == 14:
                        if (
                            get(row, 0, f_pending + a, fw, fs, fm) != 0
                            or get(row, 0, f_free, fw, fs, fm) & bit_of(a) != 0
                        ):
                            bad = 5
                        free_table(t, a)
                    elif kind == 15:
                        if choice > 0:
                            r = choice
                            x = root_words + c
                            x = t.child[x * values + get(row, 0, x, fw, fs, fm)]
                            enabled = can_fault(
                                t, get(row, 0, f_tlb + c, fw, fs, fm), x, t.gfns[c * p[GFNS_MAX] + choice]
                            )
                    elif kind == 16:
                        x = get(row, 0, f_flags + a, fw, fs, fm)
                        if x & 1 != 0:
                            put(row, f_flags + a, x | 2, fw, fs, fm)
                    elif kind == 17:
                        if get(row, 0, f_flags + a, fw, fs, fm) & 2 != 0:
                            enabled = False
                    elif kind == 18:
                        put(row, f_flags + a, get(row, 0, f_flags + a, fw, fs, fm) | 1, fw, fs, fm)
                    elif kind == 19:
                        put(row, f_flags + a, get(row, 0, f_flags + a, fw, fs, fm) & 12, fw, fs, fm)
                    elif kind == 20:
                        put(row, f_tlb + a, 0, fw, fs, fm)
                        put(row, f_flags + a, get(row, 0, f_flags + a, fw, fs, fm) & 3, fw, fs, fm)
                    elif kind == 21:
                        r = choice
                    elif kind == 22:
                        put(row, f_revoked, get(row, 0, f_revoked, fw, fs, fm) | bit_of(a), fw, fs, fm)
                    elif kind == 23:
                        if not mark_stale(t, a):
                            p[NEXT] = current
                            p[TRANSITIONS] = before
                            return MISSING_ENTRY
                    if not enabled:
                        break
                    e = edge[node]
                    while e >= 0 and seen[e] != r:
                        e = link[e]
                    if e < 0:
                        out[0] = MISSING_EDGE
                        out[1] = node
                        out[2] = r
                        p[NEXT] = current
                        p[TRANSITIONS] = before
                        return MISSING_EDGE
                    write = puts[e]
                    if write >= 0:
                        put(row, a, write, fw, fs, fm)
                        if a < spte_words and flags[node] & 4 == 0:
                            written = a // entries
                    # Right movers, one other step, left movers: together one step of the schedule.
                    if flags[node] & right == 0:
                        past = True
                    node = to[e]
                    kind = kinds[node]
                    if kind == 25 and bad == 0:
                        bad = 4
                    if bad != 0 or kind == 0 or kind == 15 or kind == 21 or kind == 25:
                        past = True
                        break
                    if past and flags[node] & left == 0:
                        break
                if not past:
                    # Nothing but right movers before something that is blocked: not taken.
                    choice += 1
                    continue
                put(row, f_node + c, local[node], fw, fs, fm)
                # Hardware fills what it may hold.
                v: i64 = 0
                while v < vcpus:
                    if (v == c or marks or written >= 0) and kinds[
                        nodes[v * nodes_max + get(row, 0, f_node + v, fw, fs, fm)]
                    ] == 15:
                        x = get(row, 0, f_flags + v, fw, fs, fm)
                        held = get(row, 0, f_tlb + v, fw, fs, fm)
                        if v == c or written >= 0:
                            root = t.child[(root_words + v) * values + get(row, 0, root_words + v, fw, fs, fm)]
                            if v == c or written == root or held & t.into[written] != 0:
                                held = closure(t, held, root)
                                if held < 0:
                                    p[NEXT] = current
                                    p[TRANSITIONS] = before
                                    return MISSING_ENTRY
                                put(row, f_tlb + v, held, fw, fs, fm)
                                if bad == 0 and leads_to_freed(t, held, root):
                                    bad = 2
                        if bad == 0:
                            if x & 4 != 0:
                                bad = 2
                            elif x & 8 != 0:
                                bad = 6
                            else:
                                x = get(row, 0, f_revoked, fw, fs, fm)
                                k = 0
                                while x != 0:
                                    if x & 1 != 0 and held & t.maps[k] != 0:
                                        bad = 3
                                    x >>= 1
                                    k += 1
                    v += 1
                p[TRANSITIONS] += 1
                moved += 1
                # What breaks something is a state of its own, even if an equal one was reached without breaking it.
                if bad != 0 and p[STOP] != 0:
                    found = add_state(t, current, c * CHOICES + choice)
                else:
                    found = insert(t, current, c * CHOICES + choice)
                if found == -MASK:
                    p[NEXT] = current
                    p[TRANSITIONS] = before
                    return FULL
                out[4] = found if found >= 0 else -1 - found
                if bad != 0 and p[STOP] != 0:
                    out[0] = VIOLATION
                    out[1] = bad
                    out[2] = found
                    out[3] = c
                    p[NEXT] = current
                    return VIOLATION
                choice += 1
            c += 1
        if moved == 0 and over < programs and movers == 0 and only < 0:
            out[0] = VIOLATION
            out[1] = 7
            out[2] = current
            out[3] = -1
            p[NEXT] = current
            return VIOLATION
        current += 1
        p[NEXT] = current
    return DONE


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
                    put(row, f, get(row, 0, f, fw, fs, fm) | 8, fw, fs, fm)
        v += 1
    return True
