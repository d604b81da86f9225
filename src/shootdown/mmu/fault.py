"""A guest page fault: look up what the host maps, and map it.

Source: arch/x86/kvm/mmu/mmu.c and tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    FAULTS,
    HOST_PFN,
    HOST_WRITABLE,
    INVALIDATE_END,
    INVALIDATE_IN_PROGRESS,
    INVALIDATE_SEQ,
    INVALIDATE_START,
    LOG_DIRTY_PAGES,
    MMIO_SPTES,
    NO_TABLE,
    READONLY,
    ROLE_LEVEL_SHIFT,
    ROLE_SMM,
    ROOT_INVALID,
    SLOT_INVALID,
    SP_NX_REFUSED,
    SP_ROLE,
    VCPU_ROOT,
    WRITE_TRACKED,
)
from .access import FETCH, PERMISSION, RESERVED, WRITE, is_allowed
from .batch import Batch
from .change import set_spte_atomic, zap_spte_atomic
from .fast_fault import can_be_fast, fix_fast
from .iter import TdpIter
from .levels import hugepage_adjust, is_disallowed, tracked_at
from .link import link_table
from .make_spte import make_spte
from .mark_dirty import mark_page_dirty
from .mmio import handle_mmio_page_fault, make_mmio_spte
from .page_fault import (
    CONTINUE,
    EMULATE,
    FIXED,
    INVALID,
    NO_MEMORY,
    RETRY,
    SPURIOUS,
    WRITE_PROTECTED,
    PageFault,
    new_fault,
)
from .requests import flush_remote_tlbs_range
from .roots import reaches
from .slots import NO_SLOT, generation
from .split import split_huge_page
from .spte import PRESENT, is_last, is_leaf, is_mmu_writable, is_table, is_writable

if TYPE_CHECKING:
    from .kvm import Kvm

OUT_OF_REACH: Final = -1
"""The root has no entry for the gfn; no result that leaves this file."""


def page_fault(kvm: Kvm, vcpu: i64, gfn: i64, code: i64) -> i64:
    """Serve a fault of a vCPU at ``gfn``; its result (page_fault.py). Unless that is EMULATE, the guest tries again.

    Locks: enters SRCU if there are slots; takes mmu_lock for read, if nothing else helps. TLB: see ``map_gfn``.
    Source: ``kvm_mmu_page_fault``, ``kvm_mmu_do_page_fault``.
    """
    return serve(kvm, vcpu, gfn, code, False)


def prefetch(kvm: Kvm, vcpu: i64, gfn: i64) -> i64:
    """Map ``gfn`` ahead of a fault, for reading: the host has it at last, or user space asks for it.

    Locks, TLB: as ``page_fault``. Source: ``kvm_arch_async_page_ready``, ``kvm_tdp_map_page``.
    """
    return serve(kvm, vcpu, gfn, 0, True)


def serve(kvm: Kvm, vcpu: i64, gfn: i64, code: i64, ahead: bool) -> i64:
    """Serve a fault, be it one ``ahead`` of any. Locks, TLB: as ``page_fault``."""
    m = kvm.m
    if vcpu < 0 or vcpu >= kvm.vcpus:
        raise Bug(f"vCPU {vcpu} faults, but the VM has {kvm.vcpus} from 0 on")
    root = m.load(VCPU_ROOT, vcpu)
    if root == NO_TABLE:
        raise Bug(f"vCPU {vcpu} faults, but has no root: let it enter the guest, or give it a root by mmu_load")
    if gfn < 0:
        raise Bug(f"vCPU {vcpu} faults at gfn {gfn}, but gfns are numbered from 0 on")
    if kvm.slots != 0:
        m.srcu_read_lock()
    result: i64 = INVALID
    if code & RESERVED != 0:
        result = handle_mmio_page_fault(kvm, vcpu, gfn)
    if result == INVALID:
        result = direct_page_fault(kvm, vcpu, root, gfn, code, ahead)
        if result == FIXED or (result >= 0 and not ahead):
            m.count(FAULTS, result, 1)
    if kvm.slots != 0:
        m.srcu_read_unlock()
    if result == OUT_OF_REACH:
        raise Bug(f"vCPU {vcpu} faults at gfn {gfn:x}, beyond its root: use a lower gfn, or a root of a higher level")
    return result


def direct_page_fault(kvm: Kvm, vcpu: i64, root: i64, gfn: i64, code: i64, ahead: bool) -> i64:
    """Serve a fault by the tables of a root: without the lock if that does, else with it.

    Locks: SRCU if there are slots; takes mmu_lock for read. TLB: see ``map_gfn``. Source: ``direct_page_fault``.
    """
    m = kvm.m
    fault = new_fault(kvm, root, gfn, code, ahead)
    if must_stay_protected(kvm, fault):
        return WRITE_PROTECTED if kvm.behaviour.write_protected else EMULATE
    if can_be_fast(kvm, code):
        fast = fix_fast(kvm, vcpu, fault)
        if fast != INVALID:
            return fast
    seq = m.load(INVALIDATE_SEQ, 0)
    result = faultin_pfn(kvm, fault, seq)
    if result != CONTINUE:
        return result
    m.read_lock()
    if is_stale(kvm, fault, seq):
        result = RETRY
    else:
        result = map_gfn(kvm, vcpu, fault)
    m.read_unlock()
    return result


def must_stay_protected(kvm: Kvm, fault: PageFault) -> bool:
    """Is it a write that somebody wants to see?

    Locks: none. TLB: none. Source: ``page_fault_handle_page_track``.
    """
    if kvm.slots == 0 or fault.code & PERMISSION == 0 or fault.code & WRITE == 0 or fault.code & RESERVED != 0:
        return False
    if fault.slot == NO_SLOT:
        return False
    return kvm.m.load(WRITE_TRACKED, tracked_at(0, 1, fault.gfn)) != 0


def faultin_pfn(kvm: Kvm, fault: PageFault, seq: i64) -> i64:
    """Learn what the host maps; CONTINUE, or the fault's result.

    Locks: SRCU if there are slots. TLB: none. Source: ``kvm_faultin_pfn``, ``handle_abnormal_pfn``; 86931ff7207b.
    """
    m = kvm.m
    if fault.flags & SLOT_INVALID != 0:
        return RETRY
    if fault.slot == NO_SLOT:
        # Beyond what the host's CPU can address nobody would look for an entry again, nor for the tables above it.
        if kvm.fmt.mmio_value == 0 or fault.gfn >= kvm.gfn_end:
            return EMULATE
        return CONTINUE
    if kvm.behaviour.check_early:
        # Better now than after the work, in vain, and with the lock contended.
        if is_invalidated(kvm, fault.gfn, seq):
            return RETRY
    if fault.code & WRITE != 0 and fault.flags & READONLY != 0:
        return EMULATE
    pfn = m.load(HOST_PFN, fault.gfn)
    if pfn < 0:
        return CONTINUE if pfn == NO_MEMORY else RETRY
    fault.pfn = pfn
    if fault.flags & READONLY == 0:
        writable = m.load(HOST_WRITABLE, fault.gfn)
        if writable == 0 and fault.code & WRITE != 0:
            # The host makes a page of its own of one that was shared, in place if nobody else has it any more.
            m.store(HOST_WRITABLE, fault.gfn, 1)
            writable = 1
        fault.writable = writable != 0
    if kvm.behaviour.check_early:
        if is_invalidated(kvm, fault.gfn, seq):
            return RETRY
    return CONTINUE


def is_stale(kvm: Kvm, fault: PageFault, seq: i64) -> bool:
    """Was the root invalidated, or may the host have changed the page since ``seq`` was read?

    Locks: mmu_lock. TLB: none. Source: ``is_page_fault_stale``.
    """
    if kvm.m.load(ROOT_INVALID, fault.root) != 0:
        return True
    return fault.slot != NO_SLOT and is_invalidated(kvm, fault.gfn, seq)


def is_invalidated(kvm: Kvm, gfn: i64, seq: i64) -> bool:
    """May the host be changing a page, or have changed it since ``seq`` was read?

    Locks: mmu_lock for an answer to rely on. TLB: none.
    Source: ``mmu_invalidate_retry_gfn``, ``mmu_invalidate_retry_gfn_unsafe``.
    """
    m = kvm.m
    if m.load(INVALIDATE_IN_PROGRESS, 0) != 0:
        if m.load(INVALIDATE_START, 0) <= gfn:
            if m.load(INVALIDATE_END, 0) > gfn:
                return True
    return m.load(INVALIDATE_SEQ, 0) != seq


def map_gfn(kvm: Kvm, vcpu: i64, fault: PageFault) -> i64:
    """Map a page, by one as large as may be; builds the tables on the way.

    Locks: mmu_lock for read; enters RCU. TLB: if a table was replaced by a huge page, as the policy says; a huge page
    in the way is split without a flush or zapped with one. Source: ``kvm_tdp_mmu_map``.
    """
    kvm.m.assert_locked(True)
    batch = Batch()
    role = kvm.m.load(SP_ROLE, fault.root)
    top = role >> ROLE_LEVEL_SHIFT
    if not reaches(kvm, top, fault.gfn):
        return OUT_OF_REACH
    level = hugepage_adjust(kvm, fault)
    kvm.m.rcu_read_lock()
    it = TdpIter(kvm, fault.root, top, 1, fault.gfn)
    result: i64 = RETRY
    replaced = False
    if walk_down(kvm, batch, it, fault, level):
        replaced = is_table(it.old_spte, it.level)
        covers: i64 = it.level + 1 if kvm.behaviour.wide_fault_flush else it.level
        batch.first = kvm.round(it.gfn, covers)
        batch.pages = kvm.pages(covers)
        result = map_target(kvm, vcpu, batch, it, fault, role)
    kvm.policy.end_fault(kvm, batch, replaced and result != RETRY and result != SPURIOUS)
    return result


def walk_down(kvm: Kvm, batch: Batch, it: TdpIter, fault: PageFault, level: i64) -> bool:
    """Bring the walk to the entry that shall map the page, at ``level`` or below; False if the fault must retry.

    6.1 looks for a frozen entry where its walk ends, and later kernels wherever they come by, to the same effect.

    Locks, TLB: as ``map_gfn``. Source: the loop in ``kvm_tdp_mmu_map``.
    """
    nx = kvm.nx_huge_pages
    disallowed = nx and fault.code & FETCH != 0
    goal = level
    if disallowed:
        goal = 1
    while it.valid and it.gfn <= fault.gfn:
        if nx and is_disallowed(kvm, it, goal):
            goal -= 1
        if it.old_spte == kvm.frozen:
            return False
        if it.level == goal:
            return True
        if not is_table(it.old_spte, it.level):
            if not add_table(kvm, batch, it, disallowed, disallowed and level >= it.level):
                return False
        it.next()
    return False


def add_table(kvm: Kvm, batch: Batch, it: TdpIter, disallowed: bool, track: bool) -> bool:
    """Put a table where the walk stands, in place of nothing or of a huge page; False if that did not work.

    ``disallowed``: the NX mitigation allows no huge page here; ``track``: the host has one.

    Locks, TLB: as ``map_gfn``. Source: ``kvm_tdp_mmu_map``.
    """
    m = kvm.m
    if it.old_spte & PRESENT != 0 and not kvm.behaviour.split_in_fault:
        if not zap_spte_atomic(kvm, it):
            return False
        it.old_spte = m.read(it.sptep)
        if it.old_spte != kvm.empty:
            # Somebody was faster: the walk goes on if there is a table now, and else ends.
            return it.old_spte & PRESENT != 0
    table = m.alloc_table(kvm.empty)
    if table == NO_TABLE:
        return False
    if disallowed and kvm.behaviour.marks_refused:
        m.store(SP_NX_REFUSED, table, 1)
    if it.old_spte & PRESENT != 0:
        linked = split_huge_page(kvm, batch, it, table, True, track)
    else:
        linked = link_table(kvm, batch, it, table, True, track)
    if linked:
        return True
    m.free_table(table)
    return False


def map_target(kvm: Kvm, vcpu: i64, batch: Batch, it: TdpIter, fault: PageFault, role: i64) -> i64:
    """Install the leaf, or the entry of MMIO, where the walk stands.

    Locks: as ``map_gfn``. TLB: flushes if the guest may no longer write, in later kernels; a table that was replaced
    is the caller's. Source: ``tdp_mmu_map_handle_target_level``.
    """
    pfn = fault.pfn if it.level == 1 or fault.pfn < 0 else kvm.round(fault.pfn, it.level)
    if kvm.behaviour.spurious_early and is_served(kvm, it, fault):
        if kvm.behaviour.spurious_checks_pfn and pfn != kvm.pfn(it.old_spte):
            raise Bug("a fault is to map another page than the entry maps that serves it already")
        return SPURIOUS
    if pfn < 0:
        return map_mmio(kvm, batch, it, role & ROLE_SMM)
    old = it.old_spte
    protect = fault.writable and is_tracked(kvm, it)
    spte = make_spte(kvm, role, it.gfn, pfn, it.level, old, fault.writable, protect, fault.prefetch)
    if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(spte):
        # Before the guest can write. That the entry may not get there does no harm.
        mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)
    result: i64 = SPURIOUS
    if spte != old:
        if not set_spte_atomic(kvm, batch, it, spte):
            return RETRY
        result = FIXED
        if kvm.behaviour.flush_lost_writable and is_leaf(old, it.level):
            if is_mmu_writable(old, kvm.fmt) and not is_mmu_writable(spte, kvm.fmt):
                flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
    if protect and fault.code & WRITE != 0:
        return WRITE_PROTECTED if kvm.behaviour.write_protected else EMULATE
    return result


def is_served(kvm: Kvm, it: TdpIter, fault: PageFault) -> bool:
    """Does the walk's entry allow the access already, or is something there that need not be mapped ahead?"""
    if it.old_spte & PRESENT == 0:
        return False
    if fault.prefetch and kvm.behaviour.ahead_stops_at_table:
        return True
    return is_last(it.old_spte, it.level) and (fault.prefetch or is_allowed(it.old_spte, fault.code, kvm.fmt))


def is_tracked(kvm: Kvm, it: TdpIter) -> bool:
    """Does somebody track writes to the page, the first of a huge one? Not asked where the guest can write already.

    Locks: mmu_lock. TLB: none. Source: ``make_spte``, ``mmu_try_to_unsync_pages``.
    """
    if kvm.slots == 0 or (is_writable(it.old_spte) and is_last(it.old_spte, it.level)):
        return False
    return kvm.m.load(WRITE_TRACKED, tracked_at(0, 1, it.gfn)) != 0


def map_mmio(kvm: Kvm, batch: Batch, it: TdpIter, as_id: i64) -> i64:
    """Install an entry that faults for MMIO where the walk stands. Locks: as ``map_gfn``. TLB: none: nothing is mapped.

    Source: ``tdp_mmu_map_handle_target_level``, ``make_mmio_spte``.
    """
    now = generation(kvm, as_id)
    spte = make_mmio_spte(kvm, it.gfn, now)
    if spte != it.old_spte:
        if not set_spte_atomic(kvm, batch, it, spte):
            return RETRY
    kvm.m.mmio_access(it.gfn, as_id)
    kvm.m.count(MMIO_SPTES, 0, 1)
    return EMULATE
