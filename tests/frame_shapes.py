"""Functions of every shape that stop in a call, and what ``frames`` must say of each; runs on any CPython by itself.

Prints a line for each function: its name, whether nothing is hidden, and the variables that matter, then whether that
is what was expected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from shootdown.check.program.frames import stop_of

CASES: dict[str, tuple[Callable[[], object], bool, str]] = {}
seen: list[tuple[bool, str]] = []


def probe() -> int:
    """Note what ``frames`` says of the frames from here out to the case; the n-th call gives n."""
    frame = sys._getframe(1)
    clean, live = stop_of(frame.f_code, frame.f_lasti)
    while not frame.f_code.co_name.startswith("case_"):
        assert frame.f_back is not None
        frame = frame.f_back
        clean = stop_of(frame.f_code, frame.f_lasti)[0] and clean
    seen.append((clean, " ".join(live)))
    return len(seen)


def case(clean: bool, live: str = "") -> Callable[[Callable[..., object]], Callable[..., object]]:
    """What ``frames`` must say at the last call of ``probe``; which variables matter, only where nothing is hidden."""

    def note(function: Callable[..., object]) -> Callable[..., object]:
        CASES[function.__name__] = (function, clean, live)
        return function

    return note


class Box:
    """An object."""

    def __init__(self, value: int) -> None:
        self.value = value

    def method(self, number: int) -> int:
        """Stops, and needs itself and its operand afterwards."""
        found = probe()
        return found + self.value + number

    @property
    def asked(self) -> int:
        """Stops."""
        found = probe()
        return found

    def __add__(self, other: int) -> int:
        """Stops."""
        found = probe()
        return found


@contextmanager
def section() -> Iterator[None]:
    """Something to be inside of."""
    yield


def numbers() -> Iterator[int]:
    """A generator that stops."""
    yield probe()


@case(True, "a")
def case_statement(a: int = 1, b: int = 2) -> int:
    """``b`` is not read any more, ``c`` is set by the call."""
    c = probe()
    return a + c


@case(True)
def case_dead_local() -> int:
    """What was used up does not count."""
    a = len("x")
    b = a + 1
    if b == 2:
        a = probe()
    return a


@case(True, "i total")
def case_while() -> int:
    """The form of loop that MMU code has."""
    total = i = 0
    while i < 2:
        found = probe()
        total = total + found
        i += 1
    return total


@case(True)
def case_condition() -> int:
    """A shared access as a condition."""
    if probe() > 0:
        return 1
    return 0


@case(True, "a")
def case_and(a: int = 1) -> bool:
    """The second of two conditions."""
    return probe() > 0 and probe() > a


@case(True, "box")
def case_attribute_set() -> Box:
    """The value comes first, the object after it."""
    box = Box(1)
    box.value = probe()
    return box


@case(True, "number self")
def case_method(a: int = 3) -> int:
    """A call in a call; the outer frame is seen too."""
    return Box(2).method(a)


@case(True)
def case_property() -> int:
    """An attribute that is a call."""
    return Box(1).asked


@case(True)
def case_operator() -> int:
    """An operator that is a call."""
    return Box(1) + 1


@case(True, "a")
def case_choice(a: int = 1) -> int:
    """One of two values."""
    found = probe() if a else 0
    return found + a


@case(True)
def case_walrus() -> int:
    """A name for what was found."""
    if (found := probe()) > 0:
        return found
    return 0


@case(True)
def case_match() -> int:
    """Told apart by a pattern."""
    match probe():
        case 1:
            return 1
    return 0


@case(False)
def case_augmented() -> int:
    """The old value waits on the stack."""
    flush = 1
    flush |= probe()
    return flush


@case(False)
def case_augmented_attribute() -> int:
    """So does an object's."""
    box = Box(1)
    box.value += probe()
    return box.value


@case(False)
def case_right_operand(a: int = 1) -> int:
    """The left one waits."""
    return a + probe()


@case(False)
def case_second_result() -> int:
    """The first one waits."""
    return probe() + probe()


@case(False)
def case_argument() -> int:
    """The function waits."""
    return abs(probe())


@case(False)
def case_second_argument() -> int:
    """And so does the first argument."""
    return max(probe(), probe())


@case(False)
def case_outer_argument() -> int:
    """The stack of an outer frame counts."""
    return abs(Box(1).method(2))


@case(False)
def case_tuple() -> tuple[int, int]:
    """The first member waits."""
    return (probe(), probe())


@case(False)
def case_index(xs: tuple[int, ...] = (1,) * 99) -> int:
    """What is indexed waits."""
    return xs[probe()]


@case(False)
def case_chain() -> bool:
    """A chained comparison keeps its middle."""
    return 0 < probe() < probe()


@case(False)
def case_text(a: int = 1) -> str:
    """A text that is put together."""
    return f"{a}{probe()}"


@case(False)
def case_for() -> int:
    """The iterator waits."""
    found = 0
    for _ in range(2):
        found = probe()
    return found


@case(False)
def case_comprehension() -> list[int]:
    """The list so far waits."""
    return [probe() for _ in range(2)]


@case(False)
def case_filter() -> list[int]:
    """The same with the call in its condition."""
    return [n for n in range(2) if probe()]


@case(False)
def case_set() -> set[int]:
    """And with a set."""
    return {probe() for _ in range(2)}


@case(False)
def case_dict() -> dict[int, int]:
    """And with a dictionary."""
    return {n: probe() for n in range(2)}


@case(False)
def case_any() -> bool:
    """A generator expression inside of a call."""
    return any(probe() > 9 for _ in range(2))


@case(False)
def case_generator() -> int:
    """A generator stops on behalf of its caller."""
    found = 0
    for n in numbers():
        found = n
    return found


@case(False)
def case_with() -> int:
    """The way out of the block waits."""
    with section():
        found = probe()
    return found


@case(False)
def case_try() -> int:
    """A frame that could catch what is raised."""
    try:
        found = probe()
    finally:
        found = 0
    return found


@case(False)
def case_handler() -> int:
    """The exception that is handled waits."""
    found = 0
    try:
        raise ValueError
    except ValueError:
        found = probe()
    return found


@case(False)
def case_suppress() -> int:
    """The same behind a block that swallows it."""
    found = 0
    with suppress(ValueError):
        found = probe()
    return found


@case(False)
def case_closure() -> int:
    """A variable that an inner function shares."""
    a = 1

    def inner() -> int:
        return a

    found = probe()
    return inner() + found


def main() -> int:
    """Run every case; 1 if one of them is not as expected."""
    wrong = 0
    for name, (function, clean, live) in CASES.items():
        seen.clear()
        result: Any = None
        try:
            function()
            result = seen[-1] if seen[-1][0] else (False, "")
        except (KeyError, IndexError) as error:
            result = (type(error).__name__, "")
        fine = result == (clean, live)
        wrong += not fine
        print(name, *result, "" if fine else f"  WRONG, expected {clean} {live}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
