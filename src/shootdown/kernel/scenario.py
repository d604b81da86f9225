"""From a litmus test to what the kernel's C runs: operations that make the start, tasks, and the machine around them.

Tables of a test have two entries and as few levels as it needs; the kernel's have 512, and a root is at level 3 at
least (``tdp_mmu_zap_root`` begins at 1G). So bit i of a test's gfn is the lowest bit of the index at level i+1, and
above the test's levels are tables of which one entry is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..check.litmus import Geometry, Litmus
from ..errors import InputError
from ..mmu import spte as bits
from ..mmu.access import FETCH, WRITE

ROOT_LEVEL_MIN = 3
PFN_BASE = 1 << 22
"""The host's frame of gfn 0: far from those of page tables, and a multiple of all that a huge page covers."""


@dataclass(frozen=True)
class Operation:
    """One of the drivers' operations (c/drivers/ops.c and start.c) with its arguments."""

    name: str
    args: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """What one CPU runs; ``vcpu``: whose thread it is, -1 for a task of the host, and ``again``: for ever."""

    name: str
    operation: Operation
    vcpu: int = -1
    again: bool = False


@dataclass(frozen=True)
class Guest:
    """What a vCPU's guest does: ``accesses`` as (gfn, kind of access), and of them the gfns that it ``writes``."""

    accesses: tuple[tuple[int, int], ...] = ()
    writes: int = 0


@dataclass(frozen=True)
class Scenario:
    """All that the explorer is told of a test.

    levels, root_level, tables   of the test; where the root is; tables that there are
    start                        operations before everything
    tasks                        those of vCPUs first, by their numbers
    guests                       by vCPU; those that no task runs only hold a root
    host_levels, read_only       the host's pages when the tasks begin: level by gfn, gfns that it may only read
    format                       of SPTEs; ``sets_accessed``: CPUs set A in steps of their own; ``logs``: PML
    """

    levels: int
    root_level: int
    tables: int
    start: tuple[Operation, ...]
    tasks: tuple[Task, ...]
    guests: tuple[Guest, ...]
    host_levels: tuple[int, ...]
    read_only: frozenset[int]
    format: bits.SpteFormat = field(hash=False)
    sets_accessed: bool = False
    logs: bool = False


def scenario(test: Litmus, geometry: Geometry) -> Scenario:
    """What a test is on the kernel's C. Raises InputError if it cannot be expressed there."""
    memory = test.memory
    span = 2**geometry.levels
    form: bits.SpteFormat = getattr(bits, memory.form)
    vcpus = test.vcpus[: geometry.vcpus]
    as_ids = [entry.get("as_id", 0) for entry in vcpus]
    tasks, guests = [], []
    for n, entry in enumerate(vcpus):
        code = FETCH if entry.get("execute") else 0
        accesses = [(gfn, code) for gfn in entry.get("gfns", ())] + [(gfn, WRITE) for gfn in entry.get("writes", ())]
        guests.append(Guest(tuple(accesses), sum(1 << gfn for gfn in entry.get("writes", ()))))
        if not entry.get("parked"):
            tasks.append(Task(f"vCPU{n}", Operation("vcpu", (n,)), n, again=True))
    for entry in test.host:
        args = _operands(test, entry, span)
        if entry["run"] in ("prefault", "prefetch"):
            # Who maps a page ahead stands for one more vCPU on the same root, whose guest is left out.
            as_ids.append(as_ids[entry.get("vcpu", 0)])
            guests.append(Guest())
            args = (len(as_ids) - 1, *args)
        tasks.append(Task(entry["name"], Operation(entry["run"], args)))
    root_level = max(ROOT_LEVEL_MIN, geometry.levels)
    upper = root_level - geometry.levels
    roots = len(set(as_ids)) + any(entry["run"] in ("zap_all_fast", "delete_slot", "move_slot") for entry in test.host)
    levels = dict.fromkeys(range(span), 1)
    for gfn, level in test.host_levels:
        levels.update(dict.fromkeys(range(gfn, gfn + 2 ** (level - 1)), level))
    return Scenario(
        geometry.levels, root_level, geometry.tables + upper * roots, tuple(_start(test, span, as_ids, levels, form)),
        tuple(tasks), tuple(guests), tuple(levels[gfn] for gfn in range(span)), frozenset(memory.read_only), form,
        memory.hardware_ad, memory.pml,
    )  # fmt: skip


def _start(
    test: Litmus, span: int, as_ids: list[int], levels: dict[int, int], form: bits.SpteFormat
) -> list[Operation]:
    """The operations that make the start of a test."""
    memory = test.memory
    found = [
        Operation("vm", (int(test.nx), int(memory.eager_split), int(memory.initially_set), int(memory.slot_zap_all),
                         memory.ring))
    ]  # fmt: skip
    if memory.slots:
        # Logging begins when all is mapped: a start is a state, and not a history.
        slots = [(n, slot.as_id, slot.base, slot.pages, 0) for n, slot in enumerate(memory.slots) if slot.pages]
    else:
        slots = [(as_id, as_id, 0, span, 0) for as_id in sorted({0, *as_ids})]
    found += [Operation("slot", slot) for slot in slots]
    found += [Operation("load", (n, as_id)) for n, as_id in enumerate(as_ids)]
    for as_id in sorted(set(as_ids)):
        for gfn, level in (*test.mapped, *(test.mapped_as0 if as_id == 0 else ())):
            # With the NX mitigation a fault for execution maps small what the host maps large, and the table counts.
            found.append(Operation("host", (gfn, levels[gfn] if test.nx else level, 1)))
            found.append(Operation("prefault", (as_ids.index(as_id), gfn, FETCH if test.nx else WRITE)))
    for gfn in range(span):
        found.append(Operation("host", (gfn, levels[gfn], int(gfn not in memory.read_only))))
    for as_id in sorted(set(as_ids)):
        for gfn, level in (*test.mapped, *(test.mapped_as0 if as_id == 0 else ())):
            keep, gets = _changed(test, range(gfn, gfn + 2 ** (level - 1)), form)
            if (keep, gets) != (-1, 0):
                found.append(Operation("leaf", (as_ids.index(as_id), gfn, bits.unsigned(keep), bits.unsigned(gets))))
    for n, slot in enumerate(memory.slots):
        if slot.flags:
            found.append(Operation("flags", (n, slot.flags)))
        found += [Operation("dirty", (n, gfn)) for gfn in slot.gfns() if gfn in memory.dirty]
    return found


def _changed(test: Litmus, gfns: range, form: bits.SpteFormat) -> tuple[int, int]:
    """Which bits of a leaf remain, and which it gets, to be what the test says of its gfns."""
    memory = test.memory
    whole = bits.RIGHTS | form.accessed | form.dirty | form.mmu_writable | form.host_writable
    if not form.ad:
        whole |= bits.AD_DISABLED
    raw = whole
    if gfns[0] in memory.protected:
        raw &= ~bits.WRITABLE
    if gfns[0] in memory.clean:
        raw &= ~form.dirty
    if gfns[0] in memory.read_only:
        raw &= ~(bits.WRITABLE | form.dirty | form.mmu_writable | form.host_writable)
    if gfns[0] in memory.aged:
        raw = bits.mark_for_access_track(raw, form)
    return ~(whole & ~raw), raw & ~whole


def _operands(test: Litmus, entry: dict[str, Any], span: int) -> tuple[int, ...]:
    """What a task of the host is called with; gfns are the test's."""
    gfn, slot = entry.get("gfn", 0), entry.get("slot", 0)
    first, last = entry.get("start", 0), entry.get("end", span)
    match entry["run"]:
        case "unmap":
            return first, last, entry.get("refill", -1), int(entry.get("may_block", True))
        case "zap_range" | "zap_all_fast" | "collapse" | "age" | "clear_young":
            return first, last
        case "recover_nx":
            return (entry.get("tables", 1),)
        case "log_on" | "log_off" | "get_log" | "clear_log" | "delete_slot":
            return (slot,)
        case "reset_ring":
            return (entry.get("vcpu", 0),)
        case "change_pte":
            return gfn, entry.get("refill", 8)
        case "write_protect" | "host_writable" | "test_young":
            return (gfn,)
        case "move_slot":
            return slot, entry.get("base", 0)
        case "create_slot":
            return slot, entry.get("base", 0), entry.get("pages", 1)
        case "release":
            return ()
        case "prefetch":
            return (gfn,)
        case "prefault":
            return gfn, FETCH if entry.get("execute") else 0
        case other:
            raise InputError(f"{test.path}: '{other}' is no operation of the kernel's C", advice="leave --tree out")
