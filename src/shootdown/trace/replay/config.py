"""What a VM is like, as the record tells it: its memory slots, how its dirty log works, which mitigations are on.

None of it is the value of an entry, but for one bit: whether huge leaves may be executed tells of the NX mitigation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ...machine.words import LOG_DIRTY_PAGES, READONLY
from ...mmu.spte import SpteFormat, is_executable, is_leaf
from .. import codes as s
from . import plan
from .plan import Op
from .record import RING_PUSH, Event

ID_BITS: Final = 16
"""A recorded slot number is the address space above this bit, and the slot's own number below."""
FLAGS: Final = LOG_DIRTY_PAGES | READONLY
RING_SIZE: Final = 1 << 20
EVERYWHERE: Final = 1 << 36
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
    numbers   our number of each recorded slot; ``before``: what was there when the record began, by our number
    vcpus     how many vCPUs it has; ``manual``: the dirty log is cleared by an ioctl of its own
    """

    born: bool = False
    numbers: dict[int, int] = field(default_factory=dict)
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
        """How many slots it needs: two more where memory may be mapped of which no slot was seen."""
        return len(self.numbers) + (0 if self.born else 2)


def configure(ops: list[Op], events: list[Event], born: set[int], recorded: frozenset[int], fmt: SpteFormat) -> dict[int, Config]:
    """What all VMs are like."""
    found: dict[int, Config] = {}
    split_seen = any(e.code == s.TRY_SPLIT for op in ops for e in op.calls)
    asked = False
    for op in ops:
        config = found.setdefault(op.vm, Config(born=op.vm in born))
        config.vcpus = max(config.vcpus, op.vcpu + 1)
        if op.kind == plan.REGION and op.first.code == s.SET_REGION:
            _region(config, op, recorded)
        elif op.kind == plan.CLEAR_LOG:
            config.manual = True
        elif op.kind == plan.RING:
            config.ring = True
        if op.kind in (plan.GET_LOG, plan.CLEAR_LOG) and op.first.code in (s.GET_LOG, s.CLEAR_LOG):
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
    for config in found.values():
        config.eager_split = eager
        config.ring = config.ring or rings
    return found


def _splits(ops: list[Op]) -> bool:
    """Without the probe: are huge pages split outside of faults, or never protected as they are?"""
    protected = False
    for op in ops:
        if op.kind in (plan.REGION, plan.CLEAR_LOG, plan.GET_LOG):
            protected = protected or any(e.code == s.CHANGED and e.b > 1 and is_leaf(e.d, e.b) for e in op.expected)
    return not protected


def _region(config: Config, op: Op, recorded: frozenset[int]) -> None:
    e = op.first
    codes = {call.code for call in op.calls}
    if s.FLUSH_SLOT in codes and s.ZAP_ALL_FAST not in codes and s.ZAP_ALL_FAST in recorded:
        config.slot_zap_all = False
    logged = e.c & LOG_DIRTY_PAGES
    known = e.b in config.numbers
    number = config.numbers.setdefault(e.b, len(config.numbers))
    if known or config.born:
        if known and logged and e.e and not op.expected and s.WRPROT not in codes and s.WRPROT in recorded:
            config.initially_set = config.initially_set or codes.isdisjoint({s.FLUSH_SLOT, s.ZAP_ALL_FAST})
        return
    toggled = not codes.isdisjoint({s.WRPROT, s.COLLAPSE, s.TRY_SPLIT, s.CLEAR_SLOT})
    as_id = e.b >> ID_BITS
    if toggled:
        config.before[number] = Slot(e.d >> 12, e.e >> 12, (e.c & FLAGS) ^ LOG_DIRTY_PAGES, as_id)
    elif e.e == 0:
        config.before[number] = Slot(NOWHERE + number, 1, 0, as_id)


