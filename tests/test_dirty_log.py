"""Dirty logging: no write is lost, whatever comes between; policies differ in flushes and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from librt.vecs import vec
from mypy_extensions import i64

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu import notifier
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.dirty_log import clear_dirty_log, get_dirty_log, reset_dirty_rings
from shootdown.mmu.dirty_ring import harvest, is_soft_full
from shootdown.mmu.huge_pages import disable_dirty_logging, nx_recovery
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.mark_dirty import mark_page_dirty
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.policies.policy import AS_VERSION, PROMOTE, RECOVER
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.requests import flush_remote_tlbs
from shootdown.mmu.split import try_split_huge_pages
from shootdown.mmu.spte import EPT, EPT_NO_AD, NPT, SpteFormat
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.write_protect import slot_gfn_write_protect
from shootdown.mmu.zap import zap_all_fast

from .guests import Guest
from .vms import check_at_rest, mapped, scramble, slots_of

LOG = words.LOG_DIRTY_PAGES
REGION = 16
GFNS = 64
BROKEN = ("list-as-posted", "rcu-literal")
"""Policies that are known to lack a flush."""
ALIKE = sorted(name for name, policy in POLICIES.items() if name not in BROKEN and policy.collapse == AS_VERSION)
"""The others that collapse as ``rcu`` does, so that they must leave the same SPTEs."""


class Logging(RuleBasedStateMachine):
    """The same operations done to two VMs that differ in their policy; each guest has TLBs that remember."""

    @initialize(
        behaviour=st.sampled_from(sorted(BEHAVIOURS)),
        other=st.sampled_from(ALIKE),
        mode=st.sampled_from(["npt", "ept", "no A/D", "pml", "ring", "pml and ring"]),
        initially_set=st.booleans(),
        nx=st.booleans(),
        eager_split=st.booleans(),
        slot_zap_all=st.booleans(),
        resched_every=st.sampled_from([0, 1, 2, 5]),
        levels=st.lists(st.sampled_from([1, 2, 3]), min_size=4, max_size=4),
    )
    def begin(
        self, behaviour: str, other: str, mode: str, initially_set: bool, nx: bool, eager_split: bool,
        slot_zap_all: bool, resched_every: int, levels: list[int],
    ) -> None:  # fmt: skip
        """VMs with slot 0 in address space 0 and slot 3 in address space 1."""
        fmt: SpteFormat = {"npt": NPT, "no A/D": EPT_NO_AD}.get(mode, EPT)
        ring = 2000 if "ring" in mode else 0
        self.initially_set = initially_set and not ring
        self.guests = []
        for policy in ("rcu", other):
            machine = NativeMachine(2, 2, resched_every=resched_every, slots=4)
            for number, level in enumerate(levels):
                for gfn in range(REGION * number, REGION * number + REGION):
                    machine.store(words.HOST_LEVEL, gfn, level)
            kvm = Kvm(
                machine, fmt, BEHAVIOURS[behaviour], POLICIES[policy], 3, 2, nx, slots=4, pml="pml" in mode,
                eager_split=eager_split, initially_set=self.initially_set, ring_size=ring, ring_soft_limit=ring,
                slot_zap_all=slot_zap_all,
            )  # fmt: skip
            set_memory_region(kvm, 0, 0, 0, REGION, 0)
            set_memory_region(kvm, 3, 1, REGION, 2 * REGION, 0)
            self.guests.append(Guest(machine, kvm))
        self.versions = 0

    def slots(self) -> dict[int, tuple[int, range, int]]:
        """The slots that there are."""
        return slots_of(self.guests[0].machine, self.guests[0].kvm)

    def logged(self) -> list[int]:
        """The slots that are logged."""
        return [slot for slot, (_, _, flags) in self.slots().items() if flags & LOG]

    @rule(data=st.data(), vcpu=st.integers(0, 1), write=st.booleans(), execute=st.booleans())
    def touch(self, data: st.DataObject, vcpu: int, write: bool, execute: bool) -> None:
        """The guest reads, writes or executes pages that there are, and always may."""
        gfns = [gfn for as_id, part, _ in self.slots().values() if as_id == vcpu for gfn in part]
        if gfns:
            for gfn in data.draw(st.lists(st.sampled_from(gfns), min_size=1, max_size=6), "gfns"):
                for guest in self.guests:
                    assert guest.access(vcpu, gfn, write, execute and not write)

    @rule(data=st.data(), log=st.booleans())
    def switch(self, data: st.DataObject, log: bool) -> None:
        """Logging of a slot begins or ends."""
        slots = self.slots()
        assume(slots)
        slot = data.draw(st.sampled_from(sorted(slots)), "slot")
        as_id, part, _ = slots[slot]
        for guest in self.guests:
            set_memory_region(guest.kvm, slot, as_id, part.start, len(part), LOG if log else 0)
            if not log:
                guest.owed = {page for page in guest.owed if page[0] != slot}

    @rule(slot=st.integers(0, 2), place=st.integers(0, 3), log=st.booleans())
    def update(self, slot: int, place: int, log: bool) -> None:
        """A slot of address space 0 is made, moved or deleted."""
        slots = self.slots()
        start = place * REGION
        if any(n != slot and as_id == 0 and part.start == start for n, (as_id, part, _) in slots.items()):
            return
        gone = slot in slots and slots[slot][1].start == start
        for guest in self.guests:
            if gone:
                set_memory_region(guest.kvm, slot, 0, start, 0, 0)
            else:
                set_memory_region(guest.kvm, slot, 0, start, REGION, LOG if log else 0)
            if gone or not log:
                guest.owed = {page for page in guest.owed if page[0] != slot}

    @rule(data=st.data(), manual=st.booleans())
    def read(self, data: st.DataObject, manual: bool) -> None:
        """User space reads a log, or harvests the rings."""
        if self.guests[0].kvm.ring_size > 0:
            number = data.draw(st.integers(0, 20), "entries")
            assert self.guests[0].read_rings(number) == self.guests[1].read_rings(number)
        elif self.logged():
            slot = data.draw(st.sampled_from(self.logged()), "slot")
            manual = manual or self.initially_set
            assert self.guests[0].get_log(slot, manual) == self.guests[1].get_log(slot, manual)

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        """User space clears part of a log."""
        if self.guests[0].kvm.ring_size == 0 and self.logged():
            slot = data.draw(st.sampled_from(self.logged()), "slot")
            mask = data.draw(st.integers(-(2**63), 2**63 - 1), "mask")
            for guest in self.guests:
                guest.clear_log(slot, 0, [mask])

    @rule(data=st.data(), flush=st.booleans())
    def age(self, data: st.DataObject, flush: bool) -> None:
        """The host asks what was used."""
        start = data.draw(st.integers(0, GFNS - 1), "start")
        end = data.draw(st.integers(start + 1, GFNS), "end")
        ask = notifier.clear_flush_young if flush else notifier.clear_young
        assert ask(self.guests[0].kvm, start, end) == ask(self.guests[1].kvm, start, end)

    @rule(gfn=st.integers(0, GFNS - 1), level=st.sampled_from([1, 2]))
    def protect(self, gfn: int, level: int) -> None:
        """A page is write-protected, as if to shadow it; then no vCPU has it cached as writable."""
        for slot, (as_id, part, _) in self.slots().items():
            if gfn not in part:
                continue
            for guest in self.guests:
                guest.machine.write_lock()
                if slot_gfn_write_protect(guest.kvm, slot, gfn, level):
                    flush_remote_tlbs(guest.kvm)
                guest.machine.write_unlock()
                guest.enter(as_id, [], 0)
                if level == 1:
                    assert not guest.tlbs[as_id].get(gfn, (0, 0))[1] & 2

    @rule(data=st.data(), level=st.sampled_from([1, 2]), shared=st.booleans())
    def split(self, data: st.DataObject, level: int, shared: bool) -> None:
        """Huge pages are split, of any range."""
        start = data.draw(st.integers(0, GFNS - 1), "start")
        end = data.draw(st.integers(start + 1, GFNS), "end")
        for guest in self.guests:
            (guest.machine.read_lock if shared else guest.machine.write_lock)()
            try_split_huge_pages(guest.kvm, 0, start, end, level, shared)
            (guest.machine.read_unlock if shared else guest.machine.write_unlock)()

    @rule(data=st.data())
    def collapse(self, data: st.DataObject) -> None:
        """Huge pages come back where nothing is logged."""
        slots = [slot for slot in self.slots() if slot not in self.logged()]
        assume(slots)
        as_id, part, _ = self.slots()[data.draw(st.sampled_from(slots), "slot")]
        for guest in self.guests:
            disable_dirty_logging(guest.kvm, as_id, part.start, part.stop)

    @rule(region=st.integers(0, 3), may_block=st.booleans())
    def host_changes(self, region: int, may_block: bool) -> None:
        """The host gives other pages in the place of 16."""
        start = region * REGION
        self.versions += 1
        for guest in self.guests:
            notifier.invalidate_range_start(guest.kvm, start, start + REGION, may_block)
            for gfn in range(start, start + REGION):
                guest.machine.store(words.HOST_PFN, gfn, gfn + GFNS * self.versions)
            notifier.invalidate_range_end(guest.kvm, start, start + REGION)

    @rule(data=st.data())
    def zap(self, data: st.DataObject) -> None:
        """Part of memory is to be mapped anew."""
        start = data.draw(st.integers(0, GFNS - 1), "start")
        end = data.draw(st.integers(start + 1, GFNS), "end")
        for guest in self.guests:
            notifier.kvm_zap_gfn_range(guest.kvm, start, end)

    @rule(ratio=st.integers(0, 4))
    def recover_nx(self, ratio: int) -> None:
        """Some tables that only NX made necessary are given up."""
        for guest in self.guests:
            nx_recovery(guest.kvm, ratio)

    @rule()
    def zap_all(self) -> None:
        """All at once."""
        for guest in self.guests:
            zap_all_fast(guest.kvm)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Logs, leaves and TLBs agree; statistics are what the tables hold; both policies map the same."""
        for guest in self.guests:
            check_at_rest(guest.machine, guest.kvm)
            guest.check_log()
            guest.check_leaves()
            guest.check_tlbs()
        one, two = self.guests
        assert mapped(one.machine, one.kvm) == mapped(two.machine, two.kvm)
        for kind in (words.DIRTY_PFNS, words.ACCESSED_PFNS):
            assert one.machine.load(kind, 0) == two.machine.load(kind, 0)


Logging.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestLogging = Logging.TestCase


# One thing at a time


def vm(behaviour: str = "6.12", **arguments: int) -> tuple[NativeMachine, Kvm]:
    """A VM with tables of 512 entries, and a logged slot of 1000 pages that nothing maps."""
    machine = NativeMachine(1, slots=1)
    more: dict[str, Any] = dict(arguments)
    kvm = Kvm(machine, EPT, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, slots=1, **more)
    set_memory_region(kvm, 0, 0, 100, 1000, LOG)
    return machine, kvm


def flushes(machine: NativeMachine) -> int:
    """How many flushes were asked for."""
    return int(machine.load(words.FLUSH_REQUESTS, 0))


def test_a_flush_is_owed_to_a_bit_and_not_to_an_entry() -> None:
    """Reading a log flushes once if a bit was set, though nothing is mapped; a manual read and an empty log do not."""
    machine, kvm = vm()
    for offset in (0, 63, 64, 999):
        mark_page_dirty(kvm, 0, 100 + offset, -1)
    before = flushes(machine)
    assert list(get_dirty_log(kvm, 0, True))[:2] == [1 - 2**63, 1]
    assert flushes(machine) == before
    found = list(get_dirty_log(kvm, 0, False))
    assert (found[:2], found[15], len(found)) == ([1 - 2**63, 1], 1 << 39, 16)
    assert flushes(machine) == before + 1
    assert list(get_dirty_log(kvm, 0, False)) == [0] * 16
    clear_dirty_log(kvm, 0, 64, vec[i64]([-1, -1]))
    assert flushes(machine) == before + 1


@pytest.mark.parametrize("policy", ["rcu", "promote-rfc", "leaf-zap"])
@pytest.mark.parametrize("behaviour", ["6.1", "6.12", "6.13"])
def test_a_collapse_makes_no_huge_page_in_a_logged_slot(behaviour: str, policy: str) -> None:
    """Where it is still logged, forms that build huge pages refuse, and those that zap leave 4K pages to the faults."""
    machine = NativeMachine(slots=1, host_level=2)
    kvm = Kvm(machine, NPT, BEHAVIOURS[behaviour], POLICIES[policy], 4, 1, slots=1)
    set_memory_region(kvm, 0, 0, 0, 1024, words.LOG_DIRTY_PAGES)
    gfns = [3, 700]
    machine.vcpus.set_faults(0, gfns)
    serve_faults(kvm, 0, 0)
    if kvm.collapse in (RECOVER, PROMOTE):
        with pytest.raises(Bug, match="huge pages are rebuilt in a slot that is logged"):
            disable_dirty_logging(kvm, 0, 0, 1024)
    else:
        disable_dirty_logging(kvm, 0, 0, 1024)
        machine.vcpus.set_faults(0, gfns)
        serve_faults(kvm, 0, 0)
    assert sorted(mapped(machine, kvm)) == [(0, (1, gfn)) for gfn in gfns]


def test_only_pages_of_logged_slots_are_marked() -> None:
    """Memory without slots and slots that are not logged have no log."""
    machine, kvm = vm()
    set_memory_region(kvm, 0, 0, 100, 1000, 0)
    mark_page_dirty(kvm, 0, 100, -1)
    mark_page_dirty(kvm, -2, 100, -1)
    assert machine.load(words.DIRTY, 0) == 0


@pytest.mark.parametrize("pages", [1, 63, 64, 65, 128])
def test_a_log_that_begins_all_ones_has_no_bit_too_many(pages: int) -> None:
    """Every page is dirty at first, and none beyond the last; what is freed is clear when logging begins again."""
    machine = NativeMachine(1, slots=1)
    kvm = Kvm(machine, EPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 4, 1, slots=1, initially_set=True)
    for _ in range(2):
        set_memory_region(kvm, 0, 0, 0, pages, LOG)
        found = get_dirty_log(kvm, 0, True)
        assert sum(int(word) % 2**64 << 64 * number for number, word in enumerate(found)) == 2**pages - 1
        set_memory_region(kvm, 0, 0, 0, 0, 0)
        assert machine.load(words.DIRTY, 0) == 0


@pytest.mark.parametrize(
    ("behaviour", "eager", "first", "left"),
    [
        *(("6.1", True, 2, True), ("6.12", True, 2, False), ("6.13", True, 2, False)),
        *(("6.1", False, 2, True), ("6.12", False, 2, True), ("6.1", True, 1, False), ("6.12", False, 1, False)),
    ],
)
def test_a_huge_page_that_begins_with_the_last_bit_stays_writable(
    behaviour: str, eager: bool, first: int, left: bool
) -> None:
    """Unless it is split, which early kernels do not do: then a write to that page shows in no log.

    So it is where the first bit's page begins no huge page itself.

    Source: ``kvm_arch_mmu_enable_log_dirty_pt_masked``, which compares both ends rounded up.
    """
    machine = NativeMachine(1, bits=2, slots=1)
    flags = BEHAVIOURS[behaviour]
    kvm = Kvm(machine, EPT, flags, POLICIES["rcu"], 3, 1, slots=1, initially_set=True, eager_split=eager)
    set_memory_region(kvm, 0, 0, 0, 64, 0)
    for gfn in range(64):
        machine.store(words.HOST_LEVEL, gfn, 2)
    machine.vcpus.set_faults(0, range(8))
    serve_faults(kvm, 0, 0)
    set_memory_region(kvm, 0, 0, 0, 64, LOG)
    clear_dirty_log(kvm, 0, 0, vec[i64]([first | 0b1_0000]))
    huge = {place[1]: bool(spte & 2) for (_, place), spte in mapped(machine, kvm).items() if place[0] == 2}
    assert [gfn for gfn in huge if huge[gfn]] == [4] * left
    clear_dirty_log(kvm, 0, 0, vec[i64]([0b10_1000]))
    assert not any(spte & 2 for (_, place), spte in mapped(machine, kvm).items() if place[0] == 2)


# Rings


def ring(behaviour: str = "6.12") -> tuple[NativeMachine, Kvm]:
    """A VM whose one vCPU has a ring of 8 entries, which is full for it at 6."""
    return vm(behaviour, ring_size=8, ring_soft_limit=6)


def test_a_ring_gives_back_only_what_was_harvested_and_flushes_once() -> None:
    """Entries come in order; those not harvested stay; a reset of none flushes nothing."""
    machine, kvm = ring()
    for offset in (5, 7, 6, 500):
        mark_page_dirty(kvm, 0, 100 + offset, 0)
    before = flushes(machine)
    assert reset_dirty_rings(kvm) == 0
    assert flushes(machine) == before
    assert [harvest(kvm, 0, index) for index in range(3)] == [5, 7, 6]
    assert reset_dirty_rings(kvm) == 3
    assert flushes(machine) == before + 1
    assert [harvest(kvm, 0, index) for index in (3, 4)] == [500, -1]
    assert reset_dirty_rings(kvm) == 1
    with pytest.raises(Bug, match="go to rings"):
        get_dirty_log(kvm, 0, False)


@pytest.mark.parametrize("behaviour", ["6.1", "6.12"])
def test_a_vcpu_whose_ring_is_full_leaves_to_user_space(behaviour: str) -> None:
    """From the soft limit on the guest does not run until entries are reset; beyond the ring's end is a Bug."""
    machine, kvm = ring(behaviour)
    machine.vcpus.set_faults(0, [100])
    for offset in range(6):
        assert not is_soft_full(kvm, 0)
        mark_page_dirty(kvm, 0, 100 + offset, 0)
    for _ in range(2):
        assert serve_faults(kvm, 0, 0) == 0
    harvest(kvm, 0, 0)
    reset_dirty_rings(kvm)
    assert serve_faults(kvm, 0, 0) == 1
    with pytest.raises(Bug, match="full"):
        for offset in range(9):
            mark_page_dirty(kvm, 0, 100 + offset, 0)


@settings(max_examples=200, deadline=None)
@given(
    harvested=st.lists(st.integers(0, 200) | st.integers(0, 999), min_size=1, max_size=8),
    others=st.lists(st.integers(0, 200), max_size=8),
)
def test_just_the_pages_that_were_harvested_are_protected(harvested: list[int], others: list[int]) -> None:
    """In whatever order they come, up or down, near or far: those become read-only, and no other page does."""
    machine, kvm = ring()
    set_memory_region(kvm, 0, 0, 100, 1000, 0)
    machine.vcpus.set_faults(0, [100 + offset for offset in harvested + others])
    serve_faults(kvm, 0, 0)
    set_memory_region(kvm, 0, 0, 100, 1000, LOG)
    scramble(machine, kvm, lambda _: 12)
    for number, offset in enumerate(harvested):
        mark_page_dirty(kvm, 0, 100 + offset, 0)
        harvest(kvm, 0, number)
    reset_dirty_rings(kvm)
    for (_, (_, gfn)), spte in mapped(machine, kvm).items():
        assert bool(spte & 2) == (gfn - 100 not in harvested)
