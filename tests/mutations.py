"""Mutations of the MMU's sources: the bug that each plants, and the litmus test that must refute it."""

from __future__ import annotations

from dataclasses import dataclass

from shootdown.check.program import steps

Change = tuple[str, str, str]
"""File, text that must stand there once, and what takes its place."""


@dataclass(frozen=True)
class Mutation:
    """A planted bug.

    site     flush site or rule that it breaks (F1 ... as in docs/model.md, or a few words)
    changes  to the sources
    test     that refutes it, under ``policy`` and ``behaviour``; ``full``: only its full geometry does
    breaks   the property that breaks first (steps.py); 0: nothing does, the change is harmless and must hold
    ranged   a flush of a range flushes no more than that
    """

    site: str
    changes: tuple[Change, ...]
    test: str
    breaks: int
    policy: str = "rcu"
    behaviour: str = ""
    full: bool = False
    ranged: bool = False


FLUSH_62 = """            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
        m.write(it.sptep, kvm.empty)
        handle_changed_spte("""
FLUSH_61 = """        if not set_spte_atomic(kvm, batch, it, kvm.frozen):
            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
"""
PROMOTED = "        if batch.flush:\n            flush_remote_tlbs_range(kvm"
REPLACED = "        if replaced:\n            flush_remote_tlbs_range(kvm, batch.first, batch.pages)\n"
FROZEN_IN_FAULT = ("mmu/fault.py", "        if it.old_spte == kvm.frozen:\n            return False\n", "")
FROZEN_IN_SETTER = (
    "mmu/change.py",
    '    if it.old_spte == kvm.frozen:\n        raise Bug("a frozen entry is changed by one who does not own it")\n',
    "",
)
REQUEST_AND_MODE = """        m.fetch_or(VCPU_REQUESTS, vcpu, request)
        mode = m.exchange(VCPU_MODE, vcpu, IN_GUEST_MODE, EXITING_GUEST_MODE)
"""
MODE_AND_REQUEST = """        mode = m.exchange(VCPU_MODE, vcpu, IN_GUEST_MODE, EXITING_GUEST_MODE)
        m.fetch_or(VCPU_REQUESTS, vcpu, request)
"""
FREED, REVOKED, STALE, ASSERTION, LEAK, DEADLOCK, MAPPED = (
    steps.FREED_IN_REACH, steps.REVOKED_IN_REACH, steps.STALE, steps.ASSERTION, steps.LEAK, steps.DEADLOCK,
    steps.STILL_MAPPED,
)  # fmt: skip

MUTATIONS = (
    Mutation(
        "F1: flush before a notifier returns",
        (("mmu/notifier.py", "    if flush:\n        flush_remote_tlbs(kvm)\n", ""),),
        "unmap-leafs", REVOKED,
    ),
    Mutation(
        "F2: flush before a yield, leaves",
        (("mmu/policies/rcu.py", 'Source: bd29677952fa."""\n        flush_owed(kvm, batch)\n', 'None."""\n'),),
        "unmap-yield-leafs", REVOKED,
    ),
    Mutation(
        "F2: flush before a yield, tables",
        (("mmu/policies/rcu.py", 'Source: bd29677952fa."""\n        flush_owed(kvm, batch)\n', 'None."""\n'),),
        "unmap-yield-tables", FREED,
    ),
    Mutation(
        "F3: flush of kvm_zap_gfn_range",
        (("mmu/notifier.py",
          "    if flush:\n        flush_remote_tlbs_range(kvm, start, end - start)\n", ""),),
        "zap-range-leafs", STALE,
    ),
    Mutation(
        "F4: flush of the atomic zap, as 6.12",
        (("mmu/change.py", FLUSH_62,
          "            return False\n        m.write(it.sptep, kvm.empty)\n        handle_changed_spte("),),
        "collapse-zap", FREED, behaviour="6.12",
    ),
    Mutation(
        "F4: flush of the atomic zap, as 6.1",
        (("mmu/change.py", FLUSH_61, FLUSH_61.rsplit("        flush", 1)[0]),),
        "collapse-zap", FREED, behaviour="6.1",
    ),
    Mutation(
        "F5: flush after a fault replaced a table",
        (("mmu/policies/rcu.py", REPLACED, ""),),
        "fault-replaces-table", FREED,
    ),
    Mutation(
        "F6: flush of NX recovery",
        (("mmu/policies/rcu.py", '``kvm_recover_nx_lpages``."""\n        flush_owed(kvm, batch)\n', '."""\n'),),
        "nx-recovery", FREED,
    ),
    Mutation(
        "F6: flush before NX recovery gives way",
        (("mmu/policies/rcu.py", 'Source: bd29677952fa."""\n        flush_owed(kvm, batch)\n', 'None."""\n'),),
        "nx-recovery-yield", FREED,
    ),
    Mutation(
        "F11: flush when a root is loaded",
        (("mmu/vcpu_roots.py", "    kvm.m.flush_tlb(vcpu)\n", ""),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "F14: request to leave invalid roots",
        (("mmu/zap.py", "    make_all_cpus_request(kvm, FREE_OBSOLETE_ROOTS)\n", ""),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "F17: flush of huge pages rebuilt in place",
        (("mmu/policies/rcu.py", PROMOTED, "        if False:\n" + PROMOTED.split("\n")[1]),),
        "collapse-promote", FREED, policy="promote", behaviour="6.13",
    ),
    Mutation(
        "F4: flush of each leaf that a collapse zaps",
        (("mmu/change.py", FLUSH_61, FLUSH_61.rsplit("        flush", 1)[0]),),
        "collapse-leaf-zap", REVOKED, policy="leaf-zap", behaviour="6.1",
    ),
    Mutation(
        "no promotion while an invalidation runs",
        (("mmu/huge_pages.py", "    if kvm.m.load(INVALIDATE_IN_PROGRESS, 0) != 0:\n        return\n", ""),),
        "collapse-promote-rfc", MAPPED, policy="promote-rfc", behaviour="6.1",
    ),
    Mutation("frozen entries respected by faults", (FROZEN_IN_FAULT,), "collapse-zap", ASSERTION),
    Mutation(
        "frozen entries respected by faults and setters",
        (FROZEN_IN_FAULT, FROZEN_IN_SETTER), "collapse-and-notifier", REVOKED,
    ),
    Mutation(
        "freeze, and not only clear, before the flush",
        (("mmu/change.py", "m.cmpxchg(it.sptep, old, kvm.frozen)", "m.cmpxchg(it.sptep, old, kvm.empty)"),),
        "collapse-and-notifier", REVOKED, behaviour="6.12",
    ),
    Mutation(
        "free through RCU",
        (("mmu/policies/rcu.py", "kvm.m.call_rcu(table)", "kvm.m.free_table(table)"),),
        "unmap-tables", FREED,
    ),
    Mutation(
        "requests looked at again after the mode was set",
        (("mmu/vcpu.py", "if not must_exit(kvm, vcpu):", "if True:"),), "nx-recovery", FREED,
    ),
    Mutation(
        "request made before the mode is looked at",
        (("mmu/requests.py", REQUEST_AND_MODE, MODE_AND_REQUEST),), "unmap-leafs", REVOKED,
    ),
    Mutation(
        "wait for interrupts to be taken",
        (("mmu/requests.py", "        m.wait_ipi(kicked[i])\n", ""),), "nx-recovery", FREED,
    ),
    Mutation(
        "invalidate and request in one critical section",
        (("mmu/zap.py", "    invalidate_all_roots(kvm)\n    make_all",
          "    invalidate_all_roots(kvm)\n    kvm.m.write_unlock()\n    kvm.m.write_lock()\n    make_all"),),
        "notifier-and-fast-zap", REVOKED, behaviour="6.12",
    ),
    Mutation(
        "faults retried after an invalidation",
        (("mmu/fault.py", "return m.load(INVALIDATE_SEQ, 0) != seq", "return False"),), "unmap-leafs", MAPPED,
        behaviour="6.1",  # with one vCPU, the check ahead of the lock that later kernels have suffices
    ),
    Mutation(
        "faults retried during an invalidation",
        (("mmu/fault.py", "    if m.load(INVALIDATE_IN_PROGRESS, 0) != 0:", "    if False:"),),
        "unmap-leafs", MAPPED,
    ),
    Mutation(
        "faults walk inside RCU",
        (("mmu/fault.py", "    kvm.m.rcu_read_lock()\n    it = TdpIter(", "    it = TdpIter("),
         ("mmu/fault.py", "    kvm.policy.end_fault(", "    kvm.m.rcu_read_lock()\n    kvm.policy.end_fault(")),
        "collapse-zap", FREED, full=True,
    ),
    Mutation(
        "walks go on to the end of their range",
        (("mmu/zap.py",
          "    while it.valid and it.gfn < end:\n        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
          "            if it.old_spte & PRESENT != 0 and is_last",
          "    while it.valid and it.gfn < end - 1:\n"
          "        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
          "            if it.old_spte & PRESENT != 0 and is_last"),),
        "unmap-leafs", MAPPED,
    ),
    Mutation(
        "entries frozen by others are taken over when a table is removed",
        (("mmu/change.py", "        if old != kvm.frozen:\n            return old\n", "        return old\n"),),
        "nested-collapses", LEAK,
    ),
    Mutation(
        "a table that could not be linked is freed",
        (("mmu/fault.py", "    m.free_table(table)\n", ""),), "nested-collapses", LEAK,
    ),
    Mutation(
        "the pages lock is taken inside mmu_lock",
        (("mmu/notifier.py",
          "        m.write_lock()\n        unmap_slots(",
          "        m.pages_lock()\n        m.write_lock()\n        m.pages_unlock()\n        unmap_slots("),),
        "notifier-and-fast-zap", DEADLOCK,
    ),
    Mutation(
        "faults are served with interrupts on",
        (("mmu/vcpu.py", "    m.store(VCPU_MODE, vcpu, OUTSIDE_GUEST_MODE)\n",
          "    if fault != NO_FAULT:\n        page_fault(kvm, vcpu, fault_gfn(fault), fault_code(fault))\n"
          "    m.store(VCPU_MODE, vcpu, OUTSIDE_GUEST_MODE)\n"),),
        "unmap-leafs", DEADLOCK, behaviour="6.1",
    ),
    Mutation(
        "nobody waits for an interrupt of its own with interrupts off",
        (("mmu/vcpu.py", "from .vcpu_roots import", "from .requests import flush_remote_tlbs\nfrom .vcpu_roots import"),
         ("mmu/vcpu.py", "        fault = m.enter_guest(vcpu)\n",
          "        fault = m.enter_guest(vcpu)\n        flush_remote_tlbs(kvm)\n")),
        "unmap-leafs", DEADLOCK,
    ),
    Mutation(
        "harmless: release the entry just before the flush, since small and huge translations agree",
        (("mmu/change.py", FLUSH_62,
          "            return False\n        m.write(it.sptep, kvm.empty)\n"
          "        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))\n        handle_changed_spte("),),
        "collapse-and-notifier", 0, behaviour="6.12",
    ),
    Mutation(
        "harmless: eager, queued before it is flushed, inside one section",
        (("mmu/policies/eager.py",
          "        flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))\n        kvm.m.call_rcu(table)\n",
          "        kvm.m.call_rcu(table)\n        flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))\n"),),
        "unmap-tables", 0, policy="eager",
    ),
    Mutation(
        "harmless: the mode is not looked at again, since requests are",
        (("mmu/vcpu.py",
          "    if m.load(VCPU_MODE, vcpu) == EXITING_GUEST_MODE:\n        return True\n", ""),),
        "unmap-leafs", 0,
    ),
)  # fmt: skip

LOST, WRITABLE, OVERWRITTEN = steps.LOST_WRITE, steps.WRITABLE_IN_REACH, steps.OVERWRITTEN

OPERATIONS = (
    Mutation(
        "eager splitting without mmu_lock",
        (("mmu/split.py", "    kvm.m.read_lock()\n    try_split", "    try_split"),
         ("mmu/split.py", "1, True)\n    kvm.m.read_unlock()\n", "1, True)\n")),
        "log-on-huge", ASSERTION,
    ),
    Mutation(
        "a table is on its lists before it is linked",
        (("mmu/link.py", "    if kvm.behaviour.lists_tables:\n        list_table(kvm, table, track)\n    elif track:\n",
          "    if track and not kvm.behaviour.lists_tables:\n"),
         ("mmu/link.py", "    entry = make_nonleaf(kvm, table)\n",
          "    if kvm.behaviour.lists_tables:\n        list_table(kvm, table, track)\n"
          "    entry = make_nonleaf(kvm, table)\n")),
        "link-and-collapse", 0, behaviour="6.1",
    ),
    Mutation(
        "F7: flush when logging is switched on",
        (("mmu/dirty_log.py",
          "start, start + pages, 1)\n    flush_remote_tlbs_range(kvm, start, pages)\n", "start, start + pages, 1)\n"),),
        "log-on", LOST,
    ),
    Mutation(
        "F8: flush when the log was read",
        (("mmu/dirty_log.py",
          "    if flush:\n        flush_remote_tlbs_range(kvm, base, pages)\n    m.slots_unlock()\n    return words\n",
          "    m.slots_unlock()\n    return words\n"),),
        "log-get", LOST,
    ),
    Mutation(
        "F8: flush when the log was cleared",
        (("mmu/dirty_log.py",
          "    m.write_unlock()\n    if flush:\n        flush_remote_tlbs_range(kvm, base, pages)\n"
          "    m.slots_unlock()\n\n",
          "    m.write_unlock()\n    m.slots_unlock()\n\n"),),
        "log-clear", LOST,
    ),
    Mutation(
        "F8: flush when the log was read, with PML",
        (("mmu/dirty_log.py",
          "    if flush:\n        flush_remote_tlbs_range(kvm, base, pages)\n    m.slots_unlock()\n    return words\n",
          "    m.slots_unlock()\n    return words\n"),),
        "pml-get", LOST,
    ),
    Mutation(
        "F8: the flush is owed for a bit that was reaped, not for an entry that changed",
        (("mmu/clear_dirty.py", "            clear_dirty_leaf(kvm, batch, it, bit)\n", "            pass\n"),),
        "log-get", LOST,
    ),
    Mutation(
        "F9: flush when a ring was reset",
        (("mmu/dirty_log.py", "    if cleared > 0:\n        flush_remote_tlbs(kvm)\n", ""),),
        "ring-reset", LOST,
    ),
    Mutation(
        "F15, legal: the invalidation in which a page is replaced has zapped it, and flushed, already",
        (("mmu/notifier.py", "        if changed:\n            flush_remote_tlbs(kvm)\n", ""),),
        "change-pte", 0, behaviour="6.1",
    ),
    Mutation(
        "F16, legal: no flush when pages were aged",
        (("mmu/notifier.py", "        if young and flush:\n            flush_remote_tlbs(kvm)\n", ""),),
        "age-notifier", 0,
    ),
    Mutation(
        "huge pages are split or protected when logging begins",
        (("mmu/dirty_log.py",
          "        slot_remove_write_access(kvm, as_id, start, start + pages, 1)\n", "        pass\n"),),
        "log-on", LOST,
    ),
    Mutation(
        "a log that began all ones protects huge pages when it is cleared",
        (("mmu/dirty_log.py", "            slot_gfn_write_protect(kvm, slot, first, 2)\n", "            pass\n"),
         ("mmu/dirty_log.py",
          "            try_split_huge_pages(kvm, as_id, first, end, 1, False)\n", "            pass\n")),
        "log-clear-huge", LOST,
    ),
    Mutation(
        "what is dirty is reaped before it is made clean",
        (("mmu/dirty_log.py",
          "            mask = m.fetch_clear(DIRTY, word_of(slot, offset), -1)\n            flush = True\n"
          "            enable_log_dirty_pt_masked(kvm, slot, offset, mask)\n",
          "            flush = True\n            enable_log_dirty_pt_masked(kvm, slot, offset, mask)\n"
          "            mask = m.fetch_clear(DIRTY, word_of(slot, offset), -1)\n"),),
        "pml-get", LOST,
    ),
    Mutation(
        "leaves that a CPU may dirty are exchanged, not overwritten",
        (("mmu/change.py", "        return kvm.m.xchg(sptep, new)\n",
          "        kvm.m.write(sptep, new)\n        return old\n"),),
        "pml-get-notifier", OVERWRITTEN,
    ),
    Mutation(
        "bits of a leaf that a fault may change are cleared by an AND",
        (("mmu/change.py", "        return kvm.m.fetch_and(sptep, ~bits)\n",
          "        kvm.m.write(sptep, old & ~bits)\n        return old\n"),),
        "age-writable", OVERWRITTEN, behaviour="6.12",
    ),
    Mutation(
        "a fault without a lock logs the write after it made the page writable",
        (("mmu/fast_fault.py", "        found = m.cmpxchg(it.sptep, old, new)\n        if found == old:\n",
          "        if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(new) and not is_writable(old):\n"
          "            mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n"
          "        found = m.cmpxchg(it.sptep, old, new)\n        if found == old:\n"),
         ("mmu/fast_fault.py",
          "            if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(new) and not is_writable(old):\n"
          "                mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n            result",
          "            result")),
        "fast-fault-get", LOST,
    ),
    Mutation(
        "a fault without a lock leaves huge pages of a logged slot alone",
        (("mmu/fast_fault.py",
          "        if level > 1 and fault.flags & LOG_DIRTY_PAGES != 0:\n            return old\n", ""),),
        "fast-fault-huge", LOST,
    ),
    Mutation(
        "a fault without a lock exchanges the very entry that it looked at",
        (("mmu/fast_fault.py", "        found = m.cmpxchg(it.sptep, old, new)\n",
          "        m.write(it.sptep, new)\n        found = old\n"),),
        "fast-fault-notifier", OVERWRITTEN,
    ),
    Mutation(
        "a fault logs the write that it makes possible",
        (("mmu/fault.py", "        mark_page_dirty(kvm, fault.slot, fault.gfn, vcpu)\n", "        pass\n"),),
        "prefetch", LOST,
    ),
    Mutation(
        "a fault looks whether its page must stay write-protected",
        (("mmu/fault.py", "    protect = fault.writable and is_tracked(kvm, it)\n", "    protect = False\n"),
         ("mmu/fault.py", "    if must_stay_protected(kvm, fault):\n", "    if False:\n")),
        "write-protect", WRITABLE,
    ),
    Mutation(
        "F22: flush where a fault takes MMU-writable away",
        (("mmu/fault.py",
          "                flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))\n", "                pass\n"),),
        "read-fault-aged", WRITABLE, behaviour="6.13",
    ),
    Mutation(
        "protection for good takes MMU-writable too",
        (("mmu/write_protect.py", "it.old_spte & ~(WRITABLE | kvm.fmt.mmu_writable)", "it.old_spte & ~WRITABLE"),),
        "write-protect-logged", WRITABLE,
    ),
    Mutation(
        "faults in a slot that is being deleted retry",
        (("mmu/memory_region.py", "SLOT_FLAGS, slot, flags | SLOT_INVALID)", "SLOT_FLAGS, slot, flags)"),),
        "slot-delete-alone", MAPPED,
    ),
    Mutation(
        "who changes slots waits for those who read them",
        (("mmu/memory_region.py", "    m.store(INVALIDATIONS, 0, 0)\n    m.synchronize_srcu()\n",
          "    m.store(INVALIDATIONS, 0, 0)\n"),),
        "slot-delete-alone", MAPPED,
    ),
    Mutation(
        "slots change while no notifier runs",
        (("mmu/memory_region.py", "        running = kvm.m.exchange(INVALIDATIONS, 0, 0, PUBLISHING)\n",
          "        running = 0\n"),
         ("mmu/memory_region.py", "    m.store(INVALIDATIONS, 0, 0)\n    m.synchronize_srcu()\n",
          "    m.synchronize_srcu()\n")),
        "slot-create-notifier", ASSERTION,
    ),
    Mutation(
        "faults in a slot that is being moved retry",
        (("mmu/memory_region.py", "SLOT_FLAGS, slot, flags | SLOT_INVALID)", "SLOT_FLAGS, slot, flags)"),),
        "slot-move-notifier", MAPPED,
    ),
    Mutation(
        "a slot that moved is valid when nobody can have seen where it was",
        (("mmu/memory_region.py", "    put_in_order(kvm, slot)\n    kvm.m.synchronize_srcu()\n",
          "    put_in_order(kvm, slot)\n"),),
        "slot-move", MAPPED,
    ),
)  # fmt: skip
"""The same for the operations on slots, logs, ages and rights."""
