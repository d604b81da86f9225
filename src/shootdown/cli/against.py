"""``shootdown check --against``: what is another on one tree's C than on another's, as text to paste into a review."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from ..check.verdict.verdict import REFUTED
from ..figures import count
from ..kernel.cost.costs import FAILS, JOBS, NUMBER, RUNS, Change, compare
from ..kernel.explore.schedule import table
from ..kernel.explore.verdict import Judged
from ..kernel.library.build import NATIVE, build
from ..kernel.source.series import Patch, apply
from ..kernel.source.tree import Tree
from . import progress, verdicts
from .check_tree import Asked, not_exercised, verdicts_on
from .report import columns, dump

WIDTH: Final = 72
"""Of a line in a mail, unless it is of a schedule."""
Row = tuple[str, Judged | None, Judged | None]


def against(tree: Tree, other: Tree, patches: Sequence[Patch], asked: Asked) -> int:
    """Compare a tree with the patches to another one; the exit code is about verdicts, not about costs."""
    applied = apply(tree, patches)
    patched = applied.tree
    mine = {e.verdict.case.test.name: e for e in verdicts_on(patched, asked, heading=False)}
    theirs = {e.verdict.case.test.name: e for e in verdicts_on(other, asked, heading=False)}
    rows = [(name, theirs.get(name), mine.get(name)) for name in sorted(mine.keys() | theirs.keys())]
    changed = [row for row in rows if words(row[1]) != words(row[2])]
    parts = not_exercised(applied, asked) if patches else []
    libraries = build(other, NATIVE).path, build(patched, NATIVE).path
    write = progress.line()
    with progress.covering(lambda: f"all verdicts are in, but not what operations cost on {tree.name}"):
        costs = compare(libraries, lambda done: write(lambda: f"costs: {done} of {len(JOBS)} operations done"))
    progress.clear()
    if asked.as_json:
        tests = [{"name": name, "before": words(before)[0], "after": words(after)[0]} for name, before, after in rows]
        rest = {"costs": [vars(each) for each in costs], "not_exercised": [str(part) for part in parts]}
        print(dump("check --against", {"tests": tests, **rest}))
        return _code(bool(changed), bool(parts))
    with_patches = f" with {count(len(patches), 'patch', 'patches')}" if patches else ""
    text = [
        *folded(f"before: {other.name}, Linux {other.version}"),
        *folded(f"after:  {tree.name}, Linux {tree.version}{with_patches}"),
        "", *_verdicts(changed, len(rows)), *(line for part in parts for line in folded(f"not exercised: {part}")), "",
        *costs_text(costs),
    ]  # fmt: skip
    print("\n".join(text))
    return _code(bool(changed), bool(parts))


def _code(changed: bool, idle: bool) -> int:
    """The exit code; ``idle``: some of a patch never ran, so that nothing is shown of it."""
    return verdicts.REFUTED_CODE if changed else verdicts.UNDETERMINED_CODE if idle else verdicts.FINE


def folded(text: str) -> list[str]:
    """Text in lines for a mail."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def words(judged: Judged | None) -> tuple[str, ...]:
    """A verdict, and of what is refuted what broke."""
    if judged is None:
        return ("not tested",)
    word = judged.verdict.word
    return (f"{word}: {judged.outcome.broken}",) if word == REFUTED else (word,)


def _verdicts(changed: Sequence[Row], number: int) -> list[str]:
    lines = []
    for name, before, after in changed:
        lines += folded(f"{name:24} {words(before)[0]} -> {words(after)[0]}")
        if after and after.verdict.word == REFUTED:
            lines += ["", *table(after.outcome, after.scenario).lines(), ""]
    return [*lines, f"{count(len(changed), 'verdict')} changed, {number - len(changed)} the same."]


def costs_text(costs: Sequence[Change]) -> list[str]:
    """What became more or less: a block for each operation of which something did."""
    if not costs:
        return folded(f"Costs: none changed, in {len(JOBS)} operations on {NUMBER:,} SPTEs each.")
    rows, ends = [("", "before", "after")], []
    for operation, parts in groupby(costs, key=lambda each: each.operation):
        rows.append((operation, "", ""))
        for each in parts:
            if each.what == FAILS:
                ends += folded(f"{operation}, before: {each.before}; after: {each.after}")
            else:
                rows.append((f"  {each.what}", each.before, each.after))
    changed = len({each.operation for each in costs})
    return [
        *folded(f"Costs on one CPU, by operation, of {NUMBER:,} SPTEs each:"),
        *columns(rows), *ends,
        *folded(
            f"{count(changed, 'operation')} of {len(JOBS)} changed. ns: the fastest of {RUNS} runs in turns, where "
            "they are 10 % apart and most runs of one are faster than all of the other."
        ),
    ]  # fmt: skip
