"""Memory slots: which parts of guest memory there are, and how they are used.

A VM that was told of no slots (``kvm.slots`` is 0) has all of its memory in one slot that never changes.
Source: include/linux/kvm_host.h, ``struct kvm_memory_slot``, ``gfn_to_memslot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import append, vec
from mypy_extensions import i64

from ..machine.words import SLOT_AS, SLOT_BASE, SLOT_FLAGS, SLOT_PAGES, SLOTS_GENERATION

if TYPE_CHECKING:
    from .kvm import Kvm

ADDRESS_SPACES: Final = 2
"""0, and 1 of system management mode (``KVM_ADDRESS_SPACE_NUM``)."""
UPDATE_IN_PROGRESS: Final[i64] = -0x8000_0000_0000_0000
"""Set in the generation while slots change (``KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS``)."""
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
    if slot < 0:
        return 0
    return kvm.m.load(SLOT_FLAGS, slot)


def generation(kvm: Kvm, as_id: i64) -> i64:
    """The generation of an address space's slots: even in the first, odd in the second, so that they never agree.

    Locks: SRCU, or slots_lock. TLB: none. Source: ``kvm_vcpu_memslots(vcpu)->generation``, ``kvm_create_vm``.
    """
    updates = kvm.m.load(SLOTS_GENERATION, as_id)
    return updates + as_id


def slot_as_id(kvm: Kvm, slot: i64) -> i64:
    """Address space of a slot, 0 of one that never changes."""
    if slot < 0:
        return 0
    return kvm.m.load(SLOT_AS, slot)


def slots_in(kvm: Kvm, start: i64, end: i64) -> vec[i64]:
    """The slots of all address spaces that have a page in a range of the host's, which are numbered as their gfns.

    Locks: SRCU, or slots_lock. TLB: none. Source: the loops in ``__kvm_handle_hva_range``.
    """
    found = vec[i64]()
    if kvm.slots == 0:
        return append(found, WHOLE_MEMORY)
    as_id: i64 = 0
    while as_id < ADDRESS_SPACES:
        slot: i64 = 0
        while slot < kvm.slots:
            pages = kvm.m.load(SLOT_PAGES, slot)
            if pages != 0:
                owner = kvm.m.load(SLOT_AS, slot)
                base = kvm.m.load(SLOT_BASE, slot)
                if owner == as_id and base < end and start < base + pages:
                    found = append(found, slot)
            slot += 1
        as_id += 1
    return found


def start_in(kvm: Kvm, slot: i64, start: i64) -> i64:
    """First page of a range that lies in a slot which it overlaps."""
    if slot < 0:
        return start
    base = kvm.m.load(SLOT_BASE, slot)
    return max(base, start)


def end_in(kvm: Kvm, slot: i64, end: i64) -> i64:
    """First page after the part of a range that lies in a slot which it overlaps."""
    if slot < 0:
        return end
    base = kvm.m.load(SLOT_BASE, slot)
    pages = kvm.m.load(SLOT_PAGES, slot)
    return min(base + pages, end)
