"""How fast the MMU's own code runs on the native machine, and what an SPTE takes of memory.

    python -m benchmarks.native [LARGEST]

maps 100,000 guest pages by 4K leaves, then ten times as many up to LARGEST (10,000,000), and does to them what the
names say: 4 levels, tables of 512 entries, one vCPU, policy ``rcu`` where none is named. Nanoseconds of the processor's
time for each 4K SPTE, best and median of five runs in one process; every loop is inside the compiled package.

fault map, remap    entering the guest, leaving it with a fault and serving that, once a page; remap: tables exist
exchange            each word of emptied tables is exchanged once, in the MMU's shortest loop (``handle_removed_pt``)
raw pass            numpy reads and writes as many words in place: what memory itself takes

The last columns say how many exchanges or raw passes a median is. A process of its own measures memory: the growth of
its peak of resident memory while it maps. Last, the flushes that one range zap of 1 GiB asks for, by policy.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from shootdown import build_info
from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.notifier import kvm_zap_gfn_range
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.zap import zap_all_fast

RUNS = 5
SLICE = 1 << 12
"""Faults that a vCPU is told of at a time, so that their list takes no memory worth mentioning."""

HUGE = 512
GIB = HUGE * HUGE


class Vm:
    """A VM of one vCPU on a machine of its own."""

    def __init__(self, behaviour: str, policy: str, nx: bool = False) -> None:
        self.machine = NativeMachine()
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[behaviour], POLICIES[policy], 4, 1, nx)
        self.nx = nx

    def map(self, number: int) -> float:
        """Fault at the first ``number`` pages; the seconds that serving the faults took."""
        taken = 0.0
        for first in range(0, number, SLICE):
            self.machine.vcpus.set_faults(0, range(first, min(first + SLICE, number)), FETCH if self.nx else 0)
            taken += seconds(partial(serve_faults, self.kvm, 0, 0))
        return taken

    def allow_huge(self, number: int) -> None:
        """Have the host back every whole region of 2 MiB by a huge page."""
        for gfn in range(0, number, HUGE):
            self.machine.store(words.HOST_LEVEL, gfn, 2)

    def zap_root(self) -> None:
        """Zap everything, and have the vCPU let go of its root, which frees it."""
        zap_all_fast(self.kvm)
        self.machine.vcpus.set_faults(0, [])
        serve_faults(self.kvm, 0, 0)


def seconds(work: Callable[[], object]) -> float:
    """The processor's time that something takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def run(number: int) -> dict[str, float]:
    """Do everything once; the seconds that each operation took."""
    taken = {}
    for behaviour in ("6.12", "6.1"):
        vm = Vm(behaviour, "rcu")
        taken[f"fault map, {behaviour}"] = vm.map(number)
        taken[f"zap leafs, {behaviour}"] = seconds(partial(kvm_zap_gfn_range, vm.kvm, 0, number))
        taken[f"remap, {behaviour}"] = vm.map(number)
        taken[f"zap root, {behaviour}"] = seconds(vm.zap_root)
    vm.map(number)
    kvm_zap_gfn_range(vm.kvm, 0, number)
    taken["exchange"] = seconds(vm.zap_root)
    for policy in ("eager", "list", "rcu"):
        vm = Vm("5.17", policy)
        vm.map(number)
        taken[f"range zap with tables, {policy}"] = seconds(partial(kvm_zap_gfn_range, vm.kvm, 0, number))
    vm = Vm("6.13", "promote")
    vm.map(number)
    vm.allow_huge(number)
    taken["collapse in place, 6.13"] = seconds(partial(disable_dirty_logging, vm.kvm, 0, 0, number))
    vm = Vm("6.12", "rcu", nx=True)
    vm.allow_huge(number)
    vm.map(number)
    taken["NX recovery, single tables"] = seconds(partial(recover_nx_huge_pages, vm.kvm, number))
    memory = np.arange(number)
    taken["raw pass"] = seconds(partial(np.invert, memory, out=memory))
    return taken


def measure(number: int) -> None:
    """Print what an SPTE costs in a VM of this size."""
    runs = [run(number) for _ in range(RUNS)]
    print(f"\n{number:,} SPTEs, {bytes_each(number):.2f} bytes each")
    print(f"{'':34} {'best ns':>8} {'median ns':>10} {'exchanges':>10} {'raw passes':>11}")
    medians = {name: statistics.median(taken[name] for taken in runs) for name in runs[0]}
    for name, median in medians.items():
        best = min(taken[name] for taken in runs)
        ratios = [median / medians[plain] for plain in ("exchange", "raw pass")]
        print(f"{name:34} {best / number * 1e9:8.2f} {median / number * 1e9:10.2f} {ratios[0]:10.1f} {ratios[1]:11.1f}")


def bytes_each(number: int) -> float:
    """Memory that an SPTE takes while it is mapped, with all that is around it."""
    command = [sys.executable, "-m", "benchmarks.native", "peak", str(number)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) / number


def peak() -> int:
    """The most bytes of memory that this process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def print_growth(number: int) -> None:
    """Map, and print by how much the peak of memory grew."""
    vm = Vm("6.12", "rcu")
    before = peak()
    vm.map(number)
    print(peak() - before)


def flushes() -> None:
    """Print how many flushes a range zap of 1 GiB with tables asks for."""
    print("\nrange zap of 1 GiB (5.17): flush requests, most tables that wait for RCU")
    for policy in ("eager", "list", "rcu"):
        vm = Vm("5.17", policy)
        vm.map(GIB)
        before = vm.machine.load(words.FLUSH_REQUESTS, 0)
        kvm_zap_gfn_range(vm.kvm, 0, GIB)
        asked = vm.machine.load(words.FLUSH_REQUESTS, 0) - before
        print(f"{policy:34} {asked:8} {vm.machine.tables.pending_max:10}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        print_growth(int(sys.argv[2]))
    else:
        print(f"shootdown {build_info.describe()}; the processor's time, best and median of {RUNS} runs")
        size, largest = 100_000, int(sys.argv[1]) if sys.argv[1:] else 10_000_000
        while size <= largest:
            measure(size)
            size *= 10
        flushes()
