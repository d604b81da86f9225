"""Roots of an address space: made, named by the kernel's pointer, chosen for an event, invalidated."""

from __future__ import annotations

from mypy_extensions import i64

from ..mmu.spte import SpteFormat, differs_beyond_hardware, is_present, table_index
from .op import MAP, Op
from .state import State
from .tables import ROLE_INVALID, ROLE_SPACE, Guest, Root, key


def add_root(state: State, guest: Guest, as_id: i64, role: i64, whole: bool) -> Root:
    """A root nobody has seen before, empty."""
    root = Root(as_id, role, state.root_level, whole)
    top = state.new_table(state.root_level, 0, root.fill(state.empty))
    top.linked = True
    root.tables[key(state.root_level, 0)] = top
    guest.roots.append(root)
    return root


def root_by_pointer(guest: Guest, pointer: i64, role: i64) -> Root | None:
    """The root that the kernel's pointer names; the oldest unnamed one that fits takes an unknown name."""
    as_id = (role >> 24) & 0xFF
    invalid = role & ROLE_INVALID != 0
    guess: Root | None = None
    for root in guest.roots:
        if root.pointer == pointer and root.as_id == as_id:
            return root
        fits = root.as_id == as_id and (root.role == 0 or (root.role ^ role) & ROLE_SPACE == 0)
        if root.pointer == 0 and fits and guess is None and root.valid != invalid:
            guess = root
    if guess is not None:
        guess.pointer = pointer
    return guess


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
    if stay is not None and stay.as_id == as_id and fault and stay.valid and key(level, gfn) in stay.tables:
        return stay
    working = state.working.get(state.pid)
    if working is not None and working.as_id == as_id:
        return working
    usable: Root | None = None
    before = state.before.get(state.pid)
    for root in [*guest.roots, before] if before is not None and before in guest.roots else guest.roots:
        if root.as_id != as_id or (fault and not root.valid):
            continue
        table = root.tables.get(key(level, gfn))
        if table is not None and holds(table.entries[table_index(gfn, level)], old, level, state.fmt):
            usable = root
    if usable is None:
        usable = next((r for r in guest.roots if r.as_id == as_id and (r.valid or not fault)), None)
    if usable is None:
        usable = add_root(state, guest, as_id, 0, False)
    state.before[state.pid] = usable
    return usable


def holds(held: i64, old: i64, level: i64, fmt: SpteFormat) -> bool:
    """Can ``old`` be what an entry holds that is known to hold ``held``?"""
    return not differs_beyond_hardware(held, old, level, fmt) and (is_present(held) or not is_present(old))
