"""``shootdown compare``: what a workload's flushes cost, under the observed policy and others."""

from __future__ import annotations

import csv
import importlib.resources
import io
import sys
from typing import Any

import click

from ..cost.compare import Comparison, compare
from ..cost.model import PARAMETERS, CostModel, parse_interval
from ..errors import InputError
from ..figures import count, number, percent, seconds, span
from ..mmu.spte import unsigned
from ..trace.history import WANTED, follow
from ..trace.read import read_trace
from ..trace.replay.record import WANTED as REPLAYED
from .counters import print_counters
from .heading import heading, heading_json
from .options import FORMAT, FORMATS, JSON
from .progress import clear, reporter
from .report import WIDTH, columns, dump, exact, wrap

SAMPLE = "6.12-dirty-logging.dat"
"""The recording that ships with the package: Linux 6.12, a guest of 4 vCPUs on 2 MiB pages goes on writing while dirty
logging is switched on, the log read once, and logging switched off."""
DIFFERENCES_SHOWN = 10
ASKERS_SHOWN = 5


def cost_options(function: Any) -> Any:
    """One option for each parameter of the cost model, with its unit and source."""
    for p in reversed(PARAMETERS):
        default = f"{p.default[0]:g}:{p.default[1]:g}" if p.default[0] != p.default[1] else f"{p.default[0]:g}"
        text = f"{p.meaning}, {p.unit}; {p.source}"
        function = click.option(p.option, p.name, default=default, show_default=True, metavar="LOW:HIGH", help=text)(
            function
        )
    return function


@click.command("compare")
@click.argument("traces", nargs=-1, metavar="[TRACE...]")
@click.option("--all", "with_history", is_flag=True, help="Also the older policies: eager, list, rcu, ...")
@click.option("--explain", is_flag=True, help="Also where running the policies and counting by rules differ.")
@click.option("--counters", is_flag=True, help="TRACES are two dumps of the kvm debugfs counters: BEFORE AFTER.")
@FORMAT
@JSON
@click.option("--csv", "as_csv", is_flag=True, help="CSV: one row a trace and policy.")
@cost_options
def command(
    traces: tuple[str, ...],
    with_history: bool,
    explain: bool,
    counters: bool,
    fmt: str | None,
    as_json: bool,
    as_csv: bool,
    **cost: str,
) -> int:
    """What a workload's flushes cost, and would cost under other policies.

    TRACE is a trace.dat, or the text of one (trace-cmd report, tracefs, perf
    script); "-" is standard input. Without any, a sample that ships with the
    program is taken.

    \b
    Example: shootdown compare --all trace.dat
             shootdown compare --counters before.txt after.txt
    """
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other", advice="give one of them")
    if counters:
        if with_history or explain or as_csv:
            raise InputError("--counters goes alone, or with --json", advice="counters tell nothing by policy")
        return print_counters(traces, as_json)
    model = CostModel(**{p.name: parse_interval(cost[p.name], p.option) for p in PARAMETERS})
    rest = with_history, explain, fmt, model, as_json, as_csv
    if traces:
        return _compare(traces, {}, *rest)
    with importlib.resources.as_file(importlib.resources.files("shootdown") / "samples" / SAMPLE) as sample:
        return _compare((str(sample),), {str(sample): f"sample {SAMPLE}"}, *rest)


def _compare(
    traces: tuple[str, ...],
    names: dict[str, str],
    with_history: bool,
    explain: bool,
    fmt: str | None,
    model: CostModel,
    as_json: bool,
    as_csv: bool,
) -> int:
    found: list[Comparison] = []
    failed = printed = False
    for path in traces:
        try:
            trace = read_trace(path, WANTED | REPLAYED, reporter("events read"))
            trace.path = names.get(path, trace.path)
            history = follow(trace, FORMATS.get(fmt or ""), progress=reporter("events followed"))
            clear()
        except InputError as error:
            clear()
            # The other recordings are still worth their answer; the exit code tells.
            print(f"shootdown: {error}", file=sys.stderr)
            failed = True
            continue
        comparison = compare(history, model, with_history, True, reporter("events replayed"))
        clear()
        if as_json or as_csv:
            found.append(comparison)
            continue
        print("\n".join([*([""] if printed else []), *text(comparison, model, explain)]))
        printed = True
    if as_json:
        print(dump("compare", {"model": _model(model), "traces": [document(c) for c in found]}))
    elif as_csv:
        print(table(found), end="")
    return 1 if failed else 0


def text(c: Comparison, model: CostModel, explain: bool = False) -> list[str]:
    """The comparison as lines of text."""
    lines = heading(c.history)
    for note in c.notes:
        lines += wrap(note, "  ")
    lines += ["", *_policies(c), ""]
    for p in c.policies[1:]:
        lines += wrap(f"{p.name}: {p.title}", "    ", "  ")
        if p.unsure:
            lines += wrap(f"{span(p.flushes)} flushes: {p.unsure}; the recording does not show how often", "    ")
    lines += [*_time(c, model), "", *_operations(c), ""]
    lines += [*_asked(c), *_rules(c), *_priced(c), *(_explained(c) if explain else []), *_findings(c)]
    lines += ["", *wrap(c.sentence)]
    return lines


def _policies(c: Comparison) -> list[str]:
    """The table of policies; in two parts where storms of flushes make it wider than a mail."""
    rows = [
        ["policy", "flushes", "that hit", "vCPUs", "tables", "pending", "flush"],
        ["", "", "a vCPU", "hit", "freed", "at most", "time"],
    ]
    for p in c.policies:
        counts = (p.flushes, p.flushes_interrupting, p.vcpus_interrupted, p.tables_freed, p.tables_pending_max)
        rows.append([p.name, *map(span, counts), seconds(p.flush_seconds)])
    lines = columns(rows)
    if max(map(len, lines)) <= WIDTH:
        return lines
    return [*columns([row[:4] for row in rows]), "", *columns([[row[0], *row[4:]] for row in rows])]


def _time(c: Comparison, model: CostModel) -> list[str]:
    """How the time is estimated."""

    def us(value: tuple[float, float]) -> str:
        return f"{value[0]:g}" if value[0] == value[1] else f"{value[0]:g}..{value[1]:g}"

    changes = int(c.history.state.changes)
    return wrap(
        f"flush time: {us(model.flush_base_us)} us for each flush that hits a vCPU and {us(model.flush_vcpu_us)} us "
        f"for each vCPU hit; besides, under every policy, {number(changes)} SPTE changes at {us(model.spte_us)} us "
        f"take {seconds(model.change_seconds(changes))} (sources: --help)",
        "    ",
        "  ",
    )


def _operations(c: Comparison) -> list[str]:
    rows = [["operation", "count", "changes", "flushes", "time", "of all time"]]
    for row in c.operations:
        share = percent(row.share, 1)
        counts = number(row.operations), number(row.changes), span(row.flushes)
        rows.append([row.name, *counts, seconds(row.seconds), share])
    return columns(rows)


def _asked(c: Comparison) -> list[str]:
    """Who asked for the flushes, where there were any: tasks, VMs if several, the busiest second."""
    if not c.askers.tasks:
        return []
    tasks = [f"{name}-{pid} {number(n)}" for pid, name, n in c.askers.tasks[:ASKERS_SHOWN]]
    more = len(c.askers.tasks) - len(tasks)
    lines = wrap(f"asked by: {', '.join(tasks)}{f', {number(more)} more tasks' if more else ''}", "  ", "")
    if len(c.askers.vms) > 1:
        vms = [f"{unsigned(kvm):x} {number(n)}" for kvm, n in c.askers.vms[:ASKERS_SHOWN]]
        more = len(c.askers.vms) - len(vms)
        lines += wrap(f"by VM (kvm): {', '.join(vms)}{f', {number(more)} more VMs' if more else ''}", "  ", "")
    if c.askers.busiest and c.history.trace.seconds(c.history.trace.last - c.history.trace.first) > 2:
        at, n = c.askers.busiest
        lines += wrap(f"busiest second: from +{at} s, {count(n, 'flush', 'flushes')}", "  ", "")
    return lines


def _rules(c: Comparison) -> list[str]:
    """How the kernel's rules agree with what was seen."""
    rules = f"rules of {c.kernel.name}"
    if c.flush_source != "seen":
        return wrap(f"flushes: inferred by the {rules}; record with kprobes to see them "
                    "(shootdown record --print)", "  ", "")  # fmt: skip
    seen = c.policies[0].flushes or (0, 0)
    taken = f" ({number(c.yields)} before giving way in a zap: where, is read from the recording)" if c.yields else ""
    found = f"{rules}: {span(c.predicted)} flushes predicted{taken}, {span(seen)} seen; "
    if not c.differences:
        return wrap(f"{found}no operation differs", "  ", "")
    lines = wrap(f"{found}{count(len(c.differences), 'operation')} different:", "  ", "")
    trace = c.history.trace
    for d in c.differences[:DIFFERENCES_SHOWN]:
        at = trace.seconds(d.time - trace.first)
        why = d.cause or "UNEXPLAINED"
        what = f"{d.name} at +{at:.6f} s, task {d.pid}: {d.seen} seen, {span(d.predicted)} predicted: {why}"
        lines += wrap(what, "    ", "  ")
    if len(c.differences) > DIFFERENCES_SHOWN:
        lines.append(f"  and {number(len(c.differences) - DIFFERENCES_SHOWN)} more (--json has all)")
    return lines


def _priced(c: Comparison) -> list[str]:
    """Which policies could not be run, and for which figures no reason is known; nothing where all is as it should."""
    by_reason: dict[str, list[str]] = {}
    for name, why in c.not_run.items():
        by_reason.setdefault(why, []).append(name)
    lines: list[str] = []
    for why, names in by_reason.items():
        lines += wrap(f"counted by rules, not run: {', '.join(names)}: {why}", "  ", "")
    left = [d for d in c.disagreements if not d.reason]
    if left:
        lines += wrap(f"run and rules differ, UNEXPLAINED: {count(len(left), 'figure')} (--explain)", "  ", "")
    return lines


def _explained(c: Comparison) -> list[str]:
    """Where running and counting differ, with the reason."""
    ran = [p.name for p in c.policies if p.priced == "run"]
    if not ran:
        return []
    lines = wrap(f"run: {', '.join(ran)}; {'the rules differ:' if c.disagreements else 'the rules agree'}", "  ", "")
    for d in c.disagreements:
        what = f"{d.policy}, {number(d.operations)} {d.operation}: {number(d.run)} run, {span(d.rules)} by rules"
        lines += wrap(f"{what}; taken: {d.used}; {d.reason or 'UNEXPLAINED'}", "    ", "  ")
    return lines


def _findings(c: Comparison) -> list[str]:
    state = c.history.state
    words = [f"{cause}: {number(n)}" for cause, n in sorted(c.history.causes.items()) if cause]
    unexplained = c.history.causes.get("", 0)
    text = f"rebuild: {count(int(state.changes), 'SPTE change')} checked, "
    if not state.finding_count:
        text += "all consistent"
    else:
        left = number(unexplained) if unexplained else "none"
        text += f"{count(int(state.finding_count), 'finding')}, {left} unexplained"
        if words:
            text += f" ({'; '.join(words)})"
        if state.finding_count > len(state.findings):
            text += f"; {number(int(state.finding_count) - len(state.findings))} more were not examined"
    if state.unseen:
        text += f"; {count(int(state.unseen), 'entry', 'entries')} older than the recording"
    return wrap(text, "  ", "")


def document(c: Comparison) -> dict[str, Any]:
    """The comparison for JSON."""
    trace = c.history.trace
    return {
        **heading_json(c.history),
        "kernel_policy": c.kernel.name,
        "policies": [
            {
                "name": p.name,
                "title": p.title,
                "flushes": exact(p.flushes),
                "flushes_interrupting": exact(p.flushes_interrupting),
                "vcpus_interrupted": exact(p.vcpus_interrupted),
                "tables_freed": exact(p.tables_freed),
                "tables_pending_max": exact(p.tables_pending_max),
                "flush_seconds": list(p.flush_seconds),
                "seconds": list(p.seconds),
                "priced": p.priced,
            }
            for p in c.policies
        ],
        "not_run": c.not_run,
        "disagreements": [
            {
                "policy": d.policy,
                "operation": d.operation,
                "operations": d.operations,
                "run": d.run,
                "rules": exact(d.rules),
                "used": d.used,
                "reason": d.reason or None,
            }
            for d in c.disagreements
        ],
        "operations": [
            {
                "name": o.name,
                "operations": o.operations,
                "changes": o.changes,
                "flushes": exact(o.flushes),
                "seconds": list(o.seconds),
                "share": o.share,
            }
            for o in c.operations
        ],
        "tasks": [{"pid": pid, "name": name, "flushes": n} for pid, name, n in c.askers.tasks],
        "kvms": [{"kvm": f"{unsigned(kvm):x}" if kvm else None, "flushes": n} for kvm, n in c.askers.vms],
        "predicted": exact(c.predicted),
        "predicted_yields": c.yields,
        "differences": [
            {
                "operation": d.name,
                "time": trace.seconds(d.time),
                "pid": d.pid,
                "seen": d.seen,
                "predicted": exact(d.predicted),
                "cause": d.cause or None,
            }
            for d in c.differences
        ],
        "notes": c.notes,
        "sentence": c.sentence,
    }


def _model(model: CostModel) -> dict[str, list[float]]:
    return {p.name: list(getattr(model, p.name)) for p in PARAMETERS}


def table(found: list[Comparison]) -> str:
    """The comparisons as CSV; an unknown is an empty cell."""
    out = io.StringIO()
    fields = ("flushes", "flushes_interrupting", "vcpus_interrupted", "tables_freed", "tables_pending_max", "seconds")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trace", "flush_source", "policy", *(f"{f}_{end}" for f in fields for end in ("low", "high"))])
    for c in found:
        for p in c.policies:
            cells = [value for f in fields for value in (getattr(p, f) or ("", ""))]
            writer.writerow([c.history.trace.path, c.flush_source, p.name, *cells])
    return out.getvalue()
