"""``shootdown replay``: does our MMU make the SPTE changes and flushes that the recorded kernel made?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..figures import count, number
from ..mmu.spte import SpteFormat, describe, unsigned
from ..trace.events import Trace
from ..trace.read import read_trace
from ..trace.replay.record import WANTED
from ..trace.replay.replay import replay
from ..trace.replay.result import Difference, Result
from ..trace.replay.where import where
from ..trace.vendor import read_as
from .options import FORMAT, FORMATS, JSON
from .progress import clear, reporter
from .report import columns, dump, wrap

SHOWN = 10
DIFFERENT, NOTHING = 2, 3


@click.command("replay")
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@FORMAT
@JSON
def command(traces: tuple[str, ...], fmt: str | None, as_json: bool) -> int:
    """Drive our MMU with a recording's operations; compare change for change.

    The operations are taken from the recording, what they do to SPTEs is not:
    docs/conformance.md lists every input. Several recordings make a table.

    \b
    Exit codes: 0 all is equal or explained, 2 a difference is unexplained,
    3 a recording determines nothing to compare.
    Example: shootdown replay trace.dat
    """
    found: list[tuple[Trace, SpteFormat, Result]] = []
    for path in traces:
        trace = read_trace(path, WANTED, reporter("events read"))
        chosen, _ = read_as(trace, FORMATS.get(fmt or ""))
        found.append((trace, chosen, replay(trace, chosen, reporter("events replayed"))))
        clear()
    if as_json:
        print(dump("replay", {"traces": [document(*one) for one in found]}))
    elif len(found) == 1:
        print("\n".join(report(*found[0])))
    else:
        print("\n".join(table([(trace, result) for trace, _, result in found])))
    results = [result for _, _, result in found]
    if any(result.unexplained for result in results):
        return DIFFERENT
    return NOTHING if any(result.determined == 0 for result in results) else 0


def percent(part: int, whole: int) -> str:
    """A share, never rounded up to all."""
    if whole == 0:
        return "-"
    if part == whole:
        return "100 %"
    return f"{min(99.99, int(10000 * part / whole) / 100):.2f} %"


def report(trace: Trace, fmt: SpteFormat, result: Result) -> list[str]:
    """One recording in words."""
    kernel = f"Linux {trace.kernel}" if trace.kernel else "kernel not recorded"
    lines = wrap(f"{trace.path}: {kernel}, {fmt.name}, replayed as {result.behaviour}", "  ", "")
    for warning in trace.warnings:
        lines += wrap(f"warning: {warning}", "    ", "  ")
    explained, left = sum(result.explained.values()), len(result.unexplained)
    flush = number(result.flushes_recorded) if result.sees_flushes else "not recorded"
    lines += [
        *columns(
            [
                ("SPTE changes recorded", number(result.changes)),
                ("  determined by the recording", number(result.determined)),
                ("  predicted exactly", f"{number(result.matched)}"),
                ("fast faults recorded", number(result.fast_faults)),
                ("  predicted exactly", number(result.fast_matched)),
                ("flushes recorded", flush),
                ("  predicted, in number and place", number(result.flushes_matched) if result.sees_flushes else "-"),
                ("tables freed", number(result.frees_recorded) if result.sees_frees else "not recorded"),
                ("  predicted", number(result.frees_matched) if result.sees_frees else "-"),
                ("  predicted besides, not shown", number(result.frees_predicted - result.frees_matched)),
                ("differences explained", number(explained)),
                ("differences unexplained", number(left)),
            ]
        ),
        f"conformance: {percent(result.matched, result.determined)} of what the recording determines",
    ]
    if result.undetermined:
        share = percent(result.undetermined, result.changes)
        lines += wrap(
            f"undetermined: {count(result.undetermined, 'change')} ({share}): lost, or older than the record", "  "
        )
    others = result.flushes_undetermined, result.frees_undetermined
    if any(others):
        lines += wrap(f"undetermined: {count(others[0], 'flush', 'flushes')}, {count(others[1], 'free')}", "  ")
    for cause, times in sorted(result.explained.items()):
        lines += wrap(f"explained, {number(times)} x: {cause}", "    ", "  ")
    for name, times in sorted(result.inputs.items()):
        lines += wrap(f"taken from the recording, {number(times)} x: {name}", "    ", "  ")
    for difference in result.unexplained[:SHOWN]:
        lines += _difference(trace, fmt, difference)
    if left > SHOWN:
        lines.append(f"  and {number(left - SHOWN)} more (--json has all)")
    return lines


def _difference(trace: Trace, fmt: SpteFormat, d: Difference) -> list[str]:
    event = d.event or d.op.first
    lines = wrap(f"{trace.stamp(event.time)} CPU {event.cpu} task {d.op.pid}, {d.op.kind}: {d.what}", "      ", "  ")
    for name, change in (("recorded", _recorded(d)), ("ours", d.predicted)):
        if change is None:
            lines.append(f"    {name}: nothing")
            continue
        gfn, level, old, new = change
        lines.append(f"    {name}: gfn {gfn:x} level {level}")
        lines += [f"      {unsigned(x):#018x} {describe(x, level, fmt)}" for x in (old, new)]
    return [*lines, *wrap(f"they part in {where(d)}", "      ", "    ")]


def _recorded(d: Difference) -> tuple[int, int, int, int] | None:
    return None if d.event is None else d.event.change()


def table(found: list[tuple[Trace, Result]]) -> list[str]:
    """A line for each of several recordings."""
    rows = [("recording", "changes", "exact", "share", "expl.", "unexpl.", "undet.", "flushes", "frees")]
    for trace, r in found:
        path = Path(trace.path)
        name = path.parent.name if path.name == "trace.dat" else path.stem
        flushes = f"{r.flushes_matched}/{r.flushes_recorded}" if r.sees_flushes else "-"
        frees = f"{r.frees_matched}/{r.frees_recorded}" if r.sees_frees else "-"
        rows.append(
            (
                *(name[:20], str(r.changes), str(r.matched), percent(r.matched, r.determined)),
                *(str(sum(r.explained.values())), str(len(r.unexplained)), str(r.undetermined), flushes, frees),
            )
        )
    lines = columns(rows)
    lines += wrap("share: of the changes that the recording determines; flushes, frees: predicted/recorded", "  ", "")
    return lines


def document(trace: Trace, fmt: SpteFormat, result: Result) -> dict[str, Any]:
    """One recording for JSON."""
    return {
        "path": trace.path,
        "kernel": trace.kernel or None,
        "vendor": fmt.name,
        "behaviour": result.behaviour,
        "changes": result.changes,
        "determined": result.determined,
        "matched": result.matched,
        "explained": dict(sorted(result.explained.items())),
        "unexplained": len(result.unexplained),
        "undetermined": result.undetermined,
        "conformance": result.matched / result.determined if result.determined else None,
        "fast_faults": result.fast_faults,
        "fast_faults_matched": result.fast_matched,
        "flushes_recorded": result.flushes_recorded if result.sees_flushes else None,
        "flushes_predicted": result.flushes_predicted,
        "flushes_matched": result.flushes_matched if result.sees_flushes else None,
        "flushes_undetermined": result.flushes_undetermined,
        "frees_undetermined": result.frees_undetermined,
        "frees_recorded": result.frees_recorded if result.sees_frees else None,
        "frees_predicted": result.frees_predicted,
        "frees_matched": result.frees_matched if result.sees_frees else None,
        "inputs": dict(sorted(result.inputs.items())),
        "differences": [_difference_json(trace, fmt, d) for d in result.differences],
        "warnings": trace.warnings,
    }


def _difference_json(trace: Trace, fmt: SpteFormat, d: Difference) -> dict[str, Any]:
    event = d.event or d.op.first
    return {
        "operation": d.op.kind,
        "time": trace.seconds(event.time),
        "cpu": event.cpu,
        "pid": d.op.pid,
        "what": d.what,
        "cause": d.cause or None,
        "where": where(d),
        "recorded": _change_json(_recorded(d), fmt),
        "predicted": _change_json(d.predicted, fmt),
    }


def _change_json(change: tuple[int, int, int, int] | None, fmt: SpteFormat) -> dict[str, Any] | None:
    if change is None:
        return None
    gfn, level, old, new = change
    return {
        "gfn": f"{gfn:x}",
        "level": level,
        "old": f"{unsigned(old):x}",
        "new": f"{unsigned(new):x}",
        "old_text": describe(old, level, fmt),
        "new_text": describe(new, level, fmt),
    }
