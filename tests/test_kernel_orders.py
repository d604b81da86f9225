"""A litmus test is one thing on both programs: its operations, in many orders, leave the C and our MMU alike."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from random import Random

import jsonschema
import pytest
from click.testing import CliRunner

from shootdown.check.litmus.litmus import Litmus, read_litmus, suite
from shootdown.cli.main import cli
from shootdown.kernel.compare.litmus_diff import compare
from shootdown.kernel.compare.orders import WAIT, real_gfn, serial, situation, woven
from shootdown.kernel.compare.told import EVERY_ACT
from tests.edits import REPLACE, Edit
from tests.pairs import both_stop
from tests.test_cli import schemas
from tests.trees import VERSIONS, native, tree

LEFT_OUT = {"fault-no-memory", "split-no-memory", "split-other-huge", "log-on-1g"}
"""Where memory for tables may run out, which it does not here, or logging begins in a slot of 1G, which it cannot."""
KERNEL = [test for test in suite() if set(test.behaviours) != {"5.17"}]


def suite_for(version: str, *names: str) -> list[Litmus]:
    """Those of the suite, or some, that are for a kernel."""
    return [test for test in suite() if test.is_for(version) and (not names or test.name in names)]


@pytest.mark.parametrize("version", VERSIONS)
def test_all_litmus_tests_leave_both_alike(version: str) -> None:
    """After each operation, in orders of whole tasks and in mixed ones; what of a test is not in them is named."""
    found = compare(native(version), version, suite_for(version), 2, 1, most=6)
    assert len(found) > 110
    for each in found:
        assert each.difference is None, each.difference and each.difference.text()
        assert not each.stopped
        assert bool(each.warned) == (each.test.name == "nx-recovery-lost-slot" and version != "6.1"), (
            each.test.name,
            each.warned,
        )
        assert bool(each.left_out) == (each.test.name in LEFT_OUT), (each.test.name, each.left_out)
    assert sum(each.serial + each.woven for each in found) > 500


FORGETS = Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "flush = false")
OTHER_BIT = Edit(
    "wrprot_gfn_range", REPLACE, r"PT_WRITABLE_MASK;", "(PT_WRITABLE_MASK | shadow_mmu_writable_mask);"
)  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "name", "operations", "what"),
    [
        (FORGETS, "unmap-leafs", ["create", "access", "serve", "range_start"], "flushes, first gfn and pages"),
        (OTHER_BIT, "log-on", ["create", "access", "serve", "log_on"], "mmu-w"),
    ],
    ids=["a flush that is forgotten", "a bit that is another"],
)
def test_a_tree_that_does_otherwise_is_found(edit: Edit, name: str, operations: list[str], what: str) -> None:
    """With a list of operations none of which can be left out."""
    (found,) = compare(native("6.12", edit), "6.12", suite_for("6.12", name), 2, 1)
    assert found.difference is not None
    names = [each.name for each in found.difference.operations]
    assert names[0] == operations[0] and names[-1] == operations[-1] and len(names) <= len(operations)
    assert what in found.difference.what


def test_what_can_be_done_in_no_order_is_named(tmp_path: Path) -> None:
    """A log that nobody keeps is not read: the test's task is told."""
    path = tmp_path / "unlogged.toml"
    path.write_text(
        'promise = "None."\ngeometry = {levels = 2, tables = 3, vcpus = 1}\n[[slot]]\npages = 2\n'
        '[[vcpu]]\ngfns = [0]\n[[host]]\nname = "user"\nrun = "clear_log"\n'
    )
    (found,) = compare(native("6.12"), "6.12", [read_litmus(path)], 2, 1)
    assert found.difference is None
    assert [text.partition(" could")[0] for text in found.left_out] == ["user: read_log 0", "user: clear_read 0"]


def test_that_both_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs that stop at an assertion are alike, and what follows is not compared."""
    monkeypatch.setitem(EVERY_ACT, "range_end", both_stop)
    (found,) = compare(native("6.12"), "6.12", suite_for("6.12", "unmap-leafs"), 1, 1)
    assert found.difference is None
    assert found.stopped == ("range_end 0 1: here in the C, there in ours",)


def test_the_command_compares_tests_that_are_named() -> None:
    """As text and as a document; a name that is none, and a name without --litmus, are refused."""
    runner = CliRunner()
    arguments = ["kernel", "diff", tree("6.12"), "--litmus", "unmap-leafs", "split-no-memory", "--orders", "2"]
    said = runner.invoke(cli, arguments, standalone_mode=False)
    assert said.return_value == 0
    assert "unmap-leafs: same in all 6 of whole tasks and 2 mixed orders" in said.output
    assert "not here: memory for tables never runs out" in said.output
    document = json.loads(runner.invoke(cli, [*arguments, "--json"], standalone_mode=False).output)
    jsonschema.validate(document, schemas()["kernel-diff-litmus"])
    assert [each["test"] for each in document["tests"]] == ["unmap-leafs", "split-no-memory"]
    for wrong in (["--litmus", "no-such-test"], ["unmap-leafs"], ["--litmus", "two-roots-tables"]):
        assert runner.invoke(cli, ["kernel", "diff", tree("6.12"), *wrong]).exit_code == 1


# Orders, for which no tree is needed


@pytest.mark.parametrize("test", KERNEL, ids=lambda test: test.name)
def test_orders_keep_what_each_task_does_in_order(test: Litmus) -> None:
    """Whole or mixed; and no slot changes while a notifier is between its start and its end."""
    about, random = situation(test, test.full), Random(1)
    hosts = [each for each in about.threads if not each.rounds]
    whole, _ = serial(about, 120, random)
    assert len({each.operations for each in whole}) > 1 or len(about.threads) == 1
    for order in [*whole, *(woven(about, random, (0, 1)) for _ in range(10))]:
        running = 0
        for operation in order.operations:
            running += {"range_start": 1, "range_end": -1}.get(operation.name, 0)
            assert not running or operation.name not in WAIT
        for thread in hosts:
            rest = iter(order.operations)
            assert all(operation in rest for operation in thread.operations)
    for operation in (*about.start, *(each for thread in about.threads for each in thread.operations)):
        signature(EVERY_ACT[operation.name]).bind(None, *operation.numbers)


def test_gfns_of_a_test_lie_in_one_table_if_they_do_in_the_test() -> None:
    """Those that share a table of the test's share one here, at each level; what is beyond is beyond all of them."""
    for levels in (2, 3):
        gfns = [real_gfn(gfn, levels) for gfn in range(2**levels + 1)]
        assert gfns == sorted(set(gfns))
        for level in range(1, levels):
            for a in range(2**levels):
                for b in range(2**levels):
                    assert (a >> level == b >> level) == (gfns[a] >> 9 * level == gfns[b] >> 9 * level)
