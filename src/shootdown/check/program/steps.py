"""The kinds of steps that a program can take on the checked machine, as the explorer knows them."""

from __future__ import annotations

from typing import Final

PROGRAMS_MAX: Final = 8
"""More than the vCPUs and tasks that a test can have."""

END: Final = 0
"""The program is over."""
UPDATE: Final = 1
"""Read a word, and perhaps write one value that depends on what was read."""
STORE: Final = 2
"""Write a word, whatever was there."""
READ_LOCK: Final = 3
READ_UNLOCK: Final = 4
WRITE_WAIT: Final = 5
"""Queue for mmu_lock: from here on no new reader gets it."""
WRITE_LOCK: Final = 6
WRITE_UNLOCK: Final = 7
PAGES_LOCK: Final = 8
PAGES_UNLOCK: Final = 9
RCU_LOCK: Final = 10
RCU_UNLOCK: Final = 11
CALL_RCU: Final = 12
ALLOC: Final = 13
FREE: Final = 14
GUEST: Final = 15
"""In guest mode; the step leaves it, by an interrupt (choice 0) or a fault (choice n: the n-th gfn)."""
SEND_IPI: Final = 16
WAIT_IPI: Final = 17
IRQ_DISABLE: Final = 18
IRQ_ENABLE: Final = 19
FLUSH: Final = 20
"""The vCPU's CPU drops all that it cached."""
CHOOSE: Final = 21
"""Any of n results."""
REVOKE: Final = 22
"""Promise: from here on no vCPU reaches a pfn, for the host gives it to somebody else."""
FORGET: Final = 23
"""Promise: no vCPU holds a translation of a range that memory does not give."""
SKIP: Final = 24
"""An access that no other can see or disturb."""
BUG: Final = 25
"""An assertion failed."""
SLOTS_LOCK: Final = 26
"""From here on to the end: steps that only some tests take (logs.py)."""
SLOTS_UNLOCK: Final = 27
SRCU_LOCK: Final = 28
SRCU_UNLOCK: Final = 29
SRCU_WAIT: Final = 30
"""``synchronize_srcu`` begins: all who are in an SRCU section now are waited for."""
SRCU_SYNC: Final = 31
"""It ends: all of them have left."""
WATCH: Final = 32
"""Promise: from here on every write of a guest to some pages is logged."""
UNWATCH: Final = 33
"""The log of some pages is of no interest any more."""
HARVEST: Final = 34
"""The log of some pages is in the user's hands, who reads them now: what was written before needs no other record."""
PROTECT: Final = 35
"""Promise: from here on no vCPU writes some pages."""
BACK: Final = 36
"""Promise: from here on some pages are memory, and no access there passes for one to MMIO."""
MMIO: Final = 37
"""An access passes for one to MMIO: user space will emulate it."""
FLUSH_RANGE: Final = 38
"""One of some vCPUs, whichever, has what it cached of a range dropped, from outside."""

NAMES: Final = (
    "end update store read_lock read_unlock write_wait write_lock write_unlock pages_lock pages_unlock rcu_lock "
    "rcu_unlock call_rcu alloc free guest send_ipi wait_ipi irq_disable irq_enable flush choose revoke forget skip bug "
    "slots_lock slots_unlock srcu_lock srcu_unlock srcu_wait srcu_sync watch unwatch harvest protect back "
    "mmio flush_range"
).split()

LEFT: Final = frozenset(
    {READ_UNLOCK, WRITE_UNLOCK, PAGES_UNLOCK, RCU_UNLOCK, SLOTS_UNLOCK, SRCU_UNLOCK, IRQ_ENABLE, FREE, SKIP, REVOKE}
    | {FORGET, PROTECT}
)  # fmt: skip
"""Movers that can be glued to the step before: done earlier, they only let others do more (Lipton 1975)."""
GLUED: Final = frozenset({SKIP, FORGET, WATCH, UNWATCH, HARVEST, BACK, MMIO})
"""Part of the access before them in any case. What a user is told, and what is forgotten then, is one: else what
another task has in hand would be held against the operation that just ended."""
RIGHT: Final = frozenset({READ_LOCK, PAGES_LOCK, RCU_LOCK, SLOTS_LOCK, SRCU_LOCK, IRQ_DISABLE, SKIP})
"""Movers that can be glued to the step after."""
TAKES: Final = frozenset({READ_LOCK, PAGES_LOCK, SLOTS_LOCK, SRCU_LOCK})
"""Right movers for which others may have to wait."""
WAITS: Final = frozenset({READ_LOCK, WRITE_LOCK, PAGES_LOCK, WAIT_IPI, SLOTS_LOCK, SRCU_SYNC})
"""Steps that another program can hold up. Nothing that holds up others is glued to the front of one."""
BRANCHES: Final = frozenset({CHOOSE, FLUSH_RANGE})
"""Steps that can go in as many ways as they say."""
FIRST: Final = frozenset({END, GUEST, BUG}) | BRANCHES
"""Nothing is glued to the front of these. A flush of a range, like one of all, is no mover: it takes from a CPU what
the guest, or another's promise, may yet find there, and the CPU may fill it again."""

# What breaks.
USE_AFTER_FREE: Final = 1
FREED_IN_REACH: Final = 2
REVOKED_IN_REACH: Final = 3
ASSERTION: Final = 4
DOUBLE_FREE: Final = 5
STALE: Final = 6
DEADLOCK: Final = 7
LEAK: Final = 8
LOST_WRITE: Final = 9
"""All is at rest, and a page that a guest wrote is in no log."""
WRITABLE_IN_REACH: Final = 10
OVERWRITTEN: Final = 11
"""An entry that hardware or a lock-free fault may change at any time was overwritten without looking."""
STILL_MAPPED: Final = 12
"""A page that was taken back is mapped, still or again, be it by a root that nobody uses: the host would hear of it."""
WITNESS: Final = 13
"""Nothing is broken: here ends a run that shows all that was looked for."""
LIVELOCK: Final = 14
"""A fair scheduler may go round for ever, and a task of the host never ends (livelock.py)."""
MISCOUNT: Final = 15
"""All is at rest, and the references that a root counts are not those of its users (I-22)."""
PASSES_FOR_MMIO: Final = 16
"""An access to what is memory by now passed for one to MMIO (I-24)."""
UNKNOWN_IN_REACH: Final = 17
"""From here on by what a vCPU may go through (amiss.py): an entry that KVM takes for none."""
EXECUTABLE_IN_REACH: Final = 18
"""A huge page that may be executed, with the NX mitigation on (I-19)."""
OTHER_IN_REACH: Final = 19
"""A page of the host that it has never had there."""

# Flags of a vCPU.
IRQ_OFF: Final = 1
IPI: Final = 2
HOLDS_FREED: Final = 4
HOLDS_STALE: Final = 8
