"""Verdicts of litmus tests on the C of a tree, in the words that those on our MMU have."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ...check.litmus.cases import Case, behaviour_of
from ...check.litmus.litmus import Litmus
from ...check.search.search import Result
from ...check.verdict.verdict import HOLDS, NOT_EXERCISED, REFUTED, UNDETERMINED, Verdict
from ..library.build import Library
from .litmus import scenario
from .run import Child, explore
from .scenario import Budget, Options, Outcome, Scenario, Task

POLICIES = ("kernel-{}", "promote", "rcu")
"""Of our MMU, what flushes as a kernel does, the nearest first; {} is its behaviour."""


@dataclass(frozen=True)
class Judged:
    """A verdict, what it was found in, and how."""

    verdict: Verdict
    scenario: Scenario
    outcome: Outcome


def cases(tests: Sequence[Litmus], behaviour: str, tiny: bool) -> list[Case]:
    """The tests that a tree with a behaviour can run, each under the policy of ours that flushes as it does."""
    found = []
    for test in tests:
        expected = REFUTED if behaviour in test.defects else HOLDS
        for policy in (name.format(behaviour) for name in POLICIES):
            known = policy in test.policies or policy.startswith("kernel-")
            if known and _is_for(test, policy, behaviour) and test.expected(policy, behaviour) == expected:
                found.append(Case(test, policy, behaviour, test.tiny if tiny else test.full))
                break
    return found


def _is_for(test: Litmus, policy: str, behaviour: str) -> bool:
    try:
        return behaviour_of(test, policy, behaviour) == behaviour
    except KeyError:
        return False


def judge(case: Case, library: Library, options: Options, budget: Budget, running: set[Child] | None = None) -> Judged:
    """Explore a case on a library of a tree; the process that does it is one of ``running`` meanwhile."""
    about = scenario(case.test, case.geometry, options)
    outcome = explore(library.path, about, budget, running)
    word, reason, reached = outcome.word, "", outcome.reached
    if word == UNDETERMINED:
        reason = outcome.stopped
    elif word == HOLDS:
        endless = [task.name for n, task in enumerate(about.tasks) if not task.again and n not in outcome.ended]
        idle = [task.name for task in about.tasks if task.vcpu >= 0 and _asks(about, task) and task.vcpu not in reached]
        if endless:
            word, reason = NOT_EXERCISED, f"{', '.join(endless)} never comes to an end"
        elif idle:
            word, reason = NOT_EXERCISED, f"the guest of {', '.join(idle)} never gets a page"
    result = Result(
        int(word == REFUTED), 0, outcome.cpu, outcome.states, outcome.transitions, outcome.depth, outcome.seconds,
        outcome.stopped,
    )  # fmt: skip
    verdict = Verdict(case, word, reason, result, frozenset(), frozenset(), frozenset(), bounds=outcome.bounds)
    return Judged(verdict, about, outcome)


def _asks(about: Scenario, task: Task) -> bool:
    """Is there a guest that accesses something? One that is parked never runs."""
    return task.op != "parked" and bool(about.guests[task.vcpu].accesses)


def judged(
    asked: Sequence[Case], library: Library, options: Options, budget: Budget, jobs: int, tick: Callable[[], None]
) -> Generator[Judged]:
    """All of them in their order, ``jobs`` at a time, each in a process of its own; ``tick`` is called meanwhile.

    Where not all are wanted any more, those processes are ended.
    """
    running: set[Child] = set()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(judge, case, library, options, budget, running) for case in asked]
        try:
            for future in futures:
                while True:
                    try:
                        yield future.result(timeout=0.2)
                        break
                    except TimeoutError:
                        tick()
        finally:
            for future in futures:
                future.cancel()
            while not all(future.done() for future in futures):
                for child in tuple(running):
                    child.kill()
                time.sleep(0.01)
