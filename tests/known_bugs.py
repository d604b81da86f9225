"""Bugs that KVM had, or nearly had, each planted in the MMU's sources; docs/bugs.md has the table (bug_table.py)."""

from __future__ import annotations

from shootdown.check.program import steps

from .mutations import ASSERTION, FREED, LEAK, LOST, MAPPED, OVERWRITTEN, REVOKED, STALE, WRITABLE, Mutation

USED = steps.USE_AFTER_FREE

AS_ONE = "            zap_leafs(kvm, batch, root, start, end, may_yield)\n"
PREVIOUS_KEPT = (
    "mmu/vcpu_roots.py",
    "                mask |= bit\n",
    "                pass\n",
)

BUGS = (
    Mutation(
        "B01: a flush that one root owes is unknown in the walk of the next",
        (("mmu/zap.py", AS_ONE,
          "            one = Batch(True)\n            zap_leafs(kvm, one, root, start, end, may_yield)\n"
          "            batch.flush = batch.flush or one.flush\n"),),
        "zap-range-roots-notifier", REVOKED,
    ),
    Mutation(
        "B02: NX recovery does not hear that a flush is owed",
        (("mmu/huge_pages.py",
          "    set_spte(kvm, batch, sptep, gfn, level, old, kvm.empty)\n    batch.flush = True\n",
          "    set_spte(kvm, batch, sptep, gfn, level, old, kvm.empty)\n"),),
        "nx-recovery", FREED,
    ),
    Mutation(
        "B03: the zap of one table may give way before it did anything",
        (("mmu/huge_pages.py",
          "    m = kvm.m\n    sptep = m.load(SP_PARENT, table)\n    level",
          "    m = kvm.m\n    if m.need_resched():\n        m.rcu_read_unlock()\n        m.write_unlock()\n"
          "        m.write_lock()\n        m.rcu_read_lock()\n    sptep = m.load(SP_PARENT, table)\n    level"),),
        "nx-recovery-yield", FREED,
    ),
    Mutation(
        "B04: a flush that is owed is overwritten by a later call that owes none",
        (("mmu/huge_pages.py",
          "    while tables > 0:\n        table = take_tracked(kvm)\n",
          "    while tables > 0:\n        batch.flush = False\n        table = take_tracked(kvm)\n"),),
        "nx-recovery-reuse", FREED,
    ),
    Mutation(
        "B05: an entry is cleared at once, and not frozen until the flush",
        (("mmu/change.py", "m.cmpxchg(it.sptep, old, kvm.frozen)", "m.cmpxchg(it.sptep, old, kvm.empty)"),),
        "collapse-and-notifier", REVOKED, behaviour="6.12",
    ),
    Mutation(
        "B06: entries of a table that was cut off are not marked",
        (("mmu/change.py", "kvm.m.xchg(sptep, kvm.frozen)", "kvm.m.xchg(sptep, kvm.empty)"),
         ("mmu/change.py", "            handle_changed_spte(kvm, batch, gfn, old, kvm.frozen, level, shared)\n"
           "        else:",
          "            handle_changed_spte(kvm, batch, gfn, old, kvm.empty, level, shared)\n        else:")),
        "nested-collapses", LEAK,
    ),
    Mutation(
        "B07: a table is freed at once",
        (("mmu/policies/rcu.py", "kvm.m.call_rcu(table)", "kvm.m.free_table(table)"),),
        "unmap-tables", FREED,
    ),
    Mutation(
        "B08: a flush that begins at the last child's page, where flushes are whole",
        (("mmu/policies/eager.py", "flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))",
          "flush_remote_tlbs_range(kvm, gfn + kvm.pages(level + 1) - 1, 1)"),),
        "unmap-tables", 0, policy="eager",
    ),
    Mutation(
        "B09: a walk that begins again after it gave way goes one entry on",
        (("mmu/iter.py", "            self.restart()\n            return\n", "            self.restart()\n"),),
        "unmap-yield-huge", MAPPED,
    ),
    Mutation(
        "B11: a notifier passes over invalid roots, and the host hears of its page later",
        (("mmu/notifier.py", "zap_range(kvm, as_id, first, last, False, may_block)",
          "zap_range(kvm, as_id, first, last, True, may_block)"),),
        "notifier-and-fast-zap", MAPPED,
    ),
    Mutation(
        "B12: an invalid root is given to who asks for one",
        (("mmu/roots.py", " == role and m.load(ROOT_INVALID, root) == 0 and ", " == role and "),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "B14: a fault maps in a root that was invalidated since it began",
        (("mmu/fault.py",
          "    if kvm.m.load(ROOT_INVALID, fault.root) != 0:\n        return True\n", ""),),
        "fast-zap-fault", LEAK,
    ),
    Mutation(
        "B16: what the last root owes is all that is owed",
        (("mmu/zap.py", AS_ONE, "            batch.flush = False\n" + AS_ONE),),
        "two-roots-leafs", STALE,
    ),
    Mutation(
        "B18: the flush before a yield comes after the section, and no table was flushed before",
        (("mmu/policies/rcu.py",
          "        flush_owed(kvm, batch)\n        kvm.m.rcu_read_unlock()\n\n    def end_range",
          "        kvm.m.rcu_read_unlock()\n        flush_owed(kvm, batch)\n\n    def end_range"),),
        "unmap-yield-tables", FREED,
    ),
    Mutation(
        "B20: NX recovery leaves its section after each table, and flushes at the end",
        (("mmu/huge_pages.py", "            zap_sp(kvm, batch, table)\n",
          "            zap_sp(kvm, batch, table)\n            m.rcu_read_unlock()\n"
            "            m.rcu_read_lock()\n"),),
        "nx-recovery", FREED,
    ),
    Mutation(
        "B22: write protection for good passes over a leaf that logging made read-only",
        (("mmu/write_protect.py", "            if new == it.old_spte:\n                break\n",
          "            if it.old_spte & WRITABLE == 0:\n                break\n"),),
        "write-protect-logged", WRITABLE,
    ),
    Mutation(
        "B22: the same, while a reader of the log has its flush in hand",
        (("mmu/write_protect.py", "            if new == it.old_spte:\n                break\n",
          "            if it.old_spte & WRITABLE == 0:\n                break\n"),),
        "write-protect-get", WRITABLE,
    ),
    Mutation(
        "B23: a page that is replaced read-only keeps MMU-writable, where its invalidation has zapped it before",
        (("mmu/change_pte.py", "kvm.fmt.host_writable | kvm.fmt.mmu_writable", "kvm.fmt.host_writable"),),
        "change-pte", 0, behaviour="6.1",
    ),
    Mutation(
        "B24: D is cleared for a nested guest, whose writes the CPU logs elsewhere",
        (("mmu/clear_dirty.py", "wrprot or needs_write_protect(leaf)", "wrprot"),),
        "nested-pml", LOST,
    ),
    Mutation(
        "B25: bits of a mask stay when their page needs no change",
        (("mmu/clear_dirty.py", "                mask &= ~page\n", ""),), "log-get", 0,
    ),
    Mutation(
        "B45: a fault does not look for an invalidation before it takes the lock",
        (("mmu/fault.py",
          "        # Better now than after the work, in vain, and with the lock contended.\n"
          "        if is_invalidated(kvm, fault.gfn, seq):\n            return RETRY\n",
          "        pass\n"),),
        "unmap-leafs", 0,
    ),
    Mutation(
        "B27: a fault without a lock walks outside of RCU",
        (("mmu/fast_fault.py", "    tries: i64 = 0\n    m.rcu_read_lock()\n", "    tries: i64 = 0\n"),
         ("mmu/fast_fault.py", "    m.rcu_read_unlock()\n", "")),
        "fast-fault-collapse", USED,
    ),
    Mutation(
        "B28: a zap of all passes over entries that cover more than the guest has",
        (("mmu/zap.py", "            if it.level == level:\n",
          "            if it.level == level and it.gfn + kvm.pages(level) < kvm.pages(top + 1):\n"),),
        "fast-zap-fault", LEAK,
    ),
    Mutation(
        "B33: a table that was zapped before it was on the list for NX recovery is put there",
        (("mmu/table_lists.py", "    if refused != 0:\n", "    if refused != 2:\n"),),
        "nx-split-collapse", USED,
    ),
    Mutation(
        "B34: a table is linked before it is on the list of all tables, and who zaps it comes in between",
        (("mmu/behaviour.py", "        lists_tables=not late,\n", "        lists_tables=True,\n"),),
        "link-and-collapse", ASSERTION,
    ),
    Mutation(
        "B37: a huge page is promoted where the host maps nothing",
        (("mmu/huge_pages.py", "    if pfn < 0:\n        return\n", ""),),
        "collapse-promote-error", ASSERTION, policy="promote-rfc", behaviour="6.1",
    ),
    Mutation(
        "B39: a page is mapped ahead of its fault in a root that was invalidated",
        (("mmu/fault.py", "    if kvm.m.load(ROOT_INVALID, fault.root) != 0:\n",
          "    if not fault.prefetch and kvm.m.load(ROOT_INVALID, fault.root) != 0:\n"),),
        "slot-delete-prefetch", LEAK,
    ),
    Mutation(
        "B57: a vCPU keeps previous roots that were invalidated, but does not come back to them",
        (PREVIOUS_KEPT,), "previous-roots", 0,
    ),
    Mutation(
        "B57: it keeps them, and comes back to them",
        (PREVIOUS_KEPT,
         ("mmu/vcpu_roots.py", "    return kvm.m.load(ROOT_INVALID, root) == 0\n", "    return True\n")),
        "previous-roots", FREED,
    ),
)  # fmt: skip
"""By row of docs/bugs.md; those whose bug is planted in mutations.py are not here again."""

LATE = (
    (
        "mmu/notifier.py",
        "    if flush:\n        flush_remote_tlbs(kvm)\n\n\ndef invalidate_range_end",
        "    return flush\n\n\ndef invalidate_range_end",
    ),
    (
        "mmu/notifier.py",
        "        unmap_slots(kvm, slots, start, end, may_block)\n        m.write_unlock()\n",
        "        flush = unmap_slots(kvm, slots, start, end, may_block)\n        m.write_unlock()\n"
        "        if flush:\n            flush_remote_tlbs(kvm)\n",
    ),
    (
        "mmu/notifier.py",
        "def unmap_slots(kvm: Kvm, slots: vec[i64], start: i64, end: i64, may_block: bool) -> None:",
        "def unmap_slots(kvm: Kvm, slots: vec[i64], start: i64, end: i64, may_block: bool) -> bool:",
    ),
)
NO_F7 = (
    "mmu/dirty_log.py",
    "start, start + pages, 1)\n    flush_remote_tlbs_range(kvm, start, pages)\n",
    "start, start + pages, 1)\n",
)

PAIRS = (
    Mutation(
        "E06: all is zapped without a flush while vCPUs run",
        (("mmu/zap.py", "    invalidate_all_roots(kvm)\n    make_all_cpus_request(kvm, FREE_OBSOLETE_ROOTS)\n"
          "    kvm.m.write_unlock()\n    zap_invalidated_roots(kvm)\n",
          "    kvm.m.write_unlock()\n    zap_all(kvm)\n"),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "E11: a root that is out of reach is zapped in one section, with no flush and giving way nowhere",
        (("mmu/zap.py",
          "        if not cond_resched(kvm, it, batch, shared):\n            if it.level == level:\n"
          "                zap_entry(kvm, batch, it, shared)\n",
          "        if it.level == level:\n            zap_entry(kvm, batch, it, shared)\n"),),
        "zap-all-fast", 0,
    ),
    Mutation(
        "E12: a leaf that was zapped in a valid root owes no flush",
        (("mmu/zap.py", "or m.load(ROOT_INVALID, root) == 0):", "or m.load(ROOT_INVALID, root) != 0):"),),
        "unmap-leafs", REVOKED,
    ),
    Mutation(
        "K16: a notifier flushes after it dropped mmu_lock, alone",
        LATE, "unmap-leafs", 0,
    ),
    Mutation(
        "K16: the same beside another for the same page, which finds nothing to flush and returns first",
        LATE, "two-notifiers", REVOKED,
    ),
    Mutation(
        "F19: flush of a slot that is deleted by itself",
        (("mmu/zap.py", "    if flush:\n        flush_remote_tlbs(kvm)\n    m.write_unlock()\n",
          "    m.write_unlock()\n"),),
        "slot-delete-alone", REVOKED,
    ),
    Mutation(
        "F19: the same beside a notifier",
        (("mmu/zap.py", "    if flush:\n        flush_remote_tlbs(kvm)\n    m.write_unlock()\n",
          "    m.write_unlock()\n"),),
        "slot-alone-notifier", REVOKED,
    ),
    Mutation(
        "F10: flush when writes of a page are tracked",
        (("mmu/write_track.py", "    if changed:\n        flush_remote_tlbs(kvm)\n", ""),),
        "write-protect", WRITABLE,
    ),
    Mutation(
        "F10: the same of a huge page",
        (("mmu/write_track.py", "    if changed:\n        flush_remote_tlbs(kvm)\n", ""),),
        "write-protect-huge", WRITABLE,
    ),
    Mutation(
        "F10: huge pages of a tracked page may be mapped",
        (("mmu/levels.py", "    return tracked == 0\n", "    return True\n"),),
        "write-protect-huge", WRITABLE,
    ),
    Mutation(
        "F7: split, write-protected and logged without a flush",
        (NO_F7,), "split-two-vcpus", LOST,
    ),
    Mutation(
        "F7: the same, and not split",
        (NO_F7,), "split-no-memory", LOST,
    ),
    Mutation(
        "F7, harmless: the flush comes before mmu_lock is dropped",
        (NO_F7,
         ("mmu/write_protect.py", "    wrprot_slot(kvm, as_id, start, end, min_level)\n    kvm.m.read_unlock()\n",
          "    wrprot_slot(kvm, as_id, start, end, min_level)\n    flush_remote_tlbs(kvm)\n"
            "    kvm.m.read_unlock()\n"),
         ("mmu/write_protect.py", "from .resched import cond_resched\n",
          "from .requests import flush_remote_tlbs\nfrom .resched import cond_resched\n")),
        "split-two-vcpus", 0,
    ),
    Mutation(
        "F7: the flush comes before write protection, after the split",
        (NO_F7,
         ("mmu/dirty_log.py", "    if kvm.pml:\n        slot_leaf_clear_dirty",
          "    flush_remote_tlbs_range(kvm, start, pages)\n    if kvm.pml:\n        slot_leaf_clear_dirty")),
        "split-two-vcpus", LOST,
    ),
    Mutation(
        "E25, harmless: a flush after the split, before write protection and its own",
        (("mmu/dirty_log.py", "    if kvm.pml:\n        slot_leaf_clear_dirty",
          "    flush_remote_tlbs_range(kvm, start, pages)\n    if kvm.pml:\n        slot_leaf_clear_dirty"),),
        "split-two-vcpus", 0,
    ),
    Mutation(
        "ranges of two notifiers at once are one that holds both",
        (("mmu/notifier.py", "    m.store(INVALIDATE_START, 0, min(start, first))\n"
          "    m.store(INVALIDATE_END, 0, max(end, last))\n",
          "    m.store(INVALIDATE_START, 0, start)\n    m.store(INVALIDATE_END, 0, end)\n"),),
        "two-ranges", MAPPED,
    ),
    Mutation(
        "the range of several notifiers lasts until all have ended",
        (("mmu/notifier.py", "    m.store(INVALIDATE_IN_PROGRESS, 0, running - 1)\n",
          "    m.store(INVALIDATE_IN_PROGRESS, 0, 0)\n"),),
        "two-ranges", ASSERTION,
    ),
    Mutation(
        "a notifier owes the flush of the first slot as well as of the last",
        (("mmu/notifier.py", "        if zap_range(kvm, as_id, first, last, False, may_block):\n"
          "            flush = True\n",
          "        flush = zap_range(kvm, as_id, first, last, False, may_block)\n"),),
        "two-slots-notifier", REVOKED,
    ),
    Mutation(
        "write protection owes a flush for the first root as well as for the last",
        (("mmu/write_protect.py",
          "        if write_protect_root(kvm, root, gfn, min_level):\n            changed = True\n",
          "        changed = write_protect_root(kvm, root, gfn, min_level)\n"),),
        "write-protect-roots", WRITABLE,
    ),
    Mutation(
        "a fault that cannot split a huge page leaves it; who logs it protects it whole",
        (("mmu/write_protect.py",
          "it = TdpIter(kvm, root, top, min_level, start)\n    while it.valid and it.gfn < end:\n"
            "        while not cond",
          "it = TdpIter(kvm, root, top, min_level, start)\n    while it.valid and it.gfn < end:\n"
            "        while it.level == 1 and not cond"),),
        "split-no-memory", LOST,
    ),
    Mutation(
        "write protection for logging goes down to 4K",
        (("mmu/dirty_log.py", "        slot_remove_write_access(kvm, as_id, start, start + pages, 1)\n",
          "        slot_remove_write_access(kvm, as_id, start, start + pages, 2)\n"),),
        "log-on-roots", LOST,
    ),
    Mutation(
        "a table made by a fault that lost its race is linked nowhere else",
        (("mmu/split.py", "        m.free_table(table)\n    return True\n", "        pass\n    return True\n"),),
        "split-notifier", LEAK,
    ),
    Mutation(
        "a walk that dropped mmu_lock for a table begins again at the root",
        (("mmu/split.py", "    it.yielded = True\n    return table\n", "    return table\n"),),
        "split-clear-notifier", MAPPED,
    ),
    Mutation(
        "the same where the table that it was in may have gone",
        (("mmu/split.py", "    it.yielded = True\n    return table\n", "    return table\n"),),
        "split-release", USED,
    ),
    Mutation(
        "entries of a table that was cut off are exchanged, also under mmu_lock held for write",
        (("mmu/change.py", "                old = write_spte(kvm, sptep, old, kvm.frozen, level)\n",
          "                m.write(sptep, kvm.frozen)\n"),),
        "nx-recovery-logged", OVERWRITTEN, behaviour="6.1",
    ),
    Mutation(
        "E09: leaves are zapped and flushed after the section",
        (("mmu/zap.py", "                    batch.flush = True\n        it.next()\n    m.rcu_read_unlock()\n",
          "                    batch.flush = True\n        it.next()\n    m.rcu_read_unlock()\n"
            "    m.rcu_read_lock()\n    m.rcu_read_unlock()\n"),),
        "zap-range-notifier", 0,
    ),
)  # fmt: skip
"""Flushes that were removed, and their twins that must stay; what is right although it looks wrong; flush sites."""

SLOW = (
    *("B01", "B06", "B14", "B39", "B57", "F19: the same", "ranges of two notifiers", "the range of several"),
    *("a table made by a fault", "a walk that dropped"),
)
"""What the sites of those begin with that take over a second, interpreted."""
