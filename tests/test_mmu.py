"""The MMU on the native machine: page tables, statistics and flushes are what a plain model says, with every policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH
from shootdown.mmu.batch import Batch
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.make_spte import make_huge, make_leaf, make_nonleaf, make_split
from shootdown.mmu.notifier import invalidate_range_end, invalidate_range_start, kvm_zap_gfn_range
from shootdown.mmu.policies.policy import PROMOTE, RECOVER, ZAP_LEAFS, ZAP_TABLES, Policy
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import EPT, NPT, PRESENT, SpteFormat, is_leaf, spte_pfn, unsigned
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.zap import zap_all_fast

Place = tuple[int, int]
"""Level and first gfn of an entry."""


class Tree:
    """What page tables should hold: ``leaves`` to their pfn, ``tables`` below which entries, ``tracked`` oldest first.

    ``clean``: leaves that faults left without D; ``refused``: tables that the NX mitigation caused, as 6.12 notes it.

    Every method says what an operation of the MMU comes to, in terms of nothing but these.
    """

    def __init__(self, bits: int, levels: int, behaviour: str, collapse: int, nx: bool) -> None:
        self.bits = bits
        self.levels = levels
        self.behaviour = BEHAVIOURS[behaviour]
        self.form = collapse
        self.nx = nx
        self.leaves: dict[Place, int] = {}
        self.tables: set[Place] = set()
        self.tracked: list[Place] = []
        self.clean: set[Place] = set()
        self.refused: set[Place] = set()
        self.host_pfn = {gfn: gfn for gfn in range(1 << bits * levels)}
        self.host_level = dict.fromkeys(self.host_pfn, 1)

    def pages(self, level: int) -> int:
        """Pages under an entry."""
        return int(1 << self.bits * (level - 1))

    def place(self, level: int, gfn: int) -> Place:
        """The entry of a level that covers a page."""
        return level, gfn // self.pages(level) * self.pages(level)

    def inside(self, place: Place, start: int, end: int) -> bool:
        """Does an entry lie wholly in a range?"""
        return start <= place[1] and place[1] + self.pages(place[0]) <= end

    def drop(self, place: Place) -> None:
        """Nothing is there or below any more."""
        level, first = place

        def gone(other: Place) -> bool:
            return other[0] <= level and self.inside(other, first, first + self.pages(level))

        self.leaves = {other: pfn for other, pfn in self.leaves.items() if not gone(other)}
        self.tables = {other for other in self.tables if not gone(other)}
        self.tracked = [other for other in self.tracked if not gone(other)]
        self.clean = {other for other in self.clean if not gone(other)}
        self.refused = {other for other in self.refused if not gone(other)}

    def fault(self, gfn: int, execute: bool) -> None:
        """A page is mapped as large as the host has it, on a way of tables; NX allows no huge page to execute."""
        pfn, host_level = self.host_pfn[gfn], self.host_level[gfn]
        if pfn < 0:
            return
        disallowed = self.nx and execute
        goal = 1 if disallowed else host_level
        for level in range(self.levels, 0, -1):
            place = self.place(level, gfn)
            keeping = self.refused if self.behaviour.marks_refused else self.tables
            if level == goal > 1 and self.nx and place in keeping:
                goal -= 1
            if level == goal:
                if place not in self.leaves:
                    self.drop(place)
                    self.leaves[place] = pfn - pfn % self.pages(level)
                elif self.behaviour.name not in ("6.13", "6.18"):
                    self.clean.add(place)
                return
            if place not in self.tables:
                self.add_table(place, disallowed, host_level >= level)

    def add_table(self, place: Place, disallowed: bool, huge_in_host: bool) -> None:
        """A table takes an entry's place; what a huge page mapped stays mapped only where faults split."""
        level, first = place
        huge = self.leaves.pop(place, None)
        clean = place in self.clean
        self.clean.discard(place)
        self.tables.add(place)
        if disallowed:
            self.refused.add(place)
            if huge_in_host:
                self.tracked.append(place)
        if huge is not None and self.behaviour.split_in_fault:
            for page in range(0, self.pages(level), self.pages(level - 1)):
                self.leaves[level - 1, first + page] = huge + page
                if clean:
                    self.clean.add((level - 1, first + page))

    def zap(self, start: int, end: int, tables: bool) -> None:
        """Leaves that touch a range go, and with ``tables`` every table inside it."""
        for place in [*self.leaves]:
            if place[1] < end and start < place[1] + self.pages(place[0]):
                del self.leaves[place]
                self.clean.discard(place)
        for place in sorted(self.tables, reverse=True):
            if tables and self.inside(place, start, end):
                self.drop(place)

    def zap_all(self) -> None:
        """A new root is empty."""
        self.leaves, self.tables, self.tracked, self.clean, self.refused = {}, set(), [], set(), set()

    def collapse(self, start: int, end: int) -> None:
        """Tables that a host's huge page could stand for go, or become that page; in two forms, leaves below go."""
        for place in sorted(self.tables, key=lambda place: (-place[0], place[1])):
            level, first = place
            if place not in self.tables or not self.inside(place, start, end) or self.host_level[first] < level:
                continue
            below = [leaf for leaf in self.leaves if self.inside(leaf, first, first + self.pages(level))]
            if self.form == ZAP_TABLES:
                self.drop(place)
            elif (self.form == RECOVER and below) or (self.form == PROMOTE and self.host_pfn[first] >= 0):
                self.drop(place)
                self.leaves[place] = self.host_pfn[first]
        if self.form in (ZAP_LEAFS, PROMOTE):
            for place in [*self.leaves]:
                if self.inside(place, start, end) and self.host_level[place[1]] > place[0]:
                    del self.leaves[place]

    def recover_nx(self, number: int) -> None:
        """The oldest tables that only NX made necessary go."""
        for _ in range(number):
            if self.tracked:
                self.drop(self.tracked[0])


class AgainstModel(RuleBasedStateMachine):
    """Operations in any order, done to the MMU and to the model."""

    @initialize(
        geometry=st.sampled_from([(1, 4), (2, 3)]),
        behaviour=st.sampled_from(sorted(BEHAVIOURS)),
        policy=st.sampled_from(sorted(POLICIES)),
        fmt=st.sampled_from([NPT, EPT]),
        nx=st.booleans(),
        resched_every=st.sampled_from([0, 1, 2, 5]),
    )
    def begin(
        self, geometry: Place, behaviour: str, policy: str, fmt: SpteFormat, nx: bool, resched_every: int
    ) -> None:
        """Any kind of VM of two vCPUs."""
        self.machine = NativeMachine(2, geometry[0], resched_every=resched_every)
        self.kvm = Kvm(self.machine, fmt, BEHAVIOURS[behaviour], POLICIES[policy], geometry[1], 2, nx)
        self.tree = Tree(*geometry, behaviour, self.kvm.collapse, nx)
        self.gfns = len(self.tree.host_pfn)
        self.versions = 0

    def part(self, data: st.DataObject) -> tuple[int, int]:
        """Part of the guest's memory."""
        start = data.draw(st.integers(0, self.gfns - 1), "start")
        return start, data.draw(st.integers(start + 1, self.gfns), "end")

    def region(self, data: st.DataObject) -> tuple[int, range]:
        """A level below the root's, and the pages under one of its entries: no part of a huge page of the host."""
        gfn = data.draw(st.integers(0, self.gfns - 1), "gfn")
        level = data.draw(st.integers(1, self.tree.levels - 1), "level")
        level = max(level, self.tree.host_level[gfn])
        _, first = self.tree.place(level, gfn)
        return level, range(first, first + self.tree.pages(level))

    @rule(data=st.data(), vcpu=st.integers(0, 1), execute=st.booleans())
    def fault(self, data: st.DataObject, vcpu: int, execute: bool) -> None:
        """The guest touches some pages."""
        gfns = data.draw(st.lists(st.integers(0, self.gfns - 1), max_size=6), "gfns")
        self.machine.vcpus.set_faults(vcpu, gfns, FETCH if execute else 0)
        assert serve_faults(self.kvm, vcpu, 0) == len(gfns)
        for gfn in gfns:
            self.tree.fault(gfn, execute)

    @rule(data=st.data())
    def zap_range(self, data: st.DataObject) -> None:
        """Part of the guest's memory is to be mapped anew."""
        start, end = self.part(data)
        kvm_zap_gfn_range(self.kvm, start, end)
        self.tree.zap(start, end, self.tree.behaviour.range_zap_tables)

    @rule(data=st.data(), may_block=st.booleans(), back=st.booleans())
    def host_changes(self, data: st.DataObject, may_block: bool, back: bool) -> None:
        """The host takes the pages of a region, whose faults wait meanwhile; it gives others, or none."""
        level, region = self.region(data)
        invalidate_range_start(self.kvm, region.start, region.stop, may_block)
        self.tree.zap(region.start, region.stop, self.tree.behaviour.range_zap_tables)
        self.machine.vcpus.set_faults(0, region)
        serve_faults(self.kvm, 0, 0)
        self.versions += 1
        for gfn in region:
            self.tree.host_pfn[gfn] = gfn + self.gfns * self.versions if back else -1
            self.tree.host_level[gfn] = level if back else 1
            self.machine.store(words.HOST_PFN, gfn, self.tree.host_pfn[gfn])
            self.machine.store(words.HOST_LEVEL, gfn, self.tree.host_level[gfn])
        invalidate_range_end(self.kvm, region.start, region.stop)

    @rule(data=st.data())
    def log(self, data: st.DataObject) -> None:
        """Dirty logging of a region begins (4K pages only) or ends: the pages stay where they are."""
        level, region = self.region(data)
        level = data.draw(st.sampled_from([1, level]), "as large as")
        pfns = [self.tree.host_pfn[gfn] for gfn in region]
        if pfns[0] < 0 or pfns != list(range(pfns[0], pfns[0] + len(pfns))):
            return
        for gfn in region:
            self.tree.host_level[gfn] = level
            self.machine.store(words.HOST_LEVEL, gfn, level)

    @rule()
    def zap_all(self) -> None:
        """All roots at once; the vCPUs load a new one when they run."""
        zap_all_fast(self.kvm)
        self.tree.zap_all()

    @rule(data=st.data())
    def collapse(self, data: st.DataObject) -> None:
        """Huge pages may come back."""
        start, end = self.part(data)
        disable_dirty_logging(self.kvm, 0, start, end)
        self.tree.collapse(start, end)

    @rule(number=st.integers(0, 3))
    def recover_nx(self, number: int) -> None:
        """Some regions get another chance to be mapped by a huge page."""
        recover_nx_huge_pages(self.kvm, number)
        self.tree.recover_nx(number)

    def leaf(self, place: Place, pfn: int) -> int:
        """The entry of a leaf."""
        spte = make_leaf(self.kvm, pfn, place[0])
        return spte & ~self.kvm.fmt.dirty if place in self.tree.clean else spte

    def entries(self, table: int, level: int, first: int) -> Iterator[tuple[Place, int]]:
        """All entries below a table, parents first."""
        for index in range(1 << self.tree.bits):
            gfn = first + index * self.tree.pages(level)
            spte = self.machine.read(table << self.tree.bits | index)
            yield (level, gfn), spte
            if spte & PRESENT and not is_leaf(spte, level):
                yield from self.entries(spte_pfn(spte), level - 1, gfn)

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        """Page tables, every bit of them, statistics, the list for NX recovery; no lock is held, no table lost."""
        machine, tree = self.machine, self.tree
        machine.write_lock()
        machine.pages_lock()
        roots = tables_on(machine, words.ROOTS)
        leaves, tables, used = {}, {}, len(roots)
        for root in roots:
            for place, spte in self.entries(root, tree.levels, 0):
                if is_leaf(spte, place[0]):
                    leaves[place] = spte
                elif spte & PRESENT:
                    tables[place] = spte_pfn(spte)
                else:
                    assert spte == self.kvm.empty
        assert leaves == {place: self.leaf(place, pfn) for place, pfn in tree.leaves.items()}
        assert tables.keys() == tree.tables
        for (level, first), table in tables.items():
            assert machine.load(words.SP_GFN, table) == first
            assert machine.load(words.SP_LEVEL, table) == level - 1
        assert tables_on(machine, words.NX_TABLES) == [tables[place] for place in tree.tracked]
        for level in range(1, tree.levels + 1):
            assert machine.load(words.PAGES, level) == sum(place[0] == level for place in leaves)
        assert machine.load(words.TABLES, 0) == len(tables)
        assert machine.load(words.NX_SPLITS, 0) == len(tree.tracked)
        assert (machine.tables.used, machine.tables.pending) == (used + len(tables), 0)
        machine.pages_unlock()
        machine.write_unlock()


AgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAgainstModel = AgainstModel.TestCase


def tables_on(machine: NativeMachine, which: int) -> list[int]:
    """The tables of a list, in order."""
    found = []
    table = machine.list_next(which, words.NO_TABLE)
    while table != words.NO_TABLE:
        found.append(table)
        table = machine.list_next(which, table)
    return found


# Flushes


class Vm:
    """A VM with tables of 512 entries."""

    def __init__(self, behaviour: str, policy: Policy, **arguments: int) -> None:
        self.machine = NativeMachine(**arguments)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[behaviour], policy, 4, 1)

    def map(self, gfns: range, as_id: int = 0) -> None:
        """Map these pages by 4K leaves."""
        self.machine.vcpus.set_faults(0, gfns)
        assert serve_faults(self.kvm, 0, as_id) == len(gfns)

    def asked(self, work: Callable[[], object]) -> int:
        """How many flushes something asks for."""
        before = self.machine.load(words.FLUSH_REQUESTS, 0)
        work()
        return self.machine.load(words.FLUSH_REQUESTS, 0) - before


@pytest.mark.parametrize(("policy", "asked"), [("eager", 2), ("list", 1), ("rcu", 1), ("rcu-roots", 1), ("promote", 1)])
def test_a_removed_table_costs_one_flush(policy: str, asked: int) -> None:
    """A range zap of one full table of 2 MiB: eager flushes for the table and for its caller, the others once."""
    vm = Vm("5.17", POLICIES[policy])
    vm.map(range(512))
    assert vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, 512)) == asked
    assert vm.machine.load(words.TABLES, 0) == 2


@pytest.mark.parametrize(("policy", "asked"), [("eager", 514), ("list", 1), ("rcu", 1)])
def test_a_removed_subtree_costs_one_flush_but_for_eager(policy: str, asked: int) -> None:
    """A range zap of 1 GiB in 513 tables: eager flushes for each and for its caller, the others once."""
    vm = Vm("5.17", POLICIES[policy])
    vm.map(range(0, 512 * 512, 512))
    assert vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, 512 * 512)) == asked
    assert vm.machine.tables.pending_max == 513
    assert vm.machine.load(words.TABLES, 0) == 1


def counting(name: str) -> tuple[Policy, list[Batch]]:
    """A policy that notes what its yields owed."""
    yields = []
    kind = type(POLICIES[name])

    def leave_to_yield(self: Policy, kvm: Kvm, batch: Batch) -> None:
        yields.append(batch)
        kind.leave_to_yield(self, kvm, batch)

    return type("Counting", (kind,), {"leave_to_yield": leave_to_yield})(), yields


@pytest.mark.parametrize("policy", ["eager", "list", "rcu"])
@pytest.mark.parametrize("resched_every", [0, 1, 3, 100])
def test_a_range_zap_flushes_at_yields_and_at_its_end(policy: str, resched_every: int) -> None:
    """n tables in one range zap with k yields: eager flushes once more for each table, no policy more than k + 1."""
    number = 16
    chosen, yields = counting(policy)
    vm = Vm("5.17", chosen, resched_every=resched_every)
    vm.map(range(0, 512 * number, 512))
    asked = vm.asked(lambda: kvm_zap_gfn_range(vm.kvm, 0, 512 * number))
    assert vm.machine.load(words.TABLES, 0) == 2
    assert bool(yields) == (0 < resched_every < number)
    tables = number if policy == "eager" else 0
    assert tables < asked <= tables + len(yields) + 1


@pytest.mark.parametrize(("policy", "each"), [("eager", 2), ("list", 1), ("rcu", 1)])
@pytest.mark.parametrize("behaviour", ["6.1", "6.12"])
def test_zapping_collapsible_tables_flushes_for_each(behaviour: str, policy: str, each: int) -> None:
    """n tables zapped with mmu_lock held for read: one flush each, and with eager one more."""
    vm = Vm(behaviour, POLICIES[policy])
    vm.map(range(0, 512 * 8, 512))
    for gfn in range(0, 512 * 8, 512):
        vm.machine.store(words.HOST_LEVEL, gfn, 2)
    assert vm.asked(lambda: disable_dirty_logging(vm.kvm, 0, 0, 512 * 8)) == 8 * each


@pytest.mark.parametrize(("policy", "asked"), [("eager", 8), ("list", 8), ("rcu", 1), ("promote", 1)])
def test_rebuilding_huge_pages_in_place_flushes_once(policy: str, asked: int) -> None:
    """n tables replaced by huge pages: one flush, but for the policies that flush for each table."""
    vm = Vm("6.13", POLICIES[policy])
    vm.map(range(0, 512 * 8, 512))
    for gfn in range(0, 512 * 8, 512):
        vm.machine.store(words.HOST_LEVEL, gfn, 2)
    assert vm.asked(lambda: disable_dirty_logging(vm.kvm, 0, 0, 512 * 8)) == asked
    assert vm.machine.load(words.PAGES, 2) == 8


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_leaves_of_two_roots_cost_one_flush(policy: str) -> None:
    """A range zap that removes no table flushes once for all roots."""
    vm = Vm("6.12", POLICIES[policy])
    other = Kvm(vm.machine, NPT, BEHAVIOURS["6.12"], POLICIES[policy], 4, 1)
    vm.map(range(3))
    vm.machine.store(words.VCPU_ROOT, 0, words.NO_TABLE)
    vm.map(range(3), as_id=1)
    assert vm.machine.load(words.PAGES, 1) == 6
    assert vm.asked(lambda: kvm_zap_gfn_range(other, 0, 512)) == 1
    assert vm.machine.load(words.PAGES, 1) == 0


# Huge pages


def test_a_collapse_finds_leaves_below_further_tables() -> None:
    """A table of 1 GiB that holds tables only becomes the huge page that their leaves belong to."""
    vm = Vm("6.13", POLICIES["promote"])
    gib = 512 * 512
    vm.map(range(gib + 5 * 512 + 7, gib + 5 * 512 + 9))
    vm.machine.store(words.HOST_LEVEL, gib, 3)
    disable_dirty_logging(vm.kvm, 0, gib, 2 * gib)
    assert [vm.machine.load(words.PAGES, level) for level in (1, 2, 3)] == [0, 0, 1]
    assert vm.machine.load(words.TABLES, 0) == 1
    root = vm.machine.load(words.VCPU_ROOT, 0)
    assert vm.machine.read((spte_pfn(vm.machine.read(root << 9)) << 9) + 1) == make_leaf(vm.kvm, gib, 3)


# SPTEs


@pytest.mark.parametrize(
    ("fmt", "behaviour", "leaf", "huge", "table"),
    [
        (EPT, "6.1", 0x0600_0000_0000_0B77, 0x0600_0000_0000_0BF3, 0x0907),
        (EPT, "6.12", 0x8600_0000_0000_0B77, 0x8600_0000_0000_0BF3, 0x8000_0000_0000_0907),
        (NPT, "6.1", 0x0E67, 0x8000_0000_0000_0EE7, 0x0827),
        (NPT, "6.12", 0x0E67, 0x8000_0000_0000_0EE7, 0x0827),
    ],
)
def test_sptes_are_built_as_the_kernel_builds_them(
    fmt: SpteFormat, behaviour: str, leaf: int, huge: int, table: int
) -> None:
    """A 4K leaf, a huge page that may not execute, one that may, and a table's entry, each with its frame."""
    machine = NativeMachine()
    kvm, plain = (Kvm(machine, fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, nx) for nx in (True, False))
    executable = leaf | 0x80
    for pfn in (0, 0x4_0000, 0x12_3456_7800 & -0x4_0000):
        assert unsigned(make_leaf(kvm, pfn, 1)) == unsigned(make_leaf(plain, pfn, 1)) == leaf | pfn << 12
        assert unsigned(make_nonleaf(kvm, pfn)) == table | pfn << 12
        for level in (2, 3):
            assert unsigned(make_leaf(kvm, pfn, level)) == huge | pfn << 12
            assert unsigned(make_leaf(plain, pfn, level)) == executable | pfn << 12


@pytest.mark.parametrize("fmt", [NPT, EPT], ids=["NPT", "EPT"])
@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
@pytest.mark.parametrize("nx", [False, True])
def test_splitting_and_rebuilding_are_inverse(fmt: SpteFormat, behaviour: str, nx: bool) -> None:
    """A huge page's children are what a fault would map there, and any of them gives the huge page back."""
    kvm = Kvm(NativeMachine(), fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, nx)
    for level in (2, 3):
        pfn = 0x7_0000_0000
        huge = make_leaf(kvm, pfn, level)
        for index in (0, 1, 77, 511):
            child = make_split(kvm, huge, level, index)
            assert child == make_leaf(kvm, pfn + index * 512 ** (level - 2), level - 1)
            assert make_huge(kvm, child, level) == huge


# Levels


@pytest.mark.parametrize("bits", [1, 2, 9])
def test_levels_and_indices_are_powers_of_two(bits: int) -> None:
    """Pages, rounding and indices are those of a radix tree, also where compiled code has only 32 bits."""
    kvm = Kvm(NativeMachine(bits=bits), NPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 5, 1)
    assert kvm.entries == 2**bits
    for level in range(1, 7):
        pages = 2 ** (bits * (level - 1))
        assert kvm.pages(level) == pages
        for gfn in (0, 1, 2**bits - 1, 2**35 + 12345, 2**44 - 1):
            assert kvm.round(gfn, level) == gfn // pages * pages
            assert kvm.index(gfn, level) == gfn // pages % 2**bits
