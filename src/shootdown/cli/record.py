"""``shootdown record``: the shell lines that record a trace on this host, each event with its reason."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from ..errors import InputError
from ..trace.recording import Recipe, Vendor, recipe, script
from .options import JSON
from .report import dump

CPUINFO = Path("/proc/cpuinfo")
VENDORS: dict[str, Vendor] = {"AuthenticAMD": "amd", "HygonGenuine": "amd", "GenuineIntel": "intel"}
"""By ``vendor_id`` of /proc/cpuinfo; Hygon's CPUs run kvm_amd."""
CHOICES: dict[str, Vendor] = {"amd": "amd", "intel": "intel"}


@click.command("record")
@click.option("--print", "print_", is_flag=True, help="Print the shell lines; nothing is run.")
@click.option("--kernel", metavar="RELEASE", help="For that kernel instead of this host's (uname -r).")
@click.option("--vendor", type=click.Choice(sorted(CHOICES)), help="For that CPU instead of this host's.")
@JSON
def command(print_: bool, kernel: str | None, vendor: str | None, as_json: bool) -> int:
    """How to record a trace: kprobes, trace-cmd line, cleaning up.

    The output is a shell script. Comments say what each event is for, and what
    is not verified for the kernel. docs/recording.md explains the rest.

    \b
    Example: shootdown record --print > record.sh
             (put the workload in for COMMAND, then: sudo sh record.sh)
    """
    if not print_:
        raise InputError("record does not run a recording yet", advice="use --print and run the lines yourself")
    chosen = CHOICES[vendor] if vendor else this_vendor()
    found = recipe(kernel if kernel is not None else os.uname().release, chosen)
    print(dump("record", document(found)) if as_json else script(found), end="\n" if as_json else "")
    return 0


def this_vendor() -> Vendor:
    """Vendor of this host's CPU, None if it is another or /proc/cpuinfo does not tell."""
    try:
        match = re.search(r"^vendor_id\s*:\s*(\S+)", CPUINFO.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return VENDORS.get(match[1]) if match else None


def document(found: Recipe) -> dict[str, Any]:
    """The recipe for JSON; commands hold their line breaks."""
    return {
        "kernel": found.kernel,
        "vendor": found.vendor,
        "tried": found.tried or None,
        "notes": list(found.notes),
        "events": [{"name": e.name, "need": e.need, "reason": e.reason, "per_exit": e.per_exit} for e in found.events],
        "probes": [
            {
                "name": d.name,
                "definition": d.text,
                "need": d.probe.need,
                "reason": d.probe.reason,
                "quiet": d.probe.quiet or None,
                "left_out": list(d.left_out),
            }
            for d in found.probes
        ],
        "commands": {"define": found.define(), "record": found.record(), "finish": found.finish()},
    }
