"""Long runs: verdicts that are kept in a file are printed again and not searched again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shootdown.check.litmus.cases import Case
from shootdown.check.verdict import run as running
from shootdown.check.verdict.verdict import Verdict, check
from shootdown.cli.check import command
from tests.shown import without_times
from tests.structure import ROOT
from tests.test_check_cli import CALL, LITMUS, diff, run
from tests.test_check_output import junit

WORDS = ("unmap-tables", "unmap-leafs", "--tiny", "--policy", "rcu", "--policy", "rcu-literal")
SEED = ROOT / "examples" / "seed"


def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that are searched from here on."""
    found: list[str] = []

    def noted(case: Case, *operands: Any) -> Verdict:
        found.append(str(case))
        return check(case, *operands)

    monkeypatch.setattr(running, "check", noted)
    return found


@pytest.mark.parametrize("more", [(), ("--json",), ("--why",), ("--compact", "--format", "mermaid")])
def test_what_is_kept_is_printed_again(more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run prints what the first did, but for the time that it took, and searches nothing."""
    file = tmp_path / "v"
    first = run(*WORDS, *more, "--resume", str(file))
    found = searches(monkeypatch)
    code, text = run(*WORDS, *more, "--resume", str(file))
    assert (code, unmarked(text)) == (first[0], without_times(first[1]))
    assert "--json" in more or text.count(" kept\n") == 4
    assert found == []


def unmarked(text: str) -> str:
    """What is printed, without saying which verdicts were kept from an earlier run."""
    text = re.sub(r" kept$", " 0.0", text, flags=re.M)
    return without_times(re.sub(r"^kept: .*\n(?: .*\n)*", "", text, flags=re.M))


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts that are missing are searched, in their order; half a line, of a process that was killed, is one."""
    file = tmp_path / "v"
    _, whole = run(*WORDS, "--json", "--resume", str(file))
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 5
    file.write_text("".join(lines[:2]) + lines[2][: len(lines[2]) // 2])
    found = searches(monkeypatch)
    _, again = run(*WORDS, "--json", "--resume", str(file))
    assert len(found) == 3
    verdicts = [
        [(test["name"], test["verdict"], test["states"]) for test in json.loads(t)["tests"]] for t in (whole, again)
    ]
    assert verdicts[0] == verdicts[1]
    assert len(file.read_text().splitlines()) == 5


def test_what_is_asked_for_decides_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that was edited, another geometry, a compact search and a run with --why are other cases."""
    file, test = tmp_path / "v", tmp_path / "t.toml"
    test.write_text(LITMUS)
    run(str(test), "--policy", "rcu", "--resume", str(file))
    found = searches(monkeypatch)
    run(str(test), "--policy", "rcu", "--resume", str(file))
    assert len(found) == 0
    run(str(test), "--policy", "rcu", "--compact", "--resume", str(file))
    assert len(found) == 1
    run(str(test), "--policy", "rcu", "--why", "--resume", str(file))
    assert len(found) == 2
    test.write_text(LITMUS.replace("gfns = [0]", "gfns = [1]"))
    run(str(test), "--policy", "rcu", "--resume", str(file))
    assert len(found) == 3


def test_no_verdict_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran out of a budget is tried again, with another budget."""
    file = tmp_path / "v"
    words = ("zap-all-fast", "--tiny", "--policy", "rcu", "--resume", str(file))
    assert run(*words, "--max-states", "2000")[0] == 3
    found = searches(monkeypatch)
    assert run(*words)[0] == 0
    assert len(found) == 1


def test_verdicts_of_other_sources_are_refused(tmp_path: Path) -> None:
    """A patch makes other sources; with the same patch its verdicts, and the hunks that ran, are known."""
    file, patch, other = tmp_path / "v", tmp_path / "p.diff", tmp_path / "j.xml"
    words = ("unmap-tables", "--tiny", "--policy", "rcu", "--resume", str(file), "--junit", str(other))
    patch.write_text(diff("mmu/policies/rcu.py", CALL, "        kvm.m.free_table(table)"))
    first = run(*words, "--patch", str(patch))
    assert first[0] == 2
    code, text = run(*words, "--patch", str(patch))
    assert (code, unmarked(text)) == (first[0], without_times(first[1]))
    assert "not exercised" not in first[1]
    assert [len(case) for case in junit(other)] == [1]
    code, text = run(*words)
    assert code == 1
    assert "other sources" in text


@pytest.mark.parametrize("text", ["x", "{}\n", "[]\n", '{"format": "shootdown verdicts 1"}\n{}\n', "\udcff"])
def test_what_is_no_file_of_verdicts_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    """A wrong --resume destroys no file."""
    file = tmp_path / "v"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = file.read_bytes()
    code, error = run(*WORDS, "--resume", str(file))
    assert code == 1
    assert str(file) in error
    assert file.read_bytes() == before
    assert run(*WORDS, "--resume", str(tmp_path))[0] == 1


def test_a_damaged_verdict_is_refused(tmp_path: Path) -> None:
    """A line that is JSON and no verdict gets one line, no traceback."""
    file = tmp_path / "v"
    run("unmap-leafs", "--tiny", "--policy", "rcu", "--resume", str(file))
    head, line = file.read_text().splitlines()
    data = json.loads(line)
    del data["result"]["states"]
    file.write_text(f"{head}\n{json.dumps(data)}\n")
    code, error = run("unmap-leafs", "--tiny", "--policy", "rcu", "--resume", str(file))
    assert code == 1
    assert "damaged" in error


def test_the_suite_of_seeds_can_be_resumed_by_workers(tmp_path: Path) -> None:
    """Several processes write the same verdicts as one."""
    texts = []
    for jobs in ("1", "2"):
        file = tmp_path / jobs
        result = CliRunner().invoke(command, [*WORDS, "--jobs", jobs, "--resume", str(file)], standalone_mode=False)
        assert result.return_value == 2
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        texts.append(sorted((line.get("case", ""), line.get("word", "")) for line in lines))
    assert texts[0] == texts[1]
