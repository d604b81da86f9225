"""Zapping: entries of a range, whole roots, all roots at once.

Source: arch/x86/kvm/mmu/tdp_mmu.c; ``zap_gfn_range`` as in 5.15 to 5.17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import (
    FREE_OBSOLETE_ROOTS,
    NO_TABLE,
    ROOT_INVALID,
    ROOT_SCHEDULED,
    SLOT_AS,
    SLOT_BASE,
    SLOT_PAGES,
)
from .batch import Batch
from .change import set_spte, set_spte_atomic
from .iter import TdpIter
from .requests import flush_remote_tlbs, make_all_cpus_request
from .resched import cond_resched
from .roots import ANY_AS, invalidate_all_roots, next_root, put_root, root_level
from .spte import PRESENT, is_last

if TYPE_CHECKING:
    from .kvm import Kvm


def zap_leafs(kvm: Kvm, batch: Batch, root: i64, start: i64, end: i64, may_yield: bool) -> None:
    """Zap the leaves of one root that overlap a range, and leave its tables alone.

    Locks: mmu_lock for write; enters RCU. TLB: the caller pays what ``batch`` owes, in its own time, since no table is
    cut off; before a yield it is paid. Source: ``tdp_mmu_zap_leafs`` (5.18 on).
    """
    m = kvm.m
    end = min(end, kvm.gfn_end)
    m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if not (may_yield and cond_resched(kvm, it, batch, False)):
            if it.old_spte & PRESENT != 0 and is_last(it.old_spte, it.level):
                set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, kvm.empty)
                if not batch.flush and (kvm.behaviour.flush_invalid_roots or m.load(ROOT_INVALID, root) == 0):
                    batch.flush = True
        it.next()
    m.rcu_read_unlock()


def zap_gfn_range(kvm: Kvm, batch: Batch, root: i64, start: i64, end: i64, may_yield: bool) -> None:
    """Zap the leaves of one root that overlap a range, and every table that lies wholly in it.

    Locks: mmu_lock for write; enters RCU. TLB: the policy says who flushes: this function inside its RCU section, or
    its caller. Source: ``zap_gfn_range`` (5.15 to 5.17).
    """
    kvm.policy.begin_range(kvm)
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if not (may_yield and cond_resched(kvm, it, batch, False)):
            if it.old_spte & PRESENT != 0 and is_zapped(kvm, it, start, end):
                set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, kvm.empty)
                batch.flush = True
        it.next()
    kvm.policy.end_range(kvm, batch)


def is_zapped(kvm: Kvm, it: TdpIter, start: i64, end: i64) -> bool:
    """Is the walk's present entry a leaf, or a table that lies wholly in the range?"""
    if is_last(it.old_spte, it.level):
        return True
    return it.gfn >= start and it.gfn + kvm.pages(it.level) <= end


def zap_range(kvm: Kvm, as_id: i64, start: i64, end: i64, only_valid: bool, may_yield: bool) -> bool:
    """Zap a range in all roots of an address space (or ANY_AS); is a flush owed?

    Locks: mmu_lock for write. TLB: the caller flushes, before it drops the lock, if the result says so.
    Source: ``kvm_tdp_mmu_unmap_gfn_range``, ``kvm_tdp_mmu_zap_leafs``, ``__kvm_tdp_mmu_zap_gfn_range``.
    """
    kvm.m.assert_locked(False)
    batch = Batch(True)
    root = next_root(kvm, NO_TABLE, as_id, only_valid)
    if kvm.behaviour.range_zap_tables:
        kvm.policy.begin_roots(kvm)
        while root != NO_TABLE:
            zap_gfn_range(kvm, batch, root, start, end, may_yield)
            root = next_root(kvm, root, as_id, only_valid)
        kvm.policy.end_roots(kvm, batch)
    else:
        while root != NO_TABLE:
            zap_leafs(kvm, batch, root, start, end, may_yield)
            root = next_root(kvm, root, as_id, only_valid)
    return batch.flush


def zap_root(kvm: Kvm, root: i64, shared: bool) -> None:
    """Zap a root that no vCPU can use, in passes, so that no single removal takes long.

    Locks: mmu_lock, for read if ``shared``; enters RCU. TLB: none: the root is invalid, and no vCPU runs on it.
    Source: ``tdp_mmu_zap_root``.
    """
    kvm.m.assert_locked(shared)
    top = root_level(kvm, root)
    kvm.m.rcu_read_lock()
    i = 0
    while i < len(kvm.behaviour.passes):
        level: i64 = kvm.behaviour.passes[i]
        if level == 0:
            zap_root_level(kvm, root, shared, top)
        elif level < top:
            zap_root_level(kvm, root, shared, level)
        i += 1
    kvm.m.rcu_read_unlock()


def zap_root_level(kvm: Kvm, root: i64, shared: bool, level: i64) -> None:
    """Zap all entries of one level. Locks, TLB: as ``zap_root``. Source: ``__tdp_mmu_zap_root``."""
    batch = Batch()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, level, 0)
    while it.valid and it.gfn < kvm.gfn_end:
        if not cond_resched(kvm, it, batch, shared):
            if it.level == level:
                zap_entry(kvm, batch, it, shared)
        it.next()


def zap_entry(kvm: Kvm, batch: Batch, it: TdpIter, shared: bool) -> None:
    """Zap the walk's entry, whatever it is by then."""
    while it.old_spte & PRESENT != 0:
        if not shared:
            set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, kvm.empty)
            return
        if set_spte_atomic(kvm, batch, it, kvm.empty):
            return


def zap_invalidated_roots(kvm: Kvm) -> None:
    """Zap all roots that were invalidated, and put the MMU's references to them.

    Locks: slots_lock; takes mmu_lock for read. TLB: none: each vCPU was made to drop its root.
    Source: ``kvm_tdp_mmu_zap_invalidated_roots``.
    """
    m = kvm.m
    m.read_lock()
    root = next_root(kvm, NO_TABLE, ANY_AS, False)
    while root != NO_TABLE:
        if m.load(ROOT_SCHEDULED, root) != 0:
            m.store(ROOT_SCHEDULED, root, 0)
            zap_root(kvm, root, True)
            put_root(kvm, root)
        root = next_root(kvm, root, ANY_AS, False)
    m.read_unlock()


def zap_all_fast(kvm: Kvm) -> None:
    """Invalidate all roots, have every vCPU leave its root, then zap them at leisure.

    Locks: slots_lock; takes mmu_lock. TLB: the request stands for the flush: a vCPU serves it before it enters the
    guest, and loads a root of its own behind a flush of its own. Source: ``kvm_mmu_zap_all_fast``.
    """
    kvm.m.write_lock()
    invalidate_all_roots(kvm)
    make_all_cpus_request(kvm, FREE_OBSOLETE_ROOTS)
    kvm.m.write_unlock()
    zap_invalidated_roots(kvm)


def zap_all(kvm: Kvm) -> None:
    """Zap everything in all roots, because the VM dies.

    Locks: takes mmu_lock for write. TLB: none: no vCPU will run again. Source: ``kvm_mmu_zap_all``,
    ``kvm_tdp_mmu_zap_all``.
    """
    kvm.m.write_lock()
    root = next_root(kvm, NO_TABLE, ANY_AS, False)
    while root != NO_TABLE:
        zap_root(kvm, root, False)
        root = next_root(kvm, root, ANY_AS, False)
    kvm.m.write_unlock()


def flush_shadow_memslot(kvm: Kvm, slot: i64) -> None:
    """Zap what is mapped of a slot that faults leave alone by now: with all the rest, or by itself.

    Locks: slots_lock; takes mmu_lock. TLB: as ``zap_all_fast``, or flushes before it drops the lock if something was
    zapped. Source: ``kvm_arch_flush_shadow_memslot``, ``kvm_mmu_zap_memslot`` (6.12).
    """
    m = kvm.m
    if kvm.slot_zap_all or not kvm.behaviour.slot_zap_choice:
        zap_all_fast(kvm)
        return
    as_id = m.load(SLOT_AS, slot)
    base = m.load(SLOT_BASE, slot)
    pages = m.load(SLOT_PAGES, slot)
    m.write_lock()
    flush = zap_range(kvm, as_id, base, base + pages, False, True)
    if flush:
        flush_remote_tlbs(kvm)
    m.write_unlock()
