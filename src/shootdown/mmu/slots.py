"""Memory slots: which parts of guest memory there are, and how they are used.

A VM that was told of no slots (``kvm.slots`` is 0) has all of its memory in one slot that never changes.
Source: include/linux/kvm_host.h, ``struct kvm_memory_slot``, ``gfn_to_memslot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.words import SLOT_AS, SLOT_BASE, SLOT_FLAGS, SLOT_PAGES

if TYPE_CHECKING:
    from .kvm import Kvm

NO_SLOT: Final = -1
WHOLE_MEMORY: Final = -2


def find_slot(kvm: Kvm, as_id: i64, gfn: i64) -> i64:
    """The number of the slot that holds ``gfn``; NO_SLOT where nothing is, WHOLE_MEMORY if there are no slots.

    Locks: SRCU, or slots_lock. TLB: none. Source: ``kvm_vcpu_gfn_to_memslot``.
    """
    if kvm.slots == 0:
        return WHOLE_MEMORY
    m = kvm.m
    slot: i64 = 0
    while slot < kvm.slots:
        pages = m.load(SLOT_PAGES, slot)
        if pages != 0:
            base = m.load(SLOT_BASE, slot)
            if base <= gfn < base + pages:
                owner = m.load(SLOT_AS, slot)
                if owner == as_id:
                    return slot
        slot += 1
    return NO_SLOT


def slot_flags(kvm: Kvm, slot: i64) -> i64:
    """Flags of a slot (words.py), 0 of one that never changes."""
    return 0 if slot < 0 else kvm.m.load(SLOT_FLAGS, slot)
