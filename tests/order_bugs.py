"""Bugs about what comes first, who is on a list, which rights a page has; and changes that only look wrong."""

from __future__ import annotations

from shootdown.check.program.steps import DOUBLE_FREE, OTHER_IN_REACH

from .known_bugs import USED
from .mutations import ASSERTION, LEAK, LOST, MAPPED, OVERWRITTEN, WRITABLE, Mutation

ORDERS = (
    Mutation(
        "a table that takes a huge page's place is filled after it is linked",
        (("mmu/split.py",
          "    fill_split(kvm, table, it.old_spte, level)\n"
            "    if not link_table(kvm, batch, it, table, shared, track):\n        return False\n",
          "    huge = it.old_spte\n    if not link_table(kvm, batch, it, table, shared, track):\n"
            "        return False\n    fill_split(kvm, table, huge, level)\n"),),
        "split-fault-deep", LEAK,
    ),
    Mutation(
        "a table is said to be one level higher",
        (("mmu/link.py", "    m.store(SP_LEVEL, table, it.level - 1)", "    m.store(SP_LEVEL, table, it.level)"),),
        "nx-recovery-fault", ASSERTION,
    ),
    Mutation(
        "a huge page is rebuilt from the first leaf that there is, as if it were the first of all",
        (("mmu/make_spte.py", "    pages = kvm.round(kvm.pfn(small), level)\n", "    pages = kvm.pfn(small)\n"),),
        "recover-second-page", OTHER_IN_REACH,
    ),
    Mutation(
        "a fault without the lock marks its page dirty before it exchanges the entry",
        (("mmu/fast_fault.py",
          "        found = m.cmpxchg(it.sptep, old, new)\n        if found == old:\n"
            "            if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(new) and not is_writable(old):\n"
            "                mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n",
          "        if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(new) and not is_writable(old):\n"
            "            mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n"
            "        found = m.cmpxchg(it.sptep, old, new)\n        if found == old:\n"),),
        "fast-fault-get", LOST,
    ),
    Mutation(
        "bits of a log are cleared after its pages were protected",
        (("mmu/dirty_log.py",
          "            mask = m.fetch_clear(DIRTY, word_of(slot, offset), -1)\n            flush = True\n"
            "            enable_log_dirty_pt_masked(kvm, slot, offset, mask)\n",
          "            flush = True\n            enable_log_dirty_pt_masked(kvm, slot, offset, mask)\n"
            "            m.fetch_clear(DIRTY, word_of(slot, offset), -1)\n"),),
        "log-get", LOST,
    ),
    Mutation(
        "flags of a slot are published after its pages were protected",
        (("mmu/memory_region.py",
          "        reflag_slot(kvm, slot, flags)\n        slot_apply_flags(kvm, slot, logged, True)\n",
          "        slot_apply_flags(kvm, slot, logged, True)\n        reflag_slot(kvm, slot, flags)\n"),),
        "log-on", LOST,
    ),
    Mutation(
        "nobody waits for those who see a slot without its new flags",
        (("mmu/memory_region.py",
          "    m.store(INVALIDATIONS, 0, 0)\n    m.synchronize_srcu()\n",
          "    m.store(INVALIDATIONS, 0, 0)\n"),),
        "log-on-aged", LOST,
    ),
    Mutation(
        "huge pages that are left are not protected when bits of their pages are cleared",
        (("mmu/dirty_log.py", "            slot_gfn_write_protect(kvm, slot, first, 2)\n", "            pass\n"),),
        "log-clear-lazy", LOST,
    ),
    Mutation(
        "the tables below one that was cut off are said to be one level higher",
        (("mmu/change.py",
          "        handle_removed_pt(kvm, batch, kvm.pfn(old), gfn, level - 1, shared)",
          "        handle_removed_pt(kvm, batch, kvm.pfn(old), gfn, level, shared)"),),
        "collapse-yield-fault", ASSERTION,
    ),
    Mutation(
        "a new table does not say which entry points to it",
        (("mmu/link.py", "    m.store(SP_PARENT, table, it.sptep)\n", ""),),
        "nx-recovery-fault", ASSERTION,
    ),
    Mutation(
        "a table is put on the list for NX recovery before it is linked, and stays if it is not",
        (("mmu/link.py",
          "    if not shared:\n        set_spte(",
          "    if track and not kvm.behaviour.lists_tables:\n        track_table(kvm, table)\n"
            "    if not shared:\n        set_spte("),
         ("mmu/link.py", "    elif track:\n        track_table(kvm, table)\n", ""),),
        "nx-split-faults", USED,
    ),
    Mutation(
        "a table that is zapped stays on the list for NX recovery",
        (("mmu/table_lists.py",
          "    elif kvm.nx_huge_pages:\n        untrack(kvm, table, shared)\n",
          "    elif False:\n        untrack(kvm, table, shared)\n"),),
        "age-nx-recovery-reuse", USED,
    ),
    Mutation(
        "a table that was zapped before it was listed does not say so",
        (("mmu/table_lists.py",
          "        kvm.m.store(SP_NX_REFUSED, table, 0)\n    tracked", "        pass\n    tracked"),),
        "nx-split-collapse", USED,
    ),
    Mutation(
        "NX recovery takes a table without the pages lock, with mmu_lock held for read",
        (("mmu/table_lists.py",
          "    m.pages_lock()\n    table = m.list_next(NX_TABLES, NO_TABLE)\n    if table != NO_TABLE:\n"
            "        untrack_locked(kvm, table)\n    m.pages_unlock()\n",
          "    table = m.list_next(NX_TABLES, NO_TABLE)\n    if table != NO_TABLE:\n"
            "        untrack_locked(kvm, table)\n"),),
        "nx-recovery-write-protect", ASSERTION, behaviour="6.18",
    ),
    Mutation(
        "NX recovery gives way with a table in its hands",
        (("mmu/huge_pages.py",
          "        if kvm.behaviour.nx_keeps_logged and is_in",
          "        if m.need_resched():\n            kvm.policy.leave_to_yield(kvm, batch)\n"
            "            batch.flush = False\n            unlock(kvm, kvm.behaviour.nx_shared)\n"
            "            lock(kvm, kvm.behaviour.nx_shared)\n            m.rcu_read_lock()\n"
            "        if kvm.behaviour.nx_keeps_logged and is_in"),),
        "nx-recovery-collapse", USED,
    ),
    Mutation(
        "entries of a ring that the user has not read are taken back",
        (("mmu/dirty_log.py",
          "        if entry & HARVESTED == 0:\n            break\n",
          "        if entry == 0:\n            break\n"),),
        "ring-reset", LOST,
    ),
    Mutation(
        "a vCPU whose ring is full goes on",
        (("mmu/dirty_ring.py",
          "    kvm.m.fetch_or(VCPU_REQUESTS, vcpu, DIRTY_RING_SOFT_FULL)\n    return True\n",
          "    return False\n"),),
        "ring-reused", ASSERTION,
    ),
    Mutation(
        "one entry of a ring that is given back is not flushed for",
        (("mmu/dirty_log.py",
          "    if cleared > 0:\n        flush_remote_tlbs(kvm)\n",
          "    if cleared > 1:\n        flush_remote_tlbs(kvm)\n"),),
        "ring-reset", LOST,
    ),
    Mutation(
        "a fault maps what the host may only read as writable",
        (("mmu/fault.py", "        fault.writable = writable != 0\n", "        fault.writable = True\n"),),
        "unmap-read-only", WRITABLE,
    ),
    Mutation(
        "a fault maps a read-only slot as writable",
        (("mmu/fault.py",
          "    if fault.flags & READONLY == 0:\n        writable = m.load",
          "    if True:\n        writable = m.load"),),
        "slot-readonly", WRITABLE,
    ),
    Mutation(
        "a fault does not see that its slot is going",
        (("mmu/fault.py", "    if fault.flags & SLOT_INVALID != 0:\n        return RETRY\n", ""),),
        "slot-alone-notifier", MAPPED,
    ),
    Mutation(
        "an invalidation ends that has not begun",
        (("mmu/notifier.py",
          "        invalidate_begin(kvm, start, end)\n    flush = zap_range",
          "        pass\n    flush = zap_range"),),
        "zap-range-leafs", ASSERTION,
    ),
    Mutation(
        "a huge page that is rebuilt is writable",
        (("mmu/make_spte.py",
          "    huge = (small & ~kvm.frame) | LARGE",
          "    huge = WRITABLE | (small & ~kvm.frame) | LARGE"),),
        "recover-read-only", ASSERTION, behaviour="6.13",
    ),
    Mutation(
        "the parts of a huge page that is split are writable",
        (("mmu/make_spte.py", "    return small_spte(huge, level,", "    return WRITABLE | small_spte(huge, level,"),),
        "split-fault-deep", LOST,
    ),
    Mutation(
        "ageing writes over what a fault without the lock has set",
        (("mmu/aging.py",
          "        old = write_spte(kvm, it.sptep, it.old_spte, new, it.level)\n",
          "        old = it.old_spte\n        kvm.m.write(it.sptep, new)\n"),),
        "age-tracked-notifier", OVERWRITTEN,
    ),
    Mutation(
        "entries of a table that was cut off are read and then written",
        (("mmu/change.py",
          "            old = take_over(kvm, sptep)\n",
          "            old = m.read(sptep)\n            m.write(sptep, kvm.frozen)\n"),),
        "collapse-yield-fault", DOUBLE_FREE,
    ),
)  # fmt: skip
"""Each with the test that refutes it."""

HARMLESS = (
    Mutation(
        "two vCPUs that look for a root at once may each make one",
        (("mmu/roots.py",
          "        root = find_root(kvm, role)\n        if root == NO_TABLE:\n            root = m.alloc",
          "        if root == NO_TABLE:\n            root = m.alloc"),),
        "slot-delete-both", 0,
    ),
    Mutation(
        "the MMU's reference to a root is put before it is zapped, by a walk that has one of its own",
        (("mmu/zap.py",
          "            zap_root(kvm, root, True)\n            put_root(kvm, root)\n"
            "        root = next_root(kvm, root, ANY_AS, False)",
          "            put_root(kvm, root)\n            zap_root(kvm, root, True)\n"
            "        root = next_root(kvm, root, ANY_AS, False)"),),
        "zap-all-fast", 0,
    ),
    Mutation(
        "a walk over roots puts the last one in the section in which it looks for the next",
        (("mmu/roots.py",
          "        m.rcu_read_lock()\n        found = m.list_next(ROOTS, root)\n",
          "        m.rcu_read_lock()\n        if root != NO_TABLE:\n            put_root(kvm, root)\n"
            "        found = m.list_next(ROOTS, root)\n"),
         ("mmu/roots.py",
          "        m.rcu_read_unlock()\n        if root != NO_TABLE:\n            put_root(kvm, root)\n",
          "        m.rcu_read_unlock()\n"),),
        "slot-delete-both", 0,
    ),
    Mutation(
        "the sequence moves on with the last of several notifiers, until which all their ranges wait",
        (("mmu/notifier.py",
          "    m.fetch_add(INVALIDATE_SEQ, 0, 1)\n    running = m.load(INVALIDATE_IN_PROGRESS, 0)\n",
          "    running = m.load(INVALIDATE_IN_PROGRESS, 0)\n    if running == 1:\n"
            "        m.fetch_add(INVALIDATE_SEQ, 0, 1)\n"),),
        "two-ranges", 0,
    ),
    Mutation(
        "a fault that lost its race goes on, into what is there when it looks again",
        (("mmu/fault.py",
          "    m.free_table(table)\n    return False\n",
          "    m.free_table(table)\n    return True\n"),),
        "nx-split-faults", 0,
    ),
    Mutation(
        "a vCPU flushes before it takes the request, outside of the guest, where nothing is cached meanwhile",
        (("mmu/vcpu.py",
          "    if requests & TLB_FLUSH != 0:\n        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)\n"
            "        m.flush_tlb(vcpu)\n",
          "    if requests & TLB_FLUSH != 0:\n        m.flush_tlb(vcpu)\n"
            "        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)\n"),),
        "two-notifiers", 0,
    ),
    Mutation(
        "a vCPU drops invalid roots before it takes the request, and has none of those that become invalid meanwhile",
        (("mmu/vcpu.py",
          "        m.fetch_clear(VCPU_REQUESTS, vcpu, FREE_OBSOLETE_ROOTS)\n"
            "        free_obsolete_roots(kvm, vcpu)\n",
          "        free_obsolete_roots(kvm, vcpu)\n"
            "        m.fetch_clear(VCPU_REQUESTS, vcpu, FREE_OBSOLETE_ROOTS)\n"),),
        "slot-delete-both", 0,
    ),
    Mutation(
        "walks give way only where they owe a flush",
        (("mmu/resched.py",
          "    if not kvm.m.need_resched():\n        return False\n",
          "    if not batch.flush or not kvm.m.need_resched():\n        return False\n"),),
        "unmap-yield-leafs", 0,
    ),
    Mutation(
        "the index of a ring moves before the entry is there, which is all that its user looks at",
        (("mmu/dirty_ring.py",
          "    m.store(RING_ENTRY, entry_of(kvm, vcpu, index), PUSHED | slot << 32 | offset)\n"
            "    m.store(RING_PUSHED, vcpu, index + 1)\n",
          "    m.store(RING_PUSHED, vcpu, index + 1)\n"
            "    m.store(RING_ENTRY, entry_of(kvm, vcpu, index), PUSHED | slot << 32 | offset)\n"),),
        "ring-reused", 0,
    ),
    Mutation(
        "pages are protected whose bits were not set",
        (("mmu/dirty_log.py",
          "                enable_log_dirty_pt_masked(kvm, slot, offset, was & masks[i])\n",
          "                enable_log_dirty_pt_masked(kvm, slot, offset, masks[i])\n"),),
        "log-clear", 0,
    ),
    Mutation(
        "an entry is free before its flush, while mmu_lock keeps its page what it is",
        (("mmu/change.py",
          "        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))\n"
            "        m.write(it.sptep, kvm.empty)\n        handle",
          "        m.write(it.sptep, kvm.empty)\n"
            "        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))\n        handle"),),
        "collapse-and-notifier", 0,
    ),
    Mutation(
        "slots_lock is dropped before the flush of a log, whose user is told after it",
        (("mmu/dirty_log.py",
          "        words[offset >> 6] = mask\n        offset += 64\n    if not manual:\n"
            "        m.write_unlock()\n    if flush:\n        flush_remote_tlbs_range(kvm, base, pages)\n"
            "    m.slots_unlock()\n",
          "        words[offset >> 6] = mask\n        offset += 64\n    if not manual:\n"
            "        m.write_unlock()\n    m.slots_unlock()\n    if flush:\n"
            "        flush_remote_tlbs_range(kvm, base, pages)\n"),),
        "log-two", 0,
    ),
    Mutation(
        "a page is marked dirty after it is mapped, and before the lock is dropped",
        (("mmu/fault.py",
          "    if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(spte):\n"
            "        # Before the guest can write. That the entry may not get there does no harm.\n"
            "        mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n    result: i64 = SPURIOUS\n"
            "    if spte != old:\n        if not set_spte_atomic(kvm, batch, it, spte):\n"
            "            return RETRY\n",
          "    result: i64 = SPURIOUS\n    if spte != old:\n"
            "        if not set_spte_atomic(kvm, batch, it, spte):\n            return RETRY\n"
            "        if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(spte):\n"
            "            mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n"),),
        "log-get", 0,
    ),
    Mutation(
        "a huge page is made of a frozen entry, and never gets into a table that is still linked",
        (("mmu/huge_pages.py",
          "        if is_leaf(below.old_spte, below.level):\n            return",
          "        if below.old_spte != kvm.empty:\n            return"),),
        "collapse-promote", 0, behaviour="6.13",
    ),
    Mutation(
        "NX recovery zaps whatever took its table's place",
        (("mmu/huge_pages.py",
          "        if not is_table(old, level) or kvm.pfn(old) != table:\n            return\n"
            "        found",
          "        if old & PRESENT == 0:\n            return\n        found"),),
        "nx-recovery-write-protect", 0, behaviour="6.18",
    ),
    Mutation(
        "a walk steps into a table that its entry pointed to before, where all is frozen",
        (("mmu/iter.py",
          "        self.old_spte = self.kvm.m.read(self.sptep)\n"
            "        if not is_table(self.old_spte, self.level):",
          "        if not is_table(self.old_spte, self.level):"),),
        "collapse-and-notifier", 0,
    ),
    Mutation(
        "the count of invalidations falls before the sequence moves, with mmu_lock held for write",
        (("mmu/notifier.py", "    m.fetch_add(INVALIDATE_SEQ, 0, 1)\n    running", "    running"),
         ("mmu/notifier.py",
          "    m.store(INVALIDATE_IN_PROGRESS, 0, running - 1)\n",
          "    m.store(INVALIDATE_IN_PROGRESS, 0, running - 1)\n    m.fetch_add(INVALIDATE_SEQ, 0, 1)\n"),),
        "two-notifiers", 0,
    ),
    Mutation(
        "a root is no longer scheduled after it is zapped and not before, under slots_lock",
        (("mmu/zap.py",
          "            m.store(ROOT_SCHEDULED, root, 0)\n            zap_root(kvm, root, True)\n",
          "            zap_root(kvm, root, True)\n            m.store(ROOT_SCHEDULED, root, 0)\n"),),
        "slot-delete-both", 0,
    ),
    Mutation(
        "a table that was cut off is queued before its entries are frozen, in the section of who cut it off",
        (("mmu/change.py",
          "    m.count(TABLES, 0, -1)\n    unlist(kvm, table, shared)\n    sptep = table << kvm.bits\n",
          "    m.count(TABLES, 0, -1)\n    unlist(kvm, table, shared)\n"
            "    kvm.policy.table_removed(kvm, batch, table, gfn, level, shared)\n"
            "    sptep = table << kvm.bits\n"),
         ("mmu/change.py",
          "        sptep += 1\n        gfn += pages\n"
            "    kvm.policy.table_removed(kvm, batch, table, first, level, shared)\n",
          "        sptep += 1\n        gfn += pages\n"),),
        "nested-collapses", 0,
    ),
    Mutation(
        "interrupts are sent and waited for one by one, which takes longer",
        (("mmu/requests.py",
          "        m.send_ipi(kicked[i])\n        i += 1\n    i = 0\n    while i < len(kicked):\n"
            "        m.wait_ipi(kicked[i])\n        i += 1\n",
          "        m.send_ipi(kicked[i])\n        m.wait_ipi(kicked[i])\n        i += 1\n"),),
        "two-roots-leafs", 0,
    ),
    Mutation(
        "who loads a root, behind a flush of its own, takes back a request to flush",
        (("mmu/vcpu.py",
          "            return NO_FAULT\n    m.irq_disable(vcpu)\n",
          "            return NO_FAULT\n        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)\n"
            "    m.irq_disable(vcpu)\n"),),
        "load-and-fast-zap", 0,
    ),
    Mutation(
        "the mode of a vCPU that enters the guest shows before its interrupts are off",
        (("mmu/vcpu.py",
          "    m.irq_disable(vcpu)\n    m.store(VCPU_MODE, vcpu, IN_GUEST_MODE)\n",
          "    m.store(VCPU_MODE, vcpu, IN_GUEST_MODE)\n    m.irq_disable(vcpu)\n"),),
        "nx-recovery", 0,
    ),
    Mutation(
        "a slot that is deleted by itself is zapped in valid roots, while slots_lock keeps others from being left",
        (("mmu/zap.py",
          "base + pages, False, True)\n    if flush:\n        flush_remote_tlbs(kvm)\n    m.write_unlock()",
          "base + pages, True, True)\n    if flush:\n        flush_remote_tlbs(kvm)\n    m.write_unlock()"),),
        "slot-alone-notifier", 0,
    ),
)  # fmt: skip
"""Each with a test that would be the first to break."""
