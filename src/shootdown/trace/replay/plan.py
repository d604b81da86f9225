"""The operations of a recording: who called what, with which events, from where to where.

Each thread's events are cut into operations by the probes' brackets, and by the order of events where probes are
missing. Nothing here looks at the new value of an SPTE.
"""

from __future__ import annotations

from typing import Final

from .. import codes as s
from ..tables import ROLE_SMM
from .operation import (
    AGE,
    CHANGE_PTE,
    CLEAR_LOG,
    FAST_FAULT,
    FAULT,
    FREE,
    GET_LOG,
    INVALIDATE,
    LOAD_ROOT,
    NX_RECOVERY,
    PREFETCH,
    PUT_ROOT,
    REGION,
    RING,
    SMM_SWITCH,
    UNINIT,
    UNKNOWN,
    ZAP_ALL,
    ZAP_RANGE,
    Op,
)
from .record import CHECK_MMIO, GET_ROOT, MARK_MMIO, NAMES_VM, PAGE_FAULT, RELEASE, SMM, Event
from .shape import made_by_ageing, made_by_change_pte, made_by_unmapping

CALLS: Final = frozenset(
    {
        *(s.UNMAP, s.CLEAR_PT, s.TRY_SPLIT, s.WRPROT_GFN, s.WRPROT, s.COLLAPSE, s.CLEAR_SLOT, s.ZAP_SP, s.AGE),
        *(s.FLUSH_SLOT, s.ZAP_ALL_FAST, s.INVALIDATE_ROOTS, s.ZAP_INVALIDATED, s.ZAP_ALL, s.ZAP_LEAFS),
        s.ZAP_LEAFS_CALL,
    }
)
"""Functions called within an operation that tell what it is about."""


class _Thread:
    """What is known of a thread while its events are cut into operations."""

    def __init__(self, vm: int) -> None:
        self.vm = vm
        self.stack: list[Op] = []
        self.fault: Event | None = None
        self.generation = s.MISSING
        self.vcpu = s.MISSING
        self.load: Op | None = None
        self.lost = False
        self.fresh: Op | None = None


BRACKETS: Final = {
    s.SET_REGION: (REGION, s.SET_REGION_RET),
    s.GET_LOG: (GET_LOG, s.GET_LOG_RET),
    s.CLEAR_LOG: (CLEAR_LOG, s.CLEAR_LOG_RET),
    s.NOTIFIER: (INVALIDATE, s.NOTIFIER_RET),
    s.ZAP_ALL: (ZAP_ALL, s.ZAP_ALL_RET),
}
PARTS: Final = {
    RING: (s.CLEAR_PT, s.TRY_SPLIT, s.WRPROT_GFN, s.RING_RESET),
    GET_LOG: (s.CLEAR_PT, s.TRY_SPLIT, s.WRPROT_GFN),
    CLEAR_LOG: (s.CLEAR_PT, s.TRY_SPLIT, s.WRPROT_GFN),
    NX_RECOVERY: (s.ZAP_SP,),
    INVALIDATE: (s.UNMAP, s.ZAP_LEAFS),
    AGE: (s.AGE,),
    UNINIT: (s.INVALIDATE_ROOTS, s.ZAP_INVALIDATED),
}
"""The calls of which an operation without a bracket of probes consists."""
LOGS: Final = (RING, GET_LOG, CLEAR_LOG)
"""Operations whose last act is a flush."""
UNBOUNDED: Final = (REGION, UNKNOWN, ZAP_ALL, ZAP_RANGE)
"""Operations that may call anything."""
OF_CALL: Final = {
    s.CLEAR_PT: RING,
    s.TRY_SPLIT: RING,
    s.WRPROT_GFN: RING,
    s.RING_RESET: RING,
    s.ZAP_SP: NX_RECOVERY,
    s.UNMAP: INVALIDATE,
    s.AGE: AGE,
    s.INVALIDATE_ROOTS: UNINIT,
    s.ZAP_INVALIDATED: UNINIT,
    s.ZAP_ALL_FAST: REGION,
    s.FLUSH_SLOT: REGION,
    s.WRPROT: REGION,
    s.COLLAPSE: REGION,
    s.CLEAR_SLOT: REGION,
    s.ZAP_LEAFS_CALL: ZAP_RANGE,
}
"""The operation that a call tells of where no other one is known."""
CAN_MAKE: Final = {CHANGE_PTE: made_by_change_pte, AGE: made_by_ageing, INVALIDATE: made_by_unmapping}
"""What can be changed by operations whose end may be seen by no event."""
RETURNS: Final = {ret: kind for kind, ret in BRACKETS.values()}


class Planner:
    """Cuts events into operations; ``ops`` holds them all, ended or not, in the order of their first events."""

    def __init__(
        self, vm_of: dict[int, int], kvm_of: dict[int, int], recorded: frozenset[int], root_level: int
    ) -> None:
        self.vm_of = vm_of
        self.kvm_of = kvm_of
        self.recorded = recorded
        self.root_level = root_level
        self.threads: dict[int, _Thread] = {}
        self.ops: list[Op] = []
        self.renamed: dict[int, int] = {}
        self.born = 0
        self.vm_seen: set[int] = set()
        self.lost = False
        self.vms_born: set[int] = set()

    def thread(self, pid: int) -> _Thread:
        """The thread, made on first sight."""
        found = self.threads.get(pid)
        if found is None:
            vm = self.kvm_of.get(pid, 0) if self.kvm_of else self.vm_of.get(pid, 0)
            if self.kvm_of and vm == 0 and len(set(self.kvm_of.values())) == 1:
                vm = next(iter(self.kvm_of.values()))
            found = _Thread(self.renamed.get(vm, vm))
            # What a thread does first may have begun before the recording, or where events were lost.
            found.lost = self.lost or found.vm not in self.vms_born
            self.threads[pid] = found
        return found

    def feed(self, events: list[Event]) -> list[Op]:
        """Cut them all."""
        for e in events:
            self.event(e)
        for thread in self.threads.values():
            while thread.stack:
                self.close(thread)
        return self.ops

    def open(self, thread: _Thread, kind: str, e: Event, loose: bool) -> Op:
        """Begin an operation; those that only lasted until the next begins end."""
        while thread.stack and (thread.stack[-1].loose or thread.stack[-1].kind == kind):
            self.close(thread)
        op = Op(kind, e, thread.vm, loose)
        op.vcpu = thread.vcpu
        op.after_loss = thread.lost
        thread.lost = False
        thread.stack.append(op)
        self.ops.append(op)
        return op

    def close(self, thread: _Thread) -> None:
        """End the innermost operation."""
        thread.stack.pop()

    def end(self, thread: _Thread, kind: str, e: Event) -> Op | None:
        """A return: end the innermost operation of that kind and all within."""
        for k in range(len(thread.stack) - 1, -1, -1):
            if thread.stack[k].kind == kind:
                op = thread.stack[k]
                op.end, op.whole = e.at, True
                del thread.stack[k:]
                return op
        return None

    def returned(self, thread: _Thread, e: Event, *kinds: str) -> None:
        """A return with its value."""
        for kind in kinds:
            op = self.end(thread, kind, e)
            if op is not None:
                op.ret = e.a
                return

    def told(self, thread: _Thread, kvm: int) -> None:
        """An event names the VM."""
        vm = self.renamed.get(kvm, kvm)
        self.vm_seen.add(vm)
        thread.vm = vm
        if thread.stack and not thread.stack[-1].expected:
            thread.stack[-1].vm = vm

    def init_vm(self, thread: _Thread, kvm: int) -> None:
        """A VM begins, perhaps where another one was in memory."""
        if self.renamed.get(kvm, kvm) in self.vm_seen:
            self.born += 1
            self.renamed[kvm] = -1000 - self.born
        self.told(thread, kvm)
        self.vms_born.add(thread.vm)

    def event(self, e: Event) -> None:
        """Take one event."""
        code = e.code
        if code == s.LOST:
            for thread in self.threads.values():
                for op in thread.stack:
                    op.torn = True
                    op.loose = True
                thread.fault = None
                thread.lost = True
            self.lost = True
            return
        if code == s.FREE:
            self.instant(self.thread(e.pid), FREE, e)
            return
        thread = self.thread(e.pid)
        if code in NAMES_VM and e.a != s.MISSING:
            if code == s.INIT_VM:
                self.init_vm(thread, e.a)
                return
            self.told(thread, e.a)
        top = thread.stack[-1] if thread.stack else None
        if code == s.CHANGED or code == s.FLUSH:
            self.effect(thread, e)
        elif code == s.ENTRY or code == s.EXIT or code == PAGE_FAULT:
            self.guest(thread, e)
        elif code == s.MAP or code == s.REQUESTED:
            self.mapping(thread, e)
        elif code == s.MAP_RET:
            self.returned(thread, e, FAULT, PREFETCH)
        elif code == s.SET_SPTE or code == MARK_MMIO:
            if top is not None and top.kind in (FAULT, PREFETCH):
                top.done, top.end = True, e.at
                if code == MARK_MMIO:
                    top.marked = e.b
                if top.loose:
                    self.close(thread)
        elif code == s.FAST_FAULT:
            op = self.instant(thread, FAST_FAULT, e)
            op.expected.append(e)
            op.fault = thread.fault
        elif code in BRACKETS:
            kind, ret = BRACKETS[code]
            if code == s.ZAP_ALL and top is not None and top.kind == REGION:
                top.calls.append(e)
                return
            self.open(thread, kind, e, ret not in self.recorded)
        elif code in RETURNS:
            self.returned(thread, e, RETURNS[code])
        elif code == s.RING_RESET:
            self.call(thread, e)
        elif code == s.UNMAP_HVA:
            if top is None or top.kind != INVALIDATE or top.loose:
                self.open(thread, INVALIDATE, e, True)
        elif code in (s.FLUSH_YOUNG, s.CLEAR_YOUNG, s.AGE_HVA, s.CHANGE_PTE, s.SET_SPTE_HVA):
            kind = AGE if code in (s.FLUSH_YOUNG, s.CLEAR_YOUNG, s.AGE_HVA) else CHANGE_PTE
            if code in (s.AGE_HVA, s.SET_SPTE_HVA) and top is not None and top.kind == kind and top.first.code != code:
                top.calls.append(e)
            else:
                self.open(thread, kind, e, True)
        elif code == s.GET_PAGE:
            self.get_page(thread, e)
        elif code == GET_ROOT:
            thread.vcpu = e.b
            thread.load = self.instant(thread, LOAD_ROOT, e)
            thread.load.vcpu = e.b
        elif code == s.VCPU_OF:
            thread.vcpu = e.b
            thread.load = None
        elif code == s.PUT_ROOT:
            # (While a root is looked for, the search puts those that it passes.)
            if thread.load is None and (top is None or top.loose):
                self.instant(thread, PUT_ROOT, e)
        elif code == CHECK_MMIO:
            thread.generation = e.a
        elif code == SMM:
            self.instant(thread, SMM_SWITCH, e)
        elif code == RELEASE:
            self.open(thread, ZAP_ALL, e, True)
        elif code in CALLS:
            self.call(thread, e)
        elif code in (s.ZAP_INVALIDATED_RET, s.ZAP_GFN_RANGE) or top is not None:
            self.other(thread, e)

    def instant(self, thread: _Thread, kind: str, e: Event) -> Op:
        """An operation of a single event, whatever the thread is in."""
        op = Op(kind, e, thread.vm, False)
        op.vcpu, op.whole = thread.vcpu, True
        self.ops.append(op)
        return op

    def guest(self, thread: _Thread, e: Event) -> None:
        """The thread is or was in the guest: it is in no operation."""
        while thread.stack:
            self.close(thread)
        thread.vcpu = e.a
        thread.generation = s.MISSING
        thread.fault = e if e.code == PAGE_FAULT else None
        thread.load = None

    def mapping(self, thread: _Thread, e: Event) -> None:
        """A fault got as far as to map something."""
        top = thread.stack[-1] if thread.stack else None
        if e.code == s.REQUESTED and top is not None and top.kind in (FAULT, PREFETCH) and top.requested is None:
            top.requested = e
            return
        gfn = e.c if e.code == s.MAP else e.a
        fault = thread.fault
        mine = fault is not None and fault.b >> 12 == gfn
        # (Where events were lost, the exit of a fault may be among them.)
        lost = thread.lost
        op = self.open(thread, FAULT if mine or lost else PREFETCH, e, s.MAP_RET not in self.recorded)
        op.torn = lost and not mine
        if mine:
            op.fault = fault
            op.generation = thread.generation
            thread.fault = None
        if e.code == s.MAP and e.b != s.MISSING:
            thread.vcpu = e.b
            op.vcpu = e.b
        if e.code == s.REQUESTED:
            op.requested = e

    def effect(self, thread: _Thread, e: Event) -> None:
        """An SPTE changed, or a flush."""
        if thread.stack and e.code == s.CHANGED and thread.stack[-1].loose:
            can = CAN_MAKE.get(thread.stack[-1].kind)
            if can is not None and not can(e):
                # The end of an operation that no probe brackets shows only in what comes after it.
                self.close(thread)
        if not thread.stack:
            self.open(thread, UNKNOWN, e, True)
        top = thread.stack[-1]
        top.expected.append(e)
        top.end = e.at
        if thread.fresh is not None and e.code == s.CHANGED:
            if top.kind == FAULT and e.e >= 0:
                # The text of a role does not tell the address space; the first table under the root does.
                thread.fresh.as_id = e.e
            thread.fresh = None

    def get_page(self, thread: _Thread, e: Event) -> None:
        """A table was made: of a root it tells the role."""
        top = thread.stack[-1] if thread.stack else None
        level = e.b & 15
        if level < 4 or (level < self.root_level and top is not None):
            return
        if thread.load is None:
            thread.load = self.instant(thread, LOAD_ROOT, e)
        thread.load.role = e.b
        thread.fresh = thread.load
        thread.load = None

    def call(self, thread: _Thread, e: Event) -> None:
        """A function of the MMU was entered: within an operation, or as one of its own."""
        top = thread.stack[-1] if thread.stack else None
        code = e.code
        if top is None or (top.loose and not self.goes_on(top, code)):
            kind = OF_CALL.get(code, UNKNOWN)
            top = self.open(thread, kind, e, True)
        top.calls.append(e)
        top.end = e.at
        if code == s.INVALIDATE_ROOTS or (code == s.ZAP_ALL_FAST and s.INVALIDATE_ROOTS not in self.recorded):
            # A mark: roots are invalid from here on.
            top.expected.append(e)

    def goes_on(self, op: Op, code: int) -> bool:
        """Does a call belong to an operation whose end no probe tells?"""
        if code == s.ZAP_ALL_FAST and (op.kind == UNKNOWN or op.first.code == s.ZAP_ALL_FAST):
            return False
        if op.kind in LOGS and any(e.code == s.FLUSH for e in op.expected):
            return False
        return op.kind in UNBOUNDED or code in PARTS.get(op.kind, ())

    def other(self, thread: _Thread, e: Event) -> None:
        """What is left: returns, and events within operations."""
        top = thread.stack[-1] if thread.stack else None
        code = e.code
        if code == s.ZAP_GFN_RANGE:
            self.open(thread, ZAP_RANGE, e, True)
        elif top is None:
            return
        elif code == s.ZAP_INVALIDATED_RET and top.kind == UNINIT:
            top.end = e.at
            self.close(thread)
        elif code == s.ZAP_INVALIDATED_RET or code in (s.UNMAP_RET, s.AGE_RET, s.ZAP_LEAFS_RET, s.TRY_SPLIT_RET):
            top.calls.append(e)
            top.end = e.at


def smm_of(role: int) -> int:
    """Address space of a role."""
    return (role & ROLE_SMM) >> 24
