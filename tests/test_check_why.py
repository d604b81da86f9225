"""Why a test holds: its run, what covered each free and promise in it, and what makes a test say nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.search.model import Goal, Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import HOLDS, Budget, check
from shootdown.check.verdict.why import Why, why
from tests.test_check_cli import LITMUS, run
from tests.test_cli import schemas

TESTS = {test.name: test for test in suite()}
EXPLAINED = (
    "unmap-tables", "unmap-leafs", "zap-range-tables", "zap-all-fast", "write-protect", "log-get", "collapse-zap",
    "nx-recovery", "fault-replaces-table", "change-pte",
)  # fmt: skip


def explained(name: str) -> tuple[Case, Why]:
    """Why a test holds under its first policy that keeps its promise, in the tiny geometry."""
    test = TESTS[name]
    policy, behaviour = next((p, b) for p, b in pairs(test) if test.expected(p, b) == HOLDS)
    case, source = Case(test, policy, behaviour, test.tiny), Source()
    try:
        return case, why(case, source, check(case, source, Budget()).exercised, Budget())
    finally:
        source.close()


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_run_does_what_its_test_is_about(name: str) -> None:
    """Tasks of the host end, nothing breaks; each free and promise is covered on every vCPU, by what came before it."""
    case, found = explained(name)
    assert found.witness is not None
    assert not found.witness.broken
    standing = dict(line.split(": ", 1) for line in found.witness.standing)
    assert all(standing[task["name"]] == "at its end, holds no lock" for task in case.test.host)
    texts = {move.number: move for move in found.witness.moves}
    freed = [note.text for move in found.witness.moves for note in move.notes if note.text.endswith(" freed")]
    assert sum("is freed" in cover.what for cover in found.covers) == sum(text.count("T") for text in freed)
    promises = [
        move for move in found.witness.moves if re.match("PROMISE: (pfn|gfns? .* forgotten|nobody)", move.access)
    ]
    assert sum("is freed" not in cover.what for cover in found.covers) == len(promises)
    for cover in found.covers:
        at = int(cover.what.rpartition(" at ")[2])
        since = int(cover.since.rpartition(" at ")[2]) if " at " in cover.since else 0
        assert since <= at
        assert len(cover.vcpus) == case.geometry.vcpus
        for vcpu, how in cover.vcpus:
            if match := re.match(r"flushed at (\d+)", how):
                move = texts[int(match[1])]
                assert (move.access, move.task) == ("flush own TLB", vcpu)
                assert since < move.number <= at
            if match := re.search(r"asked at (\d+) by (\S+)", how):
                move = texts[int(match[1])]
                assert move.access.startswith(f"request {vcpu}: ")
                assert move.task == match[2]
                assert since < move.number <= at


def test_nothing_is_safe_by_luck() -> None:
    """In the run of each test of frees, some vCPU had cached what was freed: a flush covered it, or is owed."""
    for name in ("unmap-tables", "zap-range-tables", "collapse-zap", "fault-replaces-table"):
        covers = explained(name)[1].covers
        assert any(re.match("flushed|was out", how) for cover in covers for _, how in cover.vcpus), name


def test_a_run_is_shortest() -> None:
    """A search for less ends sooner, and the run of a goal never is shorter than that of a part of it."""
    test, source = TESTS["unmap-tables"], Source()
    depths = []
    for goal in (Goal((), 32), Goal((), 1), Goal((), 3), Goal(("zap_gfn_range",), 3), Goal(("page_fault",), 35)):
        result = search(Model(build(Case(test, "rcu", "5.17", test.tiny), source), goal=goal))
        assert result.broken
        depths.append(result.depth)
    source.close()
    assert depths == sorted(depths)
    assert depths[0] < depths[-1]


def test_why_prints_run_cover_and_what_ran() -> None:
    """--why by name: a table without BROKEN, who was flushed when, what was exercised; JSON as documented."""
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--why")
    assert code == 0
    assert "BROKEN" not in text
    assert re.search(r"T1 is freed at \d+; cut off at \d+\n    vCPU0 ", text)
    assert "    at stake: P1, P2" in text
    assert max(map(len, text.splitlines())) <= 80
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--policy", "rcu-literal", "--why", "--json")
    document: Any = json.loads(text)
    jsonschema.validate(document, schemas()["check"])
    assert [bool(test["why"]) for test in document["tests"]] == [True, False]
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--why", "--format", "mermaid")
    assert "sequenceDiagram" in text


def test_why_is_about_tests_by_name() -> None:
    """The suite as a whole has no witness."""
    assert run("--why")[0] == 1


def test_a_property_that_is_never_at_stake_makes_a_test_idle(tmp_path: Path) -> None:
    """A test that says it guards what nothing in it can break is not said to hold."""
    file = tmp_path / "t.toml"
    file.write_text('guards = ["P1", "P4"]\n' + LITMUS)
    code, text = run(str(file), "--policy", "rcu")
    assert code == 3
    assert "P4 was never at stake" in text
    file.write_text('guards = ["P1"]\n' + LITMUS)
    assert run(str(file), "--policy", "rcu")[0] == 0


def test_a_test_that_names_nothing_has_no_run(tmp_path: Path) -> None:
    """Without exercises and guards there is nothing to show, and that is said."""
    file = tmp_path / "t.toml"
    file.write_text(LITMUS)
    code, text = run(str(file), "--policy", "rcu", "--why")
    assert code == 0
    assert "No run to show: the test names nothing" in text
