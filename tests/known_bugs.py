"""Bugs that KVM had, or nearly had, each planted in the MMU's sources; docs/bugs.md has the table (bug_table.py)."""

from __future__ import annotations

from shootdown.check import steps

from .mutations import ASSERTION, FREED, LEAK, LOST, REVOKED, STALE, WRITABLE, Mutation

USED = steps.USE_AFTER_FREE

OWED = "    flush_owed(kvm, batch)\n        kvm.m.rcu_read_unlock()\n\n    def end_range"
AS_ONE = "            zap_leafs(kvm, batch, root, start, end, may_yield)\n"

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
        (("mmu/huge_pages.py", "    m = kvm.m\n    untrack_locked(kvm, table)\n",
          "    m = kvm.m\n    if m.need_resched():\n        m.rcu_read_unlock()\n        m.write_unlock()\n"
          "        m.write_lock()\n        m.rcu_read_lock()\n    untrack_locked(kvm, table)\n"),),
        "nx-recovery-yield", FREED,
    ),
    Mutation(
        "B04: a flush that is owed is overwritten by a later call that owes none",
        (("mmu/huge_pages.py",
          "    while tables > 0:\n        table = m.list_next(NX_TABLES, NO_TABLE)\n",
          "    while tables > 0:\n        batch.flush = False\n        table = m.list_next(NX_TABLES, NO_TABLE)\n"),),
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
         ("mmu/change.py", "            handle_changed_spte(kvm, batch, gfn, old, kvm.frozen, level, shared)\n        else:",
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
        "unmap-yield-huge", REVOKED,
    ),
    Mutation(
        "B11: a notifier passes over invalid roots, which no guest can tell",
        (("mmu/notifier.py", "zap_range(kvm, as_id, first, last, False, may_block)",
          "zap_range(kvm, as_id, first, last, True, may_block)"),),
        "notifier-and-fast-zap", 0,
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
        "zap-all-fast", LEAK,
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
          "            zap_sp(kvm, batch, table)\n            m.rcu_read_unlock()\n            m.rcu_read_lock()\n"),),
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
        "B27: a fault without a lock walks outside of RCU",
        (("mmu/fast_fault.py", "    tries: i64 = 0\n    m.rcu_read_lock()\n", "    tries: i64 = 0\n"),
         ("mmu/fast_fault.py", "    m.rcu_read_unlock()\n", "")),
        "fast-fault-collapse", USED,
    ),
    Mutation(
        "B28: a zap of all passes over entries that cover more than the guest has",
        (("mmu/zap.py", "            if it.level == level:\n",
          "            if it.level == level and it.gfn + kvm.pages(level) < kvm.pages(top + 1):\n"),),
        "release-tables", LEAK,
    ),
    Mutation(
        "B33: a table that was zapped before it was on the list for NX recovery is put there",
        (("mmu/fault.py", "        if refused == 0:\n", "        if refused == 2:\n"),),
        "nx-split-collapse", USED,
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
        "B57: of a vCPU's previous roots only the first is looked at when roots were invalidated",
        (("mmu/vcpu_roots.py",
          "    while which < PREV_ROOTS:\n        root = prev_root(kvm, vcpu, which)\n        if root != NO_TABLE:\n",
          "    while which < 1:\n        root = prev_root(kvm, vcpu, which)\n        if root != NO_TABLE:\n"),),
        "previous-roots", FREED,
    ),
)  # fmt: skip
"""By row of docs/bugs.md; those whose bug is planted in mutations.py are not here again."""

PAIRS = (
    Mutation(
        "E06: all is zapped without a flush while vCPUs run",
        (("mmu/zap.py", "    invalidate_all_roots(kvm)\n    make_all_cpus_request(kvm, FREE_OBSOLETE_ROOTS)\n"
          "    kvm.m.write_unlock()\n    zap_invalidated_roots(kvm)\n",
          "    kvm.m.write_unlock()\n    zap_all(kvm)\n"),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "E09: leaves are zapped and flushed after the section",
        (("mmu/zap.py", "                    batch.flush = True\n        it.next()\n    m.rcu_read_unlock()\n",
          "                    batch.flush = True\n        it.next()\n    m.rcu_read_unlock()\n    m.rcu_read_lock()\n    m.rcu_read_unlock()\n"),),
        "zap-range-notifier", 0,
    ),
)  # fmt: skip
