"""A vCPU's thread: enter the guest, serve its fault, enter again.

Source: arch/x86/kvm/x86.c, ``vcpu_enter_guest``; mmu/mmu.c, ``kvm_mmu_load``, ``kvm_mmu_free_obsolete_roots``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import (
    EXITING_GUEST_MODE,
    FREE_OBSOLETE_ROOTS,
    IN_GUEST_MODE,
    NO_TABLE,
    OUTSIDE_GUEST_MODE,
    ROOT_INVALID,
    TLB_FLUSH,
    UPDATE_CPU_DIRTY_LOGGING,
    VCPU_MODE,
    VCPU_REQUESTS,
    VCPU_ROOT,
)
from .access import NO_FAULT, fault_code, fault_gfn
from .dirty_ring import must_exit_for_ring
from .fault import page_fault
from .roots import get_root, put_root

if TYPE_CHECKING:
    from .kvm import Kvm


def vcpu_run(kvm: Kvm, vcpu: i64, role: i64) -> None:
    """Run the guest once on a root of ``role``, and serve the fault with which it may have left."""
    fault = vcpu_enter_guest(kvm, vcpu, role)
    if fault != NO_FAULT:
        page_fault(kvm, vcpu, fault_gfn(fault), fault_code(fault))


def serve_faults(kvm: Kvm, vcpu: i64, role: i64) -> i64:
    """Run the guest, and serve its faults, until it leaves without one; how many there were.

    Locks: none held. TLB: as ``vcpu_enter_guest``. Source: ``vcpu_run``.
    """
    served: i64 = 0
    while True:
        fault = vcpu_enter_guest(kvm, vcpu, role)
        if fault == NO_FAULT:
            return served
        page_fault(kvm, vcpu, fault_gfn(fault), fault_code(fault))
        served += 1


def vcpu_enter_guest(kvm: Kvm, vcpu: i64, role: i64) -> i64:
    """Serve requests and run the guest; its fault (access.py), or NO_FAULT.

    Locks: none held. TLB: serves the requests that others wait for. Source: ``vcpu_enter_guest``.
    """
    m = kvm.m
    requests = m.load(VCPU_REQUESTS, vcpu)
    if must_exit_for_ring(kvm, vcpu, requests):
        return NO_FAULT
    if requests != 0:
        serve_requests(kvm, vcpu, requests)
    if m.load(VCPU_ROOT, vcpu) == NO_TABLE:
        if not mmu_load(kvm, vcpu, role):
            return NO_FAULT
    m.irq_disable(vcpu)
    m.store(VCPU_MODE, vcpu, IN_GUEST_MODE)
    # A request that was made before the mode showed is seen here; one made later sees the mode and interrupts.
    fault: i64 = NO_FAULT
    if not must_exit(kvm, vcpu):
        fault = m.enter_guest(vcpu)
    m.store(VCPU_MODE, vcpu, OUTSIDE_GUEST_MODE)
    m.irq_enable(vcpu)
    return fault


def must_exit(kvm: Kvm, vcpu: i64) -> bool:
    """Did somebody want the vCPU's attention since it served its requests? Source: ``kvm_vcpu_exit_request``."""
    m = kvm.m
    if m.load(VCPU_MODE, vcpu) == EXITING_GUEST_MODE:
        return True
    return m.load(VCPU_REQUESTS, vcpu) != 0


def serve_requests(kvm: Kvm, vcpu: i64, requests: i64) -> None:
    """Do what others asked for, in the kernel's order. TLB: flushes if asked. Source: ``vcpu_enter_guest``."""
    m = kvm.m
    if requests & FREE_OBSOLETE_ROOTS != 0:
        m.fetch_clear(VCPU_REQUESTS, vcpu, FREE_OBSOLETE_ROOTS)
        free_obsolete_root(kvm, vcpu)
    if requests & TLB_FLUSH != 0:
        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)
        m.flush_tlb(vcpu)
    if requests & UPDATE_CPU_DIRTY_LOGGING != 0:
        m.fetch_clear(VCPU_REQUESTS, vcpu, UPDATE_CPU_DIRTY_LOGGING)


def free_obsolete_root(kvm: Kvm, vcpu: i64) -> None:
    """Let go of the vCPU's root if it is invalid. Locks: none. TLB: none: the next root is loaded behind a flush.

    Source: ``kvm_mmu_free_obsolete_roots``.
    """
    m = kvm.m
    root = m.load(VCPU_ROOT, vcpu)
    if root == NO_TABLE:
        return
    if m.load(ROOT_INVALID, root) == 0:
        return
    m.store(VCPU_ROOT, vcpu, NO_TABLE)
    put_root(kvm, root)


def mmu_load(kvm: Kvm, vcpu: i64, role: i64) -> bool:
    """Give the vCPU a root; False if there is no memory for one.

    Locks: see ``get_root``. TLB: flushes locally, since the root's page may have been a root before.
    Source: ``kvm_mmu_load``.
    """
    root = get_root(kvm, role)
    if root == NO_TABLE:
        return False
    kvm.m.store(VCPU_ROOT, vcpu, root)
    kvm.m.flush_tlb(vcpu)
    return True
