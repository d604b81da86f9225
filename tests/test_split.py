"""Splitting huge pages ahead of dirty logging: translations stay, and so does the rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.huge_pages import disable_dirty_logging
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.split import try_split_huge_pages
from shootdown.mmu.spte import EPT, NPT, SpteFormat
from shootdown.mmu.vcpu import serve_faults

from .vms import check_at_rest, covers, mapped, translations

GFNS = 64


def vm(behaviour: str, policy: str = "rcu", fmt: SpteFormat = NPT, nx: bool = False, **arguments: int) -> Kvm:
    """A VM of 64 pages in tables of 4 entries, at 3 levels."""
    machine = NativeMachine(bits=2, **arguments)
    return Kvm(machine, fmt, BEHAVIOURS[behaviour], POLICIES[policy], 3, 1, nx)


def host(kvm: Kvm) -> NativeMachine:
    """The machine of a VM."""
    assert isinstance(kvm.m, NativeMachine)
    return kvm.m


def fill(kvm: Kvm, levels: list[int]) -> None:
    """Map all pages, each 16 of them as large as ``levels`` says."""
    for number, level in enumerate(levels):
        for gfn in range(16 * number, 16 * number + 16):
            kvm.m.store(words.HOST_LEVEL, gfn, level)
    host(kvm).vcpus.set_faults(0, range(GFNS))
    serve_faults(kvm, 0, 0)


def split(kvm: Kvm, start: int, end: int, target: int, shared: bool) -> None:
    """Split under the lock."""
    (kvm.m.read_lock if shared else kvm.m.write_lock)()
    try_split_huge_pages(kvm, 0, start, end, target, shared)
    (kvm.m.read_unlock if shared else kvm.m.write_unlock)()


@settings(max_examples=200, deadline=None)
@given(
    behaviour=st.sampled_from(sorted(BEHAVIOURS)),
    policy=st.sampled_from(sorted(POLICIES)),
    fmt=st.sampled_from([NPT, EPT]),
    nx=st.booleans(),
    resched_every=st.sampled_from([0, 1, 2, 5]),
    levels=st.lists(st.sampled_from([1, 2, 3]), min_size=4, max_size=4),
    ends=st.tuples(st.integers(0, GFNS - 1), st.integers(0, GFNS)),
    target=st.sampled_from([1, 2]),
    shared=st.booleans(),
)
def test_splitting_changes_no_translation(
    behaviour: str, policy: str, fmt: SpteFormat, nx: bool, resched_every: int, levels: list[int],
    ends: tuple[int, int], target: int, shared: bool,
) -> None:  # fmt: skip
    """Just the huge pages that touch the range go, down to the target; no flush; collapsing gives them all back."""
    kvm = vm(behaviour, policy, fmt, nx, resched_every=resched_every)
    machine = host(kvm)
    fill(kvm, levels)
    before, flushes = mapped(machine, kvm), machine.load(words.FLUSH_REQUESTS, 0)
    start, end = ends[0], max(ends[0] + 1, ends[1])
    split(kvm, start, end, target, shared)
    after = mapped(machine, kvm)
    check_at_rest(machine, kvm)
    assert translations(kvm, after) == translations(kvm, before)
    for key, spte in before.items():
        touched = key[1][0] > target and covers(kvm, key[1], start, end)
        assert (after.get(key) == spte) == (not touched)
    for key in after:
        assert key[1][0] <= target or not covers(kvm, key[1], start, end)
    assert machine.load(words.FLUSH_REQUESTS, 0) == flushes
    disable_dirty_logging(kvm, 0, 0, GFNS)
    machine.vcpus.set_faults(0, range(GFNS))
    serve_faults(kvm, 0, 0)
    check_at_rest(machine, kvm)
    assert translations(kvm, mapped(machine, kvm)) == translations(kvm, before)
    if not nx and all(level < 3 for level in levels):
        # But for D, which a fault on a page that is mapped takes away.
        now = mapped(machine, kvm)
        assert {key: spte | fmt.dirty for key, spte in now.items()} == {
            key: spte | fmt.dirty for key, spte in before.items()
        }


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("behaviour", ["6.1", "6.12", "6.13"])
def test_splitting_stops_where_memory_ends(behaviour: str, shared: bool) -> None:
    """What is split by then stays split, nothing is lost, and no lock or table is left over."""
    kvm = vm(behaviour, tables_max=8)
    machine = host(kvm)
    fill(kvm, [2, 2, 2, 2])
    before = mapped(machine, kvm)
    assert machine.tables.used == 5
    split(kvm, 0, GFNS, 1, shared)
    check_at_rest(machine, kvm)
    assert machine.tables.used == 8
    assert translations(kvm, mapped(machine, kvm)) == translations(kvm, before)
