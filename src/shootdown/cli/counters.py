"""``shootdown compare --counters``: what two dumps of the kvm debugfs counters tell."""

from __future__ import annotations

from ..cost.counters import CountersDelta, compare_counters, read_counters
from ..errors import InputError
from ..figures import number
from .report import columns, dump, wrap

VMS_SHOWN = 10
BY_VM = ("remote_tlb_flush_requests", "remote_tlb_flush", "pf_taken")


def print_counters(paths: tuple[str, ...], as_json: bool) -> int:
    """Compare two dumps and print what can be said; the exit code."""
    if len(paths) != 2:
        raise InputError("--counters wants two dumps: BEFORE AFTER", advice="grep -r . /sys/kernel/debug/kvm > BEFORE")
    delta = compare_counters(*map(read_counters, paths))
    print(dump("compare", {"counters": document(delta)}) if as_json else "\n".join(text(delta, paths)))
    return 0


def text(delta: CountersDelta, paths: tuple[str, ...]) -> list[str]:
    """The growth of each counter, then sentences."""
    lines = wrap(f"kvm counters: {paths[0]} to {paths[1]}", "  ", "")
    for warning in delta.warnings:
        lines += wrap(f"warning: {warning}", "    ", "  ")
    rows = [["counter", "growth", "now"]]
    rows += [
        [name, number(grown), number(delta.now[name]) if name in delta.now else ""]
        for name, grown in delta.deltas.items()
    ]
    lines += ["", *columns(rows), ""]
    if delta.by_vm:
        flushes = sorted(delta.by_vm.items(), key=lambda vm: -vm[1].get("remote_tlb_flush_requests", 0))
        rows = [["VM (process-file)", "flush requests", "flushes", "faults"]]
        for vm, grown in flushes[:VMS_SHOWN]:
            rows.append([vm, *(number(grown.get(name)) for name in BY_VM)])
        lines += [*columns(rows)]
        if len(flushes) > VMS_SHOWN:
            lines.append(f"and {number(len(flushes) - VMS_SHOWN)} more (--json has all)")
        lines.append("")
    for sentence in delta.sentences:
        lines += wrap(sentence)
    return lines


def document(delta: CountersDelta) -> dict[str, object]:
    """The same for JSON."""
    return {
        "deltas": delta.deltas,
        "now": delta.now,
        "by_vm": delta.by_vm,
        "by_operation": None,
        "warnings": list(delta.warnings),
        "sentences": list(delta.sentences),
    }
