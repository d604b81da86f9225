"""Schedules of a tree's C that were saved: what is none, or is damaged, is refused in a line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shootdown.check.litmus.litmus import suite
from shootdown.errors import InputError
from shootdown.kernel.explore.scenario import Options
from shootdown.kernel.explore.schedule_file import FORMAT, read, scenario_of
from tests.test_check_cli import run

TEST = next(test for test in suite() if test.name == "unmap-leafs")


def saved(**other: Any) -> dict[str, Any]:
    """What --save writes, with other values in some of its places."""
    return {
        "format": FORMAT, "tree": "linux", "version": "6.12.0", "patches": [], "test": TEST.name,
        "text": Path(TEST.path).read_text(), "geometry": vars(TEST.tiny), "options": vars(Options()),
        "choices": [0, 1 << 16], "written": [], "broken": "stale", **other,
    }  # fmt: skip


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    """As the scenario and the schedule that it is about."""
    file = tmp_path / "s.json"
    file.write_text(json.dumps(saved()))
    about, schedule = scenario_of(read(file), "s.json")
    assert about.levels == TEST.tiny.levels and about.options == Options()
    assert schedule.choices == (0, 1 << 16)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe", b"{}", b"[1]", b"[" * 100_000, json.dumps(saved(format="shootdown schedule 1")).encode(),
     json.dumps(saved(choices="0")).encode(), b'{"format": 1}\n{"case": 2}'],
    ids=["empty", "bytes", "nothing", "a list", "deep", "of our MMU", "a text for a list", "two documents"],
)  # fmt: skip
def test_what_is_no_schedule_of_a_tree_is_refused(raw: bytes, tmp_path: Path) -> None:
    """Whatever is in the file, in place of it, or where nothing is."""
    file = tmp_path / "s.json"
    file.write_bytes(raw)
    for path in (file, tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match=str(path)):
            read(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"text": "promise = 3"}, {"text": "\x00"}, {"geometry": {"levels": 99, "tables": 3, "vcpus": 1}},
        {"geometry": {}}, {"options": {"yields": "two"}}, {"options": {"no": 1}}, {"choices": ["a"]},
        {"choices": [-1]}, {"choices": [1 << 32]}, {"written": [1 << 40]}, {"written": [None]},
    ],
    ids=str,
)  # fmt: skip
def test_damage_is_refused_by_the_name_of_the_file(damage: dict[str, Any]) -> None:
    """And not by that of a file in between, nor by an explorer that stumbles over it."""
    with pytest.raises(InputError, match=r"^s\.json: damaged: "):
        scenario_of(saved(**damage), "s.json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--against", ".", "--bisect"), "--schedule, --against and --bisect exclude each other"),
        (("--schedule", "s.json", "--bisect"), "--schedule, --against and --bisect exclude each other"),
        (("--bisect", "--save", "s.json"), "--save goes without --schedule, --against and --bisect"),
    ],
)
def test_what_would_be_left_undone_is_refused(arguments: tuple[str, ...], says: str) -> None:
    """Options of which one would be ignored, before anything is read or built."""
    assert run("--tree", "none", *arguments) == (1, says)
