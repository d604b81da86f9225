"""``NativeMachine``: the machine at speed, on one host CPU.

Memory is packed 64-bit words in chunks of fixed size: growing adds a chunk and copies no SPTE. What one CPU would wait
for for ever (a lock that somebody holds, an IPI that cannot be taken) is a ``Bug``, as are a word touched without its
lock and a table that is used after it was freed. The SPTEs of a freed table are the exception: testing that on each
access would cost a third of it, so only addresses where no table ever was are refused.
"""

from __future__ import annotations

from typing import Final, NoReturn, final

from librt.vecs import append, vec
from mypy_extensions import i64

from .interface import Bug, Machine
from .store import BY_PAGES_LOCK, WRITTEN_BY_MMU_LOCK, Store, no_kind
from .tables import CHUNK_BITS, CHUNK_MASK, CHUNK_WORDS, TABLE_KINDS, Tables, new_chunk
from .vcpus import Vcpus

# Skipped by isort, which would give each name a line; their order means nothing.
from .words import (  # isort: skip
    KINDS, KIND_NAMES, LISTS, LIST_NAMES, NO_TABLE, OUTSIDE_GUEST_MODE, ROLE_LEVEL_SHIFT, SP_GFN, SP_LEVEL, SP_ROLE,
    VCPU_MODE,
)  # fmt: skip

TABLES_MAX: Final[i64] = 0xFF_FFFF_FFFF
"""The highest page frame that fits into the 40 bits of an SPTE: the limit on tables, unless a lower one is given."""

LEVEL_MAX: Final = 5
"""The highest level that page tables have."""

WRITER: Final = -1
"""mmu_lock is held for write; a positive number counts its readers."""


@final
class NativeMachine(Machine):
    """Flat memory, locks that are only checked, RCU without waiting, vCPUs that fault where they are told to.

    The host maps gfn n to pfn n in writable pages of ``host_level`` where HOST_PFN, HOST_LEVEL and HOST_WRITABLE are
    not stored.
    ``tables`` tells how many tables are in use and how many wait for RCU, ``vcpus`` who was flushed and interrupted.
    """

    def __init__(
        self, vcpus: i64 = 1, bits: i64 = 9, tables_max: i64 = TABLES_MAX, resched_every: i64 = 0, slots: i64 = 0,
        host_level: i64 = 1,
    ) -> None:  # fmt: skip
        """At most ``tables_max`` tables; ``need_resched`` says yes at every ``resched_every``-th call (0: never)."""
        super().__init__(bits)
        if bits < 1 or bits > CHUNK_BITS:
            raise ValueError(f"tables of 2**{bits} entries: use 1 to {CHUNK_BITS} bits")
        if vcpus < 0 or tables_max < 0 or tables_max > TABLES_MAX or resched_every < 0 or slots < 0:
            raise ValueError(
                f"{vcpus} vCPUs, {tables_max} tables, a reschedule every {resched_every} calls, {slots} slots: "
                f"no number may be negative, and no more than {TABLES_MAX} tables have a number"
            )
        if host_level < 1 or host_level > LEVEL_MAX:
            raise ValueError(f"the host maps pages of level {host_level}: use 1 to {LEVEL_MAX}")
        self.vcpus: Final = Vcpus(vcpus)
        self.tables: Final = Tables(tables_max)

        # SPTEs are valid from _sptep_first up to _sptep_end.
        self._chunks: vec[vec[i64]] = append(vec[vec[i64]](), new_chunk())
        self._sptep_first = self.tables.top << bits
        self._sptep_end = self._sptep_first

        # The chunk used last, and which SPTEs are in it.
        self._chunk = self._chunks[0]
        self._chunk_first = self._sptep_end
        self._chunk_end = self._sptep_end

        self._store: Final = Store(vcpus, slots, host_level)
        self._guarded = self._store.guarded

        self._mmu_lock: i64 = 0
        self._pages_lock = False
        self._slots_lock = False
        self._rcu_depth: i64 = 0
        self._srcu_depth: i64 = 0
        self._resched_every = resched_every
        self.resched_calls: i64 = 0

        self._journal = False
        self._flushes = vec[i64]()
        self._retired = vec[i64]()
        self._range_first: i64 = 0
        self._range_pages: i64 = 0

    # SPTEs

    def read(self, sptep: i64) -> i64:
        """What the SPTE holds."""
        if sptep < self._chunk_first or sptep >= self._chunk_end:
            self._turn_to(sptep)
        return self._chunk[sptep & CHUNK_MASK]

    def write(self, sptep: i64, value: i64) -> None:
        """Set an SPTE."""
        if sptep < self._chunk_first or sptep >= self._chunk_end:
            self._turn_to(sptep)
        self._chunk[sptep & CHUNK_MASK] = value

    def xchg(self, sptep: i64, value: i64) -> i64:
        """Set an SPTE; what was there before."""
        if sptep < self._chunk_first or sptep >= self._chunk_end:
            self._turn_to(sptep)
        chunk = self._chunk
        index = sptep & CHUNK_MASK
        before = chunk[index]
        chunk[index] = value
        return before

    def cmpxchg(self, sptep: i64, old: i64, value: i64) -> i64:
        """Set an SPTE if it holds ``old``; what was there before."""
        if sptep < self._chunk_first or sptep >= self._chunk_end:
            self._turn_to(sptep)
        chunk = self._chunk
        index = sptep & CHUNK_MASK
        before = chunk[index]
        if before == old:
            chunk[index] = value
        return before

    def fetch_and(self, sptep: i64, mask: i64) -> i64:
        """Keep only the bits in ``mask`` of an SPTE; what was there before."""
        if sptep < self._chunk_first or sptep >= self._chunk_end:
            self._turn_to(sptep)
        chunk = self._chunk
        index = sptep & CHUNK_MASK
        before = chunk[index]
        chunk[index] = before & mask
        return before

    def _turn_to(self, sptep: i64) -> None:
        """Have an SPTE's chunk at hand; walks seldom change theirs."""
        if sptep < self._sptep_first or sptep >= self._sptep_end:
            raise Bug(f"no SPTE is at {sptep}: table {sptep >> self.bits} was never allocated")
        number = sptep >> CHUNK_BITS
        first = number << CHUNK_BITS
        self._chunk = self._chunks[number]
        self._chunk_first = max(first, self._sptep_first)
        self._chunk_end = min(first + CHUNK_WORDS, self._sptep_end)

    # Tables

    def alloc_table(self, empty: i64) -> i64:
        """The table that was freed last, or a new one; -1 at the limit and where the host has no memory."""
        table = self.tables.next_number()
        if table == NO_TABLE:
            return NO_TABLE
        at = table << self.bits
        try:
            if (at >> CHUNK_BITS) >= len(self._chunks):
                self._chunks = append(self._chunks, new_chunk())
            self.tables.take()
        except MemoryError:
            return NO_TABLE
        end = (table + 1) << self.bits
        self._sptep_end = max(self._sptep_end, end)
        self._turn_to(at)
        chunk = self._chunk
        index = at & CHUNK_MASK
        end += index - at
        while index < end:
            chunk[index] = empty
            index += 1
        return table

    def free_table(self, table: i64) -> None:
        """Free a table at once."""
        self.tables.free(table)

    def call_rcu(self, table: i64) -> None:
        """Free a table when the read section ends; at once if there is none."""
        if self._journal:
            level = self.tables.load(table, SP_LEVEL) | self.tables.load(table, SP_ROLE) >> ROLE_LEVEL_SHIFT
            self._retired = append(append(self._retired, level), self.tables.load(table, SP_GFN))
        if self._rcu_depth > 0:
            self.tables.queue(table)
        else:
            self.tables.free(table)

    # What happened

    def keep_journal(self) -> None:
        """From here on flushes and tables given to RCU are noted, for ``take_flushes`` and ``take_retired``."""
        self._journal = True

    def flush_range(self, gfn: i64, pages: i64) -> bool:
        """Remember what the flush that follows is asked for."""
        self._range_first = gfn
        self._range_pages = pages
        return False

    def flush_requested(self) -> None:
        """Note a flush."""
        if self._journal:
            self._flushes = append(append(self._flushes, self._range_first), self._range_pages)
            self._range_first = self._range_pages = 0

    def take_flushes(self) -> list[int]:
        """First gfn and pages of each flush since this was asked last, 0 and 0 where all was flushed."""
        found = [int(number) for number in self._flushes]
        self._flushes = vec[i64]()
        return found

    def take_retired(self) -> list[int]:
        """Level and first gfn of each table that was given to RCU since this was asked last."""
        found = [int(number) for number in self._retired]
        self._retired = vec[i64]()
        return found

    # Other words

    def load(self, kind: i64, owner: i64) -> i64:
        """The value of a word, be it a statistic: 0 before it is stored, except for VCPU_ROOT (-1) and the host's."""
        if kind < 0 or kind >= KINDS:
            no_kind(kind)
        if (self._guarded >> kind) & 1 != 0:
            self._check_read(kind)
        return self._get(kind, owner)

    def store(self, kind: i64, owner: i64, value: i64) -> None:
        """Set a word."""
        self._check_write(kind)
        self._set(kind, owner, value)

    def fetch_add(self, kind: i64, owner: i64, number: i64) -> i64:
        """Add to a word; what was there before."""
        self._check_write(kind)
        before = self._get(kind, owner)
        self._set(kind, owner, before + number)
        return before

    def fetch_or(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Set bits of a word; what was there before."""
        self._check_write(kind)
        before = self._get(kind, owner)
        self._set(kind, owner, before | bits)
        return before

    def fetch_clear(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Clear bits of a word; what was there before."""
        self._check_write(kind)
        before = self._get(kind, owner)
        self._set(kind, owner, before & ~bits)
        return before

    def exchange(self, kind: i64, owner: i64, old: i64, value: i64) -> i64:
        """Set a word if it is ``old``; what was there before."""
        self._check_write(kind)
        before = self._get(kind, owner)
        if before == old:
            self._set(kind, owner, value)
        return before

    def count(self, kind: i64, owner: i64, number: i64) -> None:
        """Add to a statistic; ``load`` tells it."""
        self._store.count(kind, owner, number)

    def _get(self, kind: i64, owner: i64) -> i64:
        if kind < TABLE_KINDS:
            return self.tables.load(owner, kind)
        return self._store.get(kind, owner)

    def _set(self, kind: i64, owner: i64, value: i64) -> None:
        if kind < TABLE_KINDS:
            self.tables.store(owner, kind, value)
        else:
            self._store.set(kind, owner, value)

    def _check_read(self, kind: i64) -> None:
        if not self._pages_lock and self._mmu_lock != WRITER:
            self._no_pages_lock(KIND_NAMES[kind], "read")

    def _check_write(self, kind: i64) -> None:
        if kind < 0 or kind >= KINDS:
            no_kind(kind)
        guard = self._store.guards[kind]
        if guard == BY_PAGES_LOCK:
            if not self._pages_lock and self._mmu_lock != WRITER:
                self._no_pages_lock(KIND_NAMES[kind], "written")
        elif guard == WRITTEN_BY_MMU_LOCK:
            if self._mmu_lock != WRITER:
                raise Bug(f"{KIND_NAMES[kind]} is written without mmu_lock held for write")

    def _no_pages_lock(self, what: str, how: str) -> NoReturn:
        raise Bug(f"{what} is {how} without the pages lock or mmu_lock held for write")

    # Lists of tables

    def list_add(self, which: i64, table: i64) -> None:
        """Put a table at the front of a list."""
        self._check_list(which)
        self.tables.list_add(which, table)

    def list_add_tail(self, which: i64, table: i64) -> None:
        """Put a table at the end of a list."""
        self._check_list(which)
        self.tables.list_add_tail(which, table)

    def list_del(self, which: i64, table: i64) -> None:
        """Take a table off a list; until it is freed it leads to what came after it."""
        self._check_list(which)
        self.tables.list_del(which, table)

    def list_next(self, which: i64, table: i64) -> i64:
        """The table after ``table`` in a list (the first, if that is -1), or -1."""
        return self.tables.list_next(which, table)

    def _check_list(self, which: i64) -> None:
        if not self._pages_lock and self._mmu_lock != WRITER and 0 <= which < LISTS:
            self._no_pages_lock(LIST_NAMES[which], "changed")

    # Locks and RCU

    def read_lock(self) -> None:
        """Take mmu_lock for read, be it once more."""
        if self._mmu_lock == WRITER:
            raise Bug("mmu_lock is taken for read while it is held for write")
        self._mmu_lock += 1

    def read_unlock(self) -> None:
        """Drop mmu_lock held for read."""
        if self._mmu_lock <= 0:
            raise Bug("mmu_lock is dropped for read, but is not held for read")
        self._mmu_lock -= 1

    def write_lock(self) -> None:
        """Take mmu_lock for write."""
        if self._mmu_lock != 0:
            raise Bug(f"mmu_lock is taken for write while it is held for {'write' if self._mmu_lock < 0 else 'read'}")
        self._mmu_lock = WRITER

    def write_unlock(self) -> None:
        """Drop mmu_lock held for write."""
        if self._mmu_lock != WRITER:
            raise Bug("mmu_lock is dropped for write, but is not held for write")
        self._mmu_lock = 0

    def assert_locked(self, shared: bool) -> None:
        """Is mmu_lock held as it must be?"""
        if shared:
            if self._mmu_lock <= 0:
                raise Bug("mmu_lock is not held for read: call read_lock() before and read_unlock() after")
        elif self._mmu_lock != WRITER:
            raise Bug("mmu_lock is not held for write: call write_lock() before and write_unlock() after")

    def need_resched(self) -> bool:
        """Yes at every ``resched_every``-th call."""
        if self._resched_every == 0:
            return False
        self.resched_calls += 1
        if self.resched_calls < self._resched_every:
            return False
        self.resched_calls = 0
        return True

    def pages_lock(self) -> None:
        """Take the pages lock."""
        if self._pages_lock:
            raise Bug("the pages lock is taken while it is held")
        self._pages_lock = True

    def pages_unlock(self) -> None:
        """Drop the pages lock."""
        if not self._pages_lock:
            raise Bug("the pages lock is dropped, but is not held")
        self._pages_lock = False

    def rcu_read_lock(self) -> None:
        """Enter an RCU read section, be it inside another."""
        self._rcu_depth += 1

    def rcu_read_unlock(self) -> None:
        """Leave an RCU read section; after the outermost, all tables that wait for that are freed."""
        if self._rcu_depth == 0:
            raise Bug("an RCU read section is left, but none was entered")
        self._rcu_depth -= 1
        if self._rcu_depth == 0 and self.tables.pending != 0:
            self.tables.free_pending()

    def slots_lock(self) -> None:
        """Take slots_lock."""
        if self._slots_lock:
            raise Bug("slots_lock is taken while it is held")
        if self._srcu_depth != 0:
            raise Bug("slots_lock is taken inside an SRCU read section: whoever holds it may wait for that section")
        if self._mmu_lock != 0 or self._pages_lock or self._rcu_depth != 0:
            raise Bug("slots_lock is taken with a spinning lock held or inside an RCU read section")
        self._slots_lock = True

    def slots_unlock(self) -> None:
        """Drop slots_lock."""
        if not self._slots_lock:
            raise Bug("slots_lock is dropped, but is not held")
        self._slots_lock = False

    def srcu_read_lock(self) -> None:
        """Enter an SRCU read section, be it inside another."""
        self._srcu_depth += 1

    def srcu_read_unlock(self) -> None:
        """Leave an SRCU read section."""
        if self._srcu_depth == 0:
            raise Bug("an SRCU read section is left, but none was entered")
        self._srcu_depth -= 1

    def synchronize_srcu(self) -> None:
        """Nobody to wait for, unless it is the caller itself."""
        if self._srcu_depth != 0:
            raise Bug("synchronize_srcu is called inside an SRCU read section: it would wait for ever")

    def cpu_relax(self) -> None:
        """Nobody else is there."""
        raise Bug("one CPU waits for another's work, and would for ever")

    # vCPUs

    def send_ipi(self, vcpu: i64) -> None:
        """Interrupt a vCPU's CPU: a guest that runs there leaves, else the IPI waits while interrupts are off."""
        in_guest = self._get(VCPU_MODE, vcpu) != OUTSIDE_GUEST_MODE
        self._set(VCPU_MODE, vcpu, OUTSIDE_GUEST_MODE)
        self.vcpus.interrupt(vcpu, in_guest)

    def wait_ipi(self, vcpu: i64) -> None:
        """Nothing to wait for, unless the IPI can never be taken."""
        self.vcpus.wait(vcpu)

    def irq_disable(self, vcpu: i64) -> None:
        """Switch interrupts off on a vCPU's CPU."""
        self.vcpus.irqs(vcpu, False)

    def irq_enable(self, vcpu: i64) -> None:
        """Switch interrupts on again; an IPI that waits is taken."""
        self.vcpus.irqs(vcpu, True)

    def flush_tlb(self, vcpu: i64) -> None:
        """Count a flush of a vCPU's TLB: nothing is cached here."""
        self.vcpus.flush(vcpu)

    def enter_guest(self, vcpu: i64) -> i64:
        """The fault that the guest was told to have next; -1 if there is none left, or if an IPI waits."""
        if self._mmu_lock != 0 or self._pages_lock or self._rcu_depth != 0:
            raise Bug(f"vCPU {vcpu} enters the guest with a lock held or inside an RCU read section")
        return self.vcpus.enter(vcpu)
