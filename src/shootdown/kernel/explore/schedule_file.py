"""Saved schedules of a tree's C: all that is needed to follow one again on the same code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...check.litmus.litmus import Geometry, embedded
from ...check.schedule.schedule_file import write
from ...check.verdict.verdict import REFUTED
from ...errors import InputError, text_of
from ..library.build import Library
from ..source.series import Patch
from ..source.tree import Tree
from .abi import WORDS
from .litmus import scenario
from .run import replay
from .scenario import Options, Outcome, Scenario, Schedule
from .verdict import Judged

FORMAT = "shootdown schedule of a tree 1"
KINDS = {"tree": str, "version": str, "patches": list, "test": str, "text": str, "geometry": dict, "options": dict,
         "choices": list, "written": list, "broken": str}  # fmt: skip
_ADVICE = "give a file that check --tree --save wrote"


def save(found: Sequence[Judged], tree: Tree, patches: Sequence[Patch], options: Options, path: Path) -> bool:
    """Write the first schedule, of a test that was not to be refuted if there is one; False if there is none at all."""
    refuted = [each for each in found if each.verdict.word == REFUTED]
    refuted.sort(key=lambda each: each.verdict.case.expected == REFUTED)
    if not refuted:
        return False
    case, outcome = refuted[0].verdict.case, refuted[0].outcome
    data = {
        "format": FORMAT, "tree": tree.name, "version": tree.version, "patches": [patch.where for patch in patches],
        "test": case.test.name, "text": Path(case.test.path).read_text(encoding="utf-8"),
        "geometry": vars(case.geometry), "options": vars(options), "choices": list(outcome.schedule.choices),
        "written": list(outcome.schedule.written), "broken": outcome.broken,
    }  # fmt: skip
    write(path, json.dumps(data, indent=1) + "\n")
    return True


def read(path: Path) -> dict[str, Any]:
    """A saved schedule. Raises InputError if it is none."""
    try:
        data = json.loads(text_of(path))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not a schedule: no JSON", advice=_ADVICE) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: not a schedule of the form '{FORMAT}'", advice=_ADVICE)
    for key, kind in KINDS.items():
        if not isinstance(data.get(key), kind):
            raise InputError(f"{path}: damaged: '{key}' is missing or no {kind.__name__}", advice=_ADVICE)
    return data


def scenario_of(data: dict[str, Any], name: str) -> tuple[Scenario, Schedule]:
    """What a saved schedule is about. Raises InputError if it is damaged."""
    test = embedded(data["test"], data["text"], name)
    try:
        geometry, options = Geometry(**data["geometry"]), Options(**data["options"])
        choices, written = data["choices"], data["written"]
        if (
            geometry not in (test.full, test.tiny)
            or not all(isinstance(value, int) for value in vars(options).values())
            or not all(isinstance(choice, int) and 0 <= choice < 1 << 32 for choice in choices)
            or not all(isinstance(word, int) and 0 <= word < WORDS for word in written)
        ):
            raise ValueError
    except (TypeError, ValueError):
        what = "its geometry, options or choices are not as --save writes them"
        raise InputError(f"{name}: damaged: {what}", advice=_ADVICE) from None
    return scenario(test, geometry, options), Schedule(tuple(choices), tuple(written))


def follow(data: dict[str, Any], name: str, library: Library) -> tuple[Outcome, Scenario]:
    """Take the steps again. Raises InputError where the code goes another way than it did."""
    about, schedule = scenario_of(data, name)
    outcome = replay(library.path, about, schedule)
    if outcome.stopped or outcome.broken != data["broken"]:
        what = outcome.stopped or outcome.message or "nothing breaks"
        raise InputError(f"{name}: the schedule was {data['broken']}, and now: {what}",
                         advice=f"the tree or its patches are not those of the schedule: {_on(data)}")  # fmt: skip
    return outcome, about


def _on(data: dict[str, Any]) -> str:
    """The tree that a schedule was found on, and the patches, which a file names only."""
    files = dict.fromkeys(str(patch).rpartition(":")[0] for patch in data["patches"])
    patches = f"with{''.join(f' --patch {file}' for file in files)}" if files else "without --patch"
    return f"it was saved on Linux {data['version']} {patches}"
