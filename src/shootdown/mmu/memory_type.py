"""Memory types of leaves on EPT: what a guest's caching may be. AMD's nested paging leaves it to the guest's own PAT.

Source: arch/x86/kvm/vmx/vmx.c, arch/x86/kvm/mtrr.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from librt.vecs import append, vec
from mypy_extensions import i64

if TYPE_CHECKING:
    from .kvm import Kvm

UNCACHED: Final = 0
WRITE_BACK: Final = 6
IGNORE_PAT: Final[i64] = 0x40


@final
class GuestCaching:
    """What a guest says of caching, in its MTRRs and CR0; it counts where a device of the VM bypasses caches.

    default      type of memory that no range names
    off          it has set CR0.CD
    off_ignored  that is not heeded (``KVM_X86_QUIRK_CD_NW_CLEARED``)
    ranges       of gfns with another type, first and end; no two have a page in common
    """

    def __init__(self, default: i64 = WRITE_BACK, off: bool = False, off_ignored: bool = True) -> None:
        self.default = default
        self.off = off
        self.off_ignored = off_ignored
        self.firsts = vec[i64]()
        self.ends = vec[i64]()
        self.types = vec[i64]()

    def add(self, first: i64, end: i64, kind: i64) -> None:
        """A range of another type."""
        self.firsts = append(self.firsts, first)
        self.ends = append(self.ends, end)
        self.types = append(self.types, kind)

    def type_of(self, gfn: i64) -> i64:
        """The type of a page. Source: ``kvm_mtrr_get_guest_memory_type``."""
        n = 0
        while n < len(self.firsts):
            if self.firsts[n] <= gfn < self.ends[n]:
                return self.types[n]
            n += 1
        return self.default

    def is_uniform(self, first: i64, end: i64) -> bool:
        """Are all pages of a range of one type? Source: ``kvm_mtrr_check_gfn_range_consistency``."""
        kind = self.type_of(first)
        n = 0
        while n < len(self.firsts):
            starts, stops = self.firsts[n], self.ends[n]
            if first < starts < end and self.type_of(starts) != kind:
                return False
            if first < stops < end and self.type_of(stops) != kind:
                return False
            n += 1
        return True


def memory_type(kvm: Kvm, gfn: i64, pfn: i64) -> i64:
    """Memory type bits of a leaf on EPT: write-back whatever the guest says, unless devices bypass caches.

    Where they do, 6.1 heeds what the guest says of its memory, and later kernels its PAT alone.

    Source: ``vmx_get_mt_mask``.
    """
    if pfn >= kvm.device_pfn:
        return UNCACHED
    kind: i64 = WRITE_BACK
    if not kvm.noncoherent_dma:
        return kind << 3 | IGNORE_PAT
    if not kvm.behaviour.heeds_mtrrs:
        return kind << 3
    caching = kvm.caching
    if not caching.off:
        return caching.type_of(gfn) << 3
    if not caching.off_ignored:
        kind = UNCACHED
    return kind << 3 | IGNORE_PAT


def is_one_type(kvm: Kvm, gfn: i64, level: i64) -> bool:
    """May one leaf of a level map ``gfn``, as far as memory types go?

    Locks: none. TLB: none. Source: ``kvm_tdp_page_fault`` (6.1).
    """
    if not kvm.fmt.ept or not kvm.noncoherent_dma or not kvm.behaviour.heeds_mtrrs:
        return True
    first = kvm.round(gfn, level)
    return kvm.caching.is_uniform(first, first + kvm.pages(level))
