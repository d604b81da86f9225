"""Operations that are called without their lock say so, and leave everything as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu import aging
from shootdown.mmu.batch import Batch
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.change_pte import set_spte_gfn
from shootdown.mmu.clear_dirty import clear_dirty_pt_masked, clear_dirty_slot
from shootdown.mmu.fault import map_gfn
from shootdown.mmu.huge_pages import zap_sp
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.page_fault import new_fault
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.split import try_split_huge_pages
from shootdown.mmu.spte import EPT
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.write_protect import write_protect_gfn, wrprot_slot
from shootdown.mmu.zap import zap_range, zap_root
from tests.test_native_machine import everything

FOR_READ: list[Callable[[Kvm, int], object]] = [
    lambda kvm, root: map_gfn(kvm, 0, new_fault(kvm, root, 3, 0, False)),
    lambda kvm, root: zap_root(kvm, root, True),
    lambda kvm, root: try_split_huge_pages(kvm, 0, 0, 1024, 1, True),
    lambda kvm, root: wrprot_slot(kvm, 0, 0, 1024, 1),
    lambda kvm, root: clear_dirty_slot(kvm, 0, 0, 1024),
]
FOR_WRITE: list[Callable[[Kvm, int], object]] = [
    lambda kvm, root: zap_range(kvm, 0, 0, 1024, False, True),
    lambda kvm, root: zap_root(kvm, root, False),
    lambda kvm, root: zap_sp(kvm, Batch(), root + 1),
    lambda kvm, root: try_split_huge_pages(kvm, 0, 0, 1024, 1, False),
    lambda kvm, root: clear_dirty_pt_masked(kvm, 0, 0, -1, True),
    lambda kvm, root: write_protect_gfn(kvm, 0, 600, 1),
    lambda kvm, root: aging.age_gfn_range(kvm, 0, 0, 1024),
    lambda kvm, root: aging.test_age_gfn_range(kvm, 0, 0, 1024),
    lambda kvm, root: set_spte_gfn(kvm, 0, 600, 5, False),
]


def vm() -> tuple[NativeMachine, Kvm, int]:
    """A VM with a few huge pages, and its root."""
    machine = NativeMachine(host_level=2)
    kvm = Kvm(machine, EPT, BEHAVIOURS["6.1"], POLICIES["rcu"], 4, 1)
    machine.vcpus.set_faults(0, [0, 600, 5000])
    serve_faults(kvm, 0, 0)
    return machine, kvm, int(machine.load(words.VCPU_ROOT, 0))


@pytest.mark.parametrize("held", ["", "write_lock"])
@pytest.mark.parametrize("operation", FOR_READ)
def test_what_runs_beside_others_needs_the_lock_for_read(operation: Callable[[Kvm, int], object], held: str) -> None:
    """Without it, or with it for write, nothing is done, and the error says what to call."""
    refused(operation, held, "mmu_lock is not held for read: call read_lock() before and read_unlock() after")


@pytest.mark.parametrize("held", ["", "read_lock"])
@pytest.mark.parametrize("operation", FOR_WRITE)
def test_what_must_be_alone_needs_the_lock_for_write(operation: Callable[[Kvm, int], object], held: str) -> None:
    """Without it, or with it for read, nothing is done, and the error says what to call."""
    refused(operation, held, "mmu_lock is not held for write: call write_lock() before and write_unlock() after")


def refused(operation: Callable[[Kvm, int], object], held: str, text: str) -> None:
    """An operation raises, and changes nothing; with the right lock it goes through."""
    machine, kvm, root = vm()
    if held:
        getattr(machine, held)()
    before = everything(machine)
    with pytest.raises(Bug) as caught:
        operation(kvm, root)
    assert str(caught.value) == text
    assert everything(machine) == before
    machine, kvm, root = vm()
    (machine.read_lock if "for read" in text else machine.write_lock)()
    operation(kvm, root)
