"""Breaks the checker in all ways of tests/checker_mutants.py, and says which laws notice.

    python -m tests.law_table [MISTAKE ...]

breaks copies of the package, one after another, holds every law on the subjects that take no time and on the mutant's
own, and writes the table in docs/soundness.md; with the beginnings of some rows it prints those only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.checker_mutants import MUTANTS, Mutant
from tests.law_smalls import SMALL
from tests.laws import GENERATED, LAWS
from tests.structure import ROOT

PAGE = ROOT / "docs" / "soundness.md"
BEGIN, END = "<!-- python -m tests.law_table -->\n", "<!-- end -->\n"
PACKAGE = ROOT / "src" / "shootdown"
SECONDS_MAX = 900
COMMON = (
    *(make.__name__ for make in SMALL), GENERATED, "nx-recovery rcu-literal 5.17", "collapse-zap rcu 6.1",
    "huge-in-the-way eager 6.13", "B07: a table is freed at once",
)  # fmt: skip
"""Subjects of every row."""


@contextmanager
def broken_package(mutant: Mutant) -> Iterator[Path]:
    """A folder with the package's sources, changed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "shootdown"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for name, old, new in mutant.changes:
            file = copy / "check" / name
            text = file.read_text()
            assert text.count(old) == 1, f"{mutant.wrong}: {name} does not hold the text once: {old!r}"
            file.write_text(text.replace(old, new))
        yield Path(folder)


def noticed(mutant: Mutant, words: list[str]) -> dict[str, tuple[str, str]]:
    """The laws that notice, as tests/laws.py is asked: on which subject, and how."""
    with broken_package(mutant) as folder:
        env = dict(os.environ, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}", PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            [sys.executable, "-m", "tests.laws", *words], env=env, cwd=ROOT, capture_output=True, text=True,
            timeout=SECONDS_MAX,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return {law: (subject, how) for law, subject, how in lines}


def all_noticed(mutant: Mutant) -> dict[str, tuple[str, str]]:
    """The laws that notice, on the common subjects and on the mutant's own."""
    return noticed(mutant, [*COMMON, *[mutant.subject] * (mutant.subject not in COMMON)])


def rows(names: list[str]) -> Iterator[str]:
    """The table's lines, as they are found, two mutants at a time."""
    with ThreadPoolExecutor(2) as pool:
        for part, mutants in MUTANTS.items():
            asked = [m for m in mutants if not names or any(m.wrong.startswith(name) for name in names)]
            for mutant, found in zip(asked, pool.map(all_noticed, asked), strict=True):
                for law, (subject, how) in found.items():
                    print(f"    {mutant.wrong}: {law} by {subject}: {how}", file=sys.stderr, flush=True)
                marks = " | ".join("x" if law in found else " " for law in LAWS)
                yield f"| {part} | {mutant.wrong} | {marks} |\n"


def table_head() -> str:
    """The first two lines of the table."""
    return f"| part | what is wrong with the checker | {' | '.join(LAWS)} |\n{'|---' * (2 + len(LAWS))}|\n"


def write(lines: list[str]) -> None:
    """Put the table into the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table_head() + "".join(lines) + END + rest.split(END)[1])


if __name__ == "__main__":
    asked, found = sys.argv[1:], []
    for line in rows(asked):
        found.append(line)
        print(line, end="", flush=True)
    if not asked:
        write(found)
