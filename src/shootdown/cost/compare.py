"""What a recording's operations cost under each flush policy, side by side, and where the flushes come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..mmu.spte import EMPTY_61
from ..trace.history import History
from ..trace.op import NAMES, UNKNOWN
from .advice import advice
from .askers import Askers, askers
from .model import CostModel
from .price import OperationCost, PolicyCost, by_operation, observed, priced, sees_yields, total
from .rules import HISTORY, PROMOTE, Kernel, Policy, Range, kernel_policy
from .run import Disagreement, Runs, disagreements, run_policies

END_S = 0.1
"""What an operation still owed so shortly before the end of a recording may have come after it."""


@dataclass(slots=True)
class Difference:
    """An operation whose recorded flushes the kernel's rules do not predict, and why, if that is known."""

    name: str
    time: int
    pid: int
    seen: int
    predicted: Range
    cause: str


@dataclass(slots=True)
class Comparison:
    """A recording priced.

    flush_source  "seen" (probes) or "inferred" (by the kernel's rules)
    predicted     flushes by the rules of the recorded kernel; ``yields``: those of them whose place is read from the
                  recording, not predicted
    not_run       why a policy was priced by its rules, by name; ``disagreements``: where a run and the rules differ
    """

    history: History
    kernel: Kernel
    flush_source: str
    policies: list[PolicyCost]
    operations: list[OperationCost]
    askers: Askers
    differences: list[Difference]
    predicted: Range
    yields: int
    sentence: str
    notes: list[str]
    not_run: dict[str, str]
    disagreements: list[Disagreement]


def compare(
    history: History,
    model: CostModel,
    with_history: bool,
    running: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Price the recording under what was observed, the kernel's own policy, promote, and the older ones if asked.

    ``running``: by running them, where that can be done (its trace was read for the replay too); else by rules alone.
    """
    kernel, remark = kernel_policy(history.trace.kernel, history.state.empty == EMPTY_61)
    policies: list[Policy] = [kernel, PROMOTE, *(HISTORY if with_history else ())]
    runs = run_policies(history, policies, progress) if running else Runs()
    rows = [priced(history, policy, model, runs.of(policy)) for policy in policies]
    seen = history.flushes_seen
    operations = by_operation(history, kernel, model)
    predicted = total(kernel.flushes(op, sees_yields(history)) for op in history.ops)
    return Comparison(
        history=history,
        kernel=kernel,
        flush_source="seen" if seen else "inferred",
        policies=[observed(history, model, rows[0]), *rows],
        operations=operations,
        askers=askers(history),
        differences=list(differences(history, kernel)) if seen else [],
        predicted=predicted,
        yields=sum(int(op.yields) for op in history.ops) if sees_yields(history) else 0,
        sentence=advice(history, operations, seen, predicted),
        notes=[remark] if remark else [],
        not_run={policy.name: runs.reason(policy) for policy in policies if runs.reason(policy)},
        disagreements=[d for policy in policies for d in disagreements(history, policy, runs, sees_yields(history))],
    )


def differences(history: History, kernel: Kernel) -> Iterable[Difference]:
    """Operations for which the rules predict other flushes than were seen."""
    for op in history.ops:
        low, high = kernel.flushes(op, sees_yields(history))
        if low <= op.flushes <= high and not (op.kind == UNKNOWN and op.flushes):
            continue
        cause = ""
        if op.torn:
            cause = "events were lost"
        elif op.inferred and history.tracker.threads.kvm_of:
            cause = "its beginning was not recorded"
        elif op.unfinished and op.flushes < low and history.trace.seconds(history.trace.last - int(op.end)) < END_S:
            cause = "the recording ended first"
        yield Difference(NAMES[op.kind], op.start, op.pid, op.flushes, (low, high), cause)
