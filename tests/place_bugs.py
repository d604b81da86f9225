"""Bugs about where: which roots, which address space, where a range ends, where a walk stands after it gave way."""

from __future__ import annotations

from shootdown.check.program.steps import MISCOUNT

from .known_bugs import USED
from .mutations import ASSERTION, FREED, LOST, MAPPED, REVOKED, WRITABLE, Mutation

PLACES = (
    Mutation(
        "logging that begins protects the leaves of the first root alone",
        (("mmu/write_protect.py",
          "        if wrprot_gfn_range(kvm, root, start, end, min_level):\n            changed = True\n"
            "        root = next_root(kvm, root, as_id, True)",
          "        if wrprot_gfn_range(kvm, root, start, end, min_level):\n            changed = True\n"
            "        put_root(kvm, root)\n        root = NO_TABLE"),
         ("mmu/write_protect.py",
          "from .roots import next_root, root_after, root_level",
          "from .roots import next_root, put_root, root_after, root_level"),),
        "log-on-nested", LOST,
    ),
    Mutation(
        "what a log reports is protected in the first root alone",
        (("mmu/clear_dirty.py",
          "        root = root_after(kvm, root, as_id, only_valid)\n",
          "        root = NO_TABLE\n"),),
        "log-get-nested", LOST,
    ),
    Mutation(
        "with PML the leaves of the first root alone are made clean",
        (("mmu/clear_dirty.py",
          "        if clear_dirty_gfn_range(kvm, root, start, end):\n            changed = True\n"
            "        root = next_root(kvm, root, as_id, True)\n    return changed",
          "        if clear_dirty_gfn_range(kvm, root, start, end):\n            changed = True\n"
            "        put_root(kvm, root)\n        root = NO_TABLE\n    return changed"),
         ("mmu/clear_dirty.py",
          "from .roots import next_root, root_after, root_level",
          "from .roots import next_root, put_root, root_after, root_level"),),
        "pml-on-roots", LOST,
    ),
    Mutation(
        "who zaps invalidated roots looks at valid ones alone",
        (("mmu/zap.py",
          "    root = next_root(kvm, NO_TABLE, ANY_AS, False)\n    while root != NO_TABLE:\n"
            "        if m.load(ROOT_SCHEDULED",
          "    root = next_root(kvm, NO_TABLE, ANY_AS, True)\n    while root != NO_TABLE:\n"
            "        if m.load(ROOT_SCHEDULED"),),
        "zap-all-fast", MISCOUNT,
    ),
    Mutation(
        "who ends a VM zaps the roots of address space 0 alone",
        (("mmu/zap.py",
          "    root = next_root(kvm, NO_TABLE, ANY_AS, False)\n    while root != NO_TABLE:\n"
            "        zap_root(kvm, root, False)\n        root = next_root(kvm, root, ANY_AS, False)",
          "    root = next_root(kvm, NO_TABLE, 0, False)\n    while root != NO_TABLE:\n"
            "        zap_root(kvm, root, False)\n        root = next_root(kvm, root, 0, False)"),),
        "release-tables", MAPPED,
    ),
    Mutation(
        "a split that finds no memory keeps its reference to the root",
        (("mmu/split.py", "            put_root(kvm, root)\n            return\n", "            return\n"),),
        "split-no-memory", MISCOUNT,
    ),
    Mutation(
        "a walk over roots puts the last one before its section begins",
        (("mmu/roots.py",
          "        m.rcu_read_lock()\n        found = m.list_next(ROOTS, root)\n",
          "        if root != NO_TABLE:\n            put_root(kvm, root)\n        m.rcu_read_lock()\n"
            "        found = m.list_next(ROOTS, root)\n"),
         ("mmu/roots.py",
          "        m.rcu_read_unlock()\n        if root != NO_TABLE:\n            put_root(kvm, root)\n",
          "        m.rcu_read_unlock()\n"),),
        "slot-delete-both", USED,
    ),
    Mutation(
        "a walk over roots takes a reference to one whose last was put",
        (("mmu/roots.py",
          "            if is_wanted(kvm, found, ANY_AS, only_valid) and m.inc_not_zero(ROOT_COUNT, found):\n"
            "                break\n",
          "            if is_wanted(kvm, found, ANY_AS, only_valid):\n"
            "                m.fetch_add(ROOT_COUNT, found, 1)\n                break\n"),),
        "slot-delete-both", USED,
    ),
    Mutation(
        "logging begins in address space 0, whatever the slot's is",
        (("mmu/dirty_log.py",
          "    as_id = slot_as_id(kvm, slot)\n    if not logged:",
          "    as_id = 0 * slot_as_id(kvm, slot)\n    if not logged:"),),
        "smm-log-on", LOST,
    ),
    Mutation(
        "what a log reports is protected in address space 0, whatever the slot's is",
        (("mmu/dirty_log.py",
          "    as_id = slot_as_id(kvm, slot)\n    if kvm.initially_set:",
          "    as_id: i64 = 0\n    if kvm.initially_set:"),),
        "smm-log-get", LOST,
    ),
    Mutation(
        "a page is write-protected for good in address space 0, whatever the slot's is",
        (("mmu/write_protect.py",
          "    as_id = slot_as_id(kvm, slot)\n    return write_protect_gfn(kvm, as_id",
          "    as_id = slot_as_id(kvm, slot)\n    return write_protect_gfn(kvm, 0"),),
        "smm-write-protect", WRITABLE,
    ),
    Mutation(
        "a slot that is deleted by itself is zapped in address space 0, whatever its own is",
        (("mmu/zap.py",
          "    flush = zap_range(kvm, as_id, base, base + pages, False, True)",
          "    flush = zap_range(kvm, 0, base, base + pages, False, True)"),),
        "smm-slot-delete", MAPPED,
    ),
    Mutation(
        "a fault looks its slot up in address space 0, whatever its root's is",
        (("mmu/page_fault.py", "        as_id = root_as_id(kvm, root)\n", "        as_id: i64 = 0\n"),),
        "smm-log-get", LOST,
    ),
    Mutation(
        "logging ends in address space 0, whatever the slot's is",
        (("mmu/dirty_log.py",
          "        disable_dirty_logging(kvm, as_id, start, start + pages)",
          "        disable_dirty_logging(kvm, 0, start, start + pages)"),),
        "smm-log-off", ASSERTION,
    ),
    Mutation(
        "a previous root is taken whatever its role",
        (("mmu/vcpu_roots.py", "    if kvm.m.load(SP_ROLE, root) != role:\n        return False\n", ""),),
        "previous-roots-notifier", ASSERTION,
    ),
    Mutation(
        "a root that is there is taken whatever its role",
        (("mmu/roots.py",
          "        if m.load(SP_ROLE, root) == role and m.load(ROOT_INVALID",
          "        if m.load(ROOT_INVALID"),),
        "previous-roots-notifier", ASSERTION,
    ),
    Mutation(
        "a range zap passes over a huge page that begins before the range",
        (("mmu/zap.py",
          "    it = TdpIter(kvm, root, top, 1, start)\n    while it.valid and it.gfn < end:\n"
            "        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
            "            if it.old_spte & PRESENT != 0 and is_last(",
          "    it = TdpIter(kvm, root, top, 1, start)\n    while it.valid and it.gfn < end:\n"
            "        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
            "            if it.gfn >= start and it.old_spte & PRESENT != 0 and is_last("),),
        "unmap-inside-huge", MAPPED,
    ),
    Mutation(
        "a slot that is deleted by itself keeps its last page",
        (("mmu/zap.py",
          "    flush = zap_range(kvm, as_id, base, base + pages, False, True)",
          "    flush = zap_range(kvm, as_id, base, base + pages - 1, False, True)"),),
        "smm-slot-delete", MAPPED,
    ),
    Mutation(
        "logging begins without the slot's last page",
        (("mmu/dirty_log.py",
          "        slot_remove_write_access(kvm, as_id, start, start + pages, 1)",
          "        slot_remove_write_access(kvm, as_id, start, start + pages - 1, 1)"),),
        "log-on-huge", LOST,
    ),
    Mutation(
        "with PML the slot's last page stays dirty",
        (("mmu/dirty_log.py",
          "        slot_leaf_clear_dirty(kvm, as_id, start, start + pages)",
          "        slot_leaf_clear_dirty(kvm, as_id, start, start + pages - 1)"),),
        "pml-on-roots", LOST,
    ),
    Mutation(
        "a notifier zaps in each slot what lies in the first",
        (("mmu/notifier.py",
          "        first = start_in(kvm, slots[i], start)\n        last = end_in(kvm, slots[i], end)\n"
            "        if i == 0:",
          "        first = start_in(kvm, slots[0], start)\n        last = end_in(kvm, slots[0], end)\n"
            "        if i == 0:"),),
        "two-slots-unmap", MAPPED,
    ),
    Mutation(
        "huge pages are rebuilt beyond their slot",
        (("mmu/huge_pages.py",
          "    if it.gfn < start or it.gfn + kvm.pages(it.level) > end:\n        return False\n",
          ""),),
        "recover-at-edge", LOST,
    ),
    Mutation(
        "a fault maps a huge page beyond its slot",
        (("mmu/levels.py", "    if first < base or first + pages > base + number:\n        return False\n", ""),),
        "huge-at-edge", LOST,
    ),
    Mutation(
        "a walk with mmu_lock held for read gives way without the flush that it owes",
        (("mmu/resched.py",
          "    kvm.policy.leave_to_yield(kvm, batch)\n",
          "    if shared:\n        m.rcu_read_unlock()\n    else:\n"
            "        kvm.policy.leave_to_yield(kvm, batch)\n"),),
        "collapse-promote", FREED, behaviour="6.13",
    ),
    Mutation(
        "the flush of who reads a log comes first",
        (("mmu/dirty_log.py",
          "    if not manual:\n        m.write_lock()\n    offset: i64 = 0\n",
          "    if not manual:\n        flush_remote_tlbs_range(kvm, base, pages)\n"
            "        m.write_lock()\n    offset: i64 = 0\n"),
         ("mmu/dirty_log.py",
          "    if not manual:\n        m.write_unlock()\n    if flush:\n"
            "        flush_remote_tlbs_range(kvm, base, pages)\n",
          "    if not manual:\n        m.write_unlock()\n"),),
        "log-get", LOST,
    ),
    Mutation(
        "who makes leaves clean goes on with its entry after it gave way",
        (("mmu/clear_dirty.py",
          "    while not cond_resched(kvm, it, batch, True):\n",
          "    cond_resched(kvm, it, batch, True)\n    while True:\n"),),
        "pml-on-roots", ASSERTION,
    ),
    Mutation(
        "who rebuilds huge pages goes on with its entry after it gave way",
        (("mmu/huge_pages.py",
          "    it = TdpIter(kvm, root, top, 2, start)\n    while it.valid and it.gfn < end:\n"
            "        if not cond_resched(kvm, it, batch, True):\n            while is_coll",
          "    it = TdpIter(kvm, root, top, 2, start)\n    while it.valid and it.gfn < end:\n"
            "        cond_resched(kvm, it, batch, True)\n        if True:\n            while is_coll"),),
        "collapse-promote", ASSERTION, behaviour="6.13",
    ),
    Mutation(
        "who zaps tables for huge pages goes on with its entry after it gave way",
        (("mmu/huge_pages.py",
          "    it = TdpIter(kvm, root, top, 1 if leafs else 2, start)\n"
            "    while it.valid and it.gfn < end:\n        if not cond_resched(kvm, it, batch, True):\n",
          "    it = TdpIter(kvm, root, top, 1 if leafs else 2, start)\n"
            "    while it.valid and it.gfn < end:\n        cond_resched(kvm, it, batch, True)\n"
            "        if True:\n"),),
        "collapse-yield-fault", USED,
    ),
    Mutation(
        "who zaps a root goes on with its entry after it gave way",
        (("mmu/zap.py",
          "        if not cond_resched(kvm, it, batch, shared):\n            if it.level == level:",
          "        cond_resched(kvm, it, batch, shared)\n        if True:\n"
            "            if it.level == level:"),),
        "fast-zap-fault", ASSERTION,
    ),
    Mutation(
        "a fault maps a huge page in a slot that is logged",
        (("mmu/levels.py", "    if fault.pfn < 0 or fault.flags & LOG_DIRTY_PAGES != 0:", "    if fault.pfn < 0:"),),
        "log-fault-huge", LOST,
    ),
    Mutation(
        "a slot is there before it says where",
        (("mmu/memory_region.py",
          "    m.store(SLOT_BASE, slot, base)\n    m.store(SLOT_FLAGS, slot, flags)\n"
            "    init_bitmap(kvm, slot, pages, flags)\n    begin_publishing(kvm, as_id)\n"
            "    m.store(SLOT_PAGES, slot, pages)\n",
          "    m.store(SLOT_FLAGS, slot, flags)\n    init_bitmap(kvm, slot, pages, flags)\n"
            "    begin_publishing(kvm, as_id)\n    m.store(SLOT_PAGES, slot, pages)\n"
            "    m.store(SLOT_BASE, slot, base)\n"),),
        "slot-create-gap", MAPPED,
    ),
    Mutation(
        "a notifier flushes for the first slot alone",
        (("mmu/notifier.py",
          "        if zap_range(kvm, as_id, first, last, False, may_block):\n            flush = True\n",
          "        if zap_range(kvm, as_id, first, last, False, may_block) and i == 0:\n"
            "            flush = True\n"),),
        "two-slots-unmap", REVOKED,
    ),
    Mutation(
        "a huge page is rebuilt around a page whose writes are tracked",
        (("mmu/huge_pages.py",
          "        if kvm.m.load(WRITE_TRACKED, tracked_at(as_id, wanted, it.gfn)) != 0:\n"
            "            return False\n",
          "        pass\n"),),
        "recover-tracked", WRITABLE, behaviour="6.13",
    ),
    Mutation(
        "a slot that moved is valid before nobody can have seen where it was",
        (("mmu/memory_region.py",
          "    kvm.m.synchronize_srcu()\n    kvm.m.store(SLOT_FLAGS, slot, flags)\n    end_publishing",
          "    kvm.m.store(SLOT_FLAGS, slot, flags)\n    end_publishing"),),
        "slot-move-notifier", MAPPED,
    ),
    Mutation(
        "a page is marked dirty in another slot than its own",
        (("mmu/fault.py",
          "        mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n    result",
          "        mark_page_dirty(kvm, 0, fault.gfn, vcpu)\n    result"),),
        "huge-at-edge", LOST,
    ),
)  # fmt: skip
"""Each with the test that refutes it."""
