"""Pages whose writes somebody wants to see, as who shadows a guest's page tables or display does.

Source: arch/x86/kvm/mmu/page_track.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import WRITE_TRACKED
from .levels import LEVEL_HUGE_MAX, tracked_at
from .requests import flush_remote_tlbs
from .slots import slot_as_id
from .write_protect import slot_gfn_write_protect

if TYPE_CHECKING:
    from .kvm import Kvm


def write_track_add_gfn(kvm: Kvm, slot: i64, gfn: i64) -> None:
    """Have all writes to a page of a slot fault, until its users have all gone.

    Locks: SRCU; takes mmu_lock for write. TLB: flushes before it drops the lock, if the guest could write.
    Source: ``kvm_write_track_add_gfn``, ``kvm_slot_page_track_add_page`` (6.1).
    """
    kvm.m.write_lock()
    update_gfn_write_track(kvm, slot, gfn, 1)
    changed = slot_gfn_write_protect(kvm, slot, gfn, 1)
    if changed:
        flush_remote_tlbs(kvm)
    kvm.m.write_unlock()


def write_track_remove_gfn(kvm: Kvm, slot: i64, gfn: i64) -> None:
    """One user of a page less; the next write fault after the last makes the page writable.

    Locks: takes mmu_lock for write. TLB: none. Source: ``kvm_write_track_remove_gfn``.
    """
    kvm.m.write_lock()
    update_gfn_write_track(kvm, slot, gfn, -1)
    kvm.m.write_unlock()


def update_gfn_write_track(kvm: Kvm, slot: i64, gfn: i64, number: i64) -> None:
    """Count users of a page, and of the huge pages around it, none of which may be mapped in the slot.

    Locks: mmu_lock for write. TLB: none. Source: ``update_gfn_write_track``, ``update_gfn_disallow_lpage_count``.
    """
    kvm.m.fetch_add(WRITE_TRACKED, tracked_at(0, 1, gfn), number)
    as_id = slot_as_id(kvm, slot)
    level: i64 = 2
    while level <= LEVEL_HUGE_MAX:
        kvm.m.fetch_add(WRITE_TRACKED, tracked_at(as_id, level, kvm.round(gfn, level)), number)
        level += 1
