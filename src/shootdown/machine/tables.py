"""``Tables``: which page tables there are, the words of each, the lists that they stand on, and the queue of RCU.

Each table has a record of 16 words. The free tables, those that wait for RCU and the lists are linked through the
records, so that only ``take`` ever needs memory.
"""

from __future__ import annotations

from typing import Final, NoReturn, final

from librt.vecs import append, vec
from mypy_extensions import i64

from .interface import Bug
from .words import LIST_NAMES, LISTS, NO_TABLE

CHUNK_BITS: Final = 14
CHUNK_WORDS: Final = 0x4000
"""Words of a chunk, 128 KiB: larger ones are no faster to access, and slower to make for a small test."""
CHUNK_MASK: Final = 0x3FFF

# Literals, since compiled code computes no other constant beforehand.

TABLE_KINDS: Final = 10
"""The kinds of words below this one are a table's: up to ROOT_SCHEDULED."""

# A record: the table's words by kind, then these.
RECORD_BITS: Final = 4
STATE: Final = 10
LINK: Final = 11
"""The next free table, or the next that waits for RCU."""
PREVIOUS: Final = 12
NEXT: Final = 14
"""Neighbours, for each of the two lists; ``OFF`` in PREVIOUS: not on the list, in NEXT: never was."""
OFF: Final = -2

# States.
FREE: Final = 0
USED: Final = 1
QUEUED: Final = 2


def new_chunk() -> vec[i64]:
    """A chunk of zeros."""
    return vec[i64]([0] * CHUNK_WORDS)


@final
class Tables:
    """Tables by number, from 1 up to ``top`` exclusively; ``limit`` is the highest number.

    used         allocated and not freed, those that wait for RCU included
    pending      those that wait for RCU; ``pending_max``: the most there ever were
    """

    def __init__(self, limit: i64) -> None:
        self.limit = limit
        self.top: i64 = 1
        self.used: i64 = 0
        self.pending: i64 = 0
        self.pending_max: i64 = 0
        self._records: vec[vec[i64]] = append(vec[vec[i64]](), new_chunk())
        self._free: i64 = NO_TABLE
        self._pending_first: i64 = NO_TABLE
        self._pending_last: i64 = NO_TABLE
        self._list_first: Final = vec[i64]([NO_TABLE] * LISTS)
        self._list_last: Final = vec[i64]([NO_TABLE] * LISTS)

    # Allocation

    def next_number(self) -> i64:
        """The table that ``take`` would give: the one that was freed last, else a new one; -1 at the limit."""
        if self._free != NO_TABLE:
            return self._free
        return self.top if self.top <= self.limit else NO_TABLE

    def take(self) -> i64:
        """Allocate ``next_number``, which there is: its words are 0. Without memory: MemoryError, nothing changed."""
        table = self.next_number()
        if self._free != NO_TABLE:
            self._free = self._word(table, LINK)
        else:
            if ((table << RECORD_BITS) >> CHUNK_BITS) >= len(self._records):
                self._records = append(self._records, new_chunk())
            self.top = table + 1
        kind: i64 = 0
        while kind < TABLE_KINDS:
            self._set_word(table, kind, 0)
            kind += 1
        self._set_word(table, STATE, USED)
        which: i64 = 0
        while which < LISTS:
            self._set_word(table, PREVIOUS + which, OFF)
            self._set_word(table, NEXT + which, OFF)
            which += 1
        self.used += 1
        return table

    def free(self, table: i64) -> None:
        """Free a table at once."""
        self._check_leaves(table, "freed")
        self._release(table)

    def queue(self, table: i64) -> None:
        """Let a table wait for the end of the read section."""
        self._check_leaves(table, "given to call_rcu")
        self._set_word(table, STATE, QUEUED)
        self._set_word(table, LINK, NO_TABLE)
        if self._pending_first == NO_TABLE:
            self._pending_first = table
        else:
            self._set_word(self._pending_last, LINK, table)
        self._pending_last = table
        self.pending += 1
        self.pending_max = max(self.pending_max, self.pending)

    def free_pending(self) -> None:
        """Free all tables that wait, in the order in which they came."""
        table = self._pending_first
        while table != NO_TABLE:
            after = self._word(table, LINK)
            self._release(table)
            table = after
        self._pending_first = NO_TABLE
        self._pending_last = NO_TABLE
        self.pending = 0

    def _release(self, table: i64) -> None:
        self._set_word(table, STATE, FREE)
        self._set_word(table, LINK, self._free)
        self._free = table
        self.used -= 1

    def _check_leaves(self, table: i64, how: str) -> None:
        self._check_used(table, how)
        which: i64 = 0
        while which < LISTS:
            if self._word(table, PREVIOUS + which) != OFF:
                raise Bug(f"table {table} is {how}, but still on the list {LIST_NAMES[which]}")
            which += 1

    # Words

    def load(self, table: i64, kind: i64) -> i64:
        """A word of a table that is not free."""
        if table <= 0 or table >= self.top:
            self._never(table, "asked for a word")
        at = table << RECORD_BITS
        chunk = self._records[at >> CHUNK_BITS]
        at &= CHUNK_MASK
        if chunk[at + STATE] == FREE:
            raise Bug(f"table {table} is asked for a word, but is free")
        return chunk[at + kind]

    def store(self, table: i64, kind: i64, value: i64) -> None:
        """Set a word of a table that is not free."""
        if table <= 0 or table >= self.top:
            self._never(table, "given a word")
        at = table << RECORD_BITS
        chunk = self._records[at >> CHUNK_BITS]
        at &= CHUNK_MASK
        if chunk[at + STATE] == FREE:
            raise Bug(f"table {table} is given a word, but is free")
        chunk[at + kind] = value

    def _word(self, table: i64, kind: i64) -> i64:
        at = (table << RECORD_BITS) + kind
        return self._records[at >> CHUNK_BITS][at & CHUNK_MASK]

    def _set_word(self, table: i64, kind: i64, value: i64) -> None:
        at = (table << RECORD_BITS) + kind
        self._records[at >> CHUNK_BITS][at & CHUNK_MASK] = value

    def _check_live(self, table: i64, how: str) -> None:
        """A table must not be free; it may wait for RCU."""
        if table <= 0 or table >= self.top:
            self._never(table, how)
        if self._word(table, STATE) == FREE:
            raise Bug(f"table {table} is {how}, but is free")

    def _never(self, table: i64, how: str) -> NoReturn:
        raise Bug(f"table {table} is {how}, but was never allocated")

    def _check_used(self, table: i64, how: str) -> None:
        """A table must neither be free nor wait for RCU."""
        self._check_live(table, how)
        if self._word(table, STATE) == QUEUED:
            raise Bug(f"table {table} is {how}, but waits for RCU already")

    # Lists

    def list_add(self, which: i64, table: i64) -> None:
        """Put a table at the front of a list."""
        self._check_list(which)
        self._link(which, table, NO_TABLE, self._list_first[which])

    def list_add_tail(self, which: i64, table: i64) -> None:
        """Put a table at the end of a list."""
        self._check_list(which)
        self._link(which, table, self._list_last[which], NO_TABLE)

    def _link(self, which: i64, table: i64, before: i64, after: i64) -> None:
        """Put a table between two that are neighbours; -1 stands for the end of the list."""
        self._check_used(table, "added to a list")
        if self._word(table, PREVIOUS + which) != OFF:
            raise Bug(f"table {table} is added to the list {LIST_NAMES[which]}, but is on it")
        self._set_word(table, PREVIOUS + which, before)
        self._set_word(table, NEXT + which, after)
        if before == NO_TABLE:
            self._list_first[which] = table
        else:
            self._set_word(before, NEXT + which, table)
        if after == NO_TABLE:
            self._list_last[which] = table
        else:
            self._set_word(after, PREVIOUS + which, table)

    def list_del(self, which: i64, table: i64) -> None:
        """Take a table off a list; it keeps its link to what came after it."""
        self._check_list(which)
        self._check_live(table, "taken off a list")
        before = self._word(table, PREVIOUS + which)
        after = self._word(table, NEXT + which)
        if before == OFF:
            raise Bug(f"table {table} is taken off the list {LIST_NAMES[which]}, but is not on it")
        if before == NO_TABLE:
            self._list_first[which] = after
        else:
            self._set_word(before, NEXT + which, after)
        if after == NO_TABLE:
            self._list_last[which] = before
        else:
            self._set_word(after, PREVIOUS + which, before)
        self._set_word(table, PREVIOUS + which, OFF)

    def list_next(self, which: i64, table: i64) -> i64:
        """The table after ``table`` (the first, if that is -1), or -1."""
        self._check_list(which)
        if table == NO_TABLE:
            return self._list_first[which]
        self._check_live(table, "stood on in a list")
        after = self._word(table, NEXT + which)
        if after == OFF:
            raise Bug(f"table {table} is stood on in the list {LIST_NAMES[which]}, but never was on it")
        return after

    def _check_list(self, which: i64) -> None:
        if which < 0 or which >= LISTS:
            raise Bug(f"no list has the number {which}")
