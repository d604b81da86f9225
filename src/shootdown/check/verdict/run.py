"""Running cases, here or in worker processes: what comes back, and in which order, does not depend on how many."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..litmus.cases import Case
from ..schedule.schedule import schedule_of, told
from ..schedule.schedule_file import document
from ..schedule.story import Story
from ..search.search import Progress
from ..source.source import PACKAGE, Source
from .board import Board
from .verdict import HOLDS, REFUTED, Budget, Verdict, check
from .why import Why, why

TICK_SECONDS = 0.2
"""Between two looks at the workers."""


@dataclass(frozen=True)
class Job:
    """What all cases have in common.

    budget    of each case
    folder    of the sources
    patch     the text that was applied to them, if one was
    watch     files whose executed lines are noted
    draw      if a case is refuted that was expected to be one of these, its schedule is found as well
    why       if a case holds, what covered it is found as well
    """

    budget: Budget
    folder: Path = PACKAGE
    patch: str = ""
    watch: frozenset[str] = frozenset()
    draw: frozenset[str] = frozenset()
    why: bool = False


@dataclass(frozen=True)
class Answer:
    """A verdict; of some that are refuted the schedule, as a story and as what a file of it holds; or why it holds."""

    verdict: Verdict
    story: Story | None = None
    document: dict[str, Any] = field(default_factory=dict)
    why: Why | None = None


def answers(
    cases: Sequence[Case], job: Job, jobs: int, board: Board, tick: Callable[[], None], note: Callable[[Answer], None]
) -> Generator[Answer]:
    """The answers to all cases in their order, by ``jobs`` processes; ``tick`` is called again and again meanwhile.

    ``note`` is called with each as soon as it is found, which may be before its turn.
    """
    return _by_workers(cases, job, jobs, board, tick, note) if jobs > 1 else _here(cases, job, board, tick, note)


def drawn(answer: Answer, job: Job, source: Source) -> Answer:
    """The answer with its schedule."""
    schedule = schedule_of(answer.verdict.case, source)
    return replace(answer, story=told(schedule), document=document(schedule, job.patch))


def _answer(case: Case, job: Job, source: Source, progress: Progress) -> Answer:
    found = Answer(check(case, source, job.budget, progress, job.watch))
    if job.why and found.verdict.word == HOLDS:
        return replace(found, why=why(case, source, found.verdict.exercised, job.budget))
    return drawn(found, job, source) if found.verdict.word == REFUTED and case.expected in job.draw else found


def _here(
    cases: Sequence[Case], job: Job, board: Board, tick: Callable[[], None], note: Callable[[Answer], None]
) -> Generator[Answer]:
    show = board.row(0)

    def report(states: int, waiting: int, seconds: float) -> None:
        show(states, waiting, seconds)
        tick()

    source = Source(job.folder)
    try:
        for case in cases:
            found = _answer(case, job, source, report)
            note(found)
            yield found
    finally:
        source.close()


# Workers


def _by_workers(
    cases: Sequence[Case], job: Job, jobs: int, board: Board, tick: Callable[[], None], note: Callable[[Answer], None]
) -> Generator[Answer]:
    """As ``_here``. Workers are spawned: a copy of this process would share its threads' locks and its patches."""
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()
    before = set(multiprocessing.active_children())
    numbers = context.SimpleQueue()
    for number in range(jobs):
        numbers.put(number)
    pool = ProcessPoolExecutor(jobs, context, _begin, (job, board, numbers))
    try:
        # Workers inherit the mask: an interrupt from the terminal is for this process alone, which ends them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = [pool.submit(_work, case) for case in cases]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        new = list(futures)
        for future in futures:
            while not future.done():
                wait([future], TICK_SECONDS)
                tick()
                _note(new, note)
            _note(new, note)
            yield future.result()
    except BrokenProcessPool:
        raise InputError("a worker was killed, perhaps for lack of memory; try fewer --jobs") from None
    finally:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        pool.shutdown(cancel_futures=True)


def _note(new: list[Future[Answer]], note: Callable[[Answer], None]) -> None:
    """Tell of those that are done by now, once each."""
    for future in [each for each in new if each.done()]:
        new.remove(future)
        if future.exception() is None:
            note(future.result())


@dataclass
class _Worker:
    job: Job
    source: Source
    report: Progress


_worker: list[_Worker] = []


def _begin(job: Job, board: Board, numbers: Any) -> None:
    """Make this process a worker, which ends when the one that started it is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(_Worker(job, Source(job.folder), board.row(numbers.get())))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(case: Case) -> Answer:
    worker = _worker[0]
    return _answer(case, worker.job, worker.source, worker.report)
