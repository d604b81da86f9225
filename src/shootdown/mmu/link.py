"""Putting a new table under an entry.

Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import SP_GFN, SP_LEVEL, SP_PARENT, TABLES
from .batch import Batch
from .change import set_spte, set_spte_atomic
from .iter import TdpIter
from .make_spte import make_nonleaf
from .table_lists import list_table, track_table

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
