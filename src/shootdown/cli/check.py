"""``shootdown check``: is every promise kept under every interleaving? Else the shortest schedule that breaks one."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from ..check.litmus.cases import BUFFERS_MAX, Case, cases
from ..check.litmus.litmus import Litmus, read_litmus, suite
from ..check.schedule.schedule_file import save, try_to_save
from ..check.source.patch import PATCH_MAX
from ..check.source.source import Source
from ..check.verdict import board
from ..check.verdict.patched import Patched, patched
from ..check.verdict.resume import Done, resumed
from ..check.verdict.run import Answer, Job, answers, drawn
from ..check.verdict.verdict import HOLDS, REFUTED, Budget
from ..errors import InputError, reason
from ..figures import count
from ..kernel.explore.scenario import Budget as TreeBudget
from ..kernel.explore.scenario import Options
from ..kernel.source.debian import VERSIONS
from ..kernel.source.tree import find_tree
from ..mmu.behaviour import BEHAVIOURS
from ..mmu.policies.registry import POLICIES
from . import check_tree, verdicts
from .against import against as against_tree
from .follow import follow_file
from .junit import Journal
from .kernel import patches_of, tree_of
from .options import JSON, given
from .progress import clear, line
from .report import dump


def _seconds(context: click.Context, option: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("nan is no number of seconds", context, option)
    return value


@click.command("check")
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(POLICIES)), help="Only this; repeatable.")
@click.option("--behaviour", type=click.Choice(list(BEHAVIOURS)), help="Of that kernel; else each test's first.")
@click.option(
    "--patch",
    "patch_files",
    multiple=True,
    metavar="FILE",
    help="With this diff or mail (-: standard input) applied to the MMU (mmu/*.py), or to the tree; repeatable.",
)
@click.option("--tree", "tree_name", metavar="TREE", help="On the C of this Linux tree (folder or tarball).")
@click.option("--debian", type=click.Choice(VERSIONS), help="On the C of Debian's kernel, downloaded once.")
@click.option("--against", metavar="TREE", help="With --tree: which verdicts differ from that tree's.")
@click.option("--bisect", is_flag=True, help="With --tree: exit codes for git bisect run.")
@click.option("--yields", default=2, show_default=True, type=click.IntRange(-1), help="With --tree: in each run.")
@click.option("--ranged", is_flag=True, help="A flush of a range flushes no more than that.")
@click.option("--failures", default=0, type=click.IntRange(0), help="With --tree: allocations that fail in each run.")
@click.option("--tiny", is_flag=True, help="The smallest geometry of each test.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Search in N processes, each with the memory of a search.  [default: one for each CPU]",
)
@click.option("--save", "save_file", metavar="FILE", help="Write the first schedule found to FILE.")
@click.option("--schedule", "schedule_file", metavar="FILE", help="Follow a saved schedule again, step by step.")
@click.option(
    "--format",
    "form",
    type=click.Choice([verdicts.TABLE, verdicts.MERMAID, verdicts.JSON]),
    help="Of schedules: a table (default), a Mermaid sequence diagram; json: as --json.",
)
@click.option("--why", is_flag=True, help="Of a NAME that holds: a run of all that it is about, and what covered it.")
@click.option("--junit", "junit_file", metavar="FILE", help="Write the verdicts to FILE as JUnit XML, for CI.")
@click.option("--step", is_flag=True, help="With --schedule: a step at a time, by Enter; q ends.")
@click.option("--gdb", is_flag=True, help="With --tree and --schedule: step through the C under gdb.")
@click.option(
    "--max-states",
    default=50_000_000,
    show_default=True,
    type=click.IntRange(1),
    help="Budget of each search: 60 bytes a state, and four times that while arrays grow.",
)
@click.option(
    "--max-seconds",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    callback=_seconds,
    help="Budget of each search, of CPU time.",
)
@click.option("--livelocks", is_flag=True, help="Look for tasks that a fair scheduler may never let end, too.")
@click.option("--compact", is_flag=True, help="Keep hashes of states only: less memory, and a bound on the verdict.")
@click.option(
    "--store-buffers",
    "buffers",
    default=0,
    type=click.IntRange(0, BUFFERS_MAX),
    metavar="N",
    help="x86-TSO, with N stores in each CPU's buffer.  [default: 0, sequential consistency]",
)
@click.option("--resume", "resume_file", metavar="FILE", help="Keep verdicts in FILE, and skip those that are there.")
@click.option("--list", "list_", is_flag=True, help="Name the tests and their promises, and check nothing.")
@JSON
def command(
    names: tuple[str, ...], policies: tuple[str, ...], behaviour: str | None, patch_files: tuple[str, ...],
    tree_name: str | None, debian: str | None, against: str | None, bisect: bool, yields: int, ranged: bool,
    failures: int, tiny: bool, jobs: int | None, save_file: str | None, schedule_file: str | None, form: str | None,
    junit_file: str | None, why: bool, step: bool, gdb: bool, max_states: int, max_seconds: float, compact: bool,
    resume_file: str | None, list_: bool, buffers: int, livelocks: bool, as_json: bool,
) -> int:  # fmt: skip
    """Is every promise kept, whatever the order of steps?

    Explores every interleaving of the MMU's own code in each litmus test (by
    NAME, or a FILE; without, the suite) against worst-case TLBs. A test that
    is refuted by name prints the shortest schedule that breaks its promise.

    \b
    Example: shootdown check
             shootdown check unmap-tables --policy rcu-literal
             shootdown check --patch examples/seed/all.diff --policy eager
             shootdown check --tree ~/linux --patch 0001-my.patch
    Exit codes: 0 all as expected (by name: nothing refuted), 1 bad input,
    2 refuted, 3 undetermined or not exercised, 130 interrupted.
    """
    if tree_name or debian:
        _refuse(
            "is about our MMU, and does not go with --tree or --debian",
            policy=policies, behaviour=behaviour, list=list_, step=step, format=form, junit=junit_file, why=why,
            compact=compact, resume=resume_file, livelocks=livelocks,
        )  # fmt: skip
        if gdb and not schedule_file:
            raise InputError("--gdb goes with --schedule")
        if len(list(filter(None, (schedule_file, against, bisect)))) > 1:
            raise InputError("--schedule, --against and --bisect exclude each other")
        if save_file:
            if schedule_file or against or bisect:
                raise InputError("--save goes without --schedule, --against and --bisect")
            try_to_save(Path(save_file))
        tree = partial(tree_of, tree_name, debian)
        if gdb:
            return check_tree.debug(tree(), patches_of(patch_files), str(schedule_file))
        if schedule_file:
            return check_tree.follow(tree(), patches_of(patch_files), schedule_file, as_json)
        wanted = check_tree.Asked(
            tests_named(names, None), bool(names), tiny, Options(yields, failures, ranged=ranged, tso=buffers > 0),
            TreeBudget(max_states, seconds=max_seconds), jobs or len(os.sched_getaffinity(0)), as_json, save_file,
            given("tree_name", "debian", "patch_files"), given("tiny", "yields", "failures", "ranged", "buffers"),
        )  # fmt: skip
        if bisect:
            if tree_name and not Path(tree_name).exists():
                tree()
            return check_tree.bisect(tree, patch_files, wanted)
        patches = patches_of(patch_files)
        if against:
            return against_tree(tree(), find_tree(against), patches, wanted)
        return check_tree.check_tree(tree(), patches, wanted)
    _refuse(
        "goes with --tree or --debian only",
        against=against, bisect=bisect, failures=failures, gdb=gdb,
    )  # fmt: skip
    form = _form(form, as_json)
    if schedule_file:
        others = (names, policies, behaviour, patch_files, tiny, jobs, save_file, junit_file, resume_file, why, list_)
        if any((*others, compact, buffers, ranged, livelocks)):
            raise InputError(
                "--schedule goes with --json, --format or --step only: the file holds its test, policy and patch"
            )
        return follow_file(schedule_file, form, step)
    if step:
        raise InputError("--step goes with --schedule only")
    _refuse_mixed(policies, behaviour)
    if livelocks and compact:
        raise InputError("--livelocks needs all states, and --compact forgets them")
    if why and not names:
        raise InputError("--why is about a test by name")
    tests = tests_named(names, behaviour)
    if list_:
        verdicts.print_tests(tests, form == verdicts.JSON)
        return verdicts.FINE
    asked = cases(tests, policies, behaviour, tiny, buffers, ranged)
    if not asked:
        raise InputError("no test is for these policies and this behaviour")
    for path in (save_file, junit_file):
        if path:
            try_to_save(Path(path))
    with patched([(_name(path), _read(path)) for path in patch_files]) as sources:
        job = Job(
            Budget(max_states, max_seconds, compact, livelocks), sources.folder, sources.text, sources.files,
            frozenset({HOLDS, REFUTED} if names else {HOLDS} if patch_files or junit_file else ()), why,
        )  # fmt: skip
        journal = Journal(junit_file, asked)
        with resumed(resume_file, job) as done:
            kept = len(done.known(asked))
            found = _run(asked, job, jobs or len(os.sched_getaffinity(0)), form, done, journal)
        idle = sources.idle([answer.verdict for answer in found])
        if save_file:
            _save(found, job, sources, Path(save_file))
        journal.end(found, idle)
        if form == verdicts.JSON:
            print(dump("check", verdicts.document(found, idle)))
        else:
            notes = _notes(found, why, kept, resume_file, {
                "--tiny": tiny, "--ranged": ranged, f"--store-buffers {buffers}": buffers > 0,
                "--livelocks": livelocks, "--compact": compact,
            })  # fmt: skip
            print("\n".join(verdicts.end(found, idle, bool(names), patch_files, save_file, form, notes)))
        return verdicts.code([answer.verdict for answer in found], bool(idle), bool(names))


def _notes(found: list[Answer], why: bool, kept: int, file: str | None, given: dict[str, bool]) -> list[str]:
    """How it was searched: options that say what a verdict is worth, verdicts of an earlier run, what has no why."""
    notes = []
    if any(given.values()):
        notes.append(f"searched with {', '.join(option for option, is_given in given.items() if is_given)}")
    if kept:
        notes.append(f"{verdicts.KEPT}: {kept} of {count(len(found), 'verdict')} from {file}, not searched again")
    if why:
        notes += [
            f"no --why of {answer.verdict.case}: it explains what holds, and this is {answer.verdict.word}"
            for answer in found
            if answer.verdict.word != HOLDS
        ]
    return notes


def _form(form: str | None, as_json: bool) -> str:
    """The form of what is printed; --json is one, too."""
    if as_json and form not in (None, verdicts.JSON):
        raise InputError(f"--json and --format {form} exclude each other")
    return verdicts.JSON if as_json else form or verdicts.TABLE


def _refuse_mixed(policies: tuple[str, ...], behaviour: str | None) -> None:
    """Refuse a behaviour that is not that of a policy which stands for one kernel."""
    for name in policies:
        own = POLICIES[name].behaviour
        if POLICIES[name].exact and behaviour not in (None, own):
            raise InputError(f"policy {name} is behaviour {own}, not {behaviour}", advice="leave --behaviour out")


def _refuse(why_not: str, /, **given: object) -> None:
    """Raise InputError for the first option that is given."""
    for name, value in given.items():
        if value:
            raise InputError(f"--{name} {why_not}")


def tests_named(names: tuple[str, ...], behaviour: str | None) -> list[Litmus]:
    """The tests that names and files mean, all if there are none."""
    known = {test.name: test for test in suite()}
    found = []
    for name in names:
        if name in known:
            test = known[name]
        elif "/" in name or name.endswith(".toml"):
            test = read_litmus(Path(name))
        else:
            raise InputError(f"no test is called '{name}'", advice="see shootdown check --list, or give a .toml file")
        if behaviour and not test.is_for(behaviour):
            until = f" until {test.until}" if test.until else ""
            raise InputError(f"{name} is for {', '.join(test.behaviours)}{until}, not for {behaviour}")
        found.append(test)
    return found or list(known.values())


def _name(path: str) -> str:
    return "standard input" if path == "-" else path


def _read(path: str) -> str:
    """The text of a patch."""
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
            raw = file.read(PATCH_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if len(raw) > PATCH_MAX:
        raise InputError(f"{_name(path)}: longer than {PATCH_MAX >> 20} MB: no patch to the MMU's sources")
    return raw.decode("utf-8", "replace")


def _run(asked: list[Case], job: Job, jobs: int, form: str, done: Done, journal: Journal) -> list[Answer]:
    """All answers; each verdict is printed as it comes, and those of an earlier run in their places."""
    journal.note(())
    known, found = done.known(asked), list[Answer]()
    rest = [case for n, case in enumerate(asked) if n not in known]
    jobs = max(1, min(jobs, len(rest)))
    figures = board.Board(jobs)
    try:
        with closing(answers(rest, job, jobs, figures, _ticker(asked, found, figures), done.add)) as coming:
            for n in range(len(asked)):
                answer = known[n] if n in known else next(coming)
                clear()
                found.append(answer)
                if form != verdicts.JSON:
                    print(verdicts.line(answer.verdict, len(found) == 1, kept=n in known), flush=True)
                journal.note(found)
    except KeyboardInterrupt:
        clear()
        journal.note(found, now=True)
        covered = f"{len(found)} of {count(len(asked), 'verdict')}, {count(figures.states, 'state')} seen"
        kept = f"; kept in {done.file.name}" if done.file else ""
        print(f"shootdown: interrupted: {covered}{kept}", file=sys.stderr)
        raise
    except SystemExit:
        journal.note(found, now=True)
        raise
    return found


def _ticker(asked: list[Case], found: list[Answer], figures: board.Board) -> Callable[[], None]:
    """A function that shows how far the searches are."""
    write, begun = line(), time.monotonic()

    def text() -> str:
        what = f"{len(found)} of {len(asked)} done" if len(asked) > 1 else str(asked[0])
        rate = figures.states / (time.monotonic() - begun) / 1e6
        waiting, memory = figures.total(board.WAITING), figures.total(board.MEMORY)
        return f"{what}: {figures.states:,} states, {waiting:,} waiting, {rate:.2f} M/s, {memory:,} MB"

    return lambda: write(text)


def _save(found: list[Answer], job: Job, sources: Patched, path: Path) -> None:
    """Write the first schedule, of a case that was to be refuted if there is no other."""
    first = next((answer for answer in found if answer.document), None)
    if first is None:
        refuted = [answer for answer in found if answer.verdict.word == REFUTED]
        if not refuted:
            print(f"shootdown: nothing was refuted, so {path} was not written", file=sys.stderr)
            return
        with closing(Source(sources.folder)) as source:
            first = drawn(refuted[0], job, source)
    save(first.document, path)
