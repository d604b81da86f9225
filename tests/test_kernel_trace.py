"""What a recording's users did, done to the kernel's C and to our MMU: both stay alike.

Tests that need a kernel's source take it from tests/trees.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from shootdown.build_info import compiled
from shootdown.cli.main import cli
from shootdown.errors import InputError
from shootdown.kernel.compare import recorded as recorded_module
from shootdown.kernel.compare.differ import play
from shootdown.kernel.compare.operations import Operation
from shootdown.kernel.compare.pair import Pair
from shootdown.kernel.compare.recorded import Recorded, recorded
from shootdown.kernel.compare.told import EVERY_ACT
from shootdown.kernel.compare.trace_diff import follow
from shootdown.kernel.library.native import SLOTS, Config, NativeVm
from shootdown.mmu.access import WRITE
from shootdown.trace.read import read_trace
from shootdown.trace.replay.record import WANTED
from tests.corpus import SAMPLE, carried, get, name
from tests.edits import REPLACE, Edit
from tests.pairs import both_stop
from tests.structure import ROOT
from tests.test_cli import schemas
from tests.trees import native, tree

SHORT = ("6.1-nxhuge", "6.1-manual-zlib", "6.12-smm", "6.12-text")
"""Those that take no second each."""


def told(path: Path) -> list[Recorded]:
    """The VMs of a recording."""
    return recorded(read_trace(str(path), WANTED))


def version_of(path: Path) -> str:
    """The kernel that was recorded."""
    return name(path).partition("-")[0]


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if name(path) in SHORT else pytest.mark.slow, id=name(path)) for path in carried()],
)
def test_both_do_the_same_with_what_was_recorded(path: Path) -> None:
    """All operations can be done, none stops at an assertion, and after none the two differ."""
    vms = told(path)
    found = follow(native(version_of(path)), version_of(path), vms, along=compiled())
    assert found and len(found) == len(vms)
    for each in found:
        assert each.difference is None, each.difference and each.difference.text()
        assert not each.stopped and not each.undone
        assert set(each.recorded.left_out) <= {"unknown"}
        assert each.done["fault"] > 0 or not any(one.name == "fault" for one in each.recorded.operations)


@pytest.mark.slow
def test_the_cpus_bits_are_set_where_the_record_has_them() -> None:
    """Where pages were aged and used again, or were cleaned and written, and only there."""
    (found,) = follow(native("6.1"), "6.1", told(get("6.1-huge1g")))
    assert found.done["used"] == 1
    found, _ = follow(native("6.12"), "6.12", told(get("6.12-splitting")))
    assert found.done["used"] > 10


def test_a_planted_difference_is_found() -> None:
    """A flush that is forgotten comes with few operations."""
    forgets = Edit("tdp_mmu_zap_leafs", REPLACE, r"flush = true", "flush = false")
    found = follow(native("6.12", forgets), "6.12", told(get("6.12-text")), patience=20)
    difference = found[-1].difference
    assert difference is not None and "flushes" in difference.what
    assert len(difference.operations) < 8
    assert difference.operations[-1].name in ("range_start", "release", "region")


@pytest.mark.parametrize("of_it", [True, False], ids=["in its table", "in another"])
def test_a_difference_is_told_of_the_operation_that_made_it(of_it: bool) -> None:
    """Be it one that its gfns lead to or not, and at whichever operation it is."""
    (vm,) = told(get("6.12-text"))
    vm = replace(vm, operations=vm.operations[:600])
    faults = [n for n, each in enumerate(vm.operations) if each.name == "fault"]
    where = faults[-20]
    tables = {vm.operations[n].numbers[1] >> 9 for n in faults[-20:]}
    pages = [vm.operations[n].numbers[1] for n in faults[:-20]]
    page = next(page for page in reversed(pages) if (page >> 9 in tables) == of_it)

    def plant(pair: Pair, number: int) -> None:
        if number == where:
            pair.c.poke(0, page, 1 << 62)

    (found,) = follow(native("6.12"), "6.12", [vm], plant=plant, patience=0)
    assert found.difference is not None
    assert found.tried == where + 1 and found.last == (vm.operations[where], vm.times[where])
    at = found.as_json(float)["at"]
    assert at == {"operation": ["fault", *vm.operations[where].numbers], "time": float(vm.times[where])}
    played = play(native("6.12"), "6.12", vm.config, vm.operations, 1000, plant, slots=SLOTS, along=True)
    assert (played.at == where) == of_it


def test_that_both_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the operation; what came before it counts as compared."""
    monkeypatch.setitem(EVERY_ACT, "release", both_stop)
    found = follow(native("6.1"), "6.1", told(get("6.1-nxhuge")))
    assert {each.stopped for each in found} == {"release: here in the C, there in ours"}
    arguments = ["kernel", "diff", tree("6.1"), "--trace", str(get("6.1-nxhuge"))]
    said = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert said.return_value == 3 and "VM 1: both stop in release" in said.output


@pytest.mark.parametrize(
    ("limit", "message"), [("SLOTS", "more than 0 memory slots"), ("WORDS", "pages is logged, and bitmaps of no more")]
)
def test_what_there_is_no_room_for_is_refused(limit: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number that would have to be larger, and where it is."""
    monkeypatch.setattr(recorded_module, limit, 0)
    with pytest.raises(InputError, match=message):
        told(SAMPLE)


def test_the_host_is_believed_beyond_8_gib() -> None:
    """Its frame, rights and nothing else, of a page high up; and a VM that comes after knows nothing of it."""
    gfn, pfn = (1 << 28) + 5, 0x123456
    for frame in (pfn, gfn):
        vm = NativeVm(native("6.12"), Config())
        vm.set_memory_region(0, 0, 1 << 28, 1024, 0)
        if frame == pfn:
            vm.host(gfn, pfn=pfn, writable=0)
        vm.enter(0)
        vm.fault(0, gfn, 0)
        vm.fault(0, gfn + 1, 0)
        rows = vm.rows()
        leafs = {rows[n + 1]: rows[n + 2] >> 12 & 0xFFFFFFFFF for n in range(0, len(rows), 4) if rows[n] == 1}
        assert leafs == {gfn: frame, gfn + 1: gfn + 1}
    assert vm.fault(0, gfn, WRITE) >= 0


def test_the_command_tells_what_was_done(tmp_path: Path) -> None:
    """As text and as a document; of a recording with nothing in it, that; two sources at once are refused."""
    runner = CliRunner()
    arguments = ["kernel", "diff", tree("6.12"), "--trace"]
    said = runner.invoke(cli, [*arguments, str(get("6.12-smm"))], standalone_mode=False)
    assert said.return_value == 0 and "no difference in" in said.output and "host_maps" in said.output
    document = json.loads(
        runner.invoke(cli, [*arguments, str(get("6.12-smm")), "--json"], standalone_mode=False).output
    )
    jsonschema.validate(document, schemas()["kernel-diff-trace"])
    assert len(document["vms"]) == 12
    empty = runner.invoke(cli, [*arguments, str(ROOT / "tests" / "data" / "empty.dat")], standalone_mode=False)
    assert empty.return_value == 3 and "nothing is compared" in empty.output
    assert runner.invoke(cli, [*arguments, str(SAMPLE), "--litmus"]).exit_code == 1
    assert runner.invoke(cli, [*arguments, str(tmp_path / "none")]).exit_code == 1


def test_operations_of_a_recording_are_known() -> None:
    """Each has an act, with as many numbers as that takes."""
    names = {each.name for path in carried() if name(path) in SHORT for vm in told(path) for each in vm.operations}
    assert {"fault", "host_maps", "region", "range_start"} <= names <= set(EVERY_ACT)
    assert str(Operation("range_start", (0, 0x200, 1))) == "range_start 0 0x200 1"
