"""How fast the MMU's own code runs on the native machine, and what an SPTE takes of memory.

    python -m benchmarks.native [LARGEST]

does what ``operations`` lists to 100,000 guest pages mapped by 4K leaves, and then to ten times as many, up to LARGEST
(10,000,000): 4 levels, tables of 512 entries, one vCPU. Nanoseconds of the processor's time for each 4K SPTE, best and
median of five runs in one process (three from ten million on); every loop is inside the compiled package.

The last columns say how many raw passes over as much memory a median is, what the kernel's own C takes, how many times
that a median is, and how many it may be at most. A process of its own measures memory: the growth of its peak of
resident memory while it maps. ``python -m benchmarks.profile OPERATION`` says where the time of one goes.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.operations import GIB, OPERATIONS, RAW_PASS, Operation
from shootdown import build_info
from shootdown.kernel.cost.bench import seconds
from shootdown.kernel.cost.workloads import HUGE, OurVm
from shootdown.machine import words
from shootdown.mmu.notifier import kvm_zap_gfn_range

RUNS, RUNS_OF_MANY = 5, 3
MANY = 10_000_000
HEADING = f"{'':30} {'best ns':>8} {'median ns':>10} {'raw passes':>11} {'kernel ns':>10} {'times':>6} {'aim':>4}"


def measure(number: int) -> None:
    """Print what an SPTE costs in a VM of this size."""
    number = number // HUGE * HUGE
    print(f"\n{number:,} SPTEs, {bytes_each(number):.2f} bytes each\n{HEADING}", flush=True)
    runs = RUNS_OF_MANY if number > MANY // 2 else RUNS
    taken = {op.name: [seconds(op.ready(number)) / number * 1e9 for _ in range(runs)] for op in OPERATIONS}
    raw = statistics.median(taken[RAW_PASS])
    for operation in OPERATIONS:
        print(line(operation, taken[operation.name], raw))


def line(operation: Operation, taken: list[float], raw: float) -> str:
    """What an operation took, in nanoseconds, beside what the kernel takes."""
    median = statistics.median(taken)
    text = f"{operation.name:30} {min(taken):8.2f} {median:10.2f} {median / raw:11.1f}"
    if operation.kernel is None:
        return text
    aim = f"{operation.most:4.0f}" if operation.most else ""
    return f"{text} {operation.kernel:10.1f} {median / operation.kernel:6.1f} {aim}".rstrip()


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
    vm = OurVm("6.12", "rcu")
    before = peak()
    vm.map(number)
    print(peak() - before)


def flushes() -> None:
    """Print how many flushes a range zap of 1 GiB with tables asks for."""
    print("\nrange zap of 1 GiB (5.17): flush requests, most tables that wait for RCU")
    for policy in ("eager", "list", "rcu"):
        vm = OurVm("5.17", policy)
        vm.map(GIB)
        before = vm.machine.load(words.FLUSH_REQUESTS, 0)
        kvm_zap_gfn_range(vm.kvm, 0, GIB)
        asked = vm.machine.load(words.FLUSH_REQUESTS, 0) - before
        print(f"{policy:34} {asked:8} {vm.machine.tables.pending_max:10}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        print_growth(int(sys.argv[2]))
    else:
        print(f"shootdown {build_info.describe()}; the processor's time, best and median")
        size, largest = 100_000, int(sys.argv[1]) if sys.argv[1:] else 10_000_000
        while size <= largest:
            measure(size)
            size *= 10
        flushes()
