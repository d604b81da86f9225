"""From a litmus test to a setting: start words, programs and handles, on a copy of the MMU's sources."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ...errors import InputError
from ...machine import words
from ...mmu.access import FETCH
from ...mmu.dirty_ring import PUSHED
from ...mmu.slots import ADDRESS_SPACES
from ...mmu.spte import spte_pfn
from ..program.buffers import BufferedMachine, with_buffers
from ..program.guest import Hardware
from ..program.machine import CheckedMachine
from ..program.programs import HOST, ahead, parked, switching, vcpu
from ..program.setting import Program, Setting
from ..source.source import Source
from .cases import Case
from .litmus import Litmus
from .memory import Slot, mask_of
from .promises import (
    HOST_PFN_FIRST,
    REFILL,
    backed,
    flags_of,
    frames,
    logged_in,
    made_in,
    mmio_space,
    protected,
    settled,
)
from .start import accesses_of, leaf_at_start, levels_of, mapped_in, role_of

MODULES = ("vcpu", "fault", "notifier", "zap", "huge_pages", "roots", "memory_region", "dirty_log", "dirty_ring",
           "vcpu_roots", "write_track")  # fmt: skip


class Start:
    """Words at the start while they are put together: tables are numbered as they are linked."""

    def __init__(self, kvm: Any, make: Any, levels: int) -> None:
        self.kvm = kvm
        self.make = make
        self.levels = levels
        self.words: dict[Any, Any] = {}
        self.used = 0
        self.nx: tuple[int, ...] = ()

    def new_table(self) -> int:
        """The next table that is not in use."""
        self.used += 1
        return self.used - 1

    def add_root(self, role: int, users: int) -> int:
        """A root with a reference of each user and the MMU's own."""
        root = self.new_table()
        self.words[(words.SP_ROLE, root)] = role | self.levels << words.ROLE_LEVEL_SHIFT
        self.words[(words.ROOT_COUNT, root)] = 1 + users
        self.words[("list", words.ROOTS)] = (root, *self.words.get(("list", words.ROOTS), ()))
        return root

    def map(self, root: int, gfn: int, goal: int, host_level: int, leaf: int | None = None) -> None:
        """Map ``gfn`` at a level, by a leaf if one is given, through tables that are made where they are missing."""
        table = root
        role = self.words[(words.SP_ROLE, root)]
        for level in range(self.levels, goal, -1):
            sptep = table << 1 | gfn >> (level - 1) & 1
            entry = self.words.get(sptep)
            if entry is None:
                below = self.new_table()
                self.words[sptep] = self.make.make_nonleaf(self.kvm, below)
                first = gfn >> (level - 1) << (level - 1)
                self.words[(words.SP_GFN, below)] = first
                self.words[(words.SP_LEVEL, below)] = level - 1
                self.words[(words.SP_PARENT, below)] = sptep
                if self.kvm.behaviour.lists_tables:
                    self.words[(words.SP_LISTED, below)] = 1
                if self.kvm.nx_huge_pages and level <= host_level:
                    self.words[(words.SP_NX, below)] = 1
                    self.words[(words.SP_NX_REFUSED, below)] = int(self.kvm.behaviour.marks_refused)
                    self.nx = (*self.nx, below)
                table = below
            else:
                table = spte_pfn(entry)
        pfn = HOST_PFN_FIRST + gfn
        if leaf is None:
            leaf = self.make.make_spte(self.kvm, role, gfn, pfn, goal, self.kvm.empty, True, False, False)
        self.words[table << 1 | gfn >> (goal - 1) & 1] = leaf


def build(case: Case, source: Source) -> Setting:
    """The setting of a case, on the MMU's sources of ``source``."""
    module, test, geometry = source.module, case.test, case.geometry
    bug, constant = module("machine.interface").Bug, settled(test)
    machine = BufferedMachine(1, bug, constant, case.buffers) if case.buffers else CheckedMachine(1, bug, constant)
    machine.mmio_space = mmio_space(test)
    machine.tables, machine.ranged = geometry.tables, geometry.vcpus if case.ranged else 0
    flags = module("mmu.behaviour").BEHAVIOURS[case.behaviour]
    chosen = module("mmu.policies.registry").POLICIES[case.policy]
    spte = module("mmu.spte")
    memory = test.memory
    kvm = module("mmu.kvm").Kvm(
        machine, getattr(spte, memory.form), flags, chosen, geometry.levels, geometry.vcpus, test.nx,
        len(memory.slots), memory.pml, memory.eager_split, memory.initially_set, memory.ring, memory.ring,
        slot_zap_all=memory.slot_zap_all,
    )  # fmt: skip
    lib = SimpleNamespace(**{name: module(f"mmu.{name}") for name in MODULES})
    handles = {
        id(kvm): "kvm", id(machine): "machine", id(chosen): "policy", id(flags): "behaviour", id(lib): "lib",
        id(kvm.fmt): "format", id(flags.passes): "passes",
    }  # fmt: skip

    start = Start(kvm, module("mmu.make_spte"), geometry.levels)
    vcpus = test.vcpus[: geometry.vcpus]
    span = 2**geometry.levels
    levels = levels_of(test, span)
    for gfn in range(span):
        start.words[(words.HOST_PFN, gfn)] = HOST_PFN_FIRST + gfn
        start.words[(words.HOST_LEVEL, gfn)] = levels[gfn]
        start.words[(words.HOST_WRITABLE, gfn)] = int(gfn not in memory.read_only)
    roots: dict[int, int] = {}
    users = [role_of(entry) for entry in vcpus]
    # Who maps a page ahead stands for one more vCPU on the same root, whose guest is left out.
    lent = [users[entry.get("vcpu", 0)] for entry in test.host if entry["run"] in ("prefault", "prefetch")]
    for role in sorted({*users, *lent}):
        roots[role] = start.add_root(role, users.count(role) + lent.count(role))
    for role, root in roots.items():
        for gfn, level in mapped_in(test, role):
            start.map(root, gfn, level, levels[gfn])
        for gfn in memory.mmio:
            start.map(root, gfn, 1, levels[gfn], module("mmu.mmio").make_mmio_spte(kvm, gfn, role & words.ROLE_SMM))
    _leaves(test, start, spte)
    if memory.mmio:
        start.words |= {(words.SLOTS_GENERATION, as_id): ADDRESS_SPACES for as_id in range(ADDRESS_SPACES)}
    if test.nx:
        start.words[("list", words.NX_TABLES)] = start.nx

    if start.used > geometry.tables:
        raise InputError(f"{test.path}: the start takes {start.used} tables, and there are {geometry.tables}")

    programs = []
    for n, entry in enumerate(vcpus):
        role = role_of(entry)
        start.words[(words.VCPU_ROOT, n)] = roots[role]
        run: Callable[..., None] = vcpu
        operands: tuple[Any, ...] = (lib, kvm, n, role)
        if entry.get("parked"):
            run = parked
        elif entry.get("switches"):
            run = switching
        elif "ahead" in entry:
            run, operands = ahead, (*operands, entry["ahead"])
        programs.append(Program(f"vCPU{n}", run, operands, run is not parked, n, accesses_of(entry)))
    promises: list[tuple[int, int]] = []
    for entry in test.host:
        first, last = entry.get("start", 0), entry.get("end", span)
        operands = _operands(test, entry, first, last, len(promises))
        promises.append((first, last))
        programs.append(Program(entry["name"], HOST[entry["run"]][0], (lib, kvm, *operands)))

    if isinstance(machine, BufferedMachine):
        programs = with_buffers(machine, programs)

    def is_table(raw: int) -> bool:
        return bool(spte.is_present(raw)) and not raw & spte.LARGE and spte.spte_pfn(raw) < HOST_PFN_FIRST

    fmt = kvm.fmt
    # Of a nested guest that runs the CPU would log addresses that are none of the slots'.
    logs_gfns = memory.pml and not any(entry.get("nested") and not entry.get("parked") for entry in vcpus)
    accessed, dirty = (fmt.accessed, fmt.dirty) if fmt.ad else (0, 0)
    hardware = Hardware(fmt.ept, accessed, dirty, fmt.mmu_writable, memory.hardware_ad, logs_gfns)
    logs, rings = _slots(test, start)
    return Setting(
        1, geometry.levels, geometry.tables, machine, handles, programs, flags.empty, is_table, start.words,
        frozenset(range(start.used)), promises, hardware, bool(memory.slots), memory.watched(),
        {} if memory.ring else logs, rings if memory.ring else {}, memory.ring,
        {root: lent.count(role) for role, root in roots.items()}, protected(test),
        test.nx, frames(test, span), backed(test),
    )  # fmt: skip


def _leaves(test: Litmus, start: Start, spte: Any) -> None:
    """Have the leaves at the start be what the test says."""
    fmt = start.kvm.fmt
    for word, raw in start.words.items():
        if not isinstance(word, int) or spte.spte_pfn(raw) < HOST_PFN_FIRST:
            continue
        start.words[word] = leaf_at_start(test, spte.spte_pfn(raw) - HOST_PFN_FIRST, raw, fmt, spte)


def _slots(test: Litmus, start: Start) -> tuple[dict[Any, dict[int, int]], dict[int, int]]:
    """Enter the slots and what is dirty; the bit of each gfn in the bitmaps, and the gfn of each value in a ring."""
    logs: dict[Any, dict[int, int]] = {}
    rings: dict[int, int] = {}
    for number, slot in enumerate(test.memory.slots):
        for kind, value in (
            (words.SLOT_BASE, slot.base), (words.SLOT_PAGES, slot.pages), (words.SLOT_FLAGS, slot.flags),
            (words.SLOT_AS, slot.as_id if slot.pages else 0),
        ):  # fmt: skip
            start.words[(kind, number)] = value
        bits = {gfn: 1 << gfn - slot.base for gfn in slot.gfns()}
        logs[(words.DIRTY, number << 32)] = bits
        start.words[(words.DIRTY, number << 32)] = sum(bits[gfn] for gfn in bits if gfn in test.memory.dirty)
        rings |= {PUSHED | number << 32 | gfn - slot.base: gfn for gfn in slot.gfns()}
    for entry in test.host:
        if entry["run"] in ("create_slot", "move_slot") and flags_of(entry) & words.LOG_DIRTY_PAGES:
            number, first = entry.get("slot", 0), entry.get("base", 0)
            pages = entry.get("pages", 1) if entry["run"] == "create_slot" else test.memory.slots[number].pages
            bits = {first + n: 1 << n for n in range(pages)}
            logs[(words.DIRTY, number << 32)] = bits
            rings |= {PUSHED | number << 32 | gfn - first: gfn for gfn in bits}
    return logs, rings


def _operands(test: Litmus, entry: dict[str, Any], first: int, last: int, promise: int) -> tuple[Any, ...]:
    """What a task of the host is called with: the slot and the pages that it is about."""
    number, gfn = entry.get("slot", 0), entry.get("gfn", 0)
    base, pages = entry.get("base", 0), entry.get("pages", 1)
    slots = test.memory.slots
    slot = slots[number] if slots else Slot(0, 0, 0, 0)
    match entry["run"]:
        case "unmap":
            pfns = tuple(range(HOST_PFN_FIRST + first, HOST_PFN_FIRST + last))
            how = entry.get("refill", -1), entry.get("may_block", True), entry.get("read_only", False)
            return first, last, pfns, *how
        case "migrate":
            return first, last, gfn, HOST_PFN_FIRST + gfn, entry.get("refill", REFILL)
        case "zap_range":
            return first, last, promise
        case "zap_all_fast":
            return (promise,)
        case "collapse" | "age" | "clear_young":
            return first, last
        case "recover_nx":
            return entry.get("tables", 1), entry.get("rounds", 1)
        case "log_on" | "log_off":
            return number, slot.as_id, slot.base, slot.pages, mask_of(slot.gfns())
        case "get_log" | "clear_log":
            return number, slot.base
        case "reset_ring":
            return entry.get("vcpu", 0), tuple(slot.base for slot in slots)
        case "change_pte":
            return gfn, HOST_PFN_FIRST + gfn, entry.get("refill", REFILL)
        case "write_protect":
            return number, gfn
        case "host_writable" | "test_young":
            return (gfn,)
        case "delete_slot":
            return number, slot.as_id, tuple(HOST_PFN_FIRST + gfn for gfn in slot.gfns())
        case "move_slot":
            pfns = tuple(HOST_PFN_FIRST + gfn for gfn in slot.gfns())
            moved = number, base, slot.pages, flags_of(entry), pfns, made_in(test, entry, base, slot.pages)
            return *moved, slot.watched(), logged_in(entry, base, slot.pages)
        case "create_slot":
            made = made_in(test, entry, base, pages)
            return number, slot.as_id, base, pages, flags_of(entry), made, logged_in(entry, base, pages)
        case "create_shadowed":
            return number, base, pages, gfn, made_in(test, entry, base, pages)
        case "release":
            mapped = (*test.mapped, *test.mapped_as1, *test.mapped_nested)
            gfns = sorted({gfn + n for gfn, level in mapped for n in range(2 ** (level - 1))})
            return (tuple(HOST_PFN_FIRST + gfn for gfn in gfns),)
        case "prefetch":
            return entry.get("vcpu", 0), gfn
        case _:
            return entry.get("vcpu", 0), gfn, FETCH if entry.get("execute") else 0
