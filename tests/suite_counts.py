"""How much the checker explores of each litmus test: recorded, so that one that silently explores less is noticed.

``python -m tests.suite_counts`` prints the file anew; a change of it needs a reason in the commit that makes it.
"""

from __future__ import annotations

import json
from pathlib import Path

from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import Budget, check

FILE = Path(__file__).parent / "suite_counts.json"

Counts = dict[str, list[int]]
"""States, transitions and depth by "TEST POLICY BEHAVIOUR", in the tiny geometry."""


def recorded() -> Counts:
    """The counts on file."""
    found: Counts = json.loads(FILE.read_text())
    return found


def measured() -> Counts:
    """The counts now."""
    source, found = Source(), {}
    for test in suite():
        for policy, behaviour in pairs(test):
            result = check(Case(test, policy, behaviour, test.tiny), source, Budget()).result
            found[f"{test.name} {policy} {behaviour}"] = [result.states, result.transitions, result.depth]
    source.close()
    return found


if __name__ == "__main__":
    lines = [f" {json.dumps(name)}: {json.dumps(counts)}" for name, counts in measured().items()]
    print("{\n" + ",\n".join(lines) + "\n}")
