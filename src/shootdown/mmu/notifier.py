"""MMU notifiers: the host takes pages back; and the other users of the invalidation sequence.

Source: virt/kvm/kvm_main.c (``__kvm_handle_hva_range``) and arch/x86/kvm/mmu/mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import INVALIDATE_END, INVALIDATE_IN_PROGRESS, INVALIDATE_SEQ, INVALIDATE_START
from .requests import flush_remote_tlbs, flush_remote_tlbs_range
from .roots import ANY_AS
from .zap import zap_range

if TYPE_CHECKING:
    from .kvm import Kvm


def invalidate_begin(kvm: Kvm, start: i64, end: i64) -> None:
    """From here on no fault installs anything in the range.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_mmu_invalidate_begin``, ``kvm_mmu_invalidate_range_add``.
    """
    m = kvm.m
    running = m.load(INVALIDATE_IN_PROGRESS, 0)
    m.store(INVALIDATE_IN_PROGRESS, 0, running + 1)
    if running != 0:
        # Ranges of invalidations that overlap in time become one that holds all of them.
        first = m.load(INVALIDATE_START, 0)
        last = m.load(INVALIDATE_END, 0)
        start = min(start, first)
        end = max(end, last)
    m.store(INVALIDATE_START, 0, start)
    m.store(INVALIDATE_END, 0, end)


def invalidate_end(kvm: Kvm) -> None:
    """Faults may install again, if they looked the host's page up after this.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_mmu_invalidate_end``.
    """
    m = kvm.m
    # Bumped first, so that whoever sees no invalidation running sees the sequence changed.
    m.fetch_add(INVALIDATE_SEQ, 0, 1)
    running = m.load(INVALIDATE_IN_PROGRESS, 0)
    m.store(INVALIDATE_IN_PROGRESS, 0, running - 1)


def invalidate_range_start(kvm: Kvm, start: i64, end: i64, may_block: bool) -> None:
    """When this returns, nothing of the VM reaches the pages that the host maps there, and nothing will before the end.

    Locks: takes mmu_lock for write. TLB: flushes before it drops the lock, if something was zapped.
    Source: ``kvm_mmu_notifier_invalidate_range_start``, ``kvm_unmap_gfn_range``.
    """
    kvm.m.write_lock()
    invalidate_begin(kvm, start, end)
    # Invalid roots as well: they are still being zapped, and their pages must not be touched after this.
    flush = zap_range(kvm, 0, start, end, False, may_block)
    if flush:
        flush_remote_tlbs(kvm)
    kvm.m.write_unlock()


def invalidate_range_end(kvm: Kvm) -> None:
    """The host's page tables are as they shall be.

    Locks: takes mmu_lock for write. TLB: none. Source: ``kvm_mmu_notifier_invalidate_range_end``.
    """
    kvm.m.write_lock()
    invalidate_end(kvm)
    kvm.m.write_unlock()


def kvm_zap_gfn_range(kvm: Kvm, start: i64, end: i64) -> None:
    """Have a range mapped anew, because its memory type or what lies behind it changed.

    Locks: takes mmu_lock for write. TLB: flushes before it drops the lock, if something was zapped.
    Source: ``kvm_zap_gfn_range``.
    """
    kvm.m.write_lock()
    invalidate_begin(kvm, start, end)
    flush = zap_range(kvm, ANY_AS, start, end, not kvm.behaviour.flush_invalid_roots, True)
    if flush:
        flush_remote_tlbs_range(kvm, start, end - start)
    invalidate_end(kvm)
    kvm.m.write_unlock()
