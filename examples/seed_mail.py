"""How many remote flushes does it take to zap 1 GiB of guest memory? The question of the mail of November 2021.

Each policy zaps the same gigabyte, mapped through 512 page tables below one more, as the kernels of its time did: those
up to 5.17 cut the tables off, later ones zap what the tables map and keep them.
"""

from __future__ import annotations

import shootdown

GIB = shootdown.PAGES_1G
KERNELS = ("kernel-6.1", "kernel-6.12")


def main() -> None:
    """Print a line for each policy."""
    print(f"{'policy':15} {'flushes':>8} {'tables cut':>11} {'waiting at most':>16}")
    for policy in shootdown.policies():
        vm = shootdown.Vm(policy, None if policy in KERNELS else "5.17", memory="1G")
        vm.fault(range(0, GIB, shootdown.PAGES_2M))
        before = vm.counters
        vm.zap(0, GIB)
        done = vm.counters - before
        print(f"{policy:15} {done.flush_requests:8} {-done.tables:11} {done.tables_pending_max:16}")


if __name__ == "__main__":
    main()
