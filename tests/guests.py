"""A VM that is driven as in life: its guest has TLBs, its CPU sets A and D and logs, user space reads the dirty log."""

from __future__ import annotations

from librt.vecs import vec
from mypy_extensions import i64

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.access import FETCH, PERMISSION, WRITE
from shootdown.mmu.dirty_log import clear_dirty_log, get_dirty_log, reset_dirty_rings
from shootdown.mmu.dirty_ring import NO_ENTRY, harvest
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.mark_dirty import mark_page_dirty
from shootdown.mmu.slots import find_slot
from shootdown.mmu.spte import WRITABLE, is_access_track, is_executable, spte_pfn
from shootdown.mmu.vcpu import serve_faults

from .vms import address, held, logged, mapped, pages, slots_of

Page = tuple[int, int]
"""Slot and offset of a page in it."""


class Guest:
    """vCPU 0 runs in address space 0, vCPU 1 in address space 1.

    ``tlbs``: what each vCPU has cached, a leaf by gfn. ``owed``: pages written that user space was not told of yet.
    """

    def __init__(self, machine: NativeMachine, kvm: Kvm) -> None:
        self.machine = machine
        self.kvm = kvm
        self.tlbs: list[dict[int, tuple[int, int]]] = [{}, {}]
        self.flushes = [0, 0]
        self.owed: set[Page] = set()
        self.told: set[Page] = set()
        self.fetched = [0, 0]

    def enter(self, vcpu: int, gfns: list[int], code: int) -> None:
        """Run, serve what is requested, and fault at some gfns."""
        self.machine.vcpus.set_faults(vcpu, gfns, code)
        serve_faults(self.kvm, vcpu, vcpu)
        if self.machine.vcpus.flushes(vcpu) != self.flushes[vcpu]:
            self.flushes[vcpu] = self.machine.vcpus.flushes(vcpu)
            self.tlbs[vcpu].clear()

    def leaf(self, vcpu: int, gfn: int) -> tuple[int, int, int]:
        """Level, address and value of what maps a page for a vCPU; level 0 if nothing does."""
        table = self.machine.load(words.VCPU_ROOT, vcpu)
        root = held(self.machine, self.kvm)[table]
        for (level, first), spte in root.leaves.items():
            if first <= gfn < first + pages(self.kvm, level):
                return level, address(self.machine, self.kvm, table, int(self.kvm.root_level), (level, first)), spte
        return 0, 0, 0

    def access(self, vcpu: int, gfn: int, write: bool, execute: bool) -> bool:
        """The guest touches a page, faulting as often as it must; False if it may not, ever."""
        fmt = self.kvm.fmt
        self.enter(vcpu, [], 0)
        for _ in range(4):
            cached = self.tlbs[vcpu].get(gfn)
            if (
                cached
                and self.allows(cached[1], write, execute)
                and not (write and fmt.ad and not cached[1] & fmt.dirty)
            ):
                self.wrote(vcpu, gfn, write)
                return True
            level, sptep, spte = self.leaf(vcpu, gfn)
            if level and self.allows(spte, write, execute):
                self.walked(vcpu, gfn, write, level, sptep, spte)
                return True
            self.tlbs[vcpu].pop(gfn, None)
            code = (WRITE if write else 0) | (FETCH if execute else 0)
            self.enter(vcpu, [gfn], code | (PERMISSION if level and not is_access_track(spte) else 0))
        return False

    def allows(self, spte: int, write: bool, execute: bool) -> bool:
        """Do a leaf's rights suffice?"""
        if is_access_track(spte) or (write and not spte & WRITABLE):
            return False
        return not execute or is_executable(spte, self.kvm.fmt)

    def walked(self, vcpu: int, gfn: int, write: bool, level: int, sptep: int, spte: int) -> None:
        """The CPU sets A and D, logs the page if it does that and D was clear, and caches the leaf."""
        fmt = self.kvm.fmt
        if fmt.ad:
            now = spte | fmt.accessed | (fmt.dirty if write else 0)
            self.machine.write(sptep, now)
            if write and self.kvm.pml and not spte & fmt.dirty:
                mark_page_dirty(self.kvm, find_slot(self.kvm, vcpu, gfn), gfn, vcpu)
            spte = now
        self.tlbs[vcpu][gfn] = spte_pfn(spte) + gfn % pages(self.kvm, level), spte
        self.wrote(vcpu, gfn, write)

    def wrote(self, vcpu: int, gfn: int, write: bool) -> None:
        """User space must learn of a write to a page of a slot that is logged."""
        if not write:
            return
        for slot, (as_id, part, flags) in slots_of(self.machine, self.kvm).items():
            if as_id == vcpu and gfn in part and flags & words.LOG_DIRTY_PAGES:
                self.owed.add((slot, gfn - part.start))

    # User space

    def get_log(self, slot: int, manual: bool) -> set[int]:
        """Read a slot's log: it names all pages that were written since they were cleared."""
        found = {
            number * 64 + bit
            for number, word in enumerate(get_dirty_log(self.kvm, slot, manual))
            for bit in range(64)
            if word >> bit & 1
        }
        assert {page for its, page in self.owed if its == slot} <= found
        if not manual:
            self.owed = {page for page in self.owed if page[0] != slot}
        return found

    def clear_log(self, slot: int, first: int, masks: list[int]) -> None:
        """Clear part of a slot's log."""
        clear_dirty_log(self.kvm, slot, first, vec[i64](masks))
        gone = {(slot, first + 64 * n + bit) for n, mask in enumerate(masks) for bit in range(64) if mask >> bit & 1}
        self.owed -= gone

    def read_rings(self, number: int) -> set[Page]:
        """Harvest up to ``number`` entries of each ring and reset them."""
        found: set[Page] = set()
        for vcpu in (0, 1):
            for _ in range(number):
                entry = harvest(self.kvm, vcpu, self.fetched[vcpu])
                if entry == NO_ENTRY:
                    break
                self.fetched[vcpu] += 1
                found.add((entry >> 32, entry & 0xFFFF_FFFF))
        reset_dirty_rings(self.kvm)
        self.owed -= found
        return found

    # What must be true

    def check_log(self) -> None:
        """Every page that is owed is in its bitmap, or in a ring."""
        if self.kvm.ring_size == 0:
            for slot, (_, part, flags) in slots_of(self.machine, self.kvm).items():
                if flags & words.LOG_DIRTY_PAGES:
                    owed = {page for its, page in self.owed if its == slot}
                    assert owed <= logged(self.machine, slot, len(part))
            return
        waiting = set()
        for vcpu in (0, 1):
            for index in range(self.fetched[vcpu], self.machine.load(words.RING_PUSHED, vcpu)):
                entry = self.machine.load(words.RING_ENTRY, vcpu << 32 | index % int(self.kvm.ring_size))
                waiting.add((entry >> 32 & 0xFFF, entry & 0xFFFF_FFFF))
        assert self.owed <= waiting

    def check_leaves(self) -> None:
        """Where a slot is logged no huge leaf is writable, and the page of a writable small one is marked."""
        kvm = self.kvm
        for slot, (as_id, part, flags) in slots_of(self.machine, kvm).items():
            if not flags & words.LOG_DIRTY_PAGES or kvm.ring_size > 0:
                continue
            marked = logged(self.machine, slot, len(part))
            for (its, (level, first)), spte in mapped(self.machine, kvm).items():
                if (
                    its != as_id
                    or not spte & WRITABLE
                    or (kvm.pml and kvm.fmt.ad and not spte & kvm.fmt.dirty and level == 1)
                ):
                    continue
                its_pages = set(range(first, first + pages(kvm, level))) & set(part)
                assert not its_pages or level == 1 or kvm.initially_set
                assert {gfn - part.start for gfn in its_pages} <= marked

    def check_tlbs(self) -> None:
        """Once requests are served, what is cached is in memory: the same page, and no more rights."""
        for vcpu in (0, 1):
            self.enter(vcpu, [], 0)
            for gfn, (pfn, spte) in self.tlbs[vcpu].items():
                level, _, now = self.leaf(vcpu, gfn)
                assert level and spte_pfn(now) + gfn % pages(self.kvm, level) == pfn
                assert not self.kvm.fmt.ad or not spte & WRITABLE or now & WRITABLE
