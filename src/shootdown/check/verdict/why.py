"""Why a test holds: one run in which all that it is about happens, and what covered each free and promise in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...machine import words
from ...mmu.spte import LARGE, spte_pfn
from ..litmus.build import build
from ..litmus.cases import Case
from ..program import steps
from ..program.guest import MAY_WRITE
from ..schedule.story import Story, story
from ..schedule.wording import entries_held
from ..search import layout
from ..search.model import Goal, Model
from ..search.replay import Event, events_of
from ..search.search import path, search
from ..source.source import Source
from .exercised import Exercised, asker
from .verdict import Budget

STEP_STAKES = 5
"""P1 to P5 are at stake in a step, so that a run can show it; P6 is where a task waits."""


@dataclass(frozen=True)
class Cover:
    """What kept one promise, or made one free safe, in a run.

    what   it was, and the number of the access
    since  the access that began it: an entry was zapped, or a task began
    vcpus  name of each vCPU, and what made it safe
    """

    what: str
    since: str
    vcpus: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Why:
    """A witness (None: ``reason`` says why there is none), and what covered its frees and promises."""

    witness: Story | None
    covers: tuple[Cover, ...] = ()
    reason: str = ""


def why(case: Case, source: Source, seen: Exercised, budget: Budget) -> Why:
    """The shortest run, of glued steps, in which all tasks end, and all ran and was at stake that the test names.

    All of its tables that wait for RCU are freed by its end. ``seen``: what the search for a verdict exercised.
    """
    named = {int(name[1]) - 1 for name in case.test.guards if name in seen.at_stake}
    stakes = sum(1 << n for n in named if n < STEP_STAKES)
    goal = Goal(tuple(dict.fromkeys(case.test.exercises)), stakes)
    if not goal.mask:
        return Why(None, reason="the test names nothing that it is about: no 'exercises', no 'guards'")
    model = Model(build(case, source), goal=goal)
    result = search(model, budget.states, budget.seconds)
    if result.broken != steps.WITNESS:
        return Why(None, reason=result.stopped or "no single run does all that the test is about")
    taken = path(model, result.state)
    return Why(story(model, taken, 0, result.state, -1), tuple(_covers(model, taken)))


def _covers(model: Model, taken: Sequence[tuple[int, int, int, int]]) -> list[Cover]:
    events = list(events_of(model, list(taken)))
    step_of: list[int] = []
    n = 0
    for event in events:
        step_of.append(n)
        n += event.last
    run = _Run(model, events, step_of, [0, *(after for _, _, _, after in taken)])
    found = []
    for at, event in enumerate(events):
        found += run.freed(at) if event.last else []
        found += run.promised(at)
    return found


@dataclass
class _Run:
    """A run's events, the step of each, and the states between the steps."""

    model: Model
    events: list[Event]
    step_of: list[int]
    states: list[int]

    def freed(self, at: int) -> list[Cover]:
        """The tables that the step freed whose last event is this."""
        model, step = self.model, self.step_of[at]
        f = int(model.t.p[layout.F_FREE])
        gone = model.field(self.states[step + 1], f) & ~model.field(self.states[step], f)
        found = []
        for table in (n for n in range(model.setting.tables) if gone >> n & 1):

            def leads(place: int, raw: int, table: int = table) -> bool:
                return model.setting.is_table(raw) and spte_pfn(raw) == table

            def is_root(vcpu: int, state: int, table: int = table) -> bool:
                return self._root(vcpu, state) == table

            cut = self._last(at, partial(_cuts, model, table))
            found.append(self._cover(f"T{table} is freed", at, cut, "cut off", leads, is_root))
        return found

    def promised(self, at: int) -> list[Cover]:
        """The promise that an event makes, if it does."""
        model, access = self.model, self.events[at].node.access
        number = access.number
        first = next(n for n, event in enumerate(self.events) if event.program == self.events[at].program)

        def mapped(place: int, raw: int) -> range:
            _, gfn, pages = model.span(place)
            return range(gfn, gfn + (0 if model.setting.is_table(raw) else pages))

        def maps(place: int, raw: int) -> bool:
            return 0 <= number - spte_pfn(raw) < len(mapped(place, raw))

        def lies_in(place: int, raw: int) -> bool:
            start, end = model.setting.promises[number]
            return any(start <= gfn < end for gfn in mapped(place, raw))

        def may_write(place: int, raw: int) -> bool:
            right = model.setting.hardware.rights(raw) & MAY_WRITE
            return bool(right) and any(number >> gfn & 1 for gfn in mapped(place, raw))

        match access.step:
            case steps.REVOKE:
                zap = self._last(at, partial(_unmaps, model, number))
                return [self._cover(f"pfn {number:x} is the host's", at, zap, "unmapped", maps)]
            case steps.FORGET:
                start, end = model.setting.promises[number]
                what = f"gfns {start} to {end - 1} are forgotten"
                return [self._cover(what, at, first, "the task begins", lies_in)]
            case steps.PROTECT:
                return [self._cover("nobody writes any more", at, first, "the task begins", may_write)]
        return []

    def _last(self, at: int, wanted: Callable[[Event], bool]) -> int:
        return next((n for n in range(at, -1, -1) if wanted(self.events[n])), -1)

    def _cover(
        self, what: str, at: int, since: int, how: str, concerns: Callable[[int, int], bool],
        runs_on: Callable[[int, int], bool] = lambda vcpu, state: False,
    ) -> Cover:  # fmt: skip
        vcpus = []
        for vcpu in range(self.model.setting.vcpus):
            name = self.model.setting.programs[vcpu].name
            vcpus.append((name, self._safe(vcpu, max(since, 0), at, concerns, runs_on)))
        begun = f"{how} at {since + 1}" if since >= 0 else f"never {how}"
        return Cover(f"{what} at {at + 1}", begun, tuple(vcpus))

    def _safe(
        self, vcpu: int, since: int, at: int, concerns: Callable[[int, int], bool], runs_on: Callable[[int, int], bool]
    ) -> str:
        """What kept a vCPU safe that may have cached what was taken away at ``since``."""
        states = self.states[self.step_of[since] : self.step_of[at] + 1]
        cached = [any(concerns(*each) for each in entries_held(self.model, state, vcpu)) for state in states]
        on = [runs_on(vcpu, state) for state in states]
        if not any(cached) and not any(on):
            return "had cached nothing of it"
        flush = self._last(at, lambda event: (event.node.access.step, event.node.access.number) == (steps.FLUSH, vcpu))
        ranged = next((n for n in range(at, since, -1) if self._drops(n, vcpu, concerns)), -1)
        if ranged > flush:
            return f"flushed {self._by(ranged)}"
        asked = self._last(at, partial(_asks, vcpu))
        by = f", asked {self._by(asked)}" if asked > since else ""
        if flush > since:
            return f"flushed at {flush + 1}{by}"
        if by:
            return f"was out of the guest, and flushes before it enters{by}"
        if not cached[-1] and not on[-1]:
            return "dropped it"
        return "was out of the guest, and flushes when it loads a root" if any(on) else "held what memory still gives"

    def _by(self, at: int) -> str:
        event = self.events[at]
        return f"at {at + 1} by {self.model.setting.programs[event.program].name} in {asker(event.node)}"

    def _drops(self, at: int, vcpu: int, concerns: Callable[[int, int], bool]) -> bool:
        """Is an event a flush of a range from outside that drops some of it?"""
        event = self.events[at]
        access = event.node.access
        if access.step != steps.FLUSH_RANGE or access.operands[0][event.result] != vcpu:
            return False
        before, after = (entries_held(self.model, self.states[self.step_of[at] + n], vcpu) for n in (0, 1))
        return any(concerns(*each) for each in before if each not in after)

    def _root(self, vcpu: int, state: int) -> int:
        word = self.model.spte_words + vcpu
        return int(self.model.values[word][self.model.field(state, word)])


def _cuts(model: Model, table: int, event: Event) -> bool:
    """Does an access take a table out of reach: its entry goes, or it leaves the list of roots?"""
    access: Any = event.node.access
    if isinstance(access.word, int):
        leads = [model.setting.is_table(raw) and spte_pfn(raw) == table for raw in (event.before, event.after)]
        return leads == [True, False]
    return bool(access.verb == "remove" and access.word == ("list", words.ROOTS) and access.operands[0] == table)


def _unmaps(model: Model, pfn: int, event: Event) -> bool:
    if not isinstance(event.node.access.word, int):
        return False
    rights, is_table = model.setting.hardware.rights, model.setting.is_table
    maps = [
        bool(rights(raw)) and not is_table(raw) and spte_pfn(raw) <= pfn < spte_pfn(raw) + (2 if raw & LARGE else 1)
        for raw in (event.before, event.after)
    ]
    return maps == [True, False]


def _asks(vcpu: int, event: Event) -> bool:
    access = event.node.access
    return access.verb == "or" and access.word == (words.VCPU_REQUESTS, vcpu) and access.operands[0] != 0
