"""SPTEs of MMIO: where nothing is mapped, so that user space emulates the access, and later faults say so at once.

They hold the generation of the memory slots, and are void when a slot has changed since.
Source: arch/x86/kvm/mmu/spte.c and mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.words import VCPU_ROOT
from .page_fault import EMULATE, INVALID, RETRY
from .roots import root_as_id
from .slots import UPDATE_IN_PROGRESS, generation
from .spte import is_mmio, mmio_generation
from .walk import walk_to_last

if TYPE_CHECKING:
    from .kvm import Kvm

MMIO_GENERATIONS: Final[i64] = 0x7_FFFF
"""The part of the generation that an entry of MMIO can hold (``MMIO_SPTE_GEN_MASK``)."""
NPT_WRITE_USER: Final[i64] = 6
GUARD_BITS: Final = 5
"""``SHADOW_NONPRESENT_OR_RSVD_MASK_LEN``."""


def make_mmio_spte(kvm: Kvm, gfn: i64, made: i64) -> i64:
    """The entry for a page without memory, of any access; ``made``: the generation of the slots.

    Source: ``make_mmio_spte``.
    """
    low = made & 0xFF
    high = (made & MMIO_GENERATIONS) >> 8
    fmt = kvm.fmt
    address = gfn << 12
    # The bits of the address that the guard covers are kept above it.
    spte = fmt.mmio_value | address | low << 3 | high << 52 | fmt.guard | (address & fmt.guard) << GUARD_BITS
    return spte if fmt.ept else spte | NPT_WRITE_USER


def is_mmio_spte(kvm: Kvm, spte: i64) -> bool:
    """``is_mmio_spte``; on EPT, kernels whose entries have bit 63 set test that it is not."""
    return is_mmio(spte, kvm.fmt) and not (kvm.fmt.ept and spte & kvm.empty != 0)


def check_mmio_spte(kvm: Kvm, as_id: i64, spte: i64) -> bool:
    """Was an entry of MMIO made since the slots of its address space last changed?

    Locks: SRCU. TLB: none. Source: ``check_mmio_spte``.
    """
    now = generation(kvm, as_id)
    if now & UPDATE_IN_PROGRESS != 0:
        return False
    return now & MMIO_GENERATIONS == mmio_generation(spte)


def handle_mmio_page_fault(kvm: Kvm, vcpu: i64, gfn: i64) -> i64:
    """Serve a fault at an entry that is there only to fault: EMULATE, INVALID if it is out of date, RETRY if it went.

    Locks: SRCU if there are slots; enters RCU. TLB: none. Source: ``handle_mmio_page_fault``.
    """
    m = kvm.m
    root = m.load(VCPU_ROOT, vcpu)
    m.rcu_read_lock()
    it = walk_to_last(kvm, root, gfn)
    spte = it.old_spte
    m.rcu_read_unlock()
    if not it.valid:
        return INVALID
    if not is_mmio_spte(kvm, spte):
        return RETRY
    as_id = root_as_id(kvm, root)
    if check_mmio_spte(kvm, as_id, spte):
        m.mmio_access(gfn, as_id)
        return EMULATE
    return INVALID
