"""Bugs about what an entry is: MMIO believed, or gone through; another page; X of a huge page; and who may sleep."""

from __future__ import annotations

from shootdown.check.program.steps import EXECUTABLE_IN_REACH, OTHER_IN_REACH, PASSES_FOR_MMIO, UNKNOWN_IN_REACH

from .mutations import ASSERTION, Mutation

PROTECTS = (
    ("mmu/write_protect.py",
     "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:",
     "            if is_table(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:"),
    ("mmu/write_protect.py", "import WRITABLE, is_leaf", "import WRITABLE, is_leaf, is_table"),
)  # fmt: skip
UNREAD = "        if it.level == 1 and it.old_spte & PRESENT != 0:\n"

ENTRIES = (
    Mutation(
        "I-24: an entry of MMIO is believed whatever its generation, for ever",
        (("mmu/mmio.py", "    return now & MMIO_GENERATIONS == mmio_generation(spte)\n", "    return True\n"),),
        "slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: the same where the slot is moved there",
        (("mmu/mmio.py", "    return now & MMIO_GENERATIONS == mmio_generation(spte)\n", "    return True\n"),),
        "slot-move-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: the generation goes on before those are done who saw the old slots, and what they make is believed",
        (("mmu/memory_region.py", "    m.store(INVALIDATIONS, 0, 0)\n    m.synchronize_srcu()\n",
          "    m.store(INVALIDATIONS, 0, 0)\n"),),
        "slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: the generation stays when slots have changed",
        (("mmu/memory_region.py", "~UPDATE_IN_PROGRESS) + ADDRESS_SPACES", "~UPDATE_IN_PROGRESS)"),),
        "slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: an entry of MMIO is made of the generation that comes next",
        (("mmu/fault.py", "    spte = make_mmio_spte(kvm, it.gfn, now)\n",
          "    spte = make_mmio_spte(kvm, it.gfn, now + 2)\n"),),
        "slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: an entry of MMIO is believed as to the generation's upper bits alone",
        (("mmu/mmio.py", "    return now & MMIO_GENERATIONS == mmio_generation(spte)\n",
          "    return now & MMIO_GENERATIONS & ~0xFF == mmio_generation(spte) & ~0xFF\n"),),
        "slot-create-mmio", PASSES_FOR_MMIO,
    ),
    Mutation(
        "I-24: an entry of MMIO is never believed, which costs time",
        (("mmu/mmio.py", "    return now & MMIO_GENERATIONS == mmio_generation(spte)\n", "    return False\n"),),
        "slot-create-mmio", 0,
    ),
    Mutation(
        "I-24: an entry of MMIO is believed while slots change, when nobody may rely on the new ones yet",
        (("mmu/mmio.py", "    if now & UPDATE_IN_PROGRESS != 0:\n        return False\n", ""),),
        "slot-create-mmio", 0,
    ),
    Mutation(
        "3354ef5a592d: logging that begins takes W from an entry of MMIO, which is X alone then",
        PROTECTS, "mmio-log-on", UNKNOWN_IN_REACH,
    ),
    Mutation(
        "3354ef5a592d: the same on NPT, where it has P and a reserved bit as before", PROTECTS, "mmio-log-on-npt", 0,
    ),
    Mutation(
        "3354ef5a592d: a log that is read takes W from an entry of MMIO",
        (("mmu/clear_dirty.py", UNREAD, "        if it.level == 1:\n"),
         ("mmu/clear_dirty.py", "bit = dirty_bit(kvm, it.old_spte, wrprot)\n", "bit = WRITABLE\n")),
        "mmio-log-get", UNKNOWN_IN_REACH,
    ),
    Mutation(
        "P5: a frozen entry is one that a CPU goes through",
        (("mmu/spte.py", "612: Final[i64] = -0x7FFF_FFFF_FFFF_FA60", "612: Final[i64] = -0x7FFF_FFFF_FFFF_FA5F"),),
        "collapse-zap", UNKNOWN_IN_REACH, behaviour="6.12",
    ),
    Mutation(
        "I-19: a fault maps a huge page that may be executed, with the NX mitigation on",
        (("mmu/make_spte.py", "    executable = level == 1 or not kvm.nx_huge_pages\n", "    executable = True\n"),),
        "nx-huge", EXECUTABLE_IN_REACH,
    ),
    Mutation(
        "I-19: a huge page that is rebuilt in place may be executed as its parts, with the NX mitigation on",
        (("mmu/make_spte.py", "set_executable(huge, kvm.fmt, False) if kvm.nx_huge_pages else huge", "huge"),),
        "nx-collapse", EXECUTABLE_IN_REACH, behaviour="6.18",
    ),
    Mutation(
        "I-31: the parts of a huge page that is split map its pages in falling order, and nobody takes them back",
        (("mmu/make_spte.py", "index * kvm.pages(level - 1)", "(kvm.entries - 1 - index) * kvm.pages(level - 1)"),),
        "log-on-huge", OTHER_IN_REACH,
    ),
    Mutation(
        "I-31: the parts of a huge page that is split map its first page, and nobody takes it back",
        (("mmu/make_spte.py", "small_spte(huge, level, index * kvm.pages(level - 1),", "small_spte(huge, level, 0,"),),
        "log-on-huge", OTHER_IN_REACH,
    ),
    Mutation(
        "a notifier that may not block gives way in its zap",
        (("mmu/notifier.py", "zap_range(kvm, as_id, first, last, False, may_block)",
          "zap_range(kvm, as_id, first, last, False, True)"),),
        "huge-in-the-way-notifier", ASSERTION,
    ),
    Mutation(
        "P5: a huge page is mapped where guest and host do not agree on where it begins, and nobody takes it back",
        (("mmu/levels.py",
          "    if (fault.gfn ^ fault.pfn) & (pages - 1) != 0:\n        return False\n", ""),),
        "unmap-huge-moved", OTHER_IN_REACH,
    ),
)  # fmt: skip
"""Each with the test that refutes it, or holds."""
