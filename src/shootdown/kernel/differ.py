"""The kernel's C and our MMU driven with the same operations, which are shrunk where the two differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from .acts import ACTS, get_log
from .apart import Step, apart
from .native import Config, calls
from .operations import Operation, draw_config, draw_operations
from .pair import ASKS_FIRST, SLOTS, BothBugged, Pair

SESSION: Final = 250
"""Operations on one VM, before the next is made."""
SECONDS: Final = 120
"""Of the processor's time for them."""


@dataclass(frozen=True)
class Difference:
    """Operations on a VM, after the last of which the two differ, and how.

    seed, session  of which random VM it is the shrunk story
    """

    config: Config
    operations: list[Operation]
    what: str
    seed: int
    session: int

    def text(self) -> str:
        """For people."""
        usual = asdict(Config())
        made = ", ".join(f"{name} {value}" for name, value in asdict(self.config).items() if value != usual[name])
        lines = [f"a VM with {made or 'nothing special'}", *(f"  {n}" for n in self.operations)]
        return "\n".join([*lines, f"after which {self.what}"])

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "config": asdict(self.config),
            "operations": [[each.name, *each.numbers] for each in self.operations],
            "difference": self.what,
            "seed": self.seed,
            "session": self.session,
        }


@dataclass(frozen=True)
class Outcome:
    """How many operations were drawn for how many VMs, how many of each could be done, the first difference if any."""

    operations: int
    sessions: int
    counts: dict[str, int]
    difference: Difference | None


Plant = Callable[[Pair, int], None]
"""Something that is done to a pair before its n-th operation: so that a test can plant a difference."""


Found = tuple[int, str, dict[str, int]]
"""The number of the operation after which two VMs differ and how (-1, "" if they do not), and how many did what."""


def play(
    library: Path,
    behaviour: str,
    config: Config,
    operations: list[Operation],
    every: int = 1,
    plant: Plant | None = None,
    step: Step = lambda number: None,
) -> Found:
    """Do operations on a fresh pair, until they differ.

    Entries are compared after every ``every``-th operation, and after the last; dirty bitmaps where they are read, and
    at the end.
    """
    pair = Pair(library, config, behaviour)
    last = len(operations) - 1
    done: dict[str, int] = {}
    for n, operation in enumerate(operations):
        step(n)
        if plant:
            plant(pair, n)
        pair.acted = False
        try:
            ACTS[operation.name](pair, *operation.numbers)
        except BothBugged:
            return -1, "", done
        done[operation.name] = done.get(operation.name, 0) + pair.acted
        found = pair.difference(n % every == 0 or n == last)
        if found:
            return n, found, done
    for slot in range(SLOTS):
        get_log(pair, slot, 1)
    found = pair.difference(False)
    return (last, found, done) if found else (-1, "", done)


def play_apart(
    library: Path,
    behaviour: str,
    config: Config,
    operations: list[Operation],
    every: int = 1,
    plant: Plant | None = None,
) -> Found:
    """The same in a process of its own: a crash of the C is a difference."""

    def work(step: Step) -> Found:
        return play(library, behaviour, config, operations, every, plant, step)

    ended = apart(work, SECONDS)
    if ended.answer is not None:
        return ended.answer
    return ended.step, f"the C does not come back: {ended.how}", {}


def shrink(differs: Callable[[list[Operation]], bool], operations: list[Operation]) -> list[Operation]:
    """A list of which no single operation can be left out, that still differs. Source: Zeller, ddmin (1999)."""
    size = len(operations) // 2
    while size:
        n = 0
        while n < len(operations):
            fewer = operations[:n] + operations[n + size :]
            if fewer and differs(fewer):
                operations = fewer
            else:
                n += size
        size //= 2
    return operations


def diff(
    library: Path,
    behaviour: str,
    number: int,
    seed: int,
    *,
    every: int = 1,
    tell: Callable[[int], None] = lambda done: None,
    plant: Plant | None = None,
) -> Outcome:
    """Do so many random operations, or fewer if the two differ; the first difference comes shrunk."""
    calls(library)
    done = session = 0
    counts: dict[str, int] = {}
    while done < number:
        random = Random(f"{seed}/{session}")
        config, layout = draw_config(random)
        if behaviour in ASKS_FIRST:
            config = replace(config, resched_every=min(config.resched_every, 1))
        operations = draw_operations(random, layout, min(SESSION, number - done))
        at, _, acted = play_apart(library, behaviour, config, operations, every, plant)
        for name, times in acted.items():
            counts[name] = counts.get(name, 0) + times
        if at >= 0:
            found = story(library, behaviour, config, operations[: at + 1], plant)
            return Outcome(done + at + 1, session + 1, counts, Difference(config, *found, seed, session))
        done += len(operations)
        session += 1
        tell(done)
    return Outcome(done, session, counts, None)


def story(
    library: Path, behaviour: str, config: Config, operations: list[Operation], plant: Plant | None
) -> tuple[list[Operation], str]:
    """The shortest story to be found of how the two come to differ, and how they do."""

    def differs(fewer: list[Operation]) -> bool:
        return play_apart(library, behaviour, config, fewer, plant=plant)[0] >= 0

    short = shrink(differs, operations)
    at, what, _ = play_apart(library, behaviour, config, short, plant=plant)
    return short[: at + 1], what
