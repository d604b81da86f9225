"""Schedules of a tree's C under gdb."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shootdown.cli.check import command
from shootdown.errors import InputError
from tests.trees import tree

needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")


def saved(folder: Path) -> tuple[str, str]:
    """A tree with a known defect, and its schedule."""
    name, file = tree("6.1"), folder / "w1.json"
    arguments = ["--tree", name, "link-and-collapse", "--tiny", "--save", str(file)]
    assert CliRunner().invoke(command, arguments, standalone_mode=False).return_value == 2
    return name, str(file)


@needs_gdb
def test_gdb_stops_where_each_row_of_the_schedule_says(tmp_path: Path) -> None:
    """Forward, back and to the end: the frame that is selected is at the file and line that the row names."""
    name, file = saved(tmp_path)
    asked = "rows\nrow 27\nrow 28\nrow 2\nrow\nrow end\nbt\nrow 99\nrow\n"
    done = subprocess.run(
        [sys.executable, "-m", "shootdown", "check", "--tree", name, "--schedule", file, "--gdb"],
        input=asked, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    table, *stops, end, trace, _, _, _ = done.stdout.split("(gdb) ")[1:]
    places = dict(re.findall(r"^ {1,2}(\d+) .* \+?(\w+\.c:\d+)$", table, re.M))
    assert len(stops) == 4
    for row, stop in zip((27, 28, 2, 3), stops, strict=True):
        assert re.search(rf"^ *{row} .* \+?{re.escape(places[str(row)])}$", stop, re.M), stop
        (frame,) = re.findall(r"^#\d+ [\s\S]*? at (\S+)$", stop, re.M)
        assert frame.endswith(f"/{places[str(row)]}")
    assert "SIGSEGV" in end
    assert "BROKEN: memory fault at address 0x8" in end
    assert "tdp_mmu_unlink_sp" in trace
    assert "kvm_tdp_mmu_zap_collapsible_sptes" in trace
    assert done.stderr.count("there are rows 1 to ") == 2


def test_without_gdb_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is named, with what to do."""
    name, file = saved(tmp_path)
    found = shutil.which
    monkeypatch.setattr("shootdown.kernel.gdb.shutil.which", lambda name: None if name == "gdb" else found(name))
    with pytest.raises(InputError, match="gdb is not found; install gdb"):
        CliRunner().invoke(
            command, ["--tree", name, "--schedule", file, "--gdb"], standalone_mode=False, catch_exceptions=False
        )


def test_gdb_goes_with_a_schedule_of_a_tree() -> None:
    """What cannot be stepped through is refused."""
    for arguments, message in ((["--gdb"], "go with --tree"), (["--tree", ".", "--gdb"], "--gdb goes with --schedule")):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)
