"""What operations cost on the C of two trees: what differs is told, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from shootdown.cli.against import costs_text
from shootdown.cli.main import cli
from shootdown.kernel.cost.costs import COUNTS, JOBS, Change, Cost, changes, compare, measure
from tests.edits import REPLACE, Edit
from tests.test_cli import schemas
from tests.trees import native, tree

BY_NAME = {job.name: job for job in JOBS}
SLOW, FAST = tuple(10.0 + n / 10 for n in range(15)), tuple(5.0 + n / 10 for n in range(15))


def changed(name: str, before: Path, after: Path) -> dict[str, tuple[str, str]]:
    """What of the counts of an operation is another."""
    found = changes(BY_NAME[name], *measure(BY_NAME[name], (before, after), runs=0))
    return {each.what: (each.before, each.after) for each in found}


def test_every_count_that_differs_is_told_and_no_other() -> None:
    """Counts by their names; equal ones are left out."""
    one = (1, 2, 3, 4, 5, 6)
    for n, what in enumerate(COUNTS):
        other = tuple(value + 1000 * (n == m) for m, value in enumerate(one))
        assert changes(JOBS[0], Cost(one), Cost(other)) == [
            Change(JOBS[0].name, what, str(one[n]), f"{one[n] + 1000:,}")
        ]
    assert changes(JOBS[0], Cost(one, FAST), Cost(one, FAST)) == []


def test_time_is_told_where_it_is_sure_to_differ() -> None:
    """Runs that overlap, or differ little, are alike; a few that were disturbed do not hide a difference."""
    zero = (0,) * len(COUNTS)

    def told(one: tuple[float, ...], other: tuple[float, ...]) -> list[str]:
        return [each.what for each in changes(JOBS[0], Cost(zero, one), Cost(zero, other))]

    assert told(SLOW, FAST) == told(FAST, SLOW) == ["ns per SPTE"]
    disturbed = (*FAST[:9], 90.0, 91.0, 92.0, 93.0, 94.0, 95.0)
    assert told(SLOW, disturbed) == ["ns per SPTE"]
    assert told(SLOW, (*SLOW[:7], *FAST[:8])) == ["ns per SPTE"]
    assert told(SLOW, (*SLOW[:8], *FAST[:7])) == []
    assert told(SLOW, tuple(ns * 1.05 for ns in SLOW)) == []


def test_an_operation_that_does_not_end_is_told() -> None:
    """A crash of one tree's C is that tree's, and one of both is nothing new."""
    assert changes(JOBS[0], Cost(failed="it ends by SIGSEGV"), Cost((0,) * 6)) == [
        Change(JOBS[0].name, "fails", "it ends by SIGSEGV", "it ends")
    ]
    assert changes(JOBS[0], Cost(failed="x"), Cost(failed="x")) == []


def test_the_text_fits_a_mail() -> None:
    """At most 72 columns, whatever is told; if nothing is, one sentence."""
    many = [Change(job.name, what, "134,217,728", "262,144") for job in JOBS for what in COUNTS]
    many.append(Change("unmap", "fails", "it ends", "tdp_mmu.c:1234: WARN: a very long condition that " + "x " * 40))
    lines = costs_text(many)
    assert all(len(line) <= 72 for line in lines)
    assert len(costs_text([])) == 1


def test_6_1_flushes_too_wide_a_range_and_deletes_slots_otherwise() -> None:
    """Two differences of the kernels' sources that are known: the range of a flush in the map path, and slots."""
    old, new = native("6.1"), native("6.12")
    assert changed("huge faults on tables", old, new) == {"pages in those ranges": ("134,217,728", "262,144")}
    assert changed("delete it, leafs only", old, new)["tables freed"] == ("515", "0")
    assert changed("unmap, giving way", old, new) == {}


def test_a_flush_too_few_is_told() -> None:
    """Where a patch never flushes after zapping leafs, the counts say so, of the operations that do it."""
    plain = native("6.12")
    fewer = native("6.12", Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "flush = false"))
    assert changed("unmap", plain, fewer) == {"remote flushes of all": ("1", "0")}
    assert changed("fault map", plain, fewer) == {}


def test_flushes_too_many_and_lost_time_are_told() -> None:
    """A flush for each entry that is zapped, and a loop of a hundred turns: more flushes, and more time."""
    slow = "flush = ({ for (volatile int i = 0; i < 100; i++) ; kvm_flush_remote_tlbs(kvm); true; })"
    slower = native("6.12", Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", slow))
    found = changes(BY_NAME["zap leafs"], *measure(BY_NAME["zap leafs"], (native("6.12"), slower)))
    assert [each.what for each in found] == ["remote flushes of all", "ns per SPTE"]
    assert (found[0].before, found[0].after) == ("0", "262,144")
    assert float(found[1].after) > 2 * float(found[1].before)


def test_a_crash_is_told() -> None:
    """The C of the user's tree may do anything."""
    crash = native("6.12", Edit("tdp_mmu_zap_leafs", REPLACE, r"!root->role", "!((struct kvm_mmu_page *)0)->role"))
    assert changed("unmap", native("6.12"), crash) == {"fails": ("it ends", "it ends by SIGSEGV")}


def test_against_names_what_of_a_patch_never_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No verdict is another, and nothing is shown: the exit code says so."""
    monkeypatch.setattr("shootdown.cli.against.compare", lambda libraries, tell: [])
    name, file = tree("6.12"), "virt/kvm/kvm_main.c"
    patch = tmp_path / "a.patch"
    patch.write_text(f"--- a/{file}\n+++ b/{file}\n@@ -0,0 +1 @@\n+static int odd;\n")
    arguments = ["check", "--tree", name, "--patch", str(patch), "--against", name, "--tiny", "unmap-leafs"]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert done.return_value == 3
    assert "0 verdicts changed, 1 the same." in done.output and f"not exercised: {file}:" in done.output


def test_against_tells_verdicts_and_costs() -> None:
    """A tree against itself: nothing changed, exit code 0, without any work on costs; the JSON keeps its schema."""
    name = tree("6.12")
    arguments = ["check", "--tree", name, "--against", name, "--tiny", "unmap-leafs"]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert done.return_value == 0, done.output
    assert "0 verdicts changed, 1 the same." in done.output and "Costs: none changed" in done.output
    printed = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False).output
    jsonschema.validate(json.loads(printed), schemas()["check-against"])
    assert compare((native("6.12"),) * 2) == []
