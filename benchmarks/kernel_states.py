"""How fast the C of trees is explored, and what a state of it weighs.

    python -m benchmarks.kernel_states [--tiny] [--yields N] TREE... [--test NAME]...

Of each test that is for a tree, under the tree's own behaviour, the full geometry or the tiny one, a line: states,
steps, bytes a state (its row, parent and share of the index, and of all that states share, which is kept once: stacks,
tables, variables), million steps a second of CPU time, of one core. Then totals over all tests, and over those that
take so long that starting counts for nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shootdown.check.litmus.litmus import suite
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.verdict import cases, judge
from shootdown.kernel.library.build import EXPLORE, build
from shootdown.kernel.source.likeness import likeness
from shootdown.kernel.source.tree import find_tree

LONG = 0.2
"""CPU seconds of a search from which on it is one that counts."""
STEPS_AIM, BYTES_AIM = 1.0, 120


@dataclass(frozen=True)
class Row:
    """What a search took."""

    name: str
    states: int
    steps: int
    bytes: float
    seconds: float

    def text(self) -> str:
        """For people."""
        speed = f"{self.steps / self.seconds / 1e6:8.2f}" if self.seconds else ""
        return f"{self.name:32}{self.states:>11,}{self.steps:>12,}{self.bytes / max(1, self.states):7.0f}{speed}"


def total(name: str, rows: Iterable[Row]) -> Row:
    """Their sum."""
    kept = list(rows)
    return Row(
        name, sum(row.states for row in kept), sum(row.steps for row in kept), sum(row.bytes for row in kept),
        sum(row.seconds for row in kept),
    )  # fmt: skip


def measured(path: Path, names: list[str], tiny: bool, options: Options) -> list[Row]:
    """All tests of a tree, one after the other."""
    library = build(find_tree(str(path)), EXPLORE)
    rows = []
    tests = [test for test in suite() if not names or test.name in names]
    for case in cases(tests, likeness(library.tree).behaviour, tiny):
        outcome = judge(case, library, options, Budget(states=1 << 40, seconds=600.0)).outcome
        states = outcome.states
        rows.append(Row(case.test.name, states, outcome.transitions, outcome.bytes_a_state * states, outcome.seconds))
        print(rows[-1].text(), flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_states")
    parser.add_argument("--tiny", action="store_true", help="the tiny geometry")
    parser.add_argument("--yields", type=int, default=Options().yields, help="how often a task gives way")
    parser.add_argument("--test", action="append", default=[], metavar="NAME", help="only these tests")
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    asked = parser.parse_args()
    for path in asked.trees:
        print(f"{path.name}\n{'':32}{'states':>11}{'steps':>12}{'bytes':>7}{'M/s':>8}")
        rows = measured(path, asked.test, asked.tiny, Options(yields=asked.yields))
        for row in (total("all", rows), total("those that take long", (row for row in rows if row.seconds >= LONG))):
            print(row.text())
    print(f"aims: {STEPS_AIM:.1f} M steps a second, {BYTES_AIM} bytes a state")


if __name__ == "__main__":
    main()
