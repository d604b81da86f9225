"""A recording that is not true must not pass: each kind of forgery is found, and causes reject near misses."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown.cost.compare import compare
from shootdown.cost.model import CostModel
from shootdown.mmu.spte import NPT
from shootdown.trace import causes, findings
from shootdown.trace.causes import CAUSES, Recording, explain
from shootdown.trace.events import Trace
from shootdown.trace.findings import Finding
from shootdown.trace.history import FLUSH_PROBE, SPTE_CHANGED, WANTED, follow
from shootdown.trace.read import read_trace
from tests.corpus import SAMPLE, get

PATH = get("6.12-smm")
TRUE = read_trace(str(PATH), WANTED)
CHANGES = TRUE.events[SPTE_CHANGED]


def forged(field: str, row: int, change: Callable[[int], int]) -> Trace:
    """The recording with one field of one SPTE change altered."""
    trace = read_trace(str(PATH), WANTED)
    column = trace.events[SPTE_CHANGED].fields[field]
    column[row] = change(int(column[row])) & (2 ** (8 * column.dtype.itemsize) - 1)
    return trace


def unexplained(trace: Trace) -> set[str]:
    """Rules broken without a cause."""
    return {f.rule for f in follow(trace).state.findings if not f.cause}


def test_the_true_recording_has_no_finding() -> None:
    """What the forgeries below are made from is itself sound."""
    assert unexplained(TRUE) == set()


PRESENT_OLD = np.flatnonzero(CHANGES.fields["old_spte"] & 0x800)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(PRESENT_OLD) - 1), st.integers(12, 30))
def test_an_old_value_with_another_frame_is_found(index: int, bit: int) -> None:
    """One flipped bit of the frame in an old value contradicts what is held."""
    assert findings.OLD_VALUE in unexplained(forged("old_spte", int(PRESENT_OLD[index]), lambda v: v ^ 1 << bit))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(PRESENT_OLD) - 1), st.sampled_from([1, 9, 10, 63]))
def test_an_old_value_with_other_rights_is_found(index: int, bit: int) -> None:
    """W, the software bits and NX are no business of the CPU: a flipped one is found, A and D are not asked about."""
    assert unexplained(forged("old_spte", int(PRESENT_OLD[index]), lambda v: v ^ 1 << bit))


LEAVES = np.flatnonzero((CHANGES.fields["new_spte"] & 0x800 != 0) & (CHANGES.fields["level"] == 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, len(LEAVES) - 1))
def test_a_leaf_that_no_event_removed_is_found(index: int) -> None:
    """Where the event that mapped a page is made to map another one, its later removal, or the fault, disagrees."""
    assert unexplained(forged("new_spte", int(LEAVES[index]), lambda v: v ^ 0x7000))


def test_a_leaf_that_changes_its_frame_in_place_is_found() -> None:
    """A present leaf may only get another frame by way of nothing."""
    row = int(LEAVES[0])
    old = int(CHANGES.fields["new_spte"][row])
    trace = forged("old_spte", row, lambda v: old ^ 0x1000)
    assert findings.NEW_PFN in unexplained(trace)


def test_a_writable_leaf_that_the_mmu_may_not_write_is_found() -> None:
    """W without MMU-writable is a state that no kernel makes."""
    assert findings.RIGHTS in unexplained(forged("new_spte", int(LEAVES[0]), lambda v: v & ~0x400))


def test_a_child_left_in_a_removed_table_is_found() -> None:
    """Without the event that froze a present child, its table is freed with it inside."""
    trace = read_trace(str(SAMPLE), WANTED)
    events = trace.events[SPTE_CHANGED]
    frozen = np.flatnonzero(
        (events.fields["new_spte"] == 0x80000000000005A0) & (events.fields["old_spte"] & 0x800 != 0)
    )
    keep = np.delete(np.arange(len(events)), frozen[0])
    for name in ("order", "time", "cpu", "pid"):
        setattr(events, name, getattr(events, name)[keep])
    events.fields = {n: c[keep] for n, c in events.fields.items()}
    assert findings.CHILD_LEFT in unexplained(trace)


def test_a_free_of_a_table_in_use_is_found() -> None:
    """The RCU callback of a table that is still linked, moved before its unlinking, is found."""
    trace = read_trace(str(PATH), WANTED)
    free = trace.events["kprobes:tdp_mmu_free_sp_rcu_callback"]
    row = int(np.flatnonzero(free.fields["role"] & 15 == 1)[0])
    frame = int(free.fields["spt"][row]) >> 12 & 0x3FFFF
    linking = (CHANGES.fields["new_spte"] >> 12 & 0x3FFFF == frame) & (CHANGES.fields["level"] == 2)
    link = int(np.flatnonzero(linking & (CHANGES.fields["gfn"] == free.fields["gfn"][row]))[0])
    free.order[row] = CHANGES.order[link] + 1
    other = [e for e in trace.events.values() if e is not free]
    for events in other:
        events.order[events.order > CHANGES.order[link]] += 1
    sort = np.argsort(free.order)
    free.order, free.time, free.cpu, free.pid = free.order[sort], free.time[sort], free.cpu[sort], free.pid[sort]
    free.fields = {n: c[sort] for n, c in free.fields.items()}
    assert findings.FREED_USED in unexplained(trace)


def without(trace: Trace, kind: str, rows: slice) -> Trace:
    """The recording less some events of a kind, as if its probe had missed them."""
    events = trace.events[kind]
    keep = np.delete(np.arange(len(events)), rows)
    for name in ("order", "time", "cpu", "pid"):
        setattr(events, name, getattr(events, name)[keep])
    events.fields = {n: c[keep] for n, c in events.fields.items()}
    return trace


@pytest.mark.parametrize("name", ["6.12-thpcollapse", "6.1-nxhuge"])
def test_a_table_freed_without_a_flush_is_found(name: str) -> None:
    """What faults and NX recovery unlink must be flushed before RCU frees it: without the flush, it is found."""
    trace = read_trace(str(get(name)), WANTED)
    assert unexplained(without(trace, FLUSH_PROBE, slice(None))) == {findings.NO_FLUSH}


def test_a_missed_return_of_a_split_charges_nothing_to_it() -> None:
    """Where the return of one eager split was missed, what follows is still charged to its own operations."""
    trace = read_trace(str(get("6.12-splitting")), WANTED)
    trace = without(trace, "kprobes:kvm_tdp_mmu_try_split_huge_pages__ret", slice(0, 1))
    assert compare(follow(trace), CostModel(), False).differences == []


def test_a_missing_flush_of_the_dirty_log_is_a_difference() -> None:
    """Each flush that a recording lacks shows as a difference of its operation, with no cause to excuse it."""
    for row in range(3):
        trace = without(read_trace(str(get("6.12-text")), WANTED), FLUSH_PROBE, slice(row, row + 1))
        found = compare(follow(trace), CostModel(), False).differences
        assert [(d.seen, d.predicted, d.cause) for d in found] == [(0, (1, 1), "")]


RECORDING = Recording(NPT, first=0, last=10_000, grace=1_000, fast_faults=False)


def finding(rule: str, **fields: int) -> Finding:
    """A finding in the middle of the recording, with these fields."""
    made = Finding(rule, 5_000, 0, 1, 0, 0, 0x40000, 1)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


# For each cause: a finding that it explains, and near misses that it must not.
CASES: dict[str, tuple[Finding, list[Finding]]] = {
    "traced the other way round": (
        finding(findings.OLD_VALUE, late_at=5_001),
        [
            finding(findings.OLD_VALUE),
            finding(findings.OLD_VALUE, late_at=4_999),
            finding(findings.NEW_PFN, late_at=5_001),
        ],
    ),
    "another CPU was faster": (
        finding(findings.NEVER_LINKED, late_at=5_000),
        [finding(findings.NEVER_LINKED), finding(findings.NEVER_LINKED, late_at=4_999)],
    ),
    "fast faults not recorded": (
        finding(findings.OLD_VALUE, held=0x1E65, old=0x1E67),
        [
            finding(findings.OLD_VALUE, held=0x1A65, old=0x1A67),
            finding(findings.OLD_VALUE, held=0x1E65, old=0x2E67),
            finding(findings.OLD_VALUE, held=0x1E67, old=0x1E65),
            finding(findings.NEW_PFN, held=0x1E65, old=0x1E67),
        ],
    ),
    "events were lost": (
        finding(findings.OLD_VALUE, lost=1),
        [finding(findings.OLD_VALUE, lost=0)],
    ),
    "recording began late": (
        finding(findings.FREE_UNKNOWN, time=900),
        [finding(findings.FREE_UNKNOWN, time=1_001), finding(findings.FREED_USED, time=900)],
    ),
    "free not reported by its probe": (
        finding(findings.NEVER_FREED, late_at=5_001),
        [
            finding(findings.NEVER_FREED),
            finding(findings.NEVER_FREED, late_at=5_000),
            finding(findings.NEVER_FREED, late_at=9_000),
            finding(findings.FREED_USED, late_at=5_001),
        ],
    ),
    "recording ended early": (
        finding(findings.NEVER_FREED, time=9_100),
        [finding(findings.NEVER_FREED, time=8_999), finding(findings.CHILD_LEFT, time=9_100)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, _ in CAUSES])
def test_a_cause_explains_its_case_and_rejects_near_misses(name: str) -> None:
    """Each cause fits what it was made for, and not what differs from it by one thing."""
    fits = dict(CAUSES)[name]
    case, misses = CASES[name]
    assert fits(case, RECORDING)
    assert [m.rule for m in misses if fits(m, RECORDING)] == []


def test_every_cause_has_a_case_and_is_counted() -> None:
    """No cause goes untested, and ``explain`` counts each finding once, those without a cause under ""."""
    assert {name for name, _ in causes.CAUSES} == CASES.keys()
    every = [case for case, _ in CASES.values()] + [finding(findings.NEW_PFN)]
    counts = explain(every, RECORDING)
    assert sum(counts.values()) == len(every) and counts[""] == 1
