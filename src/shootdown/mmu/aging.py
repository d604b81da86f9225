"""Ageing: which pages did the guest use since it was asked last?

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import DIRTY_PFNS, NO_TABLE, ROOTS
from .batch import Batch
from .change import clear_spte_bits, set_spte, write_spte
from .iter import TdpIter
from .roots import is_wanted, root_after, root_level
from .spte import WRITABLE, ad_enabled, is_accessed, is_leaf, mark_for_access_track

if TYPE_CHECKING:
    from .kvm import Kvm


def age_gfn_range(kvm: Kvm, as_id: i64, start: i64, end: i64) -> bool:
    """Make all leaves of a range unused; was one used?

    Where there are no A bits the page becomes inaccessible, and its next use faults. It loses W then, which only a
    fault gives back.

    Locks: mmu_lock for write, in later kernels none; enters RCU. TLB: the caller may flush: a use that goes unnoticed
    harms nobody. Source: ``kvm_tdp_mmu_age_gfn_range``.
    """
    if kvm.behaviour.age_lockless:
        return age_without_lock(kvm, as_id, start, end, False)
    kvm.m.assert_locked(False)
    young = False
    only_valid = not kvm.behaviour.age_invalid_roots
    root = root_after(kvm, NO_TABLE, as_id, only_valid)
    while root != NO_TABLE:
        if age_root(kvm, root, start, end):
            young = True
        root = root_after(kvm, root, as_id, only_valid)
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
    """Was a page of a range used? Looks at all, as the kernel does until 6.12, and changes none.

    Locks: mmu_lock for write, in later kernels none; enters RCU. TLB: none. Source: ``kvm_tdp_mmu_test_age_gfn``.
    """
    if kvm.behaviour.age_lockless:
        return age_without_lock(kvm, as_id, start, end, True)
    kvm.m.assert_locked(False)
    young = False
    only_valid = not kvm.behaviour.age_invalid_roots
    root = root_after(kvm, NO_TABLE, as_id, only_valid)
    while root != NO_TABLE:
        kvm.m.rcu_read_lock()
        top = root_level(kvm, root)
        it = TdpIter(kvm, root, top, 1, start)
        while it.valid and it.gfn < end:
            if is_leaf(it.old_spte, it.level) and is_accessed(it.old_spte, kvm.fmt):
                young = True
            it.next()
        kvm.m.rcu_read_unlock()
        root = root_after(kvm, root, as_id, only_valid)
    return young


def age_without_lock(kvm: Kvm, as_id: i64, start: i64, end: i64, only_asks: bool) -> bool:
    """Make all leaves of a range unused, or only ask whether one was used, beside whatever else goes on.

    Nothing holds a root, or keeps an entry what it was when it was looked at.

    Locks: none; enters RCU. TLB: none: a use that goes unnoticed harms nobody. Source: ``__kvm_tdp_mmu_age_gfn_range``
    (6.18).
    """
    m = kvm.m
    young = False
    m.rcu_read_lock()
    root = m.list_next(ROOTS, NO_TABLE)
    while root != NO_TABLE and not (young and only_asks):
        if is_wanted(kvm, root, as_id, True):
            if age_root_without_lock(kvm, root, start, end, only_asks):
                young = True
        root = m.list_next(ROOTS, root)
    m.rcu_read_unlock()
    return young


def age_root_without_lock(kvm: Kvm, root: i64, start: i64, end: i64, only_asks: bool) -> bool:
    """The same in one root. Locks, TLB: as ``age_without_lock``. Source: ``__kvm_tdp_mmu_age_gfn_range`` (6.18)."""
    young = False
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if is_leaf(it.old_spte, it.level) and is_accessed(it.old_spte, kvm.fmt):
            young = True
            if only_asks:
                return True
            age_leaf_without_lock(kvm, it)
        it.next()
    return young


def age_leaf_without_lock(kvm: Kvm, it: TdpIter) -> None:
    """Clear A in whatever is by now where the walk saw a leaf; where there are no A bits, only if it still is there.

    Locks, TLB: as ``age_without_lock``. Source: ``kvm_tdp_mmu_age_spte`` (6.18).
    """
    if ad_enabled(it.old_spte):
        old = kvm.m.fetch_and(it.sptep, ~kvm.fmt.accessed)
        kvm.m.spte_changed(it.gfn, it.level, old, old & ~kvm.fmt.accessed)
        return
    new = mark_for_access_track(it.old_spte, kvm.fmt)
    old = kvm.m.cmpxchg(it.sptep, it.old_spte, new)
    if old == it.old_spte:
        kvm.m.spte_changed(it.gfn, it.level, old, new)
