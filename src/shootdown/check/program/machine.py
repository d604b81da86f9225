"""``CheckedMachine``: the machine on which a program is unrolled, access by access.

A program is ordinary code that calls ordinary MMU functions. It is run from its start and given the results that are on
record; at the first access beyond the record it stops, and that access is its next step. The machine has every method
of ``machine.interface.Machine``, and tests the declarations of ``machine.words``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ...machine import words
from ...mmu.spte import is_present, spte_pfn
from . import steps
from .access import Access, Astray, Stop
from .held import Held

OWN = (__file__, str(Path(__file__).with_name("buffers.py")))
"""Files whose frames are the machine's, not a program's."""


class CheckedMachine:
    """See the module's text. ``bits`` is the binary logarithm of the entries in a table.

    ``settled``: kinds of words that no task of the test writes, so that to read one is no step.
    ``tables``: how many page tables there are, if known; to take another frame for one is an assertion that fails.
    """

    def __init__(self, bits: int, bug: type[Exception], settled: frozenset[int] = frozenset()) -> None:
        self.bits = bits
        self.bug = bug
        self.settled = settled
        self.counted: frozenset[int] = frozenset()
        """Statistics that are part of the state after all, for who holds them against the tables."""
        self.tables = sys.maxsize
        self.ranged = 0
        """How many vCPUs there are, if a flush of a range drops no more of what they cached than it must; else 0."""
        self.mmio_space = 0
        """The address space in which an access that passes for one to MMIO is a step."""
        self.record: list[Any] = []
        self.expected: Sequence[Access] | None = None
        self.trail: list[Access] = []
        self.position = 0
        self.held = Held()
        self.next: Access | None = None
        self.frame: FrameType | None = None
        self.dead = False
        self.program = 0
        """Number of the program that runs."""

    def start(self, record: list[Any], expected: Sequence[Access] | None = None) -> None:
        """Get ready to run a program with these results, which were given to the accesses ``expected``, if known."""
        self.record, self.expected, self.position, self.held = record, expected, 0, Held()
        self.next, self.frame, self.dead, self.trail = None, None, False, []

    def _take(self, access: Access) -> Any:
        if self.dead:
            raise Stop
        if self.position < len(self.record):
            if self.expected is not None and access != self.expected[self.position]:
                self.dead = True
                raise Astray
            result = self.record[self.position]
            self.position += 1
            self.trail.append(access)
            self.held.follow(access, result)
            return result
        self.dead = True
        self.next = access
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in OWN:
            frame = frame.f_back
        self.frame = frame
        raise Stop

    def end(self) -> None:
        """The program returned: it must hold nothing, for nobody would ever drop it."""
        if self.held.any():
            self._wrong("a task is over with a lock or an RCU section held")

    def _wrong(self, text: str) -> None:
        if not self.dead:
            raise self.bug(text)

    # SPTEs

    def _entry(self, sptep: int, verb: str, *operands: int) -> Any:
        self._is_table(sptep >> self.bits)
        hidden = sptep >> self.bits in self.held.private
        step = steps.STORE if verb == "put" else steps.UPDATE
        result = self._take(Access(step, sptep, verb, operands, hidden=hidden))
        if operands and (verb != "cmpxchg" or result == operands[0]):
            self._publish(operands[-1])
        return result

    def _publish(self, value: int) -> None:
        """A table that an entry points to is nobody's own any more."""
        if self.held.private and is_present(value):
            self.held.private.discard(spte_pfn(value))

    def _is_table(self, table: int) -> None:
        """Fail if a frame is taken for a page table that is none."""
        if not 0 <= table < self.tables:
            self._wrong(f"frame {table:x} is taken for a page table")

    def read(self, sptep: int) -> int:
        """See ``Machine``."""
        return int(self._entry(sptep, "get"))

    def write(self, sptep: int, value: int) -> None:
        """See ``Machine``."""
        self._entry(sptep, "put", value)

    def xchg(self, sptep: int, value: int) -> int:
        """See ``Machine``."""
        return int(self._entry(sptep, "xchg", value))

    def cmpxchg(self, sptep: int, old: int, value: int) -> int:
        """See ``Machine``."""
        return int(self._entry(sptep, "cmpxchg", old, value))

    def fetch_and(self, sptep: int, mask: int) -> int:
        """See ``Machine``."""
        return int(self._entry(sptep, "and", mask))

    def spte_changed(self, gfn: int, level: int, old: int, new: int) -> None:
        """See ``Machine``: what is traced is no part of the state."""

    def flush_range(self, gfn: int, pages: int) -> bool:
        """See ``Machine``: one vCPU after the other, in any order."""
        left = tuple(range(self.ranged))
        while left:
            which = self._take(Access(steps.FLUSH_RANGE, operands=(left, gfn, pages), number=len(left)))
            left = left[:which] + left[which + 1 :]
        return self.ranged > 0

    def flush_requested(self) -> None:
        """See ``Machine``."""

    def mmio_access(self, gfn: int, as_id: int) -> None:
        """See ``Machine``."""
        if as_id == self.mmio_space:
            self._take(Access(steps.MMIO, number=gfn))

    # Tables

    def alloc_table(self, empty: int) -> int:
        """See ``Machine``."""
        return int(self._take(Access(steps.ALLOC)))

    def free_table(self, table: int) -> None:
        """See ``Machine``."""
        self._is_table(table)
        self._take(Access(steps.FREE, number=table))

    def call_rcu(self, table: int) -> None:
        """See ``Machine``."""
        self._is_table(table)
        self._take(Access(steps.CALL_RCU, number=table))

    # Other words

    def _word(self, kind: int, owner: int, verb: str, *operands: int) -> Any:
        protection = words.PROTECTION[kind]
        writes = verb != "get"
        held = self.held
        hidden = False
        match protection:
            case words.CONSTANT:
                if writes and owner not in held.private:
                    self._wrong(f"constant word {kind} of table {owner} is written after it was published")
                # Constant while the table lives: for one who holds nothing, that may end at any time.
                hidden = bool(held.mmu or held.pages or held.rcu)
            case words.OWN:
                hidden = True
            case words.WRITTEN_UNDER_MMU_LOCK:
                if writes and held.mmu != "write" and owner not in held.private:
                    self._wrong(f"word {kind} is written without mmu_lock held for write")
                hidden = held.mmu in ("read", "write") and not writes
            case words.UNDER_PAGES_LOCK:
                if not held.pages and held.mmu != "write":
                    self._wrong(f"word {kind} is accessed without the pages lock")
                hidden = held.mmu in ("read", "write")  # the pages lock alone does not keep out who holds mmu_lock
            case words.UNDER_SLOTS_LOCK:
                if not held.slots and (writes or not held.srcu):
                    self._wrong(f"word {kind} is {'written' if writes else 'read'} without slots_lock")
                hidden = held.slots and not writes
            case words.STATISTIC:
                hidden = held.mmu in ("read", "write")  # additions commute; who reads them holds it for write
        if kind in self.settled:
            if writes:
                self._wrong(f"word {kind} is written, but the test's tasks do not do that")
            hidden = True
        if kind <= words.ROOT_SCHEDULED:
            self._is_table(owner)
            hidden = hidden or owner in held.private
        step = steps.STORE if verb == "put" else steps.UPDATE
        return self._take(Access(step, (kind, owner), verb, operands, hidden=hidden))

    def load(self, kind: int, owner: int) -> int:
        """See ``Machine``."""
        return int(self._word(kind, owner, "get"))

    def store(self, kind: int, owner: int, value: int) -> None:
        """See ``Machine``."""
        self._word(kind, owner, "put", value)

    def fetch_add(self, kind: int, owner: int, number: int) -> int:
        """See ``Machine``."""
        return int(self._word(kind, owner, "add", number))

    def fetch_or(self, kind: int, owner: int, bits: int) -> int:
        """See ``Machine``."""
        return int(self._word(kind, owner, "or", bits))

    def fetch_clear(self, kind: int, owner: int, bits: int) -> int:
        """See ``Machine``."""
        return int(self._word(kind, owner, "clear", bits))

    def exchange(self, kind: int, owner: int, old: int, value: int) -> int:
        """See ``Machine``."""
        return int(self._word(kind, owner, "exchange", old, value))

    def inc_not_zero(self, kind: int, owner: int) -> bool:
        """See ``Machine``."""
        return bool(self._word(kind, owner, "inc"))

    def count(self, kind: int, owner: int, number: int) -> None:
        """See ``Machine``: statistics decide nothing, so they are no part of the state, but for ``counted``."""
        if kind in self.counted:
            self._word(kind, owner, "add", number)

    # Lists

    def _list(self, which: int, verb: str, table: int) -> Any:
        held, writes = self.held, verb != "next"
        if which == words.ROOTS:
            allowed, hidden = held.pages or not writes, held.pages and not writes
        else:
            allowed = held.pages or held.mmu == "write"
            hidden = held.mmu in ("read", "write")
        if not allowed:
            self._wrong(f"list {which} is {'changed' if writes else 'read'} without the pages lock")
        held.private.discard(table)
        return self._take(Access(steps.UPDATE, ("list", which), verb, (table,), hidden=hidden))

    def list_add(self, which: int, table: int) -> None:
        """See ``Machine``."""
        self._list(which, "prepend", table)

    def list_add_tail(self, which: int, table: int) -> None:
        """See ``Machine``."""
        self._list(which, "append", table)

    def list_del(self, which: int, table: int) -> None:
        """See ``Machine``."""
        self._list(which, "remove", table)

    def list_next(self, which: int, table: int) -> int:
        """See ``Machine``."""
        return int(self._list(which, "next", table))

    # Locks and RCU

    def read_lock(self) -> None:
        """See ``Machine``."""
        self._not_held(self.held.mmu, "mmu_lock")
        self._take(Access(steps.READ_LOCK))

    def read_unlock(self) -> None:
        """See ``Machine``."""
        if self.held.mmu != "read":
            self._wrong("mmu_lock is dropped but not held for read")
        self._take(Access(steps.READ_UNLOCK))

    def write_lock(self) -> None:
        """See ``Machine``."""
        self._not_held(self.held.mmu, "mmu_lock")
        self._take(Access(steps.WRITE_WAIT))
        self._take(Access(steps.WRITE_LOCK))

    def write_unlock(self) -> None:
        """See ``Machine``."""
        if self.held.mmu != "write":
            self._wrong("mmu_lock is dropped but not held for write")
        self._take(Access(steps.WRITE_UNLOCK))

    def assert_locked(self, shared: bool) -> None:
        """See ``Machine``."""
        mode = "read" if shared else "write"
        if self.held.mmu != mode:
            self._wrong(f"mmu_lock is not held for {mode}")

    def need_resched(self) -> bool:
        """See ``Machine``: any answer is possible."""
        if self.held.atomic:
            self._wrong("a task gives way whose caller may not sleep")
        return bool(self._take(Access(steps.CHOOSE, number=2)))

    def pages_lock(self) -> None:
        """See ``Machine``."""
        self._not_held(self.held.pages, "the pages lock")
        self._take(Access(steps.PAGES_LOCK))

    def pages_unlock(self) -> None:
        """See ``Machine``."""
        if not self.held.pages:
            self._wrong("the pages lock is dropped but not held")
        self._take(Access(steps.PAGES_UNLOCK))

    def rcu_read_lock(self) -> None:
        """See ``Machine``."""
        if self.held.rcu == 0:
            self._take(Access(steps.RCU_LOCK))
        self.held.rcu += 1

    def rcu_read_unlock(self) -> None:
        """See ``Machine``."""
        if self.held.rcu == 0:
            self._wrong("an RCU section is left but was not entered")
        if self.held.rcu == 1:
            self._take(Access(steps.RCU_UNLOCK))
        self.held.rcu -= 1

    def slots_lock(self) -> None:
        """See ``Machine``."""
        self._not_held(self.held.slots, "slots_lock")
        if self.held.any():
            self._wrong("slots_lock, the outermost of all, is taken inside another lock or section")
        self._take(Access(steps.SLOTS_LOCK))

    def slots_unlock(self) -> None:
        """See ``Machine``."""
        if not self.held.slots:
            self._wrong("slots_lock is dropped but not held")
        self._take(Access(steps.SLOTS_UNLOCK))

    def srcu_read_lock(self) -> None:
        """See ``Machine``."""
        if self.held.srcu == 0:
            self._take(Access(steps.SRCU_LOCK))
        self.held.srcu += 1

    def srcu_read_unlock(self) -> None:
        """See ``Machine``."""
        if self.held.srcu == 0:
            self._wrong("an SRCU section is left but was not entered")
        if self.held.srcu == 1:
            self._take(Access(steps.SRCU_UNLOCK))
        self.held.srcu -= 1

    def synchronize_srcu(self) -> None:
        """See ``Machine``."""
        if self.held.srcu or self.held.mmu or self.held.pages or self.held.rcu or self.held.atomic:
            self._wrong("who waits for SRCU sections is in one, or may not sleep")
        self._take(Access(steps.SRCU_WAIT))
        self._take(Access(steps.SRCU_SYNC))

    def cpu_relax(self) -> None:
        """See ``Machine``: whoever is waited for goes on in another task."""

    def _not_held(self, held: object, what: str) -> None:
        if held:
            self._wrong(f"{what} is taken twice by one task")

    # vCPUs

    def send_ipi(self, vcpu: int) -> None:
        """See ``Machine``."""
        self._take(Access(steps.SEND_IPI, number=vcpu))

    def wait_ipi(self, vcpu: int) -> None:
        """See ``Machine``."""
        self._take(Access(steps.WAIT_IPI, number=vcpu))

    def irq_disable(self, vcpu: int) -> None:
        """See ``Machine``."""
        self._take(Access(steps.IRQ_DISABLE, number=vcpu))

    def irq_enable(self, vcpu: int) -> None:
        """See ``Machine``."""
        self._take(Access(steps.IRQ_ENABLE, number=vcpu))

    def flush_tlb(self, vcpu: int) -> None:
        """See ``Machine``."""
        self._take(Access(steps.FLUSH, number=vcpu))

    def enter_guest(self, vcpu: int) -> int:
        """See ``Machine``."""
        if self.held.any():
            self._wrong("the guest is entered with a lock held")
        return int(self._take(Access(steps.GUEST, number=vcpu)))

    # Promises, which only tests make

    def revoke(self, pfn: int) -> None:
        """From here on no vCPU may reach this page of the host."""
        self._take(Access(steps.REVOKE, number=pfn))

    def forget(self, promise: int) -> None:
        """From here on no vCPU may hold, of the promise's range, what memory does not give."""
        self._take(Access(steps.FORGET, number=promise))

    def protect(self, gfns: int) -> None:
        """From here on no vCPU may write these pages, a mask."""
        self._take(Access(steps.PROTECT, number=gfns))

    def back(self, gfns: int) -> None:
        """From here on these pages, a mask, are memory, whatever was there before."""
        self._take(Access(steps.BACK, number=gfns))

    def watch(self, gfns: int) -> None:
        """From here on every write of a guest to these pages, a mask, must come to be logged."""
        self._take(Access(steps.WATCH, number=gfns))

    def unwatch(self, gfns: int) -> None:
        """The log of these pages is given up."""
        self._take(Access(steps.UNWATCH, number=gfns))

    def harvest(self, gfns: int) -> None:
        """The user has learned that these pages were written, and reads them from here on."""
        self._take(Access(steps.HARVEST, number=gfns))
