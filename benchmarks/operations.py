"""What is timed: the operations of the MMU over many SPTEs, each on a VM of its own.

An operation is made ready for a number of 4K pages (a multiple of 512), which gives what is then timed. Beside each
stands what the kernel's own C takes for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.dirty_log import slot_leaf_clear_dirty
from shootdown.mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.notifier import clear_young, kvm_zap_gfn_range
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.split import slot_try_split_huge_pages
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.write_protect import slot_remove_write_access
from shootdown.mmu.zap import zap_all_fast

SLICE = 1 << 12
"""Faults that a vCPU is told of at a time, so that their list takes no memory worth mentioning."""

HUGE = 512
GIB = HUGE * HUGE

Work = Callable[[], object]


class Vm:
    """A VM of one vCPU on a machine of its own."""

    def __init__(self, behaviour: str, policy: str, nx: bool = False, host_level: int = 1) -> None:
        self.machine = NativeMachine(host_level=host_level)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[behaviour], POLICIES[policy], 4, 1, nx)
        self.nx = nx

    def map(self, number: int) -> None:
        """Fault at the first ``number`` pages."""
        for first in range(0, number, SLICE):
            self.machine.vcpus.set_faults(0, range(first, min(first + SLICE, number)), FETCH if self.nx else 0)
            serve_faults(self.kvm, 0, 0)

    def allow_huge(self, number: int) -> None:
        """Have the host back every whole region of 2 MiB by a huge page."""
        for gfn in range(0, number, HUGE):
            self.machine.store(words.HOST_LEVEL, gfn, 2)

    def zap_root(self) -> None:
        """Zap everything, and have the vCPU let go of its root, which frees it."""
        zap_all_fast(self.kvm)
        self.machine.vcpus.set_faults(0, [])
        serve_faults(self.kvm, 0, 0)


@dataclass(frozen=True)
class Operation:
    """Something that is timed.

    name      with the behaviour or policy, where it matters
    ready     makes it ready for so many pages
    kernel    nanoseconds that the kernel's C takes an SPTE, None where that was not measured
    most      of what the kernel takes this may take
    """

    name: str
    ready: Callable[[int], Work]
    kernel: float | None = None
    most: float = 0.0


def faults(behaviour: str, number: int) -> Work:
    """A 4K fault a page."""
    vm = Vm(behaviour, "rcu")
    return partial(vm.map, number)


def range_zap(behaviour: str, policy: str, number: int) -> Work:
    """All pages in one range zap."""
    vm = Vm(behaviour, policy)
    vm.map(number)
    return partial(kvm_zap_gfn_range, vm.kvm, 0, number)


def remap(number: int) -> Work:
    """A fault a page where tables are there already."""
    vm = Vm("6.12", "rcu")
    vm.map(number)
    kvm_zap_gfn_range(vm.kvm, 0, number)
    return partial(vm.map, number)


def root_zap(behaviour: str, number: int) -> Work:
    """The whole root, by a fast zap."""
    vm = Vm(behaviour, "rcu")
    vm.map(number)
    return vm.zap_root


def exchange(number: int) -> Work:
    """Every word of emptied tables is exchanged once, in the MMU's shortest loop (``handle_removed_pt``)."""
    vm = Vm("6.1", "rcu")
    vm.map(number)
    kvm_zap_gfn_range(vm.kvm, 0, number)
    return vm.zap_root


def protect(behaviour: str, again: bool, number: int) -> Work:
    """All leaves lose W, as when dirty logging begins; ``again``: they have lost it, and the walk is all there is."""
    vm = Vm(behaviour, "rcu")
    vm.map(number)
    if again:
        slot_remove_write_access(vm.kvm, 0, 0, number, 1)
    return partial(slot_remove_write_access, vm.kvm, 0, 0, number, 1)


def clear_dirty(behaviour: str, number: int) -> Work:
    """All leaves lose D."""
    vm = Vm(behaviour, "rcu")
    vm.map(number)
    return partial(slot_leaf_clear_dirty, vm.kvm, 0, 0, number)


def age(behaviour: str, number: int) -> Work:
    """All leaves lose A."""
    vm = Vm(behaviour, "rcu")
    vm.map(number)
    return partial(clear_young, vm.kvm, 0, number)


def split(behaviour: str, level: int, number: int) -> Work:
    """Huge pages of a level are split down to 4K, the last of them in part."""
    vm = Vm(behaviour, "rcu", host_level=level)
    pages = HUGE ** (level - 1)
    vm.machine.vcpus.set_faults(0, range(0, number, pages))
    serve_faults(vm.kvm, 0, 0)
    return partial(slot_try_split_huge_pages, vm.kvm, 0, 0, number)


def collapse(behaviour: str, policy: str, number: int) -> Work:
    """Tables that huge pages can stand for go."""
    vm = Vm(behaviour, policy)
    vm.map(number)
    vm.allow_huge(number)
    return partial(disable_dirty_logging, vm.kvm, 0, 0, number)


def nx_recovery(number: int) -> Work:
    """Every table by itself, off the list of those that only the NX mitigation made necessary."""
    vm = Vm("6.12", "rcu", nx=True)
    vm.allow_huge(number)
    vm.map(number)
    return partial(recover_nx_huge_pages, vm.kvm, number)


def raw_pass(number: int) -> Work:
    """As many words are read and written in place by numpy: what memory itself takes."""
    memory = np.arange(number)
    return partial(np.invert, memory, out=memory)


EXCHANGE, RAW_PASS = "exchange", "raw pass"

OPERATIONS = (
    Operation("fault map, 6.12", partial(faults, "6.12"), 43.8, 4),
    Operation("fault map, 6.1", partial(faults, "6.1"), 45.4, 4),
    Operation("fault map again, 6.12", remap),
    Operation("zap leafs, 6.12", partial(range_zap, "6.12", "rcu"), 9.9, 2),
    Operation("zap leafs, 6.1", partial(range_zap, "6.1", "rcu"), 11.8, 2),
    Operation("write-protect, 6.12", partial(protect, "6.12", False), 11.0, 2),
    Operation("write-protect, 6.1", partial(protect, "6.1", False), 11.5, 2),
    Operation("write-protect again, 6.12", partial(protect, "6.12", True), 3.3),
    Operation("clear dirty, 6.12", partial(clear_dirty, "6.12"), 10.5, 2),
    Operation("clear dirty, 6.1", partial(clear_dirty, "6.1"), 10.3, 2),
    Operation("age, 6.12", partial(age, "6.12"), 5.0, 2),
    Operation("age, 6.1", partial(age, "6.1"), 11.6, 2),
    Operation("split 2M, 6.12", partial(split, "6.12", 2), 2.8, 4),
    Operation("split 2M, 6.1", partial(split, "6.1", 2), 2.4, 4),
    Operation("split 1G, 6.12", partial(split, "6.12", 3)),
    Operation("split 1G, 6.1", partial(split, "6.1", 3)),
    Operation("zap root, 6.12", partial(root_zap, "6.12"), 14.7, 4),
    Operation("zap root, 6.1", partial(root_zap, "6.1"), 6.7, 4),
    Operation("range zap with tables, eager", partial(range_zap, "5.17", "eager")),
    Operation("range zap with tables, list", partial(range_zap, "5.17", "list")),
    Operation("range zap with tables, rcu", partial(range_zap, "5.17", "rcu")),
    Operation("collapse, 6.12", partial(collapse, "6.12", "rcu"), 6.9, 4),
    Operation("collapse, 6.1", partial(collapse, "6.1", "rcu"), 6.7, 4),
    Operation("collapse in place, 6.13", partial(collapse, "6.13", "promote")),
    Operation("collapse, promote-rfc", partial(collapse, "5.17", "promote-rfc")),
    Operation("NX recovery, single tables", nx_recovery),
    Operation(EXCHANGE, exchange),
    Operation(RAW_PASS, raw_pass),
)
"""``kernel`` is the median at a million SPTEs of the C of Linux 6.1.192 and 6.12.117 themselves (arch/x86/kvm/mmu),
compiled for user space once (gcc -O2; atomics real, locks and RCU empty, a flush a counter), on the machine that the
figures of docs/speed.md are from."""


def seconds(work: Work) -> float:
    """The processor's time that something takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin
