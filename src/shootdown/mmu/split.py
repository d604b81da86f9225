"""Splitting huge pages: one in the way of a fault, or all of a range ahead of dirty logging.

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import NO_TABLE, PAGES
from .batch import Batch
from .iter import TdpIter
from .link import link_table
from .make_spte import make_split
from .resched import cond_resched
from .roots import next_root, put_root, root_level
from .spte import LARGE, PRESENT

if TYPE_CHECKING:
    from .kvm import Kvm


def split_huge_page(kvm: Kvm, batch: Batch, it: TdpIter, table: i64, shared: bool, track: bool) -> bool:
    """Replace the walk's huge leaf by ``table``, which is made to map the same; False if the leaf changed meanwhile.

    ``track``, locks: as ``link_table``. TLB: none: the old and the new translation agree.
    Source: ``tdp_mmu_split_huge_page``.
    """
    level = it.level
    fill_split(kvm, table, it.old_spte, level)
    if not link_table(kvm, batch, it, table, shared, track):
        return False
    kvm.m.count(PAGES, level - 1, kvm.entries)
    return True


def fill_split(kvm: Kvm, table: i64, huge: i64, level: i64) -> None:
    """Have a table that nobody sees yet map what the leaf ``huge`` of ``level`` maps."""
    index: i64 = 0
    while index < kvm.entries:
        kvm.m.write((table << kvm.bits) + index, make_split(kvm, huge, level, index))
        index += 1


def try_split_huge_pages(kvm: Kvm, as_id: i64, start: i64, end: i64, target_level: i64, shared: bool) -> None:
    """Split the huge pages of a range in all valid roots, down to ``target_level``, as far as there is memory.

    Locks: mmu_lock, for read if ``shared``; drops and retakes it. TLB: none: translations stay what they are.
    Source: ``kvm_tdp_mmu_try_split_huge_pages``.
    """
    kvm.m.assert_locked(shared)
    root = next_root(kvm, NO_TABLE, as_id, True)
    while root != NO_TABLE:
        if not split_huge_pages_root(kvm, root, start, end, target_level, shared):
            put_root(kvm, root)
            return
        root = next_root(kvm, root, as_id, True)


def split_huge_pages_root(kvm: Kvm, root: i64, start: i64, end: i64, target_level: i64, shared: bool) -> bool:
    """The same in one root; False if there was no memory. A pre-order walk, so a split page's parts are split too.

    Locks, TLB: as ``try_split_huge_pages``; enters RCU. Source: ``tdp_mmu_split_huge_pages_root``.
    """
    m = kvm.m
    batch = Batch()
    table: i64 = NO_TABLE
    m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, target_level + 1, start)
    while it.valid and it.gfn < end:
        while not cond_resched(kvm, it, batch, shared):
            if it.old_spte & PRESENT == 0 or it.old_spte & LARGE == 0:
                break
            if table == NO_TABLE:
                table = alloc_for_split(kvm, it, shared)
                if table == NO_TABLE:
                    m.rcu_read_unlock()
                    return False
                if it.yielded:
                    break
            if split_huge_page(kvm, batch, it, table, shared, False):
                table = NO_TABLE
                break
        it.next()
    m.rcu_read_unlock()
    if table != NO_TABLE:
        # Somebody else split, or zapped, what it was for.
        m.free_table(table)
    return True


def alloc_for_split(kvm: Kvm, it: TdpIter, shared: bool) -> i64:
    """A table, or NO_TABLE; if the lock was dropped for it, the walk must begin again at the root.

    Locks: mmu_lock, for read if ``shared``, and RCU: drops and retakes both. TLB: none.
    Source: ``tdp_mmu_alloc_sp_for_split``.
    """
    m = kvm.m
    if kvm.behaviour.split_alloc_locked:
        table = m.alloc_table(kvm.empty)
        if table != NO_TABLE:
            return table
    m.rcu_read_unlock()
    if shared:
        m.read_unlock()
    else:
        m.write_unlock()
    table = m.alloc_table(kvm.empty)
    if shared:
        m.read_lock()
    else:
        m.write_lock()
    m.rcu_read_lock()
    it.yielded = True
    return table


def slot_try_split_huge_pages(kvm: Kvm, as_id: i64, start: i64, end: i64) -> None:
    """Split a slot's huge pages before it is logged.

    Locks: slots_lock; takes mmu_lock for read. TLB: none. Source: ``kvm_mmu_slot_try_split_huge_pages``.
    """
    kvm.m.read_lock()
    try_split_huge_pages(kvm, as_id, start, end, 1, True)
    kvm.m.read_unlock()
