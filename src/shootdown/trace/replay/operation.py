"""``Op``: one operation of the record, and the kinds that there are."""

from __future__ import annotations

from typing import Final

from .. import codes as s
from .record import Event

FAULT: Final = "fault"
PREFETCH: Final = "prefetch"
FAST_FAULT: Final = "fast fault"
INVALIDATE: Final = "MMU notifier"
AGE: Final = "ageing"
CHANGE_PTE: Final = "change_pte"
REGION: Final = "memory region"
GET_LOG: Final = "get dirty log"
CLEAR_LOG: Final = "clear dirty log"
RING: Final = "dirty ring reset"
NX_RECOVERY: Final = "NX recovery"
ZAP_RANGE: Final = "zap range"
ZAP_ALL: Final = "zap all"
UNINIT: Final = "end of the VM"
WRPROT_GFN: Final = "write tracking"
LOAD_ROOT: Final = "load root"
PUT_ROOT: Final = "put root"
FREE: Final = "free"
SMM_SWITCH: Final = "SMM"
UNKNOWN: Final = "unknown"

RACING: Final = frozenset((FAULT, PREFETCH))
"""Operations that give up where another one was faster."""


class Op:
    """One operation of one thread.

    first     the event that told of it: its arguments
    vm        kvm pointer, or the VM's number where no pointer was recorded
    expected  the SPTE changes and flushes that were recorded of it, in order
    calls     the probes on functions called within
    begin, end  positions of its first and last event
    generation  of the slots, as the fault found it; ``marked``: as it put it into an entry of MMIO
    fault     the vCPU's exit before it (of a fault), ``ret`` what the mapping returned, ``done`` if it told of an SPTE
    whole     its bracket of probes was seen
    """

    __slots__ = (
        "after_loss",
        "as_id",
        "begin",
        "calls",
        "done",
        "end",
        "expected",
        "fault",
        "first",
        "generation",
        "guess",
        "kind",
        "loose",
        "marked",
        "pid",
        "requested",
        "ret",
        "role",
        "slot",
        "torn",
        "vcpu",
        "vm",
        "whole",
    )

    def __init__(self, kind: str, first: Event, vm: int, loose: bool) -> None:
        self.kind = kind
        self.first = first
        self.pid = first.pid
        self.vm = vm
        self.begin = first.at
        self.end = first.at
        self.expected: list[Event] = []
        self.calls: list[Event] = []
        self.fault: Event | None = None
        self.requested: Event | None = None
        self.generation = s.MISSING
        self.marked = s.MISSING
        self.ret = s.MISSING
        self.role = s.MISSING
        self.vcpu = s.MISSING
        self.done = False
        self.loose = loose
        self.whole = False
        self.torn = False
        self.after_loss = False
        self.guess = ""
        self.slot = s.MISSING
        self.as_id = s.MISSING
