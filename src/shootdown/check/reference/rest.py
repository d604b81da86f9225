"""What the reference explorer looks for in a state as such: deadlocks, leaks, and writes that no log knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...machine import words
from ...mmu.spte import PRESENT
from ..program import steps
from ..program.guest import MAY_EXECUTE
from .guest import logged
from .state import Entry, State, World

if TYPE_CHECKING:
    from .explorer import Reference


def at_rest(reference: Reference, state: State) -> int:
    """What is wrong in a state in which all tasks of the host are over (steps.py), 0 for nothing or in any other."""
    programs = reference.setting.programs
    for program, place in enumerate(state.places):
        if programs[program].vcpu < 0 and reference.places[place].access.step != steps.END:
            return 0
    guests = [program for program in range(len(programs)) if programs[program].vcpu >= 0]
    first = [state.places[program] == reference.first[program] for program in guests]
    idle = [reference.places[state.places[program]].access.step in (steps.GUEST, steps.END) for program in guests]
    world = World(state)
    if guests and all(first) and not state.pending and ("list", words.ROOTS) in reference.setting.words:
        if _leaks(reference, world):
            return steps.LEAK
        if any(_miscounts(reference, world, root) for root in reference.value(world, ("list", words.ROOTS))):
            return steps.MISCOUNT
    if all(one or other for one, other in zip(first, idle, strict=True)):
        return steps.LOST_WRITE if world.written - logged(reference, world) else 0
    return 0


def stuck(reference: Reference, state: State) -> set[int]:
    """The programs that wait for one another for ever, or for one that is over."""
    at = [reference.places[place].access for place in state.places]
    over = {n for n, access in enumerate(at) if access.step == steps.END}
    waits: dict[int, frozenset[int]] = {}
    for n, access in enumerate(at):
        match access.step:
            case steps.READ_LOCK:
                waits[n] = state.writer | state.waiting
            case steps.WRITE_LOCK:
                waits[n] = state.writer | state.readers
            case steps.PAGES_LOCK:
                waits[n] = state.pages
            case steps.SLOTS_LOCK:
                waits[n] = state.slots
            case steps.SRCU_SYNC:
                waits[n] = dict(state.syncs)[n]
            case steps.WAIT_IPI:
                waits[n] = state.ipi & {access.number}
    found = set(waits)
    while free := {n for n in found if not waits[n] & (found | over)}:
        found -= free
    return found


def still_mapped(reference: Reference, world: World, pfn: int) -> bool:
    """Does a leaf under a root on the list map a page?"""
    every = range(reference.entries)
    todo: list[tuple[int, tuple[int, ...]]] = [
        (root, (index,)) for root in reference.value(world, ("list", words.ROOTS)) for index in every
    ]
    while todo:
        table, path = todo.pop()
        raw = reference.value(world, table << reference.setting.bits | path[-1])
        below = reference.leads((0, path, raw))
        if below >= 0:
            todo += [(below, (*path, index)) for index in every]
        elif raw & PRESENT and pfn in reference.pages((0, path, raw))[1]:
            return True
    return False


def wrong_for_ever(reference: Reference, entry: Entry) -> int:
    """What is wrong with a cached entry, whatever else there is (steps.py), 0 for nothing."""
    setting, raw = reference.setting, entry[2]
    if not raw >> 11 & 1:
        return steps.UNKNOWN_IN_REACH
    mapped = dict(zip(*reference.pages(entry), strict=True))
    if setting.nx and len(mapped) > 1 and setting.hardware.rights(raw) & MAY_EXECUTE:
        return steps.EXECUTABLE_IN_REACH
    if any(pfn not in setting.frames.get(gfn, {pfn}) for gfn, pfn in mapped.items()):
        return steps.OTHER_IN_REACH
    return 0


def _leaks(reference: Reference, world: World) -> bool:
    """Is a table neither free nor in use?"""
    setting = reference.setting
    used = set(reference.value(world, ("list", words.ROOTS)))
    todo = list(used)
    while todo:
        table = todo.pop()
        for index in range(reference.entries):
            below = reference.leads((0, (), reference.value(world, table << setting.bits | index)))
            if below >= 0 and below not in used:
                used.add(below)
                todo.append(below)
    return bool(set(range(setting.tables)) - used - world.free)


def _miscounts(reference: Reference, world: World, root: int) -> bool:
    """Does a root count other references than there are? One that no program looks at counts none."""
    setting = reference.setting
    if (words.ROOT_COUNT, root) not in setting.words and (words.ROOT_COUNT, root) not in world.words:
        return False
    vcpus = range(setting.vcpus)
    own = [reference.value(world, (words.VCPU_ROOT, vcpu)) for vcpu in vcpus]
    own += [
        reference.value(world, (words.VCPU_PREV_ROOT, words.PREV_ROOTS * vcpu + which)) - 1
        for vcpu in vcpus for which in range(words.PREV_ROOTS)
    ]  # fmt: skip
    valid = reference.value(world, (words.ROOT_INVALID, root)) == 0
    kept = valid or reference.value(world, (words.ROOT_SCHEDULED, root))
    expected = own.count(root) + setting.lent.get(root, 0) + bool(kept)
    return int(reference.value(world, (words.ROOT_COUNT, root))) != expected
