"""What a recording's operations cost under each flush policy, side by side, and where the flushes come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..mmu.spte import EMPTY_61
from ..trace.history import FREE_PROBE, History
from ..trace.op import COLLAPSE, NAMES, UNKNOWN, Op
from .model import CostModel, Interval
from .rules import HISTORY, PROMOTE, Kernel, Policy, Range, kernel_policy


@dataclass(slots=True)
class PolicyCost:
    """One row of the comparison; a range is (least, most), what the recording does not tell is None.

    unsure               what makes its counts ranges
    flushes              remote flushes: calls of ``kvm_flush_remote_tlbs``, what ``remote_tlb_flush_requests`` counts
    flushes_interrupting those of them that interrupted a vCPU, what ``remote_tlb_flush`` counts
    vcpus_interrupted    vCPUs interrupted, summed over flushes
    tables_freed         page tables given back
    tables_pending_max   most page tables out of reach and not yet given back at one time
    seconds              under the cost model
    """

    name: str
    title: str
    unsure: str
    flushes: Range | None
    flushes_interrupting: Range | None
    vcpus_interrupted: Range | None
    tables_freed: Range | None
    tables_pending_max: Range | None
    seconds: Interval


@dataclass(slots=True)
class OperationCost:
    """What one kind of operation did and cost (``flushes`` as seen, else by the kernel's own rules)."""

    name: str
    operations: int
    changes: int
    flushes: Range
    seconds: Interval
    share: float


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
    """A recording priced. ``flush_source`` is "seen" (probes) or "inferred" (by the kernel's rules)."""

    history: History
    kernel: Kernel
    flush_source: str
    policies: list[PolicyCost]
    operations: list[OperationCost]
    differences: list[Difference]
    predicted: Range
    sentence: str
    notes: list[str]


def compare(history: History, model: CostModel, with_history: bool) -> Comparison:
    """Price the recording under what was observed, the kernel's own rules, promote, and the older policies if asked."""
    kernel, remark = kernel_policy(history.trace.kernel, history.state.empty == EMPTY_61)
    policies: list[Policy] = [kernel, PROMOTE, *(HISTORY if with_history else ())]
    priced = [_priced(history, policy, model) for policy in policies]
    rows = [_observed(history, model, priced[0].seconds), *priced]
    seen = history.flushes_seen
    operations = by_operation(history, kernel, model)
    predicted = _total(kernel.flushes(op, _yields(history)) for op in history.ops)
    comparison = Comparison(
        history, kernel, "seen" if seen else "inferred", rows, operations,
        list(differences(history, kernel)) if seen else [], predicted, "", [remark] if remark else [],
    )  # fmt: skip
    comparison.sentence = advice(comparison)
    return comparison


def differences(history: History, kernel: Kernel) -> Iterable[Difference]:
    """Operations for which the rules predict other flushes than were seen."""
    for op in history.ops:
        low, high = kernel.flushes(op, _yields(history))
        if low <= op.flushes <= high and not (op.kind == UNKNOWN and op.flushes):
            continue
        cause = ""
        if op.torn:
            cause = "events were lost"
        elif op.inferred and history.tracker.kvm_of:
            cause = "its beginning was not recorded"
        elif op.unfinished and op.flushes < low:
            cause = "the recording ended first"
        yield Difference(NAMES[op.kind], op.start, op.pid, op.flushes, (low, high), cause)


def _yields(history: History) -> bool:
    """Does the recording show each giving way of a zap (probes on the zap's entry and return, and on flushes)?"""
    return history.flushes_seen and history.tracker.yields_seen


def _total(ranges: Iterable[Range]) -> Range:
    low = high = 0
    for a, b in ranges:
        low, high = low + a, high + b
    return low, high


def _vcpus(history: History) -> int:
    """At most so many vCPUs can a flush interrupt: as many as the largest VM was seen with."""
    return max([0, *history.vcpus.values()])


def _interrupts(history: History, ops: Sequence[tuple[Op, Range]]) -> tuple[Range, Range] | None:
    """(interrupting flushes, vCPUs interrupted) if those operations flushed so often; None where nobody can tell."""
    if not history.guest_seen:
        return None
    flushes = _total(((f[0] if op.low > 0 else 0), (f[1] if op.high > 0 else 0)) for op, f in ops)
    vcpus = _total((max(0, op.low) * f[0], max(0, op.high) * f[1]) for op, f in ops)
    return flushes, vcpus


def _price(
    history: History, model: CostModel, flushes: Range, known: tuple[Range, Range] | None, changes: int
) -> Interval:
    interrupting, vcpus = known or ((0, flushes[1]), (0, flushes[1] * _vcpus(history)))
    return model.seconds(interrupting, max(0, flushes[1] - interrupting[1]), vcpus, changes)


def _changes(ops: Iterable[Op]) -> int:
    return sum(op.changes for op in ops)


def _seen(ops: Sequence[Op]) -> tuple[Range, Range, Range]:
    """(flushes, interrupting ones, vCPUs interrupted) as recorded."""
    flushes = sum(op.flushes for op in ops)
    busy = flushes - sum(op.idle for op in ops)
    running = sum(op.running for op in ops)
    return (flushes, flushes), (busy, busy), (running, running)


def _observed(history: History, model: CostModel, by_rules: Interval) -> PolicyCost:
    """What was recorded; where no probe saw flushes, the time is that of the kernel's own rules."""
    state = history.state
    frees = history.trace.records(FREE_PROBE)
    freed = (state.frees, state.frees) if frees else None
    pending = (state.pending_max, state.pending_max) if frees else None
    title = "as recorded"
    if not history.flushes_seen:
        return PolicyCost("observed", title, "", None, None, None, freed, pending, by_rules)
    flushes, busy, running = _seen(history.ops)
    known = (busy, running) if history.guest_seen else None
    seconds = _price(history, model, flushes, known, _changes(history.ops))
    interrupting, vcpus = known or (None, None)
    return PolicyCost("observed", title, "", flushes, interrupting, vcpus, freed, pending, seconds)


def _priced(history: History, policy: Policy, model: CostModel) -> PolicyCost:
    each = [(op, policy.flushes(op, _yields(history))) for op in history.ops]
    flushes = _total(f for _, f in each)
    known = _interrupts(history, each)
    seconds = _price(history, model, flushes, known, _changes(history.ops))
    roots = history.state.roots_freed
    freed = _total(policy.frees(op) for op in history.ops)
    interrupting, vcpus = known or (None, None)
    return PolicyCost(
        policy.name, policy.title, policy.unsure, flushes, interrupting, vcpus, (freed[0] + roots, freed[1] + roots),
        _pending(history, policy), seconds,
    )  # fmt: skip


def _pending(history: History, policy: Policy) -> Range | None:
    """Most tables out of reach at once, if each waits a grace period as short, or as long, as any that was seen."""
    tracker, latencies = history.tracker, history.state.latencies
    if not latencies or not tracker.cut_ops:
        return (0, 0) if history.trace.records(FREE_PROBE) and not tracker.cut_ops else None
    kept = [
        (t, op) for t, op in zip(tracker.cut_times, tracker.cut_ops, strict=True) if policy.frees(op)[0] == op.tables
    ]
    if not kept:
        return 0, 0
    cut = np.array([t for t, _ in kept], np.int64)
    queued = np.maximum(cut, np.array([int(op.end) for _, op in kept], np.int64)) if policy.defers else cut
    peaks = []
    for grace in (min(latencies), max(latencies)):
        times = np.concatenate([cut, queued + grace])
        steps = np.concatenate([np.ones_like(cut), -np.ones_like(cut)])
        peaks.append(int(np.cumsum(steps[np.argsort(times, kind="stable")]).max()))
    return min(peaks), max(peaks)


def by_operation(history: History, kernel: Kernel, model: CostModel) -> list[OperationCost]:
    """What each kind of operation did and cost, the costliest first."""
    rows = []
    total = 0.0
    by_kind: dict[int, list[Op]] = {}
    for op in history.ops:
        by_kind.setdefault(op.kind, []).append(op)
    for kind, ops in sorted(by_kind.items()):
        name = NAMES[kind]
        if history.flushes_seen:
            flushes, busy, running = _seen(ops)
            known = (busy, running) if history.guest_seen else None
        else:
            each = [(op, kernel.flushes(op, False)) for op in ops]
            flushes, known = _total(f for _, f in each), _interrupts(history, each)
        seconds = _price(history, model, flushes, known, _changes(ops))
        count = sum(op.count for op in ops)
        rows.append(OperationCost(name, count, _changes(ops), flushes, seconds, 0.0))
        total += sum(seconds)
    for row in rows:
        row.share = sum(row.seconds) / total if total else 0.0
    return sorted(rows, key=lambda r: -r.share)


ADVICE = {
    "notifier": "one for each range that the host unmapped, so fewer and larger ranges would save them",
    "clear dirty": "one for each harvest of the dirty log, so longer rounds would save them",
    "write-protect": "one for each slot whose logging began; no policy here saves them",
    "age": "one for each range found young; 6.13 needs none of them",
    "map": "faults that met a huge page or a table in their way; 6.12 splits huge pages without a flush",
    "NX recovery": "one for each batch of recovered pages, so a longer recovery period would save them",
    "slot delete": "one for each slot deleted alone; zapping all roots instead (the default quirk) flushes none",
    "zap leafs": "one for each range that KVM itself zapped",
}
"""What to make of it when most flushes come from one kind of operation."""


def advice(comparison: Comparison) -> str:
    """One sentence to act on: where the flushes come from, and what would save them."""
    rows = [row for row in comparison.operations if row.flushes[1]]
    total = sum(row.flushes[1] for row in rows)
    seen = "" if comparison.flush_source == "seen" else " (inferred)"
    if not total and not comparison.history.state.changes:
        return "No change of page tables was recorded, so there is nothing to price."
    if not total:
        return f"No remote flush{seen}: the changes of page tables here needed none, so no policy can save any."
    top = max(rows, key=lambda row: row.flushes[1])
    share = f"{100 * top.flushes[1] / total:.0f} % of {total:,} flushes{seen} come from {top.name}"
    if top.name != NAMES[COLLAPSE]:
        return f"{share}: {ADVICE.get(top.name, 'see the operations above')}."
    calls = [op.cuts for op in comparison.history.ops if op.kind == COLLAPSE and op.cuts]
    if sum(calls) == len(calls):
        return f"{share}; 6.13 would need as many, since each call collapsed one region."
    batched = "1 + yields" if len(calls) == 1 else f"1 + yields for each of {len(calls)} calls"
    return f"{share}; 6.13 would batch them into {batched}."
