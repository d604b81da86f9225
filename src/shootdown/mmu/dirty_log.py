"""Dirty logging: user space learns which pages of a slot were written since it last asked.

Source: virt/kvm/kvm_main.c, virt/kvm/dirty_ring.c; arch/x86/kvm/x86.c (``kvm_mmu_slot_apply_flags``), mmu/mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.vecs import vec
from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    DIRTY,
    LOG_DIRTY_PAGES,
    READONLY,
    RING_ENTRY,
    RING_RESET,
    SLOT_BASE,
    SLOT_FLAGS,
    SLOT_PAGES,
    UPDATE_CPU_DIRTY_LOGGING,
)
from .clear_dirty import clear_dirty_pt_masked, clear_dirty_slot, first_bit, last_bit
from .dirty_ring import HARVESTED, PLACE, entry_of
from .huge_pages import disable_dirty_logging
from .mark_dirty import bit_of, word_of
from .requests import flush_remote_tlbs, flush_remote_tlbs_range, kick_all_cpus, make_all_cpus_request
from .slots import slot_as_id
from .split import slot_try_split_huge_pages, try_split_huge_pages
from .write_protect import slot_gfn_write_protect, slot_remove_write_access

if TYPE_CHECKING:
    from .kvm import Kvm


# On and off


def slot_apply_flags(kvm: Kvm, slot: i64, was_logged: bool, flags_only: bool) -> None:
    """Act on a slot's flags, which are published: make ready for logging, or let huge pages come back.

    Locks: slots_lock; takes mmu_lock. TLB: beginning to log flushes the slot, whether or not an entry changed: a fault
    without a lock may have come between; ending it, see ``disable_dirty_logging``.
    Source: ``kvm_mmu_slot_apply_flags``.
    """
    m = kvm.m
    pages = m.load(SLOT_PAGES, slot)
    flags: i64 = 0
    if pages != 0:
        flags = m.load(SLOT_FLAGS, slot)
    logged = flags & LOG_DIRTY_PAGES != 0
    if logged != was_logged and kvm.pml:
        update_cpu_dirty_logging(kvm, logged)
    if not flags_only or logged == was_logged or flags & READONLY != 0:
        return
    start = m.load(SLOT_BASE, slot)
    as_id = slot_as_id(kvm, slot)
    if not logged:
        disable_dirty_logging(kvm, as_id, start, start + pages)
        return
    if kvm.initially_set:
        return
    if kvm.eager_split:
        slot_try_split_huge_pages(kvm, as_id, start, start + pages)
    if kvm.pml:
        slot_leaf_clear_dirty(kvm, as_id, start, start + pages)
        slot_remove_write_access(kvm, as_id, start, start + pages, 2)
    else:
        slot_remove_write_access(kvm, as_id, start, start + pages, 1)
    flush_remote_tlbs_range(kvm, start, pages)


def slot_leaf_clear_dirty(kvm: Kvm, as_id: i64, start: i64, end: i64) -> None:
    """Make a slot clean before the CPU logs what becomes dirty.

    Locks: slots_lock; takes mmu_lock for read. TLB: the caller flushes. Source: ``kvm_mmu_slot_leaf_clear_dirty``.
    """
    kvm.m.read_lock()
    clear_dirty_slot(kvm, as_id, start, end)
    kvm.m.read_unlock()


def update_cpu_dirty_logging(kvm: Kvm, enable: bool) -> None:
    """Have all vCPUs switch PML on with the first slot that is logged, off with the last.

    Locks: slots_lock. TLB: none. Source: ``kvm_mmu_update_cpu_dirty_logging``.
    """
    logged = 0
    slot: i64 = 0
    while slot < kvm.slots:
        pages = kvm.m.load(SLOT_PAGES, slot)
        flags = kvm.m.load(SLOT_FLAGS, slot)
        if pages != 0 and flags & LOG_DIRTY_PAGES != 0:
            logged += 1
        slot += 1
    if logged == (1 if enable else 0):
        make_all_cpus_request(kvm, UPDATE_CPU_DIRTY_LOGGING)


# Asking, and starting over


def get_dirty_log(kvm: Kvm, slot: i64, manual: bool) -> vec[i64]:
    """A slot's bitmap; unless ``manual``, it is cleared, so that pages written from here on show next time.

    Locks: takes slots_lock, and mmu_lock for write. TLB: flushes the slot, after mmu_lock, if a bit was cleared; that
    no entry changed does not mean that none is cached as writable. Source: ``kvm_get_dirty_log_protect``.
    """
    m = kvm.m
    m.slots_lock()
    check_logged(kvm, slot)
    sync_dirty_log(kvm)
    base = m.load(SLOT_BASE, slot)
    pages = m.load(SLOT_PAGES, slot)
    words = vec[i64]([0] * ((pages + 63) >> 6))
    flush = False
    if not manual:
        m.write_lock()
    offset: i64 = 0
    while offset < pages:
        mask = m.load(DIRTY, word_of(slot, offset))
        if mask != 0 and not manual:
            mask = m.fetch_clear(DIRTY, word_of(slot, offset), -1)
            flush = True
            enable_log_dirty_pt_masked(kvm, slot, offset, mask)
        words[offset >> 6] = mask
        offset += 64
    if not manual:
        m.write_unlock()
    if flush:
        flush_remote_tlbs_range(kvm, base, pages)
    m.slots_unlock()
    return words


def clear_dirty_log(kvm: Kvm, slot: i64, first: i64, masks: vec[i64]) -> None:
    """Clear the bits that ``masks`` name, a word for each 64 pages from page ``first`` of the slot on.

    Locks: takes slots_lock, and mmu_lock for write, which splitting drops in between. TLB: flushes the slot, after
    mmu_lock, if a bit was cleared. Source: ``kvm_clear_dirty_log_protect``.
    """
    m = kvm.m
    m.slots_lock()
    check_logged(kvm, slot)
    base = m.load(SLOT_BASE, slot)
    pages = m.load(SLOT_PAGES, slot)
    check_cleared(kvm, slot, first, len(masks), pages)
    sync_dirty_log(kvm)
    flush = False
    m.write_lock()
    i = 0
    while i < len(masks):
        offset = first + 64 * i
        if masks[i] != 0:
            was = m.fetch_clear(DIRTY, word_of(slot, offset), masks[i])
            if was & masks[i] != 0:
                flush = True
                enable_log_dirty_pt_masked(kvm, slot, offset, was & masks[i])
        i += 1
    m.write_unlock()
    if flush:
        flush_remote_tlbs_range(kvm, base, pages)
    m.slots_unlock()


def enable_log_dirty_pt_masked(kvm: Kvm, slot: i64, offset: i64, mask: i64) -> None:
    """See to it that the next write to each page named by ``mask``, from page ``offset`` of the slot on, is noted.

    Locks: mmu_lock for write; drops and retakes it if huge pages are split. TLB: the caller flushes after it has
    dropped the lock, because a bit of the log was cleared. Source: ``kvm_arch_mmu_enable_log_dirty_pt_masked``.
    """
    base = kvm.m.load(SLOT_BASE, slot)
    as_id = slot_as_id(kvm, slot)
    if kvm.initially_set:
        first = base + offset + first_bit(mask)
        last = base + offset + last_bit(mask)
        if kvm.eager_split:
            end = last if kvm.behaviour.split_end_short else last + 1
            try_split_huge_pages(kvm, as_id, first, end, 1, False)
        # Huge pages are not protected when logging begins, so those that are left are now. Where both ends are the same
        # when they are rounded up, they are taken for one huge page's, though the last may begin another.
        short = kvm.behaviour.protect_end_short and kvm.round(first + kvm.pages(2) - 1, 2) == last
        while first <= last:
            slot_gfn_write_protect(kvm, slot, first, 2)
            first = kvm.round(first, 2) + kvm.pages(2)
            if first == last and short:
                break
    clear_dirty_pt_masked(kvm, as_id, base + offset, mask, not kvm.pml)


def sync_dirty_log(kvm: Kvm) -> None:
    """Have vCPUs leave the guest, at which they hand over what the CPU has logged; nobody waits for them.

    Locks: none. TLB: none. Source: ``kvm_arch_sync_dirty_log``.
    """
    if kvm.pml:
        kick_all_cpus(kvm)


def check_logged(kvm: Kvm, slot: i64) -> None:
    """Refuse a slot that has no dirty bitmap; drops slots_lock then."""
    problem = ""
    if slot < 0 or slot >= kvm.slots:
        problem = f"the dirty log of slot {slot} is asked for, but the VM's slots are {kvm.slots} from 0 on"
    elif kvm.ring_size > 0:
        problem = f"the dirty bitmap of slot {slot} is asked for, but dirty pages go to rings"
    else:
        pages = kvm.m.load(SLOT_PAGES, slot)
        flags = kvm.m.load(SLOT_FLAGS, slot)
        if pages == 0:
            problem = f"the dirty log of slot {slot} is asked for, but there is no such slot"
        elif flags & LOG_DIRTY_PAGES == 0:
            problem = f"the dirty log of slot {slot} is asked for, but the slot is not logged"
    if problem != "":
        kvm.m.slots_unlock()
        raise Bug(problem)


def check_cleared(kvm: Kvm, slot: i64, first: i64, words: i64, pages: i64) -> None:
    """Refuse to clear what is no part of a slot's log; drops slots_lock then."""
    if first < 0 or first & 63 != 0 or words < 0 or first + 64 * words >= pages + 64:
        kvm.m.slots_unlock()
        raise Bug(
            f"{words} words of the dirty log of slot {slot} are cleared from page {first} on: "
            f"use a multiple of 64 and no page from {pages} on"
        )


# Rings


def reset_dirty_rings(kvm: Kvm) -> i64:
    """Take back the entries that user space has harvested, of all vCPUs, so that further writes show; how many.

    Locks: takes slots_lock, and mmu_lock for write. TLB: flushes once at the end, outside of all locks, if there was
    an entry. Source: ``kvm_vm_ioctl_reset_dirty_pages``.
    """
    kvm.m.slots_lock()
    cleared: i64 = 0
    vcpu: i64 = 0
    while vcpu < kvm.vcpus:
        number = dirty_ring_reset(kvm, vcpu)
        cleared += number
        vcpu += 1
    kvm.m.slots_unlock()
    if cleared > 0:
        flush_remote_tlbs(kvm)
    return cleared


def dirty_ring_reset(kvm: Kvm, vcpu: i64) -> i64:
    """The same of one ring. Entries that lie close together, up or down, are put into one mask.

    Locks: slots_lock; takes mmu_lock for write. TLB: the caller flushes. Source: ``kvm_dirty_ring_reset``.
    """
    m = kvm.m
    count: i64 = 0
    place: i64 = 0
    mask: i64 = 0
    while True:
        index = m.load(RING_RESET, vcpu)
        entry = m.load(RING_ENTRY, entry_of(kvm, vcpu, index))
        if entry & HARVESTED == 0:
            break
        m.store(RING_ENTRY, entry_of(kvm, vcpu, index), 0)
        m.store(RING_RESET, vcpu, index + 1)
        count += 1
        delta = (entry & PLACE) - place
        if mask != 0 and 0 <= delta < 64:
            mask |= bit_of(delta)
        elif mask != 0 and -64 < delta < 0 and 0 <= last_bit(mask) - delta < 64:
            place += delta
            mask = moved_up(mask, -delta) | 1
        else:
            reset_dirty_gfn(kvm, place, mask)
            place = entry & PLACE
            mask = 1
    reset_dirty_gfn(kvm, place, mask)
    return count


def moved_up(mask: i64, number: i64) -> i64:
    """A mask moved up by ``number`` bits, none of which is lost; the highest may become the sign."""
    top = last_bit(mask)
    return (mask & ~bit_of(top)) << number | bit_of(top + number)


def reset_dirty_gfn(kvm: Kvm, place: i64, mask: i64) -> None:
    """Have the next write to pages of a slot noted; nothing if the slot has gone.

    Locks: slots_lock; takes mmu_lock for write. TLB: the caller flushes. Source: ``kvm_reset_dirty_gfn``.
    """
    if mask == 0:
        return
    slot = place >> 32
    offset = place & 0xFFFF_FFFF
    pages = kvm.m.load(SLOT_PAGES, slot)
    if offset + last_bit(mask) >= pages:
        return
    kvm.m.write_lock()
    enable_log_dirty_pt_masked(kvm, slot, offset, mask)
    kvm.m.write_unlock()
