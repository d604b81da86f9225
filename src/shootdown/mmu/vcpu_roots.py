"""The roots of a vCPU: the one that it runs on, and three that it ran on before and may come back to.

It keeps a reference to each. Source: arch/x86/kvm/mmu/mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import NO_TABLE, PREV_ROOTS, ROOT_INVALID, SP_ROLE, VCPU_PREV_ROOT, VCPU_ROOT
from .mmu_lock import lock, unlock
from .roots import full_role, get_root, put_root

if TYPE_CHECKING:
    from .kvm import Kvm

CURRENT: Final = 1
"""Of a vCPU's roots the one that it runs on; its previous ones are the bits above (``KVM_MMU_ROOT_CURRENT``)."""
ALL: Final = 15


def mmu_load(kvm: Kvm, vcpu: i64, role: i64) -> bool:
    """Give the vCPU a root; False if there is no memory for one.

    Locks: see ``get_root``. TLB: flushes locally, since the root's page may have been a root before.
    Source: ``kvm_mmu_load``.
    """
    if kvm.m.load(VCPU_ROOT, vcpu) != NO_TABLE:
        raise Bug(f"vCPU {vcpu} has a root already: switch to another one by new_pgd or reset_context")
    root = get_root(kvm, role)
    if root == NO_TABLE:
        return False
    kvm.m.store(VCPU_ROOT, vcpu, root)
    kvm.m.flush_tlb(vcpu)
    return True


def new_pgd(kvm: Kvm, vcpu: i64, role: i64) -> bool:
    """Switch the vCPU to a root of another role, as when a nested guest is entered or left; did it have one?

    If not, it gets one when it enters the guest.

    Locks: mmu_lock as ``free_roots``. TLB: none: a root that the vCPU came back to has had a reference
    all the time, and every flush drops what is cached of all roots. Source: ``kvm_mmu_new_pgd``.
    """
    role = full_role(kvm, role)
    if kvm.m.load(VCPU_ROOT, vcpu) == NO_TABLE:
        return find_without_current(kvm, vcpu, role)
    return find_and_keep_current(kvm, vcpu, role)


def find_and_keep_current(kvm: Kvm, vcpu: i64, role: i64) -> bool:
    """Take the root of a role from among the vCPU's; the present one is kept as the latest, and the oldest dropped.

    Locks, TLB: as ``new_pgd``. Source: ``cached_root_find_and_keep_current``.
    """
    m = kvm.m
    current = m.load(VCPU_ROOT, vcpu)
    if is_usable(kvm, current, role):
        return True
    which: i64 = 0
    while which < PREV_ROOTS:
        # The roots that were looked at move back by one.
        earlier = prev_root(kvm, vcpu, which)
        set_prev_root(kvm, vcpu, which, current)
        current = earlier
        if is_usable(kvm, current, role):
            m.store(VCPU_ROOT, vcpu, current)
            return True
        which += 1
    m.store(VCPU_ROOT, vcpu, current)
    free_roots(kvm, vcpu, CURRENT)
    return False


def find_without_current(kvm: Kvm, vcpu: i64, role: i64) -> bool:
    """The same for a vCPU that has no root at present. Locks, TLB: as ``new_pgd``.

    Source: ``cached_root_find_without_current``.
    """
    which: i64 = 0
    while which < PREV_ROOTS:
        found = prev_root(kvm, vcpu, which)
        if is_usable(kvm, found, role):
            kvm.m.store(VCPU_ROOT, vcpu, found)
            while which < PREV_ROOTS - 1:
                later = prev_root(kvm, vcpu, which + 1)
                set_prev_root(kvm, vcpu, which, later)
                which += 1
            set_prev_root(kvm, vcpu, which, NO_TABLE)
            return True
        which += 1
    return False


def is_usable(kvm: Kvm, root: i64, role: i64) -> bool:
    """Is it a valid root of the role? Locks: none: it may become invalid at once. Source: ``is_root_usable``."""
    if root == NO_TABLE:
        return False
    if kvm.m.load(SP_ROLE, root) != role:
        return False
    return kvm.m.load(ROOT_INVALID, root) == 0


def prev_root(kvm: Kvm, vcpu: i64, which: i64) -> i64:
    """A previous root, or NO_TABLE."""
    return kvm.m.load(VCPU_PREV_ROOT, PREV_ROOTS * vcpu + which) - 1


def set_prev_root(kvm: Kvm, vcpu: i64, which: i64, root: i64) -> None:
    """Keep a root, or NO_TABLE, as a previous one."""
    kvm.m.store(VCPU_PREV_ROOT, PREV_ROOTS * vcpu + which, root + 1)


def reset_context(kvm: Kvm, vcpu: i64) -> None:
    """Let go of all roots of the vCPU: it goes into system management mode or back, or its paging changed.

    Locks, TLB: as ``free_roots``. Source: ``kvm_mmu_reset_context``, ``kvm_mmu_unload``.
    """
    free_roots(kvm, vcpu, ALL)


def free_obsolete_roots(kvm: Kvm, vcpu: i64) -> None:
    """Let go of those of the vCPU's roots that are invalid.

    Locks, TLB: as ``free_roots``. Source: ``kvm_mmu_free_obsolete_roots``.
    """
    mask: i64 = 0
    root = kvm.m.load(VCPU_ROOT, vcpu)
    if root != NO_TABLE:
        if kvm.m.load(ROOT_INVALID, root) != 0:
            mask = CURRENT
    bit: i64 = 2 * CURRENT
    which: i64 = 0
    while which < PREV_ROOTS:
        root = prev_root(kvm, vcpu, which)
        if root != NO_TABLE:
            if kvm.m.load(ROOT_INVALID, root) != 0:
                mask |= bit
        bit += bit
        which += 1
    free_roots(kvm, vcpu, mask)


def free_roots(kvm: Kvm, vcpu: i64, mask: i64) -> None:
    """Put those of the vCPU's roots that ``mask`` names, as far as there are: CURRENT, and above it the previous ones.

    Locks: takes mmu_lock for read, in older kernels for write, if there is one: who invalidates all roots, with the
    lock held for write, goes along their list outside of RCU. TLB: none: the next root is loaded behind a flush,
    and a previous one is out of use.
    Source: ``kvm_mmu_free_roots`` (6.12).
    """
    m = kvm.m
    if not has_roots(kvm, vcpu, mask):
        return
    lock(kvm, not kvm.behaviour.roots_put_exclusive)
    bit: i64 = 2 * CURRENT
    which: i64 = 0
    while which < PREV_ROOTS:
        root = prev_root(kvm, vcpu, which)
        if mask & bit != 0 and root != NO_TABLE:
            set_prev_root(kvm, vcpu, which, NO_TABLE)
            put_root(kvm, root)
        bit += bit
        which += 1
    root = m.load(VCPU_ROOT, vcpu)
    if mask & CURRENT != 0 and root != NO_TABLE:
        m.store(VCPU_ROOT, vcpu, NO_TABLE)
        put_root(kvm, root)
    unlock(kvm, not kvm.behaviour.roots_put_exclusive)


def has_roots(kvm: Kvm, vcpu: i64, mask: i64) -> bool:
    """Has the vCPU a root of those that ``mask`` names?"""
    root = kvm.m.load(VCPU_ROOT, vcpu)
    if mask & CURRENT != 0 and root != NO_TABLE:
        return True
    bit: i64 = 2 * CURRENT
    which: i64 = 0
    while which < PREV_ROOTS:
        root = prev_root(kvm, vcpu, which)
        if mask & bit != 0 and root != NO_TABLE:
            return True
        bit += bit
        which += 1
    return False
