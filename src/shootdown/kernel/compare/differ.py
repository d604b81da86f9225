"""The kernel's C and our MMU driven with the same operations, which are shrunk where the two differ."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from ..library.apart import Step, apart
from ..library.native import Config, calls
from .acts import get_log
from .operations import Operation, draw_config, draw_operations
from .pair import ASKS_FIRST, EVERYWHERE, SLOTS, BothBugged, Pair
from .told import EVERY_ACT
from .touched import touched

SESSION: Final = 250
"""Operations on one VM, before the next is made."""
SECONDS: Final = 120
"""Of the processor's time for them, and one more for each A_SECOND operations."""
A_SECOND: Final = 100


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
    """How many operations were tried on how many VMs, how many of each could be done, the first difference if any.

    stopped  of VMs that both stopped at an assertion: after which operation, and where
    warned   the same where the C only warned and would have gone on: at what, and how often; other VMs came instead
    """

    operations: int
    sessions: int
    counts: dict[str, int]
    difference: Difference | None
    stopped: tuple[str, ...]
    warned: dict[str, int]


Plant = Callable[[Pair, int], None]
"""Something that is done to a pair before its n-th operation: so that a test can plant a difference."""


class Found(NamedTuple):
    """What came of operations on two VMs.

    at, what  the number of the operation after which they differ, and how; -1 and "" if they do not
    done      how often each operation could be done, by name
    stopped   the operation and assertion at which both stopped, in words, "" if they came to the end
    warned    that assertion, if the C only warned
    tried     how many operations, the one at which they stopped included
    undone    numbers of the operations that could not be done
    tables    most that were in use at once
    """

    at: int
    what: str
    done: dict[str, int]
    stopped: str = ""
    warned: str = ""
    tried: int = 0
    undone: tuple[int, ...] = ()
    tables: int = 0


def play(
    library: Path,
    behaviour: str,
    config: Config,
    operations: list[Operation],
    every: int = 1,
    plant: Plant | None = None,
    step: Step = lambda number: None,
    first: int = 0,
    logs: bool = False,
    slots: int = SLOTS,
    along: bool = False,
) -> Found:
    """Do operations on a fresh pair, until they differ.

    All entries are compared after every ``every``-th operation from number ``first`` on, and after the last, and those
    along each operation's gfns (touched.py) after each other one (``along``); dirty bitmaps where they are read, and at
    the end, or after each operation (``logs``).
    """
    pair = Pair(library, config, behaviour, slots)
    last = len(operations) - 1
    done: dict[str, int] = {}
    undone: list[int] = []
    found, stopped, warned, n, tables = "", "", "", -1, 0
    for n, operation in enumerate(operations):
        step(n)
        if plant:
            plant(pair, n)
        pair.acted = False
        try:
            EVERY_ACT[operation.name](pair, *operation.numbers)
        except BothBugged as bug:
            stopped, warned = f"{operation}: {bug}", str(bug) if bug.warned else ""
            break
        done[operation.name] = done.get(operation.name, 0) + pair.acted
        if not pair.acted:
            undone.append(n)
        if logs and n >= first:
            read_logs(pair)
        tables = max(tables, pair.machine.tables.used)
        whole = n == last or (n >= first and (n - first) % every == 0)
        found = pair.difference(EVERYWHERE if whole else touched(pair, operation) if along else None)
        if found:
            break
    else:
        read_logs(pair)
        found = pair.difference(None)
    return Found(n if found else -1, found, done, stopped, warned, n + 1, tuple(undone), tables)


def read_logs(pair: Pair) -> None:
    """Read all bitmaps, which changes none."""
    for slot in range(pair.slots):
        get_log(pair, slot, 1)


def play_apart(
    library: Path,
    behaviour: str,
    config: Config,
    operations: list[Operation],
    every: int = 1,
    plant: Plant | None = None,
    logs: bool = False,
    slots: int = SLOTS,
    first: int = 0,
    along: bool = False,
) -> Found:
    """The same in a process of its own: a crash of the C is a difference.

    Where both stop, our locks are held, and entries are compared as they were one operation before.
    """

    def part(number: int) -> Found:
        def work(step: Step) -> Found:
            return play(library, behaviour, config, operations[:number], every, plant, step, first, logs, slots, along)

        ended = apart(work, SECONDS + len(operations) // A_SECOND)
        return ended.answer or Found(ended.step, f"the C does not come back: {ended.how}", {})

    played = part(len(operations))
    if played.stopped and played.tried > 1 and every > 1:
        before = part(played.tried - 1)
        return before if before.at >= 0 else played
    return played


def shrink(
    differs: Callable[[list[Operation]], bool], operations: list[Operation], until: float = math.inf
) -> list[Operation]:
    """A list of which no single operation can be left out, that still differs; ``until`` when to look for one.

    Source: Zeller, ddmin (1999).
    """
    size = len(operations) // 2
    while size:
        n = 0
        while n < len(operations) and time.monotonic() < until:
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
    differs: Callable[[], None] = lambda: None,
) -> Outcome:
    """Do so many random operations, or fewer if the two differ; the first difference comes shrunk.

    ``differs`` is called where they do, before that takes its time.
    """
    calls(library)
    done = session = 0
    counts: dict[str, int] = {}
    stopped: list[str] = []
    warned: dict[str, int] = {}
    while done < number:
        random = Random(f"{seed}/{session}")
        config, layout = draw_config(random)
        if behaviour in ASKS_FIRST:
            config = replace(config, resched_every=min(config.resched_every, 1))
        operations = draw_operations(random, layout, min(SESSION, number - done))
        played = play_apart(library, behaviour, config, operations, every, plant)
        add(counts, played.done)
        if played.warned:
            add(warned, {f"{operations[played.tried - 1].name}: {played.warned}": 1})
        elif played.stopped:
            stopped.append(played.stopped)
        if played.at >= 0:
            differs()
            found = story(library, behaviour, config, operations[: played.at + 1], plant)
            difference = Difference(config, *found, seed, session)
            return Outcome(done + played.at + 1, session + 1, counts, difference, tuple(stopped), warned)
        done += played.tried
        session += 1
        tell(done)
    return Outcome(done, session, counts, None, tuple(stopped), warned)


def add(counts: dict[str, int], more: dict[str, int]) -> None:
    """Add counts to others."""
    for name, times in more.items():
        counts[name] = counts.get(name, 0) + times


def story(
    library: Path,
    behaviour: str,
    config: Config,
    operations: list[Operation],
    plant: Plant | None,
    logs: bool = False,
) -> tuple[list[Operation], str]:
    """The shortest story to be found of how the two come to differ, and how they do."""

    def differs(fewer: list[Operation]) -> bool:
        return play_apart(library, behaviour, config, fewer, plant=plant, logs=logs).at >= 0

    short = shrink(differs, operations)
    played = play_apart(library, behaviour, config, short, plant=plant, logs=logs)
    return short[: played.at + 1], played.what
