"""The litmus suite gives the expected verdicts, and each planted bug is refuted by the test that guards against it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shootdown.check.litmus.cases import Case, behaviour_of, pairs
from shootdown.check.litmus.litmus import Litmus, suite
from shootdown.check.program.programs import HOST
from shootdown.check.schedule.drawing import table
from shootdown.check.schedule.schedule import schedule_of, told
from shootdown.check.source.source import PACKAGE, PARTS, Source
from shootdown.check.verdict.verdict import Budget, Verdict, check
from shootdown.machine.words import LOG_DIRTY_PAGES

from .deep_bugs import DEEP
from .entry_bugs import ENTRIES
from .further_bugs import FURTHER
from .gap_bugs import GAPS
from .known_bugs import BUGS, PAIRS, SLOW
from .level_bugs import LEVELS
from .mutations import MUTATIONS, OPERATIONS, Mutation
from .order_bugs import HARMLESS, ORDERS
from .place_bugs import PLACES
from .range_bugs import RANGES
from .suite_counts import recorded

TESTS = {test.name: test for test in suite()}
COUNTS = recorded()
BUDGET = Budget(states=2_000_000, seconds=120)
LARGE = (
    *("two-roots-tables", "two-roots-leafs", "notifier-and-fast-zap", "collapse-and-fast-zap", "nested-collapses"),
    *("slot-move", "slot-move-notifier", "read-fault-aged"),
)
"""Tests whose tiny geometry takes over a second interpreted."""
PLAIN_MAX = 4000
"""States of the most that a test may have to run interpreted as well."""
MANY = (*PLACES, *ORDERS, *ENTRIES, *GAPS, *LEVELS, *DEEP, *HARMLESS)
"""So many that they are planted only where the explorer is compiled."""


@contextmanager
def mutated(mutation: Mutation, folder: Path) -> Iterator[Source]:
    """The MMU's sources with a planted bug."""
    for part in PARTS:
        shutil.copytree(PACKAGE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name, old, new in mutation.changes:
        text = (folder / name).read_text()
        assert text.count(old) == 1, f"{mutation.site}: {name} does not hold the text once"
        (folder / name).write_text(text.replace(old, new))
    source = Source(folder)
    try:
        yield source
    finally:
        source.close()


def planted(mutations: Sequence[Mutation]) -> list[Any]:
    """Mutations as parameters; slow where their test is."""
    slow = [m in MANY or m.test in LARGE or m.site.startswith(SLOW) for m in mutations]
    return [pytest.param(m, marks=[pytest.mark.slow] * s, id=m.site) for m, s in zip(mutations, slow, strict=True)]


def run(mutation: Mutation, source: Source) -> Verdict:
    """The verdict of the mutation's test."""
    test = TESTS[mutation.test]
    behaviour, geometry = mutation.behaviour or test.behaviours[0], test.full if mutation.full else test.tiny
    return check(Case(test, mutation.policy, behaviour, geometry, ranged=mutation.ranged), source, BUDGET)


@pytest.mark.parametrize("mutation", planted((*MUTATIONS, *OPERATIONS, *BUGS, *PAIRS, *FURTHER, *RANGES, *MANY)))
def test_planted_bugs_are_refuted(mutation: Mutation, tmp_path: Path) -> None:
    """Without the flush, order or check that a site names, its test is refuted; harmless changes hold."""
    with mutated(mutation, tmp_path) as source:
        verdict = run(mutation, source)
        assert (verdict.word, verdict.result.broken) == ("refuted" if mutation.breaks else "holds", mutation.breaks)
        if mutation.breaks:
            lines = table(told(schedule_of(verdict.case, source))).lines()
            assert any(line.startswith("BROKEN: ") for line in lines)
            assert max(len(line) for line in lines) <= 72
            assert all(line.isascii() for line in lines)


@pytest.mark.parametrize("mutation", planted([m for m in (*MUTATIONS, *OPERATIONS, *RANGES) if m.breaks]))
def test_the_same_test_holds_without_the_bug(mutation: Mutation) -> None:
    """A refutation is the bug's: the unchanged sources pass the very test."""
    source = Source()
    try:
        assert run(mutation, source).word == "holds"
    finally:
        source.close()


@pytest.mark.parametrize("mutation", (*BUGS, *PAIRS, *FURTHER, *RANGES, *MANY), ids=lambda mutation: mutation.site)
def test_a_known_bug_is_planted_where_the_test_holds(mutation: Mutation) -> None:
    """Its test is one of those whose verdict is looked at below, and holds there."""
    test, behaviour = TESTS[mutation.test], mutation.behaviour or TESTS[mutation.test].behaviours[0]
    assert (mutation.policy, behaviour) in pairs(test)
    assert test.expected(mutation.policy, behaviour) == "holds"
    assert not mutation.full


@pytest.mark.parametrize("mutation", planted(RANGES))
def test_a_range_matters_only_where_it_is_kept_to(mutation: Mutation, tmp_path: Path) -> None:
    """Where every flush is of all, too small a range breaks nothing."""
    with mutated(mutation, tmp_path) as source:
        assert run(replace(mutation, ranged=False), source).word == "holds"


CASES = [
    pytest.param(
        test,
        policy,
        behaviour,
        marks=[pytest.mark.slow] * (COUNTS.get(f"{test.name} {policy} {behaviour}", [0])[0] > PLAIN_MAX),
    )
    for test in TESTS.values()
    for policy, behaviour in pairs(test)
]


@pytest.mark.parametrize(
    ("test", "policy", "behaviour"), CASES, ids=lambda value: value.name if isinstance(value, Litmus) else str(value)
)
def test_verdicts_are_as_expected(test: Litmus, policy: str, behaviour: str) -> None:
    """Every test gives its verdict in its tiny geometry, under all that it names, and explores what it always did."""
    source = Source()
    try:
        verdict = check(Case(test, policy, behaviour, test.tiny), source, BUDGET)
        assert (verdict.word, verdict.reason) == (test.expected(policy, behaviour), "")
        result = verdict.result
        counts = [result.states, result.transitions, result.depth]
        assert counts == COUNTS[f"{test.name} {policy} {behaviour}"], "see tests/suite_counts.py"
        assert not verdict.histories, "a program fell back to its history"
    finally:
        source.close()


def test_counts_are_of_the_suite() -> None:
    """No recorded count outlives its test."""
    assert COUNTS.keys() == {f"{test.name} {p} {b}" for test in TESTS.values() for p, b in pairs(test)}


def test_what_is_watched_is_what_some_slot_logs() -> None:
    """Each gfn of a logged slot, once, though slots of both address spaces have it."""
    for name, test in TESTS.items():
        logged = [slot for slot in test.memory.slots if slot.flags & LOG_DIRTY_PAGES]
        for gfn in range(64):
            is_logged = any(slot.base <= gfn < slot.base + slot.pages for slot in logged)
            assert bool(test.memory.watched() >> gfn & 1) == is_logged, f"{name}: gfn {gfn}"


def test_promotion_is_checked_where_it_exists() -> None:
    """The policy that promotes huge pages is checked with the behaviour that can, where the test has it."""
    test = TESTS["fault-replaces-table"]
    assert behaviour_of(test, "promote", None) == "6.13"
    assert behaviour_of(test, "rcu", None) == "6.12"
    assert behaviour_of(test, "rcu", "5.17") == "5.17"
    assert behaviour_of(TESTS["unmap-tables"], "rcu", "6.12") is None


def test_policies_of_one_kernel_or_form_are_checked_with_it_only() -> None:
    """A policy of a kernel is checked as that kernel, a test of one form of collapse under policies that have it."""
    assert behaviour_of(TESTS["unmap-leafs"], "kernel-6.1", None) == "6.1"
    assert behaviour_of(TESTS["unmap-leafs"], "kernel-6.1", "6.12") is None
    assert behaviour_of(TESTS["unmap-tables"], "kernel-6.1", None) is None
    for policy, tests in {
        "eager": {"collapse-zap", "collapse-promote"},
        "leaf-zap": {"collapse-zap", "collapse-leaf-zap"},
        "promote-rfc": {"collapse-promote-rfc"},
    }.items():
        forms = ("collapse-zap", "collapse-promote", "collapse-leaf-zap", "collapse-promote-rfc")
        assert {name for name in forms if behaviour_of(TESTS[name], policy, None)} == tests


@pytest.mark.parametrize("run", sorted(HOST.keys() - {"host_writable", "create_shadowed", "migrate"}))
def test_every_operation_meets_a_fault_and_a_notifier(run: str) -> None:
    """A litmus test each at least: beside a guest that faults, and beside a notifier; of one made of two, each."""
    beside_faults = beside_notifiers = 0
    for test in TESTS.values():
        tasks = [task["run"] for task in test.host]
        if run in tasks:
            beside_faults += any(vcpu.get("gfns") or vcpu.get("writes") for vcpu in test.vcpus)
            tasks.remove(run)
            beside_notifiers += "unmap" in tasks
    assert beside_faults and beside_notifiers
