"""Every reduction of the checker is held against none, and the fast explorer against a slow one that shares no code.

An oracle that stops early fails its test. ``LARGE`` lists the tests of the suite that are too large for the slow ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from shootdown import build_info
from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case, behaviour_of
from shootdown.check.litmus.litmus import Litmus, suite
from shootdown.check.program import steps
from shootdown.check.program.automaton import Automata
from shootdown.check.program.setting import Setting
from shootdown.check.reference.explorer import Outcome, Reference
from shootdown.check.reference.state import State
from shootdown.check.search import layout
from shootdown.check.search import model as model_module
from shootdown.check.search.model import Model
from shootdown.check.search.search import breaches, path, search
from shootdown.check.source.source import Source
from tests import rows
from tests.small import core_states, reference_states
from tests.structure import ROOT
from tests.suite_counts import recorded

SUITE = {test.name: test for test in suite()}
COUNTS = recorded()
QUICK = ("huge-in-the-way", "nx-recovery", "unmap-tables", "zap-range-tables")
"""Tests that are checked under every policy and behaviour; the others under two that hold and one that is refuted."""

MOVERS_LARGE = {
    "nested-collapses": "millions of states without movers: three levels",
    "age-frozen": "over 400,000 states with movers: three levels, a vCPU and two tasks",
    "age-nx-recovery-reuse": "over 140,000 states with movers: three levels, a vCPU and two tasks",
    "read-fault-aged": "over 90,000 states with movers: three tasks and a vCPU that writes",
    "ring-three-pages": "over 500,000 states with movers: three pages, in any order",
    "split-other-huge": "over 150,000 states with movers: two tasks, one of which drops its lock",
}
"""Tests that are too large for any explorer without movers."""
LARGE = {
    **MOVERS_LARGE,
    "recover-fast-zap": "over 110,000 states without movers: two tasks, and roots that go",
    **dict.fromkeys(
        ("log-on-aged", "ring-pages", "ring-reused", "slot-delete-both"),
        "over 60,000 states without movers: two pages, or a slot that goes",
    ),
    "recover-fast-fault": "over 6,500 states without movers: a fault without a lock",
    "recover-age": "over 5,400 states without movers: two tasks",
    "recover-faults": "over 23,000 states without movers: two regions, and a vCPU that faults in both ways",
    "recover-nx-recovery": "over 37,000 states without movers: two tasks that want one table",
    "recover-write-protect": "over 12,000 states without movers: two tasks, with SRCU, and a vCPU that writes",
    "recover-notifier": "over 14,000 states without movers: two tasks",
    "nx-recovery-write-protect": "over 25,000 states without movers: two tasks, with SRCU, and a vCPU that writes",
    "age-nx-recovery": "over 27,000 states without movers: two tasks",
    "collapse-and-fast-zap": "over 600,000 states without movers: three levels",
    "notifier-and-fast-zap": "over 100,000 states without movers: a minute for the slow explorer",
    "two-collapses": "over 50,000 states without movers, since both tasks collapse the same table",
    "two-roots-leafs": "over 90,000 states without movers: two vCPUs",
    "two-roots-tables": "over 110,000 states without movers: two vCPUs",
    "collapse-leaf-zap": "over 60,000 states without movers: leaves go one by one, with a flush each",
    "age-tracked": "over 110,000 states without movers: two tasks and a vCPU that faults without a lock",
    "log-clear-notifier": "over 140,000 states without movers: two tasks and a vCPU that writes",
    "log-get-notifier": "over 140,000 states without movers: two tasks and a vCPU that writes",
    "log-off-notifier": "over 90,000 states without movers: two tasks",
    "log-on-notifier": "over 250,000 states without movers: two tasks and a vCPU that writes",
    "pml-get-notifier": "over 120,000 states without movers: two tasks and a vCPU that writes",
    "prefetch-notifier": "over 30,000 states without movers: two tasks",
    "read-fault-upgrade": "over 35,000 states without movers until it is refuted: two tasks",
    "ring-reset-notifier": "over 200,000 states without movers: two tasks and a vCPU that writes",
    "slot-delete-notifier": "over 300,000 states without movers: two tasks, one with SRCU, one with roots",
    "slot-move": "over 90,000 states without movers: a slot goes and comes",
    "slot-move-notifier": "over 300,000 states without movers: the same, and another task",
    "age-get": "over 100,000 states without movers: two tasks and a vCPU that writes",
    "load-and-fast-zap": "over 70,000 states with movers: a vCPU that switches roots while they go, and another",
    "previous-roots-no-memory": "like it, and over 10,000 states without movers",
    "slot-delete-mmio": "over 30,000 states with movers: SRCU, roots, and entries of MMIO",
    "previous-roots": "over 240,000 states without movers: a vCPU that switches roots while they go",
    "slot-alone-notifier": "over 100,000 states without movers: two tasks, one with SRCU",
    "slot-delete-prefetch": "over 100,000 states without movers: SRCU, roots, and a vCPU that maps ahead",
    "smm-notifier": "over 140,000 states without movers: two vCPUs with a root each",
    "split-clear-notifier": "over 500,000 states without movers: two tasks, one of which drops its lock, and a vCPU",
    "split-notifier": "over 600,000 states without movers: two tasks, one of which drops its lock, and a vCPU",
    "zap-range-roots-notifier": "over 50,000 states without movers: two tasks, two roots",
    "nx-recovery-logged": "over 60,000 states without movers: two tasks and a vCPU that writes",
    "write-protect-get": "over 90,000 states without movers: two tasks and a vCPU that writes",
    "write-protect-roots": "over 140,000 states without movers: two vCPUs with a root each",
    "slot-create-faults": "over 110,000 states with movers: two vCPUs",
    "slot-create-notifier": "over 60,000 states without movers: two tasks, one with SRCU",
    "change-pte-notifier": "over 35,000 states without movers: two tasks",
    "nx-recovery-fast-zap": "over 60,000 states without movers: two tasks, roots come and go",
    **dict.fromkeys(
        (
            *("collapse-yield-fault", "huge-at-edge", "log-clear-lazy", "log-fault-huge", "log-get-nested"),
            *("log-on-nested", "nx-split-faults", "pml-on-roots", "recover-at-edge", "recover-second-page"),
            *("recover-tracked", "slot-create-gap", "slot-shadowed-notifier", "smm-log-get", "smm-log-off"),
            *("smm-log-on", "smm-slot-delete", "split-fault-deep", "mmio-log-on", "mmio-log-on-npt"),
            *("nx-collapse", "slot-move-mmio", "age-roots", "fast-fault-huge-read", "log-clear-lazy-two"),
            *("log-clear-other", "log-on-ones", "log-on-second", "log-on-unused", "mmio-log-write"),
            *("ring-second-vcpu", "ring-two-slots", "slot-delete-late", "slot-delete-second", "slot-move-alone"),
            *("slot-unmap-last", "smm-write-protect-huge", "write-protect-1g", "write-protect-aged"),
            *("write-protect-log-on", "write-protect-other-root", "write-protect-two", "smm-slot-delete-all"),
            *("unmap-across", "log-on-huge-clean", "recover-small", "recover-at-start"),
            *("huge-at-edge-1g", "huge-at-start", "log-clear-lazy-2m", "nx-huge-1g", "nx-recover-1g", "nx-split-1g"),
            *("recover-at-edge-1g", "recover-second-2m", "recover-tracked-1g", "smm-slot-create-logged"),
            *("unmap-1g-moved", "unmap-next-table", "write-protect-1g-other", "pml-on-2m", "slot-create-read-only"),
            *("log-on-1g", "log-on-below-1g", "fast-fault-1g", "recover-2m-moved", "smm-pml-on", "unmap-range-1g"),
            *("slot-move-log-on", "slot-move-logged", "nested-pml-split"),
        ),
        "not large, but like tests that the slow ones do explore: other roots, slots, edges",
    ),
}
"""Tests that only the fast explorer finishes; where they are refuted, the slow ones do too."""
CACHES_LARGE = dict.fromkeys(
    (
        *("collapse-promote-rfc", "fast-fault-huge", "log-clear-huge", "log-on-huge", "log-on-lazy", "log-two"),
        *("collapse-promote-error", "fast-zap-fault", "nx-recovery-reuse", "split-two-vcpus", "two-ranges"),
        *("zap-range-notifier", "zap-range-roots-notifier", "nx-recovery-fast-zap", "write-protect-notifier"),
        *("log-get-other", "log-get-pages", "log-two-pages", "pml-on-huge", "write-protect-prefetch"),
        *("unmap-yield-collapse", "unmap-second-table"),
    ),
    "over 60,000 states: two tasks, or translations of two sizes or of three tables",
)
"""Tests whose caches have too many subsets to be explored one by one at all."""
EXPLICIT_LARGE = {
    "collapse-promote": "over 60,000 states, since the vCPU may hold three tables' entries in any combination",
    "nx-recovery-yield": "50,000 states and more, for the same reason",
    "collapse-1g-fault": "over 60,000 states, since the vCPU may hold entries of four tables in any combination",
    **dict.fromkeys(
        ("log-off-writes", "nx-recovery-notifier", "nx-recovery-two-slots", "pml-on-used"),
        "over 60,000 states: two tasks",
    ),
    **dict.fromkeys(
        ("fast-fault-fast-zap", "nx-recovery-collapse", "previous-roots-notifier"),
        "over 60,000 states: roots or tables come and go",
    ),
    **CACHES_LARGE,
}
"""Tests whose caches have too many subsets to be explored one by one with late callbacks; at once is fine."""
HISTORIES_LARGE = {
    **MOVERS_LARGE,
    "age-roots": "over a million states: roots come and go, and nothing is merged",
    "collapse-and-fast-zap": "over 1,000,000 states: two tasks with retries",
    "notifier-and-fast-zap": "over 150,000 states: two tasks with retries",
    "two-collapses": "over 150,000 states: two tasks with retries",
    "collapse-leaf-zap": "over 100,000 states, since leaves go one by one",
    "two-roots-tables": "over 150,000 states: two vCPUs",
    "zap-all-fast": "over 150,000 states, since roots come and go",
    **dict.fromkeys(
        (
            "log-clear-notifier",
            "log-get-notifier",
            "log-off-notifier",
            "log-on-notifier",
            "pml-get-notifier",
            "ring-reset-notifier",
            "slot-delete",
            "slot-delete-notifier",
            "slot-move",
            "slot-create-notifier",
            "slot-move-notifier",
            "change-pte-notifier",
            *("fast-zap-fault", "nx-recovery-fast-zap", "previous-roots", "slot-alone-notifier"),
            *("slot-delete-prefetch", "split-clear-notifier", "split-notifier"),
            *("slot-create-gap", "slot-shadowed-notifier", "nx-split-faults", "recover-second-page"),
            *("collapse-yield-fault", "slot-delete-both", "zap-range-roots-notifier"),
            *("load-and-fast-zap", "previous-roots-no-memory", "slot-delete-mmio"),
            *("slot-move-log-on", "slot-move-logged"),
        ),
        "over 180,000 states: tasks with loops and retries",
    ),
}
"""Tests that are too large if every history is a state of its own."""

STATES_MAX = 60_000
LARGER = "SHOOTDOWN_SOUND" in os.environ
"""Asked for by this variable: all tests under two policies, which takes half an hour."""
EVERYWHERE = ("list",) if LARGER else ()
STEPS_MAX = 3_000_000 if LARGER else 30_000
"""Transitions that a search may have, in the tiny geometry, to be held against the others as well."""
SLOW_MAX = 3_000_000 if LARGER else 20_000
"""The same for the slow explorer, which takes over ten seconds for more."""
EVERY_MAX = 2_000_000 if LARGER else 20_000
"""States of a search for all that breaks: what takes more says nothing of that."""


def cases(slow: Any = ()) -> list[Any]:
    """(test, policy, behaviour) of the suite; all but QUICK ones and what is refuted soon are marked as slow.

    ``slow``: tests that take long even where they are refuted.
    """
    found = []
    for test in SUITE.values():
        some = [policy for policy in ("rcu", *EVERYWHERE, *sorted(test.refuted)[-1:]) if policy in test.policies]
        some = some or list(test.policies[:1])
        for policy in test.policies if test.name in QUICK else some:
            every = test.name in QUICK and policy in ("rcu", *test.refuted)
            behaviours = test.behaviours if every else [behaviour_of(test, policy, None)]
            for behaviour in behaviours:
                quick = test.name in QUICK or (policy in test.refuted and test.name not in slow)
                marks = [] if quick else [pytest.mark.slow]
                name = f"{test.name}-{policy}-{behaviour}"
                found.append(pytest.param(test.name, policy, behaviour, marks=marks, id=name))
    return found


def without(large: Any, found: list[Any]) -> list[Any]:
    """Cases that are refuted, or not of tests that are too large."""
    return [c for c in found if c.values[0] not in large or c.values[1] in SUITE[c.values[0]].refuted]


def within(steps_max: int, found: list[Any]) -> list[Any]:
    """Cases whose search, in the tiny geometry and with movers, has so many transitions at most."""
    return [c for c in found if COUNTS["{} {} {}".format(*c.values)][1] <= steps_max]


BUSY = (
    "collapse-and-notifier", "collapse-promote-rfc",
    "age-notifier", "age-tracked-notifier", "age-writable", "fast-fault-get", "fast-fault-huge", "fast-fault-notifier",
    "log-clear-huge", "log-on-huge", "log-on-lazy", "log-two", "slot-delete", "test-young", "write-protect-notifier",
)  # fmt: skip
"""Tests that take the slow explorer some seconds even where only accesses are steps."""
ALL = within(STEPS_MAX, cases(LARGE))
SMALL = within(SLOW_MAX, without(LARGE, cases(BUSY)))
SECONDS = (
    *BUSY, "collapse-and-notifier", "collapse-promote", "nx-recovery-yield", "unmap-yield-tables", "zap-all-fast",
    "age", "change-pte", "clear-young", "log-clear", "log-on", "pml-on", "ring-reset", "slot-delete-alone",
)  # fmt: skip
DEEP = [
    c
    for c in within(SLOW_MAX, without(LARGE, cases(SECONDS)))
    if c.values[:2] not in [(name, "list") for name in SECONDS]
]
"""The same for explorations in which every fill and eviction is a step: SECONDS are slow then, so one policy does."""


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """One copy of the MMU's sources for all."""
    copy = Source()
    yield copy
    copy.close()


def explored(
    test: Litmus, policy: str, behaviour: str, source: Source, movers: bool = True, merge: bool = True
) -> tuple[Model, Any]:
    """The fast explorer's model and result; it must finish."""
    model = Model(build(Case(test, policy, behaviour, test.tiny), source), movers, merge)
    result = search(model, 1_000_000)
    assert not result.stopped, result.stopped
    return model, result


def reference(test: Litmus, policy: str, behaviour: str, source: Source, **options: bool) -> tuple[Reference, Outcome]:
    """The slow explorer and its outcome; it must finish."""
    slow = Reference(build(Case(test, policy, behaviour, test.tiny), source), **options)
    outcome = slow.explore(STATES_MAX)
    assert not outcome.stopped, f"more than {STATES_MAX} states"
    return slow, outcome


def everything(setting: Setting, movers: bool, states_max: int) -> frozenset[int] | None:
    """All that breaks in some run (steps.py), whatever broke before it; None if that takes too many states.

    Each property is looked for as if there were no other: a run goes on after it breaks one, so none hides another.
    """
    model = Model(setting, movers)
    if search(model, states_max, stop=layout.STOP_NEVER).stopped:
        return None
    return breaches(model)


def test_what_is_left_out_exists() -> None:
    """No exclusion outlives its test, and every test that is asked for goes to the slow explorer or has a reason."""
    names = {*LARGE, *EXPLICIT_LARGE, *HISTORIES_LARGE}
    assert names <= SUITE.keys()
    asked = {case.values[0] for case in within(SLOW_MAX, cases())}
    assert {case.values[0] for case in SMALL} >= asked - LARGE.keys()


@pytest.mark.parametrize(("name", "policy", "behaviour"), without(MOVERS_LARGE, ALL))
def test_movers_keep_the_verdict(name: str, policy: str, behaviour: str, source: Source) -> None:
    """Gluing steps that commute changes no verdict, and leaves no more states than without.

    What breaks first may differ, for to glue shortens some runs more than others; all that ever breaks may not.
    """
    test = SUITE[name]
    _, glued = explored(test, policy, behaviour, source)
    _, plain = explored(test, policy, behaviour, source, movers=False)
    assert (glued.broken != 0) == (plain.broken != 0)
    if glued.broken:
        every, single = (
            everything(build(Case(test, policy, behaviour, test.tiny), source), movers, EVERY_MAX)
            for movers in (True, False)
        )
        assert every == single or None in (every, single)
    assert (glued.broken != 0) == (test.expected(policy, behaviour) == "refuted")
    assert glued.depth <= plain.depth
    if not glued.broken:
        assert glued.states < plain.states


@pytest.mark.parametrize(
    ("name", "policy", "behaviour"),
    without(HISTORIES_LARGE, cases(("unmap-yield-tables", "nx-recovery-yield", "two-roots-leafs"))),
)
def test_frames_keep_the_verdict(name: str, policy: str, behaviour: str, source: Source) -> None:
    """Telling places of a program by its frames or by all that ever happened to it gives the same verdict and depth."""
    _, merged = explored(SUITE[name], policy, behaviour, source)
    _, unmerged = explored(SUITE[name], policy, behaviour, source, merge=False)
    assert merged.broken == unmerged.broken
    assert merged.states <= unmerged.states
    if merged.broken:
        assert merged.depth == unmerged.depth


@pytest.mark.parametrize(("name", "policy", "behaviour"), SMALL)
def test_the_slow_explorer_finds_the_same_states(name: str, policy: str, behaviour: str, source: Source) -> None:
    """Without movers, both explorers find the same states, or the same defect after as many steps.

    The slow one keeps variables that nobody reads any more; its states are compared by the fast one's nodes.
    """
    model, fast = explored(SUITE[name], policy, behaviour, source, movers=False)
    slow, outcome = reference(SUITE[name], policy, behaviour, source)
    agree(model, fast, slow, outcome)


def agree(model: Model, fast: Any, slow: Reference, outcome: Outcome) -> None:
    """What the fast explorer found without movers is what the slow one found.

    A store to a word that nobody reads is a step of the slow one only, so then places and depths differ.
    """
    assert outcome.broken == fast.broken
    skips = steps.SKIP in model.t.kind
    if fast.broken:
        assert outcome.depth == fast.depth or (skips and outcome.depth > fast.depth)
        return
    ours, theirs = core_states(model, fast.states), reference_states(slow, outcome.parents, model)
    assert len(ours) == fast.states
    if skips:
        ours, theirs = ({state[:1] + state[2:] for state in found} for found in (ours, theirs))
    assert ours == theirs


@pytest.mark.parametrize(("name", "policy", "behaviour"), without(EXPLICIT_LARGE, DEEP))
def test_nothing_glued_and_late_callbacks_keep_the_verdict(
    name: str, policy: str, behaviour: str, source: Source
) -> None:
    """Single fills and evictions, callbacks at any time and a step for every access break nothing else, nor less."""
    _, outcome = reference(SUITE[name], policy, behaviour, source)
    _, explicit = reference(SUITE[name], policy, behaviour, source, explicit=True, late=True, glue=False)
    assert explicit.broken == outcome.broken
    if outcome.broken:
        assert explicit.depth > outcome.depth


@pytest.mark.parametrize(("name", "policy", "behaviour"), without(CACHES_LARGE, DEEP))
def test_the_greatest_cache_stands_for_all(name: str, policy: str, behaviour: str, source: Source) -> None:
    """The set that a vCPU may hold is one that it can hold, holds all that it can hold, and hides nothing of programs.

    Compared with single fills and evictions: what programs see is the same, every cache lies below a greatest one of
    the same moment, and every greatest one occurs.
    """
    one, may = reference(SUITE[name], policy, behaviour, source)
    two, explicit = reference(SUITE[name], policy, behaviour, source, explicit=True)
    assert explicit.broken == may.broken
    if may.broken:
        # An assertion of a task needs nothing that a CPU holds; else one or two entries have to be cached.
        assert explicit.depth - may.depth in ((0,) if may.broken == steps.ASSERTION else (1, 2))
        return
    above = defaultdict(list)
    for state in may.parents:
        above[seen(state, one)].append(state)
    below = defaultdict(set)
    for state in explicit.parents:
        below[seen(state, two)].add((state.caches, state.marked))
    assert above.keys() == below.keys()
    for key, states in above.items():
        greatest = {(state.caches, state.marked) for state in states}
        assert greatest <= below[key]
        for caches, marked in below[key]:
            assert any(
                all(mine <= its for mine, its in zip(caches, top, strict=True)) and marked <= marks
                for top, marks in greatest
            )


def seen(state: State, slow: Reference) -> Any:
    """What programs see of a state; numbers of places depend on the order in which they were found."""
    return state._replace(
        places=tuple(hash(slow.places[n].key) for n in state.places), caches=(), marked=frozenset()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "policy"), [("two-collapses", "list"), ("zap-all-fast", "rcu"), ("unmap-yield-tables", "eager"),
                         ("collapse-zap", "rcu"), ("nx-recovery-yield", "rcu-literal"), ("two-roots-tables", "rcu")]
)  # fmt: skip
def test_equal_keys_behave_alike(name: str, policy: str, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever led to a place of a program, it goes on from there in the same way."""

    class Recording(Automata):
        def __init__(self, *operands: Any) -> None:
            super().__init__(*operands)
            self.records: dict[Any, list[list[Any]]] = defaultdict(list)
            self.given: dict[int, set[Any]] = defaultdict(set)

        def _key(self, number: int, record: list[Any], *rest: Any) -> Any:
            key = super()._key(number, record, *rest)
            if len(self.records[key]) < 8 and record not in self.records[key]:
                self.records[key].append(list(record))
            return key

        def after(self, node: int, result: Any) -> int:
            self.given[node].add(result)
            return super().after(node, result)

    monkeypatch.setattr(model_module, "Automata", Recording)
    test = SUITE[name]
    behaviour = behaviour_of(test, policy, None)
    assert behaviour
    model, _ = explored(test, policy, behaviour, source)
    automata = model.automata
    assert isinstance(automata, Recording)
    compared = 0
    for key, node in list(automata.numbers.items()):
        at = automata.nodes[node]
        if at.access.step in (steps.END, steps.BUG):
            continue
        for record in list(automata.records[key]):
            if tuple(record) == at.record:
                continue
            for result in automata.given[node]:
                compared += 1
                assert automata._node(at.program, [*record, result]) == automata._node(at.program, [*at.record, result])
    assert compared > 20
    assert not automata.histories


@pytest.mark.parametrize(("name", "policy"), [("unmap-tables", "rcu-literal"), ("collapse-zap", "rcu")])
def test_a_search_repeats_itself(name: str, policy: str) -> None:
    """Two searches, on two copies of the sources, give the same verdict, figures and path."""
    found = []
    for _ in range(2):
        source = Source()
        test = SUITE[name]
        model, result = explored(test, policy, test.behaviours[0], source)
        last = result.state or result.states - 1
        found.append((result.broken, result.states, result.transitions, result.depth, path(model, last)))
        source.close()
    assert found[0] == found[1]


def test_compiled_and_plain_explorers_find_the_same_rows() -> None:
    """Compiled or not, the same states in the same order, and the same parents."""
    if not build_info.compiled():
        pytest.skip("the package is not compiled")
    env = dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    done = subprocess.run([sys.executable, str(rows.__file__)], env=env, capture_output=True, text=True, check=True)
    kind, *lines = done.stdout.splitlines()
    assert kind == "plain"
    assert lines == rows.digests()
