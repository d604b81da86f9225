"""Taking write access away: of a slot's leaves for dirty logging, or of one gfn for good.

Source: arch/x86/kvm/mmu/tdp_mmu.c and mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import NO_TABLE
from .batch import Batch
from .change import set_spte, set_spte_atomic
from .iter import TdpIter
from .resched import cond_resched
from .roots import next_root, root_after, root_level
from .slots import slot_as_id
from .spte import WRITABLE, is_leaf

if TYPE_CHECKING:
    from .kvm import Kvm


def wrprot_slot(kvm: Kvm, as_id: i64, start: i64, end: i64, min_level: i64) -> bool:
    """Make the leaves of a range read-only, from ``min_level`` up, so that the next write faults; did any change?

    Locks: slots_lock, mmu_lock for read. TLB: the caller flushes the slot when it has dropped mmu_lock, whatever the
    result. Source: ``kvm_tdp_mmu_wrprot_slot``.
    """
    kvm.m.assert_locked(True)
    changed = False
    root = next_root(kvm, NO_TABLE, as_id, True)
    while root != NO_TABLE:
        if wrprot_gfn_range(kvm, root, start, end, min_level):
            changed = True
        root = next_root(kvm, root, as_id, True)
    return changed


def wrprot_gfn_range(kvm: Kvm, root: i64, start: i64, end: i64, min_level: i64) -> bool:
    """The same in one root. Locks, TLB: as ``wrprot_slot``; enters RCU. Source: ``wrprot_gfn_range``."""
    batch = Batch()
    changed = False
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, min_level, start)
    while it.valid and it.gfn < end:
        while not cond_resched(kvm, it, batch, True):
            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:
                break
            if set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE):
                changed = True
                break
        it.next()
    kvm.m.rcu_read_unlock()
    return changed


def write_protect_gfn(kvm: Kvm, as_id: i64, gfn: i64, min_level: i64) -> bool:
    """Make what maps ``gfn`` read-only, from ``min_level`` up, also for faults without a lock; must the caller flush?

    An entry that was read-only already may be cached as writable: a fault without a lock may have made it so and dirty
    logging taken it back. So it counts as changed if the MMU allowed writes.

    Locks: mmu_lock for write; enters RCU. TLB: the caller flushes before it drops the lock if the result says so, or
    before it relies on the protection. Source: ``kvm_tdp_mmu_write_protect_gfn``.
    """
    kvm.m.assert_locked(False)
    changed = False
    only_valid = not kvm.behaviour.protect_invalid_roots
    root = root_after(kvm, NO_TABLE, as_id, only_valid)
    while root != NO_TABLE:
        if write_protect_root(kvm, root, gfn, min_level):
            changed = True
        root = root_after(kvm, root, as_id, only_valid)
    return changed


def write_protect_root(kvm: Kvm, root: i64, gfn: i64, min_level: i64) -> bool:
    """The same in one root. Locks, TLB: as ``write_protect_gfn``. Source: ``write_protect_gfn``."""
    batch = Batch()
    changed = False
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, min_level, gfn)
    while it.valid and it.gfn <= gfn:
        if is_leaf(it.old_spte, it.level):
            new = it.old_spte & ~(WRITABLE | kvm.fmt.mmu_writable)
            if new == it.old_spte:
                break
            set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, new)
            changed = True
        it.next()
    kvm.m.rcu_read_unlock()
    return changed


def slot_gfn_write_protect(kvm: Kvm, slot: i64, gfn: i64, min_level: i64) -> bool:
    """``write_protect_gfn`` of a page of a slot. Locks, TLB: as there. Source: ``kvm_mmu_slot_gfn_write_protect``."""
    as_id = slot_as_id(kvm, slot)
    return write_protect_gfn(kvm, as_id, gfn, min_level)


def slot_remove_write_access(kvm: Kvm, as_id: i64, start: i64, end: i64, min_level: i64) -> None:
    """Make a slot read-only for dirty logging.

    Locks: slots_lock; takes mmu_lock for read. TLB: the caller flushes. Source: ``kvm_mmu_slot_remove_write_access``.
    """
    kvm.m.read_lock()
    wrprot_slot(kvm, as_id, start, end, min_level)
    kvm.m.read_unlock()
