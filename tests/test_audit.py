"""Rules of which no CPU sees anything: audits that hold beside everything else, and find each bug that is planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import read_litmus, suite
from shootdown.check.program import steps
from shootdown.check.search.model import Model
from shootdown.check.search.search import Result, search
from shootdown.check.source.source import Source

from .audit import Audited, audited
from .audit_bugs import AUDITED, AUDITS
from .mutations import Mutation
from .test_check_suite import mutated

TESTS = {test.name: test for test in suite()}
BROKEN = (steps.ASSERTION, steps.LEAK)
STATES_MAX = 200_000


def explored(name: str, behaviour: str, source: Source, folder: Path) -> Result:
    """What a search of an audit gives, in the smallest geometry; it must come to an end."""
    found = AUDITS[name]
    if found.text:
        path = folder / "audit.toml"
        path.write_text(found.text)
        test = read_litmus(path)
    else:
        test = TESTS[name]
    setting = build(Case(test, "rcu", behaviour or test.behaviours[0], test.tiny), source)
    audited(setting, source, found.who, found.gfn_end)
    model = Model(setting)
    result = search(model, STATES_MAX)
    assert not result.stopped and not model.automata.histories
    return result


@pytest.mark.parametrize(
    ("name", "behaviour"), sorted({(name, "") for name in AUDITS} | {(b.test, b.behaviour) for b in AUDITED})
)
def test_audits_hold(name: str, behaviour: str, tmp_path: Path) -> None:
    """Tables, their records, counters and answers agree at all times."""
    source = Source()
    try:
        assert explored(name, behaviour, source, tmp_path).broken == 0
    finally:
        source.close()


@pytest.mark.parametrize("bug", AUDITED, ids=lambda bug: bug.site)
def test_audits_find_planted_bugs(bug: Audited, tmp_path: Path) -> None:
    """Each breaks a rule that nothing but an audit looks at; one that breaks none is harmless."""
    with mutated(Mutation(bug.site, bug.changes, bug.test, 0), tmp_path) as source:
        result = explored(bug.test, bug.behaviour, source, tmp_path)
        assert result.broken in (BROKEN if bug.property else (0,))
