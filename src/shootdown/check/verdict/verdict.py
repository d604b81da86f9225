"""Checking a case: the search, and what its end means in the words that users get."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..litmus.build import build
from ..litmus.cases import Case
from ..program import steps
from ..search.livelock import livelock
from ..search.model import Model
from ..search.search import Progress, Result, search
from ..source.source import Source
from .exercised import Exercised, exercised

HOLDS, REFUTED, UNDETERMINED, NOT_EXERCISED = "holds", "refuted", "undetermined", "not exercised"


@dataclass(frozen=True)
class Budget:
    """When to give up: states, and seconds of CPU time. ``compact``: keep hashes of states only.

    ``livelocks``: look for them, too, in what holds otherwise.
    """

    states: int = 50_000_000
    seconds: float = 600.0
    compact: bool = False
    livelocks: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a case gave; it outlives the search, and can be sent to another process.

    word       one of the four above
    reason     for the two last, why; else nothing
    result     figures of the search
    functions  of the MMU, those that ran
    histories  those of them whose frames could not be compared
    lines      (file, line) that ran, in the files that were watched
    bounds     what it holds within; nothing if it is complete
    exercised  what the search exercised
    """

    case: Case
    word: str
    reason: str
    result: Result
    functions: frozenset[str]
    histories: frozenset[str]
    lines: frozenset[tuple[str, int]]
    exercised: Exercised = field(default_factory=Exercised)
    bounds: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """Is it what the test says that it must be?"""
        return self.word == self.case.expected

    @property
    def bounded(self) -> bool:
        """Might hash compaction have hidden a state that would change the verdict?"""
        return self.result.omission > 0 and self.word != REFUTED


def check(
    case: Case,
    source: Source,
    budget: Budget,
    progress: Progress | None = None,
    watch: frozenset[str] = frozenset(),
) -> Verdict:
    """Explore a case; ``watch`` names files whose executed lines are noted."""
    model = Model(build(case, source), watch=watch, compact=budget.compact)
    result = search(model, budget.states, budget.seconds, progress)
    if budget.livelocks and not result.broken and not result.stopped:
        found = livelock(model)
        if found:
            result = replace(result, broken=steps.LIVELOCK, state=found.state, program=found.tasks)
    automata = model.automata
    functions = frozenset(function for node in automata.nodes for _, function, _ in node.stack)
    seen = exercised(model)
    word, reason = HOLDS, ""
    if result.broken:
        word = REFUTED
    elif result.stopped:
        word, reason = UNDETERMINED, result.stopped
    else:
        missing = [name for name in case.test.exercises if name not in functions]
        ended = {node.program for node in automata.nodes if node.access.step == steps.END}
        endless = [p.name for n, p in enumerate(model.setting.programs) if not p.again and n not in ended]
        if missing:
            word, reason = NOT_EXERCISED, f"{', '.join(missing)} never ran"
        elif endless:
            word, reason = NOT_EXERCISED, f"{', '.join(endless)} never comes to an end"
        elif safe := [name for name in case.test.guards if name not in seen.at_stake]:
            word, reason = NOT_EXERCISED, f"{', '.join(safe)} was never at stake"
    return Verdict(
        case, word, reason, result, functions, frozenset(automata.histories), frozenset(automata.lines), seen
    )
