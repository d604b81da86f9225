"""At which level the host maps guest memory, as faults tell it: before the moment in question, or after it.

A fault tells it in ``kvm_mmu_spte_requested``, unless dirty logging or the NX mitigation forced it to 4 KiB.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from ...machine.words import LOG_DIRTY_PAGES
from ...mmu.access import FETCH
from ...mmu.spte import is_table
from .. import codes as s
from .config import Config
from .operation import FAULT, INVALIDATE, PREFETCH, REGION, Op

LEVELS: Final = (3, 2)
"""Those of huge pages, the largest first."""


class HostLevels:
    """What is told of each VM's memory, by region of a huge page's size."""

    def __init__(self, ops: list[Op], configs: dict[int, Config]) -> None:
        self.told: dict[tuple[int, int, int], list[tuple[int, bool]]] = {}
        self.unmapped: dict[int, list[tuple[int, int, int]]] = {}
        logged: dict[int, dict[int, tuple[int, int]]] = {}
        for vm, config in configs.items():
            for recorded, number in config.numbers.items():
                slot = config.before.get(number)
                if slot is not None and slot.flags & LOG_DIRTY_PAGES:
                    logged.setdefault(vm, {})[recorded] = (slot.base, slot.base + slot.pages)
        for op in ops:
            if op.kind == REGION and op.first.code == s.SET_REGION:
                e = op.first
                slots = logged.setdefault(op.vm, {})
                slots.pop(e.b, None)
                if e.c & 1:
                    slots[e.b] = (e.d >> 12, (e.d + e.e) >> 12)
            elif op.kind == INVALIDATE:
                for e in op.calls:
                    if e.code == s.UNMAP:
                        self.unmapped.setdefault(op.vm, []).append((e.at, e.b, e.c))
            elif op.kind in (FAULT, PREFETCH) and op.requested is not None:
                gfn, level = op.requested.a, op.requested.c
                fetched = op.fault is not None and op.fault.c & FETCH != 0
                forced = fetched or any(a <= gfn < b for a, b in logged.get(op.vm, {}).values())
                for size in LEVELS:
                    if level >= size or not forced:
                        name = (op.vm, size, gfn >> (9 * (size - 1)))
                        self.told.setdefault(name, []).append((op.requested.at, level >= size))

    def at(self, vm: int, time: int, gfn: int) -> int:
        """The level at a moment; 0 if nothing tells."""
        known = False
        for size in LEVELS:
            shift = 9 * (size - 1)
            told = self.told.get((vm, size, gfn >> shift))
            if told is None:
                continue
            k = bisect_right(told, (time, True))
            first = gfn >> shift << shift
            for when, huge in (*told[k : k + 1], *told[max(0, k - 1) : k]):
                if not self.unmaps(vm, min(when, time), max(when, time), first, first + (1 << shift)):
                    known = True
                    if huge:
                        return size
                    break
        return 1 if known else 0

    def unmaps(self, vm: int, begin: int, end: int, first: int, last: int) -> bool:
        """Did the host take something of a range back meanwhile?"""
        return any(begin < at < end and a < last and b > first for at, a, b in self.unmapped.get(vm, ()))


def removed_level(op: Op, gfn: int) -> int:
    """The level at which an operation removed a table that held ``gfn``; 1 if none: what else tells of the host."""
    for e in op.expected:
        if e.code == s.CHANGED and e.b > 1 and is_table(e.c, e.b) and e.a >> (9 * (e.b - 1)) == gfn >> (9 * (e.b - 1)):
            return e.b
    return 1
