"""A vCPU's dirty ring: pages that it dirtied, in order, for user space to read, each until user space gives it back.

An entry is ``slot << 32 | offset`` with a flag above. Source: virt/kvm/dirty_ring.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import DIRTY_RING_SOFT_FULL, RING_ENTRY, RING_PUSHED, RING_RESET, VCPU_REQUESTS

if TYPE_CHECKING:
    from .kvm import Kvm

PUSHED: Final[i64] = 0x1000_0000_0000_0000
"""The entry is valid and user space has not read it (``KVM_DIRTY_GFN_F_DIRTY``)."""
HARVESTED: Final[i64] = 0x2000_0000_0000_0000
"""User space has read the entry, and gives it back (``KVM_DIRTY_GFN_F_RESET``)."""
PLACE: Final[i64] = 0x0FFF_FFFF_FFFF_FFFF
NO_ENTRY: Final = -1


def entry_of(kvm: Kvm, vcpu: i64, index: i64) -> i64:
    """The number of the word that holds the entry which is the ``index``-th of all ever pushed."""
    return vcpu << 32 | index % kvm.ring_size


def push(kvm: Kvm, vcpu: i64, slot: i64, offset: i64) -> None:
    """Append a page to a vCPU's ring.

    Locks: none: the vCPU's own thread. TLB: none. Source: ``kvm_dirty_ring_push``.
    """
    m = kvm.m
    index = m.load(RING_PUSHED, vcpu)
    reset = m.load(RING_RESET, vcpu)
    if index - reset >= kvm.ring_size:
        raise Bug("a page is pushed to a dirty ring that is full")
    m.store(RING_ENTRY, entry_of(kvm, vcpu, index), PUSHED | slot << 32 | offset)
    m.store(RING_PUSHED, vcpu, index + 1)
    if kvm.behaviour.ring_full_by_request:
        # An entry more than was looked at above, fewer if somebody resets meanwhile.
        if is_soft_full(kvm, vcpu):
            m.fetch_or(VCPU_REQUESTS, vcpu, DIRTY_RING_SOFT_FULL)


def is_soft_full(kvm: Kvm, vcpu: i64) -> bool:
    """Are so many entries in use that the vCPU may not run on? Source: ``kvm_dirty_ring_soft_full``."""
    pushed = kvm.m.load(RING_PUSHED, vcpu)
    reset = kvm.m.load(RING_RESET, vcpu)
    return pushed - reset >= kvm.ring_soft_limit


def must_exit_for_ring(kvm: Kvm, vcpu: i64, requests: i64) -> bool:
    """Must the vCPU leave to user space, which has a ring to read, rather than enter the guest?

    Locks: none. TLB: none. Source: ``kvm_dirty_ring_check_request``; ``vcpu_enter_guest`` (6.1).
    """
    if kvm.ring_size == 0:
        return False
    if not kvm.behaviour.ring_full_by_request:
        return is_soft_full(kvm, vcpu)
    if requests & DIRTY_RING_SOFT_FULL == 0:
        return False
    kvm.m.fetch_clear(VCPU_REQUESTS, vcpu, DIRTY_RING_SOFT_FULL)
    if not is_soft_full(kvm, vcpu):
        return False
    kvm.m.fetch_or(VCPU_REQUESTS, vcpu, DIRTY_RING_SOFT_FULL)
    return True


def harvest(kvm: Kvm, vcpu: i64, index: i64) -> i64:
    """Read the ``index``-th entry ever pushed, as user space does, and give it back; NO_ENTRY if there is none yet.

    Locks: none. TLB: none. Source: Documentation/virt/kvm/api.rst, 8.29.
    """
    m = kvm.m
    number = entry_of(kvm, vcpu, index)
    entry = m.load(RING_ENTRY, number)
    if entry & PUSHED == 0:
        return NO_ENTRY
    m.store(RING_ENTRY, number, entry ^ (PUSHED | HARVESTED))
    return entry & PLACE
