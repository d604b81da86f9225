"""A guest page fault: look up what the host maps, and map it.

Source: arch/x86/kvm/mmu/mmu.c (``direct_page_fault``, ``kvm_tdp_page_fault``) and tdp_mmu.c (``kvm_tdp_mmu_map``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.words import (
    HOST_LEVEL,
    HOST_PFN,
    INVALIDATE_END,
    INVALIDATE_IN_PROGRESS,
    INVALIDATE_SEQ,
    INVALIDATE_START,
    NO_TABLE,
    NX_SPLITS,
    NX_TABLES,
    ROOT_INVALID,
    SP_NX,
    VCPU_ROOT,
)
from .access import FETCH
from .batch import Batch
from .change import set_spte_atomic, zap_spte_atomic
from .iter import TdpIter
from .link import link_sp
from .make_spte import make_leaf
from .roots import root_level
from .split import split_huge_page
from .spte import PRESENT, is_table

if TYPE_CHECKING:
    from .kvm import Kvm

RETRY: Final = 1
FIXED: Final = 4
SPURIOUS: Final = 5


def page_fault(kvm: Kvm, vcpu: i64, gfn: i64, code: i64) -> i64:
    """Serve a fault of a vCPU at ``gfn``; RETRY, FIXED or SPURIOUS. The guest tries again in any case.

    Locks: takes mmu_lock for read. TLB: see ``map_gfn``. Source: ``kvm_tdp_page_fault``, ``is_page_fault_stale``.
    """
    m = kvm.m
    root = m.load(VCPU_ROOT, vcpu)
    seq = m.load(INVALIDATE_SEQ, 0)
    pfn = m.load(HOST_PFN, gfn)
    if pfn < 0:
        return RETRY
    level = m.load(HOST_LEVEL, gfn)
    m.read_lock()
    if is_stale(kvm, root, gfn, seq):
        result: i64 = RETRY
    else:
        result = map_gfn(kvm, root, gfn, pfn, level, code & FETCH != 0)
    m.read_unlock()
    return result


def is_stale(kvm: Kvm, root: i64, gfn: i64, seq: i64) -> bool:
    """Was the root invalidated, or may the host have changed the page since ``seq`` was read?

    Locks: mmu_lock. TLB: none. Source: ``is_page_fault_stale``, ``mmu_invalidate_retry_gfn``.
    """
    m = kvm.m
    if m.load(ROOT_INVALID, root) != 0:
        return True
    if m.load(INVALIDATE_IN_PROGRESS, 0) != 0:
        if m.load(INVALIDATE_START, 0) <= gfn:
            if m.load(INVALIDATE_END, 0) > gfn:
                return True
    return m.load(INVALIDATE_SEQ, 0) != seq


def map_gfn(kvm: Kvm, root: i64, gfn: i64, pfn: i64, host_level: i64, execute: bool) -> i64:
    """Map ``gfn`` to ``pfn``, by a page as large as the host's if that may be; builds the tables on the way.

    Locks: mmu_lock for read; enters RCU. TLB: if a table was replaced by a huge page, as the policy says; a huge page
    in the way is split without a flush or zapped with one. Source: ``kvm_tdp_mmu_map``, ``kvm_mmu_hugepage_adjust``.
    """
    batch = Batch()
    disallowed = kvm.nx_huge_pages and execute
    top = root_level(kvm, root)
    kvm.m.rcu_read_lock()
    it = TdpIter(kvm, root, top, 1, gfn)
    result: i64 = RETRY
    replaced = False
    if walk_down(kvm, batch, it, gfn, host_level, disallowed):
        replaced = is_table(it.old_spte, it.level)
        result = map_target(kvm, batch, it, pfn)
    kvm.policy.end_fault(kvm, batch, replaced and result == FIXED)
    return result


def walk_down(kvm: Kvm, batch: Batch, it: TdpIter, gfn: i64, host_level: i64, disallowed: bool) -> bool:
    """Bring the walk to the entry that shall map ``gfn``, through tables old and new; False if the fault must retry.

    Locks, TLB: as ``map_gfn``. Source: the loop in ``kvm_tdp_mmu_map``, ``disallowed_hugepage_adjust``.
    """
    goal: i64 = 1 if disallowed else host_level
    while it.valid and it.gfn <= gfn:
        if it.level == goal and goal > 1 and kvm.nx_huge_pages and is_table(it.old_spte, it.level):
            goal -= 1
        if it.old_spte == kvm.frozen:
            return False
        if it.level == goal:
            return True
        if not is_table(it.old_spte, it.level):
            if not add_table(kvm, batch, it, disallowed and host_level >= it.level):
                return False
        it.next()
    return False


def add_table(kvm: Kvm, batch: Batch, it: TdpIter, track: bool) -> bool:
    """Put a table where the walk stands, in place of nothing or of a huge page; False if that did not work.

    Locks, TLB: as ``map_gfn``. Source: ``kvm_tdp_mmu_map``, ``tdp_mmu_split_huge_page``.
    """
    m = kvm.m
    if it.old_spte & PRESENT != 0 and not kvm.behaviour.split_in_fault:
        if not zap_spte_atomic(kvm, it):
            return False
        it.old_spte = m.read(it.sptep)
        if it.old_spte != kvm.empty:
            return False
    table = m.alloc_table(kvm.empty)
    if table == NO_TABLE:
        return False
    if it.old_spte & PRESENT != 0:
        linked = split_huge_page(kvm, batch, it, table, True)
    else:
        linked = link_sp(kvm, batch, it, table, True)
    if not linked:
        m.free_table(table)
    elif track:
        track_table(kvm, table)
    return linked


def track_table(kvm: Kvm, table: i64) -> None:
    """Put a table that only the NX mitigation made necessary on the list for NX recovery.

    Locks: mmu_lock for read; takes the pages lock. TLB: none. Source: ``track_possible_nx_huge_page``.
    """
    m = kvm.m
    m.pages_lock()
    m.store(SP_NX, table, 1)
    m.list_add(NX_TABLES, table)
    m.count(NX_SPLITS, 0, 1)
    m.pages_unlock()


def map_target(kvm: Kvm, batch: Batch, it: TdpIter, pfn: i64) -> i64:
    """Install the leaf where the walk stands.

    Locks, TLB: as ``map_gfn``. Source: ``tdp_mmu_map_handle_target_level``.
    """
    spte = make_leaf(kvm, pfn & -kvm.pages(it.level), it.level)
    if spte == it.old_spte:
        return SPURIOUS
    if set_spte_atomic(kvm, batch, it, spte):
        return FIXED
    return RETRY
