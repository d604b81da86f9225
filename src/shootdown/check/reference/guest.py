"""What the reference explorer lets a guest do: its faults, and its writes, which go on in the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...machine import words
from ...mmu.access import FETCH, PERMISSION, RESERVED, WRITE, fault_of
from ..program.guest import MAY_WRITE

if TYPE_CHECKING:
    from .explorer import Reference
    from .state import World

Way = tuple[str, int, int, int]
"""A way in which a guest's step can go: what it is, gfn, error code, and the table that it is about (-1: none)."""


def ways(reference: Reference, program: int) -> list[Way]:
    """All that the guest of a program can do, possible now or not."""
    setting = reference.setting
    found: list[Way] = [("interrupt", 0, 0, -1)]
    accesses = setting.programs[program].faults
    for gfn, code in accesses:
        found.append(("absent", gfn, code, -1))
        if code & (WRITE | FETCH):
            found.append(("lacking", gfn, code | PERMISSION, -1))
        if setting.reserved:
            found.append(("reserved", gfn, RESERVED if setting.hardware.ept else code | RESERVED | PERMISSION, -1))
    for gfn in sorted({gfn for gfn, code in accesses if code & WRITE}):
        found.append(("writes", gfn, 0, -1))
        found += [("dirties", gfn, 0, table) for table in range(setting.tables) if setting.hardware.dirty]
    if setting.hardware.sets_accessed:
        for gfn in sorted({gfn for gfn, _ in accesses}):
            found += [("touches", gfn, 0, table) for table in range(setting.tables)]
    return found


def go(reference: Reference, world: World, program: int, way: Way) -> int | None:
    """Let the guest go a way: the fault with which it leaves, -1 for an interrupt, -2 if it stays; None: it cannot."""
    what, gfn, code, _ = way
    match what:
        case "interrupt":
            return -1
        case "absent" | "lacking" | "reserved":
            return fault_of(gfn, code) if what in met(reference, world, program, gfn, code) else None
        case "writes" if any(
            gfn in reference.pages(entry)[0] and _silent(reference, entry[2])
            for entry in world.caches[program]
            if entry[0] == reference.root(world, program)
        ):
            return _wrote(world, gfn)
        case "dirties" | "touches" if _mark(reference, world, program, way):
            if what == "dirties":
                _pml(reference, world, gfn)
                _wrote(world, gfn)
            return -2
    return None


def met(reference: Reference, world: World, vcpu: int, gfn: int, code: int) -> set[str]:
    """With what faults walks for ``gfn`` can end, through the root and what is cached or by a cached translation."""
    hardware = reference.setting.hardware
    need = 2 if code & WRITE else 4 if code & FETCH else 1
    root, cache = reference.root(world, vcpu), world.caches[vcpu]
    found = set()
    leaves = [raw for tag, path, raw in cache if tag == root and gfn in reference.pages((tag, path, raw))[0]]
    for table, path in reference.walkable(root, cache):
        word = reference.on_path(table, path, gfn)
        if word is None:
            continue
        raw = reference.value(world, word)
        if hardware.rights(raw):
            if not reference.setting.is_table(raw):
                leaves.append(raw)
        else:
            found.add("reserved" if hardware.is_reserved(raw) else "absent")
    if any(not hardware.rights(raw) & need for raw in leaves):
        found.add("lacking")
    return found


def _silent(reference: Reference, raw: int) -> bool:
    hardware = reference.setting.hardware
    return hardware.rights(raw) & MAY_WRITE != 0 and (not hardware.dirty or raw & hardware.dirty != 0)


def _wrote(world: World, gfn: int) -> int | None:
    """Note a write to a page that is watched; None if that is nothing new."""
    if gfn not in world.watched or gfn in world.written:
        return None
    world.written |= {gfn}
    return -2


def _mark(reference: Reference, world: World, vcpu: int, way: Way) -> bool:
    """The CPU sets A, or A and D, in a leaf of a table that it can walk to; False if there is nothing to set."""
    what, gfn, _, table = way
    setting = reference.setting
    for place, path in reference.walkable(reference.root(world, vcpu), world.caches[vcpu]):
        word = reference.on_path(place, path, gfn) if place == table else None
        if word is None:
            continue
        raw = reference.value(world, word)
        rights = setting.hardware.rights(raw)
        if not rights or setting.is_table(raw) or (what == "dirties" and not rights & MAY_WRITE):
            continue
        after = raw | setting.hardware.accessed | (setting.hardware.dirty if what == "dirties" else 0)
        world.words[word] = after
        return bool(after != raw)
    return False


def _pml(reference: Reference, world: World, gfn: int) -> None:
    if reference.setting.hardware.logs:
        for word, bits in reference.setting.logs.items():
            if gfn in bits:
                world.words[word] = reference.value(world, word) | bits[gfn]


def logged(reference: Reference, world: World) -> set[int]:
    """The gfns that bitmaps and rings say were written."""
    setting = reference.setting
    found = set()
    for word, bits in setting.logs.items():
        found |= {gfn for gfn, bit in bits.items() if reference.value(world, word) & bit}
    for vcpu in range(setting.vcpus):
        for n in range(setting.ring_entries):
            raw = reference.value(world, (words.RING_ENTRY, vcpu << 32 | n))
            found |= {setting.rings[raw]} if raw in setting.rings else set()
    return found
