"""What a fault takes in a VM with many memory slots, all of which its guest uses alike.

    python -m benchmarks.slots

maps some 200,000 pages by 4K leaves, slot by slot, and prints nanoseconds of the processor's time for each fault, the
best of three runs, by the number of slots. 0: all memory is one slot that never changes.
"""

from __future__ import annotations

from shootdown.kernel.cost.bench import seconds
from shootdown.kernel.cost.workloads import HUGE
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import serve_faults

NUMBERS = (0, 1, 8, 32, 100, 500)
PAGES = 200_000
RUNS = 3


def fault(number: int, pages: int) -> float:
    """Seconds that a fault takes with so many slots."""
    machine = NativeMachine(1, 9, slots=number)
    kvm = Kvm(machine, NPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 4, 1, slots=number)
    each = max(pages // max(number, 1) // HUGE, 1) * HUGE
    for slot in range(number):
        set_memory_region(kvm, slot, 0, slot * each, each, 0)
    mapped = each * max(number, 1)
    machine.vcpus.set_faults(0, range(mapped))
    return seconds(lambda: serve_faults(kvm, 0, 0)) / mapped


if __name__ == "__main__":
    for number in NUMBERS:
        best = min(fault(number, PAGES) for _ in range(RUNS))
        print(f"{number:4} slots {best * 1e9:8.1f} ns")
