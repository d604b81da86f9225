"""Taking over what the record tells and our MMU did not predict; and the frees of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from ...mmu.spte import is_frozen, is_table, spte_pfn
from ..lifetime import same_page
from .operation import Op
from .record import Event
from .result import Difference, Result
from .task import Task
from .unseen import Told
from .vm import ReplayVm


def take_over(told: list[Told], vm_for: Callable[[int], ReplayVm], inputs: Counter[str]) -> None:
    """Have entries hold what the record tells of them later."""
    for t in told:
        vm = vm_for(t.vm)
        inputs["entries that were told by their next change only"] += 1
        root = vm.valid_root(t.as_id)
        if root < 0:
            root = vm.first_root(t.as_id)
        sptep = vm.reach(root, t.gfn, t.level)
        if is_table(t.value, t.level):
            vm.adopt_table(sptep, t.gfn, t.level, t.value)
            continue
        held = vm.m.peek(sptep)
        if is_table(held, t.level):
            vm.m.queued[spte_pfn(held)] = None
        vm.m.poke(sptep, t.value)


def adopt(task: Task, e: Event) -> None:
    """Have our tables show a recorded change that was not predicted."""
    vm = task.vm
    old = vm.to_ours(e.c, e.b)
    target = -1
    for root in vm.roots(max(e.e, 0)):
        sptep = vm.find(root, e.a, e.b)
        if sptep >= 0 and vm.m.peek(sptep) == old:
            target = sptep
            break
    if target < 0:
        if is_frozen(e.d):
            return
        root = vm.valid_root(max(e.e, 0))
        if root < 0:
            return
        target = vm.reach(root, e.a, e.b)
    vm.history.setdefault(target, []).append((e.at, task.op, vm.m.peek(target)))
    if is_table(e.d, e.b):
        vm.adopt_table(target, e.a, e.b, e.d)
    else:
        held = vm.m.peek(target)
        if is_table(held, e.b):
            vm.m.queued[spte_pfn(held)] = None
        vm.m.poke(target, e.d)


def is_older(e: Event, vms: Collection[ReplayVm]) -> bool:
    """Was a freed table linked before the record began, so that it tells nothing of the table?"""
    unborn = any(not vm.config.born for vm in vms)
    return unborn and not any(same_page(e.c, frame) for vm in vms for frame in vm.ours)


def freed(op: Op, vms: Collection[ReplayVm], result: Result) -> None:
    """Compare a free with the tables that wait for theirs."""
    e = op.first
    result.frees_recorded += 1
    level = e.b & 15
    best: tuple[ReplayVm, int] | None = None
    for vm in vms:
        for table in vm.m.queued:
            if vm.m.words_level(table) != level or vm.m.table_gfn(table) != e.a:
                continue
            name = vm.names.get(table)
            if name is None:
                if best is None:
                    best = (vm, table)
            elif same_page(e.c, name):
                best = (vm, table)
                break
    if best is None and (is_older(e, vms) or (level >= 4 and not result.sees_puts)):
        result.frees_undetermined += 1
        return
    if best is None:
        result.differ(Difference(op, e, None, "free recorded, not predicted"))
        return
    result.frees_matched += 1
    vm, table = best
    del vm.m.queued[table]
    vm.m.gone.add(table)
