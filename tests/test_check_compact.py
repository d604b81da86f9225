"""Hash compaction finds what the exact search finds, and says how sure that is."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.search.compact import long_hash, omission
from shootdown.check.search.layout import WIDTH, Tables
from shootdown.check.search.model import KEYS, Model
from shootdown.check.search.search import search
from shootdown.check.search.tabulate import packed
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import Budget, check
from tests.suite_counts import recorded
from tests.test_check_cli import run
from tests.test_check_suite import LARGE, PLAIN_MAX
from tests.test_cli import schemas

COUNTS = recorded()


def cases() -> list[Any]:
    """Every test under the first policy and behaviour that it is for; the large ones are slow."""
    found = []
    for test in suite():
        policy, behaviour = pairs(test)[0]
        slow = test.name in LARGE or COUNTS[f"{test.name} {policy} {behaviour}"][0] > PLAIN_MAX
        case = Case(test, policy, behaviour, test.tiny)
        found.append(pytest.param(case, id=test.name, marks=[pytest.mark.slow] * slow))
    return found


@pytest.mark.parametrize("case", cases())
def test_compaction_changes_nothing_but_memory(case: Case) -> None:
    """Verdict, what broke, states, transitions, depth and what was exercised are those of the exact search."""
    source, found = Source(), []
    for compact in (False, True):
        verdict = check(case, source, Budget(compact=compact))
        result = verdict.result
        found.append((verdict.word, result.broken, result.states, result.transitions, result.depth, verdict.exercised))
        assert result.omission == (omission(result.states) if compact else 0)
    source.close()
    assert found[0] == found[1]


def test_states_that_are_expanded_are_forgotten() -> None:
    """The ring holds the states that wait, and not those that were expanded."""
    test, source = next(test for test in suite() if test.name == "zap-all-fast"), Source()
    sizes = []
    for compact in (False, True):
        model = Model(build(Case(test, "rcu", "6.12", test.tiny), source), compact=compact)
        states = search(model).states
        sizes.append(len(model.t.parents) + len(model.t.rows) // model.width)
    source.close()
    assert sizes[0] >= 2 * states
    assert sizes[1] < states // 2


row = st.lists(st.integers(0, (1 << 62) - 1), min_size=3, max_size=3)


def hashed(words: list[int]) -> int:
    """The hash of a row."""
    t = Tables()
    t.keys, t.p[WIDTH] = packed(KEYS), len(words)
    t.row = packed(np.array(words, np.int64))
    return int(long_hash(t))


@given(row, row, st.integers(0, 185))
def test_a_hash_is_that_of_the_formula(first: list[int], second: list[int], bit: int) -> None:
    """Two multilinear sums over pieces of 31 bits, each modulo 2**62, upper halves; one bit more makes another hash."""
    for words in (first, second):
        pieces = [piece for word in words for piece in (word & 0x7FFFFFFF, word >> 31)]
        sums = []
        for part in (0, 1):
            keys = [int(KEYS[2 + 4 * (n // 2) + 2 * part + n % 2]) for n in range(len(pieces))]
            sums.append((int(KEYS[part]) + sum(k * c for k, c in zip(keys, pieces, strict=True))) % 2**62)
        assert hashed(words) == (sums[0] >> 31 << 31 | sums[1] >> 31)
    flipped = list(first)
    flipped[bit // 62] ^= 1 << bit % 62
    assert hashed(flipped) != hashed(first)
    assert (hashed(first) == hashed(second)) == (first == second)


def test_the_bound_is_printed_and_in_the_json() -> None:
    """A verdict that compaction bounds says so; a refutation has no bound, for its schedule was found exactly."""
    words = ("unmap-tables", "--tiny", "--policy", "rcu", "--policy", "rcu-literal", "--compact")
    code, text = run(*words)
    assert code == 2
    assert "holds within: hash compaction, omission <= " in text
    assert "BROKEN" in text
    code, text = run(*words, "--json")
    document = json.loads(text)
    jsonschema.validate(document, schemas()["check"])
    holds, refuted = (test["bounds"] for test in document["tests"])
    states = document["tests"][0]["states"]
    assert holds == {"omission": states * (states - 1) / 2**63}
    assert refuted is None
    assert "within" not in run(*words[:-1])[1]


def test_a_budget_of_states_holds_for_compaction_too() -> None:
    """The search stops soon after its budget of states."""
    test, source = next(test for test in suite() if test.name == "zap-all-fast"), Source()
    verdict = check(Case(test, "rcu", "6.12", test.full), source, Budget(states=2000, compact=True))
    source.close()
    assert verdict.word == "undetermined"
    assert verdict.reason == "more than 2,000 states"
