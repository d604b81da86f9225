"""What the documentation shows is what the program does: outputs, verdicts of the examples, schemas of JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shootdown.check.litmus.litmus import KEYS, read_litmus
from tests import bug_rows, bug_table, functions, known_bugs, seeds, shown
from tests.structure import ROOT
from tests.test_cli import run, schemas


def shown_outputs() -> list[Any]:
    """Every block; those that check the whole suite are slow."""
    found = []
    for path, command, text in shown.blocks():
        named = [word for word in command.split()[2:] if not word.startswith("-")]
        slow = command.startswith("shootdown check") and (not named or "--patch" in command)
        marks = [pytest.mark.slow] * slow
        found.append(pytest.param(command, text, marks=marks, id=f"{path.name}: {command}"))
    return found


@pytest.mark.parametrize(("command", "text"), shown_outputs())
def test_docs_show_what_the_program_prints(command: str, text: str) -> None:
    """The output in README and docs is, to the character but for CPU times, that of the command above it."""
    expected = shown.shown(text, shown.printed(command))
    assert shown.without_times(text) == shown.without_times(expected)


def test_readme_shows_both_commands() -> None:
    """README shows what ``compare`` and ``check`` print, and lines that fit 80 columns."""
    readme = [(command, text) for path, command, text in shown.blocks() if path.name == "README.md"]
    assert [command.split()[1] for command, _ in readme] == ["compare", "check"]
    assert max(len(line) for _, text in readme for line in text.splitlines()) <= 80


def test_known_bugs_are_told_of() -> None:
    """docs/bugs.md is what the rows and the planted bugs make of it; every bug planted for a row is in it."""
    page = bug_table.page()
    assert bug_table.FILE.read_text() == page, "python -m tests.bug_table"
    rows = (*bug_rows.BUGS, *bug_rows.FLUSHES, *bug_rows.RIGHT)
    told = {site for _, _, _, what in rows if isinstance(what, tuple) for site in what}
    sites = {mutation.site for site in told for mutation in bug_table.named(site)}
    assert {mutation.site for mutation in known_bugs.BUGS} <= sites


def test_every_seed_diff_has_a_verdict() -> None:
    """The list names every diff in its folder, and nothing else; docs/checking.md has the same as a table."""
    assert sorted(seeds.rows()) == sorted(path.name for path in seeds.SEED.glob("*.diff"))
    for n, (_, refuted) in enumerate(seeds.rows().values()):
        assert {test for test, cells in seeds.table().items() if "R" in cells.split("|")[n + 1]} == set(refuted)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(seeds.rows()))
def test_seed_diffs_give_the_verdicts_that_their_table_states(name: str) -> None:
    """Each diff is refuted by the tests that the table names and by no other, and every hunk runs."""
    _, refuted = seeds.rows()[name]
    found = seeds.checked(name)
    assert found["exit"] == (2 if refuted else 0)
    assert sorted(seeds.refuted(found)) == sorted(refuted), "python -m tests.seeds"
    assert {test["verdict"] for test in found["tests"]} <= {"holds", "refuted"}
    assert found["not_exercised"] == []


def test_the_litmus_file_of_the_docs_is_the_example() -> None:
    """The file in docs/checking.md is the one in examples/, and every key of the language is told of."""
    guide = (ROOT / "docs" / "checking.md").read_text()
    block = re.search(r"```toml\n(.*?)```", guide, re.S)
    example = ROOT / "examples" / "litmus" / "prefault-notifier.toml"
    assert block and block[1] == example.read_text()
    assert read_litmus(example).policies == ("eager", "rcu")
    told = set(re.findall(r"`([a-z_0-9]+)`", guide))
    assert {key for keys in KEYS.values() for key in keys} - told == set()


def test_check_json_keeps_its_schema(tmp_path: Path) -> None:
    """``check --json`` is as documented: what holds, is refuted or undetermined, and a schedule that is followed."""
    schema, saved = schemas(), tmp_path / "x.schedule"
    for options, code, verdict in (
        (["--tiny", "--policy", "rcu"], 0, "holds"),
        (["--tiny", "--policy", "rcu-literal", "--save", str(saved)], 2, "refuted"),
        (["--policy", "rcu", "--max-states", "1000"], 3, "undetermined"),
    ):
        done = run("check", "unmap-tables", *options, "--json")
        assert done.returncode == code, done.stderr.decode()
        found = json.loads(done.stdout)
        jsonschema.validate(found, schema["check"])
        assert [test["verdict"] for test in found["tests"]] == [verdict]
    done = run("check", "--schedule", str(saved), "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema["check-schedule"])
    assert (found["test"], found["policy"], found["broken"]) == ("unmap-tables", "rcu-literal", True)


def test_json_names_hunks_that_no_test_ran() -> None:
    """A patch whose change never runs is told of, with exit code 3."""
    patch = str(seeds.SEED / "hunk-2-alone.diff")
    done = run("check", "unmap-tables", "--tiny", "--policy", "rcu", "--patch", patch, "--json")
    found = json.loads(done.stdout)
    jsonschema.validate(found, schemas()["check"])
    assert done.returncode == 3
    assert found["not_exercised"] and found["not_exercised"][0].startswith("mmu/policies/eager.py:")


def test_every_function_of_the_kernel_is_found_by_its_name() -> None:
    """docs/mmu.md names each function that some ``Source:`` line of the MMU names, and every file of it."""
    guide = (ROOT / "docs" / "mmu.md").read_text()
    for path in sorted(functions.MMU.rglob("*.py")):
        lines = re.sub(r"\n +", " ", path.read_text())
        for text in re.findall(r"Source: ([^\n]*)", lines):
            names = {*re.findall(r"``(\w+)``", text.split('"""')[0])} - functions.NO_FUNCTIONS
            missing = [name for name in names if not re.search(rf"^ *{name} +\S+\.py|`{name}`", guide, re.M)]
            assert missing == [], path.name
        assert path.name == "__init__.py" or path.parent.name == "policies" or f"`{path.name}`" in guide
