"""Bugs that show at three levels, in system management mode, or where a slot moves, and the tests written for them."""

from __future__ import annotations

from shootdown.check.program.steps import OVERWRITTEN

from .mutations import ASSERTION, FREED, LOST, MAPPED, WRITABLE, Mutation

PROTECT = "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:\n"
ZAPPED = "        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))\n        m.write(it.sptep, kvm.empty)\n"
ZAPPED_2M = ZAPPED.replace("it.level", "2")
UP = "        self.level += 1\n        self.gfn = self.kvm.round(self.gfn, self.level)\n"

DEEP = (
    Mutation(
        "logging that begins leaves pages of 1G writable",
        (("mmu/write_protect.py", PROTECT, PROTECT.replace("if not", "if it.level == 3 or not")),),
        "log-on-1g", LOST,
    ),
    Mutation(
        "logging that begins protects pages of 1G alone",
        (("mmu/dirty_log.py", "start + pages, 1)\n    flush", "start + pages, 3)\n    flush"),),
        "log-on-below-1g", LOST,
    ),
    Mutation(
        "logging that begins leaves pages of 2M writable",
        (("mmu/write_protect.py", PROTECT, PROTECT.replace("if not", "if it.level == 2 or not")),),
        "log-on-below-1g", LOST,
    ),
    Mutation(
        "a fault without a lock makes a page of 1G of a logged slot writable",
        (("mmu/fast_fault.py", "        if level > 1 and fault", "        if level == 2 and fault"),),
        "fast-fault-1g", LOST,
    ),
    Mutation(
        "a huge page of any level is rebuilt where the host has one",
        (("mmu/huge_pages.py", "    return host >= wanted\n", "    return host > 1\n"),),
        "recover-2m-moved", MAPPED, behaviour="6.13",
    ),
    Mutation(
        "a fault takes a frozen entry of a page of 1G for an empty one",
        (("mmu/fault.py",
          "        if it.old_spte == kvm.frozen:\n            return False\n        if it.level == goal",
          "        if it.level < 3 and it.old_spte == kvm.frozen:\n"
          "            return False\n        if it.level == goal"),),
        "collapse-1g-fault", ASSERTION,
    ),
    Mutation(
        "a zap under the lock for read flushes the first 2M of a page of 1G",
        (("mmu/change.py", ZAPPED + "        handle", ZAPPED_2M + "        handle"),),
        "collapse-1g-fault", FREED, behaviour="6.12", ranged=True,
    ),
    Mutation(
        "the same where the entry is removed before the flush",
        (("mmu/change.py", ZAPPED + "    kvm", ZAPPED_2M + "    kvm"),),
        "collapse-1g-fault", FREED, behaviour="6.1", ranged=True,
    ),
    Mutation(
        "a removed table, of whatever level, is flushed as one of 4K entries",
        (("mmu/policies/eager.py", "kvm.pages(level + 1)", "kvm.pages(2)"),),
        "unmap-range-1g", FREED, "eager", ranged=True,
    ),
    Mutation(
        "a range zap leaves pages of 1G",
        (("mmu/zap.py",
          "    if is_last(it.old_spte, it.level):\n        return True\n",
          "    if is_last(it.old_spte, it.level):\n        return it.level < 3\n"),),
        "unmap-range-1g", MAPPED,
    ),
    Mutation(
        "a walk that comes up from a table goes on in its root, whatever the level",
        (("mmu/iter.py", "self.tables[self.level - 1] = self.root\n", "self.tables[self.level] = self.root\n"),),
        "unmap-second-table", MAPPED,
    ),
    Mutation(
        "a walk that comes up from a table comes up to its root at once",
        (("mmu/iter.py", UP, UP.replace("self.level += 1", "self.level = self.root_level")),),
        "unmap-second-table", MAPPED,
    ),
    Mutation(
        "with PML huge pages of system management mode's memory stay writable when logging begins",
        (("mmu/dirty_log.py",
          "slot_remove_write_access(kvm, as_id, start, start + pages, 2)",
          "slot_remove_write_access(kvm, 0, start, start + pages, 2)"),),
        "smm-pml-on", LOST,
    ),
    Mutation(
        "with PML pages of system management mode's memory stay dirty when logging begins",
        (("mmu/dirty_log.py", "slot_leaf_clear_dirty(kvm, as_id, start,", "slot_leaf_clear_dirty(kvm, 0, start,"),),
        "smm-pml-on", LOST,
    ),
    Mutation(
        "with PML a huge page of a nested guest is none that relies on W, nor are its parts when it is split",
        (("mmu/make_spte.py",
          "kvm.pml and role & ROLE_GUEST_MODE != 0:", "kvm.pml and role & ROLE_GUEST_MODE != 0 and level == 1:"),),
        "nested-pml-split", LOST,
    ),
    Mutation(
        "B35 817fa998362d: NX recovery looks for a table's slot in address space 0, whichever its root's is",
        (("mmu/huge_pages.py", "find_slot(kvm, role & ROLE_SMM, gfn)", "find_slot(kvm, 0, gfn)"),),
        "smm-nx-recovery-logged", ASSERTION,
    ),
    Mutation(
        "a slot that moves keeps the flags that it had",
        (("mmu/memory_region.py", "move_slot(kvm, slot, base, flags)\n", "move_slot(kvm, slot, base, old_flags)\n"),),
        "slot-move-log-on", LOST,
    ),
    Mutation(
        "the bitmap of a logged slot that moves is freed",
        (("mmu/memory_region.py",
          "        if flags & LOG_DIRTY_PAGES == 0:\n            free_bitmap(kvm, slot, pages)\n    elif flags",
          "        if logged:\n            free_bitmap(kvm, slot, pages)\n    elif flags"),),
        "slot-move-logged", LOST,
    ),
    Mutation(
        "logging that begins flushes the first page of its slot",
        (("mmu/dirty_log.py",
          "    flush_remote_tlbs_range(kvm, start, pages)\n", "    flush_remote_tlbs_range(kvm, start, 1)\n"),),
        "log-on-below-1g", LOST, ranged=True,
    ),
    Mutation(
        "a page of 1G in which a CPU may set D is written as if none could",
        (("mmu/change.py",
          "is_last(old, level) and is_volatile(kvm, old):\n        return kvm.m.xchg(",
          "is_last(old, level) and level < 3 and is_volatile(kvm, old):\n        return kvm.m.xchg("),),
        "write-protect-1g-clean", OVERWRITTEN,
    ),
    Mutation(
        "a huge page put in the place of a table is writable, whatever the host's page is",
        (("mmu/huge_pages.py", "kvm.empty, writable != 0, False, False))", "kvm.empty, True, False, False))"),),
        "collapse-promote-read-only", WRITABLE, "promote-rfc",
    ),
    Mutation(
        "a table in place of a page of 1G is not told which entry it hangs from",
        (("mmu/link.py",
          "store(SP_PARENT, table, it.sptep)", "store(SP_PARENT, table, it.sptep if it.level == 2 else 0)"),),
        "nx-recovery-1g", ASSERTION,
    ),
)  # fmt: skip
