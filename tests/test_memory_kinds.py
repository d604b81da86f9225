"""Encrypted memory, CPUs with L1TF, and what the guest says of caching: what they make of SPTEs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown import Vm
from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.fault import page_fault
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.make_spte import make_huge, make_nonleaf, make_split, make_spte
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.memory_type import GuestCaching
from shootdown.mmu.mmio import is_mmio_spte, make_mmio_spte
from shootdown.mmu.page_fault import EMULATE, FIXED
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import (
    EPT,
    EPT_NO_AD,
    NPT,
    SpteFormat,
    describe,
    encrypted_npt,
    format_of,
    guarded,
    is_mmio,
    mmio_generation,
    software_ad,
    unsigned,
)
from shootdown.mmu.vcpu_roots import mmu_load

C_BIT = 47
SME = encrypted_npt(C_BIT, 43)
DEVICES = 0x10_0000


def bits(*numbers: int | range) -> int:
    """The number with these bits set."""
    return sum(1 << bit for group in numbers for bit in ([group] if isinstance(group, int) else group))


def kvm_of(fmt: SpteFormat, behaviour: str = "6.12", **arguments: Any) -> Kvm:
    """A VM."""
    return Kvm(NativeMachine(slots=1), fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, **arguments)


# Encrypted memory


def test_encrypted_memory_has_the_c_bit_in_tables_and_leaves() -> None:
    """Leaves and entries of tables have it, those of devices not; frames are what they are without it."""
    kvm = kvm_of(SME, device_pfn=DEVICES)
    assert make_spte(kvm, 0, 5, 0x1234, 1, 0, True, False, False) == 0x0E67 | 0x1234 << 12 | 1 << 47
    assert make_spte(kvm, 0, 5, DEVICES, 1, 0, True, False, False) == 0x0E67 | DEVICES << 12
    assert make_nonleaf(kvm, 0x1234) == 0x0827 | 0x1234 << 12 | 1 << 47
    huge = make_spte(kvm, 0, 512, 0x600, 2, 0, True, False, False)
    assert huge == 0x0EE7 | 0x600 << 12 | 1 << 47
    small = make_split(kvm, huge, 2, 3)
    assert small == 0x0E67 | 0x603 << 12 | 1 << 47
    assert make_huge(kvm, small, 2) == huge
    assert kvm.pfn(small) == 0x603 and describe(small, 1, SME) == "4K pfn 603 rwx encrypted A D host-w mmu-w"
    assert format_of(small, 1) is NPT


@pytest.mark.parametrize(
    ("c_bit", "phys_bits", "mask"),
    [
        (47, 43, bits(0, range(43, 52))), (51, 48, bits(0, range(48, 52))), (47, 47, bits(0, range(48, 52))),
        (51, 51, 0), (47, 52, 0),
    ],
)  # fmt: skip
def test_entries_of_mmio_use_bits_that_no_address_has(c_bit: int, phys_bits: int, mask: int) -> None:
    """From the CPU's last bit on, or one later if that is the C-bit's; without one there are no such entries."""
    fmt = encrypted_npt(c_bit, phys_bits)
    assert fmt.mmio_mask == fmt.mmio_value == mask
    kvm = kvm_of(fmt)
    spte = make_mmio_spte(kvm, 0xFEE00, 0)
    assert is_mmio_spte(kvm, spte) == is_mmio(spte, fmt) == (mask != 0)
    assert spte == mask | 0xFEE0_0000 | 6


@pytest.mark.parametrize("phys_bits", [43, 52])
def test_without_entries_of_mmio_each_access_is_emulated_anew(phys_bits: int) -> None:
    """A fault where no slot is maps nothing if the CPU leaves no bit for it."""
    machine = NativeMachine(slots=1)
    kvm = Kvm(machine, encrypted_npt(51, phys_bits), BEHAVIOURS["6.12"], POLICIES["rcu"], 4, 1, slots=1)
    set_memory_region(kvm, 0, 0, 0, 512, 0)
    mmu_load(kvm, 0, 0)
    assert page_fault(kvm, 0, 0xFEE00, 0) == EMULATE
    assert (machine.load(words.MMIO_SPTES, 0), machine.load(words.TABLES, 0)) == ((1, 3) if phys_bits == 43 else (0, 0))


def test_nothing_is_mapped_beyond_what_the_hosts_cpu_can_address() -> None:
    """No slot reaches so far, and a fault there leaves nothing that a zap of all would not find (86931ff7207b)."""
    machine = NativeMachine(slots=1)
    kvm = Kvm(machine, NPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 4, 1, slots=1, phys_bits=36)
    with pytest.raises(Bug, match=f"gfns end at {1 << 24:#x}"):
        set_memory_region(kvm, 0, 0, (1 << 24) - 1, 2, 0)
    set_memory_region(kvm, 0, 0, (1 << 24) - 1, 1, 0)
    mmu_load(kvm, 0, 0)
    assert page_fault(kvm, 0, (1 << 24) - 1, 0) == FIXED
    assert page_fault(kvm, 0, 1 << 24, 0) == EMULATE
    assert machine.load(words.TABLES, 0) == 3


DO = {
    "read": lambda vm, gfn: vm.fault([gfn]), "write": lambda vm, gfn: vm.fault([gfn], write=True),
    "log": lambda vm, _: vm.log_dirty(True), "stop": lambda vm, _: vm.log_dirty(False),
    "unmap": lambda vm, gfn: vm.unmap(gfn, gfn + 3), "zap": lambda vm, gfn: vm.zap(gfn, min(gfn + 600, 1024)),
    "age": lambda vm, gfn: vm.age(gfn, gfn + 1), "all": lambda vm, _: vm.zap_all(),
}  # fmt: skip


@given(
    st.sampled_from(["6.1", "6.12", "6.13"]), st.sampled_from(["4K", "2M"]),
    st.lists(st.tuples(st.sampled_from(sorted(DO)), st.integers(0, 1020)), max_size=12),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_an_encrypted_host_differs_in_the_c_bit_alone(behaviour: str, page: str, todo: list[tuple[str, int]]) -> None:
    """Whatever is done, entry for entry, the tables are those of a plain host with the C-bit where something is."""
    plain, secret = (Vm(behaviour=behaviour, memory="4M", page=page) for _ in range(2))
    secret.kvm.fmt, secret.kvm.frame = SME, SME.frame
    for name, gfn in todo:
        assert DO[name](plain, gfn) == DO[name](secret, gfn)
    for sptep in range(512, 512 * int(plain.machine.tables.top)):
        spte = plain.machine.read(sptep)
        assert secret.machine.read(sptep) == spte | (1 << C_BIT if spte & 0x800 else 0)
    assert plain.counters == secret.counters


# CPUs with L1TF


@pytest.mark.parametrize(
    ("gfn", "spte"),
    [
        (0xFEE00, 0x0000_0F80_FEE0_0006), (0x800_0000, 0x0000_1F80_0000_0006), (0xF800_0000, 0x0001_FF80_0000_0006),
        (0x7FF_FFFF, 0x0000_0FFF_FFFF_F006),
    ],
)  # fmt: skip
def test_a_guarded_entry_of_mmio_points_to_no_memory(gfn: int, spte: int) -> None:
    """Bits 43 to 39 are set where caches know 44 bits, and the address's own five are kept above them."""
    assert make_mmio_spte(kvm_of(guarded(EPT, 44)), gfn, 0) == spte


@given(st.sampled_from([36, 39, 44, 46]), st.data(), st.integers(0, 2**19 - 1), st.sampled_from(["6.1", "6.12"]))
def test_the_address_of_a_guarded_entry_is_still_there(
    cache_bits: int, data: st.DataObject, made: int, behaviour: str
) -> None:
    """Read bit by bit: address and generation come back, and the five bits are all ones, whatever the address."""
    gfn = data.draw(st.integers(0, 2 ** (cache_bits - 12) - 1))
    kvm = kvm_of(guarded(EPT, cache_bits), behaviour)
    spte = unsigned(make_mmio_spte(kvm, gfn, made))
    low = cache_bits - 5
    found = 0
    for bit in range(12, cache_bits):
        found |= (spte >> (bit if bit < low else bit + 5) & 1) << bit
    assert found == gfn << 12
    assert spte & bits(range(low, cache_bits)) == bits(range(low, cache_bits))
    assert mmio_generation(make_mmio_spte(kvm, gfn, made)) == made
    assert is_mmio_spte(kvm, make_mmio_spte(kvm, gfn, made))


def test_a_guard_changes_no_leaf() -> None:
    """Only entries of MMIO have it; a format without A and D bits stays one, in the form of its kernel."""
    for fmt in (EPT, EPT_NO_AD):
        for behaviour in ("6.1", "6.12", "6.13"):
            with_guard, without = kvm_of(guarded(fmt, 44), behaviour), kvm_of(fmt, behaviour)
            assert make_nonleaf(with_guard, 7) == make_nonleaf(without, 7)
            for prefetch in (False, True):
                arguments = (0, 5, 5, 1, without.empty, True, False, prefetch)
                assert make_spte(with_guard, *arguments) == make_spte(without, *arguments)
    assert software_ad(EPT) is EPT and software_ad(NPT) is NPT


# What the guest says of caching

UC, WC, WT, WB = 0, 1, 4, 6


def caching(**arguments: Any) -> GuestCaching:
    """A guest whose MTRRs make two ranges of its memory special."""
    found = GuestCaching(**arguments)
    found.add(0xA0, 0xC0, UC)
    found.add(0x400, 0x600, WT)
    return found


@pytest.mark.parametrize(
    ("behaviour", "arguments", "types"),
    [
        ("6.1", {}, {0: 0x30, 0x9F: 0x30, 0xA0: 0, 0xBF: 0, 0xC0: 0x30, 0x400: 0x20, 0x5FF: 0x20, 0x600: 0x30}),
        ("6.1", {"default": WC}, {0: 0x08, 0xA0: 0, 0x400: 0x20}),
        ("6.1", {"off": True}, {0: 0x70, 0xA0: 0x70}),
        ("6.1", {"off": True, "off_ignored": False}, {0: 0x40, 0x400: 0x40}),
        ("6.12", {"off": True, "off_ignored": False}, {0: 0x30, 0xA0: 0x30, 0x400: 0x30}),
    ],
)  # fmt: skip
def test_what_the_guest_says_of_its_memory_counts_in_61(
    behaviour: str, arguments: dict[str, Any], types: dict[int, int]
) -> None:
    """Where a device bypasses caches; else, and for devices' own memory, it never does."""
    heard = kvm_of(EPT, behaviour, noncoherent_dma=True, caching=caching(**arguments), device_pfn=DEVICES)
    unheard = kvm_of(EPT, behaviour, caching=caching(**arguments), device_pfn=DEVICES)
    for gfn, kind in types.items():
        assert make_spte(heard, 0, gfn, 7, 1, 0, True, False, False) & 0x78 == kind
        assert make_spte(unheard, 0, gfn, 7, 1, 0, True, False, False) & 0x78 == 0x70
        assert make_spte(heard, 0, gfn, DEVICES, 1, 0, True, False, False) & 0x78 == 0


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8), st.sampled_from([UC, WT, WB])), max_size=4)


@given(RANGES, st.integers(0, 60), st.integers(1, 16))
def test_a_range_is_uniform_if_all_its_pages_are_alike(
    drawn: list[tuple[int, int, int]], first: int, count: int
) -> None:
    """Compared with a list of the type of each page."""
    guest, pages, taken = GuestCaching(), [WB] * 128, set[int]()
    for base, number, kind in drawn:
        if taken.isdisjoint(range(base, base + number)):
            taken |= set(range(base, base + number))
            guest.add(base, base + number, kind)
            pages[base : base + number] = [kind] * number
    assert [guest.type_of(gfn) for gfn in range(128)] == pages
    assert guest.is_uniform(first, first + count) == (len(set(pages[first : first + count])) == 1)


@pytest.mark.parametrize(("behaviour", "fmt", "large"), [("6.1", EPT, False), ("6.12", EPT, True), ("6.1", NPT, True)])
def test_no_huge_page_has_two_memory_types(behaviour: str, fmt: SpteFormat, large: bool) -> None:
    """On EPT, where the guest is heard: the first 2M hold two types, the others one each."""
    machine = NativeMachine(host_level=2)
    kvm = Kvm(
        machine, fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, noncoherent_dma=True, caching=caching()
    )  # fmt: skip
    mmu_load(kvm, 0, 0)
    for gfn in (0xA5, 0x401, 0x601):
        page_fault(kvm, 0, gfn, 0)
    assert machine.load(words.PAGES, 2) == (3 if large else 2)
    assert machine.load(words.PAGES, 1) == (0 if large else 1)
