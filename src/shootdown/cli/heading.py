"""What a recording is, in a few lines, as ``compare`` and ``show`` begin; and the same for JSON."""

from __future__ import annotations

from typing import Any

from ..figures import count, number
from ..trace.history import History
from .report import wrap


def heading(history: History) -> list[str]:
    """Kernel, vendor, form, clock, duration, VMs, events, what was lost, what was seen."""
    trace = history.trace
    kernel = f"Linux {trace.kernel}" if trace.kernel else "kernel not recorded"
    lines = wrap(f"{trace.path}: {kernel}, {history.fmt.name} ({_vendor(history)}, {history.fmt_from})", "  ", "")
    what = [trace.form]
    if trace.clock:
        what.append(f"clock {trace.clock}")
    what += [_duration(history), _machines(history)]
    what.append(f"{count(trace.total, 'event')}, {losses(history)}")
    lines += wrap("; ".join(what), "  ")
    flushes = (
        "flushes seen (probe)" if history.flushes_seen else "flushes NOT seen (no probe): inferred from the changes"
    )
    guests = "vCPUs seen entering and leaving the guest" if history.guest_seen else "which vCPUs ran: unknown"
    lines += wrap(f"{flushes}; {guests}", "  ")
    for warning in trace.warnings:
        lines += wrap(f"warning: {warning}", "    ", "  ")
    return lines


def losses(history: History) -> str:
    """How many events the kernel dropped, in words."""
    trace = history.trace
    if not trace.lost and not trace.lost_total:
        return "none lost" if trace.lost_total == 0 else "no loss reported"
    lost = _lost(history)
    return f"{number(lost) if lost else 'some'} LOST in {count(len(trace.lost), 'place')}"


def _lost(history: History) -> int:
    trace = history.trace
    return max(sum(gap.count or 0 for gap in trace.lost), trace.lost_total or 0)


def _vendor(history: History) -> str:
    return "AMD" if history.fmt.name == "NPT" else "Intel"


def _duration(history: History) -> str:
    trace = history.trace
    if trace.hertz is None:
        return f"{number(trace.last - trace.first)} ticks"
    return f"{trace.seconds(trace.last - trace.first):.3f} s"


def _machines(history: History) -> str:
    if not history.state.changes and not history.vcpus:
        return "no VM seen"
    vms = len(history.tracker.threads.kvms)
    vcpus = max([0, *history.vcpus.values()])
    told = "" if history.tracker.threads.kvm_of else " (told apart by vCPU threads)" if vms > 1 else ""
    return f"{count(vms, 'VM')}{told} of up to {count(vcpus, 'vCPU')}"


def heading_json(history: History) -> dict[str, Any]:
    """The same for JSON."""
    trace = history.trace
    return {
        "path": trace.path,
        "form": trace.form,
        "kernel": trace.kernel or None,
        "vendor": history.fmt.name,
        "vendor_from": history.fmt_from,
        "clock": trace.clock or None,
        "duration_seconds": None if trace.hertz is None else trace.seconds(trace.last - trace.first),
        "vms": len(history.tracker.threads.kvms),
        "vcpus": max([0, *history.vcpus.values()]),
        "events": trace.total,
        "events_lost": _lost(history),
        "changes": int(history.state.changes),
        "flush_source": "seen" if history.flushes_seen else "inferred",
        "guest_seen": history.guest_seen,
        "findings": {
            "total": int(history.state.finding_count),
            "unexplained": history.causes.get("", 0),
            "causes": {cause: n for cause, n in sorted(history.causes.items()) if cause},
        },
        "warnings": trace.warnings,
    }
