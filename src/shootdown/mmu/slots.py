"""Memory slots: which parts of guest memory there are, and how they are used.

A VM that was told of no slots (``kvm.slots`` is 0) has all of its memory in one slot that never changes.
Source: include/linux/kvm_host.h, ``struct kvm_memory_slot``, ``gfn_to_memslot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import append, vec
from mypy_extensions import i64

from ..machine.words import SLOT_AS, SLOT_BASE, SLOT_FLAGS, SLOT_ORDER, SLOT_PAGES, SLOTS_GENERATION

if TYPE_CHECKING:
    from .kvm import Kvm

ADDRESS_SPACES: Final = 2
"""0, and 1 of system management mode (``KVM_ADDRESS_SPACE_NUM``)."""
UPDATE_IN_PROGRESS: Final[i64] = -0x8000_0000_0000_0000
"""Set in the generation while slots change (``KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS``)."""
NO_SLOT: Final = -1
WHOLE_MEMORY: Final = -2
SLOTS_FEW: Final = 8
"""So many slots are as fast to look at one by one."""


def find_slot(kvm: Kvm, as_id: i64, gfn: i64) -> i64:
    """The number of the slot that holds ``gfn``; NO_SLOT where nothing is, WHOLE_MEMORY if there are no slots.

    Many slots are searched by their order first, and one by one where that does not lead to a slot, as in the moment
    in which slots change.

    Locks: SRCU, or slots_lock. TLB: none. Source: ``kvm_vcpu_gfn_to_memslot``.
    """
    if kvm.slots == 0:
        return WHOLE_MEMORY
    if kvm.slots > SLOTS_FEW:
        near = find_near(kvm, as_id, gfn)
        if near != NO_SLOT:
            return near
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


def find_near(kvm: Kvm, as_id: i64, gfn: i64) -> i64:
    """The same by the order of slots, NO_SLOT if that does not lead to it.

    Locks: SRCU, or slots_lock. TLB: none. Source: ``search_memslots``.
    """
    m = kvm.m
    place = place_in_order(kvm, as_id, gfn + 1)
    if place == 0:
        return NO_SLOT
    slot = m.load(SLOT_ORDER, place - 1) - 1
    if slot < 0:
        return NO_SLOT
    # What the order says is only a hint.
    pages = m.load(SLOT_PAGES, slot)
    base = m.load(SLOT_BASE, slot)
    if base <= gfn < base + pages:
        owner = m.load(SLOT_AS, slot)
        if owner == as_id:
            return slot
    return NO_SLOT


def place_in_order(kvm: Kvm, as_id: i64, gfn: i64) -> i64:
    """How many slots come in order before one that would begin at ``gfn``. Locks: SRCU, or slots_lock. TLB: none."""
    m = kvm.m
    first: i64 = 0
    end = kvm.slots
    while first < end:
        middle = (first + end) >> 1
        slot = m.load(SLOT_ORDER, middle) - 1
        before = slot >= 0
        if before:
            owner = m.load(SLOT_AS, slot)
            before = owner < as_id
            if owner == as_id:
                base = m.load(SLOT_BASE, slot)
                before = base < gfn
        if before:
            first = middle + 1
        else:
            end = middle
    return first


def place_of(kvm: Kvm, slot: i64) -> i64:
    """Where in the order a slot is, or belongs. Locks: SRCU, or slots_lock. TLB: none."""
    as_id = kvm.m.load(SLOT_AS, slot)
    base = kvm.m.load(SLOT_BASE, slot)
    return place_in_order(kvm, as_id, base)


def put_in_order(kvm: Kvm, slot: i64) -> None:
    """Have searches find a slot where it is now. Locks: slots_lock. TLB: none. Source: ``kvm_insert_gfn_node``."""
    if kvm.slots <= SLOTS_FEW:
        return
    m = kvm.m
    place = place_of(kvm, slot)
    moving = slot + 1
    while moving != 0:
        there = m.load(SLOT_ORDER, place)
        m.store(SLOT_ORDER, place, moving)
        moving = there
        place += 1


def take_from_order(kvm: Kvm, slot: i64) -> None:
    """Have searches find a slot no more. Locks: slots_lock. TLB: none. Source: ``kvm_erase_gfn_node``."""
    if kvm.slots <= SLOTS_FEW:
        return
    m = kvm.m
    place = place_of(kvm, slot)
    moving: i64 = 1
    while moving != 0:
        moving = 0
        if place + 1 < kvm.slots:
            moving = m.load(SLOT_ORDER, place + 1)
        m.store(SLOT_ORDER, place, moving)
        place += 1


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
