"""Noting that a guest page is written: a bit in its slot's bitmap, or an entry in the ring of the vCPU that writes.

Source: virt/kvm/kvm_main.c, ``mark_page_dirty_in_slot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import DIRTY, LOG_DIRTY_PAGES, SLOT_BASE, SLOT_FLAGS
from .dirty_ring import push

if TYPE_CHECKING:
    from .kvm import Kvm


def bit_of(offset: i64) -> i64:
    """The bit of page ``offset`` of a slot in its word of the bitmap."""
    number = offset & 63
    if number == 63:
        return -0x8000_0000_0000_0000
    return 0x4000_0000_0000_0000 >> (62 - number)


def word_of(slot: i64, offset: i64) -> i64:
    """The number of the word of a slot's bitmap that holds the bit of page ``offset``."""
    return slot << 32 | offset >> 6


def mark_page_dirty(kvm: Kvm, slot: i64, gfn: i64, vcpu: i64) -> None:
    """Note that ``gfn`` is written, if its slot is logged; ``vcpu``: whose thread this is, -1 for none.

    Under mmu_lock this may come before the page becomes writable, since those who clear hold the lock for write;
    without the lock it must come after.

    Locks: SRCU or slots_lock. TLB: none. Source: ``mark_page_dirty_in_slot``.
    """
    if slot < 0:
        return
    m = kvm.m
    flags = m.load(SLOT_FLAGS, slot)
    if flags & LOG_DIRTY_PAGES == 0:
        return
    base = m.load(SLOT_BASE, slot)
    if vcpu >= 0 and kvm.ring_size > 0:
        push(kvm, vcpu, slot, gfn - base)
    else:
        m.fetch_or(DIRTY, word_of(slot, gfn - base), bit_of(gfn - base))
