"""Changing an SPTE, and what follows from the change: statistics, dirty pages, and the table below if it was cut off.

Source: arch/x86/kvm/mmu/tdp_mmu.c, 6.1 and 6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import ACCESSED_PFNS, DIRTY_PFNS, PAGES, TABLES
from .batch import Batch
from .requests import flush_remote_tlbs_range
from .spte import PRESENT, WRITABLE, ad_enabled, is_access_track, is_accessed, is_dirty, is_last, is_mmio
from .table_lists import unlist

if TYPE_CHECKING:
    from .iter import TdpIter
    from .kvm import Kvm


def handle_changed_spte(
    kvm: Kvm, batch: Batch, gfn: i64, old: i64, new: i64, level: i64, shared: bool, aging: bool = False
) -> None:
    """Account for a change that was made. Raises Bug where the kernel has BUG or WARN.

    ``aging``: the caller has asked whether the page was accessed, so the host is not told so. 6.1 also marks a page
    dirty that a setter under mmu_lock held for write makes writable; no operation does that.

    Locks: mmu_lock, for read if ``shared``; RCU if a table may be cut off. TLB: none of its own.
    Source: ``handle_changed_spte``; ``__handle_changed_spte``, ``handle_changed_spte_acc_track`` (6.1).
    """
    if old == new:
        return
    kvm.m.spte_changed(gfn, level, old, new)
    was_present = old & PRESENT != 0
    is_present = new & PRESENT != 0
    was_leaf = was_present and is_last(old, level)
    is_leaf = is_present and is_last(new, level)
    pfn_changed = (old ^ new) & kvm.frame != 0
    if was_leaf and is_leaf and pfn_changed:
        raise Bug("a present leaf changed its pfn")
    if is_leaf:
        check_writable(kvm, new)
    if not was_present and not is_present:
        if new != kvm.frozen and old != kvm.frozen and not is_mmio(old, kvm.fmt) and not is_mmio(new, kvm.fmt):
            raise Bug("an entry changed from one non-present value to another")
        return
    if was_leaf != is_leaf:
        kvm.m.count(PAGES, level, 1 if is_leaf else -1)
    counts = was_leaf and kvm.behaviour.counts_pfns
    if counts and is_dirty(old, kvm.fmt) and (not is_leaf or pfn_changed or not is_dirty(new, kvm.fmt)):
        kvm.m.count(DIRTY_PFNS, 0, 1)
    if not was_leaf and was_present and (is_leaf or not is_present or pfn_changed):
        handle_removed_pt(kvm, batch, kvm.pfn(old), gfn, level - 1, shared)
    if counts and not aging and is_accessed(old, kvm.fmt):
        if not is_leaf or pfn_changed or not is_accessed(new, kvm.fmt):
            kvm.m.count(ACCESSED_PFNS, 0, 1)


def check_writable(kvm: Kvm, leaf: i64) -> None:
    """A present leaf may be writable only where the MMU allows it, and that only where the host does.

    Source: ``check_spte_writable_invariants``.
    """
    if leaf & kvm.fmt.mmu_writable != 0:
        if leaf & kvm.fmt.host_writable == 0:
            raise Bug("a leaf may become writable, but the host's page is not")
    elif leaf & WRITABLE != 0:
        raise Bug("a leaf is writable, but the MMU forbids it")


def handle_removed_pt(kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
    """Mark all entries of a table that was cut off, remove the tables below it, and let the policy have it.

    A task that still walks in it must not take an entry for a mapping, and nobody may link anything below it; a CPU
    may even set dirty bits in it through what it cached, which the exchange collects.

    Locks: as ``handle_changed_spte``. TLB: as the policy says. Source: ``handle_removed_pt``.
    """
    m = kvm.m
    m.count(TABLES, 0, -1)
    unlist(kvm, table, shared)
    sptep = table << kvm.bits
    end = sptep + kvm.entries
    first, pages = gfn, kvm.pages(level)
    while sptep < end:
        if shared:
            old = take_over(kvm, sptep)
            handle_changed_spte(kvm, batch, gfn, old, kvm.frozen, level, shared)
        else:
            old = m.read(sptep)
            if old & PRESENT != 0:
                old = write_spte(kvm, sptep, old, kvm.frozen, level)
                handle_changed_spte(kvm, batch, gfn, old, kvm.frozen, level, shared)
        sptep += 1
        gfn += pages
    kvm.policy.table_removed(kvm, batch, table, first, level, shared)


def take_over(kvm: Kvm, sptep: i64) -> i64:
    """Freeze an entry of a removed table, waiting for whoever has frozen it before; what was there.

    Source: the loop around ``xchg`` in ``handle_removed_pt``.
    """
    while True:
        old = kvm.m.xchg(sptep, kvm.frozen)
        if old != kvm.frozen:
            return old


def is_volatile(kvm: Kvm, spte: i64) -> bool:
    """May a CPU or a lock-free fault change a present leaf behind our back, in a bit that must not be lost?

    Source: ``spte_has_volatile_bits``; ``spte_needs_atomic_update`` (6.18).
    """
    fmt = kvm.fmt
    if spte & WRITABLE == 0 and spte & fmt.mmu_writable != 0:
        return True
    if not ad_enabled(spte):
        return not kvm.behaviour.volatile_accessed or is_access_track(spte)
    if spte & fmt.accessed == 0 and kvm.behaviour.volatile_accessed:
        return True
    return spte & WRITABLE != 0 and spte & fmt.dirty == 0


def write_spte(kvm: Kvm, sptep: i64, old: i64, new: i64, level: i64) -> i64:
    """Write an entry that nobody else changes, bits aside that hardware sets; what was there.

    Locks: mmu_lock for write. TLB: none. Source: ``kvm_tdp_mmu_write_spte``.
    """
    if old & PRESENT != 0 and is_last(old, level) and is_volatile(kvm, old):
        return kvm.m.xchg(sptep, new)
    kvm.m.write(sptep, new)
    return old


def clear_spte_bits(kvm: Kvm, sptep: i64, old: i64, bits: i64, level: i64) -> i64:
    """Clear bits of an entry that nobody else changes, bits aside that hardware sets; what was there.

    Locks: mmu_lock for write. TLB: none. Source: ``tdp_mmu_clear_spte_bits`` (6.12).
    """
    if old & PRESENT != 0 and is_last(old, level) and is_volatile(kvm, old):
        return kvm.m.fetch_and(sptep, ~bits)
    kvm.m.write(sptep, old & ~bits)
    return old


def set_spte(kvm: Kvm, batch: Batch, sptep: i64, gfn: i64, level: i64, old: i64, new: i64, aging: bool = False) -> None:
    """Change an entry and account for it; ``aging`` as ``handle_changed_spte`` has it.

    Locks: mmu_lock for write; RCU if ``old`` is a table. TLB: none of its own. Source: ``tdp_mmu_set_spte``.
    """
    if old == kvm.frozen or new == kvm.frozen:
        raise Bug("an entry is frozen under mmu_lock held for write")
    old = write_spte(kvm, sptep, old, new, level)
    handle_changed_spte(kvm, batch, gfn, old, new, level, False, aging)


def set_spte_atomic(kvm: Kvm, batch: Batch, it: TdpIter, new: i64) -> bool:
    """Change the walk's entry if it still is ``it.old_spte``, and account for it; else re-read it and return False.

    Locks: mmu_lock for read; RCU if the old entry is a table. TLB: none of its own.
    Source: ``tdp_mmu_set_spte_atomic``.
    """
    if it.yielded:
        raise Bug("a walk that yielded changes an entry before it began again")
    if it.old_spte == kvm.frozen:
        raise Bug("a frozen entry is changed by one who does not own it")
    found = kvm.m.cmpxchg(it.sptep, it.old_spte, new)
    if found != it.old_spte:
        it.old_spte = found
        return False
    handle_changed_spte(kvm, batch, it.gfn, it.old_spte, new, it.level, True)
    return True


def zap_spte_atomic(kvm: Kvm, it: TdpIter) -> bool:
    """Zap the walk's entry for good: nobody can map anything there before every vCPU dropped the old translation.

    Locks: mmu_lock for read, RCU. TLB: flushes the entry's range, between freezing and releasing it.
    Source: ``tdp_mmu_zap_spte_atomic``; the order of 6.10 is aca48556c592.
    """
    m = kvm.m
    batch = Batch(True)
    if kvm.behaviour.flush_then_remove:
        old = it.old_spte
        found = m.cmpxchg(it.sptep, old, kvm.frozen)
        if found != old:
            it.old_spte = found
            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
        m.write(it.sptep, kvm.empty)
        handle_changed_spte(kvm, batch, it.gfn, old, kvm.empty, it.level, True)
    else:
        if not set_spte_atomic(kvm, batch, it, kvm.frozen):
            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
        m.write(it.sptep, kvm.empty)
    kvm.policy.entry_flushed(kvm, batch)
    return True
