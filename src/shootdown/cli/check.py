"""``shootdown check``: is every promise kept under every interleaving? Else the shortest schedule that breaks one."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..check.answer import answer
from ..check.litmus import SUITE, Litmus, read_litmus, suite
from ..check.patch import PATCH_MAX, Hunk, apply, read_patch
from ..check.schedule import Schedule, schedule_of, table
from ..check.schedule_file import follow, read, save
from ..check.source import Source
from ..check.verdict import HOLDS, REFUTED, Budget, Verdict, behaviour_of, check
from ..errors import InputError
from ..mmu.behaviour import BEHAVIOURS
from ..mmu.policies.registry import POLICIES
from .progress import clear
from .report import count, dump, number, wrap

FINE, REFUTED_CODE, UNDETERMINED_CODE = 0, 2, 3


@dataclass
class Patch:
    """A patch that is applied to the sources: its text, its hunks, and the copy of the sources."""

    path: str
    text: str
    hunks: list[Hunk]
    source: Source

    @property
    def files(self) -> frozenset[str]:
        """The files that it changes, in the copy."""
        return frozenset(str(self.source.folder / hunk.file) for hunk in self.hunks)

    def idle(self, verdicts: list[Verdict]) -> list[Hunk]:
        """Hunks that change code which no test ran."""
        ran = {line for verdict in verdicts for line in verdict.model.automata.lines}
        folder = self.source.folder
        # A hunk without statements changes comments only.
        return [
            hunk
            for hunk in self.hunks
            if hunk.lines and not any((str(folder / hunk.file), line) in ran for line in hunk.lines)
        ]


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(POLICIES)), help="Only this; repeatable.")
@click.option("--behaviour", type=click.Choice(list(BEHAVIOURS)), help="Of that kernel; else each test's first.")
@click.option("--patch", "patch_file", metavar="FILE", help="With this diff or mail applied to the MMU (mmu/*.py).")
@click.option("--tiny", is_flag=True, help="The smallest geometry of each test.")
@click.option("--save", "save_file", metavar="FILE", help="Write the first schedule found to FILE.")
@click.option("--schedule", "schedule_file", metavar="FILE", help="Follow a saved schedule again, step by step.")
@click.option("--max-states", default=50_000_000, show_default=True, type=click.IntRange(1), help="Budget a test.")
@click.option("--max-seconds", default=600.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--list", "list_", is_flag=True, help="Name the tests and their promises, and check nothing.")
@click.option("--json", "as_json", is_flag=True, help="JSON (docs/json.md).")
def command(
    names: tuple[str, ...], policies: tuple[str, ...], behaviour: str | None, patch_file: str | None, tiny: bool,
    save_file: str | None, schedule_file: str | None, max_states: int, max_seconds: float,
    list_: bool, as_json: bool,
) -> int:  # fmt: skip
    """Is every promise kept, whatever the order of steps?

    Explores every interleaving of the MMU's own code in each litmus test (by
    NAME, or a FILE; without, the suite) against worst-case TLBs. A test that
    is refuted by name prints the shortest schedule that breaks its promise.

    \b
    Example: shootdown check
             shootdown check unmap-tables --policy rcu-literal
             shootdown check --patch examples/seed/all.diff --policy eager
    Exit codes: 0 all as expected (by name: nothing refuted), 1 bad input,
    2 refuted, 3 undetermined or not exercised, 130 interrupted.
    """
    if schedule_file:
        if names or policies or behaviour or patch_file or tiny or save_file:
            raise InputError("--schedule goes with --json only: the file holds its test, policy and patch")
        return _follow(schedule_file, as_json)
    _refuse_mixed(policies, behaviour)
    tests = _tests(names, behaviour)
    if list_:
        for test in tests:
            print("\n".join([test.name, *wrap(test.promise, "    ", "    ")]))
        return FINE
    with _patched(patch_file) as patch:
        source = patch.source if patch else Source()
        verdicts: list[Verdict] = []
        schedules: list[Schedule] = []
        budget = Budget(max_states, max_seconds)
        for test, policy, chosen in _cases(tests, policies, behaviour):
            geometry = test.tiny if tiny else test.full
            watch = patch.files if patch else frozenset()
            report = _progress(f"{test.name}, {policy}")
            verdict = check(test, policy, chosen, geometry, source, budget, report, watch)
            clear()
            if not as_json:
                print(_line(verdict, heading=not verdicts), flush=True)
            verdicts.append(verdict)
            if verdict.word != REFUTED:
                verdict.model.release()
            if verdict.word == REFUTED and (names or patch) and (names or verdict.expected != REFUTED):
                schedules.append(schedule_of(verdict, source))
        if not verdicts:
            raise InputError("no test is for these policies and this behaviour")
        idle = patch.idle(verdicts) if patch else []
        if save_file:
            if not schedules:
                schedules += [schedule_of(v, source) for v in verdicts if v.word == REFUTED][:1]
            if schedules:
                save(schedules[0], Path(save_file), patch.text if patch else "")
            else:
                print(f"shootdown: nothing was refuted, so {save_file} was not written", file=sys.stderr)
        if as_json:
            print(dump("check", {"tests": [_document(v) for v in verdicts], "not_exercised": [str(h) for h in idle]}))
        else:
            _print_end(verdicts, schedules, idle, bool(names), patch_file, save_file)
        return _code(verdicts, idle, bool(names))


def _refuse_mixed(policies: tuple[str, ...], behaviour: str | None) -> None:
    """Refuse a behaviour that is not that of a policy which stands for one kernel."""
    for name in policies:
        own = POLICIES[name].behaviour
        if POLICIES[name].exact and behaviour not in (None, own):
            raise InputError(f"policy {name} is behaviour {own}, not {behaviour}", advice="leave --behaviour out")


def _tests(names: tuple[str, ...], behaviour: str | None) -> list[Litmus]:
    known = {test.name: test for test in suite()}
    found = []
    for name in names:
        if name in known:
            test = known[name]
        elif "/" in name or name.endswith(".toml"):
            test = read_litmus(Path(name))
        else:
            raise InputError(f"no test is called '{name}'", advice="see shootdown check --list, or give a .toml file")
        if behaviour and behaviour not in test.behaviours:
            raise InputError(f"{name} is for {', '.join(test.behaviours)}, not for {behaviour}")
        found.append(test)
    return found or list(known.values())


def _cases(tests: list[Litmus], policies: tuple[str, ...], behaviour: str | None) -> Iterator[tuple[Litmus, str, str]]:
    for test in tests:
        for policy in policies or test.policies:
            chosen = behaviour_of(test, policy, behaviour)
            if chosen is not None:
                yield test, policy, chosen


@contextmanager
def _patched(path: str | None) -> Iterator[Patch | None]:
    """The patch in ``path`` applied to a copy of the sources, which goes in the end."""
    if path is None:
        yield None
        return
    try:
        with Path(path).open("rb") as file:
            raw = file.read(PATCH_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(raw) > PATCH_MAX:
        raise InputError(f"{path}: longer than {PATCH_MAX >> 20} MB: no patch to the MMU's sources")
    with _applied(path, raw.decode("utf-8", "replace")) as patch:
        yield patch


@contextmanager
def _applied(path: str, text: str) -> Iterator[Patch]:
    hunks = read_patch(path, text)
    with tempfile.TemporaryDirectory(prefix="shootdown-") as folder:
        apply(path, hunks, Path(folder))
        source = Source(Path(folder))
        try:
            yield Patch(path, text, hunks, source)
        finally:
            source.close()


def _progress(what: str) -> Any:
    """Progress of a search on a terminal, not more than five times a second."""
    if not sys.stderr.isatty():
        return None
    shown = time.monotonic()

    def report(states: int, waiting: int, seconds: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > 0.2:
            shown = now
            rate = states / max(seconds, 1e-9) / 1e6
            sys.stderr.write(f"\r{what}: {states:,} states, {waiting:,} waiting, {rate:.2f} M/s, {_memory()}\033[K")
            sys.stderr.flush()

    return report


def _memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB"


SHORT = {"undetermined": "unknown", "not exercised": "idle"}
HEADING = f"{'test':22} {'policy':14} as of {'verdict':8} {'states':>7} {'steps':>7} depth     s"


def _line(verdict: Verdict, heading: bool) -> str:
    result = verdict.result
    word = SHORT.get(verdict.word, verdict.word) + ("" if verdict.word == verdict.expected else "!")
    line = (
        f"{verdict.test.name:22} {verdict.policy:14} {verdict.behaviour:5} {word:8} "
        f"{_short(result.states):>7} {_short(result.transitions):>7} {result.depth:5} {result.seconds:5.1f}"
    )
    return f"{HEADING}\n{line}" if heading else line


def _short(count: int) -> str:
    """A count in at most seven characters, below a thousand million."""
    return number(count) if count < 10**6 else f"{count / 1e6:,.1f} M"


def _print_end(
    verdicts: list[Verdict],
    schedules: list[Schedule],
    idle: list[Hunk],
    named: bool,
    patch: str | None,
    saved: str | None,
) -> None:
    for schedule in schedules:
        print()
        print("\n".join(wrap(f"{schedule.test.name} under {schedule.policy}: {schedule.test.promise}")))
        print()
        print("\n".join(table(schedule)))
        print()
        print("\n".join(_how_to_replay(schedule, patch, saved)))
    print()
    for verdict in verdicts:
        if verdict.reason:
            print(
                "\n".join(
                    wrap(f"{verdict.test.name} under {verdict.policy}: {verdict.word}: {verdict.reason}", "    ", "")
                )
            )
    for hunk in idle:
        print(f"not exercised: {hunk}")
    texts = [] if named or patch else answer(verdicts)
    unexpected = [v for v in verdicts if v.word != v.expected]
    if unexpected:
        names = ", ".join(f"{v.test.name} under {v.policy} ({v.word})" for v in unexpected)
        texts = [f"{len(unexpected)} of {len(verdicts)} verdicts are not as expected: {names}."]
    elif not texts:
        texts = [f"{count(len(verdicts), 'verdict')}, all as expected."]
    for text in texts:
        print("\n".join(wrap(text)))


def _how_to_replay(schedule: Schedule, patch: str | None, saved: str | None) -> list[str]:
    if saved:
        return [f"Replay: shootdown check --schedule {saved}"]
    extra = (" --tiny" if schedule.geometry != schedule.test.full else "") + (f" --patch {patch}" if patch else "")
    name = schedule.test.name if Path(schedule.test.path).parent == SUITE else schedule.test.path
    return wrap(
        f"Replay: shootdown check {name} --policy {schedule.policy} --behaviour {schedule.behaviour}"
        f"{extra} --save FILE, then shootdown check --schedule FILE", "    ", "",
    )  # fmt: skip


def _code(verdicts: list[Verdict], idle: list[Hunk], named: bool) -> int:
    refuted = [v for v in verdicts if v.word == REFUTED and (named or v.expected != REFUTED)]
    if refuted or (not named and any(v.word == HOLDS and v.expected == REFUTED for v in verdicts)):
        return REFUTED_CODE
    if idle or any(v.word not in (HOLDS, REFUTED) for v in verdicts):
        return UNDETERMINED_CODE
    return FINE


def _document(verdict: Verdict) -> dict[str, Any]:
    result = verdict.result
    return {
        "name": verdict.test.name,
        "policy": verdict.policy,
        "behaviour": verdict.behaviour,
        "geometry": vars(verdict.geometry),
        "verdict": verdict.word,
        "reason": verdict.reason or None,
        "bounds": None,
        "expected": verdict.expected,
        "states": result.states,
        "transitions": result.transitions,
        "depth": result.depth,
        "seconds": round(result.seconds, 3),
    }


def _follow(path: str, as_json: bool) -> int:
    data = read(Path(path))
    if data["patch"]:
        with _applied(path, data["patch"]) as patch:
            return _show(path, follow(data, path, patch.source), as_json)
    return _show(path, follow(data, path, Source()), as_json)


def _show(path: str, schedule: Schedule, as_json: bool) -> int:
    if as_json:
        body = {"test": schedule.test.name, "policy": schedule.policy, "behaviour": schedule.behaviour,
                "steps": len(schedule.path), "broken": bool(schedule.broken)}  # fmt: skip
        print(dump("check --schedule", body))
    else:
        print("\n".join(wrap(f"{schedule.test.name} under {schedule.policy}: {schedule.test.promise}")))
        print()
        print("\n".join(table(schedule)))
    if not schedule.broken:
        print(f"shootdown: {path}: nothing breaks at its end", file=sys.stderr)
    return REFUTED_CODE if schedule.broken else FINE
