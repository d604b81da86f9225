"""Building SPTEs.

Source: arch/x86/kvm/mmu/spte.c of 6.1 and 6.12. Built here: entries with A/D bits, of memory that the host may write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from .spte import LARGE, NPT, NX, PFN, PRESENT, WRITABLE

if TYPE_CHECKING:
    from .kvm import Kvm

EPT_READ: Final[i64] = 1
EPT_EXEC: Final[i64] = 4
EPT_WRITE_BACK: Final[i64] = 0x70
"""Memory type write-back, and ignore the guest's PAT."""
NPT_PRESENT_USER: Final[i64] = 5


def make_leaf(kvm: Kvm, pfn: i64, level: i64) -> i64:
    """An accessed and dirty leaf for ``pfn``, the first of its pages. Source: ``make_spte``."""
    fmt = kvm.fmt
    spte = PRESENT | WRITABLE | fmt.accessed | fmt.dirty | fmt.host_writable | fmt.mmu_writable | pfn << 12
    if level > 1:
        spte |= LARGE
    executable = level == 1 or not kvm.nx_huge_pages
    if fmt is NPT:
        spte |= NPT_PRESENT_USER
        return spte if executable else spte | NX
    spte |= EPT_READ | EPT_WRITE_BACK | kvm.empty
    return spte | EPT_EXEC if executable else spte


def make_nonleaf(kvm: Kvm, table: i64) -> i64:
    """An entry that points to a table. Source: ``make_nonleaf_spte``."""
    spte = PRESENT | WRITABLE | kvm.fmt.accessed | table << 12
    if kvm.fmt is NPT:
        return spte | NPT_PRESENT_USER
    return spte | EPT_READ | EPT_EXEC | kvm.empty


def make_split(kvm: Kvm, huge: i64, level: i64, index: i64) -> i64:
    """The entry at ``index`` of the table that replaces the leaf ``huge`` of ``level``.

    Source: ``make_huge_page_split_spte``.
    """
    child = (huge & ~PFN) | ((huge & PFN) + (index * kvm.pages(level - 1) << 12))
    if level == 2:
        child &= ~LARGE
        if kvm.nx_huge_pages:
            return child & ~NX if kvm.fmt is NPT else child | EPT_EXEC
    return child


def make_huge(kvm: Kvm, small: i64, level: i64) -> i64:
    """The leaf of ``level`` that takes the place of a table one of whose leaves is ``small``.

    Source: ``make_huge_spte`` (6.13).
    """
    pages = kvm.round((small & PFN) >> 12, level)
    huge = (small & ~PFN) | LARGE | pages << 12
    if kvm.nx_huge_pages:
        return huge | NX if kvm.fmt is NPT else huge & ~EPT_EXEC
    return huge
