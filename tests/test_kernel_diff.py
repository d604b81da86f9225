"""The kernel's own C and our MMU do the same; where they do not, the shortest story of it is told.

Tests that need a kernel's source take it from tests/trees.py.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from shootdown.cli.main import cli
from shootdown.kernel.compare import differ
from shootdown.kernel.compare.acts import ACTS
from shootdown.kernel.compare.differ import diff, play, shrink
from shootdown.kernel.compare.operations import SMALL, Operation
from shootdown.kernel.compare.pair import Pair
from shootdown.kernel.cost.workloads import HUGE, WORKLOADS, Workload, ours_of, theirs_of
from shootdown.kernel.library.apart import Step, apart
from shootdown.kernel.library.build import NATIVE, C, build
from shootdown.kernel.library.native import Config
from shootdown.kernel.source.probes import MMU_C
from shootdown.machine import words
from shootdown.machine.words import LOG_DIRTY_PAGES
from shootdown.mmu.access import FETCH
from tests.edits import REPLACE, Edit
from tests.test_cli import schemas
from tests.trees import linux, native, tree

VERSIONS = ["6.1", "6.12"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_kernels_c_and_ours_do_the_same(version: str) -> None:
    """2,000 random operations differ nowhere, and most kinds of them could be done."""
    outcome = diff(native(version), version, 2000, 7, every=4)
    assert outcome.difference is None, outcome.difference and outcome.difference.text()
    assert outcome.operations == 2000
    assert len([name for name, times in outcome.counts.items() if times]) > 30


def test_a_planted_difference_is_found_and_shrunk() -> None:
    """One bit of one SPTE suffices, and what is told is no longer than it must be."""

    def plant(pair: Pair, number: int) -> None:
        if pair.c.counters()["pages_4k"] == 1 and pair.machine.load(words.VCPU_ROOT, 0) != words.NO_TABLE:
            pair.c.poke(0, 512, 1 << 62)

    operations = [Operation("create", (0, 0, 0, 1536, 0))]
    operations += [Operation("age", (n, n + 1)) for n in range(30)]
    operations += [Operation("fault", (0, 512, 2)), Operation("enter", (0,)), Operation("enter", (1,))]

    def differs(fewer: list[Operation]) -> bool:
        return play(native("6.12"), "6.12", Config(vcpus=2), fewer, plant=plant)[0] >= 0

    assert differs(operations)
    assert [each.name for each in shrink(differs, operations)] == ["create", "fault", "enter"]
    what = play(native("6.12"), "6.12", Config(vcpus=2), operations, plant=plant).what
    assert what.startswith("the C has gfn 0x200 level 1: 0x4000000000200e67")
    assert "ours has gfn 0x200 level 1: 0x0000000000200e67" in what


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("pfn", "small", "huge"), [(4096, 0, 1), (4097, 1, 0)])
def test_where_a_page_lies_counts_alike(version: str, pfn: int, small: int, huge: int) -> None:
    """Where the host has pages in other places than the guest has, both map a small one; where not, a huge one."""

    def compare(step: Step) -> tuple[str, int, int]:
        pair = Pair(native(version), Config(host_level=2), version)
        ACTS["create"](pair, 0, 0, 0, 1536, 0)
        pair.c.host(512, 512, pfn)
        for gfn in range(512, 1024):
            pair.machine.store(words.HOST_PFN, gfn, pfn + gfn - 512)
        ACTS["enter"](pair, 0)
        ACTS["fault"](pair, 0, 512 + 9, 2)
        counted = pair.c.counters()
        return pair.difference(), counted["pages_4k"], counted["pages_2m"]

    assert apart(compare, 60).answer == ("", small, huge)


def test_a_difference_comes_with_its_story() -> None:
    """It names the VM, the operations and what differs; the same seed tells the same."""

    def plant(pair: Pair, number: int) -> None:
        if pair.c.counters()["tables"] > 3:
            pair.machine.count(words.PAGES, 1, 1)

    first, second = (diff(native("6.1"), "6.1", 2000, 3, every=4, plant=plant) for _ in range(2))
    assert first.difference is not None and first == second
    assert "pages_4k" in first.difference.text()
    assert len(first.difference.operations) < 8
    assert json.dumps(first.difference.as_json())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_log_that_began_all_ones_leaves_the_huge_page_at_the_end_of_a_mask(version: str) -> None:
    """It stays writable where the last bit that is cleared is its first page, and others come before it."""
    operations = [
        Operation("create", (1, 0, 0x801, 1200, 0)),
        Operation("fault", (0, 0xA05, 2)),
        Operation("log_on", (1,)),
        Operation("clear_log", (1, 1 << 63 | 1 << 62, 7)),
    ]
    config = Config(vcpus=2, eager_split=False, initially_set=True, host_level=2)
    assert play(native(version), version, config, operations)[:2] == (-1, "")


EDITS = {
    "flushes": Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "flush = false"),
    "does not come back: it ends by SIGSEGV": Edit(
        "tdp_mmu_zap_leafs", REPLACE, r"!root->role", "!((struct kvm_mmu_page *)0)->role"
    ),
    "mmu-w": Edit("wrprot_gfn_range", REPLACE, r"PT_WRITABLE_MASK;", "(PT_WRITABLE_MASK | shadow_mmu_writable_mask);"),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_tree_that_does_otherwise_is_told(what: str) -> None:
    """A flush that is forgotten, a bit that is another, a crash: each comes with few operations."""
    outcome = diff(native("6.12", EDITS[what]), "6.12", 3000, 1, every=4)
    assert outcome.difference is not None
    assert what in outcome.difference.what
    assert len(outcome.difference.operations) < 9


WARNS = [
    Operation("create", (0, 0, 0, 1024, 0)),
    Operation("create", (1, 0, 0x801, 600, LOG_DIRTY_PAGES)),
    Operation("fault", (0, 513, FETCH)),
    Operation("delete", (0,)),
    Operation("recover_nx", (1,)),
]
"""NX recovery finds a table whose slot is gone, while another slot is logged."""
WITH_NX = Config(nx_huge_pages=True, host_level=2, slot_zap_all=False)


def test_a_warning_of_both_is_agreement_and_another_vm_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """That VM ends there, as far as it went it is compared, and as many operations are done as were asked for."""
    library = native("6.12")
    monkeypatch.setattr(differ, "draw_config", lambda random: (WITH_NX, SMALL))
    monkeypatch.setattr(differ, "draw_operations", lambda random, layout, number: [*WARNS, *WARNS][:number])
    outcome = diff(library, "6.12", 12, 1)
    assert outcome.difference is None and not outcome.stopped
    assert (outcome.operations, outcome.sessions, outcome.counts["create"]) == (12, 3, 6)
    ((what, times),) = outcome.warned.items()
    assert times == 2 and what.startswith("recover_nx: nx.c:") and "WARN: !slot in the C, NX recovery" in what

    def plant(pair: Pair, number: int) -> None:
        if number == 3:
            pair.c.poke(0, 0x801, 1 << 62)

    assert diff(library, "6.12", 12, 1, every=4, plant=plant).difference is not None
    assert diff(native("6.1"), "6.1", 5, 1).warned == {}


@pytest.mark.parametrize(
    ("edits", "what"),
    [
        ((Edit("kvm_tdp_mmu_zap_sp", REPLACE, r"!sp->ptep", "sp->ptep"),), "the C has a WARN at tdp_mmu.c:"),
        ((), "only ours stops: NX recovery finds no slot"),
    ],
    ids=["the C's", "ours"],
)
def test_a_warning_of_one_side_differs(edits: tuple[Edit, ...], what: str, tmp_path: Path) -> None:
    """One that only a tree has; and one that only ours has, where the C's was left out."""
    operations = WARNS[:3] + WARNS[4:] if edits else WARNS
    drivers = tmp_path / "drivers"
    shutil.copytree(C / "drivers", drivers)
    text = (drivers / "nx.c").read_text(encoding="utf-8")
    (drivers / "nx.c").write_text(text.replace("WARN_ON_ONCE(!slot)", "(void)slot"), encoding="utf-8")
    library = native("6.12", *edits) if edits else build(linux("6.12"), NATIVE, drivers).path
    played = play(library, "6.12", WITH_NX, operations)
    assert played.what.startswith(what) and played.at == len(operations) - 1


def test_the_command_says_what_it_found() -> None:
    """No difference: 0, and how much was done; with the other version's behaviour: 2, and the story."""
    runner = CliRunner()
    same = runner.invoke(cli, ["kernel", "diff", tree("6.12"), "--operations", "300"], standalone_mode=False)
    assert same.return_value == 0 and "no difference in 300 operations" in same.output
    other = ["kernel", "diff", tree("6.12"), "--operations", "300", "--behaviour", "6.1", "--json"]
    found = runner.invoke(cli, other, standalone_mode=False)
    assert found.return_value == 2
    document = json.loads(found.output)
    jsonschema.validate(document, schemas()["kernel-diff"])
    assert document["difference"]["operations"]


def test_a_patch_of_what_is_not_built_is_not_said_to_make_no_difference(tmp_path: Path) -> None:
    """The file is named, and the exit code is 3; with a difference it is that one's."""
    text = linux("6.12").read(MMU_C)
    line = next(n for n, each in enumerate(text.split("\n")) if each.startswith("static bool is_page_fault_stale"))
    old = text.split("\n")[line]
    patch = tmp_path / "p.patch"
    patch.write_text(f"--- a/{MMU_C}\n+++ b/{MMU_C}\n@@ -{line + 1} +{line + 1} @@\n-{old}\n+/* */ {old}\n")
    arguments = ["kernel", "diff", tree("6.12"), "--patch", str(patch), "--operations", "100"]
    said = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert said.return_value == 3 and f"note: {MMU_C}: changed by a patch, and not built" in said.stderr
    other = CliRunner().invoke(cli, [*arguments, "--behaviour", "6.1"], standalone_mode=False)
    assert other.return_value == 2 and all(len(line) <= 80 for line in other.output.splitlines())


def test_the_times_of_both_are_told() -> None:
    """In a document as docs/json.md has it, and as a table."""
    arguments = ["kernel", "bench", tree("6.1"), "--sptes", "1024", "--runs", "1"]
    document = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False).output)
    jsonschema.validate(document, schemas()["kernel-bench"])
    assert len(document["ns_per_spte"]) == len(WORKLOADS)
    assert "write-protect again" in CliRunner().invoke(cli, arguments, standalone_mode=False).output


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_what_is_timed_can_be_done_by_both(workload: Workload) -> None:
    """Made ready for two regions, and done."""
    theirs_of(workload, native("6.12"), 2 * HUGE)()
    ours_of(workload, "6.12", "kernel-6.12", 2 * HUGE, slots=1)()


def test_shrinking_leaves_nothing_that_can_be_left_out() -> None:
    """Of a hundred operations those two that matter are left, in order."""
    operations = [Operation("fault", (n,)) for n in range(100)]

    def differs(fewer: list[Operation]) -> bool:
        return operations[17] in fewer and operations[80] in fewer

    assert shrink(differs, operations) == [operations[17], operations[80]]


def test_work_apart_may_crash() -> None:
    """Its signal and the step that it was in are told; an answer and an error come through."""

    def crash(step: Step) -> int:
        step(3)
        os.kill(os.getpid(), 11)
        return 0

    def fail(step: Step) -> int:
        raise ValueError("so")

    ended = apart(crash, 10)
    assert (ended.answer, ended.how, ended.step) == (None, "it ends by SIGSEGV", 3)
    assert apart(lambda step: 5, 10).answer == 5
    with pytest.raises(ValueError, match="so"):
        apart(fail, 10)
