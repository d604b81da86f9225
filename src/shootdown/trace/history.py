"""What happened in a recording: its operations, its page tables, and what does not add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..mmu.spte import EMPTY_61, EMPTY_612, FROZEN_61, FROZEN_612, LEVEL_MAX, SpteFormat
from . import rebuild
from .causes import Recording, explain
from .codes import KINDS
from .events import SPTE_CHANGED, Trace
from .op import Op
from .operations import Tracker
from .state import State
from .stream import chunks
from .tables import ROLE_SMM, ROLE_SPACE
from .task import Threads
from .vendor import read_as
from .vms import kvm_of_threads, recovery_threads, vcpus_of_vms, vm_of_threads

GET_PAGE = "kvmmmu:kvm_mmu_get_page"
FLUSH_PROBE = "kprobes:kvm_flush_remote_tlbs"
REAP_PROBE = "kprobes:kvm_tdp_mmu_clear_dirty_pt_masked"
INVALIDATE_PROBE = "kprobes:kvm_tdp_mmu_invalidate_all_roots"
FAST_FAULT = "kvmmmu:fast_page_fault"
FREE_PROBE = "kprobes:tdp_mmu_free_sp_rcu_callback"
GRACE_S, GRACE_MIN_S = 1.0, 0.1
"""Taken for the longest RCU grace period where none was seen, and at least where some were."""
WANTED = frozenset(KINDS)
"""The kinds of events that a history is made of."""


@dataclass(slots=True)
class History:
    """A recording, followed to its end or to a moment.

    flushes_seen   the recording has the probe on ``kvm_flush_remote_tlbs``, so that its hits are all flushes
    vcpus          how many each VM was seen with, by kvm pointer
    guest_seen     it has kvm_entry and kvm_exit, so that it is known which vCPUs ran
    causes         findings by cause, "" for those that nothing explains
    """

    trace: Trace
    fmt: SpteFormat
    fmt_from: str
    ops: list[Op]
    tracker: Tracker
    state: State
    causes: dict[str, int]
    vcpus: dict[int, int]
    flushes_seen: bool
    guest_seen: bool


def follow(
    trace: Trace, fmt: SpteFormat | None = None, stop: int = -1, progress: Callable[[int], None] | None = None
) -> History:
    """Recover operations and page tables, up to the time ``stop`` if that is not negative."""
    chosen, told = read_as(trace, fmt)
    guest_seen = "kvm:kvm_entry" in trace.events and "kvm:kvm_exit" in trace.events
    kvm_of = kvm_of_threads(trace)
    threads = Threads(kvm_of, {} if kvm_of else vm_of_threads(trace))
    tracker = Tracker(threads, recovery_threads(trace), chosen, guest_seen, trace.records(REAP_PROBE))
    sees_frees = trace.records(FREE_PROBE) and stop < 0 and shows_which(trace)
    by_value = not kvm_of and len(threads.kvms) > 1
    flushes_seen = trace.records(FLUSH_PROBE)
    state = State(chosen, empty_value(trace), trace.first, trace.last, stop)
    state.sees_frees, state.by_value, state.spaces_told = sees_frees, by_value, spaces_told(trace)
    state.sees_invalidation, state.sees_flushes = trace.records(INVALIDATE_PROBE), flushes_seen
    state.root_level = root_level(trace)
    done = 0
    for chunk in chunks(trace):
        ops: list[Op | None] = []
        vms: list[int] = []
        tracker.feed(chunk, ops, vms)
        done += len(ops)
        if progress:
            progress(done)
        if not rebuild.feed(state, chunk, ops, vms):
            break
    tracker.finish()
    rebuild.finish(state)
    causes = explain(
        state.findings,
        Recording(chosen, trace.first, max(trace.last, trace.ended), grace(trace, state), trace.records(FAST_FAULT)),
    )
    ops_all = [*tracker.ops, *tracker.sums.values()]
    vcpus = vcpus_of_vms(trace)
    return History(trace, chosen, told, ops_all, tracker, state, causes, vcpus, flushes_seen, guest_seen)


def root_level(trace: Trace) -> int:
    """Levels of the deepest page tables: 4, or 5 where an event shows that many."""
    levels = [4]
    for name, field in ((SPTE_CHANGED, "level"), (GET_PAGE, "role")):
        events = trace.events.get(name)
        if events is not None and field in events.fields and len(events):
            found = events.fields[field] & 15
            levels.append(int(found[found <= LEVEL_MAX].max(initial=4)))
    return max(levels)


def grace(trace: Trace, state: State) -> int:
    """Ticks that a removed table may wait for its free: twice the longest wait seen."""
    second = trace.hertz or 1e9
    waits = [freed - cut for cut, freed in state.freed]
    return int(max(2 * max(waits), GRACE_MIN_S * second) if waits else GRACE_S * second)


def shows_which(trace: Trace) -> bool:
    """Does the probe on frees tell which table it was? Its arguments need offsets not known of every kernel."""
    frees = trace.events.get(FREE_PROBE)
    return frees is None or {"gfn", "role", "spt"} <= frees.fields.keys()


def spaces_told(trace: Trace) -> int:
    """Bits of a role that made tables tell, of those that tell address spaces apart.

    The text of a role leaves out guest_mode, and in some forms SMM; then no role has the bit.
    """
    made = trace.events.get(GET_PAGE)
    if trace.form.startswith("trace.dat") or made is None or "role" not in made.fields:
        return int(ROLE_SPACE)
    seen = int(np.bitwise_or.reduce(made.fields["role"])) & int(ROLE_SPACE)
    return int(ROLE_SMM) * (seen & int(ROLE_SMM) != 0) | (seen & ~int(ROLE_SMM))


def empty_value(trace: Trace) -> int:
    """What an empty entry holds there: 0 up to 6.1, bit 63 in 6.12; told by the values, else by the release."""
    changed = trace.events.get(SPTE_CHANGED)
    if changed is not None and {"old_spte", "new_spte"} <= changed.fields.keys():
        values = np.concatenate([changed.fields[name][: 1 << 20].view(np.int64) for name in ("old_spte", "new_spte")])
        old = int(np.isin(values, [int(EMPTY_61), int(FROZEN_61)]).sum())
        recent = int(np.isin(values, [int(EMPTY_612), int(FROZEN_612)]).sum())
        if old or recent:
            return EMPTY_61 if old > recent else EMPTY_612
    return EMPTY_61 if trace.kernel.startswith(("5.", "6.0.", "6.1.")) else EMPTY_612
