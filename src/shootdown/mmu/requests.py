"""Requests to vCPUs, the remote TLB flush above all.

Source: virt/kvm/kvm_main.c, ``kvm_flush_remote_tlbs`` and ``kvm_make_all_cpus_request``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.vecs import append, vec
from mypy_extensions import i64

from ..machine.words import (
    EXITING_GUEST_MODE,
    FLUSH_REQUESTS,
    FLUSHES,
    IN_GUEST_MODE,
    OUTSIDE_GUEST_MODE,
    TLB_FLUSH,
    VCPU_MODE,
    VCPU_REQUESTS,
)

if TYPE_CHECKING:
    from .kvm import Kvm


def make_all_cpus_request(kvm: Kvm, request: i64) -> bool:
    """Ask all vCPUs for something before they run guest code again, and wait until those who run it stop.

    When it returns, every vCPU either has the request pending or has served it; was one interrupted?
    TLB: none. Source: ``kvm_make_all_cpus_request`` for requests that wait.
    """
    m = kvm.m
    kicked = vec[i64]()
    vcpu: i64 = 0
    while vcpu < kvm.vcpus:
        m.fetch_or(VCPU_REQUESTS, vcpu, request)
        mode = m.exchange(VCPU_MODE, vcpu, IN_GUEST_MODE, EXITING_GUEST_MODE)
        if mode != OUTSIDE_GUEST_MODE:
            kicked = append(kicked, vcpu)
        vcpu += 1
    if len(kicked) == 0:
        return False
    i = 0
    while i < len(kicked):
        m.send_ipi(kicked[i])
        i += 1
    i = 0
    while i < len(kicked):
        m.wait_ipi(kicked[i])
        i += 1
    return True


def flush_remote_tlbs(kvm: Kvm) -> None:
    """Have every vCPU drop all that it cached before it runs guest code again.

    TLB: whole, done on return. Source: ``kvm_flush_remote_tlbs``.
    """
    kvm.m.flush_requested()
    kvm.m.count(FLUSH_REQUESTS, 0, 1)
    interrupted = make_all_cpus_request(kvm, TLB_FLUSH)
    if interrupted:
        kvm.m.count(FLUSHES, 0, 1)


def flush_remote_tlbs_range(kvm: Kvm, gfn: i64, pages: i64) -> None:
    """Flush a range: where the machine cannot, the whole.

    TLB: the range at least, done on return. Source: ``kvm_flush_remote_tlbs_range`` (6.12), ``.._with_address`` (6.1),
    whose hook is Hyper-V's hypercall: who flushed by that counts nothing.
    """
    done = kvm.m.flush_range(gfn, pages)
    if done:
        return
    flush_remote_tlbs(kvm)


def kick_all_cpus(kvm: Kvm) -> None:
    """Have vCPUs that run guest code leave it for a moment, and wait for none of them.

    TLB: none. Source: ``kvm_vcpu_kick`` in ``kvm_arch_sync_dirty_log``.
    """
    m = kvm.m
    vcpu: i64 = 0
    while vcpu < kvm.vcpus:
        mode = m.exchange(VCPU_MODE, vcpu, IN_GUEST_MODE, EXITING_GUEST_MODE)
        if mode == IN_GUEST_MODE:
            m.send_ipi(vcpu)
        vcpu += 1
