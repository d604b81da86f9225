"""``Vm``: a virtual machine's second-level page tables in a few lines, for programs and notebooks.

    import shootdown

    vm = shootdown.Vm(policy="rcu", memory="2G")
    vm.fault(range(512))
    vm.zap(0, 512)
    print(vm.counters.flush_requests)

A thin layer over the MMU (``mmu/``) on the native machine (``machine/native.py``): each method is one operation of
KVM's, done whole before it returns. Pages are numbered by gfn (guest frame number), 4 KiB each. What cannot be asked
for raises InputError, and then nothing has changed. docs/library.md shows it all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from difflib import get_close_matches
from typing import Final

from .errors import InputError
from .machine import words
from .machine.native import TABLES_MAX, NativeMachine
from .mmu.access import FETCH, WRITE
from .mmu.behaviour import BEHAVIOURS
from .mmu.dirty_log import get_dirty_log
from .mmu.huge_pages import recover_nx_huge_pages
from .mmu.kvm import Kvm
from .mmu.memory_region import set_memory_region
from .mmu.notifier import clear_flush_young, invalidate_range_end, invalidate_range_start, kvm_zap_gfn_range
from .mmu.policies.registry import POLICIES
from .mmu.spte import EPT, NPT, PAGES, describe, is_frozen, is_leaf, is_table, spte_pfn, unsigned
from .mmu.vcpu import serve_faults
from .mmu.zap import zap_all_fast

PAGES_2M: Final = 512
PAGES_1G: Final = 512**2
DEFAULT_BEHAVIOUR: Final = "6.12"
LEVELS: Final = {"4K": 1, "2M": 2, "1G": 3}
FORMATS: Final = {"NPT": NPT, "EPT": EPT}
VCPUS_MAX: Final = 4096
SLOT: Final = 0
"""The one memory slot."""
SLICE: Final = 1 << 12
"""Faults that a vCPU is told of at a time."""


@dataclass(frozen=True)
class Counters:
    """Statistics of a VM, as KVM's debugfs has them; ``after - before`` is what something did.

    flush_requests      ``remote_tlb_flush_requests``: calls of ``kvm_flush_remote_tlbs``
    flushes             ``remote_tlb_flush``: those that interrupted a vCPU; here none, since no guest runs meanwhile
    pages_4k, 2m, 1g    present leaves of each size
    tables              linked page tables, roots not counted
    tables_pending_max  the most tables that ever were out of reach and not yet freed
    nx_splits           tables that only the NX mitigation made necessary
    dirty, accessed     pages that were handed to the host as dirty, or as accessed
    """

    flush_requests: int
    flushes: int
    pages_4k: int
    pages_2m: int
    pages_1g: int
    tables: int
    tables_pending_max: int
    nx_splits: int
    dirty: int
    accessed: int

    def __sub__(self, before: Counters) -> Counters:
        """What happened since ``before``."""
        return Counters(*(late - early for late, early in zip(astuple(self), astuple(before), strict=True)))


@dataclass(frozen=True)
class Entry:
    """An SPTE: the first gfn that it covers, its level (1: 4K), its 64 bits, and ``text``, which says them in words."""

    gfn: int
    level: int
    spte: int
    text: str


@dataclass(frozen=True)
class Table:
    """A page table: its number (page frame), level of its entries, first gfn, and how many leaves and tables it has."""

    number: int
    level: int
    gfn: int
    leaves: int
    tables: int


class Vm:
    """One VM, whose host maps gfn n to pfn n.

    policy         who flushes when (``shootdown.policies()``)
    behaviour      version of the kernel (``shootdown.behaviours()``); None: the policy's own, else 6.12
    memory         of the guest, such as "2G" or a number of bytes
    page           size of the host's pages: "4K", "2M" or "1G"
    format         of SPTEs: "NPT" (AMD) or "EPT" (Intel)
    vcpus          how many there are
    nx_huge_pages  no huge page may be executable
    eager_split    huge pages are split when dirty logging begins, not when they are written
    resched_every  a walk gives way at every so manieth place where it may; 0: never
    tables_max     page tables, roots included, that the host has memory for; None: as many as it takes
    """

    def __init__(
        self,
        policy: str = "rcu",
        behaviour: str | None = None,
        memory: str | int = "1G",
        *,
        page: str = "4K",
        format: str = "NPT",
        vcpus: int = 1,
        nx_huge_pages: bool = False,
        eager_split: bool = True,
        resched_every: int = 0,
        tables_max: int | None = None,
    ) -> None:
        chosen = POLICIES[_one_of("policy", policy, POLICIES)]
        own = chosen.behaviour
        if behaviour is not None:
            _one_of("behaviour", behaviour, BEHAVIOURS)
            if chosen.exact and behaviour != own:
                raise InputError(f"policy {policy} is behaviour {own}, not {behaviour}", advice="leave behaviour out")
        level = LEVELS[_one_of("page", page, LEVELS)]
        self.level: Final = level
        fmt = FORMATS[_one_of("format", format, FORMATS)]
        self.policy: Final = policy
        self.behaviour: Final = behaviour or own or DEFAULT_BEHAVIOUR
        self.pages: Final = _memory(memory, page, PAGES[level])
        self.vcpus: Final = _number("vcpus", vcpus, 1, VCPUS_MAX)
        self.resched_every: Final = _number("resched_every", resched_every, 0, 2**62)
        self.tables_max: Final = TABLES_MAX if tables_max is None else _number("tables_max", tables_max, 1, TABLES_MAX)
        self.machine: Final = NativeMachine(
            self.vcpus, tables_max=self.tables_max, resched_every=self.resched_every, slots=1, host_level=level
        )
        self.kvm: Final = Kvm(
            self.machine, fmt, BEHAVIOURS[self.behaviour], chosen, 4, self.vcpus, bool(nx_huge_pages),
            slots=1, eager_split=bool(eager_split),
        )  # fmt: skip
        set_memory_region(self.kvm, SLOT, 0, 0, self.pages, 0)

    # Operations

    def fault(self, gfns: int | Iterable[int], *, vcpu: int = 0, write: bool = False, fetch: bool = False) -> int:
        """The guest faults at pages, mapped or not, one after the other: how many faults were served."""
        wanted = self._gfns(gfns)
        _number("vcpu", vcpu, 0, self.vcpus - 1)
        code = (WRITE if write else 0) | (FETCH if fetch else 0)
        self._check_memory(wanted)
        served = 0
        for first in range(0, len(wanted), SLICE):
            self.machine.vcpus.set_faults(vcpu, wanted[first : first + SLICE], code)
            served += serve_faults(self.kvm, vcpu, 0)
        return served

    def unmap(self, start: int = 0, end: int | None = None) -> None:
        """The host takes the pages of gfns ``start`` up to ``end`` back; faults there have nothing to map any more."""
        start, end = self._range(start, end)
        invalidate_range_start(self.kvm, start, end, True)
        for gfn in range(start, end):
            self.machine.store(words.HOST_PFN, gfn, -1)
        invalidate_range_end(self.kvm, start, end)

    def zap(self, start: int = 0, end: int | None = None) -> None:
        """KVM has gfns ``start`` up to ``end`` mapped anew (``kvm_zap_gfn_range``)."""
        start, end = self._range(start, end)
        kvm_zap_gfn_range(self.kvm, start, end)

    def zap_all(self) -> None:
        """All roots are zapped, as when a memory slot is deleted (``kvm_mmu_zap_all_fast``)."""
        zap_all_fast(self.kvm)
        for vcpu in range(self.vcpus):
            # A vCPU lets go of its invalid root when it runs next, and the last to do so frees it.
            self.machine.vcpus.set_faults(vcpu, [])
            if self.machine.load(words.VCPU_ROOT, vcpu) != words.NO_TABLE:
                serve_faults(self.kvm, vcpu, 0)

    def log_dirty(self, on: bool) -> None:
        """Dirty logging begins, which splits and protects what is mapped, or ends, and huge pages come back.

        To begin what has begun, or to end what has not, does nothing.
        """
        if type(on) is not bool:
            raise InputError(f"log_dirty is asked for {on!r}", advice="use True or False")
        set_memory_region(self.kvm, SLOT, 0, 0, self.pages, words.LOG_DIRTY_PAGES if on else 0)

    def dirty_log(self) -> list[int]:
        """Gfns of the pages that were written since logging began, or since this was asked last; it begins anew."""
        if self.machine.load(words.SLOT_FLAGS, SLOT) & words.LOG_DIRTY_PAGES == 0:
            raise InputError("no page is logged", advice="call log_dirty(True) first")
        masks = get_dirty_log(self.kvm, SLOT, False)
        return [64 * n + bit for n, mask in enumerate(masks) for bit in range(64) if mask >> bit & 1]

    def age(self, start: int = 0, end: int | None = None) -> bool:
        """Was a page used since this was asked last (``clear_flush_young``)?"""
        start, end = self._range(start, end)
        return bool(clear_flush_young(self.kvm, start, end))

    def recover_nx(self, tables: int) -> None:
        """Tables that only the NX mitigation made necessary are zapped, the oldest first."""
        recover_nx_huge_pages(self.kvm, _number("tables", tables, 0, 2**40))

    # What there is

    @property
    def counters(self) -> Counters:
        """Statistics as they are now."""
        load = self.machine.load
        return Counters(
            flush_requests=int(load(words.FLUSH_REQUESTS, 0)),
            flushes=int(load(words.FLUSHES, 0)),
            pages_4k=int(load(words.PAGES, 1)),
            pages_2m=int(load(words.PAGES, 2)),
            pages_1g=int(load(words.PAGES, 3)),
            tables=int(load(words.TABLES, 0)),
            tables_pending_max=int(self.machine.tables.pending_max),
            nx_splits=int(load(words.NX_SPLITS, 0)),
            dirty=int(load(words.DIRTY_PFNS, 0)),
            accessed=int(load(words.ACCESSED_PFNS, 0)),
        )

    def walk(self, gfn: int) -> list[Entry]:
        """The entries through which hardware finds a page, from the root's down to a leaf or to where the way ends."""
        (gfn,) = self._gfns(gfn)
        found = []
        table, level = self._root(), 4
        while table != words.NO_TABLE:
            sptep = table << 9 | gfn >> 9 * (level - 1) & 511
            found.append(self._entry(sptep, gfn // PAGES[level] * PAGES[level], level))
            spte = self.machine.read(sptep)
            table, level = (int(spte_pfn(spte)), level - 1) if is_table(spte, level) else (words.NO_TABLE, level)
        return found

    def entries(self, table: int, level: int, gfn: int) -> list[Entry]:
        """The 512 entries of a table that holds entries of ``level`` from ``gfn`` on."""
        if table not in [each.number for each in self.tables()]:
            raise InputError(f"no table has the number {table!r}", advice="tables() lists them")
        return [self._entry(table << 9 | n, gfn + n * PAGES[level], level) for n in range(512)]

    def tables(self) -> list[Table]:
        """The root, if a vCPU has one, and all tables below, each before those below it."""
        found: list[Table] = []
        todo = [] if self._root() == words.NO_TABLE else [(self._root(), 4, 0)]
        while todo:
            number, level, gfn = todo.pop()
            sptes = [self.machine.read(number << 9 | n) for n in range(512)]
            below = [(int(spte_pfn(spte)), n) for n, spte in enumerate(sptes) if is_table(spte, level)]
            leaves = sum(is_leaf(spte, level) for spte in sptes)
            found.append(Table(number, level, gfn, leaves, len(below)))
            todo += [(table, level - 1, gfn + n * PAGES[level]) for table, n in reversed(below)]
        return found

    def picture(self) -> str:
        """The page tables as text: an entry a line, what it leads to below it, alike neighbours on one line."""
        root = self._root()
        return "\n".join(["no root"] if root == words.NO_TABLE else [f"T{root}, the root", *self._drawn(root, 4, "  ")])

    def _drawn(self, table: int, level: int, indent: str) -> list[str]:
        """Lines for the entries of a table."""
        lines: list[str] = []
        n = 0
        while n < 512:
            spte = self.machine.read(table << 9 | n)
            first = n
            n += 1
            if is_table(spte, level):
                lines.append(f"{indent}[{first}] T{int(spte_pfn(spte))}")
                lines += self._drawn(int(spte_pfn(spte)), level - 1, indent + "  ")
            elif is_leaf(spte, level):
                step = PAGES[level] << 12
                while n < 512 and self.machine.read(table << 9 | n) == spte + step * (n - first):
                    n += 1
                text, pfn = describe(spte, level, self.kvm.fmt), int(spte_pfn(spte))
                if n > first + 1:
                    text = text.replace(f"pfn {pfn:x}", f"pfn {pfn:x}-{pfn + PAGES[level] * (n - first) - 1:x}")
                lines.append(f"{indent}[{first}{f'-{n - 1}' if n > first + 1 else ''}] {text}")
            elif is_frozen(spte):
                lines.append(f"{indent}[{first}] frozen")
        return lines or [f"{indent}empty"]

    def _entry(self, sptep: int, gfn: int, level: int) -> Entry:
        spte = self.machine.read(sptep)
        return Entry(gfn, level, unsigned(spte), describe(spte, level, self.kvm.fmt))

    def _root(self) -> int:
        roots = [int(self.machine.load(words.VCPU_ROOT, vcpu)) for vcpu in range(self.vcpus)]
        return next((root for root in roots if root != words.NO_TABLE), words.NO_TABLE)

    # What users may ask for

    def _gfns(self, gfns: int | Iterable[int]) -> range | list[int]:
        """Gfns of the guest, looked at before anything is done."""
        wanted: range | list[int] = [gfns] if isinstance(gfns, int) else gfns if isinstance(gfns, range) else [*gfns]
        for gfn in (wanted[0], wanted[-1]) if isinstance(wanted, range) and wanted else wanted:
            if type(gfn) is not int or not 0 <= gfn < self.pages:
                raise InputError(f"gfn {gfn!r} is not the guest's", advice=f"use 0 to {self.pages - 1}")
        return wanted

    def _check_memory(self, wanted: range | list[int]) -> None:
        """Is there memory for all tables that faults at these gfns may need?"""
        free = self.tables_max - int(self.machine.tables.used)
        if len(wanted) * 4 <= free:
            return
        logged = self.machine.load(words.SLOT_FLAGS, SLOT) & words.LOG_DIRTY_PAGES != 0
        least = 1 if logged or self.kvm.nx_huge_pages else self.level
        there = {(table.level, table.gfn) for table in self.tables()}
        needed = {(level, gfn // PAGES[level + 1] * PAGES[level + 1]) for gfn in wanted for level in range(least, 5)}
        missing = len(needed - there)
        if missing > free:
            has = f"{self.tables_max} and {self.tables_max - free} are in use"
            advice = "map fewer pages or larger ones, or raise tables_max"
            raise InputError(f"{missing} more page tables are needed, but the host has {has}", advice=advice)

    def _range(self, start: int, end: int | None) -> tuple[int, int]:
        last = self.pages if end is None else end
        if type(start) is not int or type(last) is not int or not 0 <= start < last <= self.pages:
            advice = f"use a start below an end of at most {self.pages}"
            raise InputError(f"gfns {start!r} to {last!r} are no range of the guest's", advice=advice)
        return start, last


def policies() -> list[str]:
    """Names of all flush policies."""
    return [*POLICIES]


def behaviours() -> list[str]:
    """Names of all behaviours: versions of the kernel."""
    return [*BEHAVIOURS]


def _one_of(what: str, name: str, known: Iterable[str]) -> str:
    names = [*known]
    if name not in names:
        near = get_close_matches(str(name), names, 1)
        advice = f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"
        raise InputError(f"{what} {name!r} is unknown", advice=advice)
    return name


def _number(what: str, value: int, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InputError(f"{what} is {value!r}", advice=f"use a whole number from {least} to {most}")
    return value


def _memory(memory: str | int, page: str, step: int) -> int:
    """Pages of the guest."""
    found = re.fullmatch(r"(\d+)([KMGT])", memory) if isinstance(memory, str) else None
    size = int(found[1]) << 10 * ("KMGT".index(found[2]) + 1) if found else memory
    pages = size // 4096 if type(size) is int and size % 4096 == 0 else 0
    if not 0 < pages <= PAGES[5] or pages % step:
        raise InputError(f"memory is {memory!r}", advice=f"use whole pages of {page}, such as '2G', up to 256T")
    return pages
