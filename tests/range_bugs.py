"""Flushes of too small a range, each with the test that refutes it where a flush of a range flushes no more than that.

Where every flush is of all, as on bare metal, each of them is harmless: test_check_suite.py looks at that as well.
"""

from __future__ import annotations

from shootdown.check.program import steps

from .mutations import FREED, STALE, WRITABLE, Change, Mutation

WRITTEN = steps.LOST_WRITE
EAGER = "flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))"
SMALLER = EAGER.replace(" + 1", "")
ENTRY = "flush_remote_tlbs_range(kvm, it.gfn, kvm.pages(it.level))"
OF_TABLE = "flush_remote_tlbs_range(kvm, kvm.round(it.gfn, it.level + 1), kvm.pages(it.level))"
ONE_PAGE = "flush_remote_tlbs_range(kvm, it.gfn, 1)"
READ = "            return False\n        {}\n        m.write(it.sptep, kvm.empty)\n    kvm"
REMOVED = "            return False\n        {}\n        m.write(it.sptep, kvm.empty)\n        handle"
FAULT = "        if replaced:\n            flush_remote_tlbs_range(kvm, {})\n"
PROMOTED = "        if batch.flush:\n            flush_remote_tlbs_range(kvm, {})\n"
GET = "        m.write_unlock()\n    if flush:\n        flush_remote_tlbs_range(kvm, {})\n    m.slots_unlock()\n    ret"
CLEAR = "    m.write_unlock()\n    if flush:\n        flush_remote_tlbs_range(kvm, {})\n    m.slots_unlock()\n\n"


def instead(file: str, form: str, right: str, wrong: str) -> tuple[Change, ...]:
    """A flush of another range."""
    return ((f"mmu/{file}.py", form.format(right), form.format(wrong)),)


RANGES = tuple(
    Mutation(site, changes, test, breaks, policy, behaviour, ranged=True)
    for site, changes, test, breaks, policy, behaviour in (
        ("B55 564246ae7da2: a zap under the lock for read flushes one page",
         instead("change", READ, ENTRY, ONE_PAGE), "collapse-zap", FREED, "rcu", "6.1"),
        ("B55 564246ae7da2: the same where the entry is removed after the flush",
         instead("change", REMOVED, ENTRY, ONE_PAGE), "collapse-zap", FREED, "rcu", "6.12"),
        ("B55 4fa7e22ed6ed: a zap under the lock for read begins its flush at the first page of the table around",
         instead("change", READ, ENTRY, OF_TABLE), "collapse-yield-fault", FREED, "rcu", "6.1"),
        ("B55 4fa7e22ed6ed: the same where the entry is removed after the flush",
         instead("change", REMOVED, ENTRY, OF_TABLE), "collapse-yield-fault", FREED, "rcu", "6.12"),
        ("B55 976d07c25056: a fault flushes one page of the table that it replaced",
         instead("policies/rcu", FAULT, "batch.first, batch.pages", "batch.first, 1"),
         "fault-replaces-table", FREED, "rcu", "6.12"),
        ("B55: the flush of a removed table is one level too small",
         instead("policies/eager", "{}", EAGER, SMALLER), "fault-replaces-table", FREED, "eager", "5.17"),
        ("B55: the same where tables are collected, but for faults",
         instead("policies/collect", "{}", EAGER, SMALLER), "fault-replaces-table", FREED, "list", "5.17"),
        ("B08: the flush of a removed table begins at its last page",
         instead("policies/eager", "{}", EAGER, EAGER.replace("gfn,", "gfn + kvm.pages(level + 1) - 1,")),
         "fault-replaces-table", FREED, "eager", "5.17"),
        ("E20, harmless: a fault flushes more than the table that it replaced",
         instead("policies/rcu", FAULT, "batch.first, batch.pages", "0, batch.first + 2 * batch.pages"),
         "fault-replaces-table", 0, "rcu", "6.12"),
        ("E20, harmless: a fault flushes what the table mapped, and no more, where it flushed what is around it",
         instead("fault", "{}", "it.level + 1 if kvm.behaviour.wide_fault_flush else it.level", "it.level"),
         "fault-replaces-table", 0, "rcu", "6.1"),
        ("F17: the one flush of tables that became huge pages ends one page early",
         instead("policies/rcu", PROMOTED, "batch.first, batch.pages", "batch.first, batch.pages - 1"),
         "collapse-promote", FREED, "promote", "6.13"),
        ("F7: who switches logging on flushes from the second page on",
         instead("dirty_log", "{}", "tlbs_range(kvm, start, pages)", "tlbs_range(kvm, start + 1, pages - 1)"),
         "log-on-clean", WRITTEN, "rcu", "6.12"),
        ("F7: who switches logging on does not flush the last page",
         instead("dirty_log", "{}", "tlbs_range(kvm, start, pages)", "tlbs_range(kvm, start, pages - 1)"),
         "log-on-huge", WRITTEN, "rcu", "6.12"),
        ("F8: who reads a log flushes from the second page on",
         instead("dirty_log", GET, "base, pages", "base + 1, pages - 1"), "log-get-nested", WRITTEN, "rcu", "6.12"),
        ("F8: who clears a log flushes from the second page on",
         instead("dirty_log", CLEAR, "base, pages", "base + 1, pages - 1"), "log-clear", WRITTEN, "rcu", "6.12"),
        ("F3: a range zap does not flush the last page",
         instead("notifier", "{}", "kvm, start, end - start)", "kvm, start, end - start - 1)"),
         "zap-range-leafs", STALE, "rcu", "6.12"),
        ("F3: a range zap flushes from the second page on",
         instead("notifier", "{}", "kvm, start, end - start)", "kvm, start + 1, end - start - 1)"),
         "zap-range-leafs", STALE, "rcu", "6.12"),
        ("F22: a fault that takes MMU-writable away flushes from the first page of the table around on",
         instead("fault", "                {}\n", ENTRY, OF_TABLE), "read-fault-aged", WRITABLE, "rcu", "6.13"),
    )
)  # fmt: skip
