"""What real recordings must add up to: rebuilt page tables, frees, and flushes, seen and predicted."""

import functools

import numpy as np
import pytest

from shootdown.cost.compare import compare
from shootdown.cost.model import CostModel
from shootdown.trace.events import SPTE_CHANGED
from shootdown.trace.history import FLUSH_PROBE, FREE_PROBE, WANTED, History, follow
from shootdown.trace.op import NAMES
from shootdown.trace.read import read_trace
from tests import corpus

GET_PAGE = "kvmmmu:kvm_mmu_get_page"


CARRIED = {corpus.name(p): p for p in corpus.carried()}
EVERY = {**{corpus.name(p): p for p in corpus.shared()}, **CARRIED}
every_trace = pytest.mark.parametrize(
    "name", [n if n in CARRIED else pytest.param(n, marks=pytest.mark.slow) for n in sorted(EVERY)]
)


@functools.lru_cache(maxsize=4)
def history_of(name: str) -> History:
    """The recording, followed to its end."""
    return follow(read_trace(str(EVERY[name]), WANTED))


def test_the_whole_collection_is_here() -> None:
    """The tests below run over every recording of the collection, not only over those carried here."""
    if not corpus.shared():
        pytest.skip("the collection of recordings is not here: SHOOTDOWN_TRACES names its folder")
    assert len(EVERY) >= len(corpus.shared())


@every_trace
def test_every_change_agrees_with_what_is_held_or_has_a_named_cause(name: str) -> None:
    """The rebuild of a real recording has no unexplained finding, and checks every recorded change."""
    history = history_of(name)
    unexplained = [(f.rule, f.time, f.gfn) for f in history.state.findings if not f.cause]
    assert unexplained == []
    assert history.state.changes == len(history.trace.events[SPTE_CHANGED])


@every_trace
def test_observed_flushes_are_the_probe_hits(name: str) -> None:
    """Under ``observed`` a recording has as many flushes as its probe was hit, each charged to one operation."""
    history = history_of(name)
    row = compare(history, CostModel(), False).policies[0]
    assert row.name == "observed"
    if history.flushes_seen:
        hits = history.trace.counts.get(FLUSH_PROBE, 0)
        assert row.flushes == (hits, hits)
    else:
        assert row.flushes is None


@every_trace
def test_the_rules_of_the_recorded_kernel_predict_every_flush(name: str) -> None:
    """The kernel's own policy predicts the flushes of each operation; only lost events may hide some."""
    history = history_of(name)
    comparison = compare(history, CostModel(), False)
    assert [d for d in comparison.differences if not d.cause] == []
    if history.flushes_seen and not history.trace.lost:
        hits = history.trace.counts.get(FLUSH_PROBE, 0)
        assert comparison.predicted == (hits, hits)
        by_kind = {row.name: row.flushes for row in comparison.operations}
        for kind, label in enumerate(NAMES):
            predicted = sum(comparison.kernel.flushes(op, True)[0] for op in history.ops if op.kind == kind)
            assert by_kind.get(label, (0, 0)) == (predicted, predicted), label


@every_trace
def test_tables_freed_are_those_made_less_the_explained_ones(name: str) -> None:
    """Page-table frees equal get_page less pages made in vain, frees not reported, and tables still in use."""
    history = history_of(name)
    trace, state = history.trace, history.state
    if not trace.records(FREE_PROBE) or trace.lost or GET_PAGE not in trace.events:
        pytest.skip("the recording has no free probe, or lost events")
    if not (trace.events[GET_PAGE].fields["role"] & 15 >= 4).any() or state.unseen:
        pytest.skip("the recording began after its VMs")
    causes: dict[str, int] = {}
    for finding in state.findings:
        if finding.rule in ("a removed table was never freed", "a table was made and never linked"):
            causes[finding.rule] = causes.get(finding.rule, 0) + 1
    in_use = sum(t.linked for g in state.guests.values() for r in g.roots for t in r.tables.values())
    assert len(trace.events[GET_PAGE]) == trace.counts.get(FREE_PROBE, 0) + sum(causes.values()) + in_use


@every_trace
def test_mapping_sizes_are_those_of_a_count_made_otherwise(name: str) -> None:
    """Leaves by level at the end equal a count over the tables that are left."""
    history = history_of(name)
    counted = [0, 0, 0, 0]
    for guest in history.state.guests.values():
        for root in guest.roots:
            for table in root.tables.values():
                entries = np.array([int(table.entries[i]) for i in range(512)], np.int64)
                level = int(table.level)
                if level > 3:
                    continue
                present = (entries != -1) & (entries & 0x800 != 0)
                leaf = present & ((entries & 0x80 != 0) | (level == 1))
                counted[level] += int(leaf.sum())
    if history.trace.lost:
        pytest.skip("lost events leave tables behind whose end was not seen")
    assert [int(n) for n in history.state.pages[1:4]] == counted[1:4]


def test_two_vms_with_the_same_gfns_are_kept_apart() -> None:
    """Three VMs in one process map the same gfns to different frames, and each has its own tables."""
    history = history_of("6.1-threevms")
    assert len(history.tracker.threads.kvms) == 3
    made = {int(op.vm) for op in history.ops if op.changes}
    assert made == {0, 1, 2}


def test_without_probes_flushes_are_inferred_and_said_to_be() -> None:
    """A recording without kprobes gives the kernel's rules' flushes as a range, and ``observed`` is unknown."""
    history = history_of("6.1-noprobes")
    comparison = compare(history, CostModel(), False)
    assert comparison.flush_source == "inferred"
    assert comparison.policies[0].flushes is None
    low, high = comparison.policies[1].flushes or (0, 0)
    # One for the enabled log, one for its harvest, and 1 + yields for the unmapped range.
    assert low == 3 and high == 2 + 512
    kinds = {NAMES[op.kind] for op in history.ops}
    assert {"map", "write-protect", "notifier", "slot delete"} <= kinds


def test_a_free_that_the_kernel_says_was_missed_is_found_to_be_missed() -> None:
    """One free of 6.1-memslotmod was missed by its probe, as the kernel counted: it is found, and no other."""
    if "6.1-memslotmod" not in EVERY:
        pytest.skip("the collection of recordings is not here: SHOOTDOWN_TRACES names its folder")
    assert history_of("6.1-memslotmod").causes == {"free not reported by its probe": 1}
