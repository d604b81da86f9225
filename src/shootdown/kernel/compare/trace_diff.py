"""The operations of a recording on both programs: the kernel's C and our MMU do what its users did, and stay alike."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..library.native import SLOTS, calls
from .differ import Difference, Plant, play_apart, shrink
from .operations import Operation
from .recorded import Recorded

SELDOM: Final = 100
"""Entries of a recorded VM, which may be many, are compared this seldom."""
PATIENCE: Final = 120
"""Seconds that a story is made shorter for."""


@dataclass(frozen=True)
class Followed:
    """What came of one VM.

    tried    how many operations; ``done`` how many of them were, by name
    undone   how many were not, since they could not be, by name
    stopped  the assertion at which both stopped, "" if they came to the end
    """

    recorded: Recorded
    tried: int
    done: Counter[str]
    undone: Counter[str]
    stopped: str
    difference: Difference | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "tried": self.tried,
            "done": dict(self.done),
            "undone": dict(self.undone),
            "left_out": self.recorded.left_out,
            "stopped": self.stopped,
            "difference": self.difference and self.difference.as_json(),
        }


def follow(
    library: Path,
    behaviour: str,
    told: Sequence[Recorded],
    *,
    tell: Callable[[int], None] = lambda done: None,
    plant: Plant | None = None,
    patience: float = PATIENCE,
) -> list[Followed]:
    """Do what a recording tells, VM by VM, up to a difference, with as few operations as were soon found."""
    calls(library)
    found: list[Followed] = []
    for number, each in enumerate(told):
        played = play_apart(library, behaviour, each.config, each.operations, SELDOM, plant, slots=SLOTS)
        tried = played.at + 1 if played.at >= 0 else len(each.operations)
        difference = None
        if played.at >= 0:
            operations = each.operations[:tried]
            difference = _story(library, behaviour, each, operations, played.what, number, plant, patience)
        undone = Counter(each.operations[n].name for n in played.undone if each.operations[n].name != USED)
        found.append(Followed(each, tried, Counter(played.done), undone, played.stopped, difference))
        tell(sum(one.tried for one in found))
        if difference:
            break
    return found


USED: Final = "used"
"""A page whose entry has A and D already leaves nothing to be done."""


def _story(
    library: Path,
    behaviour: str,
    about: Recorded,
    operations: list[Operation],
    what: str,
    number: int,
    plant: Plant | None,
    patience: float,
) -> Difference:
    def differs(fewer: list[Operation]) -> bool:
        return play_apart(library, behaviour, about.config, fewer, len(fewer), plant, slots=SLOTS).at >= 0

    short = shrink(differs, operations, time.monotonic() + patience)
    played = play_apart(library, behaviour, about.config, short, 1, plant, slots=SLOTS)
    if played.at >= 0:
        short, what = short[: played.at + 1], played.what
    return Difference(about.config, short, what, -1, number)
