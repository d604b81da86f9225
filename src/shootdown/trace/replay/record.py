"""What replay reads of a recording: the events of the MMU and of those who call it, as plain objects in time order."""

from __future__ import annotations

from typing import Final

import numpy as np

from .. import codes as s
from ..events import Trace
from ..stream import place_lost

PAGE_FAULT: Final = 100
MARK_MMIO: Final = 101
RING_PUSH: Final = 102
SMM: Final = 103
GET_ROOT: Final = 104
RELEASE: Final = 105
NOTIFIER_END: Final = 106
FLUSH_SLOT_CALL: Final = 107
CHECK_MMIO: Final = 108

OWN: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "kvm:kvm_page_fault": (PAGE_FAULT, ("vcpu_id", "fault_address", "error_code")),
    "kvmmmu:mark_mmio_spte": (MARK_MMIO, ("gfn", "gen")),
    "kvmmmu:check_mmio_spte": (CHECK_MMIO, ("kvm_gen", "spte_gen")),
    "kvm:kvm_dirty_ring_push": (RING_PUSH, ("index", "dirty_index", "slot", "offset")),
    "kvm:kvm_smm_transition": (SMM, ("vcpu_id", "entering")),
    "kvmmmu:fast_page_fault": (
        s.FAST_FAULT,
        ("vcpu_id", "cr2_or_gpa", "error_code", "old_spte", "new_spte", "ret"),
    ),
    "kvmmmu:kvm_tdp_mmu_spte_changed": (s.CHANGED, ("gfn", "level", "old_spte", "new_spte", "as_id")),
    "kprobes:handle_changed_spte": (s.HANDLED, ("kvm",)),
    "kprobes:__handle_changed_spte": (s.HANDLED, ("kvm",)),
    "kprobes:kvm_tdp_mmu_get_vcpu_root_hpa": (GET_ROOT, ("kvm", "vcpu_id")),
    "kprobes:kvm_tdp_mmu_alloc_root": (GET_ROOT, ("kvm", "vcpu_id")),
    "kprobes:kvm_tdp_mmu_unmap_gfn_range": (s.UNMAP, ("kvm", "start", "end", "as_id")),
    "kprobes:kvm_tdp_mmu_clear_dirty_pt_masked": (s.CLEAR_PT, ("kvm", "gfn", "mask", "as_id", "wrprot")),
    "kprobes:kvm_tdp_mmu_wrprot_slot": (s.WRPROT, ("kvm", "slot", "as_id", "min_level")),
    "kprobes:kvm_tdp_mmu_try_split_huge_pages": (s.TRY_SPLIT, ("kvm", "slot", "as_id", "start", "end", "shared")),
    "kprobes:kvm_tdp_mmu_write_protect_gfn": (s.WRPROT_GFN, ("kvm", "as_id", "gfn")),
    "kprobes:kvm_tdp_mmu_age_gfn_range": (s.AGE, ("kvm", "start", "end", "as_id")),
    "kprobes:kvm_mmu_notifier_invalidate_range_start": (s.NOTIFIER, ("mn", "start", "end")),
    "kprobes:kvm_mmu_notifier_invalidate_range_end": (NOTIFIER_END, ("mn",)),
    "kprobes:kvm_mmu_notifier_release": (RELEASE, ("mn",)),
    "kprobes:kvm_mmu_notifier_change_pte": (s.CHANGE_PTE, ("mn", "addr", "pte")),
    "kvm:kvm_dirty_ring_reset": (s.RING_RESET, ("index", "dirty_index", "reset_index")),
    "kprobes:kvm_clear_dirty_log_protect": (s.CLEAR_LOG, ("kvm", "slot", "num", "first")),
    "kprobes:kvm_arch_flush_shadow_memslot": (s.FLUSH_SLOT, ("kvm", "slot", "as_id", "base_gfn", "npages")),
    "kprobes:__kvm_set_memory_region": (s.SET_REGION, ("kvm", "slot", "flags", "gpa", "size", "uaddr")),
    "kprobes:kvm_flush_remote_tlbs_memslot": (FLUSH_SLOT_CALL, ("kvm", "slot")),
    "kprobes:kvm_arch_flush_remote_tlbs_memslot": (FLUSH_SLOT_CALL, ("kvm", "slot")),
}
"""Kinds of which replay takes other fields than the rebuild, or which only replay takes."""

KINDS: Final = {**s.KINDS, **OWN}
WANTED: Final = frozenset(KINDS)
NAMES_VM: Final = frozenset(code for code, fields in KINDS.values() if fields[:1] == ("kvm",))
"""Events whose first number is the kvm pointer."""
FIELDS: Final = 6
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "kprobes:__kvm_set_memory_region": ("slot", "flags", "gpa", "size"),
    "kprobes:kvm_tdp_mmu_clear_dirty_pt_masked": ("gfn", "mask"),
    "kprobes:kvm_get_dirty_log_protect": ("slot",),
    "kprobes:kvm_clear_dirty_log_protect": ("slot", "num", "first"),
}
"""Probes that tell nothing without these arguments: one that was recorded without them counts as not recorded."""


class Event:
    """One event: its code, when and where it was recorded, and up to six numbers (``codes.MISSING`` where not shown).

    at   its position in the stream, from 0 on
    """

    __slots__ = ("a", "at", "b", "c", "code", "cpu", "d", "e", "f", "pid", "time")

    def __init__(
        self, at: int, code: int, time: int, cpu: int, pid: int, a: int, b: int, c: int, d: int, e: int, f: int
    ) -> None:
        self.at = at
        self.code = code
        self.time = time
        self.cpu = cpu
        self.pid = pid
        self.a = a
        self.b = b
        self.c = c
        self.d = d
        self.e = e
        self.f = f

    def change(self) -> tuple[int, int, int, int] | None:
        """gfn, level, old and new value, of an event that tells of an SPTE."""
        if self.code == s.CHANGED:
            return self.a, self.b, self.c, self.d
        if self.code == s.FAST_FAULT:
            return self.b >> 12, 1, self.d, self.e
        return None


def is_usable(trace: Trace, name: str) -> bool:
    """Was a kind recorded with the fields that it needs?"""
    events = trace.events.get(name)
    if events is None:
        return trace.records(name)
    return all(field in events.fields for field in NEEDED.get(name, ()))


def events_of(trace: Trace) -> list[Event]:
    """All events that replay takes, in order; a ``LOST`` stands at the beginning and the end of each gap."""
    kinds = [
        (KINDS[name], events)
        for name, events in trace.events.items()
        if name in KINDS and len(events) and is_usable(trace, name)
    ]
    if not kinds:
        return []
    parts = []
    for (code, fields), events in kinds:
        rows = np.full((5 + FIELDS, len(events)), s.MISSING, np.int64)
        rows[0], rows[1], rows[2], rows[3], rows[4] = events.order, code, events.time, events.cpu, events.pid
        for k, name in enumerate(fields):
            column = events.fields.get(name)
            if column is not None and column.dtype.kind in "iub":
                rows[5 + k] = column.view(np.int64) if column.dtype.itemsize == 8 else column.astype(np.int64)
        parts.append(rows)
    table = np.concatenate(parts, axis=1)
    table = table[:, np.argsort(table[0], kind="stable")]
    placed = place_lost(trace, [events for _, events in kinds])
    if placed:
        where = np.searchsorted(table[0], [order for order, _ in placed])
        rows = np.full((5 + FIELDS, len(placed)), s.MISSING, np.int64)
        for k, (order, row) in enumerate(placed):
            rows[:6, k] = [order, *row[:5]]
        table = np.insert(table, where, rows, axis=1)
    return [Event(at, *row) for at, row in enumerate(table[1:].T.tolist())]
