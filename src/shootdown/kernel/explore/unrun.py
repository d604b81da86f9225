"""What of patches no test runs: nothing may hold that was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ...check.litmus.litmus import Litmus
from ..library.account import NEVER, Part, account, idle
from ..library.build import COVERAGE, build
from ..library.coverage import code_of
from ..source.likeness import likeness
from ..source.series import Patched
from .scenario import Budget, Options
from .verdict import cases, judged

COVERED = Budget(states=300_000, seconds=60.0)
"""How far a test is followed to see which lines run: code that is not optimised takes several times as long."""


def unrun(patched: Patched, tests: Sequence[Litmus], options: Options, jobs: int = 1) -> list[Part]:
    """The parts of all hunks that no test runs, or that are not compiled; ``jobs`` tests are run at a time."""
    library = build(patched.tree, COVERAGE)
    known = code_of(library)
    ran: frozenset[int] = frozenset()
    missing = idle(account(patched, known, known.ran(ran)))
    asked = cases(tests, likeness(patched.tree).behaviour, tiny=True)
    with closing(judged(asked, library, options, COVERED, jobs, lambda: None)) as coming:
        # What is not compiled no test runs: only what was not reached yet is worth another.
        while any(part.state == NEVER for part in missing) and (judgement := next(coming, None)):
            ran |= judgement.outcome.ran
            missing = idle(account(patched, known, known.ran(ran)))
    return missing
