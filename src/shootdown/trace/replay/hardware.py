"""What the CPU does to entries: bits that it set show in the old value of the next recorded change."""

from __future__ import annotations

from collections import Counter
from typing import Final

from ...mmu.spte import differs_beyond_hardware, is_frozen, is_leaf
from .machine import ReplayMachine
from .record import Event
from .task import Task

BITS: Final = "bits that the CPU set"


def feed(inputs: Counter[str], task: Task, m: ReplayMachine, sptep: int, held: int, e: Event) -> None:
    """Have the entry hold what the record found there, if only the CPU or an untraced release tells them apart."""
    if held == e.c:
        return
    vm = task.vm
    old = vm.to_ours(e.c, e.b)
    if old in (-1, held):
        return
    if not differs_beyond_hardware(held, old, e.b, vm.kvm.fmt):
        inputs[BITS] += 1
        m.poke(sptep, old)
    elif is_frozen(held) and old == vm.kvm.empty:
        m.poke(sptep, old)


def feed_next(inputs: Counter[str], task: Task) -> None:
    """Have the leaf that changes next hold the bits that the CPU has set in it, before the task reads it."""
    e = task.next_change()
    if e is None or not is_leaf(e.c, e.b):
        return
    vm = task.vm
    place = -1
    for root in vm.roots(max(e.e, 0)):
        sptep = vm.find(root, e.a, e.b)
        if sptep < 0:
            continue
        held = vm.m.peek(sptep)
        if held == e.c:
            return
        if place < 0 and not differs_beyond_hardware(held, e.c, e.b, vm.kvm.fmt):
            place = sptep
    if place >= 0:
        inputs[BITS] += 1
        vm.m.poke(place, e.c)
