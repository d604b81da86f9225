"""Progress (P8): cycles that a fair scheduler may go round for ever are found, and others are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.search.livelock import components, livelock
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import Budget, check
from shootdown.machine.words import RING_ENTRY
from tests.small import Task, small
from tests.suite_counts import recorded
from tests.test_check_cli import diff, run

COUNTS = recorded()
QUICK_MAX = 3000
"""States of a test that is looked at interpreted."""
ASKED_MAX = 500_000
"""States of a test that is looked at even where SHOOTDOWN_SOUND does not ask for all."""


def polite(machine: CheckedMachine) -> None:
    """Takes its claim back while another task has one, and tries again."""
    while True:
        machine.store(RING_ENTRY, 1, 1)
        claimed = machine.load(RING_ENTRY, 2)
        if claimed == 0:
            break
        machine.store(RING_ENTRY, 1, 0)
    machine.store(RING_ENTRY, 1, 0)


def courteous(machine: CheckedMachine) -> None:
    """The other one."""
    while True:
        machine.store(RING_ENTRY, 2, 1)
        claimed = machine.load(RING_ENTRY, 1)
        if claimed == 0:
            break
        machine.store(RING_ENTRY, 2, 0)
    machine.store(RING_ENTRY, 2, 0)


def spins(machine: CheckedMachine) -> None:
    """Waits for another task's store."""
    while True:
        seen = machine.load(RING_ENTRY, 1)
        if seen == 1:
            break


def sets(machine: CheckedMachine) -> None:
    """That store."""
    machine.store(RING_ENTRY, 1, 1)


def locks(machine: CheckedMachine) -> None:
    """Waits for a lock that others take."""
    machine.pages_lock()
    machine.store(RING_ENTRY, 2, 1)
    machine.pages_unlock()


def yields(machine: CheckedMachine) -> None:
    """Gives way as often as it is asked to."""
    while machine.need_resched():
        machine.store(RING_ENTRY, 3, 1)


def hogs(machine: CheckedMachine) -> None:
    """Takes and drops a lock until another task has had it."""
    while True:
        machine.pages_lock()
        done = machine.load(RING_ENTRY, 2)
        machine.pages_unlock()
        if done == 1:
            break


@pytest.mark.parametrize(
    ("tasks", "stuck"),
    [
        ((polite, courteous), 3),
        ((spins, sets), 0),
        ((locks, locks), 0),
        ((locks, hogs), 0),
        ((yields, sets), 1),
        ((spins, yields), 0b11),
    ],
)
@pytest.mark.parametrize("movers", [True, False])
def test_only_what_a_fair_scheduler_lets_go_on_is_a_livelock(tasks: tuple[Task, ...], stuck: int, movers: bool) -> None:
    """Tasks that retry against one another, or give way without end; not one that waits for what is sure to come."""
    model = Model(small(None, *tasks, tables=1, used=0), movers)
    result = search(model)
    assert not result.broken and not result.stopped
    found = livelock(model)
    assert bool(found) == bool(stuck)
    if found:
        assert found.tasks & stuck == found.tasks


def cases() -> list[Any]:
    """Tests that hold under the first policy and behaviour that they are for; the larger ones are slow."""
    found = []
    for test in suite():
        policy, behaviour = pairs(test)[0]
        states = COUNTS[f"{test.name} {policy} {behaviour}"][0]
        slow = states > QUICK_MAX
        if states > ASKED_MAX and "SHOOTDOWN_SOUND" not in os.environ:
            continue
        if test.expected(policy, behaviour) == "holds":
            case = Case(test, policy, behaviour, test.tiny)
            found.append(pytest.param(case, id=test.name, marks=[pytest.mark.slow] * slow))
    return found


@pytest.mark.parametrize("case", cases())
def test_no_task_of_the_suite_goes_round_for_ever(case: Case) -> None:
    """Retries and yields come to an end, whatever vCPUs do meanwhile."""
    source = Source()
    assert check(case, source, Budget(livelocks=True)).word == "holds"
    source.close()


def test_a_walk_that_may_give_way_at_one_place_for_ever_is_refuted(tmp_path: Path) -> None:
    """Without the rule that a walk gets on before it gives way again; a saved schedule leads there again."""
    patch, file = tmp_path / "p.diff", tmp_path / "s.json"
    patch.write_text(diff("mmu/resched.py", "    if it.next_last_level_gfn == it.yielded_gfn:", "    if it.level < 0:"))
    words = ("unmap-yield-leafs", "--tiny", "--policy", "rcu", "--patch", str(patch))
    assert run(*words)[0] == 0
    code, text = run(*words, "--livelocks", "--save", str(file))
    assert code == 2
    assert "BROKEN: From here notifier may go round for ever" in text
    code, again = run("--schedule", str(file))
    assert code == 2
    assert "BROKEN: From here notifier may go round for ever" in again
    assert run("unmap-yield-leafs", "--tiny", "--policy", "rcu", "--livelocks")[0] == 0
    assert run(*words, "--livelocks", "--compact")[0] == 1


graphs = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=3), min_size=7, max_size=7)


@given(graphs, st.sets(st.integers(0, 6)))
def test_components_are_those_of_mutual_reach(graph: list[list[tuple[int, int]]], states: set[int]) -> None:
    """Two states are in one part exactly if each reaches the other without leaving the states that count."""
    reach = {state: {state} for state in states}
    for _ in range(8):
        for state in states:
            for _, after in graph[state]:
                if after in states:
                    reach[state] |= reach[after]
    expected = {frozenset(b for b in states if a in reach[b] and b in reach[a]) for a in states}
    assert {frozenset(part) for part in components(graph, sorted(states))} == expected
