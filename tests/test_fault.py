"""Faults: what they map, with which rights, and what they answer, against a model that knows rights and no bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH, PERMISSION, RESERVED, WRITE
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.fast_fault import fast_page_fault
from shootdown.mmu.fault import faultin_pfn, is_stale, map_gfn, page_fault, prefetch
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.make_spte import make_leaf
from shootdown.mmu.page_fault import (
    CONTINUE,
    EMULATE,
    FIXED,
    INVALID,
    NO_MEMORY,
    RETRY,
    SPURIOUS,
    WRITE_PROTECTED,
    new_fault,
)
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import EPT, EPT_NO_AD, NPT, SpteFormat, mark_for_access_track, mmio_generation, unsigned
from shootdown.mmu.vcpu_roots import mmu_load
from shootdown.mmu.walk import get_walk
from shootdown.mmu.write_track import write_track_add_gfn, write_track_remove_gfn

BITS, LEVELS = 2, 3
GFNS = 1 << BITS * LEVELS
VERSIONS = ["6.1", "6.12", "6.13", "6.18"]
LATER = ("6.13", "6.18")
FORMATS = {"NPT": NPT, "EPT": EPT, "EPT without A/D": EPT_NO_AD}
SLOTS = ((0, 16, 0), (18, 14, 0), (32, 16, words.READONLY))
"""First gfn, gfns, flags: the second begins and the last ends where no huge page can."""
SHIFTED = range(8, 12)
"""gfns whose frames lie elsewhere within a huge page than they do themselves."""

Place = tuple[int, int]


@dataclass(frozen=True)
class Leaf:
    """A leaf in words; ``d`` and ``a`` stay False where entries have no such bits."""

    pfn: int
    r: bool = True
    w: bool = False
    x: bool = True
    host_w: bool = False
    mmu_w: bool = False
    a: bool = False
    d: bool = False
    saved_x: bool = False

    @property
    def tracked(self) -> bool:
        """Nobody has accessed it since it was marked."""
        return not self.r

    def allows(self, kind: str) -> bool:
        """Can the guest do this?"""
        return {"read": self.r, "write": self.w, "execute": self.x}[kind]


def decoded(spte: int, fmt: SpteFormat) -> Leaf:
    """A leaf by the bits of the vendors' manuals and KVM's own, written down here once more."""
    bit = [bool(unsigned(spte) >> n & 1) for n in range(64)]
    pfn = (unsigned(spte) & (1 << 52) - 1) >> 12
    if fmt is NPT:
        assert bit[0] and bit[2] and bit[11] and not bit[3] and not bit[4]
        return Leaf(pfn, True, bit[1], not bit[63], bit[9], bit[10], bit[5], bit[6])
    assert bit[11] and bit[4] and bit[5] and bit[6] and not bit[3]
    assert (bit[52], bit[53]) == (fmt is EPT_NO_AD, False)
    return Leaf(pfn, bit[0], bit[1], bit[2], bit[57], bit[58], bit[8], bit[9], bit[56])


def tables_at(machine: NativeMachine, table: int, level: int, first: int) -> Iterator[tuple[Place, int]]:
    """All entries below a table."""
    for index in range(1 << BITS):
        gfn = first + (index << BITS * (level - 1))
        spte = machine.read(table << BITS | index)
        yield (level, gfn), spte
        if spte >> 11 & 1 and level > 1 and not spte >> 7 & 1:
            yield from tables_at(machine, (spte & (1 << 52) - 1) >> 12, level - 1, gfn)


class Model:
    """What a VM's root should map, and what faults should say; times and bits are not known here."""

    def __init__(self, fmt: SpteFormat, version: str, nx: bool) -> None:
        self.ad = fmt is not EPT_NO_AD
        self.keeps_ad = self.ad or version in LATER
        self.version = version
        self.nx = nx
        self.leaves: dict[Place, Leaf] = {}
        self.tables: set[Place] = set()
        self.refused: set[Place] = set()
        self.mmio: set[int] = set()
        self.dirty: set[int] = set()
        self.logged = {0: False, 1: False, 2: False}
        self.host_level = dict.fromkeys(range(GFNS), 1)
        self.read_only: set[int] = set()

    def slot(self, gfn: int) -> int:
        """Number of the slot of a gfn, -1 for none."""
        return next((n for n, (base, pages, _) in enumerate(SLOTS) if base <= gfn < base + pages), -1)

    def place(self, level: int, gfn: int) -> Place:
        """The entry of a level for a gfn."""
        return level, gfn >> BITS * (level - 1) << BITS * (level - 1)

    def leaf(self, gfn: int) -> tuple[Place, Leaf] | None:
        """What maps a gfn."""
        found = [(place, self.leaves[place]) for level in (1, 2, 3) if (place := self.place(level, gfn)) in self.leaves]
        return found[0] if found else None

    def pfn(self, gfn: int) -> int:
        """What the host has there."""
        return gfn + 1025 if gfn in SHIFTED else gfn + 512

    def fault(self, gfn: int, kind: str, ahead: bool) -> int:
        """What comes of a fault."""
        slot, found = self.slot(gfn), self.leaf(gfn)
        seen = found is not None and not found[1].tracked
        if (seen and kind == "write") or (not seen and not self.ad):
            fast = self.fast(gfn, kind, slot)
            if fast is not None:
                return fast
        if slot == 2 and kind == "write":
            return EMULATE
        if slot >= 0 and kind == "write":
            self.read_only.discard(gfn)
        writable = slot in (0, 1) and gfn not in self.read_only
        return self.map(gfn, kind, ahead, slot, writable)

    def fast(self, gfn: int, kind: str, slot: int) -> int | None:
        """The same without the lock; None: with it."""
        found = self.leaf(gfn)
        if found is None:
            return None
        place, leaf = found
        if leaf.allows(kind):
            return SPURIOUS
        new = replace(leaf, r=True, x=leaf.saved_x, saved_x=False, a=self.keeps_ad) if leaf.tracked else leaf
        if kind == "write" and leaf.mmu_w:
            if place[0] > 1 and self.logged[slot]:
                return None
            new = replace(new, w=True)
        if not new.allows(kind):
            return None
        self.leaves[place] = new
        if new.w and self.logged[slot]:
            self.dirty.add(gfn)
        return FIXED

    def goal(self, gfn: int, slot: int) -> int:
        """How large a page fits slot and host."""
        if slot < 0 or self.logged[slot]:
            return 1
        base, pages, _ = SLOTS[slot]
        for level in range(self.host_level[gfn], 1, -1):
            size = 1 << BITS * (level - 1)
            first = self.place(level, gfn)[1]
            if base <= first and first + size <= base + pages and self.pfn(gfn) % size == gfn % size:
                return level
        return 1

    def map(self, gfn: int, kind: str, ahead: bool, slot: int, writable: bool) -> int:
        """Down the tables, and map."""
        forbidden = self.nx and kind == "execute"
        goal = 1 if forbidden else self.goal(gfn, slot)
        level = LEVELS
        while True:
            place = self.place(level, gfn)
            if self.nx and level == goal > 1 and place in (self.tables if self.version == "6.1" else self.refused):
                goal -= 1
            if level == goal:
                return self.target(place, gfn, kind, ahead, slot, writable)
            if place not in self.tables:
                self.split(place)
                self.tables.add(place)
                if forbidden:
                    self.refused.add(place)
            level -= 1

    def split(self, place: Place) -> None:
        """A table takes the place of a huge page, if there is one."""
        level, first = place
        huge = self.leaves.pop(place, None)
        if huge is None or self.version == "6.1":
            return
        size = 1 << BITS * (level - 2)
        for index in range(1 << BITS):
            part = replace(huge, pfn=huge.pfn + index * size)
            if level == 2 and self.nx:
                part = replace(part, saved_x=True) if part.tracked else replace(part, x=True)
            self.leaves[level - 1, first + index * size] = part

    def target(self, place: Place, gfn: int, kind: str, ahead: bool, slot: int, writable: bool) -> int:
        """The leaf itself."""
        level, first = place
        old = self.leaves.get(place)
        if self.version == "6.13" and place in self.tables and ahead:
            return SPURIOUS
        if self.version in LATER and old and (ahead or old.allows(kind)):
            return SPURIOUS
        if slot < 0:
            self.mmio.add(gfn)
            return EMULATE
        clean = self.version not in LATER and old is not None and old.w
        x = level == 1 or not self.nx
        pfn = self.pfn(gfn) - gfn + first
        new = Leaf(pfn, True, writable, x, writable, writable, self.keeps_ad, writable and self.keeps_ad and not clean)
        if ahead:
            new = replace(new, a=False)
            if not self.ad:
                new = replace(new, r=False, w=False, x=False, saved_x=x)
        if new.w and self.logged[slot]:
            self.dirty.add(gfn)
        if new == old:
            return SPURIOUS
        self.drop(place)
        self.leaves[place] = new
        return FIXED

    def drop(self, place: Place) -> None:
        """Nothing is below an entry any more."""
        level, first = place
        inside = range(first, first + (1 << BITS * (level - 1)))
        for kept in (self.tables, self.refused):
            kept -= {other for other in kept if other[0] <= level and other[1] in inside}
        self.leaves = {k: v for k, v in self.leaves.items() if not (k[0] <= level and k[1] in inside)}


class Faults(RuleBasedStateMachine):
    """Faults of all kinds, and what else changes a leaf's rights between them."""

    @initialize(form=st.sampled_from(sorted(FORMATS)), version=st.sampled_from(VERSIONS), nx=st.booleans())
    def begin(self, form: str, version: str, nx: bool) -> None:
        """A VM with three slots."""
        self.fmt = FORMATS[form]
        self.model = Model(self.fmt, version, nx)
        self.machine = machine = NativeMachine(1, BITS, slots=len(SLOTS))
        self.kvm = Kvm(machine, self.fmt, BEHAVIOURS[version], POLICIES["rcu"], LEVELS, 1, nx, len(SLOTS))
        for number in range(len(SLOTS)):
            set_slot(machine, number, *SLOTS[number])
        for gfn in range(GFNS):
            machine.store(words.HOST_PFN, gfn, self.model.pfn(gfn))
        assert mmu_load(self.kvm, 0, 0)

    @rule(gfn=st.integers(0, GFNS - 1), kind=st.sampled_from(["read", "write", "execute"]))
    def fault(self, gfn: int, kind: str) -> None:
        """The guest does something; the CPU says what it found."""
        found = self.model.leaf(gfn)
        code = {"read": 0, "write": WRITE, "execute": FETCH}[kind]
        if found is not None and not found[1].tracked:
            code |= PERMISSION
        reserved = gfn in self.model.mmio
        assert page_fault(self.kvm, 0, gfn, RESERVED if reserved else code) == (
            EMULATE if reserved else self.model.fault(gfn, kind, False)
        )

    @rule(gfn=st.integers(0, GFNS - 1))
    def ahead(self, gfn: int) -> None:
        """A page is mapped ahead of its fault."""
        if gfn in self.model.mmio:
            return
        # The CPU has said nothing, so that without A/D bits the way without the lock is tried.
        expected = None if self.model.ad else self.model.fast(gfn, "read", self.model.slot(gfn))
        if expected is None:
            slot = self.model.slot(gfn)
            writable = slot in (0, 1) and gfn not in self.model.read_only
            expected = self.model.map(gfn, "read", True, slot, writable)
        assert prefetch(self.kvm, 0, gfn) == expected

    @rule(gfn=st.integers(0, GFNS - 1), level=st.integers(1, LEVELS))
    def host_level(self, gfn: int, level: int) -> None:
        """The host maps the pages around by another size."""
        if level == 3 and self.span(3, gfn)[0] < SHIFTED.stop:
            # Frames that do not lie in a row make no huge page.
            level = 2
        for near in range(*self.span(level, gfn)):
            self.model.host_level[near] = level
            self.machine.store(words.HOST_LEVEL, near, level)

    def span(self, level: int, gfn: int) -> Place:
        """First gfn of an entry, and the first after it."""
        first = self.model.place(level, gfn)[1]
        return first, first + (1 << BITS * (level - 1))

    @rule(gfn=st.integers(0, GFNS - 1))
    def host_shares(self, gfn: int) -> None:
        """The host shares a page with somebody, and may not write it without asking."""
        self.model.read_only.add(gfn)
        self.machine.store(words.HOST_WRITABLE, gfn, 0)

    @rule(number=st.integers(0, 1))
    def log(self, number: int) -> None:
        """Dirty logging is switched, and nothing protected yet."""
        self.model.logged[number] = not self.model.logged[number]
        flags = words.LOG_DIRTY_PAGES if self.model.logged[number] else 0
        set_slot(self.machine, number, *SLOTS[number][:2], flags)

    @rule(gfn=st.integers(0, GFNS - 1), how=st.sampled_from(["protect", "age"]))
    def change(self, gfn: int, how: str) -> None:
        """A leaf is protected for the log, or marked to see the next access."""
        found = self.model.leaf(gfn)
        if found is None:
            return
        place, leaf = found
        sptep = self.sptep(place)
        spte = self.machine.read(sptep)
        if how == "protect":
            self.machine.write(sptep, spte & ~2)
            self.model.leaves[place] = replace(leaf, w=False)
            return
        self.machine.write(sptep, mark_for_access_track(spte, self.kvm.fmt))
        if self.model.ad:
            self.model.leaves[place] = replace(leaf, a=False)
        elif not leaf.tracked:
            self.model.leaves[place] = replace(leaf, r=False, w=False, x=False, saved_x=leaf.x, a=False)

    def sptep(self, place: Place) -> int:
        """Where an entry is."""
        table = self.machine.load(words.VCPU_ROOT, 0)
        for level in range(LEVELS, place[0], -1):
            spte = self.machine.read(table << BITS | place[1] >> BITS * (level - 1) & 3)
            table = (spte & (1 << 52) - 1) >> 12
        return table << BITS | place[1] >> BITS * (place[0] - 1) & 3

    @invariant()
    def all_is_mapped_as_in_the_model(self) -> None:
        """Leaves, tables, entries of MMIO and dirty pages are the model's; nothing leaks, and no lock is held."""
        leaves, tables, mmio = {}, set(), set()
        for place, spte in tables_at(self.machine, self.machine.load(words.VCPU_ROOT, 0), LEVELS, 0):
            if spte >> 11 & 1:
                if place[0] == 1 or spte >> 7 & 1:
                    leaves[place] = decoded(spte, self.fmt)
                else:
                    tables.add(place)
            elif spte != self.kvm.empty:
                mmio.add(place[1])
        assert leaves == self.model.leaves
        assert tables == self.model.tables
        assert mmio == self.model.mmio
        dirty = set()
        for number, (base, pages, _) in enumerate(SLOTS):
            word = self.machine.load(words.DIRTY, number << 32)
            dirty |= {base + n for n in range(pages) if word >> n & 1}
        assert dirty == self.model.dirty
        assert (self.machine.tables.used, self.machine.tables.pending) == (1 + len(tables), 0)
        self.machine.slots_lock()
        self.machine.slots_unlock()
        for level in range(1, LEVELS + 1):
            assert self.machine.load(words.PAGES, level) == sum(place[0] == level for place in leaves)


Faults.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestFaults = Faults.TestCase


def set_slot(machine: NativeMachine, number: int, base: int, pages: int, flags: int) -> None:
    """Make a slot what it shall be."""
    machine.slots_lock()
    for kind, value in ((words.SLOT_BASE, base), (words.SLOT_PAGES, pages), (words.SLOT_FLAGS, flags)):
        machine.store(kind, number, value)
    machine.slots_unlock()


# Single cases


class Vm:
    """A VM of two vCPUs on one root, with tables of 512 entries."""

    def __init__(self, version: str = "6.12", fmt: SpteFormat = NPT, slots: int = 0, **arguments: int) -> None:
        self.machine = NativeMachine(2, slots=slots, **arguments)
        self.kvm = Kvm(self.machine, fmt, BEHAVIOURS[version], POLICIES["rcu"], 4, 2, False, slots)
        for number in range(slots):
            set_slot(self.machine, number, 512 * number, 512, 0)
        for vcpu in (0, 1):
            assert mmu_load(self.kvm, vcpu, 0)

    def spte(self, gfn: int) -> int:
        """The lowest entry for a gfn."""
        return [*get_walk(self.kvm, 0, gfn)][-1]

    def flushes(self) -> int:
        """Flushes asked for so far."""
        return self.machine.load(words.FLUSH_REQUESTS, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_racing_read_fault_takes_writability_away_without_a_flush_up_to_612(version: str) -> None:
    """A known defect: a reader that learned too early that the host may not write wins, and TLBs stay writable."""
    vm = Vm(version)
    vm.machine.store(words.HOST_WRITABLE, 7, 0)
    reader = new_fault(vm.kvm, vm.machine.load(words.VCPU_ROOT, 0), 7, 0, False)
    seq = vm.machine.load(words.INVALIDATE_SEQ, 0)
    assert faultin_pfn(vm.kvm, reader, seq) == CONTINUE
    assert page_fault(vm.kvm, 1, 7, WRITE) == FIXED
    before = vm.flushes()
    vm.machine.read_lock()
    assert not is_stale(vm.kvm, reader, seq)
    result = map_gfn(vm.kvm, 0, reader)
    vm.machine.read_unlock()
    lost = vm.spte(7) & 0x402 == 0
    assert (result, lost) == ((SPURIOUS, False) if version in LATER else (FIXED, True))
    assert vm.flushes() == before


@pytest.mark.parametrize(("version", "flushed"), [("6.1", 0), ("6.12", 0), ("6.13", 1), ("6.18", 1)])
def test_later_kernels_flush_when_a_fault_takes_writability_away(version: str, flushed: int) -> None:
    """A writable leaf that a fault rebuilds read-only: 6.13 flushes, and the others leave TLBs writable."""
    vm = Vm(version)
    assert page_fault(vm.kvm, 0, 7, WRITE) == FIXED
    table = [*get_walk(vm.kvm, 0, 7)][-2] >> 12 & 0xFF_FFFF
    vm.machine.write(table << 9 | 7, vm.spte(7) | -0x8000_0000_0000_0000)
    vm.machine.store(words.HOST_WRITABLE, 7, 0)
    before = vm.flushes()
    assert page_fault(vm.kvm, 0, 7, PERMISSION | FETCH) == FIXED
    assert vm.spte(7) & 0x602 == 0
    assert vm.flushes() - before == flushed


@pytest.mark.parametrize(("version", "left"), [("6.1", False), ("6.12", False), ("6.13", True), ("6.18", True)])
def test_a_redundant_write_fault_drops_the_dirty_bit_up_to_612(version: str, left: bool) -> None:
    """A known defect: a second vCPU that faults on a writable page rebuilds its leaf without D."""
    vm = Vm(version)
    assert page_fault(vm.kvm, 0, 7, WRITE) == FIXED
    assert page_fault(vm.kvm, 1, 7, WRITE) == (SPURIOUS if left else FIXED)
    assert bool(vm.spte(7) & NPT.dirty) is left


@pytest.mark.parametrize(
    ("version", "result"), [("6.1", EMULATE), ("6.12", WRITE_PROTECTED), ("6.13", WRITE_PROTECTED)]
)
def test_a_write_that_somebody_tracks_is_not_let_through(version: str, result: int) -> None:
    """A tracked page is mapped read-only and not by a huge page, and writes to it are told apart by later kernels."""
    vm = Vm(version, slots=1)
    assert page_fault(vm.kvm, 0, 7, WRITE) == FIXED
    before = vm.flushes()
    write_track_add_gfn(vm.kvm, 0, 7)
    assert vm.flushes() == before + 1
    write_track_add_gfn(vm.kvm, 0, 7)
    assert vm.flushes() == before + 1
    vm.machine.store(words.HOST_LEVEL, 7, 2)
    vm.machine.store(words.HOST_LEVEL, 8, 2)
    assert page_fault(vm.kvm, 0, 7, PERMISSION | WRITE) == result
    assert page_fault(vm.kvm, 0, 7, WRITE) == result
    assert vm.spte(7) & 0x602 == 0x200
    assert page_fault(vm.kvm, 0, 8, WRITE) == FIXED
    write_track_remove_gfn(vm.kvm, 0, 7)
    assert page_fault(vm.kvm, 0, 7, PERMISSION | WRITE) == result
    assert vm.machine.load(words.PAGES, 2) == 0
    write_track_remove_gfn(vm.kvm, 0, 7)
    assert page_fault(vm.kvm, 0, 7, PERMISSION | WRITE) == FIXED
    assert vm.machine.load(words.PAGES, 2) == 1


@pytest.mark.parametrize("fmt", [NPT, EPT])
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_mmio_is_emulated_at_once_until_slots_change(version: str, fmt: SpteFormat) -> None:
    """An entry of MMIO holds the generation of the slots; one of an older generation is made anew."""
    vm = Vm(version, fmt, slots=1)
    vm.machine.store(words.SLOTS_GENERATION, 0, 0x7_1234)
    assert page_fault(vm.kvm, 0, 600, WRITE) == EMULATE
    assert mmio_generation(vm.spte(600)) == 0x7_1234
    assert page_fault(vm.kvm, 0, 600, RESERVED | WRITE) == EMULATE
    assert vm.machine.load(words.MMIO_SPTES, 0) == 1
    vm.machine.store(words.SLOTS_GENERATION, 0, 0x7_1236)
    assert page_fault(vm.kvm, 0, 600, RESERVED | WRITE) == EMULATE
    assert (vm.machine.load(words.MMIO_SPTES, 0), mmio_generation(vm.spte(600))) == (2, 0x7_1236)
    assert page_fault(vm.kvm, 0, 3, WRITE) == FIXED
    assert page_fault(vm.kvm, 0, 3, RESERVED) == RETRY


def test_a_page_of_mmio_inside_a_slot_is_emulated() -> None:
    """The host's word on a page can be that it is MMIO, also without slots; one that has nothing lets faults wait."""
    vm = Vm()
    vm.machine.store(words.HOST_PFN, 7, NO_MEMORY)
    vm.machine.store(words.HOST_PFN, 8, -1)
    assert page_fault(vm.kvm, 0, 7, WRITE) == EMULATE
    assert page_fault(vm.kvm, 0, 8, WRITE) == RETRY


def test_faults_in_a_slot_that_goes_away_wait() -> None:
    """Nothing is mapped of a slot that is being deleted."""
    vm = Vm(slots=1)
    set_slot(vm.machine, 0, 0, 512, words.SLOT_INVALID)
    assert page_fault(vm.kvm, 0, 7, WRITE) == RETRY
    assert vm.machine.load(words.TABLES, 0) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_faults_wait_while_their_page_is_invalidated(version: str) -> None:
    """Before the lock or under it: no page inside the range is mapped, and those outside are."""
    vm = Vm(version)
    vm.machine.write_lock()
    for kind, value in ((words.INVALIDATE_IN_PROGRESS, 1), (words.INVALIDATE_START, 4), (words.INVALIDATE_END, 8)):
        vm.machine.store(kind, 0, value)
    vm.machine.write_unlock()
    assert [page_fault(vm.kvm, 0, gfn, 0) for gfn in (3, 4, 7, 8)] == [FIXED, RETRY, RETRY, FIXED]


def test_results_are_counted_and_prefetch_only_if_it_fixed() -> None:
    """Statistics by result."""
    vm = Vm()
    for gfn, code in ((1, 0), (2, WRITE), (2, PERMISSION | WRITE), (3, 0)):
        page_fault(vm.kvm, 0, gfn, code)
    prefetch(vm.kvm, 0, 3)
    prefetch(vm.kvm, 0, 3)
    prefetch(vm.kvm, 0, 4)
    counted = [vm.machine.load(words.FAULTS, result) for result in range(7)]
    assert counted == [0, 0, 0, 0, 3 + 2, 1, 0]
    assert vm.machine.load(words.FAST_FAULTS, 0) == 1


def test_a_fast_fault_changes_an_entry_whatever_else_goes_on() -> None:
    """It heeds neither mmu_lock nor invalidations nor whether the root is valid, and marks the page dirty."""
    vm = Vm(slots=1)
    assert page_fault(vm.kvm, 0, 7, WRITE) == FIXED
    set_slot(vm.machine, 0, 0, 512, words.LOG_DIRTY_PAGES)
    table = [*get_walk(vm.kvm, 0, 7)][-2] >> 12 & 0xFF_FFFF
    vm.machine.write(table << 9 | 7, vm.spte(7) & ~2)
    vm.machine.write_lock()
    vm.machine.store(words.ROOT_INVALID, vm.machine.load(words.VCPU_ROOT, 0), 1)
    vm.machine.store(words.INVALIDATE_IN_PROGRESS, 0, 1)
    assert fast_page_fault(vm.kvm, 0, 7, PERMISSION) == INVALID
    assert fast_page_fault(vm.kvm, 0, 7, PERMISSION | WRITE | RESERVED) == INVALID
    assert vm.machine.load(words.DIRTY, 0) == 0
    assert fast_page_fault(vm.kvm, 0, 7, PERMISSION | WRITE) == FIXED
    vm.machine.write_unlock()
    assert vm.spte(7) & 2 and vm.machine.load(words.DIRTY, 0) == 1 << 7


def test_an_unaligned_frame_backs_no_huge_page() -> None:
    """A fault maps it by a smaller page; to build a leaf of it is an error that says so."""
    vm = Vm()
    vm.machine.store(words.HOST_PFN, 512, 5000)
    vm.machine.store(words.HOST_LEVEL, 512, 3)
    assert page_fault(vm.kvm, 0, 512, 0) == FIXED
    assert vm.machine.load(words.PAGES, 1) == 1
    with pytest.raises(Bug, match="frame 1388 of the host begins no page of level 2"):
        make_leaf(vm.kvm, 5000, 2)


@pytest.mark.parametrize("code", [0, WRITE, PERMISSION | WRITE, RESERVED])
@pytest.mark.parametrize("gfn", [-1, 1 << 36, 1 << 45])
def test_a_gfn_beyond_the_root_is_refused(gfn: int, code: int) -> None:
    """The message names vCPU, gfn and remedy; nothing has changed, and no lock is held."""
    vm = Vm()
    with pytest.raises(Bug, match=r"vCPU 0 faults at gfn .*, (beyond its root: use a lower gfn|but gfns are)"):
        page_fault(vm.kvm, 0, gfn, code)
    assert [*get_walk(vm.kvm, 0, gfn)] == []
    assert vm.machine.tables.used == 1
    vm.machine.slots_lock()
    vm.machine.write_lock()


def test_a_vcpu_that_is_none_or_has_no_root_is_refused() -> None:
    """The messages say what to do."""
    vm = Vm()
    with pytest.raises(Bug, match="vCPU 2 faults, but the VM has 2 from 0 on"):
        page_fault(vm.kvm, 2, 0, 0)
    vm.machine.store(words.VCPU_ROOT, 1, words.NO_TABLE)
    with pytest.raises(Bug, match="vCPU 1 faults, but has no root"):
        prefetch(vm.kvm, 1, 0)
    assert [*get_walk(vm.kvm, 1, 0)] == []


@pytest.mark.parametrize("tables", range(1, 4))
def test_a_fault_without_memory_for_tables_leaves_nothing_behind(tables: int) -> None:
    """It must be tried again; the tables that it could link stay for the next try, and none is lost."""
    vm = Vm(tables_max=tables)
    assert page_fault(vm.kvm, 0, 7, WRITE) == RETRY
    assert vm.machine.load(words.TABLES, 0) == tables - 1
    assert vm.machine.tables.used == tables
    vm.machine.write_lock()
