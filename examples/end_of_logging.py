"""How many remote flushes does it take to end dirty logging, which rebuilds huge pages?

    python examples/end_of_logging.py [MEMORY [PAGE]]

MEMORY of a guest, 32M if not said, lies on PAGEs of the host, 2M or 1G. The guest has touched all of it; logging
begins, which splits every huge page, and ends. With the compiled package this does the sizes that were published: 96G
on 1G (November 2021, May 2022) and 256G on 2M (August 2024), in a second or two a policy.
"""

from __future__ import annotations

import sys

import shootdown

STEP = {"2M": shootdown.PAGES_2M, "1G": shootdown.PAGES_1G}


def main(memory: str = "32M", page: str = "2M") -> None:
    """Print a line for each policy."""
    print(f"{memory} on pages of {page}")
    print(f"{'policy':15} {'as of':>5} {'flushes':>12} {'faults to come':>15}")
    for policy in shootdown.policies():
        vm = shootdown.Vm(policy, memory=memory, page=page)
        vm.fault(range(0, vm.pages, STEP[page]))
        vm.log_dirty(True)
        before = vm.counters
        vm.log_dirty(False)
        flushes = (vm.counters - before).flush_requests
        unmapped = vm.pages // STEP[page] - vm.counters.pages_2m - vm.counters.pages_1g
        print(f"{policy:15} {vm.behaviour:>5} {flushes:12,} {unmapped:15,}")


if __name__ == "__main__":
    main(*sys.argv[1:])
