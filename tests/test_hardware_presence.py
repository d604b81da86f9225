"""KVM's bit of presence and hardware's own: what KVM takes for no entry, no CPU goes through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.check.program import steps
from shootdown.check.program.guest import Hardware
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Setting
from shootdown.machine.interface import Machine
from shootdown.mmu import spte as bits
from shootdown.mmu.access import RESERVED, WRITE, fault_of
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.mmio import make_mmio_spte
from shootdown.mmu.policies.registry import POLICIES
from tests.small import PFN, leaf, link, small, verdicts

FORMATS = {
    "NPT": bits.NPT, "EPT": bits.EPT, "EPT_NO_AD": bits.EPT_NO_AD, "software A and D": bits.software_ad(bits.EPT_NO_AD),
    "EPT with L1TF": bits.guarded(bits.EPT, 46), "SME, 43 bits": bits.encrypted_npt(47, 43),
    "SME, 48 bits": bits.encrypted_npt(51, 48),
}  # fmt: skip
MMIO = {name: fmt for name, fmt in FORMATS.items() if fmt.mmio_value}
GFNS, GENERATIONS = st.integers(0, (1 << 38) - 1), st.integers(0, (1 << 63) - 1)


def hardware(fmt: bits.SpteFormat) -> Hardware:
    """How a CPU reads entries of a format."""
    return Hardware(fmt.ept, fmt.accessed if fmt.ad else 0, fmt.dirty if fmt.ad else 0, fmt.mmu_writable)


def a_kvm(fmt: bits.SpteFormat) -> Kvm:
    """A VM whose entries are of a format."""
    return Kvm(Machine(1), fmt, BEHAVIOURS["6.12"], POLICIES["rcu"], 2, 1)


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_empty_and_frozen_entries_are_gone_through_by_nobody(behaviour: Any, fmt: bits.SpteFormat) -> None:
    """The values of each kernel for no entry and for one that is being removed are present to no CPU, nor to KVM."""
    for raw in (behaviour.empty, behaviour.frozen, bits.EMPTY_61, bits.EMPTY_612, bits.FROZEN_61, bits.FROZEN_612):
        assert hardware(fmt).rights(raw) == 0
        assert not hardware(fmt).is_reserved(raw)
        assert not bits.is_present(raw)


@pytest.mark.parametrize("fmt", MMIO.values(), ids=MMIO)
@given(gfn=GFNS, generation=GENERATIONS)
def test_entries_of_mmio_are_gone_through_by_nobody(fmt: bits.SpteFormat, gfn: int, generation: int) -> None:
    """Whatever the gfn and the generation, an entry of MMIO gives a CPU a fault of its own kind, and is none to KVM."""
    kvm = a_kvm(fmt)
    raw = make_mmio_spte(kvm, gfn & (int(fmt.frame) >> 12), generation)
    assert hardware(fmt).rights(raw) == 0
    assert hardware(fmt).is_reserved(raw)
    assert not bits.is_present(raw)
    assert bits.is_mmio(raw, fmt)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_presence_to_hardware_is_its_own_bits_alone(raw: int) -> None:
    """R, W and X of EPT, P and the reserved bit of NPT; KVM's bit changes nothing."""
    for fmt in (bits.NPT, bits.EPT):
        cpu = hardware(fmt)
        assert cpu.rights(raw) == cpu.rights(raw ^ bits.PRESENT)
        read, write, execute = raw & 1, raw >> 1 & 1, raw >> 2 & 1
        odd = write and not read if fmt.ept else read and raw >> 51 & 1
        assert cpu.is_reserved(raw) == bool(odd)
        present = read or write or execute if fmt.ept else read
        assert bool(cpu.rights(raw)) == bool(present and not odd)


def test_write_protection_of_an_entry_of_mmio_opens_it_on_ept_alone() -> None:
    """Without W an entry of MMIO is X alone on EPT, which a CPU goes through, and on NPT what it was."""
    for fmt, opened in ((bits.EPT, 4), (bits.NPT, 0)):
        kvm = a_kvm(fmt)
        assert hardware(fmt).rights(make_mmio_spte(kvm, 3, 8) & ~bits.WRITABLE) == opened


# Small programs, which every explorer must judge alike.


def guest(m: CheckedMachine) -> None:
    """Run the guest once, as one who knows an entry of MMIO by its fault."""
    m.irq_disable(0)
    fault = m.enter_guest(0)
    m.irq_enable(0)
    if fault == fault_of(0, RESERVED):
        m.mmio_access(0, 0)


def opened() -> Setting:
    """A task takes W from an entry of MMIO while a guest runs."""

    def protect(m: CheckedMachine) -> None:
        m.fetch_and(2, ~2)

    return small(guest, protect, used=2, words={0: link(1) | 4, 2: 6}, hardware=Hardware(ept=True), reserved=True)


def closed() -> Setting:
    """It takes W and X."""

    def protect(m: CheckedMachine) -> None:
        m.fetch_and(2, ~6)

    return small(guest, protect, used=2, words={0: link(1) | 4, 2: 6}, hardware=Hardware(ept=True), reserved=True)


def believed() -> Setting:
    """A page becomes memory, and the guest's accesses pass for MMIO as before."""

    def create(m: CheckedMachine) -> None:
        m.slots_lock()
        m.slots_unlock()
        m.back(1)

    return small(guest, create, used=2, words={0: link(1) | 4, 2: 6}, hardware=Hardware(ept=True), reserved=True)


def replaced() -> Setting:
    """The entry goes first, when nobody can be serving a fault there any more."""

    def waited(m: CheckedMachine) -> None:
        m.irq_disable(0)
        fault = m.enter_guest(0)
        m.irq_enable(0)
        if fault == fault_of(0, RESERVED):
            m.srcu_read_lock()
            raw = m.read(2)
            if raw == 6:
                m.mmio_access(0, 0)
            m.srcu_read_unlock()

    def create(m: CheckedMachine) -> None:
        m.write(2, 0)
        m.synchronize_srcu()
        m.back(1)

    return small(waited, create, used=2, words={0: link(1) | 4, 2: 6}, hardware=Hardware(ept=True), reserved=True)


def executable() -> Setting:
    """A huge page that may be executed comes, with the NX mitigation on."""

    def rebuild(m: CheckedMachine) -> None:
        m.write(1, leaf(PFN) | bits.LARGE)

    return small(guest, rebuild, nx=True)


def not_executable() -> Setting:
    """One that may not."""

    def rebuild(m: CheckedMachine) -> None:
        m.write(1, leaf(PFN) | bits.LARGE | bits.NX)

    return small(guest, rebuild, nx=True)


def other() -> Setting:
    """A huge page comes whose second half is another one than the host has there."""

    def rebuild(m: CheckedMachine) -> None:
        m.write(1, leaf(PFN) | bits.LARGE)

    return small(guest, rebuild, faults=((2, WRITE),), frames={2: frozenset({PFN}), 3: frozenset({PFN, PFN + 2})})


def same() -> Setting:
    """One that the host has there at times."""

    def rebuild(m: CheckedMachine) -> None:
        m.write(1, leaf(PFN) | bits.LARGE)

    return small(guest, rebuild, faults=((2, WRITE),), frames={2: frozenset({PFN}), 3: frozenset({PFN + 1, PFN + 2})})


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (opened, steps.UNKNOWN_IN_REACH), (closed, 0), (believed, steps.PASSES_FOR_MMIO), (replaced, 0),
        (executable, steps.EXECUTABLE_IN_REACH), (not_executable, 0), (other, steps.OTHER_IN_REACH), (same, 0),
    ],
)  # fmt: skip
def test_every_explorer_finds_it(make: Any, broken: int) -> None:
    """The fast explorer with and without its reductions, and the plain one with every fill a step, agree."""
    assert set(verdicts(make).values()) == {broken}
