"""Bugs about levels, rights that come back and slots with flags, each of which a test was written for."""

from __future__ import annotations

from shootdown.check.program.steps import EXECUTABLE_IN_REACH, OTHER_IN_REACH, PASSES_FOR_MMIO

from .mutations import FREED, LEAK, LOST, MAPPED, WRITABLE, Mutation

LEVELS = (
    Mutation(
        "a fault asks at 2M whether guest and host agree on where a page of 1G begins",
        (("mmu/levels.py",
          "(fault.gfn ^ fault.pfn) & (pages - 1) != 0", "(fault.gfn ^ fault.pfn) & (kvm.pages(2) - 1) != 0"),),
        "unmap-1g-moved", OTHER_IN_REACH,
    ),
    Mutation(
        "a fault asks at 2M whether a page of 1G has one that is tracked",
        (("mmu/levels.py",
          "tracked_at(as_id, level, first))", "tracked_at(as_id, 2, kvm.round(fault.gfn, 2)))"),),
        "write-protect-1g-other", WRITABLE,
    ),
    Mutation(
        "a fault asks for 2M whether a page of 1G lies in its slot",
        (("mmu/levels.py",
          "    first = kvm.round(fault.gfn, level)\n    base",
          "    first = kvm.round(fault.gfn, level)\n    pages = kvm.pages(2)\n    base"),),
        "huge-at-edge-1g", LOST,
    ),
    Mutation(
        "a fault maps a huge page that begins before its slot",
        (("mmu/levels.py", "    if first < base or first + pages", "    if first + pages"),),
        "huge-at-start", LOST,
    ),
    Mutation(
        "the host's level is looked up before the sequence",
        (("mmu/fault.py",
          "    seq = m.load(INVALIDATE_SEQ, 0)\n    result = faultin",
          "    fault.level = m.load(HOST_LEVEL, gfn)\n    seq = m.load(INVALIDATE_SEQ, 0)\n    result = faultin"),
         ("mmu/fault.py", "    FAULTS,\n", "    FAULTS,\n    HOST_LEVEL,\n"),
         ("mmu/page_fault.py",
          "        self.flags: i64 = 0\n", "        self.flags: i64 = 0\n        self.level: i64 = 0\n"),
         ("mmu/levels.py", "    level = kvm.m.load(HOST_LEVEL, fault.gfn)\n", "    level = fault.level\n")),
        "host-breaks-huge", MAPPED,
    ),
    Mutation(
        "a huge page is rebuilt, and 2M is where it is asked whether one of its pages is tracked",
        (("mmu/huge_pages.py", "tracked_at(as_id, wanted, it.gfn))", "tracked_at(as_id, 2, it.gfn))"),),
        "recover-tracked-1g", WRITABLE, behaviour="6.13",
    ),
    Mutation(
        "a huge page is rebuilt, and one level up is where it is asked whether one of its pages is tracked",
        (("mmu/huge_pages.py", "tracked_at(as_id, wanted, it.gfn))", "tracked_at(as_id, wanted + 1, it.gfn))"),),
        "recover-tracked-1g", WRITABLE, behaviour="6.13",
    ),
    Mutation(
        "a page of 1G is rebuilt where one of 2M fits into its slot",
        (("mmu/huge_pages.py", "it.gfn + kvm.pages(it.level) > end", "it.gfn + kvm.pages(2) > end"),),
        "recover-at-edge-1g", LOST, behaviour="6.13",
    ),
    Mutation(
        "a page of 1G is rebuilt from the page of 2M around the first leaf",
        (("mmu/make_spte.py", "kvm.round(kvm.pfn(small), level)", "kvm.round(kvm.pfn(small), 2)"),),
        "recover-second-2m", OTHER_IN_REACH, behaviour="6.13",
    ),
    Mutation(
        "huge pages that are left are protected from 1G on when bits of their pages are cleared",
        (("mmu/dirty_log.py",
          "slot_gfn_write_protect(kvm, slot, first, 2)", "slot_gfn_write_protect(kvm, slot, first, 3)"),),
        "log-clear-lazy-2m", LOST,
    ),
    Mutation(
        "with PML huge pages are protected from 1G on when logging begins",
        (("mmu/dirty_log.py", "start + pages, 2)", "start + pages, 3)"),),
        "pml-on-2m", LOST,
    ),
    Mutation(
        "a walk that goes up keeps the gfn that it had below, and passes over the next table's first page",
        (("mmu/iter.py",
          "        self.level += 1\n        self.gfn = self.kvm.round(self.gfn, self.level)\n",
          "        self.level += 1\n"),),
        "unmap-next-table", MAPPED,
    ),
    Mutation(
        "I-19: the parts of a page of 1G that is split may be executed, whatever their level",
        (("mmu/spte.py",
          "        child &= ~LARGE\n        if executable:\n            return set_executable(child, fmt, True)\n",
          "        child &= ~LARGE\n    if executable:\n        return set_executable(child, fmt, True)\n"),),
        "nx-split-1g", EXECUTABLE_IN_REACH,
    ),
    Mutation(
        "I-19: a fault maps pages of 1G that may be executed",
        (("mmu/make_spte.py",
          "executable = level == 1 or not kvm.nx_huge_pages", "executable = level != 2 or not kvm.nx_huge_pages"),),
        "nx-huge-1g", EXECUTABLE_IN_REACH,
    ),
    Mutation(
        "I-19: a page of 1G that is rebuilt may be executed as its parts",
        (("mmu/make_spte.py", "if kvm.nx_huge_pages else huge", "if kvm.nx_huge_pages and level == 2 else huge"),),
        "nx-recover-1g", EXECUTABLE_IN_REACH, behaviour="6.13",
    ),
    Mutation(
        "I-19: an aged page comes back with X, which it did not have",
        (("mmu/spte.py",
          ">> ACC_TRACK_SHIFT)\n\n\ndef is_mmio", ">> ACC_TRACK_SHIFT) | EPT_EXEC\n\n\ndef is_mmio"),),
        "nx-aged-huge", EXECUTABLE_IN_REACH,
    ),
    Mutation(
        "I-19: ageing keeps X of a page that does not have it",
        (("mmu/spte.py",
          "(spte | (spte & SAVED_RIGHTS) << ACC_TRACK_SHIFT)", "(spte | SAVED_RIGHTS << ACC_TRACK_SHIFT)"),),
        "nx-aged-huge", EXECUTABLE_IN_REACH,
    ),
    Mutation(
        "I-24: the generation of slots is address space 0's, whatever the address space",
        (("mmu/slots.py", "load(SLOTS_GENERATION, as_id)", "load(SLOTS_GENERATION, 0)"),),
        "smm-slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "an access to MMIO does not look whether its root is valid still",
        (("mmu/fault.py",
          "    if kvm.m.load(ROOT_INVALID, fault.root) != 0:\n        return True\n    return fault.slot",
          "    if fault.slot != NO_SLOT and kvm.m.load(ROOT_INVALID, fault.root) != 0:\n        return True\n"
            "    return fault.slot"),),
        "slot-delete-mmio", LEAK,
    ),
    Mutation(
        "a vCPU that comes back to a previous root has it twice",
        (("mmu/vcpu_roots.py",
          "            kvm.m.store(VCPU_ROOT, vcpu, found)\n            while",
          "            kvm.m.store(VCPU_ROOT, vcpu, found)\n            return True\n            while"),),
        "previous-roots-no-memory", LEAK,
    ),
    Mutation(
        "who loads a root takes back the request to leave invalid ones",
        (("mmu/vcpu.py",
          "            return NO_FAULT\n    m.irq_disable(vcpu)\n",
          "            return NO_FAULT\n        m.fetch_clear(VCPU_REQUESTS, vcpu, FREE_OBSOLETE_ROOTS)\n"
            "    m.irq_disable(vcpu)\n"),),
        "load-and-fast-zap", FREED,
    ),
    Mutation(
        "the address space of a new slot is set when it is there",
        (("mmu/memory_region.py", "    m.store(SLOT_AS, slot, as_id)\n    m.store(SLOT_BASE", "    m.store(SLOT_BASE"),
         ("mmu/memory_region.py",
          "    m.store(SLOT_PAGES, slot, pages)\n    put",
          "    m.store(SLOT_PAGES, slot, pages)\n    m.store(SLOT_AS, slot, as_id)\n    put"),),
        "smm-slot-create-logged", LOST,
    ),
    Mutation(
        "the flags of a new slot are set when it is there",
        (("mmu/memory_region.py",
          "    m.store(SLOT_FLAGS, slot, flags)\n    init_bitmap(kvm, slot, pages, flags)\n", ""),
         ("mmu/memory_region.py",
          "    m.store(SLOT_PAGES, slot, pages)\n    put",
          "    m.store(SLOT_PAGES, slot, pages)\n    m.store(SLOT_FLAGS, slot, flags)\n"
            "    init_bitmap(kvm, slot, pages, flags)\n    put"),),
        "slot-create-logged", LOST,
    ),
    Mutation(
        "the flags of a new slot are set when nobody sees the slots without it",
        (("mmu/memory_region.py",
          "    m.store(SLOT_FLAGS, slot, flags)\n    init_bitmap(kvm, slot, pages, flags)\n", ""),
         ("mmu/memory_region.py",
          "    put_in_order(kvm, slot)\n    end_publishing(kvm, as_id)\n\n\ndef invalidate",
          "    put_in_order(kvm, slot)\n    end_publishing(kvm, as_id)\n    m.store(SLOT_FLAGS, slot, flags)\n\n\n"
            "def invalidate"),),
        "slot-create-read-only", WRITABLE,
    ),
)  # fmt: skip
