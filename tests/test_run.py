"""Policies priced by running them, held against the counting rules: equal figures, or a reason that is known."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from shootdown.cli.compare import text
from shootdown.cost.compare import Comparison, compare
from shootdown.cost.model import CostModel
from shootdown.cost.rules import HISTORY, PROMOTE
from shootdown.cost.run import RUN_AS, run_policies
from shootdown.mmu.policies.registry import POLICIES
from shootdown.trace.history import FLUSH_PROBE, WANTED, follow
from shootdown.trace.op import COLLAPSE, NAMES
from shootdown.trace.read import read_trace
from shootdown.trace.replay.by_table import BY_TABLE
from shootdown.trace.replay.record import WANTED as REPLAYED
from tests.corpus import each_carried, each_shared, get
from tests.structure import ROOT

LOSSY = "6.1-smallring"


def ran(path: Path, without: tuple[str, ...] = ()) -> Comparison:
    """A recording compared under all policies, by running them; some kinds of events may be left out."""
    history = follow(read_trace(str(path), (WANTED | REPLAYED).difference(without)))
    return compare(history, CostModel(), True, True)


def check(c: Comparison) -> None:
    """Every policy was run, unless events were lost; where its figures are not those of the rules, a reason is told."""
    names = {p.name for p in c.policies[1:]}
    if c.history.trace.lost:
        assert set(c.not_run) == names
        assert {p.priced for p in c.policies[1:]} == {"rules"}
        return
    assert c.not_run == {}
    assert {p.priced for p in c.policies[1:]} == {"run"}
    assert [d for d in c.disagreements if not d.reason] == []
    counted = compare(c.history, CostModel(), True)
    for mine, theirs in zip(c.policies, counted.policies, strict=True):
        assert (mine.flushes, mine.tables_freed) == (theirs.flushes, theirs.tables_freed)
    if c.flush_source == "seen":
        assert c.policies[0].flushes == c.policies[1].flushes


@each_carried()
def test_runs_and_rules_agree(path: Path) -> None:
    """Every carried recording: each policy's run makes as many flushes as its rules count, operation by operation."""
    check(ran(path))


@each_shared()
def test_runs_and_rules_agree_on_the_collection(path: Path) -> None:
    """The same of the larger collection."""
    check(ran(path))


def test_the_recorded_kernel_flushes_as_recorded_although_no_flush_is_told() -> None:
    """A run of the recorded kernel's policy makes the recorded flushes by kind; the record's flushes only order it."""
    c = ran(get("6.12-thpcollapse"))
    seen = {row.name: row.flushes for row in c.operations}
    assert not [d for d in c.disagreements if d.policy == "kernel-6.12"]
    assert seen["collapse"] == (4, 4) and seen["map"] == (4, 4)


def test_policies_differ_in_a_collapse_by_the_tables_own_flushes() -> None:
    """Run on four collapsed regions: eager flushes once more for each table, list and rcu as the kernel."""
    flushes = {p.name: p.flushes for p in ran(get("6.12-thpcollapse")).policies}
    assert flushes["rcu"] == flushes["kernel-6.12"] == (15, 15)
    assert flushes["eager"] == (25, 25)


def test_a_collapse_is_run_in_each_policys_own_form() -> None:
    """Four regions of 512 leaves: 6.13 flushes once, the RFC once a table, leaf by leaf flushes 2,048 times.

    Leaf by leaf keeps the four tables; the rest of the record is followed under every policy all the same.
    """
    history = follow(read_trace(str(get("6.12-thpcollapse")), WANTED | REPLAYED))
    runs = run_policies(history, (*HISTORY, PROMOTE))
    place = next(place for place, op in enumerate(history.ops) if op.kind == COLLAPSE)
    figures = {name: (ran.flushes[place], ran.tables[place]) for name, ran in runs.ran.items()}
    assert figures == {
        "eager": (8, 4), "list": (4, 4), "rcu": (4, 4), "promote": (1, 4), "promote-rfc": (4, 4), "leaf-zap": (2048, 0),
    }  # fmt: skip
    for ran in runs.ran.values():
        assert len(ran.cut) == len(ran.queued) == sum(ran.tables.values())
        assert all(cut <= queued for (cut, _), (queued, _) in zip(sorted(ran.cut), sorted(ran.queued), strict=True))


def test_tables_wait_longer_where_the_policy_lists_them() -> None:
    """Under ``list`` RCU gets tables when they are flushed, under ``rcu`` as they are cut off."""
    history = follow(read_trace(str(get("6.1-huge1g")), WANTED | REPLAYED))
    ran = run_policies(history, HISTORY).ran
    assert ran["rcu"].cut == ran["list"].cut
    assert sum(time for time, _ in ran["rcu"].queued) < sum(time for time, _ in ran["list"].queued)


def test_lost_events_leave_the_rules() -> None:
    """Where events were lost nothing is run, and that is said of each policy."""
    c = ran(get(LOSSY))
    assert set(c.not_run.values()) == {"events were lost"}
    assert c.policies[0].priced == "recorded"


@pytest.mark.parametrize(
    ("name", "why"), [("6.12-smm-raw", None), ("6.12-text-tracefs", "our MMU and the record part")]
)
def test_text_is_run_if_it_is_whole(name: str, why: str | None, tmp_path: Path) -> None:
    """Text is run as a trace.dat is; a text whose middle was cut out is priced by the rules, and that is said."""
    plain = tmp_path / "text"
    plain.write_bytes(lzma.decompress((ROOT / "tests" / "data" / "text" / f"{name}.txt.xz").read_bytes()))
    c = ran(plain)
    if why is None:
        check(c)
        return
    assert all(reason.startswith(why) for reason in c.not_run.values())
    assert {p.name: p.priced for p in c.policies} == {"observed": "recorded"} | dict.fromkeys(c.not_run, "rules")
    assert "counted by rules, not run: kernel-6.12, promote" in "\n".join(text(c, CostModel()))


def test_every_priced_policy_can_be_run() -> None:
    """Each policy with rules is in the MMU too, under that name, or one that flushes alike outside a collapse."""
    for policy in (*HISTORY, PROMOTE):
        assert policy.name in POLICIES
        assert RUN_AS.get(policy.name, policy.name) in POLICIES
    assert set(BY_TABLE) == {"eager", "list"}
    for name, like in RUN_AS.items():
        assert isinstance(POLICIES[name], type(POLICIES[like]))


@pytest.mark.parametrize("name", ["6.1-nxhuge", "6.12-late"])
def test_a_difference_names_its_operation_and_its_reason(name: str) -> None:
    """What --explain prints: a policy, a kind of operation, both figures, which is taken, and why."""
    found = ran(get(name)).disagreements
    assert found
    for d in found:
        assert d.operation in NAMES and d.operations > 0 and d.used == "rules" and d.reason


def test_flushes_need_no_probe() -> None:
    """Without the probe on flushes, the runs give what they give with it, or ranges that hold that."""
    with_probe, without = ran(get("6.12-late")), ran(get("6.12-late"), (FLUSH_PROBE,))
    for a, b in zip(with_probe.policies[1:], without.policies[1:], strict=True):
        assert a.flushes is not None and b.flushes is not None
        assert b.flushes[0] <= a.flushes[0] <= a.flushes[1] <= b.flushes[1]
