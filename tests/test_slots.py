"""Memory slots: made, moved, reflagged and deleted, with all that follows; misuse changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.dirty_log import clear_dirty_log, get_dirty_log
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.notifier import invalidate_range_end, invalidate_range_start
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.slots import NO_SLOT, SLOTS_FEW, find_near, find_slot, generation
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import serve_faults

from .vms import check_at_rest, covers, held, mapped, slots_of

GFNS = 64
LOG, READ_ONLY = words.LOG_DIRTY_PAGES, words.READONLY


def vm(behaviour: str = "6.12", slots: int = 4, **arguments: Any) -> tuple[NativeMachine, Kvm]:
    """A VM of 64 gfns without slots yet."""
    machine = NativeMachine(2, 2, slots=slots)
    return machine, Kvm(machine, NPT, BEHAVIOURS[behaviour], POLICIES["rcu"], 3, 2, slots=slots, **arguments)


class Slots(RuleBasedStateMachine):
    """Any order of updates, done to the MMU and to a dictionary."""

    @initialize(
        behaviour=st.sampled_from(sorted(BEHAVIOURS)), zap_all=st.booleans(), number=st.sampled_from([4, SLOTS_FEW + 4])
    )  # fmt: skip
    def begin(self, behaviour: str, zap_all: bool, number: int) -> None:
        """A VM of either way to delete a slot, with few slots or many."""
        self.machine, self.kvm = vm(behaviour, number, slot_zap_all=zap_all)
        self.slots: dict[int, tuple[int, range, int]] = {}
        self.updates = 0

    def allowed(self, slot: int, as_id: int, part: range, flags: int) -> bool:
        """Does the kernel accept an update?"""
        old = self.slots.get(slot)
        if old is None:
            if not part:
                return False
        elif not part:
            return old[0] == as_id
        elif old[0] != as_id or len(old[1]) != len(part) or (old[2] ^ flags) & READ_ONLY:
            return False
        if part.stop > GFNS:
            return False
        return not any(
            n != slot and its[0] == as_id and its[1].start < part.stop and part.start < its[1].stop
            for n, its in self.slots.items()
        )

    @rule(
        slot=st.integers(0, SLOTS_FEW + 3), as_id=st.integers(0, 1), base=st.integers(0, GFNS),
        count=st.sampled_from([0, 4, 8, 16]),
        flags=st.sampled_from([0, LOG, READ_ONLY, LOG | READ_ONLY]),
    )  # fmt: skip
    def update(self, slot: int, as_id: int, base: int, count: int, flags: int) -> None:
        """One update, which the kernel may refuse; then the slots are as before."""
        slot %= int(self.kvm.slots)
        part = range(base, base + count)
        old = self.slots.get(slot)
        if not self.allowed(slot, as_id, part, flags):
            before = mapped(self.machine, self.kvm)
            with pytest.raises(Bug, match=f"slot {slot}"):
                set_memory_region(self.kvm, slot, as_id, base, count, flags)
            assert mapped(self.machine, self.kvm) == before
            return
        set_memory_region(self.kvm, slot, as_id, base, count, flags)
        if old is None:
            self.updates += 1
        elif not part or part.start != old[1].start:
            self.updates += 2
        elif flags != old[2]:
            self.updates += 1
        if part:
            self.slots[slot] = (as_id, part, flags)
        else:
            del self.slots[slot]
        if old is not None and (not part or part != old[1]):
            self.nothing_maps(*old[:2])

    def nothing_maps(self, as_id: int, part: range) -> None:
        """No root, valid or not, has a leaf in a part of an address space."""
        for root in held(self.machine, self.kvm).values():
            if root.as_id == as_id:
                assert not any(covers(self.kvm, place, part.start, part.stop) for place in root.leaves)

    @rule(data=st.data(), vcpu=st.integers(0, 1))
    def touch(self, data: st.DataObject, vcpu: int) -> None:
        """The guest reads pages that there are."""
        gfns = [gfn for as_id, part, _ in self.slots.values() if as_id == vcpu for gfn in part]
        if gfns:
            self.machine.vcpus.set_faults(vcpu, data.draw(st.lists(st.sampled_from(gfns), max_size=8), "gfns"))
            serve_faults(self.kvm, vcpu, vcpu)

    @rule(base=st.integers(0, GFNS - 1), count=st.integers(1, 20))
    def unmap(self, base: int, count: int) -> None:
        """The host takes pages back: no slot of any address space maps them."""
        invalidate_range_start(self.kvm, base, base + count, True)
        for as_id, part, _ in self.slots.values():
            both = range(max(base, part.start), min(base + count, part.stop))
            if both:
                self.nothing_maps(as_id, both)
        invalidate_range_end(self.kvm, base, base + count)

    @invariant()
    def slots_are_as_in_the_dictionary(self) -> None:
        """Every gfn is in its slot, by the order too; each publication advanced generations by the address spaces."""
        assert slots_of(self.machine, self.kvm) == self.slots
        for as_id in (0, 1):
            for gfn in range(GFNS):
                found = [n for n, (owner, part, _) in self.slots.items() if owner == as_id and gfn in part]
                assert [find_slot(self.kvm, as_id, gfn)] == (found or [NO_SLOT])
                if found and self.kvm.slots > SLOTS_FEW:
                    assert find_near(self.kvm, as_id, gfn) == found[0]
        updates = [self.machine.load(words.SLOTS_GENERATION, as_id) for as_id in (0, 1)]
        assert sum(updates) == 2 * self.updates
        assert generation(self.kvm, 0) % 2 == 0 and generation(self.kvm, 1) % 2 == 1
        assert self.machine.load(words.INVALIDATIONS, 0) == 0
        check_at_rest(self.machine, self.kvm)


Slots.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSlots = Slots.TestCase


REFUSED: list[tuple[Callable[[Kvm], object], str]] = [
    (lambda kvm: set_memory_region(kvm, 4, 0, 0, 8, 0), "slot 4 is set, but the VM's slots are 4 from 0 on"),
    (lambda kvm: set_memory_region(kvm, -1, 0, 0, 8, 0), "slot -1 is set, but the VM's slots are 4 from 0 on"),
    (lambda kvm: set_memory_region(kvm, 1, 2, 0, 8, 0), "slot 1 is set in address space 2, but there are 2 from 0 on"),
    (lambda kvm: set_memory_region(kvm, 1, 0, 15, 8, 0), "slot 1 overlaps slot 0"),
    (lambda kvm: set_memory_region(kvm, 1, 0, 16, 0, 0), "slot 1 is made with no pages"),
    (lambda kvm: set_memory_region(kvm, 1, 0, 16, 8, 4), "slot 1 gets flags that are none: 0x4"),
    (
        lambda kvm: set_memory_region(kvm, 1, 0, 60, 8, 0),
        "slot 1 has gfns out of range: 8 pages from 0x3c on, and gfns end at 0x40",
    ),
    (lambda kvm: set_memory_region(kvm, 0, 0, 0, 8, 0), "slot 0 has 16 pages, and cannot change to 8"),
    (lambda kvm: set_memory_region(kvm, 0, 1, 0, 16, 0), "slot 0 is of address space 0, and cannot change to 1"),
    (lambda kvm: set_memory_region(kvm, 0, 0, 0, 16, 2), "slot 0 cannot change between read-only and writable"),
    (lambda kvm: get_dirty_log(kvm, 0, False), "the dirty log of slot 0 is asked for, but the slot is not logged"),
    (lambda kvm: get_dirty_log(kvm, 1, False), "the dirty log of slot 1 is asked for, but there is no such slot"),
    (
        lambda kvm: get_dirty_log(kvm, 9, True),
        "the dirty log of slot 9 is asked for, but the VM's slots are 4 from 0 on",
    ),
    (lambda kvm: cleared(kvm, 0, 2), "2 words of the dirty log of slot 2 are cleared from page 0 on: "),
    (lambda kvm: cleared(kvm, 64, 1), "1 words of the dirty log of slot 2 are cleared from page 64 on: "),
    (lambda kvm: cleared(kvm, 5, 1), "1 words of the dirty log of slot 2 are cleared from page 5 on: "),
]


def cleared(kvm: Kvm, first: int, number: int) -> None:
    """Clear words of the log of slot 2."""
    from librt.vecs import vec
    from mypy_extensions import i64

    clear_dirty_log(kvm, 2, first, vec[i64]([-1] * number))


@pytest.mark.parametrize(("misuse", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_misuse_is_one_clear_line_and_changes_nothing(misuse: Callable[[Kvm], object], message: str) -> None:
    """Each is a Bug that says what is wrong; slots, mappings and locks are as before."""
    machine, kvm = vm()
    set_memory_region(kvm, 0, 0, 0, 16, 0)
    set_memory_region(kvm, 2, 0, 32, 16, LOG)
    machine.vcpus.set_faults(0, range(4))
    serve_faults(kvm, 0, 0)
    before = slots_of(machine, kvm), mapped(machine, kvm), machine.load(words.SLOTS_GENERATION, 0)
    with pytest.raises(Bug) as caught:
        misuse(kvm)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert (slots_of(machine, kvm), mapped(machine, kvm), machine.load(words.SLOTS_GENERATION, 0)) == before
    check_at_rest(machine, kvm)


def test_slots_wait_for_notifiers() -> None:
    """While one runs, no update is published: on one CPU that would be for ever."""
    machine, kvm = vm()
    set_memory_region(kvm, 0, 0, 0, 16, 0)
    invalidate_range_start(kvm, 40, 41, True)
    with pytest.raises(Bug, match="for ever"):
        set_memory_region(kvm, 0, 0, 0, 0, 0)
    machine.slots_unlock()
    invalidate_range_end(kvm, 40, 41)
    set_memory_region(kvm, 0, 0, 0, 0, 0)
    assert slots_of(machine, kvm) == {}


@pytest.mark.parametrize(("zap_all", "left"), [(True, 0), (False, 1)])
def test_a_deleted_slot_takes_the_rest_with_it_unless_the_vm_wants_otherwise(zap_all: bool, left: int) -> None:
    """Either all roots go, or the leaves of the slot alone, behind one flush."""
    machine, kvm = vm("6.12", slot_zap_all=zap_all)
    set_memory_region(kvm, 0, 0, 0, 16, 0)
    set_memory_region(kvm, 1, 0, 16, 16, 0)
    machine.vcpus.set_faults(0, [0, 20])
    serve_faults(kvm, 0, 0)
    flushes = machine.load(words.FLUSH_REQUESTS, 0)
    set_memory_region(kvm, 0, 0, 0, 0, 0)
    assert len(mapped(machine, kvm)) == left
    assert machine.load(words.FLUSH_REQUESTS, 0) - flushes == (not zap_all)


@pytest.mark.parametrize(("behaviour", "start", "end"), [("6.1", 2, 60), ("6.12", 8, 56)])
def test_a_notifiers_range_is_that_of_the_version(behaviour: str, start: int, end: int) -> None:
    """6.1 notes what the host said, later kernels the hull of its parts in slots; a second range widens either."""
    machine, kvm = vm(behaviour)
    set_memory_region(kvm, 0, 0, 8, 8, 0)
    set_memory_region(kvm, 1, 1, 40, 16, 0)
    invalidate_range_start(kvm, 2, 60, True)
    machine.read_lock()
    found = machine.load(words.INVALIDATE_START, 0), machine.load(words.INVALIDATE_END, 0)
    assert (found, machine.load(words.INVALIDATE_IN_PROGRESS, 0)) == ((start, end), 1)
    machine.read_unlock()
    invalidate_range_start(kvm, 0, 1, True)
    machine.read_lock()
    assert machine.load(words.INVALIDATE_IN_PROGRESS, 0) == 1
    machine.read_unlock()
    invalidate_range_end(kvm, 0, 1)
    invalidate_range_end(kvm, 2, 60)
    machine.read_lock()
    assert machine.load(words.INVALIDATE_IN_PROGRESS, 0) == 0
    machine.read_unlock()


def test_the_generation_that_mmio_entries_cannot_tell_from_the_first_zaps_all() -> None:
    """When the 19 bits wrap, everything is zapped, and the vCPUs load new roots."""
    machine, kvm = vm()
    set_memory_region(kvm, 0, 0, 0, 16, 0)
    machine.vcpus.set_faults(0, [0])
    serve_faults(kvm, 0, 0)
    machine.store(words.SLOTS_GENERATION, 0, 2**19 - 4)
    set_memory_region(kvm, 1, 0, 16, 16, 0)
    assert len(mapped(machine, kvm)) == 1
    set_memory_region(kvm, 2, 0, 32, 16, 0)
    assert mapped(machine, kvm) == {}


def test_slots_are_found_while_their_order_is_out_of_date() -> None:
    """Whatever the order says, as in the middle of an update: a slot is found where it is, and nowhere else."""
    machine, kvm = vm(slots=SLOTS_FEW + 4)
    for slot in range(SLOTS_FEW):
        set_memory_region(kvm, slot, 0, 4 * slot, 4, 0)
    for wrong in (0, 1, SLOTS_FEW, SLOTS_FEW + 4):
        for place in range(SLOTS_FEW + 4):
            machine.store(words.SLOT_ORDER, place, wrong)
        for gfn in range(GFNS):
            assert find_slot(kvm, 0, gfn) == (gfn // 4 if gfn < 4 * SLOTS_FEW else NO_SLOT)
