"""Roots and vCPUs: which root a vCPU runs on, which it keeps, who holds a reference, and what is flushed when."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.fault import page_fault
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.page_fault import FIXED
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.roots import full_role, invalidate_all_roots
from shootdown.mmu.spte import EPT, NPT
from shootdown.mmu.vcpu import serve_faults, vcpu_load
from shootdown.mmu.vcpu_roots import mmu_load, new_pgd, prev_root, reset_context
from shootdown.mmu.walk import get_walk
from shootdown.mmu.zap import zap_all_fast

VCPUS = 3
FIVE = 5 << words.ROLE_LEVEL_SHIFT
ROLES = [0, words.ROLE_SMM, words.ROLE_GUEST_MODE, words.ROLE_SMM | words.ROLE_GUEST_MODE, FIVE, FIVE | words.ROLE_SMM]


def tables_on(machine: NativeMachine, which: int) -> list[int]:
    """The tables of a list, in order."""
    found, table = [], machine.list_next(which, words.NO_TABLE)
    while table != words.NO_TABLE:
        found.append(table)
        table = machine.list_next(which, table)
    return found


class Root:
    """A root in the model: its role, and whether it is valid."""

    def __init__(self, role: int) -> None:
        self.role = role
        self.valid = True


class Roots(RuleBasedStateMachine):
    """vCPUs that switch roots, against lists of objects."""

    @initialize(version=st.sampled_from(sorted(BEHAVIOURS)))
    def begin(self, version: str) -> None:
        """vCPUs without roots."""
        self.machine = NativeMachine(VCPUS, 1)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[version], POLICIES["rcu"], 4, VCPUS)
        self.valid: dict[int, Root] = {}
        self.current: list[Root | None] = [None] * VCPUS
        self.kept: list[list[Root | None]] = [[None] * 3 for _ in range(VCPUS)]
        self.number: dict[Root, int] = {}

    def usable(self, root: Root | None, role: int) -> bool:
        """Would it do?"""
        return root is not None and root.valid and root.role == role

    @rule(vcpu=st.integers(0, VCPUS - 1), role=st.sampled_from(ROLES))
    def switch(self, vcpu: int, role: int) -> None:
        """A vCPU shall run on a root of another role: of its four, the present one is first, then the latest."""
        role = full_role(self.kvm, role)
        before = self.machine.vcpus.flushes(vcpu), self.machine.load(words.FLUSH_REQUESTS, 0)
        order = [self.current[vcpu], *self.kept[vcpu]]
        found = next((root for root in order if self.usable(root, role)), None)
        assert new_pgd(self.kvm, vcpu, role) == (found is not None)
        if found is not None and self.current[vcpu] is None:
            self.kept[vcpu].remove(found)
            self.kept[vcpu].append(None)
        elif self.current[vcpu] is not None:
            if found is not None:
                order.remove(found)
            else:
                order.pop()
            self.kept[vcpu] = order[:3]
        self.current[vcpu] = found
        assert (self.machine.vcpus.flushes(vcpu), self.machine.load(words.FLUSH_REQUESTS, 0)) == before

    @rule(vcpu=st.integers(0, VCPUS - 1), role=st.sampled_from(ROLES))
    def enter(self, vcpu: int, role: int) -> None:
        """A vCPU enters the guest: it lets go of invalid roots first, and loads one behind a flush if it has none."""
        self.machine.vcpus.set_faults(vcpu, [])
        obsolete = self.machine.load(words.VCPU_REQUESTS, vcpu) & words.FREE_OBSOLETE_ROOTS
        before = self.machine.vcpus.flushes(vcpu)
        if obsolete:
            self.kept[vcpu] = [root if root and root.valid else None for root in self.kept[vcpu]]
            present = self.current[vcpu]
            self.current[vcpu] = present if present and present.valid else None
        serve_faults(self.kvm, vcpu, role)
        loads = self.current[vcpu] is None
        if loads:
            role = full_role(self.kvm, role)
            self.current[vcpu] = self.valid.setdefault(role, Root(role))
        assert self.machine.vcpus.flushes(vcpu) - before == loads

    @rule(vcpu=st.integers(0, VCPUS - 1))
    def reset(self, vcpu: int) -> None:
        """A vCPU lets go of all."""
        reset_context(self.kvm, vcpu)
        self.current[vcpu] = None
        self.kept[vcpu] = [None] * 3

    @rule()
    def zap_all(self) -> None:
        """All roots become invalid, and each vCPU is told."""
        zap_all_fast(self.kvm)
        for root in self.valid.values():
            root.valid = False
        self.valid = {}

    @invariant()
    def roots_and_references_are_the_models(self) -> None:
        """Each valid root has the MMU's reference and one for each vCPU that has it; invalid ones only the latter."""
        for vcpu in range(VCPUS):
            places = [self.machine.load(words.VCPU_ROOT, vcpu), *(prev_root(self.kvm, vcpu, n) for n in range(3))]
            for root, table in zip([self.current[vcpu], *self.kept[vcpu]], places, strict=True):
                assert (root is None) == (table == words.NO_TABLE)
                if root is not None:
                    assert self.number.setdefault(root, table) == table
                    assert self.machine.load(words.SP_ROLE, table) == root.role
        listed = tables_on(self.machine, words.ROOTS)
        held = [root for vcpu in range(VCPUS) for root in (self.current[vcpu], *self.kept[vcpu]) if root is not None]
        assert sorted(listed) == sorted({self.number[root] for root in [*held, *self.valid.values()]})
        for root in {*held, *self.valid.values()}:
            count = self.machine.load(words.ROOT_COUNT, self.number[root])
            assert count == held.count(root) + root.valid
            assert (self.machine.load(words.ROOT_INVALID, self.number[root]) == 0) == root.valid
        for root in [*self.number]:
            if root not in held and not root.valid:
                del self.number[root]
        assert (self.machine.tables.used, self.machine.tables.pending) == (len(listed), 0)


Roots.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestRoots = Roots.TestCase


def vm(vcpus: int = 1, **arguments: int) -> tuple[NativeMachine, Kvm]:
    """A VM whose roots have 4 levels if they are not asked for others."""
    machine = NativeMachine(vcpus, **arguments)
    return machine, Kvm(machine, EPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 4, vcpus, pml=True)


def test_roots_of_4_and_5_levels_lie_side_by_side() -> None:
    """Each vCPU faults into its own root, on as many levels as that has; a gfn beyond one may be in the other."""
    machine, kvm = vm(2)
    assert mmu_load(kvm, 0, 0) and mmu_load(kvm, 1, FIVE)
    assert page_fault(kvm, 0, 7, 0) == page_fault(kvm, 1, 7, 0) == FIXED
    assert [len(get_walk(kvm, vcpu, 7)) for vcpu in (0, 1)] == [4, 5]
    assert get_walk(kvm, 0, 7)[3] == get_walk(kvm, 1, 7)[4]
    assert page_fault(kvm, 1, 1 << 40, 0) == FIXED
    with pytest.raises(Bug, match="a root of a higher level"):
        page_fault(kvm, 0, 1 << 40, 0)
    assert machine.load(words.TABLES, 0) == 3 + 4 + 4
    zap_all_fast(kvm)
    for vcpu in (0, 1):
        reset_context(kvm, vcpu)
    assert machine.tables.used == 0


def test_a_nested_guests_root_logs_writes_by_w() -> None:
    """Where the CPU logs pages, leaves of a nested guest's root say that D is not to be relied on."""
    _, kvm = vm()
    assert mmu_load(kvm, 0, 0)
    assert page_fault(kvm, 0, 7, 0) == FIXED
    assert not new_pgd(kvm, 0, words.ROLE_GUEST_MODE)
    assert mmu_load(kvm, 0, words.ROLE_GUEST_MODE)
    assert page_fault(kvm, 0, 7, 0) == FIXED
    nested = [*get_walk(kvm, 0, 7)]
    assert new_pgd(kvm, 0, 0)
    assert [spte >> 52 & 3 for spte in nested] == [0, 0, 0, 2]
    assert [spte >> 52 & 3 for spte in [*get_walk(kvm, 0, 7)]] == [0, 0, 0, 0]


def test_a_vcpu_that_moves_to_another_cpu_flushes_before_it_runs_there() -> None:
    """What that CPU has cached may be older than the last flush; to stay costs nothing."""
    machine, kvm = vm()
    serve_faults(kvm, 0, 0)
    before = machine.vcpus.flushes(0)
    for cpu, flushes in ((0, 0), (1, 1), (1, 1), (0, 2)):
        vcpu_load(kvm, 0, cpu)
        serve_faults(kvm, 0, 0)
        assert machine.vcpus.flushes(0) - before == flushes


def test_a_previous_root_that_became_invalid_is_not_come_back_to() -> None:
    """Even before the vCPU has been told."""
    machine, kvm = vm()
    assert mmu_load(kvm, 0, 0)
    new_pgd(kvm, 0, words.ROLE_GUEST_MODE)
    assert mmu_load(kvm, 0, words.ROLE_GUEST_MODE)
    machine.write_lock()
    invalidate_all_roots(kvm)
    machine.write_unlock()
    assert not new_pgd(kvm, 0, 0)


def test_a_second_root_at_once_is_refused() -> None:
    """It would cost the reference to the first."""
    _, kvm = vm()
    assert mmu_load(kvm, 0, 0)
    with pytest.raises(Bug, match="vCPU 0 has a root already: switch to another one by new_pgd or reset_context"):
        mmu_load(kvm, 0, 0)


def test_a_vcpu_without_memory_for_a_root_stays_out_of_the_guest() -> None:
    """It has none, and nothing is held."""
    machine, kvm = vm(tables_max=0)
    machine.vcpus.set_faults(0, [1, 2])
    assert serve_faults(kvm, 0, 0) == 0
    assert not mmu_load(kvm, 0, 0)
    assert machine.load(words.VCPU_ROOT, 0) == words.NO_TABLE
    machine.write_lock()
    machine.pages_lock()
