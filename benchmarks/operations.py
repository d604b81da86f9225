"""What is timed: the operations of the MMU over many SPTEs, each on a VM of its own.

An operation is made ready for a number of 4K pages (a multiple of 512), which gives what is then timed. Beside each
stands what the kernel's own C takes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from shootdown.kernel.cost.workloads import HUGE, WORKLOADS, OurVm, Work, ours_of
from shootdown.mmu.notifier import kvm_zap_gfn_range

GIB = HUGE * HUGE

BY_NAME = {workload.name: workload for workload in WORKLOADS}


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


def shared(name: str, behaviour: str, policy: str = "rcu") -> Callable[[int], Work]:
    """A workload that the kernel's own C is timed with as well."""
    return partial(ours_of, BY_NAME[name], behaviour, policy)


def range_zap(behaviour: str, policy: str, number: int) -> Work:
    """All pages in one range zap."""
    vm = OurVm(behaviour, policy)
    vm.map(number)
    return partial(kvm_zap_gfn_range, vm.kvm, 0, number)


def remap(number: int) -> Work:
    """A fault a page where tables are there already."""
    vm = OurVm("6.12", "rcu")
    vm.map(number)
    kvm_zap_gfn_range(vm.kvm, 0, number)
    return partial(vm.map, number)


def exchange(number: int) -> Work:
    """Every word of emptied tables is exchanged once, in the MMU's shortest loop (``handle_removed_pt``)."""
    vm = OurVm("6.1", "rcu")
    vm.map(number)
    kvm_zap_gfn_range(vm.kvm, 0, number)
    return vm.zap_root


def raw_pass(number: int) -> Work:
    """As many words are read and written in place by numpy: what memory itself takes."""
    memory = np.arange(number)
    return partial(np.invert, memory, out=memory)


EXCHANGE, RAW_PASS = "exchange", "raw pass"

OPERATIONS = (
    Operation("fault map, 6.12", shared("fault map", "6.12"), 43.8, 4),
    Operation("fault map, 6.1", shared("fault map", "6.1"), 45.4, 4),
    Operation("fault map again, 6.12", remap),
    Operation("zap leafs, 6.12", shared("zap leafs", "6.12"), 9.9, 2),
    Operation("zap leafs, 6.1", shared("zap leafs", "6.1"), 11.8, 2),
    Operation("write-protect, 6.12", shared("write-protect", "6.12"), 11.0, 2),
    Operation("write-protect, 6.1", shared("write-protect", "6.1"), 11.5, 2),
    Operation("write-protect again, 6.12", shared("write-protect again", "6.12"), 3.3),
    Operation("clear dirty, 6.12", shared("clear dirty", "6.12"), 10.5, 2),
    Operation("clear dirty, 6.1", shared("clear dirty", "6.1"), 10.3, 2),
    Operation("age, 6.12", shared("age", "6.12"), 5.0, 2),
    Operation("age, 6.1", shared("age", "6.1"), 11.6, 2),
    Operation("split 2M, 6.12", shared("split 2M", "6.12"), 2.8, 4),
    Operation("split 2M, 6.1", shared("split 2M", "6.1"), 2.4, 4),
    Operation("split 1G, 6.12", shared("split 1G", "6.12")),
    Operation("split 1G, 6.1", shared("split 1G", "6.1")),
    Operation("zap root, 6.12", shared("zap root", "6.12"), 14.7, 4),
    Operation("zap root, 6.1", shared("zap root", "6.1"), 6.7, 4),
    Operation("range zap with tables, eager", partial(range_zap, "5.17", "eager")),
    Operation("range zap with tables, list", partial(range_zap, "5.17", "list")),
    Operation("range zap with tables, rcu", partial(range_zap, "5.17", "rcu")),
    Operation("collapse, 6.12", shared("collapse", "6.12", "rcu"), 6.9, 4),
    Operation("collapse, 6.1", shared("collapse", "6.1", "rcu"), 6.7, 4),
    Operation("collapse in place, 6.13", shared("collapse", "6.13", "promote")),
    Operation("collapse, promote-rfc", shared("collapse", "5.17", "promote-rfc")),
    Operation("NX recovery, single tables", shared("NX recovery", "6.12")),
    Operation(EXCHANGE, exchange),
    Operation(RAW_PASS, raw_pass),
)
"""``kernel`` is the median at a million SPTEs of the C of Linux 6.1.192 and 6.12.117 themselves (arch/x86/kvm/mmu),
compiled for user space once (gcc -O2; atomics real, locks and RCU empty, a flush a counter), on the machine that the
figures of docs/speed.md are from."""
