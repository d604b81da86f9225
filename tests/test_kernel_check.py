"""``check --tree``: the litmus tests on the kernel's own C give what they give on our MMU, and find what is planted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from shootdown.check.litmus.litmus import suite
from shootdown.check.verdict.verdict import HOLDS, NOT_EXERCISED, REFUTED
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.verdict import Judged, cases, judge
from shootdown.kernel.library.build import EXPLORE, build
from shootdown.kernel.source.needs import needed
from shootdown.kernel.source.probes import TDP_C
from tests.edits import REPLACE, Edit
from tests.test_check_cli import run
from tests.test_cli import schemas
from tests.trees import VERSIONS, changed, explored, linux

pytestmark = pytest.mark.slow
SUITE = {test.name: test for test in suite()}
BUDGET = Budget(states=2_000_000, seconds=60.0)
QUICK = (
    "age", "collapse-zap", "fault-replaces-table", "huge-in-the-way", "log-off", "nx-recovery", "prefetch", "release",
    "slot-create", "unmap-leafs", "unmap-yield-leafs", "write-protect", "zap-range-leafs",
)  # fmt: skip
"""Tests of which the tiny geometry takes no second on the C."""


def found(name: str, version: str, *edits: Edit) -> Judged:
    """What a test gives on a tree with edits made."""
    built = build(changed(version, *edits), EXPLORE) if edits else explored(version)
    return judge(cases([SUITE[name]], version, tiny=True)[0], built, Options(), BUDGET)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", QUICK)
def test_the_kernel_keeps_what_our_mmu_keeps(name: str, version: str) -> None:
    """A test that is for a kernel holds on the kernel's own C, to its end, and every task of the host comes to its."""
    if not cases([SUITE[name]], version, tiny=True):
        pytest.skip(f"{name} is not about {version}")
    judged = found(name, version)
    assert (judged.verdict.word, judged.verdict.reason) == (HOLDS, "")
    assert judged.verdict.bounds


def test_a_table_on_no_list_yet_is_found_by_its_schedule() -> None:
    """In 6.1 a table can be taken away before it is on the list of tables; the shortest schedule ends in that list."""
    judged = found("link-and-collapse", "6.1")
    assert judged.verdict.word == REFUTED == judged.verdict.case.expected
    assert judged.outcome.broken == "memory fault"
    assert judged.outcome.place[0].function == "tdp_mmu_unlink_sp"
    assert found("link-and-collapse", "6.12").verdict.word == HOLDS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_late_read_fault_takes_the_right_to_write_away_unseen(version: str) -> None:
    """The kernel's own C has the defect: write protection finds nothing to do, and a vCPU may go on writing."""
    judged = found("read-fault-upgrade", version)
    assert judged.verdict.word == REFUTED == judged.verdict.case.expected
    assert judged.outcome.broken == "writable in reach"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_assertion_of_the_kernel_is_a_verdict(version: str) -> None:
    """A call without the lock that lockdep wants, and a dereference of NULL, are refuted where they happen."""
    judged = found(
        "unmap-leafs",
        version,
        Edit("tdp_mmu_zap_leafs", REPLACE, r"lockdep_assert_held_write", "lockdep_assert_held_read"),
    )
    assert judged.outcome.broken == "lockdep"
    judged = found(
        "unmap-leafs", version, Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "flush = *(volatile bool *)8")
    )
    assert judged.outcome.broken == "memory fault"
    assert judged.outcome.place[0].function == "tdp_mmu_zap_leafs"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_endless_loop_of_the_kernel_is_a_verdict(version: str) -> None:
    """Code that goes round for ever without an access that others see is ended, and refuted."""
    judged = found("unmap-leafs", version, Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "for (;;) barrier()"))
    assert judged.outcome.broken == "endless loop"


def test_where_no_guest_ever_gets_a_page_nothing_holds() -> None:
    """A patch after which each fault is tried again for ever breaks no promise, and shows none."""
    judged = found("unmap-leafs", "6.12", Edit("kvm_tdp_mmu_map", REPLACE, r"is_frozen_spte\(iter\.old_spte\)", "true"))
    assert judged.verdict.word == NOT_EXERCISED
    assert judged.verdict.reason == "the guest of vCPU0 never gets a page"


def patch_of(path: Path, version: str, file: str, function: str, anchor: str, line: str) -> Path:
    """A diff that puts a line before the one in a function that has ``anchor``."""
    lines = linux(version).read(file).split("\n")
    at = next(n for n, text in enumerate(lines) if re.match(rf"\S.*\b{function}\(", text) and not text.endswith(";"))
    at = next(n for n in range(at, len(lines)) if anchor in lines[n])
    context = [" " + text for text in lines[at - 3 : at]], [" " + text for text in lines[at : at + 3]]
    hunk = [f"@@ -{at - 2},6 +{at - 2},7 @@", *context[0], "+" + line, *context[1]]
    path.write_text("\n".join([f"--- a/{file}", f"+++ b/{file}", *hunk, ""]))
    return path


def test_a_patch_to_what_drivers_stand_for_does_not_hold(tmp_path: Path) -> None:
    """A hunk in a file that is not built is named, and the exit code says so, though every test holds."""
    linux("6.12")
    file = "arch/x86/kvm/mmu/mmu.c"
    patch = patch_of(tmp_path / "a.patch", "6.12", file, "kvm_mmu_zap_all_fast", "write_lock", "\tkvm->users++;")
    code, text = run("unmap-leafs", "--tree", linux("6.12").name, "--tiny", "--patch", str(patch))
    assert code == 3
    assert f"not exercised: {file}" in text
    assert "(a file that is not built)" in " ".join(text.split())
    assert "but part of the patch never ran" in text and "as expected" not in text


def test_a_patch_to_what_runs_is_checked(tmp_path: Path) -> None:
    """A hunk in code that the tests run holds or is refuted, and nothing is said to be left out."""
    patch = patch_of(tmp_path / "a.patch", "6.12", TDP_C, "tdp_mmu_zap_leafs", "rcu_read_lock", "\tcpu_relax();")
    code, text = run("unmap-leafs", "--tree", linux("6.12").name, "--tiny", "--patch", str(patch))
    assert (code, "not exercised" in text) == (0, False)


def test_git_bisect_is_told_good_and_bad(tmp_path: Path) -> None:
    """A known defect is good, as is what holds; what is refuted against expectation is bad, whatever else holds."""
    words = ("unmap-leafs", "read-fault-upgrade", "--tree", linux("6.12").name, "--tiny", "--bisect")
    assert run(*words)[0] == 0
    patch = patch_of(tmp_path / "a.patch", "6.12", TDP_C, "tdp_mmu_zap_leafs", "rcu_read_lock", "\tstart = end;")
    assert run(*words, "--patch", str(patch))[0] == 1


def test_a_saved_schedule_is_followed_again_on_the_same_tree_only(tmp_path: Path) -> None:
    """--save and --schedule take the same steps; on a tree without the defect they end in a clear error."""
    saved = tmp_path / "s.json"
    code, shown = run("read-fault-upgrade", "--tree", linux("6.12").name, "--tiny", "--save", str(saved))
    assert code == 2
    assert json.loads(saved.read_text())["broken"] == "writable in reach"
    code, again = run("--tree", linux("6.12").name, "--schedule", str(saved))
    assert code == 2
    assert again.strip() in shown
    assert f"Replay: shootdown check --tree {linux('6.12').name} --schedule {saved}" in " ".join(shown.split())
    code, text = run("--tree", linux("6.1").name, "--schedule", str(saved))
    assert code == 1
    assert "not those of the schedule: it was saved on Linux 6.12." in text and "without --patch" in text


def test_a_schedule_names_the_patch_that_it_needs(tmp_path: Path) -> None:
    """It is in the line Replay, and in the message of a tree without it."""
    patch = patch_of(tmp_path / "a.patch", "6.1", TDP_C, "tdp_mmu_zap_leafs", "rcu_read_lock", "\tstart = end;")
    on, saved = ("--tree", linux("6.1").name), str(tmp_path / "s.json")
    code, shown = run("unmap-leafs", *on, "--tiny", "--patch", str(patch), "--save", saved)
    assert code == 2
    assert f"--patch {patch} --schedule {saved}" in " ".join(shown.split())
    code, text = run(*on, "--patch", str(patch), "--schedule", saved, "--json")
    assert code == 2 and json.loads(text)["schedule"]["moves"]
    code, text = run(*on, "--schedule", saved)
    assert code == 1 and f"with --patch {patch}" in text


def test_a_test_that_is_not_for_a_tree_is_named() -> None:
    """And not all others with it."""
    name = next(test.name for test in suite() if not cases([test], "6.1", tiny=True))
    code, text = run(name, "--tree", linux("6.1").name)
    assert code == 1 and f"{name} is not for a tree like 6.1" in text


def test_what_is_refuted_has_its_schedule_as_json() -> None:
    """By name, in the form that docs/json.md states: the rows of the table, with the entries' values."""
    words = ("read-fault-upgrade", "--tree", linux("6.1").name, "--tiny")
    shown = run(*words)[1]
    document = json.loads(run(*words, "--json")[1])
    jsonschema.validate(document, schemas()["check"])
    told = document["tests"][0]["schedule"]
    assert [move["number"] for move in told["moves"]] == [
        int(n) for n in re.findall(r"^ {0,2}(\d+) (?!verdict)", shown, re.M)
    ]
    assert {move["task"] for move in told["moves"]} == set(told["tasks"])
    change = next(move for move in told["moves"] if move["access"].startswith("cmpxchg"))
    assert change["to"] == "memory" and change["spte_before"] != change["spte_after"]
    assert told["broken"] and told["standing"] and told["legend"]


def test_a_schedule_that_is_followed_again_is_the_same_as_json(tmp_path: Path) -> None:
    """As it was when it was found, in the form that docs/json.md states."""
    on, saved = ("--tree", linux("6.1").name), str(tmp_path / "s.json")
    (first,) = json.loads(run("read-fault-upgrade", *on, "--tiny", "--save", saved, "--json")[1])["tests"]
    code, text = run(*on, "--schedule", saved, "--json")
    again = json.loads(text)
    jsonschema.validate(again, schemas()["check-schedule"])
    assert code == 2 and again["schedule"] == first["schedule"]
    assert {again[key] for key in ("broken", "what")} == {True, first["broken"]}
    assert [again[key] for key in ("test", "policy", "behaviour", "steps")] == [
        first[key] for key in ("name", "policy", "behaviour", "depth")
    ]


def test_what_a_series_needs_is_told() -> None:
    """A patch that breaks something until a later one mends it needs that one; what stays broken is its own."""
    assert needed({1: ["a"], 2: ["a"]}, 3) == ["patch 1 needs 3"]
    assert needed({2: ["a"], 3: ["a", "b"]}, 3) == ["patch 2 breaks a", "patch 3 breaks b"]
    assert needed({0: ["a"], 1: ["a"]}, 1) == []


def test_the_line_that_replays_says_what_was_asked_for() -> None:
    """Which tree and how it was explored, as the user said it; nothing that was left to its default."""
    words = ("read-fault-upgrade", "--tree", linux("6.12").name, "--tiny", "--yields", "1", "--store-buffers", "2")
    shown = " ".join(run(*words)[1].split())
    again = f"Replay: shootdown check {' '.join(words)} --save FILE, then shootdown check {' '.join(words[1:3])} "
    assert f"{again}--schedule FILE" in shown
