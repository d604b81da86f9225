"""Rules of what the tables hold, looked at while everything else runs: programs that take part in a litmus test.

A rule that no CPU and no user of the host's pages can see broken is broken all the same. So somebody looks: who holds
mmu_lock for write may find the tables, their records and the counters in disagreement at no time, and who is told that
a page was used, or that an access is MMIO, knows better.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from shootdown.check.program.setting import Program, Setting
from shootdown.check.source.source import Source
from shootdown.machine import words
from shootdown.mmu.access import NO_FAULT, RESERVED, fault_code, fault_gfn
from shootdown.mmu.page_fault import EMULATE
from shootdown.mmu.slots import NO_SLOT
from shootdown.mmu.spte import EPT_EXEC, LARGE, NX, PRESENT, is_last, is_present, spte_pfn

from .mutations import Change

COUNTED = frozenset({words.PAGES, words.TABLES, words.NX_SPLITS})
EACH = 8
"""Bits for a number in the sum that an audit keeps: of tables first, then of leaves by level."""


@dataclass(frozen=True)
class Audited:
    """A planted bug that an audit finds.

    site       as of a Mutation (mutations.py)
    changes    to the sources
    test       the litmus test that the audit takes part in (AUDITS in audit_bugs.py)
    property   that breaks
    behaviour  under which; the test's first, if it is ""
    """

    site: str
    changes: tuple[Change, ...]
    test: str
    property: str
    behaviour: str = ""


# Programs


def audit(lib: Any, kvm: Any) -> None:
    """Hold the tables against their records, the counters, the host and the NX mitigation (I-19 to I-21, P5)."""
    m = kvm.m
    m.write_lock()
    m.rcu_read_lock()
    # The host changes what it maps between the start and the end of an invalidation.
    changing = m.load(words.INVALIDATE_IN_PROGRESS, 0)
    seen = 0
    root = m.list_next(words.ROOTS, words.NO_TABLE)
    while root != words.NO_TABLE:
        top = lib.root_level(kvm, root)
        it = lib.TdpIter(kvm, root, top, 1, 0)
        while it.valid:
            if it.old_spte & PRESENT != 0:
                if is_last(it.old_spte, it.level):
                    seen += 1 << EACH * it.level
                    if it.level > 1 and kvm.nx_huge_pages and is_executable(it.old_spte, kvm.fmt.ept):
                        raise lib.Bug("a huge page is executable, though the NX mitigation is on")
                    if changing == 0:
                        check_frames(lib, kvm, it)
                else:
                    seen += 1
                    parent = m.load(words.SP_PARENT, spte_pfn(it.old_spte))
                    if parent != it.sptep:
                        raise lib.Bug("a table's record names another entry than the one that it is linked to")
            it.next()
        it = None
        root = m.list_next(words.ROOTS, root)
    level = 0
    while level <= kvm.root_level:
        counted = m.load(words.PAGES if level else words.TABLES, level)
        if counted != seen >> EACH * level & (1 << EACH) - 1:
            raise lib.Bug(f"there are other leaves of level {level}, or tables (0), than are counted")
        level += 1
    listed = 0
    table = m.list_next(words.NX_TABLES, words.NO_TABLE)
    while table != words.NO_TABLE:
        listed += 1
        table = m.list_next(words.NX_TABLES, table)
    splits = m.load(words.NX_SPLITS, 0)
    if splits != listed:
        raise lib.Bug("there are other tables for NX recovery than are counted")
    m.rcu_read_unlock()
    m.write_unlock()


def check_frames(lib: Any, kvm: Any, it: Any) -> None:
    """Hold a leaf against what the host maps there."""
    n = 0
    while n < kvm.pages(it.level):
        pfn = kvm.m.load(words.HOST_PFN, it.gfn + n)
        if pfn != kvm.pfn(it.old_spte) + n:
            raise lib.Bug("a leaf maps another page than the host has there")
        n += 1


def is_executable(spte: int, ept: bool) -> bool:
    """May the guest execute what a leaf maps?"""
    return spte & EPT_EXEC != 0 if ept else spte & NX == 0


def unused(lib: Any, kvm: Any, gfn: int) -> None:
    """Age a page that no guest uses, and ask whether it was used since (I-30)."""
    lib.clear_young(kvm, gfn, gfn + 1)
    young = lib.test_young(kvm, gfn)
    if young:
        raise lib.Bug("a page that nobody uses is said to have been used since it was aged")


def wary(lib: Any, kvm: Any, number: int, role: int) -> None:
    """One round of a vCPU's thread; no access to what a slot holds already may pass for MMIO (I-24)."""
    fault = lib.vcpu_enter_guest(kvm, number, role)
    if fault == NO_FAULT:
        return
    if fault_code(fault) & RESERVED != 0:
        kvm.m.srcu_read_lock()
        slot = lib.find_slot(kvm, 0, fault_gfn(fault))
        result = lib.handle_mmio_page_fault(kvm, number, fault_gfn(fault))
        if slot != NO_SLOT and result == EMULATE:
            raise lib.Bug("an entry of MMIO from before there was a slot is believed")
        kvm.m.srcu_read_unlock()
    lib.page_fault(kvm, number, fault_gfn(fault), fault_code(fault))


def audited(setting: Setting, source: Source, who: str, gfn_end: int = 0) -> None:
    """Have somebody look: ``audit`` or ``unused`` beside the others, or ``wary`` in place of the first vCPU.

    ``gfn_end``: the host's CPU can address so many pages; 0: more than the test has.
    """
    lib, kvm = library(source), setting.programs[0].operands[1]
    setting.handles[id(lib)] = "audit"
    kvm.gfn_end = gfn_end or kvm.gfn_end
    if who == "wary":
        _, _, number, role = setting.programs[0].operands
        setting.programs[0].run, setting.programs[0].operands = wary, (lib, kvm, number, role)
    elif who == "unused":
        setting.programs.append(Program("audit", unused, (lib, kvm, 0)))
    elif who == "audit":
        setting.programs.append(Program("audit", audit, (lib, kvm)))
        setting.machine.counted = COUNTED
        setting.words.update(counters(setting))


def library(source: Source) -> Any:
    """What the programs call, of a copy of the sources."""
    lib = SimpleNamespace()
    for module, names in (
        ("machine.interface", ("Bug",)), ("mmu.iter", ("TdpIter",)), ("mmu.roots", ("root_level",)),
        ("mmu.notifier", ("clear_young", "test_young")), ("mmu.vcpu", ("vcpu_enter_guest",)),
        ("mmu.slots", ("find_slot",)), ("mmu.mmio", ("handle_mmio_page_fault",)), ("mmu.fault", ("page_fault",)),
    ):  # fmt: skip
        for name in names:
            setattr(lib, name, getattr(source.module(module), name))
    return lib


def counters(setting: Setting) -> dict[Any, int]:
    """The counters as they must be at the start."""
    found: dict[Any, int] = {}
    roots = setting.words[("list", words.ROOTS)]
    for word, raw in setting.words.items():
        if isinstance(word, int) and is_present(raw):
            table = word >> setting.bits
            level = setting.levels if table in roots else setting.words[(words.SP_LEVEL, table)]
            leaf = level == 1 or raw & LARGE != 0
            name = (words.PAGES, level) if leaf else (words.TABLES, 0)
            found[name] = found.get(name, 0) + 1
    found[(words.NX_SPLITS, 0)] = len(setting.words.get(("list", words.NX_TABLES), ()))
    return found
