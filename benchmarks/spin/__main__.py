"""The same protocol checked by Spin and by shootdown: equal verdicts, equal counts, and the CPU time of both.

    python -m benchmarks.spin [POLICY...]

runs ``twin.py`` here and ``twin.pml`` with Spin, for each policy, and prints two tables (CPU seconds, medians
of three).

Every access a step: states and transitions of both without any reduction, which are equal where the protocol holds
(Spin counts the first state as a transition, so one is taken off), and what they took. Where it is refuted, we stop at
the first state of the least depth and Spin in the middle of its depth-first search; then the length of the schedule is
compared, with that of Spin's breadth-first search.

Verdict: each tool with its own reduction, movers here, partial orders there; beside it the seconds of Spin's
breadth-first search, whose schedule is as short as ours. ``build`` is ``spin -a`` and ``gcc -O2``; ours is all from the
first unrolling to the verdict. ``times``: how many times as long as ours Spin took, and with its build; the aims are 5
where the protocol holds, 20 where it is refuted.

Ends with 1 if a verdict, a count or a length differs. Needs ``spin`` and ``gcc``.
"""

from __future__ import annotations

import gc
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.spin.twin import POLICIES, REFUTED, setting
from shootdown.build_info import describe
from shootdown.check.program import frames
from shootdown.check.search.model import Model
from shootdown.check.search.search import search

RUNS = 3
SOURCE = Path(__file__).with_name("twin.pml")
AIM_HOLDS, AIM_REFUTED = 5, 20


@dataclass(frozen=True)
class Found:
    """What a search gave: verdict, states, transitions, steps of the schedule (0: none), CPU seconds."""

    refuted: bool
    states: int
    transitions: int
    depth: int
    seconds: float


def ours(policy: str, movers: bool) -> Found:
    """Check with shootdown, from the first unrolling on."""
    frames.stop_of.cache_clear()
    frames.shape_of.cache_clear()
    gc.collect()
    begun = time.process_time()
    result = search(Model(setting(policy), movers))
    seconds = time.process_time() - begun
    refuted = result.broken != 0
    return Found(refuted, result.states, result.transitions, result.depth if refuted else 0, seconds)


def run(folder: Path, *command: str) -> tuple[str, float]:
    """Output of a program in ``folder``, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def build_spin(folder: Path, policy: str, *flags: str) -> float:
    """Make Spin's checker for a policy; CPU seconds of ``spin -a`` and gcc."""
    _, made = run(folder, "spin", "-a", f"-DPOLICY={POLICIES.index(policy)}", str(SOURCE))
    _, compiled = run(folder, "gcc", "-w", "-O2", "-DSAFETY", *flags, "-o", "pan", "pan.c")
    return made + compiled


def spin(folder: Path, policy: str) -> Found:
    """Run Spin's checker."""
    text, seconds = run(folder, "./pan")
    if "max search depth too small" in text:
        raise SystemExit(f"Spin did not finish: {text}")

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        if found is None:
            raise SystemExit(f"no '{pattern}' in the output of Spin:\n{text}")
        return int(found[1])

    depth = re.search(r"at depth (\d+)", text)
    return Found(
        number(r"errors: (\d+)") > 0, number(r"(\d+) states, stored"), number(r"(\d+) transitions") - 1,
        int(depth[1]) + 1 if depth else 0, seconds,
    )  # fmt: skip


def median(work: Callable[[], Found]) -> Found:
    """One of several equal runs, with the median of their times."""
    found = [work() for _ in range(RUNS)]
    return replace(found[0], seconds=statistics.median(one.seconds for one in found))


@dataclass
class Pair:
    """What both gave for a policy: here without and with movers; Spin without and with reduction, and breadth-first."""

    policy: str
    plain: Found
    moved: Found
    full: Found
    reduced: Found
    breadth: Found
    build: float

    @property
    def equal(self) -> bool:
        """Are the counts equal, or the lengths of the shortest schedules?"""
        if self.plain.refuted:
            return self.plain.depth == self.breadth.depth
        return (self.plain.states, self.plain.transitions) == (self.full.states, self.full.transitions)

    @property
    def right(self) -> bool:
        """Did all give the verdict that the policy deserves?"""
        found = (self.plain, self.moved, self.full, self.reduced, self.breadth)
        return all(one.refuted == (self.policy in REFUTED) for one in found)

    def counts(self) -> str:
        """Line of the first table."""
        plain, full = self.plain, self.full
        word = "equal" if self.equal else "DIFFERENT"
        if plain.refuted:
            word = f"{word} steps: {plain.depth}"
        return (
            f"{self.policy:13}{plain.states:>9}{plain.transitions:>9}{plain.seconds:8.3f}"
            f"{full.states:>9}{full.transitions:>9}{full.seconds:8.3f}  {word}"
        )

    def times(self) -> str:
        """Line of the second table."""
        moved, reduced = self.moved, self.reduced
        word = ("refuted" if moved.refuted else "holds") if self.right else "WRONG"
        aim = AIM_REFUTED if moved.refuted else AIM_HOLDS
        return (
            f"{self.policy:13}{word:8}{moved.states:>7}{moved.seconds:7.3f}"
            f"{reduced.states:>9}{reduced.seconds:7.3f}{self.breadth.seconds:7.3f}{self.build:7.2f}"
            f"{reduced.seconds / moved.seconds:7.1f}{(reduced.seconds + self.build) / moved.seconds:7.0f}{aim:5}"
        )


def compare(folder: Path, policy: str) -> Pair:
    """Run both on a policy."""
    plain = median(lambda: ours(policy, movers=False))
    moved = median(lambda: ours(policy, movers=True))
    theirs = []
    build = 0.0
    for flags in (("-DNOREDUCE",), ("-DBFS", "-DNOREDUCE"), ()):
        build = build_spin(folder, policy, *flags)
        theirs.append(median(lambda: spin(folder, policy)))
    full, breadth, reduced = theirs
    return Pair(policy, plain, moved, full, reduced, breadth, build)


def main() -> int:
    """Measure, compare and print."""
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as name:
        pairs = [compare(Path(name), policy) for policy in sys.argv[1:] or POLICIES]
        version, _ = run(Path(name), "spin", "-V")
    print(f"{describe()}; {version.strip()}; CPU seconds, medians of {RUNS}\n")
    print("Every access a step")
    print(f"{'':13}{'here':>9}{'trans.':>9}{'s':>8}{'Spin':>9}{'trans.':>9}{'s':>8}")
    for pair in pairs:
        print(pair.counts())
    print("\nVerdict, each with its own reduction")
    print(f"{'':21}{'here':>7}{'s':>7}{'Spin':>9}{'s':>7}{'BFS s':>7}{'build':>7}{'times':>7}{'+build':>7}{'aim':>5}")
    for pair in pairs:
        print(pair.times())
    return 0 if all(pair.equal and pair.right for pair in pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
