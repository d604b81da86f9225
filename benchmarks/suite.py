"""What the litmus suite takes, test by test, and whether it keeps to its time; kept in docs/suite.md.

    python -m benchmarks.suite [--jobs N] [--print]

Searches every test under every policy and behaviour that it names, at full geometry, and finds the schedule of each
that is refuted; then every bug that the tests plant in the MMU, at the geometry in which it is refuted. Writes the
figures into docs/suite.md, or with ``--print`` only prints them. Ends with 1 if a verdict is not the expected one, or
takes longer than what is aimed at: a refutation with its schedule under 2 s of CPU time, all of the suite under 10
minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from shootdown.build_info import describe
from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.schedule.schedule import schedule_of, told
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import HOLDS, REFUTED, Budget, check
from tests.bug_table import ALL
from tests.mutations import Mutation
from tests.test_check_suite import mutated

PAGE = Path(__file__).resolve().parent.parent / "docs" / "suite.md"
BEGIN, END = "<!-- python -m benchmarks.suite -->\n", "<!-- end -->\n"
REFUTATION_SECONDS_MAX = 2.0
SUITE_SECONDS_MAX = 600.0
CORES = 2
HEAD = ("test", "policy", "as of", "verdict", "states", "steps", "depth", "s", "schedule", "s")
TESTS = {test.name: test for test in suite()}


@dataclass(frozen=True)
class Row:
    """A case and its figures: CPU seconds of the search; of a refutation also of its schedule, and how long that is."""

    test: str
    policy: str
    behaviour: str
    expected: str
    verdict: str
    states: int
    transitions: int
    depth: int
    seconds: float
    accesses: int = 0
    schedule_seconds: float = 0.0
    site: str = ""
    """Of a planted bug, what it is."""

    def cells(self) -> tuple[str, ...]:
        """As the page shows it."""
        verdict = self.verdict if self.verdict == self.expected else f"{self.verdict}!"
        schedule = (f"{self.accesses}", f"{self.schedule_seconds:.1f}") if self.accesses else ("", "")
        first = (self.site,) if self.site else ()
        return (
            *first, f"`{self.test}`", f"`{self.policy}`", self.behaviour, verdict,
            f"{self.states:,}", f"{self.transitions:,}", f"{self.depth}", f"{self.seconds:.1f}", *schedule,
        )  # fmt: skip


def asked() -> list[Case]:
    """All that the suite is for."""
    return [Case(test, policy, behaviour, test.full) for test in TESTS.values() for policy, behaviour in pairs(test)]


_sources: list[Source] = []


def measured(case: Case, source: Source | None = None, expected: str = "") -> Row:
    """Search a case, and find its schedule if it is refuted."""
    if source is None:
        if not _sources:
            _sources.append(Source())
        source = _sources[0]
    verdict = check(case, source, Budget())
    result = verdict.result
    row = Row(
        case.test.name, case.policy, case.behaviour, expected or case.expected, verdict.word, result.states,
        result.transitions, result.depth, result.seconds,
    )  # fmt: skip
    if verdict.word != REFUTED:
        return row
    begun = time.process_time()
    moves = len(told(schedule_of(case, source)).moves)
    return replace(row, accesses=moves, schedule_seconds=time.process_time() - begun)


def planted(bug: Mutation) -> Row:
    """The same of a planted bug and the test that refutes it."""
    test = TESTS[bug.test]
    geometry = test.full if bug.full else test.tiny
    case = Case(test, bug.policy, bug.behaviour or test.behaviours[0], geometry, ranged=bug.ranged)
    with tempfile.TemporaryDirectory() as folder, mutated(bug, Path(folder)) as source:
        return replace(measured(case, source, REFUTED if bug.breaks else HOLDS), site=bug.site)


def late(rows: Sequence[Row]) -> list[Row]:
    """The refutations that take longer than is aimed at."""
    return [row for row in rows if row.accesses and row.seconds + row.schedule_seconds > REFUTATION_SECONDS_MAX]


def summary(rows: Sequence[Row], bugs: Sequence[Row], wall: float, jobs: int) -> list[str]:
    """What it takes in all, in sentences; ``wall``: seconds for ``rows``."""
    wrong = [row for row in rows if row.verdict != row.expected]
    found = [
        f"{len({row.test for row in rows})} tests, {len(rows)} verdicts, {len(rows) - len(wrong)} as expected;"
        f" {sum(row.states for row in rows):,} states, {sum(row.transitions for row in rows):,} steps.",
        f"{wall:.0f} s on {jobs} cores, schedules included (aim: under {SUITE_SECONDS_MAX:.0f} s on {CORES});"
        f" {sum(row.seconds for row in rows):.0f} s of CPU time for the verdicts.",
    ]
    for what, every in (("refutations", rows), ("planted bugs are refuted", bugs)):
        refuted = [row for row in every if row.accesses]
        slowest = max(refuted, key=lambda row: row.seconds + row.schedule_seconds)
        seconds = slowest.seconds + slowest.schedule_seconds
        found.append(
            f"{len(refuted)} {what}; the slowest with its schedule, in `{slowest.test}` under `{slowest.policy}`:"
            f" {seconds:.2f} s of CPU time (aim: under {REFUTATION_SECONDS_MAX:.0f} s)."
        )
    return found


def table(rows: Sequence[Row], head: tuple[str, ...] = HEAD) -> list[str]:
    """All figures, a line each."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *(row.cells() for row in rows))]


def recorded(part: str = BEGIN) -> list[list[str]]:
    """The cells of each row of a part of the page."""
    lines = PAGE.read_text().partition(part)[2].splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("| ---")) + 1
    end = next(n for n, line in enumerate(lines) if n > begin and not line.startswith("|"))
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[begin:end]]


def main() -> int:
    """Measure, and write or print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--print", action="store_true", help="print the figures, and write no page")
    options = parser.parse_args()
    begun = time.monotonic()
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(measured, asked()))
        wall = time.monotonic() - begun
        bugs = list(pool.map(planted, ALL))
    said = summary(rows, bugs, wall, options.jobs)
    lines = [
        f"Measured with: {describe()}.", "", *(f"* {line}" for line in said), "", *table(rows), "", "## Planted bugs",
        *table(bugs, ("bug", *HEAD)),
    ]  # fmt: skip
    if options.print:
        print("\n".join(lines))
    else:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + after)
        print("\n".join(said))
    wrong = [row for row in (*rows, *bugs) if row.verdict != row.expected]
    slow = late([*rows, *bugs])
    for row in (*wrong, *slow):
        print(f"not as it must be: {row.site} {row.test} under {row.policy}: {row.verdict}, {row.seconds:.1f} s")
    return int(bool(wrong or slow) or wall * min(options.jobs, CORES) / CORES > SUITE_SECONDS_MAX)


if __name__ == "__main__":
    raise SystemExit(main())
