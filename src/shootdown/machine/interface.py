"""``Machine``: everything shared that MMU code touches.

The same MMU code runs on ``native.NativeMachine`` (flat memory, at speed) and on the checker's machine, where every
access is a step of a schedule. Nothing shared may hide in Python objects: the checker re-executes operations and must
see every access.

An SPTE's address is ``table << bits | index``; a table's number is its page frame, so ``spte_pfn`` of a table's entry
is the table below. All values are signed 64-bit words.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr


class Bug(Exception):  # noqa: N818 - the kernel's word
    """An assertion of the MMU failed: the kernel's BUG or WARN. The text says which."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Machine:
    """Memory, locks, RCU and vCPUs. ``bits`` is the binary logarithm of the entries in a table."""

    def __init__(self, bits: i64) -> None:
        self.bits = bits

    # SPTEs

    def read(self, sptep: i64) -> i64:
        """``READ_ONCE`` of an SPTE."""
        raise NotImplementedError

    def write(self, sptep: i64, value: i64) -> None:
        """``WRITE_ONCE`` of an SPTE."""
        raise NotImplementedError

    def xchg(self, sptep: i64, value: i64) -> i64:
        """Store ``value``; what was there before."""
        raise NotImplementedError

    def cmpxchg(self, sptep: i64, old: i64, value: i64) -> i64:
        """Store ``value`` if ``old`` is there; what was there before."""
        raise NotImplementedError

    def fetch_and(self, sptep: i64, mask: i64) -> i64:
        """Clear the bits that are not in ``mask``; what was there before."""
        raise NotImplementedError

    def spte_changed(self, gfn: i64, level: i64, old: i64, new: i64) -> None:
        """A tracepoint: an SPTE's change is accounted for (``kvm_tdp_mmu_spte_changed``). Nobody need listen."""

    def flush_range(self, gfn: i64, pages: i64) -> bool:
        """What all vCPUs cached of so many pages from ``gfn`` on is to go: is it gone, with no request to them?

        Only where something below the machine flushes them, as Hyper-V does; else a whole flush follows.
        """
        return False

    def flush_requested(self) -> None:
        """A tracepoint: a remote flush begins. Nobody need listen."""

    def mmio_access(self, gfn: i64, as_id: i64) -> None:
        """A tracepoint: an access passes for one to MMIO, which user space will emulate. Nobody need listen.

        Source: ``handle_mmio_page_fault``, ``mark_mmio_spte``.
        """

    # Tables

    def alloc_table(self, empty: i64) -> i64:
        """A table whose entries all are ``empty`` and whose words are 0, or -1 if there is no memory."""
        raise NotImplementedError

    def free_table(self, table: i64) -> None:
        """Free a table that nobody else ever saw."""
        raise NotImplementedError

    def call_rcu(self, table: i64) -> None:
        """Free a table when all who are in an RCU read section now have left it."""
        raise NotImplementedError

    # Other words (see words.py)

    def load(self, kind: i64, owner: i64) -> i64:
        """The value of a word."""
        raise NotImplementedError

    def store(self, kind: i64, owner: i64, value: i64) -> None:
        """Set a word."""
        raise NotImplementedError

    def fetch_add(self, kind: i64, owner: i64, number: i64) -> i64:
        """Add to a word, atomically; what was there before."""
        raise NotImplementedError

    def fetch_or(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Set bits of a word, atomically; what was there before."""
        raise NotImplementedError

    def fetch_clear(self, kind: i64, owner: i64, bits: i64) -> i64:
        """Clear bits of a word, atomically; what was there before."""
        raise NotImplementedError

    def exchange(self, kind: i64, owner: i64, old: i64, value: i64) -> i64:
        """Store ``value`` in a word if ``old`` is there, atomically; what was there before."""
        raise NotImplementedError

    def inc_not_zero(self, kind: i64, owner: i64) -> bool:
        """Add 1 to a word unless it is 0, atomically; was it not 0?"""
        while True:
            old = self.load(kind, owner)
            if old == 0:
                return False
            found = self.exchange(kind, owner, old, old + 1)
            if found == old:
                return True

    def count(self, kind: i64, owner: i64, number: i64) -> None:
        """Add to a statistic."""
        raise NotImplementedError

    # Lists of tables

    def list_add(self, which: i64, table: i64) -> None:
        """Put a table at the front of a list (``list_add_rcu``)."""
        raise NotImplementedError

    def list_add_tail(self, which: i64, table: i64) -> None:
        """Put a table at the end of a list."""
        raise NotImplementedError

    def list_del(self, which: i64, table: i64) -> None:
        """Take a table off a list; those who stand on it can still go on (``list_del_rcu``)."""
        raise NotImplementedError

    def list_next(self, which: i64, table: i64) -> i64:
        """The table after ``table`` in a list (the first, if that is -1), or -1."""
        raise NotImplementedError

    # Locks and RCU

    def read_lock(self) -> None:
        """Take mmu_lock for read."""
        raise NotImplementedError

    def read_unlock(self) -> None:
        """Drop mmu_lock held for read."""
        raise NotImplementedError

    def write_lock(self) -> None:
        """Take mmu_lock for write."""
        raise NotImplementedError

    def write_unlock(self) -> None:
        """Drop mmu_lock held for write."""
        raise NotImplementedError

    def assert_locked(self, shared: bool) -> None:
        """Whoever calls this must hold mmu_lock, for read if ``shared`` and else for write (``lockdep_assert_held_*``).

        It raises Bug, or does nothing where locks are not kept.
        """

    def need_resched(self) -> bool:
        """Should a long operation give way now (``need_resched`` or ``rwlock_needbreak``)? An input, not a clock."""
        raise NotImplementedError

    def pages_lock(self) -> None:
        """Take ``tdp_mmu_pages_lock``."""
        raise NotImplementedError

    def pages_unlock(self) -> None:
        """Drop ``tdp_mmu_pages_lock``."""
        raise NotImplementedError

    def rcu_read_lock(self) -> None:
        """Enter an RCU read section; sections nest."""
        raise NotImplementedError

    def rcu_read_unlock(self) -> None:
        """Leave an RCU read section."""
        raise NotImplementedError

    def slots_lock(self) -> None:
        """Take slots_lock, a mutex."""
        raise NotImplementedError

    def slots_unlock(self) -> None:
        """Drop slots_lock."""
        raise NotImplementedError

    def srcu_read_lock(self) -> None:
        """Enter an SRCU read section, in which slots stay what they are."""
        raise NotImplementedError

    def srcu_read_unlock(self) -> None:
        """Leave an SRCU read section."""
        raise NotImplementedError

    def synchronize_srcu(self) -> None:
        """Wait until all who are in an SRCU read section now have left it."""
        raise NotImplementedError

    def cpu_relax(self) -> None:
        """Wait a moment for somebody else, without whom the caller cannot go on."""

    # vCPUs

    def send_ipi(self, vcpu: i64) -> None:
        """Interrupt the CPU on which a vCPU runs."""
        raise NotImplementedError

    def wait_ipi(self, vcpu: i64) -> None:
        """Wait until the interrupt sent there was taken."""
        raise NotImplementedError

    def irq_disable(self, vcpu: i64) -> None:
        """Switch interrupts off on the CPU on which this vCPU's thread runs."""
        raise NotImplementedError

    def irq_enable(self, vcpu: i64) -> None:
        """Switch interrupts on again; one that waits is taken at once."""
        raise NotImplementedError

    def flush_tlb(self, vcpu: i64) -> None:
        """Drop all that the vCPU's CPU has cached, of every root (``kvm_x86_flush_tlb_all``)."""
        raise NotImplementedError

    def enter_guest(self, vcpu: i64) -> i64:
        """Run the guest until it leaves; -1 for an interrupt, else its fault, ``gfn << 8 | code`` (mmu/access.py)."""
        raise NotImplementedError
