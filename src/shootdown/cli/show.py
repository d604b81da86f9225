"""``shootdown show``: what a recording holds; the page tables at a moment; the decoded events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from ..cost.model import CostModel
from ..cost.price import by_operation
from ..cost.rules import kernel_policy
from ..errors import InputError
from ..figures import number, span
from ..mmu.spte import EMPTY_61, PAGES, SpteFormat, describe, is_leaf, spte_pfn, unsigned
from ..trace.events import Events, Trace
from ..trace.findings import Finding
from ..trace.history import WANTED, History, follow
from ..trace.read import read_trace
from ..trace.tables import UNSEEN
from ..trace.vendor import read_as
from ..trace.walk import Run, runs
from .heading import heading, heading_json
from .options import FORMAT, FORMATS, JSON
from .progress import clear, reporter
from .report import columns, dump, exact, wrap

SIZES_SHOWN = 12
FINDINGS_SHOWN = 10
SPTE_FIELDS = frozenset({"old_spte", "new_spte", "spte", "old", "new"})


@click.command("show")
@click.argument("trace", metavar="TRACE")
@click.option(
    "--at",
    "at",
    metavar="TIME",
    help="Print the page tables at that time: as in the trace, or +SECONDS (ticks if its clock counts ticks).",
)
@click.option("--gfn", "gfns", metavar="RANGE", help="gfns to print, hexadecimal: FIRST or FIRST-LAST (with --at).")
@click.option("--events", is_flag=True, help="Print the decoded events, one a line.")
@FORMAT
@JSON
def command(trace: str, at: str | None, gfns: str | None, events: bool, fmt: str | None, as_json: bool) -> int:
    """What a recording holds, and what in it does not add up.

    Kernel, VMs, events, operations, mapping sizes over time, findings.

    \b
    Example: shootdown show trace.dat
             shootdown show trace.dat --at +0.8 --gfn 40000-401ff
             shootdown show trace.dat --events | less
    """
    chosen = FORMATS.get(fmt or "")
    if gfns and not at:
        raise InputError("--gfn needs --at TIME", advice="say at what time to look")
    if events:
        recorded = read_trace(trace, None, reporter("events read"))
        clear()
        for line in event_lines(recorded, read_as(recorded, chosen)[0]):
            print(line)
        return 0
    recorded = read_trace(trace, WANTED, reporter("events read"))
    stop = _time(at, recorded) if at else -1
    history = follow(recorded, chosen, stop, reporter("events followed"))
    clear()
    if at:
        first, last = _gfns(gfns)
        if as_json:
            print(dump("show", {"trace": heading_json(history), "tables": _tables_json(history, first, last)}))
        else:
            print("\n".join(tables(history, at, first, last)))
    elif as_json:
        print(dump("show", {"trace": _document(history)}))
    else:
        print("\n".join(summary(history)))
    return 0


# Summary


def summary(history: History) -> list[str]:
    """Everything about the recording that fits a screen or two."""
    trace = history.trace
    lines = heading(history)
    lines += ["", *_kinds(trace)]
    rows = [["operation", "count", "changes", "flushes" if history.flushes_seen else "flushes (inferred)"]]
    kernel, _ = kernel_policy(trace.kernel, history.state.empty == EMPTY_61)
    rows += [
        [o.name, number(o.operations), number(o.changes), span(o.flushes)]
        for o in by_operation(history, kernel, CostModel())
    ]
    lines += ["", *columns(rows)]
    lines += ["", *sizes(history)]
    lines += ["", *findings(history)]
    return lines


def _most(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _kinds(trace: Trace) -> list[str]:
    """Events by kind, the most frequent first, system by system."""
    by_system: dict[str, list[str]] = {}
    for name, count in sorted(trace.counts.items(), key=_most):
        system, _, kind = name.partition(":")
        by_system.setdefault(system, []).append(f"{kind} {number(count)}")
    return [line for system, kinds in by_system.items() for line in wrap("; ".join(kinds), "  ", f"{system}: ")]


def sizes(history: History) -> list[str]:
    """Mapping sizes over time, of all VMs together: at even times, and when most was mapped of each size."""
    samples = history.state.samples
    if not samples:
        return []
    first, last = samples[0][0], samples[-1][0]
    shown = {max(samples, key=lambda sample: sample[size]) for size in (1, 2, 3)} if any(map(any, samples)) else set()
    for i in range(SIZES_SHOWN + 1):
        upto = first + (last - first) * i // SIZES_SHOWN
        shown.add(max((sample for sample in samples if sample[0] <= upto), key=lambda sample: sample[0]))
    rows = [["leaves mapped at", "4K", "2M", "1G"]]
    for time, small, huge, giant in sorted(shown):
        rows.append([_at(history.trace, time), number(small), number(huge), number(giant)])
    return columns(rows)


def _at(trace: Trace, time: int) -> str:
    if trace.hertz is None:
        return f"+{time - trace.first} ticks"
    return f"+{trace.seconds(time - trace.first):.6f} s"


def findings(history: History) -> list[str]:
    """What contradicts what was held: by rule and cause, then those that nothing explains, decoded."""
    state = history.state
    checked = f"rebuild: {number(state.changes)} SPTE changes and {number(state.fast_faults)} fast faults checked"
    if state.unseen:
        checked += f"; {number(state.unseen)} entries were older than the recording"
    if state.hardware:
        checked += f"; {number(state.hardware)} with A or D set by the CPU meanwhile"
    lines = wrap(checked, "  ", "")
    groups: dict[tuple[str, str], int] = {}
    for f in state.findings:
        groups[f.rule, f.cause] = groups.get((f.rule, f.cause), 0) + 1
    if not groups:
        return [*lines, "no finding: every change agrees with what was held"]
    for (rule, cause), count in sorted(groups.items()):
        lines += wrap(f"{number(count)} x {rule}: {cause or 'UNEXPLAINED'}", "    ", "  ")
    unexplained = [f for f in state.findings if not f.cause]
    for f in unexplained[:FINDINGS_SHOWN]:
        lines += _finding(history, f)
    if len(unexplained) > FINDINGS_SHOWN:
        lines.append(f"  and {number(len(unexplained) - FINDINGS_SHOWN)} more (--json has all)")
    return lines


def _finding(history: History, f: Finding) -> list[str]:
    place = f"VM {int(f.vm) if f.vm >= 0 else 'unknown'} gfn {int(f.gfn):x} level {int(f.level)} as_id {int(f.as_id)}"
    lines = wrap(
        f"{_at(history.trace, f.time)} CPU {int(f.cpu)} task {int(f.pid)}, {place}: {f.rule}", "      ", "    "
    )
    for name, spte in (("held", f.held), ("old", f.old), ("new", f.new)):
        if spte != UNSEEN:
            lines.append(f"      {name:5} {unsigned(spte):#018x} {describe(spte, f.level, history.fmt)}")
    return lines


# Page tables


def tables(history: History, at: str, first: int, last: int) -> list[str]:
    """The page tables of every VM and root at the moment that the history stopped at."""
    lines = [f"page tables at {at}, gfn {first:x} to {last:x}, {history.fmt.name}"]
    for vm, guest in sorted(history.state.guests.items()):
        for root in guest.roots:
            kvm = history.tracker.threads.kvms[vm] if 0 <= vm < len(history.tracker.threads.kvms) else 0
            pointer = f" (kvm {unsigned(kvm):016x})" if kvm else ""
            state = "" if root.valid else ", invalid"
            lines += wrap(f"VM {vm}{pointer}, address space {int(root.as_id)}, root of {int(root.level)} levels{state}")
            for run in runs(history.state, root, first, last):
                lines += _run(run, int(root.level), history.fmt)
    if len(lines) == 1:
        lines.append("no root existed then, or none was seen")
    return lines


def _run(run: Run, top: int, fmt: SpteFormat) -> list[str]:
    last = run.gfn + run.count * PAGES[run.level] - 1
    indent = "  " * (top - run.level + 1)
    times = f" x{run.count}" if run.count > 1 else ""
    value = "not recorded"
    if run.spte != UNSEEN:
        value = f"{unsigned(run.spte):x} {describe(run.spte, run.level, fmt)}"
    if run.count > 1 and run.spte != UNSEEN and is_leaf(run.spte, run.level):
        frame = int(spte_pfn(run.spte))
        frames = f"pfn {frame:x}-{frame + run.count * PAGES[run.level] - 1:x}"
        value = f"from {value.replace(f'pfn {frame:x}', frames, 1)}"
    return wrap(f"{run.level}: {run.gfn:x}-{last:x}{times} {value}", f"{indent}   ", indent)


def _time(text: str, trace: Trace) -> int:
    """A moment as the user names it, in ticks of the trace's clock."""
    if trace.hertz is None:
        if not re.fullmatch(r"\+?\d{1,18}", text):
            raise InputError(f"--at wants ticks, since the clock is {trace.clock}, not '{text}'")
        return int(text) + (trace.first if text.startswith("+") else 0)
    if not re.fullmatch(r"\+?\d+(\.\d*)?", text):
        raise InputError(f"--at wants a time as the trace prints it, or +SECONDS, not '{text}'")
    whole, _, fraction = text.lstrip("+").partition(".")
    nanoseconds = int(whole) * 10**9 + int((fraction + "0" * 9)[:9])
    ticks = nanoseconds if trace.hertz == 1e9 else int(nanoseconds * trace.hertz / 1e9)
    moment = ticks + (trace.first if text.startswith("+") else 0)
    if not trace.first <= moment <= trace.last + 10**9:
        begin, end = (t / trace.hertz for t in (trace.first, trace.last))
        raise InputError(f"--at {text} is outside the recording", advice=f"it lasts from {begin:.6f} to {end:.6f}")
    return moment


def _gfns(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, (1 << 40) - 1
    match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,13})(?:(?:-|:|\.\.)(?:0x)?([0-9a-fA-F]{1,13}))?", text)
    if not match:
        raise InputError(f"--gfn wants hexadecimal FIRST or FIRST-LAST, not '{text}'")
    first = int(match[1], 16)
    last = int(match[2], 16) if match[2] else first
    if last < first:
        raise InputError(f"--gfn {text}: the last comes before the first")
    return first, last


# Events


def event_lines(trace: Trace, fmt: SpteFormat) -> Iterator[str]:
    """Every event in the order of time: time, CPU, task, kind, fields; SPTEs decoded."""
    kinds = list(trace.events.values())
    order = np.concatenate([e.order for e in kinds]) if kinds else np.zeros(0, np.int64)
    kind = np.repeat(np.arange(len(kinds)), [len(e) for e in kinds])
    row = np.concatenate([np.arange(len(e)) for e in kinds]) if kinds else order
    for i in np.argsort(order).tolist():
        yield _event(trace, kinds[kind[i]], int(row[i]), fmt)


def _event(trace: Trace, events: Events, row: int, fmt: SpteFormat) -> str:
    time, pid = int(events.time[row]), int(events.pid[row])
    stamp = trace.stamp(time)
    level = int(events.fields["level"][row]) if "level" in events.fields else 1
    words = []
    for name, column in events.fields.items():
        value = column[row]
        if name in SPTE_FIELDS and column.dtype.kind in "iu" and 1 <= level <= 5:
            spte = int(column[row : row + 1].astype(np.uint64).view(np.int64)[0])
            words.append(f"{name}={unsigned(spte):x} [{describe(spte, level, fmt)}]")
        elif column.dtype.kind in "iu":
            words.append(f"{name}={int(value):#x}" if column.dtype.itemsize == 8 else f"{name}={int(value)}")
        else:
            raw = bytes(value) if not isinstance(value, bytes) else value
            words.append(f"{name}={raw.split(bytes(1))[0].decode(errors='replace')!r}")
    task = f"{trace.comms.get(pid, '<...>')}-{pid}"
    return f"{stamp} [{int(events.cpu[row]):03d}] {task} {events.name.split(':')[-1]}: {' '.join(words)}"


# JSON


def _option(data: bytes) -> dict[str, str]:
    """The data of an option: text, which may end in a NUL, or else what it is in hexadecimal."""
    try:
        text = data.removesuffix(b"\0").decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}
    return {"text": text} if text and all(c.isprintable() or c in "\n\t" for c in text) else {"hex": data.hex()}


def _document(history: History) -> dict[str, Any]:
    kernel, _ = kernel_policy(history.trace.kernel, history.state.empty == EMPTY_61)
    trace = history.trace
    return {
        **heading_json(history),
        "counts": trace.counts,
        "options": [{"name": name, **_option(data)} for name, data in trace.options],
        "operations": [
            {"name": o.name, "operations": o.operations, "changes": o.changes, "flushes": exact(o.flushes)}
            for o in by_operation(history, kernel, CostModel())
        ],
        "sizes": [{"time": trace.seconds(t), "4k": a, "2m": b, "1g": c} for t, a, b, c in history.state.samples],
        "finding_list": [
            {
                "rule": f.rule,
                "cause": f.cause or None,
                "time": trace.seconds(int(f.time)),
                "cpu": int(f.cpu),
                "pid": int(f.pid),
                "vm": int(f.vm) if f.vm >= 0 else None,
                "as_id": int(f.as_id),
                "gfn": f"{int(f.gfn):x}",
                "level": int(f.level),
                **{
                    n: None if v == UNSEEN else f"{unsigned(v):x}"
                    for n, v in (("held", f.held), ("old", f.old), ("new", f.new))
                },
            }
            for f in history.state.findings
        ],
    }


def _tables_json(history: History, first: int, last: int) -> list[dict[str, Any]]:
    return [
        {
            "vm": vm,
            "as_id": int(root.as_id),
            "levels": int(root.level),
            "valid": root.valid,
            "entries": [
                {
                    "level": run.level,
                    "gfn": f"{run.gfn:x}",
                    "count": run.count,
                    "spte": None if run.spte == UNSEEN else f"{unsigned(run.spte):x}",
                    "text": "not recorded" if run.spte == UNSEEN else describe(run.spte, run.level, history.fmt),
                }
                for run in runs(history.state, root, first, last)
            ],
        }
        for vm, guest in sorted(history.state.guests.items())
        for root in guest.roots
    ]
