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
from ..mmu.spte import EPT, NPT
from ..trace.history import WANTED, follow
from ..trace.read import read_trace
from .counters import print_counters
from .heading import as_json, heading
from .progress import clear, reporter
from .report import columns, dump, exact, number, seconds, span, wrap

SAMPLE = "6.12-splitting.dat"
"""The recording that ships with the package: dirty_log_page_splitting_test on Linux 6.12, 2 MiB pages."""
DIFFERENCES_SHOWN = 10
FORMATS = {"npt": NPT, "ept": EPT}


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
@click.option("--all", "with_history", is_flag=True, help="Also the older policies: eager, list, rcu, leaf-zap.")
@click.option("--counters", is_flag=True, help="TRACES are two dumps of the kvm debugfs counters: BEFORE AFTER.")
@click.option(
    "--format", "fmt", type=click.Choice(sorted(FORMATS)), help="SPTE format; told from the values if not given."
)
@click.option("--json", "as_json_", is_flag=True, help="JSON (docs/json.md).")
@click.option("--csv", "as_csv", is_flag=True, help="CSV: one row a trace and policy.")
@cost_options
def command(
    traces: tuple[str, ...],
    with_history: bool,
    counters: bool,
    fmt: str | None,
    as_json_: bool,
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
    if counters:
        return print_counters(traces, as_json_)
    model = CostModel(**{p.name: parse_interval(cost[p.name], p.option) for p in PARAMETERS})
    if not traces:
        with importlib.resources.as_file(importlib.resources.files("shootdown") / "samples" / SAMPLE) as sample:
            return _compare(
                (str(sample),), {str(sample): f"sample {SAMPLE}"}, with_history, fmt, model, as_json_, as_csv
            )
    return _compare(traces, {}, with_history, fmt, model, as_json_, as_csv)


def _compare(
    traces: tuple[str, ...],
    names: dict[str, str],
    with_history: bool,
    fmt: str | None,
    model: CostModel,
    as_json_: bool,
    as_csv: bool,
) -> int:
    found: list[Comparison] = []
    failed = False
    for path in traces:
        try:
            trace = read_trace(path, WANTED, reporter("events read"))
            trace.path = names.get(path, path)
            history = follow(trace, FORMATS.get(fmt or ""), progress=reporter("events followed"))
            clear()
        except InputError as error:
            clear()
            # The other recordings are still worth their answer; the exit code tells.
            print(f"shootdown: {error}", file=sys.stderr)
            failed = True
            continue
        found.append(compare(history, model, with_history))
        if not as_json_ and not as_csv:
            if len(found) > 1:
                print()
            print("\n".join(text(found[-1], model)))
    if as_json_:
        print(dump("compare", {"model": _model(model), "traces": [document(c) for c in found]}))
    elif as_csv:
        print(table(found), end="")
    return 1 if failed else 0


def text(c: Comparison, model: CostModel) -> list[str]:
    """The comparison as lines of text."""
    lines = heading(c.history)
    for note in c.notes:
        lines += wrap(note, "  ")
    rows = [["policy", "flushes", "that hit", "vCPUs", "tables", "pending", "estimated"],
            ["", "", "a vCPU", "hit", "freed", "at most", "time"]]  # fmt: skip
    for p in c.policies:
        rows.append([p.name, span(p.flushes), span(p.flushes_interrupting), span(p.vcpus_interrupted),
                     span(p.tables_freed), span(p.tables_pending_max), seconds(p.seconds)])  # fmt: skip
    lines += ["", *columns(rows), ""]
    ranged = [p for p in c.policies if p.flushes and p.flushes[0] != p.flushes[1]]
    for p in ranged:
        lines += wrap(f"{p.name} {span(p.flushes)}: {p.unsure}; the recording does not show how many", "  ", "* ")
    lines += wrap(f"time: {_model_text(model)}; the interval holds only under this model", "  ", "* ")
    rows = [["operation", "count", "changes", "flushes", "estimated time", "share"]]
    for row in c.operations:
        share = f"{100 * row.share:.0f} %"
        rows.append(
            [row.name, number(row.operations), number(row.changes), span(row.flushes), seconds(row.seconds), share]
        )
    lines += ["", *columns(rows), ""]
    lines += _rules(c)
    lines += _findings(c)
    lines += ["", *wrap(c.sentence)]
    return lines


def _model_text(model: CostModel) -> str:
    def us(value: tuple[float, float]) -> str:
        return f"{value[0]:g}" if value[0] == value[1] else f"{value[0]:g}..{value[1]:g}"

    return (
        f"{us(model.flush_base_us)} us a flush that hits a vCPU, {us(model.flush_vcpu_us)} us more a vCPU hit, "
        f"{us(model.spte_us)} us an SPTE change (see --help for sources)"
    )


def _rules(c: Comparison) -> list[str]:
    """How the kernel's rules agree with what was seen."""
    if c.flush_source != "seen":
        return wrap(f"flushes: inferred by the rules of {c.kernel.name}; record with kprobes to see them "
                    "(shootdown record --print)", "  ", "")  # fmt: skip
    seen = c.policies[0].flushes or (0, 0)
    if not c.differences:
        return wrap(f"rules of {c.kernel.name}: {span(c.predicted)} flushes predicted, {span(seen)} seen; "
                    "no operation differs", "  ", "")  # fmt: skip
    lines = wrap(f"rules of {c.kernel.name}: {span(c.predicted)} flushes predicted, {span(seen)} seen; "
                 f"{number(len(c.differences))} operations differ:", "  ", "")  # fmt: skip
    trace = c.history.trace
    for d in c.differences[:DIFFERENCES_SHOWN]:
        at = trace.seconds(d.time - trace.first)
        why = d.cause or "UNEXPLAINED"
        lines += wrap(
            f"{d.name} at +{at:.6f} s, task {d.pid}: {d.seen} seen, {span(d.predicted)} predicted: {why}", "    ", "  "
        )
    if len(c.differences) > DIFFERENCES_SHOWN:
        lines.append(f"  and {number(len(c.differences) - DIFFERENCES_SHOWN)} more (--json has all)")
    return lines


def _findings(c: Comparison) -> list[str]:
    state = c.history.state
    words = [f"{cause} {number(n)}" for cause, n in sorted(c.history.causes.items()) if cause]
    unexplained = c.history.causes.get("", 0)
    text = f"rebuild: {number(state.changes)} SPTE changes checked, "
    if not state.finding_count:
        text += "none contradicts what was held"
    else:
        text += f"{number(state.finding_count)} findings, {number(unexplained) if unexplained else 'none'} unexplained"
        if words:
            text += f" ({'; '.join(words)})"
    return wrap(text, "  ", "")


def document(c: Comparison) -> dict[str, Any]:
    """The comparison for JSON."""
    trace = c.history.trace
    return {
        **as_json(c.history),
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
                "seconds": list(p.seconds),
            }
            for p in c.policies
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
        "predicted": exact(c.predicted),
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
