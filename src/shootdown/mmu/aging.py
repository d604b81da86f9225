"""Ageing: which pages did the guest use since it was asked last?

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import DIRTY_PFNS, NO_TABLE
from .batch import Batch
from .change import clear_spte_bits, set_spte, write_spte
from .iter import TdpIter
from .roots import next_root, root_level
from .spte import WRITABLE, ad_enabled, is_accessed, is_leaf, mark_for_access_track

if TYPE_CHECKING:
    from .kvm import Kvm


def age_gfn_range(kvm: Kvm, as_id: i64, start: i64, end: i64) -> bool:
    """Make all leaves of a range unused; was one used?

    Where there are no A bits the page becomes inaccessible, and its next use faults. It loses W then, which only a
    fault gives back.

    Locks: mmu_lock for write; enters RCU. TLB: the caller may flush: a use that goes unnoticed harms nobody.
    Source: ``kvm_tdp_mmu_age_gfn_range``.
    """
    kvm.m.assert_locked(False)
    young = False
    root = next_root(kvm, NO_TABLE, as_id, False)
    while root != NO_TABLE:
        if age_root(kvm, root, start, end):
            young = True
        root = next_root(kvm, root, as_id, False)
    return young


def age_root(kvm: Kvm, root: i64, start: i64, end: i64) -> bool:
    """The same in one root. Locks, TLB: as ``age_gfn_range``. Source: ``kvm_tdp_mmu_handle_gfn``."""
    batch = Batch()
    young = False
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if is_leaf(it.old_spte, it.level) and is_accessed(it.old_spte, kvm.fmt):
            age_leaf(kvm, batch, it)
            young = True
        it.next()
    kvm.m.rcu_read_unlock()
    return young


def age_leaf(kvm: Kvm, batch: Batch, it: TdpIter) -> None:
    """Make the walk's leaf unused. Locks, TLB: as ``age_gfn_range``. Source: ``age_gfn_range``."""
    new = mark_for_access_track(it.old_spte, kvm.fmt)
    if not ad_enabled(it.old_spte) and it.old_spte & WRITABLE != 0 and kvm.behaviour.counts_pfns:
        # W is what says that the page is dirty, and it goes. 6.1 says so once more as it accounts for the change.
        kvm.m.count(DIRTY_PFNS, 0, 1)
    if not kvm.behaviour.direct_clear:
        set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, new, True)
        return
    if ad_enabled(it.old_spte):
        old = clear_spte_bits(kvm, it.sptep, it.old_spte, kvm.fmt.accessed, it.level)
        new = old & ~kvm.fmt.accessed
    else:
        old = write_spte(kvm, it.sptep, it.old_spte, new, it.level)
    kvm.m.spte_changed(it.gfn, it.level, old, new)


def test_age_gfn_range(kvm: Kvm, as_id: i64, start: i64, end: i64) -> bool:
    """Was a page of a range used? Looks at all, as the kernel does, and changes none.

    Locks: mmu_lock for write; enters RCU. TLB: none. Source: ``kvm_tdp_mmu_test_age_gfn``.
    """
    kvm.m.assert_locked(False)
    young = False
    root = next_root(kvm, NO_TABLE, as_id, False)
    while root != NO_TABLE:
        kvm.m.rcu_read_lock()
        top = root_level(kvm, root)
        it = TdpIter(kvm, root, top, 1, start)
        while it.valid and it.gfn < end:
            if is_leaf(it.old_spte, it.level) and is_accessed(it.old_spte, kvm.fmt):
                young = True
            it.next()
        kvm.m.rcu_read_unlock()
        root = next_root(kvm, root, as_id, False)
    return young
