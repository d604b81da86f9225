"""The question of November 2021, answered from the verdicts of the suite."""

from __future__ import annotations

from ...figures import count
from .verdict import HOLDS, REFUTED, Verdict

QUESTION = (
    "Removed page tables are freed by RCU, and the CPU that zaps is an RCU reader itself: is one flush before it "
    "leaves its read section enough, so that a flush for each table, or a list of removed tables, can go?"
)
LACKS = {
    "zap_gfn_range": "the flush of zap_gfn_range before it leaves its RCU section",
    "recover_nx_huge_pages": "NX recovery's flush inside its RCU section",
}
"""What ``rcu-literal`` lacks, by the function in which the tests that refute it get stuck."""


def answer(verdicts: list[Verdict]) -> list[str]:
    """Sentences; none if the verdicts are not about ``rcu`` and the mail read literally."""
    by_policy: dict[str, list[Verdict]] = {}
    defects = []
    for verdict in verdicts:
        if verdict.word == REFUTED and verdict.case.behaviour in verdict.case.test.defects:
            # A defect of the kernel itself, whatever the policy, says nothing about policies.
            defects.append(verdict)
        else:
            by_policy.setdefault(verdict.case.policy, []).append(verdict)
    if "rcu" not in by_policy or "rcu-literal" not in by_policy:
        return []
    found = [QUESTION]
    rcu = by_policy["rcu"]
    if all(verdict.word == HOLDS for verdict in rcu):
        tests = _all_but("rcu", rcu, defects)
        found.append(f"Yes: under every interleaving (tables of 2 entries), rcu keeps the promise of {tests}.")
    else:
        found.append(f"No: rcu is not shown to keep {_names([v for v in rcu if v.word != HOLDS])}.")
    literal = [verdict for verdict in by_policy["rcu-literal"] if verdict.word == REFUTED]
    if literal:
        lacks = [text for function, text in LACKS.items() if any(function in verdict.functions for verdict in literal)]
        found.append(f"The mail's four hunks alone are not enough: refuted in {_names(literal)}.")
        found.append(f"They lack {' and '.join(lacks)}, which the mail leaves out.")
    for policy, mine in by_policy.items():
        if policy in ("rcu", "rcu-literal"):
            continue
        broken = [verdict for verdict in mine if verdict.word == REFUTED]
        if broken:
            found.append(f"{policy} is refuted in {_names(broken)}.")
        elif all(verdict.word == HOLDS for verdict in mine):
            found.append(f"{policy} keeps the promise of {_all_but(policy, mine, defects)}.")
    for behaviour in sorted({verdict.case.behaviour for verdict in defects}):
        tests = _names([verdict for verdict in defects if verdict.case.behaviour == behaviour])
        found.append(f"Refuted whatever the policy, by a known defect of Linux {behaviour} itself: {tests}.")
    return found


def _all_but(policy: str, kept: list[Verdict], defects: list[Verdict]) -> str:
    """The tests of a policy that hold, as all that there are but those of a kernel's defect."""
    failed = sum(verdict.case.policy == policy for verdict in defects)
    if not failed:
        return f"all {count(len(kept), 'test')}" if len(kept) > 1 else "its 1 test"
    return f"{len(kept)} of {count(len(kept) + failed, 'test')}, all but those of a known defect, named below"


def _names(verdicts: list[Verdict]) -> str:
    return ", ".join(dict.fromkeys(verdict.case.test.name for verdict in verdicts))
