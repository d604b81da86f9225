"""The lists that page tables are on: that of all tables, and that of those that NX recovery may zap.

Source: arch/x86/kvm/mmu/tdp_mmu.c, mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import NO_TABLE, NX_SPLITS, NX_TABLES, SP_LISTED, SP_NX, SP_NX_REFUSED

if TYPE_CHECKING:
    from .kvm import Kvm


def list_table(kvm: Kvm, table: i64, track: bool) -> None:
    """Put a linked table on the list of all tables, and on the one for NX recovery if it is to be ``track``-ed.

    Locks: mmu_lock; takes the pages lock. TLB: none. Source: ``tdp_mmu_link_sp``, ``account_huge_nx_page`` (6.1).
    """
    m = kvm.m
    m.pages_lock()
    m.store(SP_LISTED, table, 1)
    if track:
        track_locked(kvm, table)
    m.pages_unlock()


def track_table(kvm: Kvm, table: i64) -> None:
    """Put a linked table on the list for NX recovery, unless it was zapped since.

    Locks: mmu_lock for read; takes the pages lock. TLB: none.
    Source: ``track_possible_nx_huge_page``; 21a36ac6b6c7.
    """
    m = kvm.m
    m.pages_lock()
    refused = m.load(SP_NX_REFUSED, table)
    if refused != 0:
        track_locked(kvm, table)
    m.pages_unlock()


def track_locked(kvm: Kvm, table: i64) -> None:
    """Put a table on the list for NX recovery. Locks: the pages lock. TLB: none."""
    m = kvm.m
    m.store(SP_NX, table, 1)
    m.list_add_tail(NX_TABLES, table)
    m.count(NX_SPLITS, 0, 1)


def unlist(kvm: Kvm, table: i64, shared: bool) -> None:
    """Take a table that was cut off from the lists that it is on.

    Locks: takes the pages lock if ``shared`` and there is a list. TLB: none. Source: ``tdp_mmu_unlink_sp``.
    """
    if kvm.behaviour.lists_tables:
        if shared:
            kvm.m.pages_lock()
        unlist_locked(kvm, table)
        if shared:
            kvm.m.pages_unlock()
    elif kvm.nx_huge_pages:
        untrack(kvm, table, shared)


def unlist_locked(kvm: Kvm, table: i64) -> None:
    """Take a table off the list of all tables, and off the one for NX recovery if it is there.

    Raises Bug if the table was not put on the list yet: the kernel writes to address 8 then, or worse.

    Locks: the pages lock, or mmu_lock for write. TLB: none. Source: ``tdp_mmu_unlink_sp`` (6.1).
    """
    listed = kvm.m.load(SP_LISTED, table)
    if listed == 0:
        raise Bug("a table is taken off the list of tables before it was put there")
    kvm.m.store(SP_LISTED, table, 0)
    if kvm.nx_huge_pages:
        untrack_locked(kvm, table)


def untrack(kvm: Kvm, table: i64, shared: bool) -> None:
    """Take a table that the NX mitigation refused a huge page off the list for NX recovery, if it is there.

    Locks: takes the pages lock if ``shared``. TLB: none. Source: ``tdp_mmu_unlink_sp`` (6.12).
    """
    m = kvm.m
    if m.load(SP_NX_REFUSED, table) == 0:
        return
    if shared:
        m.pages_lock()
    untrack_locked(kvm, table)
    if shared:
        m.pages_unlock()


def untrack_locked(kvm: Kvm, table: i64) -> None:
    """The same with the lock held. Source: ``unaccount_nx_huge_page``, ``untrack_possible_nx_huge_page``."""
    if kvm.behaviour.marks_refused:
        kvm.m.store(SP_NX_REFUSED, table, 0)
    tracked = kvm.m.load(SP_NX, table)
    if tracked != 0:
        kvm.m.store(SP_NX, table, 0)
        kvm.m.list_del(NX_TABLES, table)
        kvm.m.count(NX_SPLITS, 0, -1)


def take_tracked(kvm: Kvm) -> i64:
    """The oldest table that NX recovery knows; later kernels forget it as they take it, so that others leave it alone.

    Locks: mmu_lock for write, or for read: takes the pages lock. TLB: none. Source: ``kvm_recover_nx_huge_pages``.
    """
    m = kvm.m
    if not kvm.behaviour.nx_shared:
        return m.list_next(NX_TABLES, NO_TABLE)
    m.pages_lock()
    table = m.list_next(NX_TABLES, NO_TABLE)
    if table != NO_TABLE:
        untrack_locked(kvm, table)
    m.pages_unlock()
    return table
