"""A checker that is broken on purpose breaks a law of soundness: so the laws are worth something.

A few mutants always run; all of them where SHOOTDOWN_MUTANTS is set, which takes some two minutes.
"""

from __future__ import annotations

import os

import pytest

from tests import laws
from tests.checker_mutants import MUTANTS, Mutant
from tests.law_table import BEGIN, END, PAGE, noticed, table_head
from tests.laws import GENERATED, LAWS

EVERY = [mutant for mutants in MUTANTS.values() for mutant in mutants]
QUICK = (
    "a vCPU forgets by itself what memory no longer gives",
    "call_rcu is glued to what is before",
    "a place is its innermost frame",
    "a page that is mapped after it was given back is not seen",
)
"""Those that always run."""
ASKED = "SHOOTDOWN_MUTANTS" in os.environ


@pytest.mark.parametrize(
    "mutant", [m for m in EVERY if ASKED or m.wrong in QUICK], ids=lambda mutant: mutant.wrong.replace(" ", "-")
)
def test_a_broken_checker_breaks_a_law(mutant: Mutant) -> None:
    """The law that is named for it notices, on the subject that is named."""
    assert mutant.law in noticed(mutant, [mutant.subject, "--law", mutant.law])


@pytest.mark.skipif(not ASKED, reason="SHOOTDOWN_MUTANTS is not set")
def test_the_checker_as_it_is_breaks_no_law() -> None:
    """What notices a mutant does not notice anything without one."""
    assert list(laws.broken(list(LAWS), [*laws.subjects(), GENERATED])) == []


def test_the_table_has_a_row_for_each_mutant_and_each_is_noticed() -> None:
    """docs/soundness.md was written with these mutants; none of them goes unnoticed there; no two have one name."""
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    lines = text.split(BEGIN)[1].split(END)[0].splitlines()
    assert "\n".join(lines[:2]) + "\n" == table_head()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[1] for row in cells] == [mutant.wrong for mutant in EVERY]
    assert len({mutant.wrong for mutant in EVERY}) == len(EVERY)
    for row, mutant in zip(cells, EVERY, strict=True):
        marks = dict(zip(LAWS, row[2:], strict=True))
        assert marks[mutant.law] == "x", mutant.wrong
