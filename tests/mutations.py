"""Mutations of the MMU's sources: the bug that each plants, and the litmus test that must refute it."""

from __future__ import annotations

from dataclasses import dataclass

from shootdown.check import steps

Change = tuple[str, str, str]
"""File, text that must stand there once, and what takes its place."""


@dataclass(frozen=True)
class Mutation:
    """A planted bug.

    site     flush site or rule that it breaks (F1 ... as in docs/model.md, or a few words)
    changes  to the sources
    test     that refutes it, under ``policy`` and ``behaviour``; ``full``: only its full geometry does
    breaks   the property that breaks first (steps.py); 0: nothing does, the change is harmless and must hold
    """

    site: str
    changes: tuple[Change, ...]
    test: str
    breaks: int
    policy: str = "rcu"
    behaviour: str = ""
    full: bool = False


FLUSH_62 = """            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
        m.write(it.sptep, kvm.empty)
        handle_changed_spte("""
FLUSH_61 = """        if not set_spte_atomic(kvm, batch, it, kvm.frozen):
            return False
        flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))
"""
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
FREED, REVOKED, STALE, ASSERTION, LEAK = (
    steps.FREED_IN_REACH, steps.REVOKED_IN_REACH, steps.STALE, steps.ASSERTION, steps.LEAK,
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
        (("mmu/policies/rcu.py", "        if replaced:\n            flush_remote_tlbs(kvm)\n", ""),),
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
        (("mmu/policies/rcu.py", 'Source: 13e2e4f62a4b."""\n        flush_owed(kvm, batch)\n', 'None."""\n'),),
        "collapse-promote", FREED, policy="promote", behaviour="6.13",
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
        (("mmu/fault.py", "return m.load(INVALIDATE_SEQ, 0) != seq", "return False"),), "unmap-leafs", REVOKED,
        behaviour="6.1",  # with one vCPU, the check ahead of the lock that later kernels have suffices
    ),
    Mutation(
        "faults retried during an invalidation",
        (("mmu/fault.py", "    if m.load(INVALIDATE_IN_PROGRESS, 0) != 0:", "    if False:"),),
        "unmap-leafs", REVOKED,
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
        "unmap-leafs", REVOKED,
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
