"""Guest memory that both address spaces have, of which one has a page whose writes are tracked."""

from __future__ import annotations

import pytest

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import PERMISSION, WRITE
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.fault import page_fault
from shootdown.mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.page_fault import EMULATE, FIXED, WRITE_PROTECTED
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT, is_writable
from shootdown.mmu.vcpu_roots import mmu_load
from shootdown.mmu.walk import get_walk
from shootdown.mmu.write_track import write_track_add_gfn

VERSIONS = ["6.1", "6.12"]


class Vm:
    """Two vCPUs, the second in system management mode, with 1024 pages at 0 in each address space."""

    def __init__(self, version: str, **arguments: int) -> None:
        self.machine = NativeMachine(2, slots=2, **arguments)
        self.kvm = Kvm(self.machine, NPT, BEHAVIOURS[version], POLICIES[f"kernel-{version}"], 4, 2, True, slots=2)
        for as_id in (0, 1):
            set_memory_region(self.kvm, as_id, as_id, 0, 1024, 0)
            assert mmu_load(self.kvm, as_id, as_id)
        self.machine.keep_journal()

    def host_level(self, level: int) -> None:
        """The host maps all by pages of a level."""
        for gfn in range(1024):
            self.machine.store(words.HOST_LEVEL, gfn, level)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_that_one_address_space_tracks_may_be_in_a_huge_page_of_the_other(version: str) -> None:
    """Only the first page of a huge one is looked up then. Source: ``make_spte``, ``kvm_mmu_gfn_disallow_lpage``."""
    vm = Vm(version, host_level=2)
    write_track_add_gfn(vm.kvm, 1, 7)
    assert page_fault(vm.kvm, 0, 9, WRITE) == FIXED
    assert vm.machine.load(words.PAGES, 2) == 1
    assert is_writable([*get_walk(vm.kvm, 0, 7)][-1])
    assert page_fault(vm.kvm, 1, 9, WRITE) == FIXED
    assert vm.machine.load(words.PAGES, 1) == 1
    write_track_add_gfn(vm.kvm, 1, 512)
    assert page_fault(vm.kvm, 0, 600, WRITE) == (EMULATE if version == "6.1" else WRITE_PROTECTED)
    assert not is_writable([*get_walk(vm.kvm, 0, 600)][-1])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_table_that_a_read_only_huge_page_replaced_is_flushed(version: str) -> None:
    """Whether the guest may write what is mapped in its place does not matter."""
    vm = Vm(version)
    vm.kvm.nx_huge_pages = False
    assert page_fault(vm.kvm, 0, 9, WRITE) == FIXED
    vm.host_level(2)
    write_track_add_gfn(vm.kvm, 1, 0)
    vm.machine.take_flushes()
    assert page_fault(vm.kvm, 0, 8, WRITE) != FIXED
    assert vm.machine.load(words.PAGES, 2) == 1
    assert vm.machine.take_flushes() == ([0, 512 * 512] if version == "6.1" else [0, 512])


@pytest.mark.parametrize("version", VERSIONS)
def test_who_has_no_slot_there_tracks_nothing(version: str) -> None:
    """A write where one address space has no memory is MMIO, whatever is tracked in the other."""
    vm = Vm(version)
    write_track_add_gfn(vm.kvm, 0, 7)
    set_memory_region(vm.kvm, 1, 1, 0, 0, 0)
    for vcpu in (0, 1):
        vm.machine.store(words.VCPU_ROOT, vcpu, words.NO_TABLE)
        assert mmu_load(vm.kvm, vcpu, vcpu)
    assert page_fault(vm.kvm, 1, 7, PERMISSION | WRITE) == EMULATE
    assert vm.machine.load(words.MMIO_SPTES, 0) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_table_above_a_tracked_page_is_not_collapsed(version: str) -> None:
    """No huge page could take its place. Source: ``kvm_mmu_max_mapping_level``."""
    vm = Vm(version)
    for gfn in (7, 600):
        assert page_fault(vm.kvm, 0, gfn, WRITE) == FIXED
    vm.host_level(2)
    write_track_add_gfn(vm.kvm, 0, 7)
    disable_dirty_logging(vm.kvm, 0, 0, 1024)
    assert vm.machine.load(words.PAGES, 1) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_nx_recovery_asks_whether_to_give_way_after_each_table(version: str) -> None:
    """The last one is no exception."""
    vm = Vm(version, host_level=2, resched_every=1000)
    for gfn in (0, 512):
        assert page_fault(vm.kvm, 0, gfn, 16) == FIXED
    recover_nx_huge_pages(vm.kvm, 2)
    assert vm.machine.resched_calls == 2
