"""A litmus test as a scenario for the kernel's C: operations that make the start, tasks, the machine around them.

Tables of a test have two entries and as few levels as it needs; the kernel's have 512, and a root is at level 3 at
least (``tdp_mmu_zap_root`` begins at 1G). So bit i of a test's gfn is the lowest bit of the index at level i+1, and
above the test's levels are tables of which one entry is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...check.litmus.litmus import Geometry, Litmus
from ...check.litmus.promises import REFILL, backed, flags_of, logged_in, made_in, pages_of, protected
from ...check.litmus.start import accesses_of, leaf_at_start, levels_of, mapped_in, role_of
from ...errors import InputError
from ...machine.words import ROLE_GUEST_MODE, ROLE_SMM
from ...mmu import spte as bits
from ...mmu.access import FETCH, WRITE
from .scenario import ROOT_LEVEL_MIN, Guest, Hardware, Options, Scenario, Task

SPARE = 1
"""Tables beyond those of the test: the C takes what a map may need before it locks, ours when it does need it."""


def scenario(
    test: Litmus, geometry: Geometry, options: Options, root_level_min: int = ROOT_LEVEL_MIN, spare: int = SPARE
) -> Scenario:
    """What a test is on the kernel's C."""
    memory = test.memory
    span = 2**geometry.levels
    form: bits.SpteFormat = getattr(bits, memory.form)
    vcpus = test.vcpus[: geometry.vcpus]
    roles = [role_of(entry) for entry in vcpus]
    threads, others, guests = [], [], []
    for n, entry in enumerate(vcpus):
        guests.append(Guest(accesses_of(entry), tuple(entry.get("writes", ()))))
        threads.append(_thread(n, entry))
    for entry in test.host:
        args = _operands(test, entry, span)
        if entry["run"] in ("prefault", "prefetch"):
            # Who maps a page ahead stands for one more vCPU on the same root, whose guest is left out.
            roles.append(roles[entry.get("vcpu", 0)])
            guests.append(Guest())
            threads.append(_parked(len(threads)))
            args = (len(roles) - 1, *args)
        others.append(Task(entry["run"], args, name=entry["name"]))
    root_level = max(root_level_min, geometry.levels)
    renewed = any(entry["run"] in ("zap_all_fast", "delete_slot", "move_slot") for entry in test.host)
    switching = {roles[n] | ROLE_GUEST_MODE for n, entry in enumerate(vcpus) if entry.get("switches")}
    roots = {*roles, *switching}
    levels = levels_of(test, span)
    return Scenario(
        levels=geometry.levels,
        root_level=root_level,
        tables=geometry.tables + (root_level - geometry.levels) * (len(roots) + renewed) + spare,
        tasks=(*threads, *others),
        guests=tuple(guests),
        start=tuple(_start(test, span, roles, levels, form)),
        hardware=Hardware(
            form.ept, form.accessed if form.ad else 0, form.dirty if form.ad else 0, form.mmu_writable,
            memory.hardware_ad, memory.pml, bool(memory.slots),
        ),
        options=replace(options, ranged=options.ranged or test.ranged),
        nx=test.nx,
        pages=pages_of(test, span),
    )  # fmt: skip


def _parked(vcpu: int) -> Task:
    """A vCPU that holds a root and never runs."""
    return Task("parked", (), vcpu, name=f"vCPU{vcpu}")


def _thread(vcpu: int, entry: dict[str, Any]) -> Task:
    """What a vCPU's thread does for ever."""
    if entry.get("parked"):
        return _parked(vcpu)
    name = f"vCPU{vcpu}"
    if entry.get("switches"):
        return Task("switching", (vcpu, role_of(entry)), vcpu, again=True, name=name)
    if "ahead" in entry:
        return Task("ahead", (vcpu, entry["ahead"]), vcpu, again=True, name=name)
    return Task("vcpu", (vcpu,), vcpu, again=True, name=name)


def _start(test: Litmus, span: int, roles: list[int], levels: dict[int, int], form: bits.SpteFormat) -> list[Task]:
    """The operations that make the start of a test."""
    memory = test.memory
    found = [
        Task("vm", (int(test.nx), int(memory.eager_split), int(memory.initially_set), int(memory.slot_zap_all),
                         memory.ring))
    ]  # fmt: skip
    if memory.slots:
        # Logging begins when all is mapped: a start is a state, and not a history.
        slots = [(n, slot.as_id, slot.base, slot.pages, 0) for n, slot in enumerate(memory.slots) if slot.pages]
    else:
        slots = [(as_id, as_id, 0, span, 0) for as_id in sorted({0, *(role & ROLE_SMM for role in roles)})]
    made = [Task("slot", slot) for slot in slots]
    loads = [Task("load", (n, role)) for n, role in sorted(enumerate(roles), key=lambda one: one[1])]
    # A fault where no slot is yet leaves an entry of MMIO.
    faults = [Task("prefault", (roles.index(role), gfn, 0)) for role in sorted(set(roles)) for gfn in memory.mmio]
    found += [*loads, *faults, *made] if faults else [*made, *loads]
    for role in sorted(set(roles)):
        for gfn, level in mapped_in(test, role):
            # With the NX mitigation a fault for execution maps small what the host maps large, and the table counts.
            found.append(Task("host", (gfn, levels[gfn] if test.nx else level, 1)))
            found.append(Task("prefault", (roles.index(role), gfn, FETCH if test.nx else WRITE)))
            if test.nx and level > 1:
                # The table that is one too many goes; what is left above counts. Where it was zapped, a fault maps it.
                found.append(Task("collapse", (gfn, gfn + 2 ** (level - 1))))
                found.append(Task("host", (gfn, level, 1)))
                found.append(Task("prefault", (roles.index(role), gfn, WRITE)))
    for gfn in range(span):
        found.append(Task("host", (gfn, levels[gfn], int(gfn not in memory.read_only))))
    for role in sorted(set(roles)):
        for gfn, level in mapped_in(test, role):
            keep, gets = _changed(test, range(gfn, gfn + 2 ** (level - 1)), form)
            if (keep, gets) != (-1, 0):
                found.append(Task("leaf", (roles.index(role), gfn, bits.unsigned(keep), bits.unsigned(gets))))
    for n, slot in enumerate(memory.slots):
        if slot.flags:
            found.append(Task("flags", (n, slot.flags)))
        found += [Task("dirty", (n, gfn)) for gfn in slot.gfns() if gfn in memory.dirty]
    promises = memory.watched(), backed(test), protected(test)
    if any(promises):
        found.append(Task("promises", promises))
    return found


def _changed(test: Litmus, gfns: range, form: bits.SpteFormat) -> tuple[int, int]:
    """Which bits of a leaf remain, and which it gets, to be what the test says of its gfns."""
    whole = bits.RIGHTS | form.accessed | form.dirty | form.mmu_writable | form.host_writable
    if not form.ad:
        whole |= bits.AD_DISABLED
    raw = leaf_at_start(test, gfns[0], whole, form, bits)
    return ~(whole & ~raw), raw & ~whole


def _operands(test: Litmus, entry: dict[str, Any], span: int) -> tuple[int, ...]:
    """What a task of the host is called with; gfns are the test's."""
    gfn, slot = entry.get("gfn", 0), entry.get("slot", 0)
    first, last = entry.get("start", 0), entry.get("end", span)
    match entry["run"]:
        case "unmap":
            how = int(entry.get("may_block", True)), int(entry.get("read_only", False))
            return first, last, entry.get("refill", -1), *how
        case "migrate":
            return first, last, gfn, entry.get("refill", REFILL)
        case "zap_range" | "zap_all_fast" | "collapse" | "age" | "clear_young":
            return first, last
        case "recover_nx":
            return entry.get("tables", 1), entry.get("rounds", 1)
        case "log_on" | "log_off" | "get_log" | "clear_log" | "delete_slot":
            return (slot,)
        case "reset_ring":
            return (entry.get("vcpu", 0),)
        case "change_pte":
            return gfn, entry.get("refill", 8)
        case "write_protect":
            return slot, gfn
        case "host_writable" | "test_young":
            return (gfn,)
        case "move_slot":
            base, moved = entry.get("base", 0), test.memory.slots[slot]
            backs, logged = made_in(test, entry, base, moved.pages), logged_in(entry, base, moved.pages)
            return slot, base, backs, flags_of(entry), moved.watched(), logged
        case "create_slot" | "create_shadowed":
            base, pages = entry.get("base", 0), entry.get("pages", 1)
            # Of the C the accesses of address space 0 are looked at, whichever a slot is made in.
            backs = made_in(test, entry, base, pages) if test.memory.slots[slot].as_id == 0 else 0
            made = slot, base, pages, backs
            if entry["run"] == "create_shadowed":
                return *made, gfn
            return *made, test.memory.slots[slot].as_id, flags_of(entry), logged_in(entry, base, pages)
        case "release":
            return ()
        case "prefetch":
            return (gfn,)
        case "prefault":
            return gfn, FETCH if entry.get("execute") else 0
        case other:
            raise InputError(f"{test.path}: '{other}' is no operation of the kernel's C", advice="leave --tree out")
