"""``PageFault``: what is known of one fault while it is served; and what may become of it.

Source: arch/x86/kvm/mmu/mmu_internal.h, ``struct kvm_page_fault`` and ``RET_PF_*``; numbers differ between kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from .roots import root_as_id
from .slots import WHOLE_MEMORY, find_slot, slot_flags

if TYPE_CHECKING:
    from .kvm import Kvm

CONTINUE: Final = 0
"""Nothing yet."""
RETRY: Final = 1
"""Somebody came between: let the guest try again."""
EMULATE: Final = 2
"""The access must be emulated: it is to MMIO, or may not be written."""
INVALID: Final = 3
"""This way of serving it does not apply: take the next one."""
FIXED: Final = 4
"""Mapped: the guest goes on."""
SPURIOUS: Final = 5
"""Mapped already: the guest goes on."""
WRITE_PROTECTED: Final = 6
"""A write to a page that must stay write-protected; later kernels tell it from EMULATE."""

NO_MEMORY: Final = -2
"""``HOST_PFN`` of a page that is MMIO though it is in a slot; also of a page in no slot (``KVM_PFN_NOSLOT``)."""


@mypyc_attr(acyclic=True, free_list_len=1)
class PageFault:
    """Local to one fault.

    gfn, code    where, and what the guest tried (access.py)
    prefetch     nobody tried: the page is mapped ahead of its fault
    root         of the vCPU
    slot, flags  of the memory there (slots.py), as they were when the fault began
    pfn          what the host maps there, NO_MEMORY for MMIO
    writable     the host may write it
    """

    def __init__(self, gfn: i64, code: i64, prefetch: bool, root: i64) -> None:
        self.gfn = gfn
        self.code = code
        self.prefetch = prefetch
        self.root = root
        self.slot: i64 = WHOLE_MEMORY
        self.flags: i64 = 0
        self.pfn: i64 = NO_MEMORY
        self.writable = False


def new_fault(kvm: Kvm, root: i64, gfn: i64, code: i64, prefetch: bool) -> PageFault:
    """A fault at ``gfn`` on a root. Locks: SRCU. TLB: none. Source: ``kvm_mmu_do_page_fault``."""
    fault = PageFault(gfn, code, prefetch, root)
    if kvm.slots != 0:
        as_id = root_as_id(kvm, root)
        slot = find_slot(kvm, as_id, gfn)
        fault.slot = slot
        flags = slot_flags(kvm, slot)
        fault.flags = flags
    return fault
