"""What a change does, told by its values: for operations that no probe tells of."""

from __future__ import annotations

from typing import Final

from ...mmu.spte import WRITABLE, is_frozen, is_leaf, is_present, is_table
from .record import Event

PROTECT: Final = "protect"
UNMAP: Final = "unmap"
ZAP: Final = "zap"
COLLAPSE: Final = "collapse"
SPLIT: Final = "split"
OTHER: Final = "other"


def what_of(e: Event) -> str:
    """What a change does."""
    old, new, level = e.c, e.d, e.b
    if is_leaf(old, level) and is_leaf(new, level):
        return PROTECT if old & ~new & WRITABLE else OTHER
    if is_leaf(old, level):
        return SPLIT if is_table(new, level) else UNMAP
    if is_table(old, level):
        return COLLAPSE if is_frozen(new) else ZAP
    return OTHER if is_present(new) else ZAP


def made_by_change_pte(e: Event) -> bool:
    """Can the notifier that changes a page have done it?"""
    return e.b == 1 and is_leaf(e.c, 1) != is_leaf(e.d, 1)


def made_by_ageing(e: Event) -> bool:
    """Can ageing have done it?"""
    return is_leaf(e.c, e.b) and is_leaf(e.d, e.b) and what_of(e) == OTHER


def made_by_unmapping(e: Event) -> bool:
    """Can a notifier that takes pages back have done it?"""
    return what_of(e) == UNMAP
