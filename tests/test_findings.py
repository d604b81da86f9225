"""What docs/findings.md states of trees is what the commands there give; trees are those of tests/trees.py."""

from __future__ import annotations

import re

import pytest

from shootdown.check.litmus.litmus import suite
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.verdict import cases, judge
from shootdown.kernel.source.likeness import likeness
from tests.structure import ROOT
from tests.trees import explored

pytestmark = pytest.mark.slow
SUITE = {test.name: test for test in suite()}
COMMAND = re.compile(
    r"^    shootdown check --(?:tree linux-|debian )(\S+) (\S+) +# (refuted|holds)(?: in (\d+) steps)?(.*)$",
    re.MULTILINE,
)
STATED = [
    (version, name, word, int(steps or 0))
    for tree, name, word, steps, more in COMMAND.findall((ROOT / "docs" / "findings.md").read_text())
    for version in (tree, *re.findall(r"\b6\.\d+\b", more))
]
"""Kernel, test, verdict and, where it is refuted, steps."""


def test_findings_are_read() -> None:
    """Each entry states some, for each kernel at hand."""
    assert len(STATED) > 20
    assert {version for version, *_ in STATED} == {"6.1", "6.12", "6.13", "6.14", "6.18", "6.19"}
    assert all(bool(steps) == (word == "refuted") for _, _, word, steps in STATED)


@pytest.mark.parametrize(("version", "name", "word", "steps"), STATED)
def test_findings_state_what_is_found(version: str, name: str, word: str, steps: int) -> None:
    """The verdict is the one that is stated, and a schedule has as many steps."""
    library = explored(version)
    (case,) = cases([SUITE[name]], likeness(library.tree).behaviour, tiny=False)
    outcome = judge(case, library, Options(), Budget(states=1 << 40, seconds=120.0)).outcome
    assert (outcome.word, outcome.depth if outcome.broken else 0) == (word, steps)
