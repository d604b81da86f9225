"""Faults served without mmu_lock: ``fast_page_fault`` tells what the entry held and holds, and the result."""

from __future__ import annotations

from typing import Final

from ...mmu.fast_fault import fast_page_fault
from ...mmu.page_fault import FIXED, INVALID, SPURIOUS
from ...mmu.spte import differs_beyond_hardware, is_leaf, is_present
from .. import codes as s
from .follow import Follower
from .races import first_faster
from .result import Difference
from .task import Task

RESULTS: Final = (INVALID, FIXED, SPURIOUS)
"""In the order of the kernel's numbers, which begin at 3 in 6.1 and at 4 where there is RET_PF_WRITE_PROTECTED."""
FIRST: Final = 3


def fast(follower: Follower, task: Task) -> None:
    """Serve the fault, and compare the entry and the result."""
    vm, e = task.vm, task.op.first
    result, kvm, m = follower.result, vm.kvm, vm.m
    vcpu, gfn = max(e.a, 0), e.b >> 12
    root = vm.root_for(vcpu, None)
    level = 1
    sptep = -1
    for size in (1, 2, 3):
        sptep = vm.find(root, gfn, size)
        if sptep >= 0:
            level = size
            break
    if sptep >= 0 and is_leaf(e.d, level):
        held = m.peek(sptep)
        if held != e.d and not differs_beyond_hardware(held, e.d, level, kvm.fmt):
            result.inputs["bits that the CPU set"] += 1
            m.poke(sptep, e.d)
        elif held != e.d and first_faster(follower, task.op, held):
            follower.task = task
    before = m.peek(sptep) if sptep >= 0 else 0
    ours = fast_page_fault(kvm, vcpu, gfn, e.c & 0xFF)
    now = m.peek(sptep) if sptep >= 0 else 0
    task.k = 1
    if now != before:
        vm.history.setdefault(sptep, []).append((e.at, task.op, before))
    number = e.f - FIRST - (1 if kvm.behaviour.write_protected else 0)
    told = RESULTS[number] if e.f != s.MISSING and 0 <= number < len(RESULTS) else ours
    # The new value is read after the exchange, so that the CPU may have set bits in it.
    same = not is_present(e.e) or now == e.e or not differs_beyond_hardware(now, e.e, level, kvm.fmt)
    if ours == told and same:
        result.fast_matched += 1
        return
    result.differ(Difference(task.op, e, (gfn, level, before, now), "another fast fault"))
    if sptep >= 0 and is_leaf(e.e, level):
        m.poke(sptep, e.e)
