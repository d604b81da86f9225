"""Verdicts as ``shootdown check`` prints them, in lines and as JSON, and the exit code that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

from ..check.litmus.cases import Case
from ..check.litmus.litmus import SUITE, Litmus
from ..check.schedule.drawing import mermaid, table
from ..check.schedule.story import Story
from ..check.source.diff import Hunk
from ..check.verdict.answer import answer
from ..check.verdict.run import Answer
from ..check.verdict.verdict import HOLDS, REFUTED, Verdict
from ..check.verdict.why import Why
from ..figures import count, number
from .report import dump, wrap

TABLE, MERMAID, JSON = "table", "mermaid", "json"
"""Forms of a schedule."""
FINE, BAD_INPUT, REFUTED_CODE, UNDETERMINED_CODE = 0, 1, 2, 3

SHORT = {"undetermined": "unknown", "not exercised": "idle"}
KEPT = "kept"
"""Stands for the seconds of what was not searched again."""
HEADING = f"{'test':22} {'policy':14} as of {'verdict':8} {'states':>7} {'steps':>7} depth     s"


def line(verdict: Verdict, heading: bool, kept: bool = False) -> str:
    """One verdict, under the heading if it is the first; ``kept``: it is an earlier run's."""
    result, case = verdict.result, verdict.case
    word = SHORT.get(verdict.word, verdict.word) + ("" if verdict.as_expected else "!")
    text = f"{case.test.name:22} {case.policy}"
    figures = (
        _short(result.states),
        _short(result.transitions),
        str(result.depth),
        KEPT if kept else f"{result.seconds:.1f}",
    )
    # What is too long for its column takes from the blanks of those behind it.
    for end, cell in ((38, case.behaviour), (44, word)):
        text = f"{text:{end - 1}} {cell}"
    for end, cell in zip((60, 68, 74, 80), figures, strict=True):
        text += " " + cell.rjust(end - len(text) - 1)
    return f"{HEADING}\n{text}" if heading else text


def upwards(probability: float) -> str:
    """Two digits, rounded up."""
    return f"{Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(probability):.1e}"


def _short(value: int) -> str:
    """A count in at most seven characters, below a thousand million."""
    return number(value) if value < 10**6 else f"{value / 1e6:,.1f} M"


def end(
    found: Sequence[Answer], idle: Sequence[Hunk], named: bool, patches: Sequence[str], saved: str | None, form: str,
    notes: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """What is printed below the verdicts: schedules, what was not determined or not run, and the sum of it.

    ``notes`` say how it was searched.
    """
    lines = []
    for each in found:
        if each.story:
            case = each.verdict.case
            lines += ["", *promise(case), "", *drawn(each.story, form), "", *_how_to_replay(case, patches, saved)]
        if each.why:
            lines += explained(each.verdict, each.why, form)
    lines.append("")
    verdicts = [each.verdict for each in found]
    for verdict in verdicts:
        if verdict.reason:
            lines += wrap(f"{verdict.case}: {verdict.word}: {verdict.reason}", "    ", "")
    lines += [f"not exercised: {hunk}" for hunk in idle]
    lines += [text for note in notes for text in wrap(note, "    ", "")]
    texts = [] if named or patches else answer(verdicts)
    missed = sum(v.result.omission for v in verdicts if v.bounded)
    if missed:
        lines += wrap(f"holds within: hash compaction, omission <= {upwards(missed)} in all of these searches")
    if not texts or not all(verdict.as_expected for verdict in verdicts):
        texts = [as_expected(verdicts, [str(verdict.case) for verdict in verdicts])]
    return lines + [text for each in texts for text in wrap(each)]


def as_expected(found: Sequence[Verdict], names: Sequence[str]) -> str:
    """How many verdicts there are, and which of them, by their names, are not as their tests expect."""
    other = [f"{name} ({verdict.word})" for name, verdict in zip(names, found, strict=True) if not verdict.as_expected]
    if other:
        return f"{len(other)} of {len(found)} verdicts are not as expected: {', '.join(other)}."
    return f"{count(len(found), 'verdict')}, all as expected."


def explained(verdict: Verdict, why: Why, form: str) -> list[str]:
    """Why a case holds: a run in which all that it is about happens, what covered it, what the whole search did."""
    lines = ["", *promise(verdict.case), ""]
    if why.witness:
        lines += [*drawn(why.witness, form), ""]
    else:
        lines += [*wrap(f"No run to show: {why.reason}."), ""]
    for cover in why.covers:
        lines += wrap(f"{cover.what}; {cover.since}")
        lines += [text for name, how in cover.vcpus for text in wrap(f"{name} {how}", "        ", "    ")]
    lines += ["", "In all runs:"]
    for title, found in (
        ("flushes asked for by", verdict.exercised.flushes), ("gave way", verdict.exercised.yields),
        ("tables freed by", verdict.exercised.frees), ("waited for", verdict.exercised.waits),
        ("at stake", verdict.exercised.at_stake),
    ):  # fmt: skip
        lines += wrap(f"{title}: {', '.join(found) or 'none'}", "        ", "    ")
    return lines


def drawn(story: Story, form: str) -> list[str]:
    """A schedule in one of the forms that people read."""
    return mermaid(story) if form == MERMAID else table(story).lines()


def promise(case: Case) -> list[str]:
    """What a schedule breaks, above it."""
    return wrap(f"{case}: {case.test.promise}")


def _how_to_replay(case: Case, patches: Sequence[str], saved: str | None) -> list[str]:
    if saved:
        return [f"Replay: shootdown check --schedule {saved}"]
    extra = " --tiny" if case.geometry != case.test.full else ""
    extra += f" --store-buffers {case.buffers}" if case.buffers else ""
    extra += " --ranged" if case.ranged else ""
    extra += "".join(f" --patch {patch}" for patch in patches)
    name = case.test.name if Path(case.test.path).parent == SUITE else case.test.path
    return wrap(
        f"Replay: shootdown check {name} --policy {case.policy} --behaviour {case.behaviour}"
        f"{extra} --save FILE, then shootdown check --schedule FILE", "    ", "",
    )  # fmt: skip


def code(found: Sequence[Verdict], idle: bool, named: bool) -> int:
    """The exit code; by name, what is refuted counts even if it is expected. ``idle``: some of a patch never ran."""
    if any(v.word == REFUTED if named else v.word in (HOLDS, REFUTED) and not v.as_expected for v in found):
        return REFUTED_CODE
    return UNDETERMINED_CODE if idle or any(v.word not in (HOLDS, REFUTED) for v in found) else FINE


def document(found: Sequence[Answer], idle: Sequence[Hunk]) -> dict[str, Any]:
    """All verdicts for JSON."""
    return {"tests": [_document(each) for each in found], "not_exercised": [str(hunk) for hunk in idle]}


def _document(found: Answer) -> dict[str, Any]:
    return {
        **document_of(found.verdict),
        "schedule": asdict(found.story) if found.story else None,
        "why": asdict(found.why) if found.why else None,
    }


def document_of(verdict: Verdict) -> dict[str, Any]:
    """One verdict for JSON, without how it came about."""
    result, case = verdict.result, verdict.case
    return {
        "name": case.test.name,
        "policy": case.policy,
        "behaviour": case.behaviour,
        "geometry": vars(case.geometry),
        "store_buffers": case.buffers,
        "ranged": case.ranged,
        "verdict": verdict.word,
        "reason": verdict.reason or None,
        "bounds": _bounds(verdict),
        "expected": case.expected,
        "states": result.states,
        "transitions": result.transitions,
        "depth": result.depth,
        "seconds": round(result.seconds, 3),
        "exercised": asdict(verdict.exercised),
    }


def _bounds(verdict: Verdict) -> dict[str, Any] | None:
    """What a verdict other than a refutation is no more than."""
    if verdict.bounded:
        return {"omission": verdict.result.omission}
    return {"within": list(verdict.bounds)} if verdict.bounds and verdict.word != REFUTED else None


def print_tests(tests: Sequence[Litmus], as_json: bool) -> None:
    """Name tests and their promises."""
    if not as_json:
        for test in tests:
            print("\n".join([test.name, *wrap(test.promise, "    ", "    ")]))
        return
    listed = [
        {
            "name": test.name,
            "promise": test.promise,
            "guards": test.guards,
            "behaviours": test.behaviours,
            "policies": test.policies,
            "refuted": sorted(test.refuted),
            "geometry": vars(test.full),
            "tiny": vars(test.tiny),
        }
        for test in tests
    ]
    print(dump("check --list", {"tests": listed}))
