"""What ``shootdown kernel diff --trace`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..build_info import compiled
from ..figures import count, number
from ..kernel.compare.recorded import recorded
from ..kernel.compare.trace_diff import Followed, follow
from ..kernel.source.tree import Tree
from ..trace.events import Trace
from ..trace.read import read_trace
from ..trace.replay.record import WANTED
from . import progress
from .kernel_beside import Covered, code, document, heading, story
from .report import dump, wrap


def trace_diff(tree: Tree, library: Callable[[], Path], chosen: str, path: str, as_json: bool) -> int:
    """Do what a recording tells on both; the exit code."""
    with progress.covering(lambda: f"nothing done on {tree.name}, {path} is not read yet"):
        trace = read_trace(path, WANTED, progress.reporter("events read"))
        told = recorded(trace)
    progress.clear()
    where, at = library(), Covered()
    tell = at.along(progress.reporter("operations"))
    every = sum(len(each.operations) for each in told)
    with progress.covering(lambda: at.text(f"of {count(every, 'operation')} on {tree.name}")):
        found = follow(where, chosen, told, tell=tell, along=compiled(), differs=at.differ)
    progress.clear()
    if as_json:
        vms = [each.as_json(trace.seconds) for each in found]
        print(dump("kernel diff --trace", document(tree, chosen, trace=path, vms=vms)))
    else:
        print("\n".join(_text(tree, chosen, trace, found)))
    return code(any(each.difference for each in found), not found or any(each.stopped for each in found))


def _text(tree: Tree, chosen: str, trace: Trace, found: Sequence[Followed]) -> list[str]:
    tried = sum(each.tried for each in found)
    lines = heading(tree, chosen, f"; {trace.path}")
    for n, each in enumerate(found):
        if each.difference:
            operation, time = each.last
            where = f"after {number(each.tried)} of its operations, {operation} at {trace.stamp(time)}"
            lines += wrap(f"DIFFERS on VM {n}, {where}; in short:", "  ", "")
            lines += story(each.difference)
    if not found:
        lines.append("nothing is compared: the recording tells of no operation that could be done")
    elif not any(each.difference for each in found):
        lines.append(f"no difference in {number(tried)} operations on {count(len(found), 'VM')}")
    for n, each in enumerate(found):
        if each.stopped:
            lines += wrap(f"VM {n}: both stop in {each.stopped}; what follows is not compared", "    ", "  ")
    for word, counts in (
        ("done", _sum(each.done for each in found)),
        ("could not be done", _sum(each.undone for each in found)),
        ("left out, since no operation here does it", _sum(Counter(each.recorded.left_out) for each in found)),
    ):
        if counts:
            what = ", ".join(f"{name} {number(times)}" for name, times in counts.most_common() if times)
            lines += wrap(f"{word}: {what}", "    ", "  ")
    return lines


def _sum(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total
