"""What a VM is like, as the record tells it: its memory slots, how its dirty log works, which mitigations are on.

None of it is the value of an entry, but for one bit: whether huge leaves may be executed tells of the NX mitigation.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from ...machine.words import LOG_DIRTY_PAGES, READONLY
from ...mmu.spte import PAGES, SpteFormat, is_executable, is_leaf
from .. import codes as s
from . import operation
from .operation import Op
from .record import RING_PUSH, Event
from .shape import COLLAPSE, PROTECT, SPLIT

ID_BITS: Final = 16
"""A recorded slot number is the address space above this bit, and the slot's own number below."""
FLAGS: Final = LOG_DIRTY_PAGES | READONLY
RING_SIZE: Final = 1 << 20
TOGGLES: Final = frozenset((s.WRPROT, s.COLLAPSE, s.TRY_SPLIT, s.CLEAR_SLOT))
"""What is called when logging begins or ends."""
EVERYWHERE: Final = 1 << 36
PFN_BITS: Final = 40
"""A frame has no more; what the kernel prints of memory that it could not find is larger."""
NOWHERE: Final = 1 << 38


@dataclass(slots=True)
class Slot:
    """A slot that was there when the record began."""

    base: int
    pages: int
    flags: int
    as_id: int


@dataclass(slots=True)
class Config:
    """One VM.

    born      its beginning was recorded, so that there is nothing that the record does not tell of
    told      recorded slots that were made, changed or deleted
    numbers   our number of each recorded slot; ``before``: what was there when the record began, by our number
    vcpus     how many vCPUs it has; ``manual``: the dirty log is cleared by an ioctl of its own
    """

    born: bool = False
    numbers: dict[int, int] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    before: dict[int, Slot] = field(default_factory=dict)
    vcpus: int = 1
    nx_huge_pages: bool = False
    manual: bool = False
    initially_set: bool = False
    eager_split: bool = True
    ring: bool = False
    slot_zap_all: bool = True
    pml: bool = False

    @property
    def slots(self) -> int:
        """How many slots it needs."""
        return max([len(self.numbers), *(number + 1 for number in self.before)])


def configure(
    ops: list[Op], events: list[Event], born: set[int], recorded: frozenset[int], fmt: SpteFormat
) -> dict[int, Config]:
    """What all VMs are like."""
    found: dict[int, Config] = {}
    split_seen = any(e.code == s.TRY_SPLIT for op in ops for e in op.calls)
    asked = False
    used: dict[int, list[int]] = {}
    for op in ops:
        config = found.setdefault(op.vm, Config(born=op.vm in born))
        config.vcpus = max(config.vcpus, op.vcpu + 1)
        if op.kind == operation.REGION and op.first.code == s.SET_REGION:
            _region(config, op, recorded, used.setdefault(op.vm, []))
        elif (
            op.kind in (operation.FAULT, operation.PREFETCH)
            and op.requested is not None
            and op.requested.b >> PFN_BITS == 0
        ):
            used.setdefault(op.vm, []).append(op.requested.a)
        elif op.kind == operation.CLEAR_LOG:
            config.manual = True
        elif op.kind == operation.RING:
            config.ring = config.ring or any(e.code == s.RING_RESET for e in op.calls)
        if op.kind in (operation.GET_LOG, operation.CLEAR_LOG) and op.first.code in (s.GET_LOG, s.CLEAR_LOG):
            config.numbers.setdefault(op.first.b, len(config.numbers))
        for e in op.calls:
            if e.code == s.CLEAR_PT and e.e == 0:
                config.pml = True
            if e.code in (s.WRPROT, s.WRPROT_GFN):
                asked = True
        for e in op.expected:
            if e.code == s.CHANGED and e.b > 1 and is_leaf(e.d, e.b) and not is_executable(e.d, fmt):
                config.nx_huge_pages = True
    eager = split_seen if s.TRY_SPLIT in recorded and asked else _splits(ops) if s.TRY_SPLIT not in recorded else True
    rings = any(e.code in (RING_PUSH, s.RING_RESET) for e in events)
    for vm, config in found.items():
        config.eager_split = eager
        config.ring = config.ring or rings
        _inferred_slots(vm, config, ops)
        if not config.born or s.SET_REGION not in recorded:
            _unseen_slots(vm, config, ops)
    return found


def _inferred_slots(vm: int, config: Config, ops: list[Op]) -> None:
    """Operations on slots that no probe tells of: what they range over, as far as it overlaps, is one slot."""
    mine = [op for op in ops if op.vm == vm and op.guess in (PROTECT, SPLIT, COLLAPSE)]
    spans: list[list[int]] = []
    for op in mine:
        changed = [e for e in op.expected if e.code == s.CHANGED]
        low, high = min(e.a for e in changed), max(e.a + PAGES[e.b] for e in changed)
        if any(slot.base <= low < slot.base + slot.pages for slot in config.before.values()):
            continue
        for span in spans:
            if span[0] < high and low < span[1]:
                span[0], span[1] = min(span[0], low), max(span[1], high)
                break
        else:
            spans.append([low, high])
    for low, high in spans:
        number = len(config.numbers)
        config.numbers[NOWHERE + number] = number
        config.before[number] = Slot(low, high - low, 0, 0)
    for op in mine:
        first = next(e for e in op.expected if e.code == s.CHANGED)
        op.slot = next(n for n, slot in config.before.items() if slot.base <= first.a < slot.base + slot.pages)


def _unseen_slots(vm: int, config: Config, ops: list[Op]) -> None:
    """Memory that faults find where no slot was ever seen belongs to slots from before the record."""
    known: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    used: dict[int, list[int]] = {0: [], 1: []}
    for slot in config.before.values():
        known[slot.as_id].append((slot.base, slot.base + slot.pages))
    for op in ops:
        if op.vm != vm:
            continue
        if op.kind == operation.REGION and op.first.code == s.SET_REGION and op.first.e > 0:
            e = op.first
            known[e.b >> ID_BITS & 1].append((e.d >> 12, (e.d + e.e) >> 12))
        elif (
            op.kind in (operation.FAULT, operation.PREFETCH)
            and op.requested is not None
            and op.requested.b >> PFN_BITS == 0
        ):
            as_id = next((e.e for e in op.expected if e.code == s.CHANGED), 0)
            used[max(as_id, 0)].append(op.requested.a)
        elif op.kind == operation.FAST_FAULT:
            used[0].append(op.first.b >> 12)
    for as_id in (0, 1):
        edges = sorted({0, EVERYWHERE, *(x for pair in known[as_id] for x in pair)})
        gfns = sorted(set(used[as_id]))
        for low, high in itertools.pairwise(edges):
            inside = gfns[bisect_left(gfns, low) : bisect_left(gfns, high)]
            if inside and not any(a <= low < b for a, b in known[as_id]):
                number = max([len(config.numbers), *(n + 1 for n in config.before)])
                config.before[number] = Slot(inside[0], inside[-1] + 1 - inside[0], 0, as_id)


def _splits(ops: list[Op]) -> bool:
    """Without the probe: are huge pages split outside of faults, or never protected as they are?"""
    protected = False
    for op in ops:
        if op.kind in (operation.REGION, operation.CLEAR_LOG, operation.GET_LOG):
            protected = protected or any(e.code == s.CHANGED and e.b > 1 and is_leaf(e.d, e.b) for e in op.expected)
    return not protected


def _region(config: Config, op: Op, recorded: frozenset[int], used: list[int]) -> None:
    e = op.first
    codes = {call.code for call in op.calls}
    if (s.FLUSH_SLOT in codes or (e.e == 0 and op.expected)) and s.ZAP_ALL_FAST not in codes | {e.code}:
        config.slot_zap_all = False
    logged = e.c & LOG_DIRTY_PAGES
    known = e.b in config.told
    config.told.add(e.b)
    number = config.numbers.setdefault(e.b, len(config.numbers))
    if known or config.born:
        if known and logged and e.e and not op.expected and s.WRPROT not in codes and s.WRPROT in recorded:
            config.initially_set = config.initially_set or codes.isdisjoint({s.FLUSH_SLOT, s.ZAP_ALL_FAST})
        return
    first, last = e.d >> 12, (e.d + e.e) >> 12
    toggled = not codes.isdisjoint(TOGGLES)
    if logged and codes.isdisjoint({s.FLUSH_SLOT, *TOGGLES}) and any(first <= gfn < last for gfn in used):
        # Faults had found the slot; that logging begins, and nothing is done for it, tells how the log begins.
        toggled = True
        config.initially_set = config.initially_set or (not op.expected and s.WRPROT in recorded)
    as_id = e.b >> ID_BITS
    if toggled:
        config.before[number] = Slot(e.d >> 12, e.e >> 12, (e.c & FLAGS) ^ LOG_DIRTY_PAGES, as_id)
    elif e.e == 0:
        gone = next((call for call in op.calls if call.code == s.FLUSH_SLOT and call.e > 0), None)
        base, pages = (gone.d, gone.e) if gone is not None else (NOWHERE + number, 1)
        config.before[number] = Slot(base, pages, 0, as_id)
