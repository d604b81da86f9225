"""What operations cost under a flush policy: flushes, interrupted vCPUs, page tables, time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..trace.history import FREE_PROBE, History
from ..trace.op import NAMES, Op
from .model import CostModel, Interval
from .rules import Kernel, Policy, Range, why_unsure
from .run import Ran, cut_off, settled

Interrupts = tuple[Range, Range]
"""(flushes that interrupt somebody, vCPUs interrupted)."""


@dataclass(slots=True)
class PolicyCost:
    """One row of the comparison; a range is (least, most), what the recording does not tell is None.

    unsure               what makes its counts ranges, "" where none is one
    flushes              remote flushes: calls of ``kvm_flush_remote_tlbs``, what ``remote_tlb_flush_requests`` counts
    flushes_interrupting those of them that interrupted a vCPU, what ``remote_tlb_flush`` counts
    vcpus_interrupted    vCPUs interrupted, summed over flushes
    tables_freed         page tables given back
    tables_pending_max   most page tables out of reach and not yet given back at one time
    flush_seconds        time of the flushes under the cost model; ``seconds``: and of the SPTE changes
    priced               how the flushes were found: "recorded", "run" (run.py), or "rules"
    """

    name: str
    title: str
    unsure: str
    flushes: Range | None
    flushes_interrupting: Range | None
    vcpus_interrupted: Range | None
    tables_freed: Range | None
    tables_pending_max: Range | None
    flush_seconds: Interval
    seconds: Interval
    priced: str = "recorded"


@dataclass(slots=True)
class OperationCost:
    """What one kind of operation did and cost (``flushes`` as seen, else by the kernel's own rules)."""

    name: str
    operations: int
    changes: int
    flushes: Range
    seconds: Interval
    share: float


def sees_yields(history: History) -> bool:
    """Does the recording show each giving way of a zap (probes on the zap's entry and return, and on flushes)?"""
    return history.flushes_seen and history.tracker.yields_seen


def total(ranges: Iterable[Range]) -> Range:
    """The sum of ranges."""
    low = high = 0
    for a, b in ranges:
        low, high = low + a, high + b
    return low, high


def observed(history: History, model: CostModel, by_rules: PolicyCost) -> PolicyCost:
    """What was recorded; where no probe saw flushes, the time is that of the kernel's own rules."""
    state = history.state
    frees = history.trace.records(FREE_PROBE)
    freed = (state.frees, state.frees) if frees else None
    pending = (state.pending_max, state.pending_max) if state.sees_frees and not history.trace.lost else None
    if not history.flushes_seen:
        spent = by_rules.flush_seconds, by_rules.seconds
        return PolicyCost("observed", "as recorded", "", None, None, None, freed, pending, *spent)
    flushes, known = _seen(history, history.ops)
    interrupting, vcpus = known or (None, None)
    spent = _spent(history, model, flushes, known, _changes(history.ops))
    return PolicyCost("observed", "as recorded", "", flushes, interrupting, vcpus, freed, pending, *spent)


def priced(history: History, policy: Policy, model: CostModel, ran: Ran | None = None) -> PolicyCost:
    """What the recorded operations would have cost under the policy: as it ``ran``, or by its rules."""
    yields = sees_yields(history)
    if ran is None:
        each = [(op, policy.flushes(op, yields)) for op in history.ops]
        freed = total(policy.frees(op) for op in history.ops)
        pending = _pending(history, policy)
    else:
        each = [(op, settled(policy, op, ran.flushes[place], yields)) for place, op in enumerate(history.ops)]
        freed = total(cut_off(policy, op, ran.tables[place]) for place, op in enumerate(history.ops))
        pending = _peak(history, [time for time, _ in ran.cut], [time for time, _ in ran.queued])
    flushes = total(f for _, f in each)
    unsure = "; ".join(sorted({why_unsure(policy, op.kind) for op, f in each if f[0] != f[1]}))
    known = _interrupts(history, each)
    interrupting, vcpus = known or (None, None)
    roots = int(history.state.roots_freed)
    spent = _spent(history, model, flushes, known, _changes(history.ops))
    return PolicyCost(
        policy.name, policy.title, unsure, flushes, interrupting, vcpus, (freed[0] + roots, freed[1] + roots),
        pending, *spent, "rules" if ran is None else "run",
    )  # fmt: skip


def by_operation(history: History, kernel: Kernel, model: CostModel) -> list[OperationCost]:
    """What each kind of operation did and cost: those with the most flushes first, then by time."""
    rows = []
    by_kind: dict[int, list[Op]] = {}
    for op in history.ops:
        by_kind.setdefault(op.kind, []).append(op)
    for kind, ops in by_kind.items():
        if history.flushes_seen:
            flushes, known = _seen(history, ops)
        else:
            each = [(op, kernel.flushes(op, False)) for op in ops]
            flushes, known = total(f for _, f in each), _interrupts(history, each)
        seconds = _spent(history, model, flushes, known, _changes(ops))[1]
        rows.append(OperationCost(NAMES[kind], sum(op.count for op in ops), _changes(ops), flushes, seconds, 0.0))
    spent = sum(sum(row.seconds) for row in rows)
    for row in rows:
        row.share = sum(row.seconds) / spent if spent else 0.0
    return sorted(rows, key=lambda row: (-row.flushes[1], -row.share))


def _changes(ops: Iterable[Op]) -> int:
    return sum(op.changes for op in ops)


def _seen(history: History, ops: Sequence[Op]) -> tuple[Range, Interrupts | None]:
    """Flushes and interrupts as recorded."""
    flushes = sum(op.flushes for op in ops)
    busy = flushes - sum(op.idle for op in ops)
    running = sum(op.running for op in ops)
    return (flushes, flushes), ((busy, busy), (running, running)) if history.guest_seen else None


def _interrupts(history: History, each: Sequence[tuple[Op, Range]]) -> Interrupts | None:
    """Interrupts if those operations flushed so often: as recorded, else as many vCPUs as ran meanwhile."""
    if not history.guest_seen:
        return None
    hits, vcpus = [], []
    for op, (least, most) in each:
        if history.flushes_seen and least == most == op.flushes:
            # The very flushes that were recorded: they hit whom they hit.
            busy, running = int(op.flushes - op.idle), int(op.running)
            hits.append((busy, busy))
            vcpus.append((running, running))
            continue
        hits.append((least if op.low > 0 else 0, most if op.high > 0 else 0))
        vcpus.append((max(0, int(op.low)) * least, max(0, int(op.high)) * most))
    return total(hits), total(vcpus)


def _spent(
    history: History, model: CostModel, flushes: Range, known: Interrupts | None, changes: int
) -> tuple[Interval, Interval]:
    """(time of the flushes, and of the changes too); unknown interrupts are between none and every vCPU there is."""
    most = max([0, *history.vcpus.values()])
    interrupting, vcpus = known or ((0, flushes[1]), (0, flushes[1] * most))
    flushing, changing = model.flush_seconds(interrupting, vcpus), model.change_seconds(changes)
    return flushing, (flushing[0] + changing[0], flushing[1] + changing[1])


def _pending(history: History, policy: Policy) -> Range | None:
    """Most tables out of reach at once by the rules: which go, and when RCU gets them."""
    tracker, cut, queued = history.tracker, [], []
    for time, op in zip(tracker.cut_times, tracker.cut_ops, strict=True):
        if policy.frees(op)[0] == op.tables:
            cut.append(int(time))
            queued.append(max(int(time), int(op.end)) if policy.defers else int(time))
    return _peak(history, cut, queued)


def _peak(history: History, cut: Sequence[int], queued: Sequence[int]) -> Range | None:
    """Most tables out of reach at once, if each waits a grace period as short, or as long, as any that was seen."""
    latencies = [freed - when for when, freed in history.state.freed]
    if not latencies or not history.tracker.cut_ops:
        return (0, 0) if history.state.sees_frees and not history.tracker.cut_ops else None
    if not cut:
        return 0, 0
    peaks = []
    for grace in (min(latencies), max(latencies)):
        times = np.concatenate([np.array(cut, np.int64), np.array(queued, np.int64) + grace])
        steps = np.repeat([1, -1], [len(cut), len(queued)])
        peaks.append(int(np.cumsum(steps[np.argsort(times, kind="stable")]).max()))
    return min(peaks), max(peaks)
