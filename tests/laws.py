"""The laws of soundness on small subjects, to hold a changed checker against: which of them notices the change?

    python -m tests.laws [SUBJECT ...] [--law LAW]

prints, of the package that Python finds, a line for each law that it breaks: the law, the subject, and what differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hypothesis import Phase, given, settings

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import suite
from shootdown.check.program import steps
from shootdown.check.program.setting import Setting
from shootdown.check.reference.explorer import Outcome, Reference
from shootdown.check.search import layout
from shootdown.check.search.model import Model
from shootdown.check.search.search import Result, breaches, search
from shootdown.check.source.source import Source
from tests.further_bugs import FURTHER
from tests.known_bugs import BUGS, PAIRS
from tests.law_smalls import SMALL, own_stores
from tests.litmus_c import VARIABLES, Test
from tests.litmus_oracle import outcomes
from tests.lkmm import finals
from tests.mutations import MUTATIONS, OPERATIONS, Mutation
from tests.suite_counts import recorded
from tests.test_check_sound import agree
from tests.test_check_suite import mutated
from tests.test_lkmm import threads

LAWS = {
    "verdict": "what breaks is what is known to, be it nothing",
    "counts": "states, transitions and depth are those on record",
    "movers": "glued steps and single ones: the same verdict, and all that ever breaks",
    "merged": "places told by frames and by histories: the same verdict and depth",
    "reference": "the fast explorer and the slow one: the same states",
    "explicit": "single fills, evictions, late callbacks, nothing hidden: the same verdict",
    "brute force": "final states of generated tasks, with and without store buffers, are those of an oracle",
}
GENERATED = "generated tasks"
"""The subject of brute force."""
STATES_MAX, SLOW_MAX, EXPLICIT_MAX = 5_000, 1_200, 2_000
"""States of a search; of one that the slow explorer repeats; of one that takes every fill as a step."""

Make = Callable[[], Setting]


@dataclass(frozen=True)
class Subject:
    """A small situation: ``open`` makes what makes settings of it; ``breaks``: what is known to break (0: nothing)."""

    open: Callable[[], Iterator[Make]]
    breaks: int
    counts: tuple[int, ...] = ()
    buffers: bool = False


CASES = {
    ("nx-recovery", "rcu-literal", "5.17"): steps.FREED_IN_REACH, ("age-nx-recovery", "rcu", "6.18"): steps.ASSERTION,
    ("unmap-tables", "rcu-literal", "5.17"): steps.FREED_IN_REACH,
    ("unmap-yield-tables", "rcu-literal", "5.17"): steps.FREED_IN_REACH, ("huge-in-the-way", "eager", "6.13"): 0,
    ("zap-range-tables", "rcu", "5.17"): 0, ("write-protect", "rcu", "6.12"): 0, ("unmap-leafs", "eager", "6.1"): 0,
    ("collapse-zap", "rcu", "6.1"): 0, ("pml-on", "rcu", "6.12"): 0, ("log-get", "rcu", "6.12"): 0,
}  # fmt: skip
"""Of the suite, in the tiny geometry, and what breaks."""
PLANTED = (
    "B33: a table that was zapped before", "B07: a table is freed at once", "E12: a leaf that was zapped in a valid",
    "write protection for logging goes on", "F3: flush of kvm_zap_gfn_range", "nobody waits for an interrupt",
    "huge pages are split or protected when", "a fault logs the write that", "bits that are cleared are those",
    "F10: flush when writes of a page", "F10: the same of a huge page", "bits of a leaf that a fault may change",
    "walks go on to the end of their range", "B09: a walk that begins again",
)  # fmt: skip
"""Bugs of the MMU, by how they begin."""
BUFFERED = ("unmap-leafs", "eager")
"""With store buffers."""


def subjects() -> dict[str, Subject]:
    """All of them, by name."""
    tests, counts = {test.name: test for test in suite()}, recorded()
    found: dict[str, Subject] = {}

    def of_case(name: str, policy: str, behaviour: str, buffers: int = 0) -> Iterator[Make]:
        source = Source()
        yield lambda: build(Case(tests[name], policy, behaviour, tests[name].tiny, buffers), source)
        source.close()

    def of_planted(mutation: Mutation) -> Iterator[Make]:
        test = tests[mutation.test]
        with tempfile.TemporaryDirectory() as folder, mutated(mutation, Path(folder)) as source:
            behaviour = mutation.behaviour or test.behaviours[0]
            yield lambda: build(Case(test, mutation.policy, behaviour, test.tiny), source)

    def of_small(make: Make) -> Iterator[Make]:
        yield make

    for make, breaks in SMALL.items():
        buffers = make is own_stores
        found[make.__name__] = Subject(lambda make=make: of_small(make), breaks, (), buffers)  # type: ignore[misc]
    for case, breaks in CASES.items():
        count = tuple(counts[" ".join(case)])
        found[" ".join(case)] = Subject(lambda case=case: of_case(*case), breaks, count)  # type: ignore[misc]
    every = (*MUTATIONS, *OPERATIONS, *BUGS, *PAIRS, *FURTHER)
    for begins in PLANTED:
        mutation = next(each for each in every if each.site.startswith(begins))
        found[begins] = Subject(lambda mutation=mutation: of_planted(mutation), mutation.breaks)  # type: ignore[misc]
    name, policy = BUFFERED
    behaviour = tests[name].behaviours[0]
    found[f"{name} with buffers"] = Subject(lambda: of_case(name, policy, behaviour, 1), 0, buffers=True)
    return found


class Broken(Exception):  # noqa: N818 - what a law finds
    """A law does not hold; the text says how."""


def same(what: str, one: object, other: object) -> None:
    """Two things must be equal."""
    if one != other:
        raise Broken(f"{what}: {one} and {other}")


class Searches:
    """The searches of one subject, each made when it is first asked for."""

    def __init__(self, make: Make) -> None:
        self.make = make

    @cached_property
    def glued(self) -> Result:
        """With movers, merged: as a user has it. It must end."""
        result = search(Model(self.make()), STATES_MAX)
        same("stopped", result.stopped, "")
        return result

    @cached_property
    def single(self) -> tuple[Model, Result]:
        """With no movers."""
        model = Model(self.make(), movers=False)
        return model, search(model, STATES_MAX)

    @cached_property
    def slow(self) -> tuple[Reference, Outcome]:
        """The slow explorer's."""
        slow = Reference(self.make())
        return slow, slow.explore(4 * SLOW_MAX)

    def every(self, movers: bool) -> frozenset[int] | None:
        """All that ever breaks, if that is soon known."""
        model = Model(self.make(), movers)
        return None if search(model, STATES_MAX, stop=layout.STOP_NEVER).stopped else breaches(model)


def hold(law: str, subject: Subject, searches: Searches) -> None:
    """Hold a law on a subject; Broken if it is. What takes too many states says nothing."""
    if law == "verdict":
        same("broken", searches.glued.broken, subject.breaks)
    elif law == "counts" and subject.counts:
        result = searches.glued
        same("counts", (result.states, result.transitions, result.depth), subject.counts)
    elif law == "movers":
        single, broken = searches.single[1], searches.glued.broken
        if not single.stopped:
            same("refuted", broken != 0, single.broken != 0)
            one, other = (searches.every(movers) for movers in (True, False)) if broken else (None, None)
            if one is not None and other is not None:
                same("all that breaks", set(one), set(other))
    elif law == "merged":
        merged, unmerged = searches.glued, search(Model(searches.make(), merge=False), STATES_MAX)
        if not unmerged.stopped:
            same("broken", merged.broken, unmerged.broken)
            same("depth", merged.depth if merged.broken else 0, unmerged.depth if merged.broken else 0)
            same("fewer states", merged.states <= unmerged.states, True)
    elif law == "reference" and not subject.buffers:
        model, result = searches.single
        if not result.stopped and result.states <= SLOW_MAX:
            slow, outcome = searches.slow
            same("stopped", outcome.stopped, False)
            agree(model, result, slow, outcome)
    elif law == "explicit" and not subject.buffers:
        outcome = Reference(searches.make(), explicit=True, late=True, glue=False).explore(EXPLICIT_MAX)
        if not outcome.stopped:
            same("broken", outcome.broken, searches.single[1].broken)


def brute_force() -> None:
    """Final states of generated tasks."""

    @given(threads())
    @settings(max_examples=25, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    def hold_all(tasks: list[tuple[object, ...]]) -> None:
        names = [["r0", "r1"]] * len(tasks)
        variables = {"x": VARIABLES, "y": VARIABLES + 1}
        test = Test("own", "", tasks, names, {}, variables, "True", {"l": 0})  # type: ignore[arg-type]
        for buffers in (0, 4):
            expected = outcomes(test, tso=buffers > 0)
            for movers in (True, False):
                same(f"buffers {buffers}, movers {movers}", finals(test, movers, buffers) == expected, True)

    hold_all()


@contextmanager
def caught(found: list[str]) -> Iterator[None]:
    """Note how a law breaks; a checker that breaks down does not hold it either."""
    try:
        yield
    except Broken as error:
        found.append(str(error))
    except AssertionError as error:
        found.append("other states" if "States" in repr(error) or not str(error) else str(error).splitlines()[0])
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}".splitlines()[0])


def broken(laws: list[str], names: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each of the laws that is broken, the first of the subjects on which it is, and how."""
    every, left = subjects(), list(laws)
    for name in names:
        for make in every[name].open() if name != GENERATED else [None]:
            searches = Searches(make) if make else None
            for law in [law for law in left if (law == "brute force") == (name == GENERATED)]:
                found: list[str] = []
                with caught(found):
                    if searches:
                        hold(law, every[name], searches)
                    else:
                        brute_force()
                if found:
                    left.remove(law)
                    yield law, name, found[0][:100]


def main(arguments: list[str]) -> None:
    """Print what is broken."""
    asked = argparse.ArgumentParser()
    asked.add_argument("subjects", nargs="*")
    asked.add_argument("--law", choices=list(LAWS))
    options = asked.parse_args(arguments)
    laws = [options.law] if options.law else list(LAWS)
    for line in broken(laws, options.subjects or [*subjects(), GENERATED]):
        print(*line, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
