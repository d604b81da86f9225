"""A page replaced by the host in one step, without its being unmapped first (6.1 and before).

Source: arch/x86/kvm/mmu/tdp_mmu.c (``set_spte_gfn``), spte.c (``kvm_mmu_changed_pte_notifier_make_spte``), both of 6.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import NO_TABLE
from .batch import Batch
from .change import set_spte
from .iter import TdpIter
from .roots import root_after, root_level
from .spte import PRESENT, WRITABLE, mark_for_access_track

if TYPE_CHECKING:
    from .kvm import Kvm


def set_spte_gfn(kvm: Kvm, as_id: i64, gfn: i64, pfn: i64, writable: bool) -> bool:
    """Have the 4K leaf of ``gfn`` map ``pfn``, read-only; of a writable page it goes, and a fault maps it. Changed?

    Locks: mmu_lock for write; enters RCU. TLB: the caller flushes before it drops the lock, if the result says so.
    Source: ``kvm_tdp_mmu_set_spte_gfn``.
    """
    kvm.m.assert_locked(False)
    changed = False
    root = root_after(kvm, NO_TABLE, as_id, False)
    while root != NO_TABLE:
        if set_spte_root(kvm, root, gfn, pfn, writable):
            changed = True
        root = root_after(kvm, root, as_id, False)
    return changed


def set_spte_root(kvm: Kvm, root: i64, gfn: i64, pfn: i64, writable: bool) -> bool:
    """The same in one root. Locks, TLB: as ``set_spte_gfn``. Source: ``set_spte_gfn``."""
    batch = Batch()
    changed = False
    kvm.m.rcu_read_lock()
    top = root_level(kvm, root)
    it = TdpIter(kvm, root, top, 1, gfn)
    while it.valid and it.gfn <= gfn:
        if it.level == 1 and it.old_spte & PRESENT != 0:
            old = it.old_spte
            # Empty first: an entry must not go from one page to another.
            set_spte(kvm, batch, it.sptep, it.gfn, it.level, old, kvm.empty)
            if not writable:
                new = changed_pte_spte(kvm, old, pfn)
                set_spte(kvm, batch, it.sptep, it.gfn, it.level, kvm.empty, new)
            changed = True
        it.next()
    kvm.m.rcu_read_unlock()
    return changed


def changed_pte_spte(kvm: Kvm, old: i64, pfn: i64) -> i64:
    """The leaf ``old``, of another page that the host may not write, and not used yet.

    Source: ``kvm_mmu_changed_pte_notifier_make_spte``.
    """
    spte = (old & ~kvm.frame) | pfn << 12
    spte &= ~(WRITABLE | kvm.fmt.host_writable | kvm.fmt.mmu_writable)
    return mark_for_access_track(spte, kvm.fmt)
