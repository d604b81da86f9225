"""mmu_lock in the mode that a caller says: which one an operation takes differs between kernel versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .kvm import Kvm


def lock(kvm: Kvm, shared: bool) -> None:
    """Locks: takes mmu_lock, for read if ``shared`` and else for write. TLB: none."""
    if shared:
        kvm.m.read_lock()
    else:
        kvm.m.write_lock()


def unlock(kvm: Kvm, shared: bool) -> None:
    """Locks: drops mmu_lock, held as ``lock`` takes it. TLB: none."""
    if shared:
        kvm.m.read_unlock()
    else:
        kvm.m.write_unlock()
