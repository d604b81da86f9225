"""Whose host a recording is of, and so by which format its SPTEs are read: AMD's (NPT) or Intel's (EPT)."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..mmu.spte import EPT, NPT, SpteFormat, format_of
from .events import SPTE_CHANGED, Trace

NOTHING: Final = "assumed, as nothing tells"


def read_as(trace: Trace, asked: SpteFormat | None) -> tuple[SpteFormat, str]:
    """The format that is asked for, else the one that the recording looks like; and what told.

    Where it looks like the other one than is asked for, the recording gets a warning.
    """
    found, told = vendor(trace)
    if asked is None:
        return found, told
    if asked.ept != found.ept and told != NOTHING:
        trace.warnings.append(f"looks like {found.name} {told}, read as {asked.name}: leave --format out")
    return asked, "as asked for"


def vendor(trace: Trace) -> tuple[SpteFormat, str]:
    """NPT or EPT, and what told: kvm_exit's field isa, a vendor's probes, else the SPTEs' values."""
    exits = trace.events.get("kvm:kvm_exit")
    if exits is not None and "isa" in exits.fields and len(exits):
        return (EPT if exits.fields["isa"][0] == 1 else NPT), "by kvm_exit"
    for name in trace.counts:
        if name.startswith("kprobes:svm_"):
            return NPT, "by the svm_ probes"
        if name.startswith("kprobes:vmx_"):
            return EPT, "by the vmx_ probes"
    changed = trace.events.get(SPTE_CHANGED)
    votes = {"NPT": 0, "EPT": 0}
    if changed is not None and {"new_spte", "level"} <= changed.fields.keys():
        sptes = changed.fields["new_spte"][:4096].view(np.int64).tolist()
        for spte, level in zip(sptes, changed.fields["level"][:4096].tolist(), strict=True):
            fmt = format_of(spte, level)
            if fmt is not None:
                votes[fmt.name] += 1
    if not any(votes.values()):
        return NPT, NOTHING
    return (EPT if votes["EPT"] > votes["NPT"] else NPT), "by the SPTEs' values"
