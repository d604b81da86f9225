"""Who was faster where the record has another order: a tracepoint comes after the change that it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...mmu.spte import differs_beyond_hardware
from .operation import RACING, Op
from .task import Task

if TYPE_CHECKING:
    from .follow import Follower
    from .machine import ReplayMachine


def older(follower: Follower, task: Task, m: ReplayMachine, sptep: int) -> int:
    """What the entry held when the task last ran, if another one has changed it since: the task has read that."""
    for at, op, before in task.vm.history.get(sptep, ()):
        if at > task.since and op is not task.op:
            task.refused += 1
            return before if task.refused < 100 else -1
    if task.head() is None and task.op.kind in RACING and not task.op.done:
        # The record says that the fault did not get through. Who was faster may be traced only later.
        for at, op in follower.later.get((task.op.vm, m.level_of(sptep), m.gfn_of(sptep)), ()):
            if at > follower.at and op is not task.op:
                if op.begin < task.op.end:
                    follower.result.inputs["races that a fault lost to a change traced later"] += 1
                    return int(task.vm.kvm.frozen)
                break
    return -1


def first_faster(follower: Follower, op: Op, held: int) -> bool:
    """Run the fast fault that was faster than this one, though it is traced later; False if there is none.

    It makes of what is held what this one found, and its vCPU had left the guest before this one's trace.
    """
    found = op.first.d
    fmt = follower.vm(op.vm).kvm.fmt
    for other in follower.fast_later.get((op.vm, op.first.b >> 12), ()):
        e = other.first
        if e.at <= op.first.at or id(other) in follower.finished:
            continue
        if other.fault is None or other.fault.at > op.first.at:
            return False
        if differs_beyond_hardware(held, e.d, 1, fmt) or differs_beyond_hardware(e.e, found, 1, fmt):
            return False
        follower.result.inputs["fast faults traced in another order than they came in"] += 1
        follower.finished.add(id(other))
        follower.run_whole(Task(other, follower.vm(other.vm)))
        return True
    return False
