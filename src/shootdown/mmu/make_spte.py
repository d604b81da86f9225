"""Building SPTEs. Source: arch/x86/kvm/mmu/spte.c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ..machine.interface import Bug
from ..machine.words import ROLE_GUEST_MODE
from .memory_type import memory_type
from .spte import (
    AD_DISABLED,
    AD_WRPROT_ONLY,
    EPT_EXEC,
    EPT_READ,
    LARGE,
    NX,
    PRESENT,
    WRITABLE,
    is_last,
    is_writable,
    mark_for_access_track,
    set_executable,
    small_spte,
)

if TYPE_CHECKING:
    from .kvm import Kvm

NPT_PRESENT_USER: Final[i64] = 5


def make_spte(
    kvm: Kvm,
    role: i64,
    gfn: i64,
    pfn: i64,
    level: i64,
    old: i64,
    host_writable: bool,
    write_protect: bool,
    prefetch: bool,
) -> i64:
    """A leaf that maps ``gfn`` to ``pfn``, the first of their pages, in a root of ``role``.

    old            what it replaces
    host_writable  the host may write the page
    write_protect  the guest may not, for now and until ``old`` is writable again: who shadows the page must see it
    prefetch       nobody accesses the page yet

    Source: ``make_spte``; who calls it has looked ``write_protect`` up, and marks the page dirty.
    """
    fmt = kvm.fmt
    if level > 1 and kvm.round(pfn, level) != pfn:
        raise Bug(f"frame {pfn:x} of the host begins no page of level {level}: map it by a lower level")
    spte = PRESENT | pfn << 12
    if not fmt.ad:
        spte |= AD_DISABLED
    elif kvm.pml and role & ROLE_GUEST_MODE != 0:
        # The CPU would log addresses of the nested guest, so that logging must rely on W.
        spte |= AD_WRPROT_ONLY
    if not prefetch:
        spte |= fmt.accessed
    executable = level == 1 or not kvm.nx_huge_pages
    if fmt.ept:
        spte |= EPT_READ | kvm.empty | memory_type(kvm, gfn, pfn)
        if executable:
            spte |= EPT_EXEC
    else:
        spte |= NPT_PRESENT_USER
        if not executable:
            spte |= NX
    if level > 1:
        spte |= LARGE
    if pfn < kvm.device_pfn:
        spte |= fmt.encrypted
    if host_writable:
        spte |= fmt.host_writable
        if not write_protect:
            spte |= WRITABLE | fmt.mmu_writable
            if not (kvm.behaviour.refault_drops_dirty and is_writable(old) and is_last(old, level)):
                spte |= fmt.dirty
    if prefetch:
        return mark_for_access_track(spte, fmt)
    return spte


def make_leaf(kvm: Kvm, pfn: i64, level: i64) -> i64:
    """The leaf that a fault puts where nothing was, for writable memory that host and guest number alike."""
    return make_spte(kvm, 0, pfn, pfn, level, kvm.empty, True, False, False)


def make_nonleaf(kvm: Kvm, table: i64) -> i64:
    """An entry that points to a table. Source: ``make_nonleaf_spte``."""
    fmt = kvm.fmt
    spte = PRESENT | WRITABLE | (fmt.accessed if fmt.ad else AD_DISABLED) | fmt.encrypted | table << 12
    if fmt.ept:
        return spte | EPT_READ | EPT_EXEC | kvm.empty
    return spte | NPT_PRESENT_USER


def make_split(kvm: Kvm, huge: i64, level: i64, index: i64) -> i64:
    """The entry at ``index`` of the table that replaces the leaf ``huge`` of ``level``.

    Source: ``make_huge_page_split_spte``.
    """
    if huge & PRESENT == 0 or huge & LARGE == 0:
        raise Bug("what is split is no huge page")
    return small_spte(huge, level, index * kvm.pages(level - 1), kvm.nx_huge_pages, kvm.fmt)


def make_huge(kvm: Kvm, small: i64, level: i64) -> i64:
    """The leaf of ``level`` that takes the place of a table one of whose leaves is ``small``.

    Source: ``make_huge_spte`` (6.13).
    """
    pages = kvm.round(kvm.pfn(small), level)
    huge = (small & ~kvm.frame) | LARGE | pages << 12
    return set_executable(huge, kvm.fmt, False) if kvm.nx_huge_pages else huge
