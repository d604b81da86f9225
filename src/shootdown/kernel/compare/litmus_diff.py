"""The same litmus test on both programs: the kernel's C and our MMU go through its operations and must stay alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from ...check.litmus.litmus import Litmus
from ..library.apart import Step, apart
from ..library.native import Config, calls
from .differ import Difference, Found, Plant, play, story
from .operations import Operation
from .orders import Order, Situation, serial, situation, woven
from .pair import ASKS_FIRST

SECONDS: Final = 600
"""Of the processor's time for a test."""
SERIAL_MOST: Final = 120
"""Orders of whole threads at most: all of those of five threads."""
YIELDS: Final = (0, 1, 2, 3)
"""How seldom walks are asked to give way in orders that are drawn; 0: never."""
MAY_BE_IDLE: Final = frozenset(("access", "serve"))
"""What is about a guest that finds what it needs, or cannot run."""


@dataclass(frozen=True)
class Compared:
    """What came of a test.

    serial, woven  how many orders of whole threads were done (``complete``: all), and of threads that take turns
    operations     how many were done after starts
    left_out       what of the test no order has, in words
    stopped        of orders in which both stopped at an assertion: after which operation, and where
    warned         the same where the C only warned
    difference     the first, if there is one
    """

    test: Litmus
    serial: int
    woven: int
    complete: bool
    operations: int
    left_out: tuple[str, ...]
    stopped: tuple[str, ...]
    warned: tuple[str, ...]
    difference: Difference | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "test": self.test.name,
            "serial": self.serial,
            "woven": self.woven,
            "complete": self.complete,
            "operations": self.operations,
            "left_out": list(self.left_out),
            "stopped": list(self.stopped),
            "warned": list(self.warned),
            "difference": self.difference and self.difference.as_json(),
        }


def compare(
    library: Path,
    behaviour: str,
    tests: Sequence[Litmus],
    orders: int,
    seed: int,
    *,
    most: int = SERIAL_MOST,
    tell: Callable[[Compared], None] = lambda found: None,
    plant: Plant | None = None,
    differs: Callable[[], None] = lambda: None,
) -> list[Compared]:
    """Compare each test, in ``orders`` orders that are drawn besides at most ``most`` of whole threads.

    ``differs`` is called where one does, before its story is made short.
    """
    calls(library)
    found = []
    for test in tests:
        found.append(_compare(library, behaviour, situation(test, test.full), orders, seed, most, plant, differs))
        tell(found[-1])
    return found


def _compare(
    library: Path, behaviour: str, about: Situation, orders: int, seed: int, most: int, plant: Plant | None,
    differs: Callable[[], None],
) -> Compared:  # fmt: skip
    random = Random(f"{seed}/{about.test.name}")
    whole, complete = serial(about, most, random)
    drawn = [woven(about, random, YIELDS[:2] if behaviour in ASKS_FIRST else YIELDS) for _ in range(orders)]
    every = [*whole, *drawn]
    start = len(about.start)

    def work(step: Step) -> list[Found]:
        played: list[Found] = []
        for n, order in enumerate(every):

            def tell(at: int, n: int = n) -> None:
                step(n << 32 | at)

            config, operations = _of(about, order)
            played.append(play(library, behaviour, config, operations, 1, plant, tell, start - 1, logs=True))
            if played[-1].at >= 0:
                break
        return played

    ended = apart(work, SECONDS)
    played = ended.answer or []
    number = len(played) or (ended.step >> 32) + 1
    difference = None
    if not played or played[-1].at >= 0:
        at = played[-1].at if played else ended.step & 0xFFFF_FFFF
        config, operations = _of(about, every[number - 1])
        differs()
        told = story(library, behaviour, config, operations[: at + 1], plant, logs=True)
        difference = Difference(config, *told, seed, number - 1)
    return Compared(
        about.test, min(number, len(whole)), max(0, number - len(whole)), complete,
        sum(len(order.operations) for order in every[:number]), tuple(_left_out(about, every, played)),
        tuple(dict.fromkeys(each.stopped for each in played if each.stopped and not each.warned)),
        tuple(dict.fromkeys(each.stopped for each in played if each.warned)), difference,
    )  # fmt: skip


def _of(about: Situation, order: Order) -> tuple[Config, list[Operation]]:
    return replace(about.config, resched_every=order.resched_every), [*about.start, *order.operations]


def _left_out(about: Situation, orders: Sequence[Order], played: Sequence[Found]) -> Iterator[str]:
    """What of a test none of the orders has."""
    start = len(about.start)
    undone = {n for each in played for n in each.undone if n < start}
    yield from (f"start: {about.start[n]} could not be done" for n in sorted(undone))
    done = {
        operation
        for each, order in zip(played, orders, strict=False)
        for n, operation in enumerate(order.operations, start)
        if n not in each.undone
    }
    for thread in about.threads:
        for operation in dict.fromkeys(thread.operations):
            if operation.name not in MAY_BE_IDLE and operation not in done:
                yield f"{thread.name}: {operation} could be done in no order"
    tables = max((each.tables for each in played), default=0)
    if tables > about.tables:
        yield f"memory for tables never runs out: {tables} are in use, where the test has {about.tables}"
