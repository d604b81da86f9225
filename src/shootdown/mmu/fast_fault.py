"""A fault served without mmu_lock: only rights come back to an entry, which may be in an invalid root or cut off.

Source: arch/x86/kvm/mmu/mmu.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.words import FAST_FAULTS, LOG_DIRTY_PAGES, VCPU_ROOT
from .access import PERMISSION, RESERVED, WRITE, is_allowed
from .mark_dirty import mark_page_dirty
from .page_fault import FIXED, INVALID, SPURIOUS, PageFault, new_fault
from .spte import WRITABLE, is_access_track, is_leaf, is_mmu_writable, is_writable, restore_acc_track
from .walk import walk_to_last

if TYPE_CHECKING:
    from .kvm import Kvm

TRIES: Final = 5


def fast_page_fault(kvm: Kvm, vcpu: i64, gfn: i64, code: i64) -> i64:
    """Serve a vCPU's fault without mmu_lock, if that can be; FIXED, SPURIOUS, or INVALID: it takes the lock.

    Locks: SRCU if there are slots; enters RCU. TLB: none: rights only grow. Source: ``fast_page_fault``.
    """
    if not can_be_fast(kvm, code):
        return INVALID
    root = kvm.m.load(VCPU_ROOT, vcpu)
    fault = new_fault(kvm, root, gfn, code, False)
    return fix_fast(kvm, vcpu, fault)


def can_be_fast(kvm: Kvm, code: i64) -> bool:
    """May rights be all that the entry lacks? Source: ``page_fault_can_be_fast``."""
    if code & RESERVED != 0:
        return False
    if code & PERMISSION == 0:
        # An access-tracked entry looks as if nothing were there.
        return not kvm.fmt.ad
    return code & WRITE != 0


def fix_fast(kvm: Kvm, vcpu: i64, fault: PageFault) -> i64:
    """Give the last entry the rights that it may have, by compare-and-exchange, in five tries.

    mmu_lock, invalidations and whether the root is valid do not matter: the exchange succeeds on the exact entry only,
    which keeps its page, and whoever removes or protects it exchanges it as well. The page is marked dirty after that,
    since nothing keeps a log from being harvested and the page from being protected again before.

    Locks: SRCU if there are slots; enters RCU. TLB: none. Source: ``fast_page_fault``, ``fast_pf_fix_direct_spte``.
    """
    m = kvm.m
    result: i64 = INVALID
    tries: i64 = 0
    m.rcu_read_lock()
    while tries < TRIES:
        it = walk_to_last(kvm, fault.root, fault.gfn)
        old = it.old_spte
        if not it.valid or not is_leaf(old, it.level):
            break
        if is_allowed(old, fault.code, kvm.fmt):
            result = SPURIOUS
            break
        new = better_spte(kvm, old, it.level, fault)
        if new == old or not is_allowed(new, fault.code, kvm.fmt):
            break
        found = m.cmpxchg(it.sptep, old, new)
        if found == old:
            if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(new) and not is_writable(old):
                mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)
            result = FIXED
            break
        tries += 1
    m.rcu_read_unlock()
    if result != INVALID:
        m.count(FAST_FAULTS, 0, 1)
    return result


def better_spte(kvm: Kvm, old: i64, level: i64, fault: PageFault) -> i64:
    """A leaf with the rights that it may have; unchanged if a huge page of a logged slot would become writable.

    Source: ``fast_page_fault``.
    """
    new = old
    if is_access_track(old):
        new = restore_acc_track(old) | kvm.fmt.accessed
    if fault.code & WRITE != 0 and is_mmu_writable(old, kvm.fmt):
        if level > 1 and fault.flags & LOG_DIRTY_PAGES != 0:
            return old
        new |= WRITABLE
    return new
