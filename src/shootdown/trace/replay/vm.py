"""``ReplayVm``: one recorded VM, our MMU of it, and which of our tables is which of the recorded ones."""

from __future__ import annotations

from typing import Final

from ...machine.words import (
    NO_TABLE,
    ROLE_GUEST_MODE,
    ROLE_LEVEL_SHIFT,
    ROLE_SMM,
    ROOT_COUNT,
    ROOT_INVALID,
    ROOTS,
    SLOT_AS,
    SLOT_BASE,
    SLOT_FLAGS,
    SLOT_PAGES,
    SP_ROLE,
    VCPU_ROOT,
)
from ...mmu.kvm import Kvm
from ...mmu.make_spte import make_nonleaf
from ...mmu.roots import get_root, put_root
from ...mmu.spte import PFN, is_leaf, is_table, spte_pfn, table_index
from ..tables import ROLE_SMM as KERNEL_SMM
from .config import Config, Slot
from .machine import ReplayMachine
from .record import Event

GUEST_MODE: Final = 0x2_0000
"""Bit 17 of ``union kvm_mmu_page_role``."""


def our_role(role: int) -> int:
    """A recorded role of a root as ours."""
    space = 1 if role & KERNEL_SMM else 0
    return space | (ROLE_GUEST_MODE if role & GUEST_MODE else 0) | (role & 15) << ROLE_LEVEL_SHIFT


class ReplayVm:
    """A VM under replay.

    names, ours   recorded frame of each of our tables, and our table at each recorded frame
    held          roots to which each vCPU has a reference
    smm           vCPUs that are in system management mode
    history       by entry: where in the record it changed, by which operation, and what it held before
    """

    def __init__(self, vm: int, m: ReplayMachine, kvm: Kvm, config: Config) -> None:
        self.vm = vm
        self.m = m
        self.kvm = kvm
        self.names: dict[int, int] = {}
        self.ours: dict[int, int] = {}
        self.smm: set[int] = set()
        self.held: dict[int, list[int]] = {}
        self.history: dict[int, list[tuple[int, object, int]]] = {}
        self.told_at = -1
        self.generation_told = False
        self.config = config
        for number, slot in config.before.items():
            self.place_slot(number, slot)

    def place_slot(self, number: int, slot: Slot) -> None:
        """A slot that was there when the record began."""
        values = (SLOT_BASE, slot.base), (SLOT_PAGES, slot.pages), (SLOT_FLAGS, slot.flags), (SLOT_AS, slot.as_id)
        for kind, value in values:
            self.m.words[kind][number] = value

    # Values, up to the names of tables

    def same(self, ours: int, recorded: int, level: int) -> bool:
        """Are they the same value, tables being named as they come?"""
        if ours == recorded:
            # A leaf, or nothing. (A table of ours may have the recorded number by chance.)
            if not is_table(ours, level):
                return True
        if not is_table(ours, level) or not is_table(recorded, level) or (ours ^ recorded) & ~PFN != 0:
            return False
        table, frame = spte_pfn(ours), spte_pfn(recorded)
        known = self.names.get(table)
        if known is None:
            self.names[table] = frame
            self.ours[frame] = table
            return True
        return known == frame

    def to_ours(self, recorded: int, level: int) -> int:
        """A recorded value with our table in it; -1 if it names a table that we do not know."""
        if not is_table(recorded, level):
            return recorded
        table = self.ours.get(spte_pfn(recorded))
        return -1 if table is None else recorded & ~PFN | table << 12

    # Roots

    def role(self, vcpu: int) -> int:
        """The role of the root that a vCPU uses."""
        return (1 if vcpu in self.smm else 0) | self.kvm.root_level << ROLE_LEVEL_SHIFT

    def valid_root(self, as_id: int) -> int:
        """A valid root of an address space, or -1."""
        for root in self.m.lists[ROOTS]:
            if self.m.as_ids[root] == as_id and not self.m.load(ROOT_INVALID, root):
                return root
        return NO_TABLE

    def has_root(self, role: int) -> bool:
        """Is there a valid root of that role?"""
        m = self.m
        return any(m.load(SP_ROLE, r) == role and not m.load(ROOT_INVALID, r) for r in m.lists[ROOTS])

    def roots(self, as_id: int) -> list[int]:
        """All roots of an address space."""
        return [root for root in self.m.lists[ROOTS] if self.m.as_ids[root] == as_id]

    def use_root(self, vcpu: int, role: int) -> int:
        """Give the vCPU a root of a role; it keeps those that it has, until the record shows that it puts them."""
        root: int = get_root(self.kvm, role)
        self.hold(vcpu, root)
        return root

    def first_root(self, as_id: int) -> int:
        """The root of an address space that was there when the record began: the MMU's reference alone."""
        root: int = get_root(self.kvm, as_id)
        self.m.fetch_add(ROOT_COUNT, root, -1)
        return root

    def hold(self, vcpu: int, root: int) -> None:
        """The vCPU has a reference to a root, and runs on it."""
        self.held.setdefault(vcpu, []).append(root)
        self.m.store(VCPU_ROOT, vcpu, root)

    def root_for(self, vcpu: int, first: Event | None) -> int:
        """The root on which a vCPU faults: of those that it has, the one in which the first recorded change fits."""
        space = 1 if vcpu in self.smm else 0
        if first is not None and first.e >= 0:
            space = first.e
        held = [r for r in reversed(self.held.get(vcpu, [])) if self.usable(r, space)]
        if len(held) > 1 and first is not None:
            held = [r for r in held if self.fits(r, first)] or held
        if held:
            self.m.store(VCPU_ROOT, vcpu, held[0])
            return held[0]
        found = self.valid_root(space)
        if found == NO_TABLE:
            return self.use_root(vcpu, space | self.kvm.root_level << ROLE_LEVEL_SHIFT)
        self.m.fetch_add(ROOT_COUNT, found, 1)
        self.hold(vcpu, found)
        return found

    def usable(self, root: int, as_id: int) -> bool:
        """May a vCPU fault on a root that it has?"""
        return not self.m.load(ROOT_INVALID, root) and self.m.as_ids[root] == as_id

    def fits(self, root: int, e: Event) -> bool:
        """Could the entry that an event changes be in this root?"""
        sptep = self.find(root, e.a, e.b)
        return sptep >= 0 and self.m.peek(sptep) == self.to_ours(e.c, e.b)

    def put(self, vcpu: int, role: int, invalid: bool) -> None:
        """A vCPU, that one if it can be, lets go of a root of a role (of its address space, if roles are not told)."""
        m = self.m
        for bits in (-1, ROLE_SMM):
            for who in [vcpu, *sorted(self.held)]:
                for root in self.held.get(who, ()):
                    same = (m.load(SP_ROLE, root) ^ role) & bits == 0
                    if same and bool(m.load(ROOT_INVALID, root)) == invalid:
                        self.held[who].remove(root)
                        m.store(VCPU_ROOT, who, NO_TABLE)
                        put_root(self.kvm, root)
                        return

    # Walks

    def find(self, root: int, gfn: int, level: int) -> int:
        """Address of the entry of a level for ``gfn``, or -1 if there is no table for it."""
        at = self.m.words_level(root)
        table = root
        while at > level:
            spte = self.m.tables[table][table_index(gfn, at)]
            if not is_table(spte, at):
                return -1
            table = spte_pfn(spte)
            at -= 1
        return table << 9 | int(table_index(gfn, level))

    def reach(self, root: int, gfn: int, level: int) -> int:
        """The same; tables that are missing are made."""
        at = self.m.words_level(root)
        table = root
        while at > level:
            index = int(table_index(gfn, at))
            spte = self.m.tables[table][index]
            if not is_table(spte, at):
                spte = self.make(table << 9 | index, gfn, at)
            table = spte_pfn(spte)
            at -= 1
        return table << 9 | int(table_index(gfn, level))

    def make(self, sptep: int, gfn: int, level: int) -> int:
        """Put a table below an entry of ``level``; the entry's value."""
        m = self.m
        table: int = m.alloc_table(self.kvm.empty)
        m.place(table, int(self.kvm.round(gfn, level)), level - 1, sptep)
        value: int = make_nonleaf(self.kvm, table)
        m.poke(sptep, value)
        return value

    def adopt_table(self, sptep: int, gfn: int, level: int, recorded: int) -> None:
        """Have an entry point to a table that the record names."""
        frame = spte_pfn(recorded)
        table = self.ours.get(frame)
        if table is None or table in self.m.queued or table in self.m.gone:
            self.make(sptep, gfn, level)
            table = spte_pfn(self.m.peek(sptep))
            self.names[table] = frame
            self.ours[frame] = table
        self.m.poke(sptep, recorded & ~PFN | table << 12)

    def overwrite(self, gfn: int, old: int, new: int) -> None:
        """Have the leaf for ``gfn`` hold what a fast fault left there, in the root where it held ``old``."""
        for root in self.m.lists[ROOTS]:
            for level in (1, 2, 3):
                sptep = self.find(root, gfn, level)
                if sptep >= 0 and self.m.peek(sptep) & PFN == old & PFN and is_leaf(self.m.peek(sptep), level):
                    self.m.poke(sptep, new)
                    return
