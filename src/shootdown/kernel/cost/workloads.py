"""What is timed: operations of the MMU over many SPTEs, on a VM of ours, and the same on one of the kernel's C.

Each is made ready for a number of 4K pages, a multiple of 512, which gives what is then timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ...machine import words
from ...machine.native import NativeMachine
from ...mmu.access import FETCH
from ...mmu.behaviour import BEHAVIOURS
from ...mmu.dirty_log import slot_leaf_clear_dirty
from ...mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from ...mmu.kvm import Kvm
from ...mmu.memory_region import set_memory_region
from ...mmu.notifier import clear_young, kvm_zap_gfn_range
from ...mmu.policies.registry import POLICIES
from ...mmu.split import slot_try_split_huge_pages
from ...mmu.spte import NPT
from ...mmu.vcpu import serve_faults
from ...mmu.write_protect import slot_remove_write_access
from ...mmu.zap import zap_all_fast
from ..library import native
from ..library.native import Config, NativeVm

SLICE: Final = 1 << 12
"""Faults that a vCPU is told of at a time, so that their list takes no memory worth mentioning."""
HUGE: Final = 512

Work = Callable[[], object]


class OurVm:
    """A VM of ours with one vCPU, on a machine of its own; ``slots`` 0: all of its memory is one slot for ever."""

    def __init__(self, behaviour: str, policy: str, nx: bool = False, host_level: int = 1, slots: int = 0) -> None:
        self.machine = NativeMachine(host_level=host_level, slots=slots)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[behaviour], POLICIES[policy], 4, 1, nx, slots=slots)
        self.nx = nx

    def map(self, number: int, step: int = 1) -> None:
        """Fault at every ``step``-th of the first ``number`` pages."""
        for first in range(0, number, SLICE * step):
            faults = range(first, min(first + SLICE * step, number), step)
            self.machine.vcpus.set_faults(0, faults, FETCH if self.nx else 0)
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


class TheirVm:
    """A VM of the kernel's C with one vCPU and one slot of so many pages."""

    def __init__(self, library: Path, number: int, config: Config) -> None:
        tables = 64 + number // HUGE * 5 // 4
        self.c = NativeVm(library, config, tables)
        self.c.set_memory_region(0, 0, 0, number, 0)
        self.c.enter(0)
        self.code = FETCH if config.nx_huge_pages else 0

    def map(self, number: int, step: int = 1) -> None:
        """As ``OurVm.map``, but for entering the guest."""
        self.c.faults(0, 0, number, step, self.code)

    def run(self, number: int) -> None:
        """The same, and each time the vCPU enters the guest before."""
        self.c.run_faults(0, 0, number, self.code)

    def zap_root(self) -> None:
        """As ``OurVm.zap_root``."""
        self.c.zap_all_fast()
        self.c.enter(0)
        self.c.drain()

    def collapse(self) -> None:
        """Tables that huge pages can stand for go, and are freed."""
        self.c.slot(0, native.COLLAPSE)
        self.c.drain()


Vm = TypeVar("Vm", OurVm, TheirVm)


@dataclass(frozen=True)
class Workload:
    """An operation: ``ours`` and ``theirs`` make a VM ready, which was made with ``nx`` and ``host_level``."""

    name: str
    ours: Callable[[OurVm, int], Work]
    theirs: Callable[[TheirVm, int], Work]
    nx: bool = False
    host_level: int = 1


def mapped(work: Callable[[Vm, int], Work], step: int = 1) -> Callable[[Vm, int], Work]:
    """The same after all was mapped."""

    def ready(vm: Vm, number: int) -> Work:
        vm.map(number, step)
        return work(vm, number)

    return ready


def protect(vm: OurVm, number: int) -> Work:
    """All leaves lose W, as when dirty logging begins."""
    return partial(slot_remove_write_access, vm.kvm, 0, 0, number, 1)


def protect_again(vm: OurVm, number: int) -> Work:
    """They have lost it, and the walk is all there is."""
    protect(vm, number)()
    return protect(vm, number)


def protect_there_again(vm: TheirVm, number: int) -> Work:
    """The same of the C's."""
    vm.c.slot(0, native.PROTECT, 1)
    return partial(vm.c.slot, 0, native.PROTECT, 1)


def collapse(vm: OurVm, number: int) -> Work:
    """Tables that huge pages can stand for go."""
    vm.allow_huge(number)
    return partial(disable_dirty_logging, vm.kvm, 0, 0, number)


def collapse_there(vm: TheirVm, number: int) -> Work:
    """The same of the C's."""
    vm.c.host_level(2)
    return vm.collapse


def recover_there(vm: TheirVm, number: int) -> Work:
    """Every table by itself, off the list of those that only the NX mitigation made necessary."""

    def work() -> None:
        vm.c.recover_nx(1 << 40)
        vm.c.drain()

    return work


WORKLOADS: Final = (
    Workload("fault map", lambda vm, number: partial(vm.map, number), lambda vm, number: partial(vm.run, number)),
    Workload(
        "zap leafs", mapped(lambda vm, number: partial(kvm_zap_gfn_range, vm.kvm, 0, number)),
        mapped(lambda vm, number: partial(vm.c.zap_range, 0, number)),
    ),
    Workload("write-protect", mapped(protect), mapped(lambda vm, _: partial(vm.c.slot, 0, native.PROTECT, 1))),
    Workload("write-protect again", mapped(protect_again), mapped(protect_there_again)),
    Workload(
        "clear dirty", mapped(lambda vm, number: partial(slot_leaf_clear_dirty, vm.kvm, 0, 0, number)),
        mapped(lambda vm, _: partial(vm.c.slot, 0, native.CLEAR_DIRTY)),
    ),
    Workload(
        "age", mapped(lambda vm, number: partial(clear_young, vm.kvm, 0, number)),
        mapped(lambda vm, number: partial(vm.c.age, 0, number, False)),
    ),
    Workload(
        "split 2M", mapped(lambda vm, number: partial(slot_try_split_huge_pages, vm.kvm, 0, 0, number), HUGE),
        mapped(lambda vm, _: partial(vm.c.slot, 0, native.SPLIT), HUGE), host_level=2,
    ),
    Workload(
        "split 1G",
        mapped(lambda vm, number: partial(slot_try_split_huge_pages, vm.kvm, 0, 0, number), HUGE**2),
        mapped(lambda vm, _: partial(vm.c.slot, 0, native.SPLIT), HUGE**2), host_level=3,
    ),
    Workload("zap root", mapped(lambda vm, number: vm.zap_root), mapped(lambda vm, _: vm.zap_root)),
    Workload("collapse", mapped(collapse), mapped(collapse_there)),
    Workload(
        "NX recovery", mapped(lambda vm, number: partial(recover_nx_huge_pages, vm.kvm, number)),
        mapped(recover_there), nx=True, host_level=2,
    ),
)  # fmt: skip
"""By name, each per 4K SPTE."""


def ours_of(workload: Workload, behaviour: str, policy: str, number: int, slots: int = 0) -> Work:
    """A workload on a fresh VM of ours, ready to be timed."""
    vm = OurVm(behaviour, policy, workload.nx, workload.host_level, slots)
    if slots:
        set_memory_region(vm.kvm, 0, 0, 0, number, 0)
    return workload.ours(vm, number)


def theirs_of(workload: Workload, library: Path, number: int) -> Work:
    """The same on one of the C's; it ends the one before."""
    config = Config(host_level=workload.host_level, nx_huge_pages=workload.nx)
    return workload.theirs(TheirVm(library, number, config), number)
