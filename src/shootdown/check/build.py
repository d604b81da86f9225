"""From a litmus test to a setting: start words, programs and handles, on a copy of the MMU's sources."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ..errors import InputError
from ..machine import words
from ..mmu.access import FETCH
from .litmus import Geometry, Litmus
from .machine import CheckedMachine
from .programs import HOST, vcpu
from .setting import Program, Setting
from .source import Source

HOST_PFN_FIRST = 64
"""Frames of the host begin here; those below are page tables."""

MODULES = ("vcpu", "fault", "notifier", "zap", "huge_pages", "roots")


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
        self.words[("list", words.ROOTS)] = (*self.words.get(("list", words.ROOTS), ()), root)
        return root

    def map(self, root: int, gfn: int, goal: int, host_level: int) -> None:
        """Map ``gfn`` at a level, through tables that are made where they are missing."""
        table = root
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
                if self.kvm.nx_huge_pages and level <= host_level:
                    self.words[(words.SP_NX, below)] = 1
                    self.words[(words.SP_NX_REFUSED, below)] = int(self.kvm.behaviour.marks_refused)
                    self.nx = (*self.nx, below)
                table = below
            else:
                table = (entry & 0x000F_FFFF_FFFF_F000) >> 12
        self.words[table << 1 | gfn >> (goal - 1) & 1] = self.make.make_leaf(self.kvm, HOST_PFN_FIRST + gfn, goal)


def build(test: Litmus, geometry: Geometry, policy: str, behaviour: str, source: Source) -> Setting:
    """The setting of a test under a policy and a behaviour, on the MMU's sources of ``source``."""
    module = source.module
    machine = CheckedMachine(1, module("machine.interface").Bug)
    flags = module("mmu.behaviour").BEHAVIOURS[behaviour]
    chosen = module("mmu.policies.registry").POLICIES[policy]
    spte = module("mmu.spte")
    kvm = module("mmu.kvm").Kvm(machine, spte.NPT, flags, chosen, geometry.levels, geometry.vcpus, test.nx)
    lib = SimpleNamespace(**{name: module(f"mmu.{name}") for name in MODULES})
    handles = {
        id(kvm): "kvm", id(machine): "machine", id(chosen): "policy", id(flags): "behaviour", id(lib): "lib",
        id(spte.NPT): "format", id(flags.passes): "passes",
    }  # fmt: skip

    start = Start(kvm, module("mmu.make_spte"), geometry.levels)
    vcpus = test.vcpus[: geometry.vcpus]
    span = 2**geometry.levels
    levels = dict.fromkeys(range(span), 1)
    for gfn, level in test.host_levels:
        levels.update(dict.fromkeys(range(gfn, gfn + 2 ** (level - 1)), level))
    for gfn in range(span):
        start.words[(words.HOST_PFN, gfn)] = HOST_PFN_FIRST + gfn
        start.words[(words.HOST_LEVEL, gfn)] = levels[gfn]
    roots: dict[int, int] = {}
    users = [entry.get("as_id", 0) for entry in vcpus]
    # Who maps a page ahead stands for one more vCPU on the same root, whose guest is left out.
    users += [users[entry.get("vcpu", 0)] for entry in test.host if entry["run"] == "prefault"]
    for as_id in sorted(set(users)):
        roots[as_id] = start.add_root(as_id, users.count(as_id))
    for as_id, root in roots.items():
        for gfn, level in (*test.mapped, *(test.mapped_as0 if as_id == 0 else ())):
            start.map(root, gfn, level, levels[gfn])
    if test.nx:
        start.words[("list", words.NX_TABLES)] = start.nx

    if start.used > geometry.tables:
        raise InputError(f"{test.path}: the start takes {start.used} tables, and there are {geometry.tables}")

    programs = []
    for n, entry in enumerate(vcpus):
        as_id = entry.get("as_id", 0)
        start.words[(words.VCPU_ROOT, n)] = roots[as_id]
        code = FETCH if entry.get("execute") else 0
        faults = tuple((gfn, code) for gfn in entry["gfns"])
        programs.append(Program(f"vCPU{n}", vcpu, (lib, kvm, n, as_id), True, n, faults))
    promises: list[tuple[int, int]] = []
    for entry in test.host:
        first, last = entry.get("start", 0), entry.get("end", span)
        operands = _operands(entry, first, last, len(promises))
        promises.append((first, last))
        programs.append(Program(entry["name"], HOST[entry["run"]][0], (lib, kvm, *operands)))

    def is_table(raw: int) -> bool:
        return bool(spte.is_present(raw)) and not raw & spte.LARGE and spte.spte_pfn(raw) < HOST_PFN_FIRST

    return Setting(
        1, geometry.levels, geometry.tables, machine, handles, programs, flags.empty, is_table, start.words,
        frozenset(range(start.used)), promises,
    )  # fmt: skip


def _operands(entry: dict[str, Any], first: int, last: int, promise: int) -> tuple[Any, ...]:
    match entry["run"]:
        case "unmap":
            pfns = tuple(range(HOST_PFN_FIRST + first, HOST_PFN_FIRST + last))
            return first, last, pfns, entry.get("refill", -1), entry.get("may_block", True)
        case "zap_range":
            return first, last, promise
        case "zap_all_fast":
            return (promise,)
        case "collapse":
            return first, last
        case "recover_nx":
            return (entry.get("tables", 1),)
        case _:
            return entry.get("vcpu", 0), entry.get("gfn", 0), FETCH if entry.get("execute") else 0
