"""SPTE changes as events tell them, each checked against what is held: ``handle_changed_spte`` read backwards."""

from __future__ import annotations

from mypy_extensions import i64

from ..mmu.spte import (
    EMPTY_61,
    EMPTY_612,
    FROZEN_61,
    FROZEN_612,
    LEVEL_MAX,
    WRITABLE,
    differs_beyond_hardware,
    is_executable,
    is_frozen,
    is_last,
    is_leaf,
    is_present,
    is_table,
    split_child,
    spte_pfn,
    table_index,
)
from . import codes as s
from .findings import FROZEN, LINKED_TWICE, NEW_PFN, OLD_VALUE, RIGHTS, SET_DIFFERS
from .lifetime import dying_of, unlink
from .op import MAP, Op
from .roots import choose_root
from .state import State
from .tables import UNSEEN, Table, key


def changed(state: State, vm: i64, op: Op | None, gfn: i64, old: i64, new: i64, level: i64, as_id: i64) -> None:
    """``kvm_tdp_mmu_spte_changed``: check it against what is held, and hold the new value."""
    state.changes += 1
    if level < 1 or level > LEVEL_MAX:
        state.find(OLD_VALUE, vm, op, as_id, gfn, level, UNSEEN, old, new, None)
        return
    if (state.by_value or vm < 0) and is_present(old):
        vm = holder(state, vm, as_id, gfn, level, old)
    guest = state.guest(vm)
    name = key(level, gfn)
    dying = state.dying.get(state.pid)
    table: Table | None = None
    if dying is not None and is_frozen(new):
        table = dying.tables.get(name)
    tables: dict[int, Table]
    if table is not None and dying is not None:
        tables = dying.tables
    else:
        root = choose_root(state, guest, op, as_id, gfn, level, old)
        tables = root.tables
        table = tables.get(name)
        if table is None:
            # A table whose link is traced later than its first entry, or that existed before the recording.
            table = state.new_table(level, gfn, root.fill(state.empty) if state.epoch == 0 else UNSEEN)
            tables[name] = table
    index = table_index(gfn, level)
    held = table.entries[index]
    if held == UNSEEN:
        state.unseen += 1
    elif differs_beyond_hardware(held, old, level, state.fmt):
        if swapped(state, op, table, index, old, new):
            return
        old_differs(state, vm, op, as_id, gfn, level, held, old, new, table)
    elif state.by_entry and swapped(state, op, table, index, old, new):
        return
    elif held != old:
        state.hardware += 1
    elif is_frozen(old) and not is_frozen(new):
        state.find(FROZEN, vm, op, as_id, gfn, level, held, old, new, table)
    check_new(state, vm, op, as_id, gfn, level, old, new, table)
    if held != UNSEEN and is_leaf(held, level):
        state.pages[level] -= 1
    if is_leaf(new, level):
        state.pages[level] += 1
    table.entries[index] = new
    told(state, table, index)
    state.last, state.last_index, state.last_held = table, index, held
    if is_table(old, level) and (not is_table(new, level) or spte_pfn(old) != spte_pfn(new)):
        unlink(state, guest, tables, level - 1, gfn, spte_pfn(old), dying_of(state, state.pid), op)
    if is_table(new, level) and not (is_table(old, level) and spte_pfn(old) == spte_pfn(new)):
        link(state, vm, tables, op, level, gfn, old, new)


def told(state: State, table: Table, index: i64) -> None:
    """An event told the entry's value: what was lost before does not matter to it any more."""
    if state.epoch:
        state.suspect(table, index)
        table.known.add(index)


def old_differs(
    state: State, vm: i64, op: Op | None, as_id: i64, gfn: i64, level: i64, held: i64, old: i64, new: i64, table: Table
) -> None:
    """The unfreezing of an entry is not traced, so a frozen one may turn up empty; all else is a finding."""
    if is_frozen(held) and (old == EMPTY_61 or old == EMPTY_612):
        return
    rule = FROZEN if is_frozen(held) else OLD_VALUE
    finding = state.find(rule, vm, op, as_id, gfn, level, held, old, new, table)
    if finding is not None:
        state.by_entry[table.serial * 512 + table_index(gfn, level)] = finding


def swapped(state: State, op: Op | None, table: Table, index: i64, old: i64, new: i64) -> bool:
    """Is this the event that was missing between what was held and an earlier finding's old value?

    Two CPUs that change one entry in turn may trace the changes the other way round.
    """
    finding = state.by_entry.get(table.serial * 512 + index)
    if finding is None or finding.late_at >= 0 or state.pid == finding.pid:
        return False
    if op is not None and op.start > finding.time:
        return False
    if differs_beyond_hardware(finding.held, old, finding.level, state.fmt):
        return False
    if differs_beyond_hardware(new, finding.old, finding.level, state.fmt):
        return False
    finding.late_at = state.time
    # What a fault found it had set was another one's work, whose event comes now and counts.
    return finding.rule != SET_DIFFERS


def check_new(
    state: State, vm: i64, op: Op | None, as_id: i64, gfn: i64, level: i64, old: i64, new: i64, table: Table
) -> None:
    """Rules about the pair of values itself."""
    if not is_leaf(new, level):
        return
    if is_leaf(old, level) and spte_pfn(old) != spte_pfn(new):
        state.find(NEW_PFN, vm, op, as_id, gfn, level, UNSEEN, old, new, table)
    if new & WRITABLE != 0 and new & state.fmt.mmu_writable == 0:
        state.find(RIGHTS, vm, op, as_id, gfn, level, UNSEEN, old, new, table)
    elif new & state.fmt.mmu_writable != 0 and new & state.fmt.host_writable == 0:
        state.find(RIGHTS, vm, op, as_id, gfn, level, UNSEEN, old, new, table)


def link(
    state: State, vm: i64, tables: dict[int, Table], op: Op | None, level: i64, gfn: i64, old: i64, new: i64
) -> None:
    """A table came to hang below the entry: empty, or filled with what a huge page was split into."""
    name = key(level - 1, gfn)
    table = tables.get(name)
    if table is None or table.linked:
        if table is not None:
            state.find(LINKED_TWICE, vm, op, 0, gfn, level, UNSEEN, old, new, table)
        table = state.new_table(level - 1, gfn, state.empty)
        tables[name] = table
    table.pfn = spte_pfn(new)
    table.linked = True
    state.unlinked.pop(state.pid, None)
    for made in state.unlinked.values():
        if made.vm == vm and made.role & 15 == level - 1 and made.gfn == table.gfn:
            made.beaten_at = state.time
    if is_leaf(old, level):
        executable = not is_executable(old, state.fmt)
        for i in range(512):
            n: i64 = i
            table.entries[n] = split_child(old, level, n, executable, state.fmt)
        state.pages[level - 1] += 512


def fast_fault(state: State, vm: i64, op: Op | None, gpa: i64, old: i64, new: i64) -> None:
    """``fast_page_fault``: without the lock, it makes an entry writable again (or restores an access-tracked one)."""
    if not is_present(old) or old == new or old == FROZEN_612 or old == FROZEN_61:
        return
    gfn = gpa >> 12
    for root in state.guest(vm).roots:
        for level in range(1, 4):
            lv: i64 = level
            table = root.tables.get(key(lv, gfn))
            if table is None:
                continue
            index = table_index(gfn, lv)
            held = table.entries[index]
            if held == UNSEEN and level == 1 and is_last(old, lv):
                table.entries[index] = new
                state.pages[level] += 1
                state.fast_faults += 1
                return
            if held == UNSEEN or not is_leaf(held, lv):
                continue
            if not differs_beyond_hardware(held, old, lv, state.fmt):
                table.entries[index] = new
                told(state, table, index)
                state.fast_faults += 1
                return
            if swapped(state, op, table, index, old, new):
                return


def check_set(state: State, vm: i64, op: Op | None, gfn: i64, spte: i64, sptep: i64, level: i64) -> None:
    """``kvm_mmu_set_spte``: the entry as a fault left it, and the physical address of it."""
    if level < 1 or level > 3:
        return
    for root in state.guest(vm).roots:
        table = root.tables.get(key(level, gfn))
        if table is None:
            continue
        if sptep != s.MISSING:
            if table.pfn < 0 and len(state.guest(vm).roots) == 1:
                table.pfn = sptep >> 12
            if table.pfn != sptep >> 12:
                continue
        if op is not None and op.kind == MAP:
            state.at[state.pid] = root
        index = table_index(gfn, level)
        held = table.entries[index]
        last = state.last
        if last is not None and last is not table and last.entries[state.last_index] == spte and last.gfn == table.gfn:
            if last.level == table.level and state.last_index == index and held != spte:
                # The address tells that the change was of another root: put it there.
                last.entries[index] = state.last_held
                table.entries[index] = spte
                return
        if held == UNSEEN:
            table.entries[index] = spte
            if is_leaf(spte, level):
                state.pages[level] += 1
        elif differs_beyond_hardware(held, spte, level, state.fmt):
            finding = state.find(SET_DIFFERS, vm, op, root.as_id, gfn, level, held, spte, spte, table)
            if finding is not None:
                state.by_entry[table.serial * 512 + index] = finding
        return


def holder(state: State, vm: i64, as_id: i64, gfn: i64, level: i64, old: i64) -> i64:
    """The VM that holds ``old`` there: ``vm`` if it does, else another that does, else one that may, else ``vm``."""
    holding: i64 = -1
    perhaps: i64 = -1
    for other, guest in state.guests.items():
        for root in guest.roots:
            if root.as_id != as_id:
                continue
            table = root.tables.get(key(level, gfn))
            held = root.fill(state.empty) if table is None else table.entries[table_index(gfn, level)]
            if held == UNSEEN:
                perhaps = other if perhaps != vm else vm
            elif not differs_beyond_hardware(held, old, level, state.fmt):
                holding = other if holding != vm else vm
    return holding if holding >= 0 else perhaps if perhaps >= 0 else vm
