"""What ``shootdown kernel diff --litmus`` prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from ..figures import count, number
from ..kernel.compare.litmus_diff import Compared, compare
from ..kernel.source.tree import Tree
from . import progress
from .check import tests_named
from .kernel_beside import Covered, code, document, heading, story
from .report import dump, wrap

BOUNDS = (
    "Orders are of whole calls: none is interrupted by another. Guests cache nothing, a freed table is free at once, "
    "and memory for tables never runs out."
)


def litmus_diff(
    tree: Tree, library: Callable[[], Path], chosen: str, names: tuple[str, ...], orders: int, seed: int, as_json: bool
) -> int:
    """Compare the litmus tests that are for a behaviour; the exit code."""
    tests = [test for test in tests_named(names, None) if test.is_for(chosen)]
    for name in names:
        if not any(name in (test.name, test.path) for test in tests):
            raise InputError(f"{name} is no test for {chosen}", advice="see shootdown check --list")
    where = library()
    write = progress.line()
    done: list[Compared] = []

    def tell(each: Compared) -> None:
        done.append(each)
        if not as_json and (names or _is_told(each)):
            progress.clear()
            print("\n".join(_lines(each)), flush=True)
        write(lambda: f"{len(done)} of {len(tests)} tests done")

    if not as_json:
        print("\n".join(heading(tree, chosen, f"; {count(len(tests), 'litmus test')}, seed {seed}")))
    at = Covered()

    def text() -> str:
        at.done = len(done)
        return at.text(f"of {count(len(tests), 'test')} on {tree.name}")

    with progress.covering(text):
        found = compare(where, chosen, tests, orders, seed, tell=tell, differs=at.differ)
    progress.clear()
    if as_json:
        print(dump("kernel diff --litmus", document(tree, chosen, seed=seed, tests=[each.as_json() for each in found])))
    else:
        print("\n".join(_end(found)))
    return code(any(each.difference for each in found), any(each.stopped for each in found))


def _is_told(each: Compared) -> bool:
    return bool(each.difference or each.left_out or each.stopped or each.warned)


def _lines(each: Compared) -> list[str]:
    whole = f"{'all ' if each.complete else ''}{number(each.serial)} of whole tasks"
    word = "DIFFERS after" if each.difference else "same in"
    lines = wrap(f"{each.test.name}: {word} {whole} and {number(each.woven)} mixed orders", "    ", "  ")
    for text in each.left_out:
        lines += wrap(f"not here: {text}", "      ", "    ")
    for text in each.stopped:
        lines += wrap(f"both stop in {text}", "      ", "    ")
    for text in each.warned:
        lines += wrap(f"both warn, and that order ends there: {text}", "      ", "    ")
    return [*lines, *(f"  {line}" for line in story(each.difference))] if each.difference else lines


def _end(found: Sequence[Compared]) -> list[str]:
    orders = sum(each.serial + each.woven for each in found)
    operations = sum(each.operations for each in found)
    differ = [each.test.name for each in found if each.difference]
    stopped = [each.test.name for each in found if each.stopped]
    what = f"{number(operations)} operations in {number(orders)} orders"
    lines = wrap(f"DIFFERENT: {', '.join(differ)}; {what}" if differ else f"no difference in {what}", "  ", "")
    if stopped:
        lines += wrap(f"both stop at an assertion, and what follows is not compared: {', '.join(stopped)}", "  ", "")
    return [*lines, *wrap(BOUNDS)]
