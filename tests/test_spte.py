"""SPTEs: the values that kernels use, what the CPU may do to them, and what a split makes of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH, WRITE, is_allowed
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.make_spte import make_huge, make_leaf, make_nonleaf, make_split, make_spte
from shootdown.mmu.mmio import check_mmio_spte, is_mmio_spte, make_mmio_spte
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import (
    EMPTY_612,
    EPT,
    EPT_NO_AD,
    FROZEN_61,
    FROZEN_612,
    NPT,
    PAGES,
    SpteFormat,
    ad_enabled,
    describe,
    differs_beyond_hardware,
    format_of,
    is_access_track,
    is_accessed,
    is_dirty,
    is_empty,
    is_executable,
    is_frozen,
    is_leaf,
    is_mmio,
    is_mmu_writable,
    is_table,
    is_writable,
    mark_for_access_track,
    mmio_generation,
    needs_write_protect,
    restore_acc_track,
    split_child,
    spte_pfn,
    unsigned,
)


def signed(value: int) -> int:
    """The 64-bit value as SPTEs are kept."""
    return value - 2**64 if value >= 2**63 else value


# Typical values of both kernels: kind, level, words that must and must not describe it.
VALUES = [
    (0x0600000000000B77, 1, EPT, "4K pfn 0 rwx A D host-w mmu-w WB+ipat", "6.1, EPT with A/D"),
    (0x8600000000000B77, 1, EPT, "4K pfn 0 rwx A D host-w mmu-w WB+ipat", "6.12, EPT with A/D"),
    (0x8610000000000877, 1, EPT, "4K pfn 0 rwx host-w mmu-w WB+ipat ad-off", "6.12, EPT without A/D"),
    (0x0E67, 1, NPT, "4K pfn 0 rwx A D host-w mmu-w", "NPT"),
    (0x8600000000000B75, 1, EPT, "4K pfn 0 r-x A D host-w mmu-w WB+ipat", "write-protected for the dirty log"),
    (0x0E65, 1, NPT, "4K pfn 0 r-x A D host-w mmu-w", "write-protected for the dirty log, NPT"),
    (0x8000000000000975, 1, EPT, "4K pfn 0 r-x A WB+ipat", "read-only in the host"),
    (0x0825, 1, NPT, "4K pfn 0 r-x A", "read-only in the host, NPT"),
    (0x8600000000000BF3, 2, EPT, "2M pfn 0 rw- A D host-w mmu-w WB+ipat", "NX huge page"),
    (0x8000000000000EE7, 2, NPT, "2M pfn 0 rw- A D host-w mmu-w", "NX huge page, NPT"),
    (0x8000000000000907, 2, EPT, "table pfn 0 rwx A", "table"),
    (0x0827, 2, NPT, "table pfn 0 rwx A", "table, NPT"),
    (0x8750000000000870, 1, EPT, "4K pfn 0 --- host-w mmu-w tracked(rx) WB+ipat ad-off", "access-tracked"),
    (0x5A0, 1, NPT, "frozen", "frozen, 6.1"),
    (0x80000000000005A0, 1, EPT, "frozen", "frozen, 6.12"),
    (0x8000000000000000, 1, NPT, "empty", "empty, 6.12"),
    (0, 1, EPT, "empty", "empty, 6.1"),
]
IDS = [v[4] for v in VALUES]


@pytest.mark.parametrize(("value", "level", "fmt", "text", "kind"), VALUES, ids=IDS)
def test_typical_values_read_as_a_kernel_developer_knows_them(
    value: int, level: int, fmt: SpteFormat, text: str, kind: str
) -> None:
    """Every typical value of 6.1 and 6.12 is described by its size, frame, rights and software bits."""
    assert describe(signed(value), level, fmt) == text
    assert unsigned(signed(value)) == value


@pytest.mark.parametrize(("value", "level", "fmt", "text", "kind"), VALUES, ids=IDS)
def test_the_vendor_is_told_from_a_value_or_not_at_all(
    value: int, level: int, fmt: SpteFormat, text: str, kind: str
) -> None:
    """A present value is taken for its own format or for none, never for the other one."""
    assert format_of(signed(value), level) in (fmt, None)


def test_the_mmio_generation_is_put_together_from_both_its_places() -> None:
    """Bits 10:3 and 62:52 of an MMIO SPTE hold the generation."""
    generation = 0x5A5A5 & 0x7FFFF
    value = 6 | (generation & 0xFF) << 3 | (generation >> 8) << 52
    assert describe(value, 1, EPT) == f"mmio gen {generation}"


SPTES = st.integers(-(2**63), 2**63 - 1)


@given(SPTES, st.integers(1, 3))
def test_no_value_breaks_its_description(value: int, level: int) -> None:
    """Any 64 bits have a description, and at most one kind."""
    for fmt in (NPT, EPT):
        assert describe(value, level, fmt)
    assert is_leaf(value, level) + is_table(value, level) + is_empty(value) + is_frozen(value) <= 1


@given(SPTES, st.sampled_from([NPT, EPT]))
def test_the_cpu_may_set_a_and_d_of_a_writable_leaf_and_nothing_else(value: int, fmt: SpteFormat) -> None:
    """Of the 64 changes of one bit in a leaf, only setting A, and D if it is writable, is the CPU's."""
    leaf = (value | 0x800) & ~(0x3 << 52)
    for bit in range(64):
        changed = signed(unsigned(leaf) ^ 1 << bit)
        mine = 1 << bit == fmt.accessed or (1 << bit == fmt.dirty and leaf & 2 != 0)
        allowed = mine and not leaf & (1 << bit)
        assert differs_beyond_hardware(leaf, changed, 1, fmt) is not allowed, bit
    assert not differs_beyond_hardware(leaf, leaf, 1, fmt)


def test_without_ad_bits_the_cpu_sets_nothing() -> None:
    """An EPT entry whose A/D bits are disabled is never changed by the CPU."""
    off = signed(0x8610000000000877)
    assert differs_beyond_hardware(off, off | EPT.accessed, 1, EPT)
    assert differs_beyond_hardware(EMPTY_612, EMPTY_612 | 0x20, 1, NPT)
    assert differs_beyond_hardware(FROZEN_61, FROZEN_612, 1, NPT)


@given(st.integers(0, 2**30), st.integers(0, 511), st.sampled_from([(NPT, 0xEE7), (EPT, 0x0600000000000BF7)]))
def test_a_split_keeps_the_translation(frame: int, index: int, form: tuple[SpteFormat, int]) -> None:
    """Child i of a split maps the frame that page i of the huge page had, with the same rights and software bits."""
    fmt, low = form
    for level in (2, 3):
        huge = low | (frame * PAGES[level] % 2**38) << 12
        child = split_child(huge, level, index, False, fmt)
        assert spte_pfn(child) == spte_pfn(huge) + index * PAGES[level - 1]
        assert is_leaf(child, level - 1)
        differing = unsigned(child) ^ unsigned(huge)
        assert differing & 0xFFF0000000000FFF == (0x80 if level == 2 else 0)


def test_a_split_gives_4k_pages_x_back_where_only_the_mitigation_took_it() -> None:
    """With the NX huge page mitigation, 4 KiB children are executable and 2 MiB ones are not."""
    assert split_child(signed(0x8000000000000EE7), 2, 1, True, NPT) == 0x1E67
    assert split_child(signed(0x8600000000000BF3), 2, 0, True, EPT) == signed(0x8600000000000B77)
    assert split_child(signed(0x8000000000000EE7), 3, 0, True, NPT) == signed(0x8000000000000EE7)


def test_an_access_tracked_huge_page_keeps_its_saved_rights_when_split() -> None:
    """X of an access-tracked EPT entry is in bit 56: it is there that a child keeps it, or gets it back."""
    tracked = signed(0x87500000000008F0)
    assert is_executable(tracked, EPT)
    assert unsigned(split_child(tracked, 2, 0, False, EPT)) == 0x8750000000000870
    without_x = signed(unsigned(tracked) & ~(1 << 56))
    assert not is_executable(without_x, EPT)
    assert unsigned(split_child(without_x, 2, 0, True, EPT)) == 0x8750000000000870


# Building


BUILT = [
    # What, format, behaviour, level, host-writable, write-protected, prefetch, NX mitigation, value.
    ("4K", EPT, "6.1", 1, True, False, False, False, 0x0600_0000_0000_0B77),
    ("4K", EPT, "6.12", 1, True, False, False, False, 0x8600_0000_0000_0B77),
    ("4K", EPT_NO_AD, "6.12", 1, True, False, False, False, 0x8610_0000_0000_0877),
    ("4K", EPT_NO_AD, "6.1", 1, True, False, False, False, 0x0610_0000_0000_0877),
    ("4K", EPT_NO_AD, "6.13", 1, True, False, False, False, 0x8610_0000_0000_0B77),
    ("4K", NPT, "6.1", 1, True, False, False, True, 0x0E67),
    ("4K", NPT, "6.12", 1, True, False, False, True, 0x0E67),
    ("host-read-only", EPT, "6.1", 1, False, False, False, False, 0x0975),
    ("host-read-only", EPT, "6.12", 1, False, False, False, False, 0x8000_0000_0000_0975),
    ("host-read-only", EPT_NO_AD, "6.12", 1, False, False, False, False, 0x8010_0000_0000_0875),
    ("host-read-only", NPT, "6.12", 1, False, False, False, False, 0x0825),
    ("2M, NX", EPT, "6.1", 2, True, False, False, True, 0x0600_0000_0000_0BF3),
    ("2M, NX", EPT, "6.12", 2, True, False, False, True, 0x8600_0000_0000_0BF3),
    ("2M, NX", EPT_NO_AD, "6.12", 2, True, False, False, True, 0x8610_0000_0000_08F3),
    ("2M, NX", NPT, "6.12", 2, True, False, False, True, 0x8000_0000_0000_0EE7),
    ("tracked writes", EPT, "6.12", 1, True, True, False, False, 0x8200_0000_0000_0975),
    ("tracked writes", NPT, "6.12", 1, True, True, False, False, 0x0A25),
    ("prefetch", EPT, "6.12", 1, True, False, True, False, 0x8600_0000_0000_0A77),
    ("prefetch", NPT, "6.12", 1, True, False, True, False, 0x0E47),
    ("prefetch", EPT_NO_AD, "6.12", 1, True, False, True, False, 0x8750_0000_0000_0870),
    ("prefetch", EPT_NO_AD, "6.1", 1, True, False, True, False, 0x0750_0000_0000_0870),
    ("prefetch", EPT_NO_AD, "6.13", 1, True, False, True, False, 0x8750_0000_0000_0A70),
]


def vm(fmt: SpteFormat, behaviour: str, nx: bool = False, **arguments: Any) -> Kvm:
    """A VM."""
    return Kvm(NativeMachine(), fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, nx, **arguments)


@pytest.mark.parametrize("built", BUILT, ids=[f"{row[0]}, {row[2]}, {n}" for n, row in enumerate(BUILT)])
def test_leaves_are_built_as_kernels_build_them(
    built: tuple[str, SpteFormat, str, int, bool, bool, bool, bool, int],
) -> None:
    """The typical values, of frame 0 and of others."""
    _, fmt, behaviour, level, writable, protect, prefetch, nx, value = built
    kvm = vm(fmt, behaviour, nx)
    for pfn in (0, 0x12_3456_7800 & -(512 ** (level - 1))):
        assert unsigned(make_spte(kvm, 0, pfn, pfn, level, kvm.empty, writable, protect, prefetch)) == value | pfn << 12


@pytest.mark.parametrize(
    ("fmt", "behaviour", "value"),
    [
        (EPT, "6.1", 0x0907), (EPT, "6.12", 0x8000_0000_0000_0907), (EPT_NO_AD, "6.12", 0x8010_0000_0000_0807),
        (EPT_NO_AD, "6.13", 0x8010_0000_0000_0807), (NPT, "6.1", 0x0827), (NPT, "6.12", 0x0827),
    ],
)  # fmt: skip
def test_tables_entries_are_built_as_kernels_build_them(fmt: SpteFormat, behaviour: str, value: int) -> None:
    """Rights are all; A is set only where the CPU has it; software bits say whether it has."""
    assert unsigned(make_nonleaf(vm(fmt, behaviour), 0x123)) == value | 0x123 << 12


@pytest.mark.parametrize(
    ("arguments", "role", "pfn", "bits"),
    [
        ({}, 0, 5, 0x70), ({"noncoherent_dma": True}, 0, 5, 0x30),
        ({"device_pfn": 5}, 0, 5, 0), ({"device_pfn": 6}, 0, 5, 0x70),
        ({"pml": True}, words.ROLE_GUEST_MODE, 5, 0x0020_0000_0000_0070), ({"pml": True}, 0, 5, 0x70),
        ({}, words.ROLE_GUEST_MODE, 5, 0x70),
    ],
)  # fmt: skip
def test_memory_type_and_kind_of_logging_depend_on_the_vm(
    arguments: dict[str, Any], role: int, pfn: int, bits: int
) -> None:
    """Devices are uncached; where the CPU logs pages, it must not log those of nested guests."""
    kvm = vm(EPT, "6.1", **arguments)
    assert make_spte(kvm, role, pfn, pfn, 1, 0, True, False, False) & 0x0030_0000_0000_0078 == bits
    assert make_nonleaf(kvm, 5) & 0x0030_0000_0000_0000 == 0


@pytest.mark.parametrize("fmt", [NPT, EPT])
def test_what_stood_there_before_decides_on_d_up_to_612(fmt: SpteFormat) -> None:
    """D is missing where W was set, in an entry of MMIO also; tables and read-only leaves leave it."""
    for behaviour, drops in (("6.1", True), ("6.12", True), ("6.13", False)):
        kvm = vm(fmt, behaviour)
        leaf = make_leaf(kvm, 512, 2)
        olds = {
            (kvm.empty, 1): False, (make_leaf(kvm, 512, 1), 1): True, (make_leaf(kvm, 512, 1) & ~2, 1): False,
            (make_mmio_spte(kvm, 512, 3), 1): True, (make_nonleaf(kvm, 9), 2): False, (leaf, 2): True,
        }  # fmt: skip
        for (old, level), writable_leaf in olds.items():
            new = make_spte(kvm, 0, 512, 512, level, old, True, False, False)
            assert (new & fmt.dirty == 0) == (drops and writable_leaf)
            assert new & 2 and new & fmt.mmu_writable


LEAVES = st.sampled_from([1, 2, 3]).flatmap(
    lambda level: st.tuples(
        st.sampled_from([NPT, EPT, EPT_NO_AD]), st.sampled_from(["6.1", "6.12", "6.13"]), st.just(level),
        st.integers(0, 2**20).map(lambda number: number * 512 ** (level - 1)), st.booleans(), st.booleans(),
        st.booleans(), st.booleans(),
    )
)  # fmt: skip


@given(LEAVES)
def test_predicates_agree_with_the_bits_that_the_manuals_name(
    made: tuple[SpteFormat, str, int, int, bool, bool, bool, bool],
) -> None:
    """Rights, A and D of any leaf, read by position; and a writable one is so for host and MMU."""
    fmt, behaviour, level, pfn, writable, protect, prefetch, nx = made
    kvm = vm(fmt, behaviour, nx)
    leaf = make_spte(kvm, 0, pfn, pfn, level, kvm.empty, writable, protect, prefetch)
    bit = [unsigned(leaf) >> n & 1 == 1 for n in range(64)]
    a, d, host_w, mmu_w = (5, 6, 9, 10) if fmt is NPT else (8, 9, 57, 58)
    tracked = fmt is EPT_NO_AD and not (bit[0] or bit[1] or bit[2])
    assert is_leaf(leaf, level) and spte_pfn(leaf) == pfn
    assert is_access_track(leaf) == tracked == (prefetch and fmt is EPT_NO_AD)
    assert ad_enabled(leaf) == (fmt is not EPT_NO_AD) == (not needs_write_protect(leaf))
    has_ad = fmt is not EPT_NO_AD or behaviour == "6.13"
    assert is_accessed(leaf, kvm.fmt) == (not prefetch) == (bit[a] if has_ad else bit[0])
    assert is_dirty(leaf, kvm.fmt) == (bit[d] if has_ad else bit[1])
    assert (bit[host_w], bit[mmu_w]) == (writable, writable and not protect)
    assert is_mmu_writable(leaf, kvm.fmt) == bit[mmu_w]
    assert is_writable(leaf) == bit[1] == (bit[mmu_w] and not tracked)
    execute = bit[56] if tracked else (not bit[63] if fmt is NPT else bit[2])
    assert is_executable(leaf, kvm.fmt) == execute == (level == 1 or not nx)
    for code, allowed in ((0, bit[0]), (WRITE, bit[1]), (FETCH, not bit[63] if fmt is NPT else bit[2])):
        assert is_allowed(leaf, code, kvm.fmt) == allowed


@given(LEAVES)
def test_marking_for_access_tracking_and_back_loses_w_at_most(
    made: tuple[SpteFormat, str, int, int, bool, bool, bool, bool],
) -> None:
    """Marked twice is marked once; what comes back has the rights that it had, but W."""
    fmt, behaviour, level, pfn, writable, protect, _, nx = made
    kvm = vm(fmt, behaviour, nx)
    leaf = make_spte(kvm, 0, pfn, pfn, level, kvm.empty, writable, protect, False)
    marked = mark_for_access_track(leaf, kvm.fmt)
    assert mark_for_access_track(marked, kvm.fmt) == marked
    assert not is_accessed(marked, kvm.fmt)
    if fmt is EPT_NO_AD:
        assert is_access_track(marked)
        assert restore_acc_track(marked) | kvm.fmt.accessed == leaf & ~2
        assert is_executable(marked, kvm.fmt) == is_executable(leaf, kvm.fmt)
    else:
        assert marked == leaf & ~fmt.accessed


@given(LEAVES, st.integers(0, 511))
def test_a_split_undone_gives_the_huge_page_back(
    made: tuple[SpteFormat, str, int, int, bool, bool, bool, bool], index: int
) -> None:
    """Any part of a split is what a fault would have put there, and leads back to the whole."""
    fmt, behaviour, level, pfn, writable, protect, prefetch, nx = made
    kvm = vm(fmt, behaviour, nx)
    if level == 1:
        with pytest.raises(Bug, match="no huge page"):
            make_split(kvm, make_leaf(kvm, pfn, 1), 2, index)
        return
    huge = make_spte(kvm, 0, pfn, pfn, level, kvm.empty, writable, protect, prefetch)
    small = make_split(kvm, huge, level, index)
    part = pfn + index * 512 ** (level - 2)
    assert small == make_spte(kvm, 0, part, part, level - 1, kvm.empty, writable, protect, prefetch)
    assert make_huge(kvm, small, level) == huge


@given(st.sampled_from([NPT, EPT]), st.sampled_from(["6.1", "6.12"]), st.integers(0, 2**36), st.integers(0, 2**40))
def test_entries_of_mmio_are_told_from_all_others(fmt: SpteFormat, behaviour: str, gfn: int, generation: int) -> None:
    """They are not present, hold 19 bits of the generation and the address, and are out of date in any other one."""
    kvm = vm(fmt, behaviour)
    spte = make_mmio_spte(kvm, gfn, generation)
    assert is_mmio_spte(kvm, spte) and is_mmio(spte, fmt) and not spte & 0x800
    assert unsigned(spte) >> 12 & 2**36 - 1 == gfn % 2**36
    assert mmio_generation(spte) == generation % 2**19
    assert unsigned(spte) & 7 == (6 if fmt is EPT else 7)
    later = {generation: True, generation + 2: False, generation + 2**19: True, generation - 2**63: False}
    for current, good in later.items():
        kvm.m.store(words.SLOTS_GENERATION, 0, current)
        assert check_mmio_spte(kvm, 0, spte) == good
    for other in (kvm.empty, kvm.frozen, make_leaf(kvm, 5, 1), make_nonleaf(kvm, 5)):
        assert not is_mmio_spte(kvm, other)
