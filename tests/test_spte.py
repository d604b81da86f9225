"""SPTEs: the values that kernels use, what the CPU may do to them, and what a split makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.mmu.spte import (
    EMPTY_612,
    EPT,
    FROZEN_61,
    FROZEN_612,
    NPT,
    PAGES,
    SpteFormat,
    describe,
    differs_beyond_hardware,
    format_of,
    is_empty,
    is_executable,
    is_frozen,
    is_leaf,
    is_table,
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
