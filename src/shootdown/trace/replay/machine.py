"""``ReplayMachine``: the machine under a replayed MMU. It announces what is traced; the record decides the order.

Locks are not enforced: the record says who came first. Tables are never reused, so that a walk through a freed one
does no harm.
"""

from __future__ import annotations

from typing import Final, Protocol

from mypy_extensions import i64

from ...machine.interface import Bug, Machine
from ...machine.words import (
    DIRTY,
    FLUSH_REQUESTS,
    HOST_LEVEL,
    HOST_PFN,
    HOST_WRITABLE,
    KINDS,
    LISTS,
    NO_TABLE,
    RING_ENTRY,
    RING_PUSHED,
    RING_RESET,
    ROLE_LEVEL_SHIFT,
    ROLE_SMM,
    ROOT_SCHEDULED,
    SLOT_FLAGS,
    SLOT_INVALID,
    SLOT_PAGES,
    SP_GFN,
    SP_LEVEL,
    SP_LISTED,
    SP_PARENT,
    SP_ROLE,
    TABLES,
    VCPU_ROOT,
)
from ...mmu.spte import PAGES

ENTRIES: Final = 512
LOOSE: Final = frozenset({DIRTY, RING_ENTRY, RING_PUSHED, RING_RESET})


class Listener(Protocol):
    """Who is told of what the MMU does, and decides how it goes on."""

    def before_change(self, m: ReplayMachine, sptep: int, value: int, exchange: int) -> int:
        """An entry is about to change; what is found there instead, or -1 if the change shall happen."""

    def changed(self, m: ReplayMachine, gfn: int, level: int, old: int, new: int) -> None:
        """The tracepoint of an SPTE's change."""

    def flushed(self, m: ReplayMachine) -> None:
        """A remote flush."""

    def locked(self, m: ReplayMachine, held: bool) -> None:
        """mmu_lock is taken for write, or dropped after that."""

    def unlinked(self, m: ReplayMachine) -> None:
        """A table was cut off."""

    def queued(self, m: ReplayMachine, table: int) -> None:
        """A table was handed to RCU."""

    def synchronized(self, m: ReplayMachine) -> None:
        """A task waits for all who may see the slots as they were."""

    def stored(self, m: ReplayMachine, kind: int) -> None:
        """A word of interest was set."""

    def resched(self, m: ReplayMachine) -> bool:
        """Does the thread yield here?"""

    def host_level(self, m: ReplayMachine, gfn: int) -> int:
        """Level at which the host maps a gfn."""


class ReplayMachine(Machine):
    """Tables as lists, words as dictionaries.

    queued  tables handed to RCU and not freed yet; ``as_ids``: the address space of each table
    last    the entry that was changed last
    by_table  a flush that comes now is for a single table (by_table.py)
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(9)
        self.listener = listener
        self.tables: list[list[int]] = [[]]
        self.words: list[dict[int, int]] = [{} for _ in range(KINDS)]
        self.lists: list[list[int]] = [[] for _ in range(LISTS)]
        self.after: list[dict[int, int]] = [{} for _ in range(LISTS)]
        self.queued: dict[int, None] = {}
        self.gone: set[int] = set()
        self.as_ids: dict[int, int] = {}
        self.last = 0
        self.by_table = False

    def copy(self, listener: Listener) -> ReplayMachine:
        """The same at this moment, with a listener of its own: what is done to one does nothing to the other."""
        new = ReplayMachine(listener)
        new.tables = [list(entries) for entries in self.tables]
        new.words = [dict(words) for words in self.words]
        new.lists = [list(chain) for chain in self.lists]
        new.after = [dict(after) for after in self.after]
        new.queued, new.gone, new.as_ids = dict(self.queued), set(self.gone), dict(self.as_ids)
        return new

    # SPTEs

    def read(self, sptep: i64) -> i64:
        """What the SPTE holds."""
        return self.tables[sptep >> 9][sptep & 511]

    def write(self, sptep: i64, value: i64) -> None:
        """Set an SPTE."""
        table = sptep >> 9
        if table in self.as_ids:
            self.listener.before_change(self, sptep, value, 0)
            self.last = sptep
        self.tables[table][sptep & 511] = value

    def xchg(self, sptep: i64, value: i64) -> i64:
        """Set an SPTE; what was there before."""
        self.listener.before_change(self, sptep, value, 1)
        self.last = sptep
        entries = self.tables[sptep >> 9]
        index = sptep & 511
        before = entries[index]
        entries[index] = value
        return before

    def cmpxchg(self, sptep: i64, old: i64, value: i64) -> i64:
        """Set an SPTE if it holds ``old``; what was there before."""
        entries = self.tables[sptep >> 9]
        index = sptep & 511
        instead = self.listener.before_change(self, sptep, value, 2)
        before = entries[index]
        if before == old:
            if instead != -1 and instead != old:
                return instead
            self.last = sptep
            entries[index] = value
        return before

    def fetch_and(self, sptep: i64, mask: i64) -> i64:
        """Keep only the bits in ``mask``; what was there before."""
        entries = self.tables[sptep >> 9]
        index = sptep & 511
        self.listener.before_change(self, sptep, entries[index] & mask, 1)
        self.last = sptep
        before = entries[index]
        entries[index] = before & mask
        return before

    def spte_changed(self, gfn: i64, level: i64, old: i64, new: i64) -> None:
        """Tell the listener."""
        self.listener.changed(self, gfn, level, old, new)

    # Tables

    def alloc_table(self, empty: i64) -> i64:
        """A new table."""
        self.tables.append([empty] * ENTRIES)
        return len(self.tables) - 1

    def free_table(self, table: i64) -> None:
        """A table that nobody saw."""
        self.tables[table] = []

    def call_rcu(self, table: i64) -> None:
        """The table waits until the record shows its end."""
        if table in self.queued or table in self.gone:
            raise Bug(f"table {table} is given to call_rcu twice")
        self.queued[table] = None
        self.listener.queued(self, table)

    # Other words

    def load(self, kind: i64, owner: i64) -> i64:
        """The value of a word."""
        found = self.words[kind].get(owner)
        if found is not None:
            return found
        if kind == VCPU_ROOT:
            return NO_TABLE
        if kind == HOST_LEVEL:
            return self.listener.host_level(self, owner)
        if kind == HOST_PFN:
            return owner
        return 1 if kind == HOST_WRITABLE else 0

    def store(self, kind: i64, owner: i64, value: i64) -> None:
        """Set a word; a table that is told where it hangs belongs to that address space."""
        self.words[kind][owner] = value
        if kind == SP_PARENT:
            self.as_ids[owner] = self.as_ids[value >> 9]
        elif kind == SP_ROLE and owner not in self.as_ids and value != 0:
            self.as_ids[owner] = value & ROLE_SMM
            self.words[SP_LEVEL][owner] = value >> ROLE_LEVEL_SHIFT
        elif kind == ROOT_SCHEDULED:
            self.listener.stored(self, kind)

    def fetch_add(self, kind: i64, owner: i64, number: i64) -> i64:
        """Add to a word; what was there before."""
        before = self.load(kind, owner)
        self.store(kind, owner, before + number)
        return before

    def fetch_or(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Set bits of a word; what was there before."""
        before = self.load(kind, owner)
        self.store(kind, owner, before | bits)
        return before

    def fetch_clear(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Clear bits of a word; what was there before."""
        before = self.load(kind, owner)
        self.store(kind, owner, before & ~bits)
        return before

    def exchange(self, kind: i64, owner: i64, old: i64, value: i64) -> i64:
        """Set a word if it is ``old``; what was there before."""
        before = self.load(kind, owner)
        if before == old:
            self.store(kind, owner, value)
        return before

    def count(self, kind: i64, owner: i64, number: i64) -> None:
        """A statistic: one counts flushes, one the tables that are linked."""
        if kind == FLUSH_REQUESTS:
            self.listener.flushed(self)
        elif kind == TABLES and number < 0:
            self.listener.unlinked(self)

    # Lists of tables

    def list_add(self, which: i64, table: i64) -> None:
        """Put a table at the front of a list."""
        self.lists[which].insert(0, table)

    def list_add_tail(self, which: i64, table: i64) -> None:
        """Put a table at the end of a list."""
        self.lists[which].append(table)

    def list_del(self, which: i64, table: i64) -> None:
        """Take a table off a list; it leads on to what came after it."""
        self.after[which][table] = self.list_next(which, table)
        self.lists[which].remove(table)

    def list_next(self, which: i64, table: i64) -> i64:
        """The table after ``table``, or -1."""
        chain = self.lists[which]
        if table == NO_TABLE:
            return chain[0] if chain else NO_TABLE
        if table in chain:
            at = chain.index(table) + 1
            return chain[at] if at < len(chain) else NO_TABLE
        return self.after[which].get(table, NO_TABLE)

    # Locks and RCU

    def read_lock(self) -> None:
        """Not enforced."""

    def read_unlock(self) -> None:
        """Not enforced."""

    def write_lock(self) -> None:
        """Nobody else changes anything from here on."""
        self.listener.locked(self, True)

    def write_unlock(self) -> None:
        """Others may come."""
        self.listener.locked(self, False)

    def need_resched(self) -> bool:
        """Where the record shows it."""
        return self.listener.resched(self)

    def pages_lock(self) -> None:
        """Not enforced."""

    def pages_unlock(self) -> None:
        """Not enforced."""

    def rcu_read_lock(self) -> None:
        """Not enforced."""

    def rcu_read_unlock(self) -> None:
        """Not enforced."""

    def slots_lock(self) -> None:
        """Not enforced."""

    def slots_unlock(self) -> None:
        """Not enforced."""

    def srcu_read_lock(self) -> None:
        """Not enforced."""

    def srcu_read_unlock(self) -> None:
        """Not enforced."""

    def synchronize_srcu(self) -> None:
        """Whoever waits here for those who still see the old slots waits until the record shows its end."""
        pages = self.words[SLOT_PAGES]
        flags = self.words[SLOT_FLAGS]
        if all(flags.get(slot, 0) & SLOT_INVALID == 0 for slot, number in pages.items() if number != 0):
            self.listener.synchronized(self)

    def cpu_relax(self) -> None:
        """Whoever is waited for runs only when the record says so: the wait is a fault of the replay."""
        raise Bug("our MMU waits for somebody who does not run")

    # vCPUs

    def send_ipi(self, vcpu: i64) -> None:
        """No guest runs."""

    def wait_ipi(self, vcpu: i64) -> None:
        """No guest runs."""

    def irq_disable(self, vcpu: i64) -> None:
        """No guest runs."""

    def irq_enable(self, vcpu: i64) -> None:
        """No guest runs."""

    def flush_tlb(self, vcpu: i64) -> None:
        """Nothing is cached."""

    def enter_guest(self, vcpu: i64) -> i64:
        """Never: faults come from the record."""
        return -1

    # For the follower

    def gfn_of(self, sptep: int) -> int:
        """First gfn of an entry of a table that is in use."""
        table = sptep >> 9
        level = self.words[SP_LEVEL].get(table, 0)
        return self.words[SP_GFN].get(table, 0) + (sptep & 511) * PAGES[level]

    def level_of(self, sptep: int) -> int:
        """Its level."""
        return self.words[SP_LEVEL].get(sptep >> 9, 0)

    def peek(self, sptep: int) -> int:
        """What an entry holds."""
        return self.tables[sptep >> 9][sptep & 511]

    def poke(self, sptep: int, value: int) -> None:
        """Have an entry hold something."""
        self.tables[sptep >> 9][sptep & 511] = value

    def words_level(self, table: int) -> int:
        """Level of a table's entries."""
        return self.words[SP_LEVEL].get(table, 0)

    def place(self, table: int, gfn: int, level: int, sptep: int) -> None:
        """Say where a table hangs that is linked already."""
        self.words[SP_GFN][table] = gfn
        self.words[SP_LEVEL][table] = level
        self.words[SP_LISTED][table] = 1
        self.store(SP_PARENT, table, sptep)

    def table_gfn(self, table: int) -> int:
        """First gfn that a table covers."""
        return self.words[SP_GFN].get(table, 0)
