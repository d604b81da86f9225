"""The schedule of a refuted scenario of the kernel's C as a table, with the tree's own files and lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ...check.schedule import phrases
from ...check.schedule.columns import Table, broken_lines
from ...check.schedule.drawing import table as drawn
from ...check.schedule.story import MEMORY, RCU, Move, Note, Story
from ..library.build import C
from .scenario import Event, Frame, Held, Outcome, Scenario
from .wording import POISON, Words, access, cached, changed_by, is_told, proves, word

MARK = "+"
"""Before the names of our own files, which stand for what is around the tree's three."""
TAKES = {"read_lock": "{} for read", "write_lock": "{} for write", "spin_lock": "{}", "mutex_lock": "{}",
         "rcu_read_lock": "an RCU section", "srcu_read_lock": "an SRCU section"}  # fmt: skip
TO_VCPUS = ("send_ipi", "wait_ipi", "flush_range")
"""What is about the vCPU that it names, and no access to a word."""
LEAVES = {"read_unlock": "read_lock", "write_unlock": "write_lock", "spin_unlock": "spin_lock",
          "mutex_unlock": "mutex_lock", "rcu_read_unlock": "rcu_read_lock",
          "srcu_read_unlock": "srcu_read_lock"}  # fmt: skip


def table(outcome: Outcome, scenario: Scenario) -> Table:
    """A schedule as users read it."""
    told = story(outcome, scenario)
    return drawn(told) if told.moves else Table([], [], broken_lines(told.broken))


def story(outcome: Outcome, scenario: Scenario) -> Story:
    """A schedule as plain data: a move for each row of the table."""
    if not outcome.events:
        return Story((), (), tuple(_before_all(outcome)), (), ())
    words = Words(scenario)
    words.learn_roots(outcome.events)
    for event in outcome.events:
        for seen in event.cached:
            words.learn(seen)
    events = _told(outcome)
    names = [
        task.name or (f"vCPU{task.vcpu}" if task.vcpu >= 0 else f"task {n}") for n, task in enumerate(scenario.tasks)
    ]
    tasks = [names[n] for n in sorted({event.cpu for event in events if event.cpu >= 0})] or ["task"]
    moves: list[Move] = []
    before: dict[int, list[str]] = {}
    sets: dict[int, tuple[Held, ...]] = {}
    holds: dict[int, list[str]] = {n: [] for n in range(len(names))}
    for row in rows(outcome, scenario):
        told = access(row[0], words, len(row) - 1)
        about = word(row[0], words, len(row) - 1)
        notes: list[Note] = []
        for each in row:
            words.follow(each)
            _hold(holds, each)
            sets |= {seen.vcpu: seen.held for seen in each.cached}
            notes += _notes(each, words, before, names)
        task = names[row[0].cpu] if row[0].cpu >= 0 else tasks[0]
        moves.append(_move(len(moves) + 1, task, told, row[0], about, tuple(notes), names))
    texts = [broken_by(outcome, names)]
    if outcome.place:
        texts.append(f"At {where(outcome.place)}, in {outcome.place[0].function}.")
    proof = [cached(each, words) for each in sets.get(outcome.vcpu, ()) if proves(each, outcome.broken)]
    if outcome.vcpu >= 0 and proof:
        texts.append(f"It may have cached {'; '.join(proof)}.")
    standing = [f"{names[n]}: {_stands(outcome, n)}holds {', '.join(holds[n]) or 'no lock'}" for n in range(len(names))]
    legend = words.legend()
    if any(move.where.startswith(MARK) for move in moves):
        legend.append(f"{MARK}: in our drivers, which stand for the kernel's code around the MMU's own files")
    return Story(tuple(tasks), tuple(moves), tuple(texts), tuple(standing), tuple(legend))


def _move(
    number: int, task: str, told: str, event: Event, about: tuple[str, str, str], notes: tuple[Note, ...],
    names: Sequence[str],
) -> Move:  # fmt: skip
    frame = _shown(event.frames)
    sptes = [
        f"{raw:x}" if event.table >= 0 and about[0] and raw != POISON else "" for raw in (event.before, event.after)
    ]
    return Move(
        number, task, told, _to(event, about[0], names), where(event.frames), frame.function if frame else "", *about,
        sptes[0], sptes[1], notes,
    )  # fmt: skip


def _to(event: Event, about: str, names: Sequence[str]) -> str:
    """Whom an access is about."""
    if event.kind in ("call_rcu", "callback"):
        return RCU
    name = event.name.partition(".")[0]
    if name in names and (event.kind in TO_VCPUS or event.name.endswith((".requests", ".mode"))):
        return name
    return MEMORY if about or event.kind in ("alloc", "free") else ""


def _before_all(outcome: Outcome) -> list[str]:
    """What broke while the VM was made, before any task took a step."""
    texts = [f"Before any task runs, while the VM is made: {outcome.message}."]
    if outcome.place:
        texts.append(f"At {where(outcome.place)}, in {outcome.place[0].function}.")
    return [
        *texts,
        "If no patch is to blame, a driver of ours does not fit this tree (kernel/c/drivers: heads say what they "
        "need).",
    ]


def broken_by(outcome: Outcome, names: Sequence[str]) -> str:
    """The broken promise in a sentence; ``names``: of the tasks, those of vCPUs first."""
    if outcome.broken == "leak":
        return phrases.LEAKED
    who = outcome.vcpu if outcome.broken.endswith("in reach") or outcome.broken == "stale" else outcome.cpu
    if outcome.broken in phrases.BREAKS and 0 <= who < len(names):
        return f"{names[who]} {phrases.BREAKS[outcome.broken]}."
    return f"{outcome.message}."


def rows(outcome: Outcome, scenario: Scenario) -> list[list[Event]]:
    """The events of each row of the table."""
    return [list(group) for _, group in groupby(_told(outcome), key=lambda event: _group(event, scenario))]


def _told(outcome: Outcome) -> list[Event]:
    changed = changed_by(outcome.events)
    return [event for event in outcome.events if is_told(event, changed)]


def where(frames: tuple[Frame, ...]) -> str:
    """File and line of an access: of the first frame that is no accessor inlined from a header."""
    frame = _shown(frames)
    mark = MARK if frame and frame.file.endswith(".c") and frame.file.startswith(str(C)) else ""
    return f"{mark}{Path(frame.file).name}:{frame.line}" if frame else ""


def _shown(frames: tuple[Frame, ...]) -> Frame | None:
    return next((frame for frame in frames if frame.file.endswith(".c")), frames[0] if frames else None)


def _stands(outcome: Outcome, task: int) -> str:
    """After which of its accesses a task stands."""
    done = [event for event in outcome.events if event.cpu == task and event.frames]
    return f"after {where(done[-1].frames)}, " if done else ""


def _group(event: Event, scenario: Scenario) -> object:
    """Equal for accesses that make one row: those to entries in a row that no other task can name."""
    if event.table >= 0 and event.index >= scenario.entries:
        return event.cpu, event.kind, event.table, event.before, event.after, where(event.frames)
    return id(event)


def _hold(holds: dict[int, list[str]], event: Event) -> None:
    if event.kind in TAKES:
        holds[event.cpu].append(TAKES[event.kind].format(event.name or "a lock"))
    elif event.kind in LEAVES:
        text = TAKES[LEAVES[event.kind]].format(event.name or "a lock")
        if text in holds[event.cpu]:
            holds[event.cpu].remove(text)


def _notes(event: Event, words: Words, before: dict[int, list[str]], names: list[str]) -> list[Note]:
    """What a vCPU may newly have cached or has dropped."""
    found = []
    for each in event.cached:
        now = [cached(held, words) for held in each.held]
        known = before.get(each.vcpu)
        before[each.vcpu] = now
        if now == known or (known is None and not now):
            continue
        fresh = [text for text in now if text not in (known or [])]
        name = names[each.vcpu]
        if fresh:
            found.append(Note(name, f"{name} may cache {'; '.join(fresh)}"))
        elif not now:
            found.append(Note(name, f"{name} holds nothing cached"))
    return found
