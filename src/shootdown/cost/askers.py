"""Who asked for flushes, and when: by task, by VM, by second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..trace.history import History


@dataclass(slots=True)
class Askers:
    """Recorded flushes by the task in whose context they ran, and by VM, the most first; the busiest second.

    tasks    (task id, its name, flushes)
    vms      (kvm pointer, flushes); one entry where no pointer was recorded
    busiest  (seconds from the beginning, flushes within that second); None without flushes or a clock's rate
    """

    tasks: list[tuple[int, str, int]]
    vms: list[tuple[int, int]]
    busiest: tuple[int, int] | None


def askers(history: History) -> Askers:
    """Add up the flushes of all operations; empty where no probe saw flushes."""
    tasks: Counter[int] = Counter()
    vms: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    trace, kvms = history.trace, history.tracker.threads.kvms
    if history.flushes_seen:
        for op in history.ops:
            if op.flushes:
                tasks[int(op.pid)] += int(op.flushes)
                vms[kvms[op.vm] if 0 <= op.vm < len(kvms) else 0] += int(op.flushes)
        for time in history.tracker.flush_times:
            seconds[int(trace.seconds(time - trace.first))] += 1
    named = [(pid, trace.comms.get(pid, ""), count) for pid, count in tasks.most_common()]
    busiest = seconds.most_common(1)[0] if seconds and trace.hertz else None
    return Askers(named, vms.most_common(), busiest)
