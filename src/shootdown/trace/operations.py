"""Which operation of the kernel made each change: recovered from probes, else from the order of events.

Source: of 6.1 and 6.12, the callers in arch/x86/kvm/mmu/mmu.c, arch/x86/kvm/x86.c (``kvm_mmu_slot_apply_flags``),
virt/kvm/kvm_main.c (notifiers, dirty log) and virt/kvm/dirty_ring.c.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ..mmu.spte import FROZEN_612, LEVEL_MAX, SpteFormat, is_frozen, is_leaf, is_present, is_table
from . import codes as s
from .infer import fits, kind_of_change, repeats
from .op import (
    AGE,
    CHANGE_PTE,
    CLEAR_DIRTY,
    COLLAPSE,
    MAP,
    NOTIFIER,
    NX_RECOVERY,
    SLOT_DELETE,
    SPLIT,
    UNKNOWN,
    WRITE_PROTECT,
    ZAP_LEAFS,
    ZAP_ROOT,
    Op,
    within_cut,
)
from .stream import Chunk
from .tables import ROLE_INVALID
from .task import Task, Threads

NAMES_VM: Final = frozenset(code for code, fields in s.KINDS.values() if fields[:1] == ("kvm",))
"""Events whose first number is the kvm pointer."""


SPLIT_OVER: Final = frozenset((s.CLEAR_PT, s.WRPROT_GFN, s.WRPROT, s.CLEAR_SLOT, s.TRY_SPLIT, s.FLUSH))
"""Events that come only after a split, so that they end one whose return was missed."""


class Tracker:
    """Follows the stream and keeps the operations; ``feed`` also tells each event's operation to the rebuild.

    recovery   the threads that recover NX huge pages (``vms.py``)
    ops, sums  operations, and those that nobody flushes for summed up
    cut_times, cut_ops  when tables were unlinked, and by which operation; ``flush_times``: when flushes were seen
    """

    def __init__(
        self, threads: Threads, recovery: set[int], fmt: SpteFormat, sees_guest: bool, sees_reaping: bool
    ) -> None:
        self.threads = threads
        self.recovery = recovery
        self.fmt = fmt
        self.sees_guest = sees_guest
        self.sees_reaping = sees_reaping
        self.ops: list[Op] = []
        self.sums: dict[int, Op] = {}
        self.flush_times: list[int] = []
        self.cut_times: list[int] = []
        self.cut_ops: list[Op] = []
        self.yields_seen = False
        self.losses: i64 = 0

    def feed(self, chunk: Chunk, out: list[Op | None], vms: list[int]) -> None:
        """Take a chunk; append the operation of each of its events (None where it belongs to none), and its VM."""
        codes, times, pids, a, b, c, d = chunk.code, chunk.time, chunk.pid, chunk.a, chunk.b, chunk.c, chunk.d
        task = self.threads.task(pids[0]) if pids else Task(0, -1)
        for i in range(len(codes)):
            code: i64 = codes[i]
            pid: i64 = pids[i]
            if code == s.LOST:
                self.tear()
                out.append(None)
                vms.append(-1)
                continue
            if pid != task.pid:
                task = self.threads.task(pid)
            if code == s.CHANGED:
                out.append(self.changed(task, times[i], a[i], b[i], c[i], d[i]))
            elif code == s.HANDLED:
                task.handled = self.threads.vm_told(task, a[i])
                out.append(None)
            elif code == s.ENTRY:
                self.settle(task)
                self.threads.enter_guest(task)
                out.append(None)
            elif code == s.EXIT:
                self.threads.leave_guest(task)
                out.append(None)
            else:
                self.mark(task, code, times[i], a[i], b[i], c[i], d[i])
                out.append(task.stack[-1] if task.stack else None)
            op = out[-1]
            vm = task.vm if op is None or op.vm < 0 else op.vm
            if code in NAMES_VM and a[i] != s.MISSING:
                vm = self.threads.vm_index(a[i])
            vms.append(vm if vm >= 0 or len(self.threads.kvms) != 1 else 0)

    def finish(self) -> None:
        """End what is still open at the end of the recording."""
        for task in self.threads.tasks.values():
            for op in task.stack:
                op.unfinished = True
            self.settle(task)

    def tear(self) -> None:
        """Events were lost: returns may be among them, so from here on what follows must tell for itself."""
        self.losses += 1
        for task in self.threads.tasks.values():
            for op in task.stack:
                op.torn = op.loose = op.inferred = True

    # -------------------------------------------------------------------------------- operations begin and end

    def settle(self, task: Task) -> None:
        """A thread that enters the guest, or begins anew, is in no operation."""
        while task.stack:
            self.close(task.stack.pop())

    def close(self, op: Op) -> None:
        """Keep the operation; those that no policy flushes for, by far the most, are summed up per VM."""
        plain = op.kind == MAP and op.cuts == 0 and op.huge == 0 and op.replaced == 0
        if op.flushes == 0 and (plain or (op.kind == AGE and op.young == 0)):
            name = op.vm << 4 | op.kind
            total = self.sums.get(name)
            if total is None:
                self.sums[name] = op
                return
            total.changes += op.changes
            total.count += 1
            total.end = op.end
            return
        if op.changes or op.flushes or op.protects or op.reaped > 0:
            self.ops.append(op)

    def begin(self, task: Task, kind: int, kvm: i64, time: i64, loose: bool) -> Op:
        """Enter an operation: what the thread was loosely in ends, and so does a same one whose return was missed."""
        while task.stack and task.stack[-1].loose:
            self.close(task.stack.pop())
        depth = len(task.stack)
        for k in range(depth):
            if task.stack[k].kind == kind:
                while len(task.stack) > k:
                    self.close(task.stack.pop())
                break
        if kvm != s.MISSING:
            self.threads.adopt(task, self.threads.vm_index(kvm))
        op = Op(kind, task.vm, task.pid, time, loose)
        # After a loss, an operation without its bracket of probes may be the rest of one that has lost it.
        op.torn = loose and task.losses < self.losses
        task.losses = self.losses
        self.look(op)
        task.stack.append(op)
        return op

    def end(self, task: Task, kind: int, time: i64) -> None:
        """A return probe: leave the innermost operation of that kind and all within."""
        for k in range(len(task.stack) - 1, -1, -1):
            if task.stack[k].kind == kind:
                task.stack[k].end = time
                while len(task.stack) > k:
                    self.close(task.stack.pop())
                return

    def belongs(self, op: Op, vm: i64) -> None:
        """An event within the operation tells its VM."""
        if op.vm != vm:
            op.vm = vm
            op.low = op.high = -1
        self.look(op)

    def look(self, op: Op) -> None:
        """Note how many vCPUs run now."""
        if self.sees_guest and op.vm >= 0:
            now: i64 = self.threads.running[op.vm]
            op.low = now if op.low < 0 or now < op.low else op.low
            op.high = now if now > op.high else op.high

    # -------------------------------------------------------------------------------- events

    def mark(self, task: Task, code: i64, time: i64, a: i64, b: i64, c: i64, d: i64) -> None:
        """Any event but an SPTE change or a guest entry or exit."""
        if code == s.FREE:
            # An interrupt's work, whatever the thread is doing.
            return
        self.threads.leave_guest(task)
        top = task.stack[-1] if task.stack else None
        if top is not None and top.kind == SPLIT and code in SPLIT_OVER:
            self.end(task, SPLIT, time)
            top = task.stack[-1] if task.stack else None
        if top is not None:
            top.end = time
        if code == s.MAP:
            self.begin(task, MAP, a, time, False)
        elif code == s.MAP_RET:
            self.end(task, MAP, time)
        elif code == s.REQUESTED:
            if top is None or top.kind != MAP or top.loose:
                self.begin(task, MAP, s.MISSING, time, True)
        elif code == s.SET_SPTE:
            if top is not None and top.kind == MAP and top.loose:
                self.close(task.stack.pop())
        elif code == s.FLUSH:
            self.flush(task, a, time)
        elif code == s.VCPU_OF:
            self.threads.adopt(task, self.threads.vm_told(task, a))
        elif code == s.NOTIFIER:
            self.begin(task, NOTIFIER, s.MISSING, time, False)
        elif code == s.UNMAP_HVA:
            if top is None or top.kind != NOTIFIER or top.loose:
                self.begin(task, NOTIFIER, s.MISSING, time, True).room = (b - a) >> 12 if 0 <= a <= b else -1
        elif code == s.NOTIFIER_RET:
            self.end(task, NOTIFIER, time)
        elif code == s.UNMAP or code == s.ZAP_LEAFS:
            self.zapping(task, code, time, a, c)
        elif code == s.ZAP_LEAFS_RET:
            if top is not None:
                top.in_zap_leafs = False
                top.root_invalid = False
        elif code == s.SET_REGION:
            self.begin(task, UNKNOWN, a, time, False)
        elif code == s.SET_REGION_RET:
            self.region_done(task, time)
        elif code == s.FLUSH_SLOT:
            self.become(task, SLOT_DELETE, a, time)
        elif code == s.ZAP_ALL_FAST:
            if top is None or top.loose:
                self.begin(task, SLOT_DELETE, s.MISSING, time, True)
            task.stack[-1].fast = True
        elif code == s.INVALIDATE_ROOTS:
            if top is None or (top.loose and top.kind != SLOT_DELETE):
                self.begin(task, ZAP_ROOT, a, time, True)
            task.stack[-1].fast = True
            self.threads.adopt(task, self.threads.vm_told(task, a))
            self.belongs(task.stack[-1], task.vm)
        elif code == s.WRPROT or code == s.CLEAR_SLOT:
            self.become(task, WRITE_PROTECT, a, time).protects = 1
        elif code == s.COLLAPSE:
            self.become(task, COLLAPSE, a, time)
        elif code == s.GET_LOG or code == s.CLEAR_LOG:
            self.begin(task, CLEAR_DIRTY, a, time, False).reaped = 0 if self.sees_reaping else -1
        elif code == s.GET_LOG_RET or code == s.CLEAR_LOG_RET:
            self.end(task, CLEAR_DIRTY, time)
        elif code == s.CLEAR_PT:
            if top is not None and top.kind == WRITE_PROTECT and top.loose:
                # A huge page of the range was protected first.
                top.kind = CLEAR_DIRTY
            op = top if top is not None and top.kind == CLEAR_DIRTY else self.begin(task, CLEAR_DIRTY, a, time, True)
            op.reaped = 1 if op.reaped < 0 else op.reaped + 1
        elif code == s.TRY_SPLIT:
            if top is not None and top.kind == UNKNOWN:
                top.kind = WRITE_PROTECT
            op = Op(SPLIT, self.threads.vm_told(task, a), task.pid, time, False)
            task.stack.append(op)
        elif code == s.TRY_SPLIT_RET:
            self.end(task, SPLIT, time)
        elif code == s.FLUSH_YOUNG:
            self.begin(task, AGE, s.MISSING, time, True).young = 1
        elif code == s.CLEAR_YOUNG:
            self.begin(task, AGE, s.MISSING, time, True).young = 0
        elif code == s.AGE_HVA:
            if top is None or top.kind != AGE or top.traced:
                top = self.begin(task, AGE, s.MISSING, time, True)
            top.traced = True
        elif code == s.AGE:
            op = top if top is not None and top.kind == AGE else self.begin(task, AGE, a, time, True)
            self.belongs(op, self.threads.vm_told(task, a))
        elif code == s.CHANGE_PTE:
            self.begin(task, CHANGE_PTE, s.MISSING, time, True)
        elif code == s.SET_SPTE_HVA:
            if top is None or top.kind != CHANGE_PTE or top.traced:
                top = self.begin(task, CHANGE_PTE, s.MISSING, time, True)
            top.traced = True
        elif code == s.ZAP_SP:
            if top is None or top.kind != NX_RECOVERY:
                self.begin(task, NX_RECOVERY, a, time, True)
        elif code == s.ZAP_GFN_RANGE or code == s.ZAP_LEAFS_CALL:
            if top is None or top.kind != ZAP_LEAFS:
                self.begin(task, ZAP_LEAFS, a, time, True)
        elif code == s.WRPROT_GFN:
            if top is None or top.kind == MAP or (top.loose and top.kind not in (WRITE_PROTECT, CLEAR_DIRTY)):
                self.begin(task, WRITE_PROTECT, a, time, True)
        elif code == s.FLUSH_ALL or code == s.ZAP_ALL or code == s.ZAP_INVALIDATED or code == s.ZAP_ROOT:
            self.zap_root(task, code, time, a)
        elif code == s.INIT_VM and a != s.MISSING:
            self.threads.vm_begins(task, a)

    def zapping(self, task: Task, code: i64, time: i64, a: i64, role: i64) -> None:
        """Unmap of a range, and within it the zapping of one root's leaves."""
        if not task.stack:
            self.begin(task, ZAP_LEAFS, a, time, True)
        op = task.stack[-1]
        self.belongs(op, self.threads.vm_told(task, a))
        if code == s.ZAP_LEAFS:
            op.in_zap_leafs = True
            op.root_invalid = role != s.MISSING and role & ROLE_INVALID != 0
            self.yields_seen = True

    def zap_root(self, task: Task, code: i64, time: i64, a: i64) -> None:
        """The zapping of whole roots: of a dying VM, or of those that a slot's deletion left behind."""
        if not task.stack or (task.stack[-1].loose and task.stack[-1].kind not in (ZAP_ROOT, SLOT_DELETE)):
            self.begin(task, ZAP_ROOT, a, time, True)
        vm = self.threads.vm_told(task, a)
        if task.stack[-1].vm != vm and task.stack[-1].changes:
            self.begin(task, ZAP_ROOT, a, time, True)
        op = task.stack[-1]
        self.belongs(op, vm)
        if code == s.ZAP_ROOT:
            op.cut_level = 0

    def become(self, task: Task, kind: int, kvm: i64, time: i64) -> Op:
        """What a change of a memory region turns out to be, by what is called within it."""
        if not task.stack or task.stack[-1].kind not in (UNKNOWN, kind):
            return self.begin(task, kind, kvm, time, True)
        task.stack[-1].kind = kind
        return task.stack[-1]

    def region_done(self, task: Task, time: i64) -> None:
        """A change of a memory region returned: whatever it turned out to be ends."""
        for k in range(len(task.stack)):
            if not task.stack[k].loose:
                task.stack[k].end = time
                while len(task.stack) > k:
                    self.close(task.stack.pop())
                return

    def flush(self, task: Task, kvm: i64, time: i64) -> None:
        """A remote flush: charged to the operation that the thread is in."""
        vm = self.threads.vm_told(task, kvm)
        self.flush_times.append(time)
        if not task.stack:
            task.stack.append(Op(UNKNOWN, vm, task.pid, time, True))
        op = task.stack[-1]
        if op.kind == SPLIT and len(task.stack) > 1:
            op = task.stack[-2]
        op.vm = vm
        op.end = time
        op.flushes += 1
        if op.in_zap_leafs and op.tail:
            # A walk that gives way flushes only what it owes; another flush there is no yield's, and one too many.
            op.yields += 1
            op.tail = op.tail_invalid = 0
        self.look(op)
        if self.sees_guest and vm >= 0:
            now: i64 = self.threads.running[vm]
            if task.in_guest and task.vm == vm:
                now -= 1
            op.running += now
            if now == 0:
                op.idle += 1
        if op.loose and op.kind in (AGE, CLEAR_DIRTY, NX_RECOVERY, CHANGE_PTE, UNKNOWN, WRITE_PROTECT):
            # The flush is the last thing that these do; what follows in the thread is another one.
            while task.stack and task.stack[-1] is not op:
                self.close(task.stack.pop())
            self.close(task.stack.pop())

    def changed(self, task: Task, time: i64, gfn: i64, old: i64, new: i64, level: i64) -> Op:
        """An SPTE changed: find its operation and count what happened to it."""
        if not task.stack or task.stack[-1].inferred or not fits(task.stack[-1], old, new, level):
            self.infer(task, time, gfn, old, new, level)
        self.threads.leave_guest(task)
        op = task.stack[-1]
        op.end = time
        op.changes += 1
        if not is_table(new, level):
            op.last_gfn = gfn
        if task.handled >= 0:
            op.vm = task.handled
            task.handled = -1
        if op.vm < 0:
            op.vm = task.vm
        if op.vm >= 0:
            self.threads.used[op.vm] = True
        if is_leaf(old, level):
            if not is_present(new):
                if is_frozen(new) and within_cut(op, gfn, level):
                    op.mapped += 1
                elif op.kind == MAP:
                    op.huge += 1
                else:
                    op.leafs += 1
                    op.tail += 1
                    if op.root_invalid:
                        op.leafs_invalid += 1
                        op.tail_invalid += 1
            elif op.kind == MAP and is_table(new, level):
                op.huge += 1
        elif is_table(old, level) and not is_table(new, level) and level <= LEVEL_MAX:
            op.tables += 1
            self.cut_times.append(time)
            self.cut_ops.append(op)
            if not (is_frozen(new) and within_cut(op, gfn, level)):
                op.cuts += 1
                op.top_cuts += 1 if level >= 4 else 0
                op.cut_level, op.cut_gfn = level, gfn
                self.look(op)
                if is_leaf(new, level):
                    op.replaced += 1
        return op

    def infer(self, task: Task, time: i64, gfn: i64, old: i64, new: i64, level: i64) -> None:
        """No probe says what the thread is doing: tell it from the change itself."""
        op = task.stack[-1] if task.stack else None
        if op is not None and is_frozen(new) and within_cut(op, gfn, level):
            if op.kind == ZAP_ROOT and is_leaf(old, level) and op.leafs == 0 and new == FROZEN_612:
                # In 6.12 a dying root's leaves go one by one before their table does; these went with it.
                op.kind = COLLAPSE
            return
        kind = kind_of_change(old, new, level, self.fmt)
        if kind == ZAP_ROOT and is_table(old, level) and task.pid in self.recovery and (op is None or op.kind != kind):
            kind = NX_RECOVERY
        if op is None or not repeats(op, kind, gfn, old, level):
            self.begin(task, kind, s.MISSING, time, True).inferred = True
