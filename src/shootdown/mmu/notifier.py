"""MMU notifiers: the host takes pages back; and the other users of the invalidation sequence.

Source: virt/kvm/kvm_main.c (``__kvm_handle_hva_range``) and arch/x86/kvm/mmu/mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import vec
from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    INVALIDATE_END,
    INVALIDATE_IN_PROGRESS,
    INVALIDATE_SEQ,
    INVALIDATE_START,
    INVALIDATIONS,
)
from .aging import age_gfn_range, test_age_gfn_range
from .change_pte import set_spte_gfn
from .requests import flush_remote_tlbs, flush_remote_tlbs_range
from .roots import ANY_AS
from .slots import end_in, slot_as_id, slots_in, start_in
from .zap import zap_all, zap_range

if TYPE_CHECKING:
    from .kvm import Kvm


ALL_GFNS_END: Final[i64] = 0x7FFF_FFFF_FFFF_FFFF


def invalidate_begin(kvm: Kvm, start: i64, end: i64) -> None:
    """From here on no fault installs anything in the range.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_mmu_invalidate_begin``, ``kvm_mmu_invalidate_range_add``.
    """
    m = kvm.m
    running = m.load(INVALIDATE_IN_PROGRESS, 0)
    m.store(INVALIDATE_IN_PROGRESS, 0, running + 1)
    if running != 0:
        invalidate_range_add(kvm, start, end)
    else:
        m.store(INVALIDATE_START, 0, start)
        m.store(INVALIDATE_END, 0, end)


def invalidate_range_add(kvm: Kvm, start: i64, end: i64) -> None:
    """One more range under invalidation: ranges at the same time become one that holds all of them.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_mmu_invalidate_range_add``.
    """
    m = kvm.m
    first = m.load(INVALIDATE_START, 0)
    last = m.load(INVALIDATE_END, 0)
    m.store(INVALIDATE_START, 0, min(start, first))
    m.store(INVALIDATE_END, 0, max(end, last))


def invalidate_end(kvm: Kvm) -> None:
    """Faults may install again, if they looked the host's page up after this.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_mmu_invalidate_end``.
    """
    m = kvm.m
    # Bumped first, so that whoever sees no invalidation running sees the sequence changed.
    m.fetch_add(INVALIDATE_SEQ, 0, 1)
    running = m.load(INVALIDATE_IN_PROGRESS, 0)
    if running == 0:
        raise Bug("an invalidation ends that has not begun")
    m.store(INVALIDATE_IN_PROGRESS, 0, running - 1)


def invalidate_range_start(kvm: Kvm, start: i64, end: i64, may_block: bool) -> None:
    """When this returns, nothing of the VM reaches the pages that the host maps there, and nothing will before the end.

    The host's addresses are numbered as the gfns are; where there are slots, each that has a page there is zapped.

    Locks: takes mmu_lock for write. TLB: flushes before it drops the lock, if something was zapped.
    Source: ``kvm_mmu_notifier_invalidate_range_start``, ``__kvm_handle_hva_range``, ``kvm_unmap_gfn_range``.
    """
    m = kvm.m
    count_invalidation(kvm)
    read_slots(kvm)
    slots = slots_in(kvm, start, end)
    if len(slots) > 0:
        m.write_lock()
        unmap_slots(kvm, slots, start, end, may_block)
        m.write_unlock()
    leave_slots(kvm)


def unmap_slots(kvm: Kvm, slots: vec[i64], start: i64, end: i64, may_block: bool) -> None:
    """Have faults in a range wait, and zap the part of it in each of some slots.

    Locks: mmu_lock for write. TLB: flushes if something was zapped. Source: ``__kvm_handle_hva_range``.
    """
    flush = False
    i = 0
    while i < len(slots):
        first = start_in(kvm, slots[i], start)
        last = end_in(kvm, slots[i], end)
        if i == 0:
            if kvm.behaviour.range_by_slot:
                invalidate_begin(kvm, first, last)
            else:
                invalidate_begin(kvm, start, end)
        elif kvm.behaviour.range_by_slot:
            invalidate_range_add(kvm, first, last)
        as_id = slot_as_id(kvm, slots[i])
        # Invalid roots as well: they are still being zapped, and their pages must not be touched after this.
        if zap_range(kvm, as_id, first, last, False, may_block):
            flush = True
        i += 1
    if flush:
        flush_remote_tlbs(kvm)


def invalidate_range_end(kvm: Kvm, start: i64, end: i64) -> None:
    """The host's page tables are as they shall be.

    Locks: takes mmu_lock for write. TLB: none. Source: ``kvm_mmu_notifier_invalidate_range_end``.
    """
    m = kvm.m
    read_slots(kvm)
    slots = slots_in(kvm, start, end)
    if len(slots) > 0:
        m.write_lock()
        invalidate_end(kvm)
        m.write_unlock()
    leave_slots(kvm)
    if kvm.slots > 0:
        m.fetch_add(INVALIDATIONS, 0, -1)


def count_invalidation(kvm: Kvm) -> None:
    """Have those who change slots wait for the end; wait for one who publishes just now.

    Locks: none. TLB: none. Source: ``mn_active_invalidate_count`` in ``kvm_mmu_notifier_invalidate_range_start``.
    """
    while kvm.slots > 0:
        running = kvm.m.load(INVALIDATIONS, 0)
        if running >= 0:
            found = kvm.m.exchange(INVALIDATIONS, 0, running, running + 1)
            if found == running:
                return
        else:
            kvm.m.cpu_relax()


def read_slots(kvm: Kvm) -> None:
    """Slots stay what they are until ``leave_slots``. Locks: enters SRCU, if there are slots. TLB: none."""
    if kvm.slots > 0:
        kvm.m.srcu_read_lock()


def leave_slots(kvm: Kvm) -> None:
    """Slots may change. Locks: leaves SRCU. TLB: none."""
    if kvm.slots > 0:
        kvm.m.srcu_read_unlock()


def clear_flush_young(kvm: Kvm, start: i64, end: i64) -> bool:
    """Was a page of a range used since this was asked last?

    Locks: takes mmu_lock for write, later kernels none. TLB: flushes before it drops the lock, if the answer is yes;
    not from 6.13 on: a use that goes unnoticed harms nobody. Source: ``kvm_mmu_notifier_clear_flush_young``.
    """
    return age(kvm, start, end, kvm.behaviour.flush_young)


def clear_young(kvm: Kvm, start: i64, end: i64) -> bool:
    """The same without a flush. Locks: as there. TLB: none. Source: ``kvm_mmu_notifier_clear_young``."""
    return age(kvm, start, end, False)


def age(kvm: Kvm, start: i64, end: i64, flush: bool) -> bool:
    """Make the pages of a range unused; was one used? Locks, TLB: as above. Source: ``kvm_age_gfn``."""
    m = kvm.m
    young = False
    read_slots(kvm)
    slots = slots_in(kvm, start, end)
    if len(slots) > 0:
        if not kvm.behaviour.age_lockless:
            m.write_lock()
        i = 0
        while i < len(slots):
            first = start_in(kvm, slots[i], start)
            last = end_in(kvm, slots[i], end)
            as_id = slot_as_id(kvm, slots[i])
            if age_gfn_range(kvm, as_id, first, last):
                young = True
            i += 1
        if young and flush:
            flush_remote_tlbs(kvm)
        if not kvm.behaviour.age_lockless:
            m.write_unlock()
    leave_slots(kvm)
    return young


def test_young(kvm: Kvm, gfn: i64) -> bool:
    """Was a page used since it was made unused? Changes nothing.

    Locks: takes mmu_lock for write, later kernels none. TLB: none. Source: ``kvm_mmu_notifier_test_young``.
    """
    m = kvm.m
    young = False
    read_slots(kvm)
    slots = slots_in(kvm, gfn, gfn + 1)
    if len(slots) > 0:
        if not kvm.behaviour.age_lockless:
            m.write_lock()
        i = 0
        while i < len(slots):
            as_id = slot_as_id(kvm, slots[i])
            if test_age_gfn_range(kvm, as_id, gfn, gfn + 1):
                young = True
            i += 1
        if not kvm.behaviour.age_lockless:
            m.write_unlock()
    leave_slots(kvm)
    return young


def change_pte(kvm: Kvm, gfn: i64, pfn: i64, writable: bool) -> None:
    """The host maps another page there, between the start and the end of an invalidation; not in later kernels.

    Locks: takes mmu_lock for write. TLB: flushes before it drops the lock, if an entry changed.
    Source: ``kvm_mmu_notifier_change_pte`` (6.1).
    """
    m = kvm.m
    if not kvm.behaviour.change_pte:
        raise Bug(f"{kvm.behaviour.name} has no notifier that changes a page in one step")
    read_slots(kvm)
    slots = slots_in(kvm, gfn, gfn + 1)
    if len(slots) > 0:
        m.write_lock()
        changed = False
        # Outside of an invalidation there is nothing to change: its end has faults look the page up again.
        if m.load(INVALIDATE_IN_PROGRESS, 0) != 0:
            i = 0
            while i < len(slots):
                as_id = slot_as_id(kvm, slots[i])
                if set_spte_gfn(kvm, as_id, gfn, pfn, writable):
                    changed = True
                i += 1
        if changed:
            flush_remote_tlbs(kvm)
        m.write_unlock()
    leave_slots(kvm)


def release(kvm: Kvm) -> None:
    """The host's address space goes. Locks, TLB: as ``zap_all``. Source: ``kvm_mmu_notifier_release``."""
    read_slots(kvm)
    zap_all(kvm)
    leave_slots(kvm)


def kvm_zap_gfn_range(kvm: Kvm, start: i64, end: i64) -> None:
    """Have a range mapped anew, because its memory type or what lies behind it changed.

    Locks: takes mmu_lock for write. TLB: flushes before it drops the lock, if something was zapped.
    Source: ``kvm_zap_gfn_range``.
    """
    kvm.m.write_lock()
    if kvm.behaviour.zap_blocks_all:
        invalidate_begin(kvm, 0, ALL_GFNS_END)
    else:
        invalidate_begin(kvm, start, end)
    flush = zap_range(kvm, ANY_AS, start, end, not kvm.behaviour.flush_invalid_roots, True)
    if flush:
        flush_remote_tlbs_range(kvm, start, end - start)
    invalidate_end(kvm)
    kvm.m.write_unlock()
