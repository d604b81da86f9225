"""The main loop: walk the record in order; each operation runs up to its next change, which must be the recorded.

An operation that no other one interrupts runs at once. Those that overlap run on threads of their own, of which one
runs at a time: the record says which. So our MMU meets the same interleavings, without any locks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ...machine.interface import Bug
from ...machine.words import ROOT_SCHEDULED, SLOTS_GENERATION, SP_ROLE
from ...mmu.mmio import MMIO_GENERATIONS
from ...mmu.spte import is_frozen, is_table
from .. import codes as s
from . import operation
from .adopt import adopt, take_over
from .causes import Change, Moment, cause_of
from .hardware import feed, feed_next
from .levels import HostLevels, removed_level
from .machine import ReplayMachine
from .operation import Op
from .races import older
from .record import Event
from .result import Difference, Result
from .task import Task
from .unseen import Gaps, Told, leads_to
from .vm import ReplayVm
from .watch import Watcher

INSTANT: Final = frozenset((operation.FREE, operation.LOAD_ROOT, operation.PUT_ROOT, operation.SMM_SWITCH))
"""Operations that change no SPTE."""
EVER: Final = 1 << 62
LOOKAHEAD: Final = 600
"""How far ahead a change is looked for that came earlier than recorded: more than a table's entries."""
YIELDING: Final = frozenset((operation.INVALIDATE, operation.ZAP_RANGE, operation.NX_RECOVERY, operation.REGION))
"""Operations that may flush in their middle, when they yield."""


def first_point(op: Op) -> int:
    """Where an operation changes something first, or ends."""
    return op.expected[0].at if op.expected else op.end


def published(op: Op) -> int:
    """Where others may see what an operation does to a slot, before it changes any entry."""
    if op.kind != operation.REGION:
        return EVER
    return op.calls[0].at if op.calls else op.begin


class Follower:
    """Runs all operations of a recording and compares; what it found is ``result``.

    Where there is a ``watcher``, flushes are another policy's and not compared.
    """

    def __init__(
        self,
        result: Result,
        make_vm: Callable[[Follower, int], ReplayVm],
        perform: Callable[[Follower, Task], None],
        watcher: Watcher | None = None,
    ) -> None:
        self.result = result
        self.make_vm = make_vm
        self.perform = perform
        self.watcher = watcher
        self.vms: dict[int, ReplayVm] = {}
        self.task: Task | None = None
        self.turn = threading.Semaphore(0)
        self.at = 0
        self.sees_flushes = True
        self.sees_masks = True
        self.gaps = Gaps([])
        self.unseen: set[int] = set()
        self.fast_later: dict[tuple[int, int], list[Op]] = {}
        self.finished: set[int] = set()
        self.running: dict[int, Task] = {}
        self.later: dict[tuple[int, int, int], list[tuple[int, Op]]] = {}
        self.progress: Callable[[int], None] | None = None
        self.host_levels = HostLevels([], {})

    def vm(self, name: int) -> ReplayVm:
        """The VM of that name, made on first sight."""
        found = self.vms.get(name)
        if found is None:
            found = self.make_vm(self, name)
            self.vms[name] = found
        return found

    # -------------------------------------------------------------------------------- the order of things

    def run(self, ops: list[Op], told: dict[int, list[Told]]) -> None:
        """Run all operations; ``told``: what entries hold at the start, and after events were lost."""
        waiting = sorted(told, reverse=True)
        self.unseen = {t.at for many in told.values() for t in many}
        for op in ops:
            if op.kind == operation.FAST_FAULT:
                self.fast_later.setdefault((op.vm, op.first.b >> 12), []).append(op)
            if op.kind in operation.RACING:
                for e in op.expected:
                    if e.code == s.CHANGED:
                        self.later.setdefault((op.vm, e.b, e.a), []).append((e.at, op))
        points: list[tuple[int, Op]] = []
        for op in ops:
            begin = published(op)
            if begin < first_point(op):
                points.append((begin, op))
            points.extend((e.at, op) for e in op.expected)
            if not op.expected or op.expected[-1].at < op.end:
                points.append((op.end, op))
        points.sort(key=lambda point: point[0])
        alone = self.uninterrupted(points)
        running = self.running
        for at, op in points:
            name = id(op)
            if name in self.finished:
                continue
            self.at = at
            if self.progress is not None:
                self.progress(at)
            while waiting and waiting[-1] < at:
                take_over(told[waiting.pop()], self.vm, self.result.inputs)
            task = running.get(name)
            if op.generation >= 0:
                self.publish(op)
            if task is None:
                task = Task(op, self.vm(op.vm))
                if name in alone:
                    self.run_whole(task)
                    self.finished.add(name)
                    continue
                running[name] = task
                self.start(task)
                if at < first_point(op):
                    self.resume(task, True)
            last = at >= op.end
            if last:
                task.final = True
            while not task.done and (last or (task.k < len(task.expected) and task.expected[task.k].at <= at)):
                self.resume(task)
            if task.done:
                # What it did not predict is taken over in its time.
                self.finish(task, at)
                if last:
                    self.finished.add(name)
                    del running[name]
        for task in running.values():
            task.final = True
            while not task.done:
                self.resume(task)
            self.finish(task)
        self.result.frees_predicted = self.result.frees_matched
        for vm in self.vms.values():
            self.result.frees_predicted += len(vm.m.queued)

    def publish(self, op: Op) -> None:
        """Let a change of slots come to its end if a fault has seen the generation of after it."""
        m = self.vm(op.vm).m
        if op.generation == m.load(SLOTS_GENERATION, 0) & MMIO_GENERATIONS:
            return
        for task in self.running.values():
            if task.op.kind == operation.REGION and task.op.vm == op.vm and task.head() is None:
                task.final = True
                while not task.done:
                    self.resume(task)

    def uninterrupted(self, points: list[tuple[int, Op]]) -> set[int]:
        """The operations between whose first and last point there is no other's."""
        runs: dict[int, int] = {}
        before: Op | None = None
        for _, op in points:
            if op is not before:
                runs[id(op)] = runs.get(id(op), 0) + 1
                before = op
        return {name for name, count in runs.items() if count == 1}

    def run_whole(self, task: Task) -> None:
        """Run an operation at once."""
        self.task = task
        feed_next(self.result.inputs, task)
        self.execute(task)
        self.finish(task)

    def execute(self, task: Task) -> None:
        """Call the MMU; what it asserts is a difference."""
        try:
            self.perform(self, task)
        except (Bug, IndexError) as error:
            # (A table that is none is what a wrong entry led to.)
            if not self.is_cut(task.op):
                self.result.differ(Difference(task.op, task.head(), None, f"our MMU stopped: {error}"))

    def start(self, task: Task) -> None:
        """Give a task a thread, which waits for its first turn."""
        task.go = threading.Lock()
        task.go.acquire()

        def body() -> None:
            assert task.go is not None
            task.go.acquire()
            try:
                self.execute(task)
            except BaseException as error:
                task.error = error
            task.done = True
            self.turn.release()

        threading.Thread(target=body, daemon=True).start()

    def resume(self, task: Task, only_begin: bool = False) -> None:
        """Let a task run until it waits again; ``only_begin``: it must not change anything yet."""
        assert task.go is not None
        self.task = task
        task.over = only_begin
        feed_next(self.result.inputs, task)
        task.go.release()
        self.turn.acquire()
        if task.error is not None:
            raise task.error

    def wait(self, task: Task) -> None:
        """The running task waits for its next event."""
        if task.go is None or task.final:
            task.over = False
            return
        self.turn.release()
        task.go.acquire()
        task.over = False

    def finish(self, task: Task, until: int = EVER) -> None:
        """What was recorded of an operation and did not come."""
        while task.k < len(task.expected) and task.expected[task.k].at <= until:
            e = task.expected[task.k]
            task.k += 1
            self.missed(task, e)

    def missed(self, task: Task, e: Event) -> None:
        """A recorded event that our MMU did not predict."""
        if self.is_torn(task, e):
            if e.code == s.CHANGED:
                self.result.undetermined += 1
                adopt(task, e)
            elif e.code == s.FLUSH:
                self.result.flushes_undetermined += 1
            return
        if e.code == s.CHANGED:
            self.differ(task, e, None, "recorded, not predicted")
            adopt(task, e)
        elif e.code == s.FLUSH:
            if self.watcher is None:
                self.result.differ(Difference(task.op, e, None, "flush recorded, not predicted"))
        elif e.code == s.FAST_FAULT:
            self.result.differ(Difference(task.op, e, None, "fast fault recorded, not predicted"))
            task.vm.overwrite(e.b >> 12, e.d, e.e)

    def differ(self, task: Task, e: Event, ours: Change | None, what: str) -> None:
        """Keep a difference between a recorded change and ours, with its cause."""
        m = task.vm.m
        as_id = max(e.e, 0)
        changing = any(t.op.kind == operation.REGION and t.op.vm == task.op.vm for t in self.running.values())
        moment = Moment(task.vm.kvm, m.load(SLOTS_GENERATION, as_id) + as_id, changing)
        self.result.differ(Difference(task.op, e, ours, what, cause_of(e.change(), ours, moment)))

    def is_torn(self, task: Task, e: Event) -> bool:
        """Were events lost that would tell of the operation, or is the entry older than the record?"""
        op = task.op
        if e.at in self.unseen:
            # Nothing told of the entry before, so neither of what it is reached from.
            return True
        return self.is_cut(op) or self.gaps.between(op.begin, max(op.end, e.at)) is not None

    def is_cut(self, op: Op) -> bool:
        """Is its beginning or its end not in the record?"""
        return op.torn or (op.after_loss and (op.guess != "" or op.kind == operation.UNKNOWN))

    def came(self, task: Task, e: Event) -> None:
        """An expected event has come: wait for the next, at once unless mmu_lock keeps everyone else out."""
        task.k += 1
        task.since = e.at
        task.over = True
        if task.writer or task.go is None:
            feed_next(self.result.inputs, task)
        # Once nothing more was recorded of it, it runs to its end: what it publishes must be seen by who comes next.
        if not task.writer and task.head() is not None:
            self.wait(task)

    # -------------------------------------------------------------------------------- what the machine tells

    def before_change(self, m: ReplayMachine, sptep: int, value: int, how: int) -> int:
        """Wait for the event, feed in what the CPU did; -1, or what a compare-exchange finds instead."""
        task = self.task
        assert task is not None
        held = m.peek(sptep)
        if task.over and not (how == 0 and is_frozen(held)):
            self.wait(task)
            held = m.peek(sptep)
        if task.collapses >= 0 and self.watcher is not None:
            slot, task.collapses = task.collapses, -1
            self.watcher.collapses(task, slot, lambda gfn: self.host_level(m, gfn))
        if how == 1 and value == held and is_frozen(held):
            # Whoever froze it is waited for, and has let go of it: that is not traced.
            m.poke(sptep, int(task.vm.kvm.empty))
        e = task.next_change()
        level = m.level_of(sptep)
        if e is not None and e.b == level and e.a == m.gfn_of(sptep):
            feed(self.result.inputs, task, m, sptep, held, e)
            return -1
        if how != 2:
            return -1
        return older(self, task, m, sptep)

    def changed(self, m: ReplayMachine, gfn: int, level: int, old: int, new: int) -> None:
        """Compare a change with the record."""
        task = self.task
        assert task is not None
        if task.over:
            self.wait(task)
        vm = task.vm
        past = vm.history.setdefault(m.last, [])
        since = past[-1][0] if past else task.vm.told_at
        past.append((self.at, task.op, old))
        as_id = m.as_ids.get(m.last >> 9, 0)
        k = self.place(task, gfn, level, as_id)
        if k < 0 and self.is_cut(task.op):
            return
        if k < 0 and leads_to(task, gfn, level, new):
            self.result.inputs["tables that are older than the recording"] += 1
            return
        if k < 0 and self.gaps.between(since, self.at) is not None:
            # What became of the entry since was lost.
            self.result.inputs["entries of which events were lost"] += 1
            return
        if k < 0:
            self.result.differ(Difference(task.op, task.head(), (gfn, level, old, new), "predicted, not recorded"))
            m.poke(m.last, old)
            return
        while task.k < k:
            e = task.expected[task.k]
            task.k += 1
            self.missed(task, e)
        e = task.expected[k]
        same_old, same_new = vm.same(old, e.c, level), vm.same(new, e.d, level)
        if same_old and same_new:
            self.result.matched += 1
        elif self.is_cut(task.op):
            self.result.undetermined += 1
            if not is_table(new, level) and not is_table(e.d, level):
                m.poke(m.last, e.d)
        else:
            self.differ(task, e, (gfn, level, old, new), "another value")
            if not same_new and not is_table(new, level) and not is_table(e.d, level):
                m.poke(m.last, e.d)
        self.came(task, e)

    def place(self, task: Task, gfn: int, level: int, as_id: int) -> int:
        """Which recorded event of the operation a change is: the next, else one soon after it; -1 for none."""
        expected = task.expected
        for k in range(task.k, min(task.k + LOOKAHEAD, len(expected))):
            e = expected[k]
            if e.code == s.CHANGED and e.a == gfn and e.b == level and e.e in (as_id, s.MISSING):
                return k
        return -1

    def flushed(self, m: ReplayMachine) -> None:
        """Compare a flush with the record."""
        task = self.task
        assert task is not None
        if m.by_table and self.watcher is not None:
            # No recorded kernel makes it: it has no place in the order of things.
            self.watcher.flushed(task)
            return
        if task.over:
            self.wait(task)
        self.result.flushes_predicted += 1
        if self.watcher is not None:
            self.watcher.flushed(task)
            e = task.head()
            if e is not None and e.code == s.FLUSH:
                self.came(task, e)
            return
        if not self.sees_flushes:
            return
        e = task.head()
        while e is not None and e.code not in (s.CHANGED, s.FLUSH):
            task.k += 1
            e = task.head()
        if e is None or e.code != s.FLUSH:
            self.result.differ(Difference(task.op, e, None, "flush predicted, not recorded"))
            return
        self.result.flushes_matched += 1
        self.came(task, e)

    def unlinked(self, m: ReplayMachine) -> None:
        """Tell the watcher."""
        if self.watcher is not None and self.task is not None:
            self.watcher.unlinked(self.task)

    def queued(self, m: ReplayMachine, table: int) -> None:
        """Tell the watcher, unless it is a root, which no policy is about."""
        if self.watcher is not None and self.task is not None and m.load(SP_ROLE, table) == 0:
            self.watcher.queued(self.task)

    def locked(self, m: ReplayMachine, held: bool) -> None:
        """mmu_lock is taken for write or dropped."""
        task = self.task
        assert task is not None
        if held and task.over:
            self.wait(task)
        task.writer = held
        if held:
            return
        e = task.head()
        if e is not None and e.code in (s.INVALIDATE_ROOTS, s.ZAP_ALL_FAST) and task.marked:
            self.came(task, e)
        elif task.over and e is not None:
            self.wait(task)

    def synchronized(self, m: ReplayMachine) -> None:
        """Slots were published last: the generation goes on only when the operation ends."""
        task = self.task
        assert task is not None
        if task.head() is None:
            self.wait(task)

    def stored(self, m: ReplayMachine, kind: int) -> None:
        """A word was set: roots being invalidated are looked for."""
        if kind == ROOT_SCHEDULED and self.task is not None:
            self.task.marked = True

    def resched(self, m: ReplayMachine) -> bool:
        """The record shows a yield by a flush in the middle of an operation."""
        task = self.task
        assert task is not None
        if task.op.kind not in YIELDING or task.k + 1 >= len(task.expected):
            return False
        return task.expected[task.k].code == s.FLUSH and task.expected[task.k + 1].code == s.CHANGED

    def host_level(self, m: ReplayMachine, gfn: int) -> int:
        """What is known of the host's mapping."""
        task = self.task
        assert task is not None
        told = self.host_levels.at(task.vm.vm, self.at, gfn)
        if told:
            return told
        self.result.inputs["whether the host maps a huge page, where no fault tells"] += 1
        return removed_level(task.op, gfn)
