"""Taking away what says that a page is dirty, so that the next write shows: D, or W where D is not to be used.

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import DIRTY_PFNS, NO_TABLE
from .batch import Batch
from .change import clear_spte_bits, set_spte, set_spte_atomic
from .iter import TdpIter
from .mark_dirty import bit_of
from .resched import cond_resched
from .roots import next_root, root_after, root_level
from .spte import PRESENT, WRITABLE, is_leaf, needs_write_protect

if TYPE_CHECKING:
    from .kvm import Kvm


def dirty_bit(kvm: Kvm, leaf: i64, wrprot: bool) -> i64:
    """The bit of a leaf that must go for its next write to be noticed. Source: ``tdp_mmu_need_write_protect``."""
    return WRITABLE if wrprot or needs_write_protect(leaf) else kvm.fmt.dirty


def clear_dirty_slot(kvm: Kvm, as_id: i64, start: i64, end: i64) -> bool:
    """Make all leaves of a range clean, of all levels; did any change?

    Locks: slots_lock, mmu_lock for read. TLB: the caller flushes the slot when it has dropped mmu_lock, whatever the
    result. Source: ``kvm_tdp_mmu_clear_dirty_slot``.
    """
    kvm.m.assert_locked(True)
    changed = False
    root = next_root(kvm, NO_TABLE, as_id, True)
    while root != NO_TABLE:
        if clear_dirty_gfn_range(kvm, root, start, end):
            changed = True
        root = next_root(kvm, root, as_id, True)
    return changed


def clear_dirty_gfn_range(kvm: Kvm, root: i64, start: i64, end: i64) -> bool:
    """The same in one root. Locks, TLB: as ``clear_dirty_slot``; enters RCU. Source: ``clear_dirty_gfn_range``."""
    batch = Batch()
    changed = False
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if is_leaf(it.old_spte, it.level) and clean_leaf(kvm, batch, it):
            changed = True
        it.next()
    kvm.m.rcu_read_unlock()
    return changed


def clean_leaf(kvm: Kvm, batch: Batch, it: TdpIter) -> bool:
    """Make the walk's leaf clean, unless it goes meanwhile or the walk yields; did it change?"""
    while not cond_resched(kvm, it, batch, True):
        bit = dirty_bit(kvm, it.old_spte, False)
        if it.old_spte & bit == 0:
            return False
        if set_spte_atomic(kvm, batch, it, it.old_spte & ~bit):
            return True
        if it.old_spte & PRESENT == 0:
            return False
        if kvm.behaviour.recheck_leaf and not is_leaf(it.old_spte, it.level):
            return False
    return False


def clear_dirty_pt_masked(kvm: Kvm, as_id: i64, gfn: i64, mask: i64, wrprot: bool) -> None:
    """Make the 4K leaves clean (``wrprot``: read-only) of the pages from ``gfn`` on that ``mask`` names.

    Locks: mmu_lock for write; enters RCU. TLB: the caller flushes when it has dropped the lock, because a bit of the
    log was cleared and not because an entry changed. Source: ``kvm_tdp_mmu_clear_dirty_pt_masked``.
    """
    kvm.m.assert_locked(False)
    only_valid = not kvm.behaviour.protect_invalid_roots
    root = root_after(kvm, NO_TABLE, as_id, only_valid)
    while root != NO_TABLE:
        clear_dirty_root(kvm, root, gfn, mask, wrprot)
        root = root_after(kvm, root, as_id, only_valid)


def clear_dirty_root(kvm: Kvm, root: i64, gfn: i64, mask: i64, wrprot: bool) -> None:
    """The same in one root. Locks, TLB: as ``clear_dirty_pt_masked``. Source: ``clear_dirty_pt_masked``."""
    batch = Batch()
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, gfn + first_bit(mask))
    while it.valid and it.gfn < gfn + 64:
        if it.level == 1 and it.old_spte & PRESENT != 0:
            if mask == 0:
                break
            page = bit_of(it.gfn - gfn)
            if mask & page != 0:
                mask &= ~page
                bit = dirty_bit(kvm, it.old_spte, wrprot)
                if it.old_spte & bit != 0:
                    clear_dirty_leaf(kvm, batch, it, bit)
        it.next()
    kvm.m.rcu_read_unlock()


def clear_dirty_leaf(kvm: Kvm, batch: Batch, it: TdpIter, bit: i64) -> None:
    """Clear a bit of the walk's leaf. Locks, TLB: as ``clear_dirty_pt_masked``."""
    if kvm.behaviour.direct_clear:
        old = clear_spte_bits(kvm, it.sptep, it.old_spte, bit, it.level)
        kvm.m.spte_changed(it.gfn, it.level, old, old & ~bit)
        if kvm.behaviour.counts_pfns:
            kvm.m.count(DIRTY_PFNS, 0, 1)
    else:
        set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, it.old_spte & ~bit)


def first_bit(mask: i64) -> i64:
    """The number of the lowest bit that is set, 63 if none is."""
    number: i64 = 0
    while mask & 1 == 0 and number < 63:
        mask >>= 1
        number += 1
    return number


def last_bit(mask: i64) -> i64:
    """The number of the highest bit that is set."""
    if mask < 0:
        return 63
    number: i64 = 0
    while mask > 1:
        mask >>= 1
        number += 1
    return number
