"""Every bug, dropped flush, innocent form, rule and flush site that is known of KVM's TDP MMU has its place here."""

from __future__ import annotations

import re

import pytest

from . import bug_rows, properties
from .structure import ROOT

MUST = (
    "B01 B02 B03 B04 B05 B06 B07 B08 B09 B11 B14 B15 B16 B17 B18 B19 B20 B21 B22 B24 B26 B28 B29 B33 B34 B35 B37 B39"
    " B40 B42 B43 B44 B47 B48 B49 B51 B52 B53 B55 B57 B59 B60 B61 B64 B67"
).split()
"""Bugs that a checker of the protocol must refute, where it has what they are about."""
INVARIANTS = "B12 B13 B23 B27 B38".split()
"""Bugs that break nothing but an assertion of the MMU."""
OTHERS = "B25 B30 B31 B45 B50 B54 B56 B58 B63 B65 B66".split()
"""Bugs that cost time only, or that have nothing to do with page tables under concurrency."""
FLUSHES = [*(f"E{n:02}" for n in range(1, 27)), "E14b"]
RIGHT = [f"K{n:02}" for n in range(1, 28)]
RULES = [f"I-{n}" for n in range(1, 32)] + [f"P{n}" for n in range(1, 9)]
SITES = [f"F{n}" for n in range(1, 23)]

MODEL = (ROOT / "docs" / "model.md").read_text()
BEGIN = "### What has no planted bug"
TABLE = MODEL.partition(BEGIN)[2].partition("\n#")[0].splitlines()
TOLD = " ".join(line.split("|")[1] for line in TABLE if line.startswith("|"))
"""The rows of which docs/model.md says that nothing is planted, and why."""


def spread(name: str) -> list[str]:
    """The rows that a name of one stands for: "B49 to B53" is five."""
    first, _, last = name.partition(" to ")
    if not last:
        return [first]
    return [f"{first[0]}{n:02}" for n in range(int(first[1:]), int(last[1:]) + 1)]


def told(name: str) -> bool:
    """Does docs/model.md say why nothing is planted for a row?"""
    return any(name in spread(each) for each in re.findall(r"[BEIKF]-?\d+b?(?: to [BEIKF]-?\d+)?", TOLD))


ROWS = {name: row for row in (*bug_rows.BUGS, *bug_rows.FLUSHES, *bug_rows.RIGHT) for name in spread(row[0])}
RULE = {rule[0]: rule for rule in properties.RULES}


@pytest.mark.parametrize("name", [*MUST, *INVARIANTS, *OTHERS, *FLUSHES])
def test_every_bug_and_flush_is_planted_or_told_of(name: str) -> None:
    """It is refuted, or shown to be harmless, by a test; or docs/model.md names it with the reason."""
    what = ROWS[name][3]
    assert isinstance(what, tuple) or not what.startswith("*") or told(name), f"{name} is neither"
    assert not (isinstance(what, tuple) and told(name)), f"{name} is planted: docs/model.md need not name it"


@pytest.mark.parametrize("name", RIGHT)
def test_every_innocent_form_holds_or_is_told_of(name: str) -> None:
    """Right code that looks wrong is run by tests that hold, or named in docs/model.md."""
    what = ROWS[name][3]
    assert isinstance(what, tuple) or "hold" in what or told(name)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_tests_and_what_breaks_it_or_is_told_of(name: str) -> None:
    """A rule is broken by a planted bug that a test refutes, or named in docs/model.md."""
    what = RULE[name][4]
    assert isinstance(what, tuple) or told(name) or "tests/test_" in what


@pytest.mark.parametrize("name", SITES)
def test_every_flush_site_is_in_the_table(name: str) -> None:
    """docs/model.md says of each place where KVM flushes which test needs it, or that it is not here."""
    table = MODEL.partition("## Flush sites")[2].partition("\n\nPlanted as well")[0]
    rows = [line for line in table.splitlines() if re.match(rf"\| (.*, )?{name}\b", line)]
    assert rows
    assert all("refuted" in row or "legal" in row or "none" in row for row in rows)


def test_what_is_told_of_is_known() -> None:
    """docs/model.md names no row that there is not."""
    names = {each for found in re.findall(r"[BEIKF]-?\d+b?(?: to [BEIKF]-?\d+)?", TOLD) for each in spread(found)}
    assert names <= {*MUST, *INVARIANTS, *OTHERS, *FLUSHES, *RIGHT, *RULES, *SITES}
