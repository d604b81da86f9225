"""How large a page a fault may map. Source: arch/x86/kvm/mmu/mmu.c, arch/x86/kvm/x86.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.words import HOST_LEVEL, LOG_DIRTY_PAGES, SLOT_AS, SLOT_BASE, SLOT_PAGES, SP_NX_REFUSED, WRITE_TRACKED
from .iter import TdpIter
from .memory_type import is_one_type
from .page_fault import PageFault
from .spte import is_table

if TYPE_CHECKING:
    from .kvm import Kvm

LEVEL_HUGE_MAX: Final = 3
"""1 GiB (``KVM_MAX_HUGEPAGE_LEVEL``)."""


def tracked_at(as_id: i64, level: i64, gfn: i64) -> i64:
    """The number of the word WRITE_TRACKED of an entry; pages of 4K are tracked whatever the address space (0)."""
    return as_id << 56 | level << 48 | gfn


def hugepage_adjust(kvm: Kvm, fault: PageFault) -> i64:
    """The highest level that slot and host allow, whatever the NX mitigation says.

    Locks: SRCU if there are slots, mmu_lock. TLB: none. Source: ``kvm_mmu_hugepage_adjust``,
    ``kvm_mmu_max_mapping_level``.
    """
    if fault.pfn < 0 or fault.flags & LOG_DIRTY_PAGES != 0:
        return 1
    level = kvm.m.load(HOST_LEVEL, fault.gfn)
    level = min(level, LEVEL_HUGE_MAX)
    while level > 1:
        if is_one_type(kvm, fault.gfn, level) and allows_huge(kvm, fault, level):
            break
        level -= 1
    return level


def allows_huge(kvm: Kvm, fault: PageFault, level: i64) -> bool:
    """May a page of this level be mapped, if the host has one?

    It must lie wholly in its slot, where guest and host must agree on where pages of the level begin, and no page in it
    may be write-tracked by way of that slot; of a page that is by way of the other address space's, nothing is known.

    Locks: SRCU, mmu_lock. TLB: none. Source: ``kvm_alloc_memslot_metadata``, ``update_gfn_disallow_lpage_count``.
    """
    pages = kvm.pages(level)
    if (fault.gfn ^ fault.pfn) & (pages - 1) != 0:
        return False
    if fault.slot < 0:
        return True
    first = kvm.round(fault.gfn, level)
    base = kvm.m.load(SLOT_BASE, fault.slot)
    number = kvm.m.load(SLOT_PAGES, fault.slot)
    if first < base or first + pages > base + number:
        return False
    as_id = kvm.m.load(SLOT_AS, fault.slot)
    tracked = kvm.m.load(WRITE_TRACKED, tracked_at(as_id, level, first))
    return tracked == 0


def is_disallowed(kvm: Kvm, it: TdpIter, goal: i64) -> bool:
    """Must a fault that wants to map at ``goal``, where the walk stands, go below, so as not to undo a split for NX?

    The mitigation is on.

    Locks: mmu_lock, RCU. TLB: none. Source: ``disallowed_hugepage_adjust``.
    """
    if it.level != goal or goal == 1 or not is_table(it.old_spte, it.level):
        return False
    if not kvm.behaviour.marks_refused:
        return True
    refused = kvm.m.load(SP_NX_REFUSED, kvm.pfn(it.old_spte))
    return refused != 0
