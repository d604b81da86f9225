"""Putting a new table under an entry, and on the lists of tables.

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import (
    NX_SPLITS,
    NX_TABLES,
    SP_GFN,
    SP_LEVEL,
    SP_LISTED,
    SP_NX,
    SP_NX_REFUSED,
    SP_PARENT,
    TABLES,
)
from .batch import Batch
from .change import set_spte, set_spte_atomic
from .iter import TdpIter
from .make_spte import make_nonleaf

if TYPE_CHECKING:
    from .kvm import Kvm


def link_table(kvm: Kvm, batch: Batch, it: TdpIter, table: i64, shared: bool, track: bool) -> bool:
    """Have the walk's entry point to a table that nobody sees yet; False if the entry changed meanwhile.

    ``track``: only the NX mitigation made the table necessary.

    Locks: mmu_lock, for read if ``shared``; RCU; takes the pages lock if there is a list to put the table on.
    TLB: none: the entry mapped nothing, or what the table maps.
    Source: ``tdp_mmu_link_sp``.
    """
    m = kvm.m
    m.store(SP_GFN, table, it.gfn)
    m.store(SP_LEVEL, table, it.level - 1)
    m.store(SP_PARENT, table, it.sptep)
    entry = make_nonleaf(kvm, table)
    if not shared:
        set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, entry)
    elif not set_spte_atomic(kvm, batch, it, entry):
        return False
    m.count(TABLES, 0, 1)
    if kvm.behaviour.lists_tables:
        list_table(kvm, table, track)
    elif track:
        track_table(kvm, table)
    return True


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
