"""The hot loop: expands states by table look-up until all are explored or something is missing or wrong.

The loop never runs MMU code: what a program does next is in the tables that ``model`` fills when the loop reports that
something is missing. Compiled or not, it gives the same rows; products are masked because only compiled ones wrap.
"""

from __future__ import annotations

from mypy_extensions import i64

from ..program.guest import LACKING
from .breaches import breaches, first_of
from .flushes import flush, flush_range
from .hardware import closure, free_table, grace, mark_stale, met, run_callbacks, unaccounted
from .locks import blockers_of, stuck_of
from .logs import act, is_backed, lost_write, take
from .mapped import any_mapped, mapping
from .stakes import P6, changed
from .states import add_state, insert

# Skipped by isort, which would give each of the hundred names a line; their order means nothing.
from ..program.steps import (  # isort: skip
    ALLOC, ASSERTION, BUG, CALL_RCU, CHOOSE, DEADLOCK, DOUBLE_FREE, END, FLUSH, FLUSH_RANGE, FORGET, FREE, GUEST, IPI,
    IRQ_DISABLE, IRQ_ENABLE, IRQ_OFF, LOST_WRITE, MMIO, OVERWRITTEN, PAGES_LOCK, PAGES_UNLOCK, PASSES_FOR_MMIO, PROTECT,
    RCU_LOCK, RCU_UNLOCK, READ_LOCK, READ_UNLOCK, REVOKE, SEND_IPI, SLOTS_LOCK, STILL_MAPPED,
    STORE, UPDATE, USE_AFTER_FREE, WAIT_IPI, WITNESS, WRITE_LOCK, WRITE_UNLOCK, WRITE_WAIT,
)  # fmt: skip
from .layout import (  # isort: skip
    AT_STAKE, BREACHES, CHOICES, DEPTH, DONE, ENDLESS, ENTRIES, FRONT, FULL, F_FLAGS, F_FREE, F_NODE, F_PAGES,
    F_PENDING, F_RAN, F_RCU, F_READERS, F_REVOKED, F_TLB, F_WAITING, F_WRITER, F_WRITTEN, GFNS_MAX, GOAL, HIDDEN, LAST,
    LEFT_MOVER, LEVEL_END, MASK, MISSING_EDGE, MISSING_ENTRY, MOVERS, NEXT, NODES_MAX, ONLY_CHOICE, ONLY_PROGRAM,
    PROGRAMS, RAN, RIGHT_MOVER, RING, ROOT_WORDS, STATES, STOP, STOP_ALL, STOP_NEVER, TABLES, TAKER, TRANSITIONS,
    VALUES, VCPUS, VIOLATION, WAITED, WAITER, WIDTH, Tables, bit_of, get, put,
)  # fmt: skip


def explore(t: Tables) -> i64:
    """Expand states in the order in which they were found, from ``p[NEXT]`` on.

    ``out[4]`` is the state that the last step led to. Returns DONE, MISSING_EDGE (out: node, result), MISSING_ENTRY
    (out: place, value), VIOLATION (out: what, state, program, or of a deadlock the mask of those in it) or FULL. A
    state that was cut short is expanded again from its beginning, which changes nothing.
    """
    p = t.p
    fw, fs, fm = t.fw, t.fs, t.fm
    kinds, na, nb, flags, edge, link = t.kind, t.a, t.b, t.flags, t.edge, t.link
    touch = t.touch
    seen, to, puts, nodes, local = t.seen, t.to, t.put, t.nodes, t.local
    row, rows, out = t.row, t.rows, t.out
    width, tables, entries, vcpus, programs = p[WIDTH], p[TABLES], p[ENTRIES], p[VCPUS], p[PROGRAMS]
    values, nodes_max, movers = p[VALUES], p[NODES_MAX], p[MOVERS]
    f_readers, f_writer, f_waiting, f_pages = p[F_READERS], p[F_WRITER], p[F_WAITING], p[F_PAGES]
    f_rcu, f_free, f_revoked, f_pending = p[F_RCU], p[F_FREE], p[F_REVOKED], p[F_PENDING]
    f_flags, f_tlb, f_node, root_words = p[F_FLAGS], p[F_TLB], p[F_NODE], p[ROOT_WORDS]
    goal, f_ran = p[GOAL], p[F_RAN]
    every = p[STOP] == STOP_NEVER
    logs = fm[p[F_WRITTEN]] != 0
    only, only_choice = p[ONLY_PROGRAM], p[ONLY_CHOICE]
    blockers = t.blockers
    spte_words = tables * entries
    queued = bit_of(programs)
    left: i64 = HIDDEN
    right: i64 = HIDDEN
    if movers != 0:
        left |= LEFT_MOVER
        right |= RIGHT_MOVER
    current = p[NEXT]
    while current < p[STATES] and current < p[LAST]:
        if current == p[LEVEL_END]:
            p[LEVEL_END] = p[STATES]
            p[DEPTH] = p[DEPTH] + 1
        base = (current & p[RING]) * width
        before = p[TRANSITIONS]
        waiting: i64 = 0
        ended: i64 = 0
        c: i64 = 0
        while c < programs:
            me = bit_of(c)
            node = nodes[c * nodes_max + get(rows, base, f_node + c, fw, fs, fm)]
            kind = kinds[node]
            choices: i64 = 1
            if kind == GUEST:
                choices = 1 + t.spot[c * p[GFNS_MAX]]
            elif kind == CHOOSE or kind == FLUSH_RANGE:
                choices = na[node]
            elif kind == END:
                choices = 0
                ended |= me
            elif kind == BUG and every:
                choices = 0
                p[BREACHES] = p[BREACHES] | bit_of(ASSERTION)
            choice: i64 = 0
            if only >= 0:
                choice = only_choice
                choices = only_choice + 1 if only == c else 0
            while choice < choices:
                k: i64 = 0
                while k < width:
                    row[k] = rows[base + k]
                    k += 1
                node = nodes[c * nodes_max + get(row, 0, f_node + c, fw, fs, fm)]
                kind = kinds[node]
                past = False
                takes = False
                bad: i64 = 0
                written: i64 = -1
                p[RAN] = 0
                # Can the step end a grace period, or concern a vCPU that took no part in it?
                marks = maps = False
                while True:
                    a = na[node]
                    r: i64 = 0
                    enabled = True
                    write: i64 = -1
                    if goal != 0:
                        p[RAN] = p[RAN] | t.ran[node]
                    x = touch[node]
                    if x >= 0 and get(row, 0, f_free, fw, fs, fm) & bit_of(x) != 0:
                        bad = USE_AFTER_FREE
                    if kind == RCU_UNLOCK or kind == CALL_RCU or kind == FREE or kind == REVOKE or kind == FORGET:
                        marks = True
                        if kind == CALL_RCU or kind == FREE:
                            p[RAN] = p[RAN] | P6
                    if kind == UPDATE:
                        r = get(row, 0, a, fw, fs, fm)
                    elif kind == STORE:
                        # Hidden writes go to tables that no vCPU reaches.
                        if a < spte_words and flags[node] & HIDDEN == 0:
                            written = a // entries
                            changed(t, a, get(row, 0, a, fw, fs, fm), nb[node])
                            maps = maps or mapping(t, a, nb[node])
                            if t.volatile[a * values + get(row, 0, a, fw, fs, fm)] != 0:
                                bad = OVERWRITTEN
                        put(row, a, nb[node], fw, fs, fm)
                    elif kind == READ_LOCK:
                        if get(row, 0, f_writer, fw, fs, fm) != 0 or get(row, 0, f_waiting, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_readers, get(row, 0, f_readers, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == READ_UNLOCK:
                        put(row, f_readers, get(row, 0, f_readers, fw, fs, fm) & ~me, fw, fs, fm)
                    elif kind == WRITE_WAIT:
                        put(row, f_waiting, get(row, 0, f_waiting, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == WRITE_LOCK:
                        if get(row, 0, f_writer, fw, fs, fm) != 0 or get(row, 0, f_readers, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_writer, me, fw, fs, fm)
                            put(row, f_waiting, get(row, 0, f_waiting, fw, fs, fm) & ~me, fw, fs, fm)
                    elif kind == WRITE_UNLOCK:
                        put(row, f_writer, 0, fw, fs, fm)
                    elif kind == PAGES_LOCK:
                        if get(row, 0, f_pages, fw, fs, fm) != 0:
                            enabled = False
                        else:
                            put(row, f_pages, me, fw, fs, fm)
                    elif kind == PAGES_UNLOCK:
                        put(row, f_pages, 0, fw, fs, fm)
                    elif kind == RCU_LOCK:
                        put(row, f_rcu, get(row, 0, f_rcu, fw, fs, fm) | me, fw, fs, fm)
                    elif kind == RCU_UNLOCK:
                        put(row, f_rcu, get(row, 0, f_rcu, fw, fs, fm) & ~me, fw, fs, fm)
                        k = 0
                        while k < tables:
                            x = get(row, 0, f_pending + k, fw, fs, fm)
                            if x != 0:
                                put(row, f_pending + k, x & ~me, fw, fs, fm)
                            k += 1
                        run_callbacks(t, queued)
                    elif kind == CALL_RCU:
                        if (
                            get(row, 0, f_pending + a, fw, fs, fm) != 0
                            or get(row, 0, f_free, fw, fs, fm) & bit_of(a) != 0
                        ):
                            bad = DOUBLE_FREE
                        put(row, f_pending + a, queued | get(row, 0, f_rcu, fw, fs, fm), fw, fs, fm)
                        run_callbacks(t, queued)
                    elif kind == ALLOC:
                        x = get(row, 0, f_free, fw, fs, fm)
                        p[RAN] = p[RAN] | P6
                        r = -1
                        k = 0
                        while k < tables:
                            if x & bit_of(k) != 0:
                                r = k
                                put(row, f_free, x & ~bit_of(k), fw, fs, fm)
                                break
                            k += 1
                    elif kind == FREE:
                        if (
                            get(row, 0, f_pending + a, fw, fs, fm) != 0
                            or get(row, 0, f_free, fw, fs, fm) & bit_of(a) != 0
                        ):
                            bad = DOUBLE_FREE
                        free_table(t, a)
                    elif kind == GUEST:
                        if choice > 0:
                            k = c * p[GFNS_MAX]
                            if choice > t.gfns[k]:
                                # The guest goes on; what the page tables or the logs hold may have changed.
                                written = act(t, c, choice)
                                past = written != -2
                                break
                            r = choice
                            k += choice
                            x = root_words + c
                            x = t.child[x * values + get(row, 0, x, fw, fs, fm)]
                            if t.act[k] == LACKING:
                                enabled = get(row, 0, f_tlb + c, fw, fs, fm) & t.able[k] & t.under[x] != 0
                            else:
                                held = get(row, 0, f_tlb + c, fw, fs, fm)
                                enabled = met(t, held, x, t.gfns[k], -1 if t.act[k] != 0 else 0, 0, tables) >= 0
                    elif kind == SEND_IPI:
                        x = get(row, 0, f_flags + a, fw, fs, fm)
                        if x & IRQ_OFF != 0:
                            put(row, f_flags + a, x | IPI, fw, fs, fm)
                    elif kind == WAIT_IPI:
                        if get(row, 0, f_flags + a, fw, fs, fm) & IPI != 0:
                            enabled = False
                    elif kind == IRQ_DISABLE:
                        put(row, f_flags + a, get(row, 0, f_flags + a, fw, fs, fm) | IRQ_OFF, fw, fs, fm)
                    elif kind == IRQ_ENABLE:
                        put(row, f_flags + a, get(row, 0, f_flags + a, fw, fs, fm) & ~(IRQ_OFF | IPI), fw, fs, fm)
                    elif kind == FLUSH:
                        written = flush(t, a, c)
                    elif kind == CHOOSE:
                        r = choice
                    elif kind == REVOKE:
                        put(row, f_revoked, get(row, 0, f_revoked, fw, fs, fm) | bit_of(a), fw, fs, fm)
                        maps = True
                    elif kind == FLUSH_RANGE:
                        r = choice
                        written = flush_range(t, nb[node], choice)
                    elif kind >= SLOTS_LOCK:
                        enabled = take(t, c, kind, a)
                        marks = marks or kind == PROTECT
                        if kind == MMIO and is_backed(t, a):
                            bad = PASSES_FOR_MMIO
                    elif kind == FORGET:
                        if not mark_stale(t, a):
                            p[NEXT] = current
                            p[TRANSITIONS] = before
                            return MISSING_ENTRY
                    if not enabled:
                        if kind != GUEST:
                            waiting |= me
                            p[WAITED] = p[WAITED] | bit_of(kind)
                            blockers[c] = blockers_of(t, c, kind, a)
                        break
                    e = edge[node]
                    while e >= 0 and seen[e] != r:
                        e = link[e]
                    if e < 0:
                        out[0] = MISSING_EDGE
                        out[1] = node
                        out[2] = r
                        p[NEXT] = current
                        p[TRANSITIONS] = before
                        return MISSING_EDGE
                    write = puts[e]
                    if write >= 0:
                        if a < spte_words and flags[node] & HIDDEN == 0:
                            written = a // entries
                            changed(t, a, r, write)
                            maps = maps or mapping(t, a, write)
                        put(row, a, write, fw, fs, fm)
                    # Right movers, one other step, left movers: together one step of the schedule.
                    if flags[node] & right == 0:
                        past = True
                    takes = takes or flags[node] & TAKER != 0
                    node = to[e]
                    kind = kinds[node]
                    if kind == BUG and bad == 0:
                        bad = ASSERTION
                    if bad != 0 or flags[node] & FRONT != 0:
                        past = True
                        break
                    # What others wait for is seen to be held while its holder waits.
                    if takes and flags[node] & WAITER != 0:
                        past = True
                        break
                    if past and flags[node] & left == 0:
                        break
                if not past:
                    # Nothing but right movers before something that is blocked: not taken.
                    choice += 1
                    continue
                put(row, f_node + c, local[node], fw, fs, fm)
                p[AT_STAKE] = p[AT_STAKE] | p[RAN]
                if goal != 0:
                    put(row, f_ran, get(row, 0, f_ran, fw, fs, fm) | (p[RAN] & goal), fw, fs, fm)
                # A page that was taken back stays unmapped: so its mapping before that, or after it, is as bad.
                if maps and get(row, 0, f_revoked, fw, fs, fm) != 0 and any_mapped(t):
                    p[BREACHES] = p[BREACHES] | bit_of(STILL_MAPPED)
                    if bad == 0:
                        bad = STILL_MAPPED
                # Hardware fills what it may hold.
                v: i64 = 0
                while v < vcpus:
                    if (v == c or marks or written >= 0) and kinds[
                        nodes[v * nodes_max + get(row, 0, f_node + v, fw, fs, fm)]
                    ] == GUEST:
                        held = get(row, 0, f_tlb + v, fw, fs, fm)
                        root = t.child[(root_words + v) * values + get(row, 0, root_words + v, fw, fs, fm)]
                        if v == c or written == root or (written >= 0 and held & t.into[written] != 0):
                            held = closure(t, held, root)
                            if held < 0:
                                p[NEXT] = current
                                p[TRANSITIONS] = before
                                return MISSING_ENTRY
                            put(row, f_tlb + v, held, fw, fs, fm)
                        broken = breaches(t, v, held, root)
                        if broken != 0:
                            p[BREACHES] = p[BREACHES] | broken
                            if bad == 0:
                                bad = first_of(broken)
                    v += 1
                if bad != 0:
                    p[BREACHES] = p[BREACHES] | bit_of(bad)
                p[TRANSITIONS] += 1
                # What breaks something is a state of its own, even if an equal one was reached without breaking it.
                if bad != 0 and p[STOP] == STOP_ALL:
                    found = add_state(t, current, c * CHOICES + choice)
                else:
                    found = insert(t, current, c * CHOICES + choice)
                if found == -MASK:
                    p[NEXT] = current
                    p[TRANSITIONS] = before
                    return FULL
                out[4] = found if found >= 0 else -1 - found
                if bad != 0 and p[STOP] == STOP_ALL:
                    out[0] = VIOLATION
                    out[1] = bad
                    out[2] = found
                    out[3] = c
                    p[NEXT] = current
                    return VIOLATION
                choice += 1
            c += 1
        wrong: i64 = 0
        stuck: i64 = stuck_of(t, waiting, ended) if waiting != 0 else 0
        if only >= 0:
            pass
        elif stuck != 0:
            wrong = DEADLOCK
        elif ended | p[ENDLESS] == queued - 1:
            if goal != 0 and get(rows, base, f_ran, fw, fs, fm) == goal and not grace(t, base):
                wrong = WITNESS
            elif vcpus > 0:
                wrong = unaccounted(t, base)
            if wrong == 0 and logs and lost_write(t, base):
                wrong = LOST_WRITE
        if every and wrong != 0:
            p[BREACHES] = p[BREACHES] | bit_of(wrong)
        elif wrong != 0:
            out[0] = VIOLATION
            out[1] = wrong
            out[2] = current
            out[3] = stuck if wrong == DEADLOCK else -1
            p[NEXT] = current
            return VIOLATION
        current += 1
        p[NEXT] = current
    return DONE
