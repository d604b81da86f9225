"""Splitting huge pages.

Source: arch/x86/kvm/mmu/tdp_mmu.c, ``tdp_mmu_split_huge_page``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ..machine.words import PAGES
from .make_spte import make_split

if TYPE_CHECKING:
    from .kvm import Kvm


def fill_split(kvm: Kvm, table: i64, huge: i64, level: i64) -> None:
    """Have a table that nobody sees yet map what the leaf ``huge`` of ``level`` maps."""
    index: i64 = 0
    end = kvm.entries
    while index < end:
        kvm.m.write((table << kvm.bits) + index, make_split(kvm, huge, level, index))
        index += 1
    kvm.m.count(PAGES, level - 1, end)
