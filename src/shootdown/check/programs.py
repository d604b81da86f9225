"""What the tasks of a litmus test run: vCPU threads and tasks of the host, with the promises that they rely on.

Shared accesses are whole statements and loops count by hand, so that frames can be compared (frames.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..machine import words


def vcpu(lib: Any, kvm: Any, number: int, role: int) -> None:
    """One round of a vCPU's thread: the guest touches any of its gfns, and its fault is served."""
    lib.vcpu.vcpu_run(kvm, number, role)


def unmap(lib: Any, kvm: Any, start: int, end: int, pfns: tuple[int, ...], refill: int, may_block: bool) -> None:
    """The host takes the pages of a range back, and gives ``refill`` frames further on in their place (-1: none)."""
    lib.notifier.invalidate_range_start(kvm, start, end, may_block)
    i = 0
    while i < len(pfns):
        kvm.m.revoke(pfns[i])
        i += 1
    gfn = start
    while gfn < end:
        kvm.m.store(words.HOST_PFN, gfn, -1 if refill < 0 else pfns[gfn - start] + refill)
        gfn += 1
    lib.notifier.invalidate_range_end(kvm, start, end)


def zap_range(lib: Any, kvm: Any, start: int, end: int, promise: int) -> None:
    """A range is to be mapped anew, for instance with another memory type: what was cached of it must be gone."""
    lib.notifier.kvm_zap_gfn_range(kvm, start, end)
    kvm.m.forget(promise)


def zap_all_fast(lib: Any, kvm: Any, promise: int) -> None:
    """A memory slot is deleted: nothing that was cached before may be used after."""
    lib.zap.zap_all_fast(kvm)
    kvm.m.forget(promise)


def collapse(lib: Any, kvm: Any, start: int, end: int) -> None:
    """Dirty logging of a slot was switched off: huge pages may come back."""
    lib.huge_pages.disable_dirty_logging(kvm, 0, start, end)


def recover_nx(lib: Any, kvm: Any, tables: int) -> None:
    """The worker that gives regions another chance to be mapped by a huge page that must not be executed."""
    lib.huge_pages.recover_nx_huge_pages(kvm, tables)


def prefault(lib: Any, kvm: Any, number: int, gfn: int, code: int) -> None:
    """A page is mapped ahead of its fault, as by KVM_PRE_FAULT_MEMORY: the fault of one more vCPU on the same root."""
    lib.fault.page_fault(kvm, number, gfn, code)


HOST: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "unmap": (unmap, ("start", "end", "refill", "may_block")),
    "zap_range": (zap_range, ("start", "end")),
    "zap_all_fast": (zap_all_fast, ()),
    "collapse": (collapse, ("start", "end")),
    "recover_nx": (recover_nx, ("tables",)),
    "prefault": (prefault, ("vcpu", "gfn", "execute")),
}
"""Tasks of the host by the name that a litmus file gives, and the keys that they take there."""
