"""A vCPU's thread: enter the guest, serve its fault, enter again.

Source: arch/x86/kvm/x86.c, ``vcpu_enter_guest``; vmx/vmx.c, ``vmx_vcpu_load_vmcs``.
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
    TLB_FLUSH,
    UPDATE_CPU_DIRTY_LOGGING,
    VCPU_CPU,
    VCPU_MODE,
    VCPU_REQUESTS,
    VCPU_ROOT,
)
from .access import NO_FAULT, fault_code, fault_gfn
from .dirty_ring import must_exit_for_ring
from .fault import page_fault
from .vcpu_roots import free_obsolete_roots, mmu_load

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

    A vCPU without a root gets one of ``role``; one that has another root is switched before, by ``new_pgd`` or
    ``reset_context``. It stays out of the guest if there is no memory for a root, or a dirty ring to be read.

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
        free_obsolete_roots(kvm, vcpu)
    if requests & TLB_FLUSH != 0:
        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)
        m.flush_tlb(vcpu)
    if requests & UPDATE_CPU_DIRTY_LOGGING != 0:
        # The CPU logs or not, as the machine has it: who asked only waits until the guest has stopped.
        m.fetch_clear(VCPU_REQUESTS, vcpu, UPDATE_CPU_DIRTY_LOGGING)


def vcpu_load(kvm: Kvm, vcpu: i64, cpu: i64) -> None:
    """A vCPU's thread goes on, perhaps on another CPU, which may have cached what has been flushed here since.

    Locks: none held. TLB: requests a flush where the CPU is another one. Source: ``vmx_vcpu_load_vmcs``; on AMD
    ``svm_vcpu_load`` has the vCPU take a new address space identifier, which does the same.
    """
    m = kvm.m
    if m.load(VCPU_CPU, vcpu) == cpu:
        return
    m.store(VCPU_CPU, vcpu, cpu)
    m.fetch_or(VCPU_REQUESTS, vcpu, TLB_FLUSH)
