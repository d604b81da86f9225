"""Verdicts and schedules for other programs: JUnit files, Mermaid diagrams, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from shootdown.check.source.source import place_in
from tests.structure import ROOT
from tests.test_check_cli import CALL, LITMUS, diff, run
from tests.test_cli import schemas

SEED = ROOT / "examples" / "seed"
REFUTED = ("unmap-tables", "--tiny", "--policy", "rcu-literal")

CHILDREN = {"testsuites": {"testsuite"}, "testsuite": {"testcase"}, "testcase": {"failure", "skipped"},
            "failure": set(), "skipped": set()}  # fmt: skip
ATTRIBUTES = {
    "testsuites": set(), "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"name", "classname", "time"}, "failure": {"type", "message"},
    "skipped": {"message"},
}  # fmt: skip


def junit(path: Path) -> ElementTree.Element:
    """The suite in a JUnit file, whose form is what CI servers read."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "testsuites"
    for node in root.iter():
        assert {child.tag for child in node} <= CHILDREN[node.tag]
        assert set(node.attrib) == ATTRIBUTES[node.tag]
    (suite,) = root
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)
    assert float(suite.attrib["time"]) == pytest.approx(sum(float(case.attrib["time"]) for case in cases), abs=0.01)
    return suite


def test_an_expected_refutation_passes_in_junit(tmp_path: Path) -> None:
    """What a test expects passes, a refutation too, whatever the exit code says."""
    file = tmp_path / "j.xml"
    code, _ = run(*REFUTED, "--policy", "rcu", "--junit", str(file))
    assert code == 2
    assert [len(case) for case in junit(file)] == [0, 0]


def test_an_unexpected_refutation_fails_with_its_schedule(tmp_path: Path) -> None:
    """The schedule is in the failure, as the text prints it."""
    file = tmp_path / "j.xml"
    patch = ["--policy", "eager", "--behaviour", "5.17", "--patch", str(SEED / "hunk-1-alone.diff")]
    code, text = run("unmap-tables", "--tiny", *patch, "--junit", str(file))
    assert code == 2
    (case,) = junit(file)
    (failure,) = case
    assert failure.attrib["type"] == "refuted"
    assert failure.text is not None
    table = failure.text[failure.text.index("  # vCPU0") :]
    assert table in text
    assert "BROKEN: vCPU0 runs the guest" in table


def test_what_says_nothing_fails_in_junit(tmp_path: Path) -> None:
    """No verdict, a test that exercises nothing, and a hunk that never ran are failures, not passes."""
    file, patch, idle = tmp_path / "j.xml", tmp_path / "p.diff", tmp_path / "t.toml"
    run("unmap-tables", "--policy", "rcu", "--max-states", "2000", "--junit", str(file))
    assert [case.find("failure").attrib["type"] for case in junit(file)] == ["undetermined"]  # type: ignore[union-attr]
    idle.write_text('exercises = ["zap_root"]\n' + LITMUS.replace('"x"', r'"a \u0001 b"'))
    run(str(idle), "--policy", "rcu", "--junit", str(file))
    (failure,) = junit(file).iter("failure")
    assert (failure.attrib["type"], failure.attrib["message"]) == ("not exercised", "zap_root never ran")
    assert failure.text == "a ? b"
    patch.write_text(diff("mmu/huge_pages.py", "    batch = Batch()", "    batch = Batch(False)"))
    run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch), "--junit", str(file))
    assert [len(case) for case in junit(file)] == [0, 1]


def test_a_junit_file_that_cannot_be_written_is_refused_before_the_search(tmp_path: Path) -> None:
    """--junit into nowhere fails at once."""
    code, text = run("nested-collapses", "--junit", str(tmp_path / "no" / "j.xml"))
    assert code == 1
    assert "j.xml: cannot write: no such file" in text


STATEMENT = re.compile(
    r"sequenceDiagram|    participant (p\d+) as [^#;<\n]+|    (p\d+)->>(p\d+): (?:[^#;<\n]|#\d+;)+"
    r"|    Note over (p\d+)(?:,(p\d+))?: (?:[^#;<\n]|#\d+;)+"
)


def test_a_schedule_can_be_a_diagram(tmp_path: Path) -> None:
    """The diagram is well-formed, has every access of the table in its order, and comes alone with --schedule."""
    file = tmp_path / "s.json"
    _, table = run(*REFUTED, "--save", str(file))
    code, text = run(*REFUTED, "--format", "mermaid")
    assert code == 2
    code, alone = run("--schedule", str(file), "--format", "mermaid")
    assert code == 2
    assert alone.startswith("sequenceDiagram\n") and alone in text
    known: set[str] = set()
    for n, line in enumerate(alone.splitlines()):
        found = STATEMENT.fullmatch(line)
        assert found, line
        assert (line == "sequenceDiagram") == (n == 0)
        new, *used = found.groups()
        assert {key for key in used if key} <= known
        known |= {new} if new else set()
    numbers = [int(number) for number in re.findall(r"^[^:]*: (\d+) ", alone, re.M)]
    assert numbers == [
        int(number)
        for number in re.findall(r"^ {0,2}(\d+) ", table.partition("--- --")[2].partition("BROKEN")[0], re.M)
    ]
    assert "    Note over p2: T1 freed" in alone


def test_what_ends_a_statement_of_a_diagram_is_escaped(tmp_path: Path) -> None:
    """Names come from files: a semicolon or a # in one ends no statement."""
    test = tmp_path / "t.toml"
    test.write_text(LITMUS.replace('"notifier"', '"a;b #1 <x>"'))
    patch = tmp_path / "p.diff"
    patch.write_text(diff("mmu/policies/rcu.py", CALL, CALL.replace("call_rcu", "free_table")))
    zap = test.read_text().replace('"6.12"', '"5.17"').replace("end = 1", "end = 4")
    test.write_text(zap)
    code, text = run(str(test), "--policy", "rcu", "--patch", str(patch), "--format", "mermaid")
    assert code == 2
    assert "participant p1 as a#59;b #35;1 #60;x>" in text


@pytest.mark.parametrize("above", ["/check/main/src", "/home/mmu/src", "/srv/machine/check/policies", "/tmp/copy"])
def test_a_line_of_the_mmu_is_named_wherever_the_package_lies(above: str) -> None:
    """Folders above the package may have any name, such as those of the package's own folders."""
    for place in ("mmu/zap.py", "machine/native.py", "mmu/policies/rcu.py"):
        assert place_in(f"{above}/shootdown/{place}", 7) == f"{place}:7"
    for other in ("check/program/programs.py", "kernel/library/build.py", "cli/check.py", "errors.py"):
        assert place_in(f"{above}/shootdown/{other}", 7) == ""


def test_schedules_are_in_the_json(tmp_path: Path) -> None:
    """JSON has each access with its place and its values; the document keeps its schema, from a search and a file."""
    file = tmp_path / "s.json"
    code, text = run(*REFUTED, "--policy", "rcu", "--format", "json", "--save", str(file))
    assert code == 2
    document = json.loads(text)
    jsonschema.validate(document, schemas()["check"])
    refuted, holds = (test["schedule"] for test in document["tests"])
    assert holds is None
    assert [move["number"] for move in refuted["moves"]] == list(range(1, len(refuted["moves"]) + 1))
    cut = next(move for move in refuted["moves"] if move["access"] == "write gfn 0 L2 = empty")
    assert (cut["task"], cut["to"], cut["word"]) == ("notifier", "memory", "gfn 0 L2")
    assert (cut["before"], cut["after"], cut["spte_after"]) == ("T1", "empty", "0")
    assert re.fullmatch(r"mmu/change\.py:\d+", cut["where"])
    assert any(note["text"] == "T1 freed" for note in refuted["moves"][-1]["notes"])
    again = json.loads(run("--schedule", str(file), "--json")[1])
    jsonschema.validate(again, schemas()["check-schedule"])
    assert again["schedule"] == refuted


def test_forms_that_exclude_each_other_are_refused() -> None:
    """--json is a form; --step goes with tables."""
    assert run(*REFUTED, "--json", "--format", "mermaid")[0] == 1
    assert run("--schedule", "x", "--step", "--format", "mermaid")[0] == 1
    assert run("--schedule", "x", "--step", "--json")[0] == 1
