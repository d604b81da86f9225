"""All that page tables, vCPUs and slots hold, as rows of four numbers, the same that c/native/state.c makes.

Tables are named by where they are, not by their frames. Roots come in the order of their list, the newest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import append, vec
from mypy_extensions import i64

from ...machine.words import (
    INVALIDATE_IN_PROGRESS,
    INVALIDATE_SEQ,
    NO_TABLE,
    NX_TABLES,
    PREV_ROOTS,
    ROOT_COUNT,
    ROOT_INVALID,
    ROOTS,
    SP_GFN,
    SP_LEVEL,
    SP_NX,
    SP_NX_REFUSED,
    SP_ROLE,
    VCPU_PREV_ROOT,
    VCPU_REQUESTS,
    VCPU_ROOT,
)
from ...mmu.roots import root_level
from ...mmu.slots import generation
from ...mmu.spte import PFN, is_table, spte_pfn

if TYPE_CHECKING:
    from ...mmu.kvm import Kvm

ROW_ROOT: Final = 0
"""Role, 1 if invalid, references. Rows of 1 to 5 are entries that are not empty: level, gfn, value, marks of the table
below (1: the NX mitigation alone caused it, 2: NX recovery knows it), whose frame is left out of the value."""
ROW_NX: Final = 100
"""Of a table that NX recovery knows, oldest first: gfn and level."""
ROW_VCPU: Final = 101
"""Numbers of its root and of the previous ones, from 1 on, and its requests."""
ROW_VM: Final = 102
"""The invalidations' sequence and how many run; for each address space, the slots' generation and its number."""

PRIME: Final[i64] = 4398046511093


def rows(kvm: Kvm, first: i64, end: i64) -> vec[i64]:
    """The rows of a VM: of its entries those of each table that maps some of the gfns from ``first`` to before ``end``.

    Locks: takes mmu_lock for write, so that none may be held.
    """
    m = kvm.m
    found = vec[i64]()
    roots = vec[i64]()
    m.write_lock()
    root = m.list_next(ROOTS, NO_TABLE)
    while root != NO_TABLE:
        roots = append(roots, root)
        found = row(found, ROW_ROOT, m.load(SP_ROLE, root), m.load(ROOT_INVALID, root), m.load(ROOT_COUNT, root))
        if first < end:
            found = table_rows(kvm, found, root, root_level(kvm, root), 0, first, end)
        root = m.list_next(ROOTS, root)
    table = m.list_next(NX_TABLES, NO_TABLE)
    while table != NO_TABLE:
        found = row(found, ROW_NX, m.load(SP_GFN, table), m.load(SP_LEVEL, table), 0)
        table = m.list_next(NX_TABLES, table)
    vcpu: i64 = 0
    while vcpu < kvm.vcpus:
        previous: i64 = 0
        which: i64 = PREV_ROOTS - 1
        while which >= 0:
            previous = previous * 256 + number_of(roots, m.load(VCPU_PREV_ROOT, PREV_ROOTS * vcpu + which) - 1)
            which -= 1
        current = number_of(roots, m.load(VCPU_ROOT, vcpu))
        found = row(found, ROW_VCPU, current, previous, m.load(VCPU_REQUESTS, vcpu))
        vcpu += 1
    found = row(found, ROW_VM, m.load(INVALIDATE_SEQ, 0), m.load(INVALIDATE_IN_PROGRESS, 0), 0)
    found = row(found, ROW_VM, generation(kvm, 0), 0, 0)
    found = row(found, ROW_VM, generation(kvm, 1), 1, 0)
    m.write_unlock()
    return found


def row(found: vec[i64], kind: i64, a: i64, b: i64, c: i64) -> vec[i64]:
    """The rows and one more."""
    return append(append(append(append(found, kind), a), b), c)


def table_rows(kvm: Kvm, found: vec[i64], table: i64, level: i64, gfn: i64, first: i64, last: i64) -> vec[i64]:
    """The rows, those of a table, and those of the tables below it that map gfns from ``first`` to before ``last``."""
    m = kvm.m
    sptep = table << kvm.bits
    end = sptep + kvm.entries
    pages = kvm.pages(level)
    while sptep < end:
        spte = m.read(sptep)
        if spte != kvm.empty:
            if is_table(spte, level):
                below = spte_pfn(spte)
                marks = m.load(SP_NX_REFUSED, below) + 2 * m.load(SP_NX, below)
                found = row(found, level, gfn, spte & ~PFN, marks)
                if gfn < last and first < gfn + pages:
                    found = table_rows(kvm, found, below, level - 1, gfn, first, last)
            else:
                found = row(found, level, gfn, spte, 0)
        sptep += 1
        gfn += pages
    return found


def number_of(roots: vec[i64], root: i64) -> i64:
    """The number of a root from 1 on, 0 for none."""
    i = 0
    while i < len(roots):
        if roots[i] == root:
            return i + 1
        i += 1
    return 0


def digest(found: vec[i64]) -> i64:
    """A number that differs, as good as always, where rows do."""
    number: i64 = 0
    i = 0
    while i < len(found):
        number = (number * 1000003 + (found[i] & 0xFFFF_FFFF)) % PRIME
        number = (number * 1000003 + ((found[i] >> 32) & 0xFFFF_FFFF)) % PRIME
        i += 1
    return number
