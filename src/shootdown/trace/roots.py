"""Roots of an address space: made, named by the kernel's pointer, chosen for an event, invalidated."""

from __future__ import annotations

from mypy_extensions import i64

from ..mmu.spte import SpteFormat, differs_beyond_hardware, is_present, table_index
from .op import MAP, SLOT_DELETE, Op
from .state import State
from .tables import ANY, ROLE_INVALID, ROLE_SPACE, Guest, Root, key


def add_root(state: State, guest: Guest, level: i64, as_id: i64, role: i64, whole: bool) -> Root:
    """A root of so many levels that nobody has seen before, empty."""
    # Where no probe shows roots being dropped, those left behind empty go now.
    guest.roots = [r for r in guest.roots if r.valid or r.pointer != 0 or len(r.tables) > 1]
    root = Root(as_id, role, level, whole)
    top = state.new_table(level, 0, root.fill(state.empty))
    top.linked = True
    root.tables[key(level, 0)] = top
    guest.roots.append(root)
    return root


def fitting(guest: Guest, pointer: i64, role: i64) -> list[Root]:
    """The root that the kernel's pointer names, else those without a name that it may mean, the oldest first."""
    as_id = (role >> 24) & 0xFF
    valid = role & ROLE_INVALID == 0
    found: list[Root] = []
    for root in guest.roots:
        if root.pointer == pointer and root.as_id == as_id:
            return [root]
        fits = root.as_id in (as_id, ANY) and (root.role == 0 or (root.role ^ role) & ROLE_SPACE == 0)
        if root.pointer == 0 and fits and root.valid == valid:
            found.append(root)
    return found


def name_root(root: Root, pointer: i64, role: i64) -> None:
    """From now on the kernel's pointer means this root."""
    root.pointer, root.as_id, root.role = pointer, (role >> 24) & 0xFF, role


def work_on(state: State, guest: Guest, pointer: i64, role: i64) -> None:
    """The thread begins to zap in that root; if its name is new and could mean several, what it zaps will tell."""
    state.working.pop(state.pid, None)
    found = fitting(guest, pointer, role)
    if len(found) == 1:
        name_root(found[0], pointer, role)
        state.working[state.pid] = found[0]
    state.naming.pop(state.pid, None)
    if len(found) > 1:
        state.naming[state.pid] = (pointer, role)


def invalidate(state: State, vm: i64) -> None:
    """Every root of the VM is on its way out; faults build new ones."""
    for root in state.guest(vm).roots:
        root.valid = False


def choose_root(state: State, guest: Guest, op: Op | None, as_id: i64, gfn: i64, level: i64, old: i64) -> Root:
    """The root that an event is about.

    The one that the thread is zapping, or that its vCPU uses, if that is known; else the one that it changed last, then
    the latest made, as the kernel's list goes, that holds the old value.
    """
    if len(guest.roots) == 1 and guest.roots[0].as_id == as_id:
        return guest.roots[0]
    fault = op is not None and op.kind == MAP
    stay = state.at.get(state.pid)
    if stay is not None and stay.as_id == ANY and fault:
        stay.as_id = as_id
    if stay is not None and stay.as_id == as_id and fault and stay.valid and key(level, gfn) in stay.tables:
        return stay
    working = state.working.get(state.pid)
    if working is not None and working.as_id == as_id:
        return working
    usable: Root | None = None
    before = state.before.get(state.pid)
    naming = state.naming.get(state.pid)
    for root in [*guest.roots, before] if before is not None and before in guest.roots else guest.roots:
        if root.as_id != as_id or (fault and not root.valid) or (naming is not None and root.pointer != 0):
            continue
        table = root.tables.get(key(level, gfn))
        if table is not None and holds(table.entries[table_index(gfn, level)], old, level, state.fmt):
            # What deletes a slot zaps the roots left behind, not the one that faults fill meanwhile.
            if usable is None or usable.valid or not root.valid or op is None or op.kind != SLOT_DELETE:
                usable = root
    if usable is None:
        usable = next((r for r in guest.roots if r.as_id == as_id and (r.valid or not fault)), None)
        if usable is None:
            usable = add_root(state, guest, state.root_level, as_id, 0, False)
    elif naming is not None and is_present(old):
        name_root(usable, naming[0], naming[1])
        state.working[state.pid] = usable
        del state.naming[state.pid]
    state.before[state.pid] = usable
    return usable


def holds(held: i64, old: i64, level: i64, fmt: SpteFormat) -> bool:
    """Can ``old`` be what an entry holds that is known to hold ``held``?"""
    return not differs_beyond_hardware(held, old, level, fmt) and (is_present(held) or not is_present(old))
