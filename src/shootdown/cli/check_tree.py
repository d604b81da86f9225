"""``shootdown check --tree``: the litmus tests on the C of the user's own Linux tree, with the user's patches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..check.litmus.litmus import SUITE, Litmus, embedded
from ..check.verdict.verdict import HOLDS, REFUTED
from ..errors import InputError
from ..figures import count
from ..kernel.explore.gdb import step
from ..kernel.explore.scenario import Budget, Options
from ..kernel.explore.schedule import story, table
from ..kernel.explore.schedule_file import follow as followed
from ..kernel.explore.schedule_file import read, save
from ..kernel.explore.unrun import unrun
from ..kernel.explore.verdict import Judged, cases, judged
from ..kernel.library.account import Part
from ..kernel.library.build import EXPLORE, LICENCE, STEPPED, build, compiler
from ..kernel.source.likeness import likeness
from ..kernel.source.needs import needed
from ..kernel.source.series import Patch, Patched, apply
from ..kernel.source.tree import Tree
from . import verdicts
from .kernel import patches_of
from .progress import clear, covering, line
from .report import dump, wrap

BISECT_GOOD, BISECT_BAD, BISECT_SKIP, BISECT_ABORT = 0, 1, 125, 129


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    ``named``: the user named tests; ``source``, ``how``: the options that name the code, and those of exploring.
    """

    tests: Sequence[Litmus]
    named: bool
    tiny: bool
    options: Options
    budget: Budget
    jobs: int
    as_json: bool
    save: str | None
    source: str
    how: str


def check_tree(tree: Tree, patches: Sequence[Patch], asked: Asked) -> int:
    """Check a tree with all patches, and, of a series, with each more of them."""
    if len(patches) > 1:
        return _series(tree, patches, asked)
    patched = apply(tree, patches)
    found = verdicts_on(patched.tree, asked, heading=not asked.as_json)
    parts = not_exercised(patched, asked) if patches else []
    if asked.save and not save(found, tree, patches, asked.options, Path(asked.save)):
        print(f"shootdown: nothing was refuted, so {asked.save} was not written", file=sys.stderr)
    if asked.as_json:
        print(dump("check", _document(patched.tree, found, parts, asked)))
    else:
        print("\n".join(_end(found, parts, asked)))
    return code(found, parts, asked)


def verdicts_on(tree: Tree, asked: Asked, heading: bool) -> list[Judged]:
    """All verdicts on a tree; printed as they come, under a heading, if asked for."""
    like = likeness(tree)
    wanted = cases(asked.tests, like.behaviour, asked.tiny)
    if not wanted:
        what = " and ".join(test.name for test in asked.tests) if asked.named else "no test"
        verb = "is" if len(asked.tests) == 1 or not asked.named else "are"
        denied = " not" if asked.named else ""
        raise InputError(f"{what} {verb}{denied} for a tree like {like}", advice="see shootdown check --list")
    library = build(tree, EXPLORE)
    if heading:
        print("\n".join(wrap(f"{tree.name}: Linux {tree.version}, page tables as our {like}; {LICENCE}", "  ", "")))
    found: list[Judged] = []
    write = line()

    def tick() -> None:
        write(lambda: f"{len(found)} of {len(wanted)} done: {wanted[len(found)] if len(found) < len(wanted) else ''}")

    coming = judged(wanted, library, asked.options, asked.budget, min(asked.jobs, len(wanted)), tick)
    with covering(lambda: f"{len(found)} of {count(len(wanted), 'verdict')} on {tree.name}"), closing(coming):
        for each in coming:
            clear()
            if heading:
                print(verdicts.line(each.verdict, heading=not found), flush=True)
            found.append(each)
    clear()
    return found


def not_exercised(patched: Patched, asked: Asked) -> list[Part]:
    """What of patches no test ran."""
    with covering(lambda: f"all verdicts are in, but not what of the patch never ran on {patched.tree.name}"):
        return unrun(patched, asked.tests, asked.options, asked.jobs)


def code(found: Sequence[Judged], parts: Sequence[Part], asked: Asked) -> int:
    """The exit code; by name, what is refuted counts even if it is expected."""
    return verdicts.code([each.verdict for each in found], bool(parts), asked.named)


def follow(tree: Tree, patches: Sequence[Patch], path: str, as_json: bool) -> int:
    """Follow a saved schedule again on a tree, and print it."""
    data = read(Path(path))
    patched = apply(tree, patches).tree
    outcome, about = followed(data, path, build(patched, EXPLORE))
    if as_json:
        like = likeness(patched).behaviour
        case = next(iter(cases([embedded(data["test"], data["text"], path)], like, False)), None)
        body = {"tree": _about(patched), "test": data["test"], "policy": case.policy if case else "", "behaviour": like,
                "steps": outcome.depth, "broken": True, "what": outcome.broken,
                "schedule": asdict(story(outcome, about))}  # fmt: skip
        print(dump("check --schedule", body))
    else:
        print("\n".join(table(outcome, about).lines()))
    return verdicts.REFUTED_CODE


def debug(tree: Tree, patches: Sequence[Patch], path: str) -> int:
    """Step through a saved schedule under gdb."""
    library = build(apply(tree, patches).tree, STEPPED)
    outcome, about = followed(read(Path(path)), path, library)
    step(library.path, about, outcome)
    return verdicts.REFUTED_CODE


def bisect(tree: Callable[[], Tree], names: tuple[str, ...], asked: Asked) -> int:
    """The exit code for ``git bisect run``: only what is refuted and was not expected to be is bad.

    A commit that has no such tree, or does not build, or where a patch does not apply, is skipped. Raises InputError
    for what would be so at every commit: no compiler, no such patch.
    """
    compiler()
    patches = patches_of(names)
    try:
        found = verdicts_on(apply(tree(), patches).tree, asked, heading=not asked.as_json)
    except InputError as error:
        print(f"shootdown: {error}", file=sys.stderr)
        return BISECT_SKIP
    words = [each.verdict.word for each in found]
    if any(each.verdict.word == REFUTED and not each.verdict.as_expected for each in found):
        return BISECT_BAD
    return BISECT_GOOD if {*words} <= {HOLDS, REFUTED} else BISECT_SKIP


def bad_input(words: Sequence[str]) -> int:
    """The exit code of bad input, by the program's arguments: ``git bisect run`` takes 1 for a bad commit.

    Arguments that are refused are no options yet, so the words themselves are looked at.
    """
    return BISECT_ABORT if words[:1] == ["check"] and "--bisect" in words else verdicts.BAD_INPUT


# A series


def _series(tree: Tree, patches: Sequence[Patch], asked: Asked) -> int:
    """A verdict for each patch of a series with those before it, and for the whole."""
    lines: list[str] = []
    broken: dict[int, list[str]] = {}
    last: list[Judged] = []
    for number in range(len(patches) + 1):
        title = str(patches[number - 1].title or patches[number - 1].where) if number else "the tree as it is"
        head = f"{number}/{len(patches)} {title}"
        try:
            last = verdicts_on(apply(tree, patches[:number]).tree, asked, heading=False)
        except InputError as error:
            if number == len(patches):
                raise
            broken[number] = [f"does not build: {error}"]
        else:
            bad = [each.verdict for each in last if not each.verdict.as_expected]
            if bad:
                broken[number] = [f"{verdict.case.test.name} ({verdict.word})" for verdict in bad]
        text = f"{head}: {'; '.join(broken.get(number, ['as expected']))}"
        lines.append(text)
        if not asked.as_json:
            print("\n".join(wrap(text, "    ", "")), flush=True)
    needs = needed(broken, len(patches))
    patched = apply(tree, patches)
    parts = not_exercised(patched, asked)
    if asked.as_json:
        print(dump("check", {**_document(patched.tree, last, parts, asked), "series": lines, "needs": needs}))
    else:
        print("\n".join([*[text for need in needs for text in wrap(need)], *_end(last, parts, asked)]))
    return code(last, parts, asked)


# Output


def _end(found: Sequence[Judged], parts: Sequence[Part], asked: Asked) -> list[str]:
    """What is printed below the verdicts."""
    lines: list[str] = []
    for each in found:
        if _is_shown(each, asked):
            lines += ["", *verdicts.promise(each.verdict.case), "", *table(each.outcome, each.scenario).lines()]
            lines += ["", *_how_to_replay(each, asked)]
    lines.append("")
    for each in found:
        if each.verdict.reason:
            lines += wrap(f"{each.verdict.case.test.name}: {each.verdict.word}: {each.verdict.reason}", "    ", "")
    for part in parts:
        lines += wrap(f"not exercised: {part}" + (f" ({part.why})" if part.why else ""), "    ", "")
    bounds = [each.verdict.bounds for each in found if each.verdict.word == HOLDS and each.verdict.bounds]
    if bounds:
        common = [text for text in bounds[0] if all(text in other for other in bounds)]
        lines += wrap(f"holds within: {'; '.join(common)}.", "    ", "")
    every = [each.verdict for each in found]
    if parts and all(verdict.as_expected for verdict in every):
        number = count(len(every), "verdict")
        return [*lines, *wrap(f"{number}, but part of the patch never ran: nothing is shown of that part.")]
    return [*lines, *wrap(verdicts.as_expected(every, [verdict.case.test.name for verdict in every]))]


def _how_to_replay(each: Judged, asked: Asked) -> list[str]:
    """The command that takes the steps of a schedule again."""
    follow = f"shootdown check {asked.source} --schedule"
    if asked.save:
        return wrap(f"Replay: {follow} {asked.save}", "    ", "")
    test = each.verdict.case.test
    name = test.name if Path(test.path).parent == SUITE else test.path
    how = f" {asked.how}" if asked.how else ""
    return wrap(f"Replay: shootdown check {name} {asked.source}{how} --save FILE, then {follow} FILE", "    ", "")


def _is_shown(each: Judged, asked: Asked) -> bool:
    """Is a schedule printed?"""
    return each.verdict.word == REFUTED and (asked.named or not each.verdict.as_expected)


def _document(tree: Tree, found: Sequence[Judged], parts: Sequence[Part], asked: Asked) -> dict[str, Any]:
    return {
        "tree": _about(tree),
        "tests": [
            {**verdicts.document_of(each.verdict), "why": None,
             "schedule": asdict(story(each.outcome, each.scenario)) if _is_shown(each, asked) else None,
             "broken": each.outcome.broken or None,
             "bytes_a_state": round(each.outcome.bytes_a_state, 1), "races": len(each.outcome.races)}
            for each in found
        ],
        "not_exercised": [str(part) for part in parts],
    }  # fmt: skip


def _about(tree: Tree) -> dict[str, Any]:
    like = likeness(tree)
    return {"name": tree.name, "version": tree.version, "behaviour": like.behaviour, "differs": list(like.differs)}
