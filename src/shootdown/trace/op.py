"""Operations of the kernel on page tables: their kinds, and what one of them did."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ..mmu.spte import PAGES

MAP: Final = 0
ZAP_LEAFS: Final = 1
ZAP_ROOT: Final = 2
SLOT_DELETE: Final = 3
WRITE_PROTECT: Final = 4
CLEAR_DIRTY: Final = 5
SPLIT: Final = 6
COLLAPSE: Final = 7
AGE: Final = 8
NOTIFIER: Final = 9
NX_RECOVERY: Final = 10
CHANGE_PTE: Final = 11
UNKNOWN: Final = 12

NAMES: Final = (
    "map", "zap leafs", "zap root", "slot delete", "write-protect", "clear dirty", "split", "collapse", "age",
    "notifier", "NX recovery", "change pte", "unknown",
)  # fmt: skip
"""Operations by their number."""


class Op:
    """One operation and what it did.

    vm        index into ``Tracker.kvms``; -1 unknown
    start, end  time of its first and last event
    count     how many operations this is the sum of
    changes   SPTE changes
    leafs     present leaves removed one by one; ``leafs_invalid`` of them in roots already invalid; ``tail`` and
              ``tail_invalid`` count only those since it last gave way
    cuts      tables that it unlinked itself, ``top_cuts`` of them by entries of a root; ``tables``: and those below
    fast      roots were invalidated as a whole, so that no vCPU may use them any more
    mapped    4K, 2M and 1G leaves that lay in the tables it unlinked
    replaced  tables that a fault replaced by a huge leaf; ``huge``: huge leaves in the way of a fault
    reaped    non-zero words of a dirty bitmap (or ring batches) that were harvested; -1 where no probe tells
    protects  0 or 1: a slot was write-protected or cleaned as a whole
    young     the operation flushes if it found a page young: 1 yes, 0 no, -1 not known which notifier it was
    flushes   remote flushes seen; ``yields`` of them on giving way in the middle, ``idle`` interrupted nobody
    running   sum of vCPUs in the guest over the flushes seen
    low, high vCPUs of the VM in the guest while it ran, least and most; -1 unknown
    room      pages of the range that the host unmaps, -1 unknown
    traced    its own tracepoint was seen
    inferred  recovered from the changes alone
    unfinished  the recording ended while it ran
    torn      events were lost while it ran, so that its counts are lower bounds
    """

    def __init__(self, kind: int, vm: i64, pid: i64, time: i64, loose: bool) -> None:
        self.kind = kind
        self.vm: i64 = vm
        self.pid: i64 = pid
        self.start: i64 = time
        self.end: i64 = time
        self.loose = loose
        self.inferred = False
        self.torn = False
        self.unfinished = False
        self.count: i64 = 1
        self.changes: i64 = 0
        self.leafs: i64 = 0
        self.leafs_invalid: i64 = 0
        self.tail: i64 = 0
        self.tail_invalid: i64 = 0
        self.cuts: i64 = 0
        self.tables: i64 = 0
        self.mapped: i64 = 0
        self.top_cuts: i64 = 0
        self.fast = False
        self.replaced: i64 = 0
        self.huge: i64 = 0
        self.reaped: i64 = -1
        self.protects: i64 = 0
        self.young: i64 = -1
        self.flushes: i64 = 0
        self.yields: i64 = 0
        self.idle: i64 = 0
        self.running: i64 = 0
        self.low: i64 = -1
        self.high: i64 = -1
        self.root_invalid = False
        self.in_zap_leafs = False
        self.cut_level: i64 = 0
        self.cut_gfn: i64 = 0
        self.last_gfn: i64 = -1
        self.room: i64 = -1
        self.traced = False


def within_cut(op: Op, gfn: i64, level: i64) -> bool:
    """Does the entry lie in the table that the operation unlinked last?"""
    return level < op.cut_level and op.cut_gfn <= gfn < op.cut_gfn + PAGES[op.cut_level]
