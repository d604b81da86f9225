"""Yielding in the middle of a walk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .mmu_lock import lock, unlock

if TYPE_CHECKING:
    from .batch import Batch
    from .iter import TdpIter
    from .kvm import Kvm


def cond_resched(kvm: Kvm, it: TdpIter, batch: Batch, shared: bool) -> bool:
    """Give way if that is due and the walk got on since it last did; the caller must then continue its loop.

    Locks: drops and retakes mmu_lock and the RCU section. TLB: as the policy says, which pays what is owed.
    Source: ``tdp_mmu_iter_cond_resched``.
    """
    if it.next_last_level_gfn == it.yielded_gfn:
        return False
    if not kvm.m.need_resched():
        return False
    kvm.policy.leave_to_yield(kvm, batch)
    batch.flush = False
    unlock(kvm, shared)
    lock(kvm, shared)
    kvm.m.rcu_read_lock()
    it.yielded = True
    return True
