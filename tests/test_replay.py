"""Replay: our MMU, driven with a recording's operations, makes the recorded changes; and whatever else is noticed."""

from __future__ import annotations

import json
import lzma
import random as random_
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shootdown.mmu.spte import is_table
from shootdown.trace.events import Events, Trace
from shootdown.trace.read import read_trace
from shootdown.trace.replay.record import WANTED
from shootdown.trace.replay.replay import replay
from shootdown.trace.replay.result import Result
from tests.corpus import each_carried, each_shared, get
from tests.structure import ROOT
from tests.test_cli import document, run, schemas

CHANGED = "kvmmmu:kvm_tdp_mmu_spte_changed"
FLUSH = "kprobes:kvm_flush_remote_tlbs"
SMALL = ("6.12-smm", "6.1-nxhuge", "6.12-text")
TEXT = ROOT / "tests" / "data" / "text" / "6.12-text-tracefs.txt.xz"


def read(name: str) -> Trace:
    """A carried recording, read anew."""
    return read_trace(str(get(name)), WANTED)


@cache
def replayed(path: Path) -> Result:
    """What the replay of a recording found."""
    return replay(read_trace(str(path), WANTED))


def check(result: Result) -> None:
    """Nearly all changes are predicted exactly, all flushes and frees, and every difference has a cause."""
    assert [d.what for d in result.unexplained] == []
    assert result.determined > 0
    assert result.matched >= 0.999 * result.determined
    assert result.fast_matched == result.fast_faults
    if result.sees_flushes:
        assert result.flushes_matched == result.flushes_recorded - result.flushes_undetermined
        assert result.flushes_predicted == result.flushes_matched
    if result.sees_frees:
        assert result.frees_matched == result.frees_recorded - result.frees_undetermined


@each_carried()
def test_carried_recordings_are_predicted(path: Path) -> None:
    """Every carried recording: at least 99.9 % of the changes, all flushes, and no difference without a cause."""
    check(replayed(path))


@each_shared()
def test_the_collection_is_predicted(path: Path) -> None:
    """The same of the larger collection."""
    check(replayed(path))


def pick(trace: Trace, name: str, rows: NDArray[np.int64]) -> None:
    """Leave out events of a kind, or have some twice."""
    old = trace.events[name]
    fields = {field: column[rows] for field, column in old.fields.items()}
    trace.events[name] = Events(name, old.order[rows], old.time[rows], old.cpu[rows], old.pid[rows], fields)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SMALL), st.randoms(use_true_random=False))
def test_a_corrupted_value_is_noticed(name: str, random: random_.Random) -> None:
    """No new value is an input: a bit that is wrong in any of them is a difference without a cause."""
    trace = read(name)
    values = trace.events[CHANGED].fields["new_spte"]
    i = random.randrange(len(values))
    values[i] ^= np.uint64(0x20)
    result = replay(trace)
    assert result.unexplained
    assert result.matched < result.changes


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_flush_that_is_missing_or_too_many_is_noticed(random: random_.Random) -> None:
    """A recorded flush that is left out, or comes twice, is a difference."""
    for change in ("drop", "twice"):
        trace = read("6.12-thpcollapse")
        events = trace.events[FLUSH]
        i = random.randrange(len(events))
        rows = np.arange(len(events))
        rows = np.delete(rows, i) if change == "drop" else np.insert(rows, i, i)
        pick(trace, FLUSH, rows)
        assert any("flush" in d.what for d in replay(trace).unexplained)


def test_a_change_that_is_missing_is_noticed() -> None:
    """A recorded change that is left out is one that our MMU makes and the kernel did not."""
    trace = read("6.12-smm")
    pick(trace, CHANGED, np.delete(np.arange(len(trace.events[CHANGED])), 5))
    assert replay(trace).unexplained


@pytest.mark.parametrize("name", SMALL)
def test_frames_of_tables_are_only_names(name: str) -> None:
    """Other frames for all tables change nothing (a multiple of 1 GiB off, so that frees still tell which)."""
    trace = read(name)
    events = trace.events[CHANGED]
    levels = events.fields["level"]
    for field in ("old_spte", "new_spte"):
        values = events.fields[field]
        for i, value in enumerate(values.view(np.int64).tolist()):
            if is_table(value, int(levels[i])):
                values[i] ^= np.uint64(0x5_4000_0000)
    result = replay(trace)
    assert (result.matched, result.unexplained) == (replayed(get(name)).matched, [])


# The command


def test_replay_says_that_all_is_equal() -> None:
    """Exit code 0, the figure, and what was taken from the recording; lines fit 80 columns."""
    done = run("replay", str(get("6.12-smm")))
    text = done.stdout.decode("ascii")
    assert done.returncode == 0 and done.stderr == b""
    assert "conformance: 100 % of what the recording determines" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_one_corrupted_value_makes_exit_code_2(tmp_path: Path) -> None:
    """Both values are shown decoded, and where in the kernel's flow they part."""
    text = lzma.decompress(TEXT.read_bytes()).decode()
    assert "new_spte" in text
    line = next(line for line in text.splitlines() if "kvm_tdp_mmu_spte_changed" in line and line.endswith("e67"))
    path = tmp_path / "corrupted.txt"
    path.write_text(text.replace(line, line[:-3] + "e65", 1))
    done = run("replay", str(path))
    assert done.returncode == 2
    shown = done.stdout.decode()
    assert "differences unexplained" in shown
    assert "rwx" in shown and "r-x" in shown and "they part in kvm_tdp_mmu_map" in shown


def test_a_recording_without_changes_makes_exit_code_3(tmp_path: Path) -> None:
    """Nothing to compare is said, not passed over."""
    text = lzma.decompress(TEXT.read_bytes()).decode()
    path = tmp_path / "nothing.txt"
    path.write_text("".join(line for line in text.splitlines(True) if "spte_changed" not in line))
    assert run("replay", str(path)).returncode == 3


def test_json_keeps_its_schema_and_a_table_has_a_line_each() -> None:
    """Several recordings make a table, and one document."""
    paths = [str(get(name)) for name in SMALL]
    jsonschema.validate(document("replay", *paths), schemas()["replay"])
    done = run("replay", *paths)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(SMALL)
    assert max(len(line) for line in lines) <= 80


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    """What is no recording is refused in one line."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 20)
    for arguments in ([str(path)], [str(tmp_path / "none")]):
        done = run("replay", *arguments)
        assert done.returncode == 1 and len(done.stderr.decode().splitlines()) == 1
    assert json.loads(run("replay", str(get("6.12-smm")), "--json").stdout)["command"] == "replay"
