"""Ageing, write-protection and the clearing of dirty bits: which bits of which leaves go, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.mmu import aging, notifier
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.clear_dirty import clear_dirty_pt_masked, clear_dirty_slot
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import AD_DISABLED, EPT, EPT_NO_AD, NPT, SpteFormat
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.write_protect import write_protect_gfn, wrprot_slot

from .vms import check_at_rest, covers, mapped, scramble

GFNS = 64
W = 2


def vm(draw: st.DrawFn, policy: str = "rcu") -> Kvm:
    """A VM with both address spaces mapped by leaves of all sizes in any state that they may be in."""
    machine = NativeMachine(2, 2, resched_every=draw(st.sampled_from([0, 1, 3])))
    behaviour = BEHAVIOURS[draw(st.sampled_from(sorted(BEHAVIOURS)))]
    fmt = draw(st.sampled_from([NPT, EPT, EPT_NO_AD]))
    kvm = Kvm(machine, fmt, behaviour, POLICIES[policy], 3, 2)
    for number in range(4):
        level = draw(st.sampled_from([1, 2, 3]))
        for gfn in range(16 * number, 16 * number + 16):
            machine.store(words.HOST_LEVEL, gfn, level)
    gfns = draw(st.lists(st.integers(0, GFNS - 1), max_size=20))
    for vcpu in (0, 1):
        machine.vcpus.set_faults(vcpu, gfns, 2)
        serve_faults(kvm, vcpu, vcpu)
    scramble(machine, kvm, lambda _: draw(st.integers(0, 15)))
    return kvm


VMS = st.composite(vm)()
RANGES = st.tuples(st.integers(0, GFNS - 1), st.integers(1, GFNS)).map(
    lambda ends: (ends[0], max(ends[0] + 1, ends[1]))
)


def host(kvm: Kvm) -> NativeMachine:
    """The machine of a VM."""
    assert isinstance(kvm.m, NativeMachine)
    return kvm.m


def compare(
    kvm: Kvm, as_id: int, start: int, end: int, work: Callable[[], object], change: Callable[[int, int], int]
) -> tuple[object, bool]:
    """Do something; of the leaves that touch a range, just those have changed, as ``change`` says. Its result, changed?

    ``change`` is given a leaf's value and level.
    """
    machine = host(kvm)
    before = mapped(machine, kvm)
    result = work()
    expected = {
        key: change(spte, key[1][0]) if key[0] == as_id and covers(kvm, key[1], start, end) else spte
        for key, spte in before.items()
    }
    assert mapped(machine, kvm) == expected
    check_at_rest(machine, kvm)
    return result, expected != before


def is_young(spte: int, fmt: SpteFormat) -> bool:
    """Was the page used, by A or by rights that were not taken away?"""
    return bool(spte & fmt.accessed) if fmt.accessed else bool(spte & 7)


def aged(spte: int, fmt: SpteFormat) -> int:
    """The leaf of a page that is not used yet."""
    spte &= ~fmt.accessed
    if fmt.ad:
        return spte
    return spte if spte & 7 == 0 else (spte & ~7) | (spte & 1) << 54 | (spte >> 2 & 1) << 56


@settings(max_examples=150, deadline=None)
@given(kvm=VMS, ends=RANGES)
def test_ageing_clears_what_says_that_a_page_was_used(kvm: Kvm, ends: tuple[int, int]) -> None:
    """Only A goes, or all rights where there is none; the answer is whether a page was young; twice asked is no."""
    machine, fmt = host(kvm), kvm.fmt
    before = [spte for (as_id, place), spte in mapped(machine, kvm).items() if covers(kvm, place, *ends) and as_id == 0]
    young = any(is_young(spte, fmt) for spte in before)
    dirty, used, flushes = (
        machine.load(kind, 0) for kind in (words.DIRTY_PFNS, words.ACCESSED_PFNS, words.FLUSH_REQUESTS)
    )
    machine.write_lock()
    assert aging.test_age_gfn_range(kvm, 0, *ends) == young
    machine.write_unlock()
    work = lambda: notifier.clear_flush_young(kvm, *ends)  # noqa: E731
    assert compare(kvm, 0, *ends, work, lambda spte, _: aged(spte, fmt)) == (young, young)
    lost = sum(not fmt.ad and is_young(spte, fmt) and spte & W != 0 for spte in before)
    times = 0 if not kvm.behaviour.counts_pfns else 1 if kvm.behaviour.direct_clear else 2
    assert machine.load(words.DIRTY_PFNS, 0) - dirty == lost * times
    assert machine.load(words.ACCESSED_PFNS, 0) == used
    assert machine.load(words.FLUSH_REQUESTS, 0) - flushes == (young and kvm.behaviour.flush_young)
    assert not notifier.clear_young(kvm, *ends)
    assert not notifier.test_young(kvm, ends[0])


@settings(max_examples=150, deadline=None)
@given(kvm=VMS, gfn=st.integers(0, GFNS - 1), level=st.sampled_from([1, 2, 3]))
def test_write_protection_asks_for_a_flush_whenever_a_write_was_allowed(kvm: Kvm, gfn: int, level: int) -> None:
    """W and MMU-writable go from the leaf that maps the page; a leaf with only the latter counts as changed."""

    def protect() -> bool:
        kvm.m.write_lock()
        changed = write_protect_gfn(kvm, 1, gfn, level)
        kvm.m.write_unlock()
        return changed

    gone = ~(W | kvm.fmt.mmu_writable)
    result, changed = compare(kvm, 1, gfn, gfn + 1, protect, lambda spte, at: spte & gone if at >= level else spte)
    assert result == changed
    assert not protect()


@settings(max_examples=150, deadline=None)
@given(kvm=VMS, ends=RANGES, level=st.sampled_from([1, 2]))
def test_logging_takes_away_only_the_right_to_write(kvm: Kvm, ends: tuple[int, int], level: int) -> None:
    """Of leaves of the level and above W goes, and may come back without a lock; no flush of its own."""

    def protect() -> bool:
        kvm.m.read_lock()
        changed = wrprot_slot(kvm, 0, *ends, level)
        kvm.m.read_unlock()
        return changed

    flushes = kvm.m.load(words.FLUSH_REQUESTS, 0)
    result, changed = compare(kvm, 0, *ends, protect, lambda spte, at: spte & ~W if at >= level else spte)
    assert result == changed
    assert kvm.m.load(words.FLUSH_REQUESTS, 0) == flushes


@settings(max_examples=150, deadline=None)
@given(kvm=VMS, ends=RANGES)
def test_a_clean_slot_has_no_leaf_that_counts_as_dirty(kvm: Kvm, ends: tuple[int, int]) -> None:
    """D goes, of leaves of all levels; W where D is not to be used."""

    def clean() -> bool:
        kvm.m.read_lock()
        changed = clear_dirty_slot(kvm, 0, *ends)
        kvm.m.read_unlock()
        return changed

    result, changed = compare(kvm, 0, *ends, clean, lambda spte, _: spte & ~dirty_bit(spte, kvm.fmt))
    assert result == changed


def dirty_bit(spte: int, fmt: SpteFormat) -> int:
    """The bit that says that a leaf is dirty."""
    return W if spte & 0x30_0000_0000_0000 == AD_DISABLED else (0x40 if fmt is NPT else 0x200)


@settings(max_examples=150, deadline=None)
@given(kvm=VMS, first=st.integers(0, GFNS - 1), mask=st.integers(1, 2**64 - 1), wrprot=st.booleans())
def test_a_mask_names_the_pages_that_become_clean(kvm: Kvm, first: int, mask: int, wrprot: bool) -> None:
    """Small leaves whose bit is set, and no others; the host's pages of those are told that they are dirty."""
    mask &= 2 ** (GFNS - first) - 1
    assume(mask)
    machine, signed = host(kvm), mask - 2**64 if mask >> 63 else mask
    named = {first + bit for bit in range(64) if mask >> bit & 1}
    bit_of = lambda spte: W if wrprot else dirty_bit(spte, kvm.fmt)  # noqa: E731
    before = mapped(machine, kvm)
    told = machine.load(words.DIRTY_PFNS, 0)
    machine.write_lock()
    clear_dirty_pt_masked(kvm, 0, first, signed, wrprot)
    machine.write_unlock()
    hit = {key: spte for key, spte in before.items() if key[:1] == (0,) and key[1][0] == 1 and key[1][1] in named}
    expected = {key: spte & ~bit_of(spte) if key in hit else spte for key, spte in before.items()}
    assert mapped(machine, kvm) == expected
    check_at_rest(machine, kvm)
    changed = [spte for key, spte in hit.items() if expected[key] != spte]
    if not kvm.behaviour.counts_pfns:
        changed = []
    elif not kvm.behaviour.direct_clear:
        # What the setter for everybody sees: W is taken for the mark of a dirty page only where there is no D.
        changed = [spte for spte in changed if bit_of(spte) == dirty_bit(spte, kvm.fmt)]
    assert machine.load(words.DIRTY_PFNS, 0) - told == len(changed)


@settings(max_examples=100, deadline=None)
@given(kvm=VMS, gfn=st.integers(0, GFNS - 1), writable=st.booleans(), begun=st.booleans())
def test_a_page_replaced_in_one_step_is_mapped_read_only(kvm: Kvm, gfn: int, writable: bool, begun: bool) -> None:
    """Inside of an invalidation a small leaf goes, or maps the new page unused and read-only; else nothing happens."""
    machine, fmt = host(kvm), kvm.fmt
    if not kvm.behaviour.change_pte:
        with pytest.raises(Bug, match="in one step"):
            notifier.change_pte(kvm, gfn, 999, writable)
        return
    if begun:
        machine.write_lock()
        notifier.invalidate_begin(kvm, gfn, gfn + 1)
        machine.write_unlock()
    before, flushes = mapped(machine, kvm), machine.load(words.FLUSH_REQUESTS, 0)
    notifier.change_pte(kvm, gfn, 999, writable)
    key = (0, (1, gfn))
    hit = begun and key in before
    if hit:
        old = before.pop(key)
        rights = W | fmt.host_writable | fmt.mmu_writable
        if not writable:
            before[key] = aged((old & ~(0xF_FFFF_FFFF_F000 | rights)) | 999 << 12, fmt)
    assert mapped(machine, kvm) == before
    assert machine.load(words.FLUSH_REQUESTS, 0) - flushes == hit
    check_at_rest(machine, kvm)


@settings(max_examples=50, deadline=None)
@given(kvm=VMS)
def test_when_the_host_goes_nothing_stays_mapped(kvm: Kvm) -> None:
    """Both address spaces are empty, no flush is asked for, no table is left over."""
    machine = host(kvm)
    flushes = machine.load(words.FLUSH_REQUESTS, 0)
    notifier.release(kvm)
    assert mapped(machine, kvm) == {}
    assert machine.load(words.TABLES, 0) == 0
    assert machine.load(words.FLUSH_REQUESTS, 0) == flushes
    check_at_rest(machine, kvm)
