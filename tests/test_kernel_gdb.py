"""Schedules of a tree's C under gdb."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shootdown.cli.check import command
from shootdown.errors import InputError
from tests.toy_library import toy
from tests.trees import tree

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
TOY = """
import sys
from pathlib import Path
from shootdown.kernel.explore.run import explore
from shootdown.kernel.explore.gdb import step
from tests.test_kernel_explore import REFUTED
scenario, _ = REFUTED["no flush of a table"]
step(Path(sys.argv[1]), scenario, explore(Path(sys.argv[1]), scenario))
"""


def under_gdb(asked: str, *arguments: str) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """What gdb answers to commands from a pipe, one by one."""
    done = subprocess.run([sys.executable, *arguments], input=asked, capture_output=True, text=True, check=False)
    return done.stdout.split("(gdb) ")[1:], done


def at_rows(told: str, stops: list[str], numbers: tuple[int, ...]) -> None:
    """Each stop shows its row, and the frame that is selected is at the file and line which the row names."""
    places = dict(re.findall(r"^ {1,2}(\d+) .* \+?(\w+\.c:\d+)$", told, re.M))
    for row, stop in zip(numbers, stops, strict=True):
        assert re.search(rf"^ *{row} .* \+?{re.escape(places[str(row)])}$", stop, re.M), stop
        (frame,) = re.findall(r"^#\d+ [\s\S]*? at (\S+)$", stop, re.M)
        assert frame.rpartition("/")[2] == places[str(row)]


def saved(folder: Path, version: str = "6.1", test: str = "link-and-collapse") -> tuple[str, str]:
    """A tree with a known defect, and its schedule."""
    name, file = tree(version), folder / "schedule.json"
    arguments = ["--tree", name, test, "--tiny", "--save", str(file)]
    assert CliRunner().invoke(command, arguments, standalone_mode=False).return_value == 2
    return name, str(file)


@needs_gdb
def test_gdb_stops_where_each_row_of_the_schedule_says(tmp_path: Path) -> None:
    """Forward, back and to the end: the frame that is selected is at the file and line that the row names."""
    name, file = saved(tmp_path)
    arguments = ("-m", "shootdown", "check", "--tree", name, "--schedule", file, "--gdb")
    (told, *stops, end, trace, _, _, _), done = under_gdb(
        "rows\nrow 27\nrow 28\nrow 2\nrow\nrow end\nbt\nrow 99\nrow\n", *arguments
    )
    assert done.returncode == 2, done.stderr
    at_rows(told, stops, (27, 28, 2, 3))
    assert "SIGSEGV" in end
    assert "BROKEN: memory fault at address 0x8" in end
    assert "tdp_mmu_unlink_sp" in trace
    assert "kvm_tdp_mmu_zap_collapsible_sptes" in trace
    assert done.stderr.count("there are rows 1 to ") == 2


@needs_gdb
@pytest.mark.slow
def test_gdb_shows_the_line_and_the_variables_of_6_12(tmp_path: Path) -> None:
    """Where an entry of 6.12 changes last, the line of the user's tree is printed, and its variables have values."""
    name, file = saved(tmp_path, "6.12", "read-fault-upgrade")
    arguments = ("-m", "shootdown", "check", "--tree", name, "--schedule", file, "--gdb")
    (told, *_), _ = under_gdb("rows\n", *arguments)
    row = re.findall(r"^ {1,2}(\d+) .*(?:cmpxchg|xchg).* tdp_mmu\.c:\d+$", told, re.M)[-1]
    (stop, entry, *_), done = under_gdb(f"row {row}\nprint iter->level\n", *arguments)
    assert done.returncode == 2
    at_rows(told, [stop], (int(row),))
    assert re.search(r"^\d+\t\s*\S", stop, re.M)
    assert re.search(r"^\$1 = [1-5]$", entry, re.M), entry


@needs_gdb
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_any_library_that_explores_can_be_stepped_through() -> None:
    """On the toy MMU, with no tree: rows stop in its file, where bt begins; what breaks between steps has no frame."""
    asked = "rows\nrow\nrow\nbt\nrow end\n"
    (told, *stops, trace, end, _), done = under_gdb(asked, "-c", TOY, str(toy("-Og")))
    assert done.returncode == 0, done.stderr
    at_rows(told, stops, (1, 2))
    assert re.match(r"#[1-9]\d* .* at \S*toy\.c:", trace.replace("\n", " ")), trace
    assert "BROKEN: vCPU0 runs the guest and can still walk into a page table" in end and "#" not in end


def test_without_gdb_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is named, with what to do."""
    name, file = saved(tmp_path)
    found = shutil.which
    monkeypatch.setattr(
        "shootdown.kernel.explore.gdb.shutil.which", lambda name: None if name == "gdb" else found(name)
    )
    with pytest.raises(InputError, match="gdb is not found; install gdb"):
        CliRunner().invoke(
            command, ["--tree", name, "--schedule", file, "--gdb"], standalone_mode=False, catch_exceptions=False
        )


def test_gdb_goes_with_a_schedule_of_a_tree() -> None:
    """What cannot be stepped through is refused."""
    for arguments, message in (
        (["--gdb"], "--gdb goes with --tree or --debian only"),
        (["--tree", ".", "--step"], "--step is about our MMU"),
        (["--tree", ".", "--gdb"], "--gdb goes with --schedule"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
