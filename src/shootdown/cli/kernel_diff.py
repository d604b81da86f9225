"""``shootdown kernel diff`` and ``bench``: the kernel's own C beside our MMU."""

from __future__ import annotations

import click

from ..build_info import compiled, describe
from ..errors import InputError
from ..figures import number
from ..kernel.compare.differ import Outcome, diff
from ..kernel.compare.pair import POLICY_OF
from ..kernel.cost.bench import Timing, measure
from ..kernel.cost.workloads import WORKLOADS
from ..kernel.source.likeness import Likeness, likeness
from ..kernel.source.tree import Tree
from . import kernel, progress
from .kernel_beside import STOPPED, Covered, built, code, document, heading, story
from .kernel_litmus import litmus_diff
from .kernel_trace import trace_diff
from .options import JSON
from .report import columns, dump, wrap

OPERATIONS = 100_000
EVERY_PLAIN = 8
"""Uncompiled, entries are compared this seldom; a difference is still traced to the operation that made it."""

BEHAVIOUR = click.option(
    "--behaviour", type=click.Choice([*POLICY_OF]), help="Beside our MMU as in that kernel; else as in the most alike."
)


def _patched(tree_name: str | None, debian: str | None, patch_names: tuple[str, ...]) -> tuple[Tree, bool]:
    return kernel.patched(kernel.tree_of(tree_name, debian), kernel.patches_of(patch_names))


def _behaviour(like: Likeness, asked: str | None) -> str:
    if asked is None and like.behaviour not in POLICY_OF:
        raise InputError(
            f"the tree is most like our {like}, whose flushes no policy of ours has",
            advice=f"give --behaviour, one of {', '.join(POLICY_OF)}",
        )
    return asked or like.behaviour


@click.command("diff")
@kernel.TREE
@kernel.DEBIAN
@kernel.PATCH
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--litmus", is_flag=True, help="Go through the litmus tests, or those that are named.")
@click.option("--trace", metavar="FILE", help="Do what this recording tells.")
@click.option("--orders", type=click.IntRange(0), default=20, show_default=True, help="With --litmus: mixed ones.")
@click.option("--operations", type=click.IntRange(1), help=f"How many random ones.  [default: {OPERATIONS}]")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the random numbers.")
@BEHAVIOUR
@JSON
def diff_command(
    tree_name: str | None,
    debian: str | None,
    patch_names: tuple[str, ...],
    names: tuple[str, ...],
    litmus: bool,
    trace: str | None,
    orders: int,
    operations: int | None,
    seed: int,
    behaviour: str | None,
    as_json: bool,
) -> int:
    """Compare the kernel's own C with our MMU.

    Both are driven with the same random operations, with those of litmus tests
    in many orders, or with a recording's; after each, every SPTE, counter, flush
    request, freed table and dirty bit must be the same (SPTEs that a recording's
    operation is not about: now and then). The first difference is shown as a
    short list of operations.

    \b
    Example: shootdown kernel diff ~/linux --operations 10000
             shootdown kernel diff --debian 6.12 --litmus unmap-leafs
    Exit codes: 0 no difference found, 1 bad input, 2 they differ, 3 both stop
    at an assertion, a recording has nothing to compare, or nothing of the
    patches is built.
    """
    if litmus and debian and tree_name:
        names = (tree_name, *names)
        tree_name = None
    if names and not litmus:
        raise InputError(f"'{names[0]}' is one name too many", advice="give --litmus before names of tests")
    if litmus and trace:
        raise InputError("--litmus and --trace exclude each other")
    if operations and (litmus or trace):
        raise InputError("operations are random, or of --litmus, or of --trace", advice="leave --operations out")
    tree, seen = _patched(tree_name, debian, patch_names)
    like = likeness(tree)
    chosen = _behaviour(like, behaviour)
    if litmus:
        found = litmus_diff(tree, lambda: built(tree), chosen, names, orders, seed, as_json)
    elif trace:
        found = trace_diff(tree, lambda: built(tree), chosen, trace, as_json)
    else:
        found = _random_diff(tree, like, chosen, operations or OPERATIONS, seed, as_json)
    return found if seen or found else STOPPED


def _random_diff(tree: Tree, like: Likeness, chosen: str, operations: int, seed: int, as_json: bool) -> int:
    library = built(tree)
    at = Covered()
    tell = at.along(progress.reporter("operations"))
    every = 1 if compiled() else EVERY_PLAIN
    with progress.covering(lambda: at.text(f"of {number(operations)} operations on {tree.name}")):
        outcome = diff(library, chosen, operations, seed, every=every, tell=tell, differs=at.differ)
    progress.clear()
    if as_json:
        print(dump("kernel diff", _document(tree, chosen, seed, outcome)))
    else:
        print("\n".join(_text(tree, like, chosen, seed, outcome)))
    return code(outcome.difference is not None, bool(outcome.stopped))


def _text(tree: Tree, like: Likeness, chosen: str, seed: int, outcome: Outcome) -> list[str]:
    lines = heading(tree, chosen, f"; seed {seed}")
    if str(like) != chosen:
        lines += wrap(f"note: the tree is most like our {like}", "    ", "  ")
    if outcome.difference:
        return [
            *lines,
            f"DIFFERS after {number(outcome.operations)} operations; in short:",
            *story(outcome.difference),
        ]
    lines.append(f"no difference in {number(outcome.operations)} operations on {number(outcome.sessions)} VMs")
    for text in outcome.stopped:
        lines += wrap(f"both stop in {text}; what follows on that VM is not compared", "    ", "  ")
    for text, times in outcome.warned.items():
        lines += wrap(f"both warn, {number(times)} x, and another VM goes on: {text}", "    ", "  ")
    rows = [[name, number(times)] for name, times in sorted(outcome.counts.items(), key=lambda item: -item[1])]
    return [*lines, *wrap("done: " + ", ".join(f"{name} {times}" for name, times in rows), "  ")]


def _document(tree: Tree, chosen: str, seed: int, outcome: Outcome) -> dict[str, object]:
    return document(
        tree, chosen, seed=seed, operations=outcome.operations, vms=outcome.sessions, counts=outcome.counts,
        stopped=list(outcome.stopped), warned=outcome.warned,
        difference=outcome.difference and outcome.difference.as_json(),
    )  # fmt: skip


@click.command("bench")
@kernel.TREE
@kernel.DEBIAN
@kernel.PATCH
@click.option("--sptes", type=click.IntRange(512, 2_000_000), default=1_000_000, show_default=True, help="How many.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Of each; the median counts.")
@BEHAVIOUR
@JSON
def bench_command(
    tree_name: str | None,
    debian: str | None,
    patch_names: tuple[str, ...],
    sptes: int,
    runs: int,
    behaviour: str | None,
    as_json: bool,
) -> int:
    """Time the kernel's own C beside our MMU.

    Nanoseconds of the processor's time per 4K SPTE, for the same work in one
    run. In both, locks are only checked or nothing, and a flush is a counter.

    \b
    Example: shootdown kernel bench ~/linux
    Exit codes: 0 done, 1 bad input.
    """
    tree, _ = _patched(tree_name, debian, patch_names)
    chosen = _behaviour(likeness(tree), behaviour)
    library, timings = built(tree), list[Timing]()
    with progress.covering(lambda: f"{len(timings)} of {len(WORKLOADS)} operations timed on {tree.name}"):
        for workload in WORKLOADS:
            timings.append(measure(workload, library, chosen, sptes, runs))
    if as_json:
        print(dump("kernel bench", _timings(tree, chosen, sptes, runs, timings)))
        return 0
    print("\n".join(heading(tree, chosen, f"; {describe()}")))
    print(f"  {number(sptes)} SPTEs, median of {runs}, ns per SPTE")
    rows = [["operation", "its C", "ours", "times"]]
    rows += [[t.name, f"{t.theirs_ns:.1f}", f"{t.ours_ns:.1f}", f"{t.times:.1f}"] for t in timings]
    print("\n".join(columns(rows)))
    return 0


def _timings(tree: Tree, chosen: str, sptes: int, runs: int, timings: list[Timing]) -> dict[str, object]:
    rows = [{"operation": t.name, "kernel": round(t.theirs_ns, 2), "ours": round(t.ours_ns, 2)} for t in timings]
    return document(tree, chosen, build=describe(), sptes=sptes, runs=runs, ns_per_spte=rows)
