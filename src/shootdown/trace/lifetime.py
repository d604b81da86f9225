"""Tables made, unlinked and freed: ``tdp_mmu_init_sp``, ``handle_removed_pt``, the RCU callback, as events tell."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ..mmu.spte import LEVEL_MAX, PAGES, PRESENT, is_table
from . import codes as s
from .findings import CHILD_LEFT, FREE_UNKNOWN, FREED_USED, NEVER_LINKED, NO_FLUSH
from .op import MAP, NX_RECOVERY, SPLIT, Op
from .roots import add_root, fitting
from .state import State
from .tables import ANY, ROLE_INVALID, ROLE_SMM, ROLE_SPACE, UNSEEN, Dying, Guest, Made, Table, key

SP_SIZE_MAX: Final = 512
"""``struct kvm_mmu_page`` is smaller (184 bytes in 6.1 and 6.12)."""


def get_page(state: State, vm: i64, op: Op | None, gfn: i64, role: i64) -> None:
    """``kvm_mmu_get_page``: a table was made; of a root it is all that tells of its beginning."""
    level = role & 15
    if level < 1 or level > LEVEL_MAX:
        return
    guest = state.guest(vm)
    if level < 4 or (level < state.root_level and op is not None and op.kind in (MAP, SPLIT)):
        before = state.unlinked.get(state.pid)
        if before is not None:
            never_linked(state, before)
        made = Made(vm, role, gfn, state.time)
        state.unlinked[state.pid] = made
        for root in guest.roots:
            there = root.tables.get(key(level, gfn))
            if there is not None and there.linked:
                made.beaten_at = state.time
            if root.valid and state.spaces_told == ROLE_SPACE and (root.role ^ role) & ROLE_SPACE == 0:
                state.at[state.pid] = root
        return
    as_id = (role >> 24) & 0xFF if state.spaces_told & ROLE_SMM else ANY
    state.at[state.pid] = add_root(state, guest, level, as_id, role if state.spaces_told == ROLE_SPACE else 0, True)


def never_linked(state: State, made: Made) -> None:
    """A thread went on without linking the table that it had made: somebody else was faster."""
    level, as_id = made.role & 15, (made.role >> 24) & 0xFF
    finding = state.find(NEVER_LINKED, made.vm, None, as_id, made.gfn, level, UNSEEN, UNSEEN, UNSEEN, None)
    if finding is None:
        return
    finding.time = made.time
    finding.late_at = made.beaten_at


def dying_of(state: State, pid: i64) -> Dying:
    """What the thread is emptying; made anew for each table that it unlinks."""
    found = state.dying.get(pid)
    if found is None:
        found = Dying()
        state.dying[pid] = found
    return found


def unlink(
    state: State,
    guest: Guest,
    tables: dict[int, Table],
    level: i64,
    gfn: i64,
    pfn: i64,
    dying: Dying | None,
    op: Op | None,
) -> None:
    """Move the table with entries of ``level`` at ``gfn``, and all below it, out of reach.

    What a fault or NX recovery unlinks must be flushed before its grace period ends, since vCPUs may have cached a way
    into it. (A dying root is out of every vCPU's reach already; 6.12 flushes for a collapse before it traces it.)
    """
    name = key(level, gfn)
    table = tables.pop(name, None)
    if table is None:
        table = state.new_table(level, gfn, UNSEEN)
    if table.pfn < 0:
        table.pfn = pfn
    table.linked = False
    table.cut_at = state.time
    table.cut_cpu = state.cpu
    table.owes_flush = op is not None and op.kind in (MAP, NX_RECOVERY)
    if state.sees_frees:
        guest.removed.setdefault(name, []).append(table)
    state.pending += 1
    if state.pending > state.pending_max:
        state.pending_max = state.pending
    if dying is not None:
        if tables is not dying.tables:
            # A thread empties one table, with all below, before it unlinks the next.
            dying.tables.clear()
            move_below(state, tables, table, dying)
        dying.tables[name] = table


def move_below(state: State, tables: dict[int, Table], table: Table, dying: Dying) -> None:
    """The tables below an unlinked one leave the root with it; they are unlinked one by one, by events of their own."""
    if table.level == 1:
        return
    for i in range(512):
        spte = table.entries[i]
        if spte == UNSEEN or is_table(spte, table.level):
            n: i64 = i
            name = key(table.level - 1, table.gfn + n * PAGES[table.level])
            child = tables.pop(name, None)
            if child is not None:
                dying.tables[name] = child
                move_below(state, tables, child, dying)


def put_root(state: State, vm: i64, pointer: i64, role: i64, refs: i64) -> None:
    """The last reference to a root is dropped: it is unlinked."""
    if refs != 1:
        return
    guest = state.guest(vm)
    found = fitting(guest, pointer, role)
    if found:
        root = found[0]
        guest.roots = [r for r in guest.roots if r is not root]
        state.roots_freed += 1
        root.tables[key(root.level, 0)].pointer = pointer
        unlink(state, guest, root.tables, root.level, 0, -1, None, None)


def freed(state: State, gfn: i64, role: i64, spt: i64, head: i64) -> None:
    """``tdp_mmu_free_sp_rcu_callback``: the memory of a table goes back; nothing may point there or be left in it.

    Which table it was is told by its frame; of a root, whose frame no event shows, by ``head``, which lies in its
    ``kvm_mmu_page``; where neither is known, the first one unlinked in that place.
    """
    state.frees += 1
    if not state.sees_frees:
        return
    level = role & 15
    if level < 1 or level > LEVEL_MAX:
        state.find(FREE_UNKNOWN, -1, None, 0, gfn, level, UNSEEN, UNSEEN, UNSEEN, None)
        return
    name = key(level, gfn)
    best: Table | None = None
    owner: Guest | None = None
    for guest in state.guests.values():
        for table in guest.removed.get(name, ()):
            sure = same_page(spt, table.pfn) or (table.pointer != 0 and 0 <= head - table.pointer < SP_SIZE_MAX)
            if sure or (best is None and table.pfn < 0 and (table.pointer == 0 or head == s.MISSING)):
                best, owner = table, guest
            if sure:
                break
    if best is None or owner is None:
        if not free_root(state, role) and not free_linked(state, gfn, role, spt):
            state.find(FREE_UNKNOWN, -1, None, (role >> 24) & 0xFF, gfn, level, UNSEEN, UNSEEN, UNSEEN, None)
        return
    state.pending -= 1
    state.freed.append((best.cut_at, state.time))
    if best.owes_flush and state.sees_flushes and owner.flushed_at < best.cut_at:
        state.find(NO_FLUSH, -1, None, (role >> 24) & 0xFF, gfn, level, UNSEEN, UNSEEN, UNSEEN, best)
    check_empty(state, best)
    owner.removed[name].remove(best)


def free_root(state: State, role: i64) -> bool:
    """Was it a root whose last reference no probe showed being dropped?"""
    level, as_id = role & 15, (role >> 24) & 0xFF
    for guest in state.guests.values():
        for root in guest.roots:
            if root.level == level and root.as_id == as_id and (not root.valid or role & ROLE_INVALID == 0):
                guest.roots = [r for r in guest.roots if r is not root]
                state.roots_freed += 1
                return True
    return False


def free_linked(state: State, gfn: i64, role: i64, spt: i64) -> bool:
    """Was a table freed that is still linked? That is a finding, unless its end was not seen."""
    level = role & 15
    for vm, guest in state.guests.items():
        for root in guest.roots:
            table = root.tables.get(key(level, gfn))
            if table is None or not table.linked or table.pfn < 0 or not same_page(spt, table.pfn):
                continue
            state.find(FREED_USED, vm, None, root.as_id, gfn, level, UNSEEN, UNSEEN, UNSEEN, table)
            root.tables.pop(key(level, gfn), None)
            return True
    return False


def check_empty(state: State, table: Table) -> None:
    """A removed table has no present entry left."""
    for i in range(512):
        spte = table.entries[i]
        if spte != UNSEEN and spte & PRESENT != 0:
            n: i64 = i
            gfn = table.gfn + n * PAGES[table.level]
            state.find(CHILD_LEFT, -1, None, 0, gfn, table.level, spte, UNSEEN, UNSEEN, table)
            return


def same_page(address: i64, pfn: i64) -> bool:
    """May the kernel address ``address`` be that of frame ``pfn``? The direct map starts at a multiple of 1 GiB."""
    return pfn >= 0 and (address - (pfn << 12)) & 0x3FFF_FFFF == 0
