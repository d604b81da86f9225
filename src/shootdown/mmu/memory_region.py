"""Memory slots made, deleted, moved and reflagged.

Source: virt/kvm/kvm_main.c, ``__kvm_set_memory_region``, ``kvm_set_memslot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    DIRTY,
    INVALIDATIONS,
    LOG_DIRTY_PAGES,
    READONLY,
    SLOT_AS,
    SLOT_BASE,
    SLOT_FLAGS,
    SLOT_INVALID,
    SLOT_PAGES,
    SLOTS_GENERATION,
)
from .dirty_log import slot_apply_flags
from .mark_dirty import word_of
from .mmio import MMIO_GENERATIONS
from .slots import ADDRESS_SPACES, UPDATE_IN_PROGRESS, put_in_order, take_from_order
from .zap import flush_shadow_memslot, zap_all_fast

if TYPE_CHECKING:
    from .kvm import Kvm

PUBLISHING: Final = -1


def set_memory_region(kvm: Kvm, slot: i64, as_id: i64, base: i64, pages: i64, flags: i64) -> None:
    """Make a slot of an address space, or delete it (0 ``pages``), move it or change its flags.

    Raises Bug where the kernel refuses; nothing has changed then.
    Locks: takes slots_lock, and mmu_lock in between. TLB: see ``flush_shadow_memslot`` and ``slot_apply_flags``.
    Source: ``__kvm_set_memory_region``.
    """
    m = kvm.m
    m.slots_lock()
    problem = refusal(kvm, slot, as_id, base, pages, flags)
    if problem != "":
        m.slots_unlock()
        raise Bug(problem)
    old_pages = m.load(SLOT_PAGES, slot)
    old_flags = m.load(SLOT_FLAGS, slot)
    old_base = m.load(SLOT_BASE, slot)
    logged = old_pages != 0 and old_flags & LOG_DIRTY_PAGES != 0
    if old_pages == 0:
        create_slot(kvm, slot, as_id, base, pages, flags)
        slot_apply_flags(kvm, slot, False, False)
    elif pages == 0:
        invalidate_slot(kvm, slot, old_flags)
        delete_slot(kvm, slot)
        slot_apply_flags(kvm, slot, logged, False)
        free_bitmap(kvm, slot, old_pages)
    elif base != old_base:
        if not logged:
            init_bitmap(kvm, slot, pages, flags)
        invalidate_slot(kvm, slot, old_flags)
        move_slot(kvm, slot, base, flags)
        slot_apply_flags(kvm, slot, logged, False)
        if flags & LOG_DIRTY_PAGES == 0:
            free_bitmap(kvm, slot, pages)
    elif flags != old_flags:
        if not logged:
            init_bitmap(kvm, slot, pages, flags)
        reflag_slot(kvm, slot, flags)
        slot_apply_flags(kvm, slot, logged, True)
        if flags & LOG_DIRTY_PAGES == 0:
            free_bitmap(kvm, slot, pages)
    m.slots_unlock()


# What is refused


def refusal(kvm: Kvm, slot: i64, as_id: i64, base: i64, pages: i64, flags: i64) -> str:
    """Why a slot cannot become that, "" if it can. Locks: slots_lock. TLB: none."""
    m = kvm.m
    if slot < 0 or slot >= kvm.slots:
        return f"slot {slot} is set, but the VM's slots are {kvm.slots} from 0 on"
    if as_id < 0 or as_id >= ADDRESS_SPACES:
        return f"slot {slot} is set in address space {as_id}, but there are {ADDRESS_SPACES} from 0 on"
    if flags & ~(LOG_DIRTY_PAGES | READONLY) != 0:
        return f"slot {slot} gets flags that are none: {flags:#x}"
    limit = min(kvm.pages(kvm.root_level + 1), kvm.gfn_end)
    if base < 0 or pages < 0 or base > limit or pages > limit - base:
        return f"slot {slot} has gfns out of range: {pages} pages from {base:#x} on, and gfns end at {limit:#x}"
    old_pages = m.load(SLOT_PAGES, slot)
    if old_pages == 0:
        if pages == 0:
            return f"slot {slot} is made with no pages"
    else:
        owner = m.load(SLOT_AS, slot)
        if owner != as_id:
            return f"slot {slot} is of address space {owner}, and cannot change to {as_id}"
        if pages == 0:
            return ""
        if pages != old_pages:
            return f"slot {slot} has {old_pages} pages, and cannot change to {pages}"
        old_flags = m.load(SLOT_FLAGS, slot)
        if (old_flags ^ flags) & READONLY != 0:
            return f"slot {slot} cannot change between read-only and writable"
    other: i64 = 0
    while other < kvm.slots:
        if other != slot:
            if overlaps(kvm, other, as_id, base, pages):
                return f"slot {slot} overlaps slot {other}"
        other += 1
    return ""


def overlaps(kvm: Kvm, slot: i64, as_id: i64, base: i64, pages: i64) -> bool:
    """Has a slot a page in a range of an address space? Locks: slots_lock. TLB: none."""
    m = kvm.m
    its_pages = m.load(SLOT_PAGES, slot)
    if its_pages == 0:
        return False
    owner = m.load(SLOT_AS, slot)
    if owner != as_id:
        return False
    its_base = m.load(SLOT_BASE, slot)
    return its_base < base + pages and base < its_base + its_pages


# Publishing. A slot's pages are what readers look at first: while they are 0 there is no slot.


def create_slot(kvm: Kvm, slot: i64, as_id: i64, base: i64, pages: i64, flags: i64) -> None:
    """Publish a new slot. Locks: slots_lock. TLB: none: nothing is mapped there. Source: ``kvm_create_memslot``."""
    m = kvm.m
    m.store(SLOT_AS, slot, as_id)
    m.store(SLOT_BASE, slot, base)
    m.store(SLOT_FLAGS, slot, flags)
    init_bitmap(kvm, slot, pages, flags)
    begin_publishing(kvm, as_id)
    m.store(SLOT_PAGES, slot, pages)
    put_in_order(kvm, slot)
    end_publishing(kvm, as_id)


def invalidate_slot(kvm: Kvm, slot: i64, flags: i64) -> None:
    """Have faults in a slot retry until it is gone, and zap what they have mapped.

    Locks: slots_lock. TLB: see ``flush_shadow_memslot``. Source: ``kvm_invalidate_memslot``.
    """
    as_id = kvm.m.load(SLOT_AS, slot)
    begin_publishing(kvm, as_id)
    kvm.m.store(SLOT_FLAGS, slot, flags | SLOT_INVALID)
    end_publishing(kvm, as_id)
    flush_shadow_memslot(kvm, slot)


def delete_slot(kvm: Kvm, slot: i64) -> None:
    """Publish that an invalid slot is no more. Locks: slots_lock. TLB: none. Source: ``kvm_delete_memslot``."""
    as_id = kvm.m.load(SLOT_AS, slot)
    begin_publishing(kvm, as_id)
    kvm.m.store(SLOT_PAGES, slot, 0)
    take_from_order(kvm, slot)
    end_publishing(kvm, as_id)
    kvm.m.store(SLOT_FLAGS, slot, 0)


def move_slot(kvm: Kvm, slot: i64, base: i64, flags: i64) -> None:
    """Publish where an invalid slot is now; it is valid again only when nobody can have seen where it was.

    Locks: slots_lock. TLB: none. Source: ``kvm_move_memslot``.
    """
    as_id = kvm.m.load(SLOT_AS, slot)
    begin_publishing(kvm, as_id)
    take_from_order(kvm, slot)
    kvm.m.store(SLOT_BASE, slot, base)
    put_in_order(kvm, slot)
    kvm.m.synchronize_srcu()
    kvm.m.store(SLOT_FLAGS, slot, flags)
    end_publishing(kvm, as_id)


def reflag_slot(kvm: Kvm, slot: i64, flags: i64) -> None:
    """Publish other flags. Locks: slots_lock. TLB: the caller. Source: ``kvm_update_flags_memslot``."""
    as_id = kvm.m.load(SLOT_AS, slot)
    begin_publishing(kvm, as_id)
    kvm.m.store(SLOT_FLAGS, slot, flags)
    end_publishing(kvm, as_id)


def begin_publishing(kvm: Kvm, as_id: i64) -> None:
    """Wait until no notifier runs, whose start and end must see the same slots, and let none begin.

    Locks: slots_lock. TLB: none. Source: ``kvm_swap_active_memslots``.
    """
    while True:
        running = kvm.m.exchange(INVALIDATIONS, 0, 0, PUBLISHING)
        if running == 0:
            break
        kvm.m.cpu_relax()
    kvm.m.fetch_or(SLOTS_GENERATION, as_id, UPDATE_IN_PROGRESS)


def end_publishing(kvm: Kvm, as_id: i64) -> None:
    """Let notifiers begin, wait until nobody sees the slots as they were, and have MMIO entries made anew.

    Locks: slots_lock. TLB: none. Source: ``kvm_swap_active_memslots``, ``kvm_mmu_invalidate_mmio_sptes``.
    """
    m = kvm.m
    m.store(INVALIDATIONS, 0, 0)
    m.synchronize_srcu()
    generation = m.load(SLOTS_GENERATION, as_id)
    generation = (generation & ~UPDATE_IN_PROGRESS) + ADDRESS_SPACES
    m.store(SLOTS_GENERATION, as_id, generation)
    if generation & MMIO_GENERATIONS & ~(ADDRESS_SPACES - 1) == 0:
        zap_all_fast(kvm)


# Bitmaps


def init_bitmap(kvm: Kvm, slot: i64, pages: i64, flags: i64) -> None:
    """Begin the bitmap of a slot that is to be logged: all pages clean, or all dirty.

    Locks: slots_lock. TLB: none. Source: ``kvm_prepare_memory_region``.
    """
    if flags & LOG_DIRTY_PAGES == 0 or kvm.ring_size > 0 or not kvm.initially_set:
        return
    offset: i64 = 0
    while offset < pages:
        left = pages - offset
        ones: i64 = -1 if left >= 64 else 0x7FFF_FFFF_FFFF_FFFF >> (63 - left)
        kvm.m.store(DIRTY, word_of(slot, offset), ones)
        offset += 64


def free_bitmap(kvm: Kvm, slot: i64, pages: i64) -> None:
    """Forget a slot's bitmap. Locks: slots_lock. TLB: none. Source: ``kvm_destroy_dirty_bitmap``."""
    offset: i64 = 0
    while offset < pages:
        word = kvm.m.load(DIRTY, word_of(slot, offset))
        if word != 0:
            kvm.m.store(DIRTY, word_of(slot, offset), 0)
        offset += 64
