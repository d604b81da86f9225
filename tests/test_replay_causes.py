"""Each cause of a difference explains what it is for, and nothing that is nearly so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.mmio import make_mmio_spte
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT
from shootdown.trace.events import Trace
from shootdown.trace.replay.causes import GENERATION, Change, Moment, cause_of
from shootdown.trace.replay.replay import replay
from tests.test_replay import CHANGED, pick, read

GFN = 0xC0000
EMPTY = -0x8000_0000_0000_0000
KVM = Kvm(NativeMachine(), NPT, BEHAVIOURS["6.12"], POLICIES["rcu"], 4, 1)


def mmio(generation: int, gfn: int = GFN) -> int:
    """An entry of MMIO."""
    return int(make_mmio_spte(KVM, gfn, generation))


MOMENT = Moment(KVM, 12, True)
RECORDED = (GFN, 1, mmio(12), mmio(14))


def test_a_generation_that_went_on_explains() -> None:
    """Of an entry that our MMU left alone, and of one that it made for the generation before."""
    assert cause_of(RECORDED, None, MOMENT) == GENERATION
    assert cause_of((GFN, 1, EMPTY, mmio(14)), (GFN, 1, EMPTY, mmio(12)), MOMENT) == GENERATION


@pytest.mark.parametrize(
    ("recorded", "ours", "moment"),
    [
        (RECORDED, None, dataclasses.replace(MOMENT, changing=False)),
        (RECORDED, None, dataclasses.replace(MOMENT, generation=10)),
        (RECORDED, None, dataclasses.replace(MOMENT, generation=14)),
        ((GFN, 1, mmio(12), mmio(13)), None, MOMENT),
        ((GFN, 1, mmio(12), mmio(14, GFN + 1)), None, MOMENT),
        ((GFN, 1, mmio(12), mmio(14) | 0x400), None, MOMENT),
        ((GFN, 2, mmio(12), mmio(14)), None, MOMENT),
        ((GFN, 1, mmio(12), EMPTY), None, MOMENT),
        (RECORDED, (GFN, 1, EMPTY, mmio(10)), MOMENT),
        (RECORDED, (GFN + 1, 1, EMPTY, mmio(12)), MOMENT),
        (None, (GFN, 1, EMPTY, mmio(12)), MOMENT),
    ],
)
def test_what_is_nearly_so_stays_unexplained(recorded: Change | None, ours: Change | None, moment: Moment) -> None:
    """No update under way, another generation, another page or level, other bits, another entry of ours, no event."""
    assert cause_of(recorded, ours, moment) == ""


def without(trace: Trace, gfn: int, level: int, new: int) -> None:
    """Leave out the first event that gave an entry a value."""
    fields = trace.events[CHANGED].fields
    match = (fields["gfn"] == gfn) & (fields["level"] == level) & (fields["new_spte"] == new)
    pick(trace, CHANGED, np.delete(np.arange(len(match)), np.flatnonzero(match)[0]))


def test_a_fault_may_lose_a_race_only_to_somebody() -> None:
    """Of two vCPUs that link the same table one retries; if nobody links it, neither may have lost."""
    name = "races that a fault lost to a change traced later"
    assert replay(read("6.12-splitting")).inputs[name] == 2
    trace = read("6.12-splitting")
    fields = trace.events[CHANGED].fields
    root = np.flatnonzero(fields["level"] == 4)[0]
    pick(trace, CHANGED, np.delete(np.arange(len(fields["level"])), root))
    assert replay(trace).unexplained


def test_a_fast_fault_comes_earlier_only_if_its_vcpu_had_left_the_guest() -> None:
    """Two fast faults of a page may be traced in the other order, but not where the faster began after the slower."""
    name = "fast faults traced in another order than they came in"
    result = replay(read("6.12-splitting"))
    assert result.inputs[name] > 0 and result.fast_matched == result.fast_faults
    trace = read("6.12-splitting")
    exits = trace.events["kvm:kvm_page_fault"]
    fast = trace.events["kvmmmu:fast_page_fault"]
    # Now every fault seems to begin just before its fast path ends.
    for i in range(len(fast)):
        before = np.flatnonzero((exits.pid == fast.pid[i]) & (exits.order < fast.order[i]))
        if len(before):
            exits.order[before[-1]] = fast.order[i]
    pick(trace, exits.name, np.argsort(exits.order, kind="stable"))
    assert any(d.op.kind == "fast fault" for d in replay(trace).unexplained)


def test_what_is_older_than_the_recording_excuses_nothing_in_one_that_is_whole() -> None:
    """A table whose link is left out of a whole recording is missed: it cannot have been there before."""
    trace = read("6.12-smm")
    fields = trace.events[CHANGED].fields
    first = np.flatnonzero((fields["level"] == 3) & (fields["old_spte"] == np.uint64(1 << 63)))[0]
    without(trace, int(fields["gfn"][first]), 3, int(fields["new_spte"][first]))
    assert replay(trace).unexplained


def test_a_cut_recording_is_predicted_as_far_as_it_goes() -> None:
    """The second half of a recording: what is older is undetermined or told by its next change; all else is exact."""
    for name in ("6.12-late", "6.12-notifier", "6.12-ring"):
        trace = read(name)
        middle = max(int(events.order[-1]) for events in trace.events.values()) // 2
        for kind, events in list(trace.events.items()):
            rows = np.flatnonzero(events.order >= middle)
            if len(rows):
                pick(trace, kind, rows)
            else:
                del trace.events[kind]
        result = replay(trace)
        assert result.unexplained == []
        assert result.matched == result.determined > 0.9 * result.changes


def test_probes_without_arguments_count_as_none() -> None:
    """A recording whose probes on ioctls tell no arguments is followed by its changes alone."""
    trace = read("6.12-dlp-tsc")
    for name in (
        *("__kvm_set_memory_region", "kvm_tdp_mmu_clear_dirty_pt_masked"),
        *("kvm_get_dirty_log_protect", "kvm_clear_dirty_log_protect"),
    ):
        fields = trace.events[f"kprobes:{name}"].fields
        for field in [field for field in fields if field != "kvm"]:
            del fields[field]
    result = replay(trace)
    assert result.unexplained == [] and result.matched == result.changes
