"""Page tables as a recording shows them: tables, the roots that they hang from, and who is making or emptying which."""

from __future__ import annotations

from typing import Final

from librt.vecs import append, vec
from mypy_extensions import i64

UNSEEN: Final[i64] = -1
"""Stands for an entry whose value no event has told yet (recording began late); no SPTE has all bits set."""
ROLE_INVALID: Final[i64] = 0x800
"""Bit 11 of ``union kvm_mmu_page_role``: the root is on its way out."""
ROLE_SMM: Final[i64] = 0xFF00_0000
"""The part of a role that is the address space."""
ROLE_SPACE: Final[i64] = 0xFF02_0000
"""Bits of a role that tell address spaces apart: SMM and guest_mode (the root of a nested guest)."""


ANY: Final[i64] = -1
"""Address space of a root of which only text told: the text of a role leaves it out."""


class Table:
    """A page table: 512 entries that map from ``gfn`` on; ``level`` is that of its entries.

    serial   tells it from every other table of the rebuild
    pfn      its own frame, -1 while unknown
    linked   an entry above points to it (a root: it is in use)
    cut_at   when it was unlinked, and ``cut_cpu`` by whom; -1 before
    owes_flush  its operation must flush between unlinking and free
    pointer  the kernel's, of a root that was unlinked; 0 else
    epoch    how many losses of events it has seen; ``known``: its entries that an event told since the last one
    """

    def __init__(self, serial: i64, level: i64, gfn: i64, pfn: i64, fill: i64) -> None:
        self.serial: i64 = serial
        self.level: i64 = level
        self.gfn: i64 = gfn
        self.pfn: i64 = pfn
        self.linked = False
        self.cut_at: i64 = -1
        self.cut_cpu: i64 = -1
        self.pointer: i64 = 0
        self.owes_flush = False
        self.epoch: i64 = 0
        self.known: set[int] = set()
        entries = vec[i64]()
        for _ in range(512):
            entries = append(entries, fill)
        self.entries = entries


class Root:
    """A root of an address space with all tables below, by ``key``.

    whole    its making was seen, so that an entry of which no event told is empty; else it is ``UNSEEN``
    pointer  the kernel's, 0 while unknown
    """

    def __init__(self, as_id: i64, role: i64, level: i64, whole: bool) -> None:
        self.as_id: i64 = as_id
        self.role: i64 = role
        self.level: i64 = level
        self.whole = whole
        self.valid = True
        self.pointer: i64 = 0
        self.tables: dict[int, Table] = {}

    def fill(self, empty: i64) -> i64:
        """What an entry holds of which nothing was seen."""
        return empty if self.whole else UNSEEN


class Guest:
    """One VM: its roots (dying ones included), the tables unlinked and not freed, by ``key``, its last flush."""

    def __init__(self) -> None:
        self.roots: list[Root] = []
        self.removed: dict[int, list[Table]] = {}
        self.flushed_at: i64 = -1


class Made:
    """A table that a thread has made and not yet linked."""

    def __init__(self, vm: i64, role: i64, gfn: i64, time: i64) -> None:
        self.vm: i64 = vm
        self.role: i64 = role
        self.gfn: i64 = gfn
        self.time: i64 = time
        self.beaten_at: i64 = -1


class Dying:
    """Tables that a thread is emptying after it unlinked them, by ``key``."""

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}


def key(level: i64, gfn: i64) -> i64:
    """Names the table with entries of ``level`` that covers ``gfn``."""
    return (gfn >> (9 * level)) << 3 | level
