"""How many flushes each policy asks for, and how many tables wait meanwhile: one table, every policy in it.

The counts follow from how the policies are defined; the operations are done by the MMU on the native machine.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.batch import Batch
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.huge_pages import disable_dirty_logging
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.notifier import invalidate_range_end, invalidate_range_start, kvm_zap_gfn_range
from shootdown.mmu.policies.policy import Policy
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import serve_faults

REGION = 512
GIB = 512 * 512

CUTS_TABLES = "5.17"
"""The behaviour whose range zaps remove tables, which makes the policies differ there."""


class Counting:
    """A VM that notes at each yield whether its policy found a flush owed."""

    def __init__(self, policy: str, behaviour: str, resched_every: int = 0) -> None:
        kind = type(POLICIES[policy])
        self.owed: list[bool] = []
        owed = self.owed

        def leave_to_yield(self: Policy, kvm: Kvm, batch: Batch) -> None:
            owed.append(bool(batch.flush))
            kind.leave_to_yield(self, kvm, batch)

        chosen = type("Counting", (kind,), {"leave_to_yield": leave_to_yield})()
        self.machine = NativeMachine(2, resched_every=resched_every)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[behaviour], chosen, 4, 2)

    def map(self, gfns: range, vcpu: int = 0, role: int = 0) -> None:
        """Map these pages by 4K leaves."""
        self.machine.vcpus.set_faults(vcpu, gfns)
        assert serve_faults(self.kvm, vcpu, role) == len(gfns)

    def back(self, gfns: range, level: int) -> None:
        """Let the host have huge pages that begin at these gfns, as it had before they were logged."""
        for gfn in gfns:
            self.machine.store(words.HOST_LEVEL, gfn, level)

    def asked(self, work: Callable[[], object]) -> int:
        """How many flushes something asks for; yields before it are forgotten."""
        self.owed.clear()
        before = self.machine.load(words.FLUSH_REQUESTS, 0)
        work()
        return int(self.machine.load(words.FLUSH_REQUESTS, 0) - before)


def behaviour_for(policy: str, wanted: str) -> str:
    """The behaviour to try a policy with: an exact one has its own."""
    return POLICIES[policy].behaviour if POLICIES[policy].exact else wanted


ONE_TABLE = {
    "eager": 2, "promote-rfc": 2, "list": 1, "list-as-posted": 1, "rcu": 1, "rcu-roots": 1, "leaf-zap": 1, "promote": 1,
    "rcu-literal": 0, "kernel-6.1": 1, "kernel-6.12": 1,
}  # fmt: skip
"""Of a range zap of 2 MiB: a flush for the table and the caller's, or one for both; nobody's if read literally."""


@pytest.mark.parametrize("policy", POLICIES)
def test_removing_one_table(policy: str) -> None:
    """A range zap of one full table asks for 1 flush and eager's caller for 1 more; kernels keep the table."""
    vm = Counting(policy, behaviour_for(policy, CUTS_TABLES))
    vm.map(range(REGION))
    assert vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, REGION)) == ONE_TABLE[policy]
    assert vm.machine.load(words.TABLES, 0) == (3 if POLICIES[policy].exact else 2)
    assert vm.machine.load(words.PAGES, 1) == 0


@pytest.mark.parametrize("policy", [name for name in POLICIES if not POLICIES[name].exact])
def test_removing_a_subtree(policy: str) -> None:
    """A range zap of 1 GiB in 513 tables asks for 513 flushes and the caller's where each table takes one, else 1."""
    vm = Counting(policy, CUTS_TABLES)
    vm.map(range(0, GIB, REGION))
    asked = vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, GIB))
    assert asked == {2: 514, 1: 1, 0: 0}[ONE_TABLE[policy]]
    assert vm.machine.load(words.TABLES, 0) == 1


@pytest.mark.parametrize("policy", [name for name in POLICIES if not POLICIES[name].exact])
@pytest.mark.parametrize("resched_every", [0, 1, 3, 5])
def test_many_regions_in_one_range_zap(policy: str, resched_every: int) -> None:
    """n tables, k yields that owe a flush: eager tables + k and one at its end, the others k and one, list only one.

    Tables that wait: with list all of them, since its list outlives yields; else those cut since the last yield.
    """
    regions = 16
    vm = Counting(policy, CUTS_TABLES, resched_every)
    vm.map(range(0, regions * REGION, REGION))
    asked = vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, regions * REGION))
    owing = sum(vm.owed)
    tables = regions if ONE_TABLE[policy] == 2 else 0
    # If the walk gave way after the last region, nothing is owed at its end.
    assert 0 <= asked - tables - owing <= (policy != "rcu-literal")
    assert resched_every or asked == tables + (policy != "rcu-literal")
    assert policy != "list" or asked == owing + 1
    assert (owing > 0) == (0 < resched_every <= regions)
    waited = vm.machine.tables.pending_max
    if policy == "list" or resched_every == 0:
        assert waited == regions
    else:
        assert waited <= regions // 2 if resched_every > 1 else waited == 1


COLLAPSED = {
    "eager": lambda n, tables, leaves: tables + n,
    "list": lambda n, tables, leaves: n,
    "list-as-posted": lambda n, tables, leaves: n,
    "rcu": lambda n, tables, leaves: n,
    "rcu-roots": lambda n, tables, leaves: n,
    "rcu-literal": lambda n, tables, leaves: n,
    "kernel-6.1": lambda n, tables, leaves: n,
    "kernel-6.12": lambda n, tables, leaves: n,
    "promote-rfc": lambda n, tables, leaves: tables,
    "promote": lambda n, tables, leaves: 1,
    "leaf-zap": lambda n, tables, leaves: leaves,
}
"""Of a collapse of n regions with so many tables and leaves, nothing giving way."""


@pytest.mark.parametrize("behaviour", ["6.1", "6.12"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("level", "regions", "step"), [(2, 1, 1), (2, 5, 64), (3, 1, 1024), (3, 2, 4096)])
def test_regions_zapped_under_the_lock_for_read(
    policy: str, behaviour: str, level: int, regions: int, step: int
) -> None:
    """Dirty logging ends over n regions: a flush each, besides one a table, or one a leaf, or one for all in place."""
    behaviour = "6.13" if policy == "promote" else behaviour_for(policy, behaviour)
    vm = Counting(policy, behaviour)
    pages = regions * 512 ** (level - 1)
    vm.map(range(0, pages, step))
    leaves = pages // step
    tables = {2: regions, 3: regions * (1 + min(512, GIB // step))}[level]
    vm.back(range(0, pages, step), level)
    asked = vm.asked(lambda: disable_dirty_logging(vm.kvm, 0, 0, pages))
    assert asked == COLLAPSED[policy](regions, tables, leaves)
    if policy == "leaf-zap":
        assert vm.machine.tables.pending_max == 0


@pytest.mark.parametrize("resched_every", [1, 2, 7])
def test_promotion_flushes_at_yields_and_at_its_end(resched_every: int) -> None:
    """n regions rebuilt in place, giving way k times with a flush owed: k, and one at the end for what came after."""
    regions = 32
    vm = Counting("promote", "6.13", resched_every)
    vm.map(range(0, regions * REGION, REGION))
    vm.back(range(0, regions * REGION, REGION), 2)
    asked = vm.asked(lambda: disable_dirty_logging(vm.kvm, 0, 0, regions * REGION))
    assert vm.machine.load(words.PAGES, 2) == regions
    assert sum(vm.owed) <= asked <= sum(vm.owed) + 1
    assert vm.machine.tables.pending_max <= max(1, resched_every)


WITH_TABLES = {
    "eager": 3, "promote-rfc": 3, "list": 2, "list-as-posted": 1, "rcu": 2, "leaf-zap": 2, "promote": 2, "rcu-roots": 1,
    "rcu-literal": 0,
}  # fmt: skip
"""Of two roots with one table each: rcu's batch is the call for one root, rcu-roots' the whole operation."""


def two_roots(policy: str, behaviour: str) -> Counting:
    """A VM with two roots of one address space: one vCPU runs a nested guest."""
    vm = Counting(policy, behaviour)
    vm.map(range(REGION))
    vm.map(range(REGION), 1, words.ROLE_GUEST_MODE)
    assert vm.machine.load(words.PAGES, 1) == 2 * REGION
    return vm


@pytest.mark.parametrize("policy", POLICIES)
def test_two_roots_in_one_notifier(policy: str) -> None:
    """Leaves of two roots that one notifier unmaps cost one flush, whatever the policy."""
    vm = two_roots(policy, behaviour_for(policy, "6.12"))
    assert vm.asked(lambda: invalidate_range_start(vm.kvm, 0, REGION, True)) == 1
    assert vm.machine.load(words.PAGES, 1) == 0
    assert vm.machine.tables.pending_max == 0
    invalidate_range_end(vm.kvm, 0, REGION)


@pytest.mark.parametrize("policy", WITH_TABLES)
def test_two_roots_with_tables_in_one_notifier(policy: str) -> None:
    """With tables, the batch scope shows: a flush a root, or one for both."""
    vm = two_roots(policy, CUTS_TABLES)
    assert vm.asked(lambda: invalidate_range_start(vm.kvm, 0, REGION, True)) == WITH_TABLES[policy]
    assert vm.machine.load(words.TABLES, 0) == 4
    assert vm.machine.tables.pending_max == (2 if policy == "rcu-roots" else 1)
