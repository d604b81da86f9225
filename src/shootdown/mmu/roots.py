"""Roots: made by vCPUs, shared by all vCPUs of the same role, invalidated all at once, freed with the last reference.

A root's role: its address space (0, or 1 for system management mode), its level, whether it is for a nested guest.
Source: arch/x86/kvm/mmu/tdp_mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import (
    NO_TABLE,
    ROLE_LEVEL_SHIFT,
    ROLE_SMM,
    ROOT_COUNT,
    ROOT_INVALID,
    ROOT_SCHEDULED,
    ROOTS,
    SP_ROLE,
)

if TYPE_CHECKING:
    from .kvm import Kvm

ANY_AS: Final = -1


def full_role(kvm: Kvm, role: i64) -> i64:
    """A role with a level: the VM's, unless it says another."""
    return role if role >> ROLE_LEVEL_SHIFT != 0 else role | kvm.root_level << ROLE_LEVEL_SHIFT


def root_level(kvm: Kvm, root: i64) -> i64:
    """Level of the entries in a root."""
    return kvm.m.load(SP_ROLE, root) >> ROLE_LEVEL_SHIFT


def root_as_id(kvm: Kvm, root: i64) -> i64:
    """Address space of a root."""
    return kvm.m.load(SP_ROLE, root) & ROLE_SMM


def reaches(kvm: Kvm, top: i64, gfn: i64) -> bool:
    """Does a root whose entries are of level ``top`` have one for ``gfn``?"""
    return 0 <= gfn < kvm.pages(top + 1)


def find_root(kvm: Kvm, role: i64) -> i64:
    """Take a reference to the valid root of a role, or NO_TABLE.

    Locks: mmu_lock for read, so that no root becomes invalid, or the pages lock as well. TLB: none.
    Source: the loops in ``kvm_tdp_mmu_alloc_root``.
    """
    m = kvm.m
    root = m.list_next(ROOTS, NO_TABLE)
    while root != NO_TABLE:
        if m.load(SP_ROLE, root) == role and m.load(ROOT_INVALID, root) == 0 and m.inc_not_zero(ROOT_COUNT, root):
            return root
        root = m.list_next(ROOTS, root)
    return NO_TABLE


def get_root(kvm: Kvm, role: i64) -> i64:
    """A reference to the root of a role, made if there is none; NO_TABLE if there is no memory for it.

    Locks: takes mmu_lock for read, and the pages lock. TLB: none. Source: ``kvm_tdp_mmu_alloc_root`` (6.12).
    """
    m = kvm.m
    role = full_role(kvm, role)
    m.read_lock()
    m.rcu_read_lock()
    root = find_root(kvm, role)
    m.rcu_read_unlock()
    if root == NO_TABLE:
        m.pages_lock()
        root = find_root(kvm, role)
        if root == NO_TABLE:
            root = m.alloc_table(kvm.empty)
            if root != NO_TABLE:
                m.store(SP_ROLE, root, role)
                # One reference is the vCPU's, the other the MMU's, which it keeps until it has zapped the root.
                m.store(ROOT_COUNT, root, 2)
                m.list_add(ROOTS, root)
        m.pages_unlock()
    m.read_unlock()
    return root


def put_root(kvm: Kvm, root: i64) -> None:
    """Drop a reference to a root, and free it with the last.

    Locks: mmu_lock in either mode; takes the pages lock. TLB: none: a root in use has a reference.
    Source: ``kvm_tdp_mmu_put_root``.
    """
    m = kvm.m
    before = m.fetch_add(ROOT_COUNT, root, -1)
    if before != 1:
        return
    if m.load(ROOT_INVALID, root) == 0:
        raise Bug("the last reference to a valid root was put")
    m.pages_lock()
    m.list_del(ROOTS, root)
    m.pages_unlock()
    m.call_rcu(root)


def next_root(kvm: Kvm, root: i64, as_id: i64, only_valid: bool) -> i64:
    """The root after ``root`` (NO_TABLE: the first) with a reference of its own; the one to ``root`` is put.

    ``as_id`` may be ANY_AS; roots of another get a reference too and are passed over. A walk over roots that yields
    needs the references, so that it finds its place again.
    Locks: mmu_lock; enters an RCU section of its own for each. TLB: none. Source: ``tdp_mmu_next_root``,
    ``__for_each_tdp_mmu_root_yield_safe``.
    """
    m = kvm.m
    while True:
        m.rcu_read_lock()
        found = m.list_next(ROOTS, root)
        while found != NO_TABLE:
            if is_wanted(kvm, found, ANY_AS, only_valid) and m.inc_not_zero(ROOT_COUNT, found):
                break
            found = m.list_next(ROOTS, found)
        m.rcu_read_unlock()
        if root != NO_TABLE:
            put_root(kvm, root)
        if found == NO_TABLE or as_id == ANY_AS:
            return found
        if root_as_id(kvm, found) == as_id:
            return found
        root = found


def root_after(kvm: Kvm, root: i64, as_id: i64, only_valid: bool) -> i64:
    """The same for a walk that never yields, which needs no references.

    Locks: mmu_lock for write, so that no root comes or goes. TLB: none. Source: ``__for_each_tdp_mmu_root``.
    """
    found = kvm.m.list_next(ROOTS, root)
    while found != NO_TABLE:
        if is_wanted(kvm, found, as_id, only_valid):
            return found
        found = kvm.m.list_next(ROOTS, found)
    return found


def is_wanted(kvm: Kvm, root: i64, as_id: i64, only_valid: bool) -> bool:
    """Does a walk over roots visit this one?"""
    if as_id != ANY_AS and root_as_id(kvm, root) != as_id:
        return False
    return not only_valid or kvm.m.load(ROOT_INVALID, root) == 0


def invalidate_all_roots(kvm: Kvm) -> None:
    """Make all roots unusable; whoever zaps them puts the MMU's references.

    Locks: mmu_lock for write. TLB: none; vCPUs are told by a request in the same critical section.
    Source: ``kvm_tdp_mmu_invalidate_all_roots``.
    """
    m = kvm.m
    root = m.list_next(ROOTS, NO_TABLE)
    while root != NO_TABLE:
        if m.load(ROOT_INVALID, root) == 0:
            m.store(ROOT_SCHEDULED, root, 1)
            m.store(ROOT_INVALID, root, 1)
        root = m.list_next(ROOTS, root)
