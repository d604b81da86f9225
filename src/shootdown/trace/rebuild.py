"""The page tables of every VM at any time, rebuilt from recorded changes; each change checked against what is held."""

from __future__ import annotations

import bisect

from mypy_extensions import i64

from . import codes as s
from .changes import changed, check_set, fast_fault
from .findings import NEVER_FREED
from .lifetime import freed, get_page, never_linked, put_root
from .op import Op
from .roots import invalidate, work_on
from .state import State
from .stream import Chunk
from .tables import UNSEEN


def feed(state: State, chunk: Chunk, ops: list[Op | None], vms: list[int]) -> bool:
    """Take a chunk with the operation and VM of each of its events; False once ``stop`` is reached."""
    codes, a, b, c, d, e = chunk.code, chunk.a, chunk.b, chunk.c, chunk.d, chunk.e
    times, cpus, pids = chunk.time, chunk.cpu, chunk.pid
    for i in range(len(codes)):
        code: i64 = codes[i]
        state.time = times[i]
        if state.stop >= 0 and state.time > state.stop:
            return False
        if state.time >= state.next_sample:
            state.sample()
        state.cpu, state.pid = cpus[i], pids[i]
        op = ops[i]
        if code == s.CHANGED:
            changed(state, vms[i], op, a[i], b[i], c[i], d[i], e[i])
        elif code == s.FAST_FAULT:
            fast_fault(state, vms[i], op, a[i], b[i], c[i])
        elif code == s.SET_SPTE:
            check_set(state, vms[i], op, a[i], b[i], c[i], d[i])
        elif code == s.GET_PAGE:
            get_page(state, vms[i], op, a[i], b[i])
        elif code == s.FREE:
            freed(state, a[i], b[i], c[i], d[i])
        elif code == s.INVALIDATE_ROOTS or (code == s.ZAP_ALL_FAST and not state.sees_invalidation):
            # The tracepoint names no VM, so that the probe is preferred.
            invalidate(state, vms[i])
        elif code == s.FLUSH:
            state.guest(vms[i]).flushed_at = state.time
        elif code == s.PUT_ROOT:
            put_root(state, vms[i], b[i], c[i], d[i])
        elif code == s.ZAP_ROOT or code == s.ZAP_LEAFS:
            work_on(state, state.guest(vms[i]), b[i], c[i])
        elif code == s.ZAP_LEAFS_RET or code == s.ZAP_ALL_RET or code == s.ZAP_INVALIDATED_RET or code == s.ENTRY:
            state.working.pop(state.pid, None)
            state.naming.pop(state.pid, None)
        elif code == s.LOST:
            state.epoch += 1
            state.gaps += a[i]
    return True


def finish(state: State) -> None:
    """The recording is over: what was still owed?"""
    state.sample()
    for pid in list(state.unlinked):
        state.pid = pid
        never_linked(state, state.unlinked.pop(pid))
    pairs = sorted(state.freed)
    earliest: list[int] = []
    for _, freed_at in reversed(pairs):
        earliest.append(freed_at if not earliest or freed_at < earliest[-1] else earliest[-1])
    earliest.reverse()
    for vm, guest in state.guests.items():
        for table in [table for tables in guest.removed.values() for table in tables]:
            finding = state.find(NEVER_FREED, vm, None, 0, table.gfn, table.level, UNSEEN, UNSEEN, UNSEEN, table)
            if finding is not None:
                finding.time = table.cut_at
                finding.cpu = table.cut_cpu
                later = bisect.bisect_left(pairs, (table.cut_at + 1, 0))
                finding.late_at = earliest[later] if later < len(earliest) else -1
