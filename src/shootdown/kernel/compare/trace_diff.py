"""The operations of a recording on both programs: the kernel's C and our MMU do what its users did, and stay alike."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..library.native import SLOTS, calls
from .differ import Difference, Found, Plant, play_apart, shrink
from .operations import Operation
from .recorded import Recorded

SELDOM: Final = 100
"""All entries of a recorded VM, which may be many, are compared this seldom."""
PATIENCE: Final = 120
"""Seconds that a story is made shorter for."""


@dataclass(frozen=True)
class Followed:
    """What came of one VM.

    tried    how many operations, the last of which made the difference if there is one
    done     how many of them were, by name
    undone   how many were not, since they could not be, by name
    stopped  the assertion at which both stopped, "" if they came to the end
    """

    recorded: Recorded
    tried: int
    done: Counter[str]
    undone: Counter[str]
    stopped: str
    difference: Difference | None

    @property
    def last(self) -> tuple[Operation, int]:
        """The last that was tried, and when it began, as the recording's clock has it."""
        return self.recorded.operations[self.tried - 1], self.recorded.times[self.tried - 1]

    def as_json(self, seconds: Callable[[float], float]) -> dict[str, Any]:
        """For programs; ``seconds``: of the recording's clock."""
        operation, time = self.last
        at = {"operation": [operation.name, *operation.numbers], "time": seconds(time)}
        return {
            "tried": self.tried,
            "at": at if self.difference else None,
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
    along: bool = True,
    differs: Callable[[], None] = lambda: None,
) -> list[Followed]:
    """Do what a recording tells, VM by VM, up to a difference, with as few operations as were soon found.

    Unless ``along``, entries are only compared where all are: the same is found, later, and traced back. ``differs`` is
    called where the two do.
    """
    calls(library)
    found: list[Followed] = []
    for number, each in enumerate(told):
        played = _played(library, behaviour, each, plant, along)
        tried = played.at + 1 if played.at >= 0 else len(each.operations)
        difference = None
        if played.at >= 0:
            differs()
            operations = each.operations[:tried]
            difference = _story(library, behaviour, each, operations, played.what, number, plant, patience)
        undone = Counter(each.operations[n].name for n in played.undone if each.operations[n].name != USED)
        found.append(Followed(each, tried, Counter(played.done), undone, played.stopped, difference))
        tell(sum(one.tried for one in found))
        if difference:
            break
    return found


def _played(library: Path, behaviour: str, each: Recorded, plant: Plant | None, along: bool) -> Found:
    """All operations of a VM, up to that which makes the first difference."""

    def part(operations: list[Operation], every: int, first: int = 0) -> Found:
        return play_apart(
            library, behaviour, each.config, operations, every, plant, slots=SLOTS, first=first, along=along
        )

    played = part(each.operations, SELDOM)
    if played.at < 0:
        return played
    # An operation may have changed what none of its gfns leads to: see after each since all was compared last.
    again = part(each.operations[: played.at + 1], 1, max(0, played.at - SELDOM))
    return again if again.at >= 0 else played


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
