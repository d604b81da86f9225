"""Looking at page tables without a lock.

Source: arch/x86/kvm/mmu/tdp_mmu.c, ``kvm_tdp_mmu_get_walk``, ``kvm_tdp_mmu_fast_pf_get_last_sptep``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.vecs import append, vec
from mypy_extensions import i64

from ..machine.words import NO_TABLE, VCPU_ROOT
from .iter import TdpIter
from .roots import reaches, root_level

if TYPE_CHECKING:
    from .kvm import Kvm


def walk_to_last(kvm: Kvm, root: i64, gfn: i64) -> TdpIter:
    """A walk that stands on the lowest entry there is for ``gfn``; not ``valid`` if the root does not reach so far.

    Locks: RCU. TLB: none. Source: ``kvm_tdp_mmu_fast_pf_get_last_sptep``.
    """
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, gfn)
    if not reaches(kvm, top, gfn):
        it.valid = False
        return it
    while it.try_step_down():
        pass
    return it


def get_walk(kvm: Kvm, vcpu: i64, gfn: i64) -> vec[i64]:
    """The entries for ``gfn`` on a vCPU's root, from the root's down to the lowest there is; none without a root.

    Locks: none; enters RCU. TLB: none. Source: ``kvm_tdp_mmu_get_walk``.
    """
    m = kvm.m
    found = vec[i64]()
    root = m.load(VCPU_ROOT, vcpu)
    if root == NO_TABLE:
        return found
    m.rcu_read_lock()
    top = root_level(kvm, root)
    if reaches(kvm, top, gfn):
        it = TdpIter(kvm, root, top, 1, gfn)
        found = append(found, it.old_spte)
        while it.try_step_down():
            found = append(found, it.old_spte)
    m.rcu_read_unlock()
    return found
