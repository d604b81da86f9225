"""Huge pages rebuilt: after dirty logging (in four forms), and where the NX mitigation had split them.

Source: arch/x86/kvm/mmu/tdp_mmu.c and mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    HOST_LEVEL,
    HOST_PFN,
    HOST_WRITABLE,
    INVALIDATE_IN_PROGRESS,
    LOG_DIRTY_PAGES,
    NO_TABLE,
    NX_SPLITS,
    ROLE_SMM,
    SP_GFN,
    SP_LEVEL,
    SP_PARENT,
    SP_ROLE,
    WRITE_TRACKED,
)
from .batch import Batch
from .change import handle_changed_spte, set_spte, set_spte_atomic, zap_spte_atomic
from .iter import TdpIter
from .levels import tracked_at
from .make_spte import make_huge, make_spte
from .mmu_lock import lock, unlock
from .policies.policy import PROMOTE, RECOVER, ZAP_LEAFS
from .resched import cond_resched
from .roots import next_root, root_as_id, root_level
from .slots import NO_SLOT, find_slot, slot_flags
from .spte import PRESENT, is_leaf, is_table
from .table_lists import take_tracked, untrack_locked

if TYPE_CHECKING:
    from .kvm import Kvm


def disable_dirty_logging(kvm: Kvm, as_id: i64, start: i64, end: i64) -> None:
    """Make huge mappings possible again in a slot that is no longer logged.

    Where huge pages are rebuilt in place, the slot must not be logged any more: they would be writable. A kernel that
    zaps does so whatever the slot is, and its faults go on with 4K pages.

    Locks: slots_lock; takes mmu_lock for read. TLB: as the four forms below. Source: ``kvm_mmu_zap_collapsible_sptes``,
    ``kvm_mmu_recover_huge_pages``, ``recover_huge_pages_range`` (6.13).
    """
    if kvm.collapse == RECOVER or kvm.collapse == PROMOTE:
        slot = find_slot(kvm, as_id, start)
        flags = slot_flags(kvm, slot)
        if flags & LOG_DIRTY_PAGES != 0:
            raise Bug("huge pages are rebuilt in a slot that is logged")
    kvm.m.read_lock()
    root = next_root(kvm, NO_TABLE, as_id, True)
    while root != NO_TABLE:
        if kvm.collapse == RECOVER:
            recover_huge_pages(kvm, root, start, end)
        elif kvm.collapse == PROMOTE:
            promote_huge_pages(kvm, root, start, end)
        else:
            zap_collapsible(kvm, root, start, end, kvm.collapse == ZAP_LEAFS)
        root = next_root(kvm, root, as_id, True)
    kvm.m.read_unlock()


def is_collapsible(kvm: Kvm, it: TdpIter, start: i64, end: i64, leafs: bool) -> bool:
    """Is the walk's entry a table, or one of its ``leafs``, where host and write tracking allow a larger page?"""
    wanted = it.level
    if leafs:
        if not is_leaf(it.old_spte, it.level):
            return False
        wanted += 1
    elif not is_table(it.old_spte, it.level):
        return False
    if it.gfn < start or it.gfn + kvm.pages(it.level) > end:
        return False
    if kvm.slots != 0:
        as_id = root_as_id(kvm, it.root)
        if kvm.m.load(WRITE_TRACKED, tracked_at(as_id, wanted, it.gfn)) != 0:
            return False
    host = kvm.m.load(HOST_LEVEL, it.gfn)
    return host >= wanted


def zap_collapsible(kvm: Kvm, root: i64, start: i64, end: i64, leafs: bool) -> None:
    """Zap every table that a huge page could stand for; the next fault maps it.

    ``leafs``: zap what it maps, and leave the table to that fault (until 5.18).

    Locks: mmu_lock for read; enters RCU. TLB: flushes each. Source: ``zap_collapsible_spte_range``.
    """
    batch = Batch()
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1 if leafs else 2, start)
    while it.valid and it.gfn < end:
        if not cond_resched(kvm, it, batch, True):
            while is_collapsible(kvm, it, start, end, leafs):
                if zap_spte_atomic(kvm, it):
                    break
        it.next()
    kvm.m.rcu_read_unlock()


def promote_huge_pages(kvm: Kvm, root: i64, start: i64, end: i64) -> None:
    """Put what the host maps in the place of every table that a huge page could stand for; zap leaves that are left.

    Locks: mmu_lock for read; enters RCU. TLB: the policy's, as each table goes, so that nothing is owed; flushes each
    leaf. Source: RFC 19/19 of November 2021, ``zap_collapsible_spte_range``.
    """
    batch = Batch()
    batch.first = start
    batch.pages = end - start
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, start)
    while it.valid and it.gfn < end:
        if not cond_resched(kvm, it, batch, True):
            if is_collapsible(kvm, it, start, end, False):
                try_promote(kvm, batch, it)
            else:
                while is_collapsible(kvm, it, start, end, True):
                    if zap_spte_atomic(kvm, it):
                        break
        it.next()
    kvm.policy.end_promotion(kvm, batch)


def try_promote(kvm: Kvm, batch: Batch, it: TdpIter) -> None:
    """Replace the table that the walk's entry points to, unless the entry changed or an invalidation runs.

    Locks: mmu_lock for read, RCU. TLB: the policy's, as the table goes. Source: RFC 19/19, ``try_promote_lpage``; that
    the host must map something there is from its review.
    """
    # While no invalidation runs, none can begin under our lock, so that the host's page stays what it is.
    if kvm.m.load(INVALIDATE_IN_PROGRESS, 0) != 0:
        return
    pfn = kvm.m.load(HOST_PFN, it.gfn)
    if pfn < 0:
        return
    writable = kvm.m.load(HOST_WRITABLE, it.gfn)
    role = kvm.m.load(SP_ROLE, it.root)
    set_spte_atomic(kvm, batch, it, make_spte(kvm, role, it.gfn, pfn, it.level, kvm.empty, writable != 0, False, False))


def recover_huge_pages(kvm: Kvm, root: i64, start: i64, end: i64) -> None:
    """Replace every table that a huge page could stand for by that page.

    Locks: mmu_lock for read; enters RCU. TLB: the policy's; nothing to freeze, since what is cached of the old
    translation agrees with the new one. Source: ``recover_huge_pages_range`` (6.13).
    """
    batch = Batch()
    batch.first = start
    batch.pages = end - start
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 2, start)
    while it.valid and it.gfn < end:
        if not cond_resched(kvm, it, batch, True):
            while is_collapsible(kvm, it, start, end, False):
                small = first_leaf(kvm, it)
                if small == 0:
                    break
                if set_spte_atomic(kvm, batch, it, make_huge(kvm, small, it.level)):
                    batch.flush = True
                    break
        it.next()
    kvm.policy.end_promotion(kvm, batch)


def first_leaf(kvm: Kvm, it: TdpIter) -> i64:
    """The first leaf under the table that the walk's entry points to, 0 if there is none.

    Locks: mmu_lock for read, RCU. TLB: none. Source: ``tdp_mmu_make_huge_spte``.
    """
    below = TdpIter(kvm, kvm.pfn(it.old_spte), it.level - 1, 1, it.gfn)
    while below.valid:
        if is_leaf(below.old_spte, below.level):
            return below.old_spte
        below.next()
    return 0


def nx_recovery(kvm: Kvm, ratio: i64) -> None:
    """Zap one of each ``ratio`` of the tables that NX recovery knows, rounded up; none if ``ratio`` is 0.

    Locks, TLB: as ``recover_nx_huge_pages``. Source: ``kvm_recover_nx_huge_pages``, ``nx_huge_pages_recovery_ratio``.
    """
    if ratio == 0:
        return
    splits = kvm.m.load(NX_SPLITS, 0)
    recover_nx_huge_pages(kvm, (splits + ratio - 1) // ratio)


def recover_nx_huge_pages(kvm: Kvm, tables: i64) -> None:
    """Zap up to ``tables`` tables that stand where only the NX mitigation forbade a huge page, the oldest first.

    Locks: takes mmu_lock for write, later kernels for read and the pages lock; enters SRCU if there are slots, and RCU.
    TLB: as the policy says. Source: ``kvm_recover_nx_huge_pages``.
    """
    m = kvm.m
    batch = Batch()
    if kvm.slots > 0:
        m.srcu_read_lock()
    lock(kvm, kvm.behaviour.nx_shared)
    m.rcu_read_lock()
    while tables > 0:
        table = take_tracked(kvm)
        if table == NO_TABLE:
            break
        if kvm.behaviour.nx_keeps_logged and is_in_logged_slot(kvm, table):
            # A huge page cannot come back there, so the table is only forgotten.
            if not kvm.behaviour.nx_shared:
                untrack_locked(kvm, table)
        else:
            zap_sp(kvm, batch, table)
        tables -= 1
        if m.need_resched():
            kvm.policy.leave_to_yield(kvm, batch)
            batch.flush = False
            unlock(kvm, kvm.behaviour.nx_shared)
            lock(kvm, kvm.behaviour.nx_shared)
            m.rcu_read_lock()
    kvm.policy.end_recovery(kvm, batch)
    unlock(kvm, kvm.behaviour.nx_shared)
    if kvm.slots > 0:
        m.srcu_read_unlock()


def is_in_logged_slot(kvm: Kvm, table: i64) -> bool:
    """Does a table belong to a slot whose dirty pages are logged?

    The kernel only looks for the slot while any slot is logged, and warns if there is none.

    Locks: SRCU, mmu_lock. TLB: none. Source: ``kvm_recover_nx_huge_pages`` (6.12).
    """
    if kvm.slots == 0:
        return False
    slot = slot_of_table(kvm, table)
    if slot == NO_SLOT:
        logged = is_any_logged(kvm)
        if logged:
            raise Bug("NX recovery finds no slot for a table, while another slot is logged")
        return False
    flags = slot_flags(kvm, slot)
    return flags & LOG_DIRTY_PAGES != 0


def slot_of_table(kvm: Kvm, table: i64) -> i64:
    """The slot that a table maps, of its root's address space; NO_SLOT if it is gone. Locks: SRCU, mmu_lock. TLB: none.

    Source: ``kvm_recover_nx_huge_pages``; a root's role names the address space.
    """
    m = kvm.m
    gfn = m.load(SP_GFN, table)
    root = table
    while True:
        role = m.load(SP_ROLE, root)
        if role != 0:
            break
        sptep = m.load(SP_PARENT, root)
        root = sptep >> kvm.bits
    return find_slot(kvm, role & ROLE_SMM, gfn)


def is_any_logged(kvm: Kvm) -> bool:
    """Is any slot logged? Locks: SRCU. TLB: none. Source: ``kvm_recover_nx_huge_pages``, which asks a counter."""
    slot: i64 = 0
    while slot < kvm.slots:
        flags = slot_flags(kvm, slot)
        if flags & LOG_DIRTY_PAGES != 0:
            return True
        slot += 1
    return False


def zap_sp(kvm: Kvm, batch: Batch, table: i64) -> None:
    """Zap one table, found by itself and not by a walk.

    Locks: mmu_lock for write, RCU; later kernels for read. TLB: the caller flushes before it leaves its RCU section.
    Source: ``kvm_tdp_mmu_zap_sp``; ``kvm_tdp_mmu_zap_possible_nx_huge_page`` (6.18).
    """
    kvm.m.assert_locked(kvm.behaviour.nx_shared)
    m = kvm.m
    sptep = m.load(SP_PARENT, table)
    level = m.load(SP_LEVEL, table) + 1
    gfn = m.load(SP_GFN, table)
    old = m.read(sptep)
    if kvm.behaviour.nx_shared:
        if not is_table(old, level) or kvm.pfn(old) != table:
            return
        found = m.cmpxchg(sptep, old, kvm.empty)
        if found != old:
            if is_table(found, level) and kvm.pfn(found) == table:
                raise Bug("the entry of a table that NX recovery zaps changed, but is that table's")
            return
        handle_changed_spte(kvm, batch, gfn, old, kvm.empty, level, True)
    else:
        if old & PRESENT == 0:
            raise Bug("NX recovery zaps a table, and finds nothing mapped where it hangs")
        set_spte(kvm, batch, sptep, gfn, level, old, kvm.empty)
    batch.flush = True
