"""Flushes and removed tables by running: the recorded operations driven through our MMU under each policy."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from ..mmu.policies.registry import POLICIES
from ..trace import op as kinds
from ..trace.history import History
from ..trace.op import Op
from ..trace.replay import operation
from ..trace.replay.by_table import BY_TABLE
from ..trace.replay.replay import run, script_of
from ..trace.replay.task import Task
from ..trace.replay.watch import HostLevel, collapse
from .rules import Policy, Range

RUN_AS: Final = {
    "kernel-6.1": "rcu",
    "kernel-6.12": "rcu",
    "promote": "rcu",
    "leaf-zap": "rcu",
    "promote-rfc": "eager",
}
"""Policies that are another but for their form of collapse: that alone is run for them besides."""
OWN_COLLAPSE: Final = frozenset(("promote", "leaf-zap", "promote-rfc"))
"""Policies that change other entries in a collapse than the recorded kernel: run on a copy of the page tables."""
OF_517: Final = frozenset(("eager", "list", "promote-rfc"))
"""Policies of kernels that zapped a dying root as a range, whose flush at the end the recorded kernels do without."""
GIVING_WAY: Final = frozenset((kinds.NOTIFIER, kinds.ZAP_LEAFS, kinds.SLOT_DELETE, kinds.NX_RECOVERY))
"""Operations that flush before they give way in their middle."""
KINDS_OF: Final = {
    operation.FAULT: (kinds.MAP,),
    operation.PREFETCH: (kinds.MAP,),
    operation.INVALIDATE: (kinds.NOTIFIER,),
    operation.AGE: (kinds.AGE,),
    operation.CHANGE_PTE: (kinds.CHANGE_PTE,),
    operation.REGION: (kinds.COLLAPSE, kinds.WRITE_PROTECT, kinds.SLOT_DELETE, kinds.ZAP_ROOT),
    operation.GET_LOG: (kinds.CLEAR_DIRTY, kinds.WRITE_PROTECT),
    operation.CLEAR_LOG: (kinds.CLEAR_DIRTY,),
    operation.RING: (kinds.CLEAR_DIRTY,),
    operation.NX_RECOVERY: (kinds.NX_RECOVERY,),
    operation.ZAP_RANGE: (kinds.ZAP_LEAFS,),
    operation.ZAP_ALL: (kinds.ZAP_ROOT, kinds.SLOT_DELETE),
    operation.UNINIT: (kinds.ZAP_ROOT, kinds.SLOT_DELETE),
    operation.PUT_ROOT: (kinds.ZAP_ROOT, kinds.SLOT_DELETE),
    operation.LOAD_ROOT: (kinds.ZAP_ROOT, kinds.SLOT_DELETE),
    operation.WRPROT_GFN: (kinds.WRITE_PROTECT,),
}
"""What the history calls an operation of the replay."""


@dataclass(slots=True)
class Ran:
    """What a policy came to when it was run; figures by place in ``History.ops``.

    flushes  remote flushes
    tables   tables cut off
    cut      when each was, with that place; ``queued``: when each was handed to RCU
    """

    flushes: Counter[int] = field(default_factory=Counter)
    tables: Counter[int] = field(default_factory=Counter)
    cut: list[tuple[int, int]] = field(default_factory=list)
    queued: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Runs:
    """All policies that were run, by name; why one was not: by its name, or by "" for all."""

    ran: dict[str, Ran] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)

    def of(self, policy: Policy) -> Ran | None:
        """What a policy came to, None if it was not run."""
        return self.ran.get(policy.name)

    def reason(self, policy: Policy) -> str:
        """Why a policy was not run."""
        return self.why_not.get("") or self.why_not.get(policy.name, "")


def run_policies(history: History, policies: Iterable[Policy], progress: Callable[[int], None] | None = None) -> Runs:
    """Run the recording under policies; the trace must have been read with ``replay.record.WANTED`` besides.

    Nothing is run where the record does not determine what our MMU would do: events were lost, no SPTE changed, or the
    MMU and the record part for a reason that is not known.
    """
    runs = Runs()
    if history.trace.lost or history.trace.lost_total:
        runs.why_not[""] = "events were lost"
        return runs
    if not history.state.changes:
        runs.why_not[""] = "no SPTE changed"
        return runs
    script = script_of(history.trace, history.fmt)
    places = _Places(history)
    alike: dict[str, list[str]] = {}
    for policy in policies:
        alike.setdefault(RUN_AS.get(policy.name, policy.name), []).append(policy.name)
    for base, names in alike.items():
        watch = _Watch(places, [name for name in names if name in OWN_COLLAPSE])
        result = run(script, BY_TABLE.get(base) or POLICIES[base], watch, progress)
        why = ""
        if result.unexplained:
            why = "our MMU and the record part (shootdown replay)"
        elif watch.ran.flushes[-1]:
            why = "a flush belongs to no operation that the recording shows"
        for name in names:
            if why:
                runs.why_not[name] = why
            else:
                runs.ran[name] = watch.own[name].on(watch.ran, history) if name in watch.own else watch.ran
    return runs


class _OwnCollapse:
    """Flushes and tables of each collapse in a policy's own form."""

    def __init__(self) -> None:
        self.flushes: Counter[int] = Counter()
        self.tables: Counter[int] = Counter()

    def on(self, base: Ran, history: History) -> Ran:
        """A run whose collapses are these; tables go when the record's do."""
        new = Ran(Counter(base.flushes), Counter(base.tables))
        for place, op in enumerate(history.ops):
            if op.kind == kinds.COLLAPSE:
                new.flushes[place], new.tables[place] = self.flushes[place], self.tables[place]
        for times, kept in ((base.cut, new.cut), (base.queued, new.queued)):
            left = Counter(new.tables)
            for time, place in times:
                left[place] -= 1
                if left[place] >= 0:
                    kept.append((time, place))
        return new


class _Watch:
    """Counts what a run comes to, and each collapse in the forms of ``names`` besides."""

    def __init__(self, places: _Places, names: Iterable[str]) -> None:
        self.places = places
        self.ran = Ran()
        self.own = {name: _OwnCollapse() for name in names}

    def flushed(self, task: Task) -> None:
        """See ``Watcher``."""
        self.ran.flushes[self.places.find(task)] += 1

    def unlinked(self, task: Task) -> None:
        """See ``Watcher``."""
        place = self.places.find(task)
        self.ran.tables[place] += 1
        self.ran.cut.append((time_of(task), place))

    def queued(self, task: Task) -> None:
        """See ``Watcher``."""
        self.ran.queued.append((time_of(task), self.places.find(task)))

    def collapses(self, task: Task, slot: int, host_level: HostLevel) -> None:
        """See ``Watcher``."""
        place = self.places.find(task)
        for name, own in self.own.items():
            totals = collapse(task.vm, slot, POLICIES[name], host_level)
            own.flushes[place] += totals.flushes
            own.tables[place] += totals.tables


def time_of(task: Task) -> int:
    """When what an operation does now was recorded."""
    return task.expected[task.k - 1].time if task.k else task.op.first.time


class _Places:
    """Finds the operation of the history in which a task flushes: by thread, time and kind."""

    def __init__(self, history: History) -> None:
        self.sums: dict[int, int] = {}
        self.by_pid: dict[int, list[tuple[int, int, int, int]]] = {}
        for place, op in enumerate(history.ops):
            if op.count > 1:
                self.sums.setdefault(op.kind, place)
            if op.kind != kinds.SPLIT:
                self.by_pid.setdefault(int(op.pid), []).append((int(op.start), int(op.end), op.kind, place))
        for spans in self.by_pid.values():
            spans.sort()

    def find(self, task: Task) -> int:
        """The place of that operation; -1 if there is none."""
        time = time_of(task)
        wanted = KINDS_OF.get(task.op.kind, ())
        spans = self.by_pid.get(task.op.pid, [])
        best: tuple[bool, int, int] | None = None
        for k in range(bisect_right(spans, (time, 1 << 63, 0, 0)) - 1, -1, -1):
            start, end, kind, place = spans[k]
            if end < time:
                continue
            mine = (kind not in wanted, end - start, place)
            if best is None or mine < best:
                best = mine
            if not best[0] and start < time - best[1]:
                break
        if best is not None and (not best[0] or not wanted):
            return best[2]
        return next((self.sums[kind] for kind in wanted if kind in self.sums), best[2] if best is not None else -1)


def counted(policy: Policy, op: Op, yields: bool) -> str:
    """Why an operation's flushes are counted by the rules although the policy was run; "" if they are those run."""
    if policy.name in OF_517 and (op.kind == kinds.ZAP_ROOT or (op.kind == kinds.SLOT_DELETE and op.fast)):
        return "it zaps a dying root as a range, with a flush at its end; the recorded kernel owes none"
    if policy.name == "promote" and op.kind == kinds.MAP and op.huge:
        return "6.12 splits a huge page in a fault's way; the recorded kernel zaps it, with a flush"
    if op.kind == kinds.UNKNOWN:
        return "it is not known what they were"
    if op.kind == kinds.AGE and op.young < 0:
        return "it is not known which notifier it was"
    if not yields and op.kind in GIVING_WAY and op.leafs + op.cuts > 1:
        return "no probe shows whether they gave way"
    return ""


def settled(policy: Policy, op: Op, ran: int, yields: bool) -> Range:
    """Flushes of an operation under a policy: those that it made when it was run, unless the rules know better."""
    if counted(policy, op, yields):
        return policy.flushes(op, yields)
    if is_own_collapse(policy, op):
        # The record shows neither where it would give way, nor the faults at what it leaves behind.
        return ran, max(ran, policy.flushes(op, yields)[1])
    return ran, ran


def is_own_collapse(policy: Policy, op: Op) -> bool:
    """Does a policy change other entries in the operation than the recorded kernel?"""
    return op.kind == kinds.COLLAPSE and policy.name in OWN_COLLAPSE


def cut_off(policy: Policy, op: Op, ran: int) -> Range:
    """Tables that an operation cuts off: those that it did when it was run; later faults may others."""
    return ran, max(ran, policy.frees(op)[1]) if is_own_collapse(policy, op) else ran


@dataclass(slots=True)
class Disagreement:
    """Flushes of one kind of operation under one policy, where running and counting differ.

    used    which of them is in the table
    reason  why they differ, "" if that is not known
    """

    policy: str
    operation: str
    operations: int
    run: int
    rules: Range
    used: str
    reason: str


def disagreements(history: History, policy: Policy, runs: Runs, yields: bool) -> list[Disagreement]:
    """Kinds of operations for which a run under a policy and its counting rules give different figures."""
    ran = runs.of(policy)
    if ran is None:
        return []
    found: dict[tuple[int, str], Disagreement] = {}
    for place, op in enumerate(history.ops):
        n = ran.flushes[place]
        low, high = policy.flushes(op, yields)
        if low == n and high == (settled(policy, op, n, yields)[1] if is_own_collapse(policy, op) else n):
            continue
        why = counted(policy, op, yields)
        used = "rules" if why else "run"
        row = found.setdefault((op.kind, why), Disagreement(policy.name, kinds.NAMES[op.kind], 0, 0, (0, 0), used, why))
        row.operations += int(op.count)
        row.run += n
        row.rules = row.rules[0] + low, row.rules[1] + high
    return [found[key] for key in sorted(found)]
