"""Schedule files: a way to a broken promise, saved with all that it takes to follow it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import InputError, reason, text_of
from ...mmu.behaviour import BEHAVIOURS
from ...mmu.policies.registry import POLICIES
from ..litmus.build import build
from ..litmus.cases import BUFFERS_MAX, Case
from ..litmus.litmus import Geometry, embedded
from ..program.steps import LIVELOCK
from ..search.layout import CHOICES
from ..search.livelock import livelock
from ..search.model import Model
from ..search.replay import events_of
from ..search.rows import Restart
from ..search.search import search, standing, step
from ..source.source import Source
from .places import Places
from .schedule import FINE_STATES, Schedule

FORMAT = "shootdown schedule 1"
OTHER = "the sources are not those of the schedule"

Taken = tuple[str, int, list[str]]
"""Task, choice and the texts of the accesses of a step."""


def document(schedule: Schedule, patch: str) -> dict[str, Any]:
    """What a schedule file holds: all that is needed to follow it again, and the texts that must come out."""
    model, case, places = schedule.model, schedule.case, Places(schedule.model)
    return {
        "format": FORMAT,
        "test": case.test.name,
        "text": Path(case.test.path).read_text(encoding="utf-8"),
        "policy": case.policy,
        "behaviour": case.behaviour,
        "geometry": vars(case.geometry),
        "movers": model.movers,
        "buffers": case.buffers,
        "ranged": case.ranged,
        "kinds": sorted(model.read_kinds),
        "patch": patch,
        "steps": [
            {
                "task": model.setting.programs[taken[1]].name,
                "choice": taken[2],
                "accesses": [places.tell(event) for event in events_of(model, [taken])],
            }
            for taken in schedule.path
        ],
        "broken": schedule.broken,
    }


def save(data: dict[str, Any], path_: Path) -> None:
    """Write a schedule file. Raises InputError where that is impossible."""
    write(path_, json.dumps(data, indent=1) + "\n")


def write(path_: Path, text: str) -> None:
    """Write a file. Raises InputError where that is impossible."""
    try:
        path_.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path_, error) from None


def try_to_save(path_: Path) -> None:
    """Raise InputError if a schedule could not be written there, and leave everything as it is."""
    new = not path_.exists()
    try:
        path_.open("ab").close()
        if new:
            path_.unlink()
    except OSError as error:
        raise _unwritable(path_, error) from None


def _unwritable(path_: Path, error: OSError) -> InputError:
    return InputError(f"{path_}: cannot write: {reason(error)}")


def read(path_: Path) -> dict[str, Any]:
    """Read a schedule file. Raises InputError if it is none."""
    try:
        data = json.loads(text_of(path_))
    except (ValueError, RecursionError):
        raise InputError(f"{path_}: not a schedule: no JSON; give a file that check --save wrote") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        of_tree = isinstance(data, dict) and "tree" in data
        advice = "it is of a kernel tree: add --tree" if of_tree else "give a file that check --save wrote"
        raise InputError(f"{path_}: not a schedule of the form '{FORMAT}'", advice=advice)
    kinds = {"test": str, "text": str, "policy": str, "behaviour": str, "geometry": dict, "movers": bool, "patch": str,
             "steps": list, "broken": int}  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(data.get(key), kind):
            raise InputError(f"{path_}: damaged: '{key}' is missing or no {kind.__name__}")
    return data


def follow(data: dict[str, Any], name: str, source: Source) -> Schedule:
    """Take the steps of a schedule again. Raises InputError where the code goes another way than it did."""
    if data["policy"] not in POLICIES or data["behaviour"] not in BEHAVIOURS:
        raise InputError(f"{name}: damaged: no such policy or behaviour")
    test = embedded(data["test"], data["text"], name)
    try:
        geometry = Geometry(**data["geometry"])
        if geometry not in (test.full, test.tiny) or not data["steps"]:
            raise ValueError
        kinds = {int(kind) for kind in data.get("kinds", [])}
        taken = [(str(each["task"]), int(each["choice"]), list(each["accesses"])) for each in data["steps"]]
    except (TypeError, KeyError, ValueError):
        raise InputError(f"{name}: damaged: its geometry or steps are not as --save writes them") from None
    if not 0 <= data.get("buffers", 0) <= BUFFERS_MAX:
        raise InputError(f"{name}: damaged: no such store buffers")
    case = Case(test, data["policy"], data["behaviour"], geometry, data.get("buffers", 0), bool(data.get("ranged")))
    model = Model(build(case, source), movers=data["movers"])
    # Which words matter was known when the steps were taken; a store to one that does not is no step of its own.
    model.read_kinds.update(kinds)
    model.begin()
    while True:
        try:
            return _follow(model, case, taken, data["broken"], name)
        except Restart:
            continue  # the model knows better now which words matter


def _follow(model: Model, case: Case, taken: list[Taken], kind: int, name: str) -> Schedule:
    names = [program.name for program in model.setting.programs]
    places = Places(model)
    state, broken, found, program = 0, 0, [], -1
    for number, (task, choice, texts) in enumerate(taken, 1):
        if task not in names or not 0 <= choice < CHOICES:
            raise InputError(f"{name}: step {number}: the test has no task '{task}' or no choice {choice}")
        program = names.index(task)
        after, broken = step(model, state, program, choice)
        if after < 0:
            raise InputError(f"{name}: step {number}: {task} cannot go on here; {OTHER}")
        found.append((state, program, choice, after))
        now = [places.tell(event) for event in events_of(model, found[-1:])]
        if now != texts:
            raise InputError(
                f"{name}: step {number}: the schedule says '{'; '.join(texts)}', the code does '{'; '.join(now)}'; "
                f"{OTHER}"
            )
        state = after
    if not broken:
        broken, program = standing(model, state)
    if not broken and kind == LIVELOCK:
        # What is round the corner of its last state takes a search.
        whole = Model(model.setting, movers=model.movers)
        again = None if search(whole, FINE_STATES).stopped else livelock(whole)
        broken, program = (LIVELOCK, again.tasks) if again else (0, -1)
    return Schedule(case, model, found, broken, state, program)
