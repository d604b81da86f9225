"""A protocol for both checkers: two vCPUs that map gfn 0 for ever, and a task that zaps the root's two entries.

``twin.pml`` is the same in Promela, access by access. The MMU's own code would do, but has more than a hand-written
model: this is as much of it as a model shows. Entries live in tables of two, table 0 is the root, table 1 maps gfn 0.

Policies: ``eager`` freezes the root's entry, flushes, clears it, then lets the table go. ``rcu`` clears it, lets the
table go, and flushes at the end and before it gives way. ``broken`` is ``rcu`` with the last flush after
rcu_read_unlock(), ``noyieldflush`` is ``rcu`` without the flush before it gives way.
"""

from __future__ import annotations

from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Program, Setting
from shootdown.machine import words
from shootdown.machine.interface import Bug

POLICIES = ("eager", "rcu", "broken", "noyieldflush")
REFUTED = ("broken", "noyieldflush")

EMPTY, FROZEN = 0, 0x5A0
PRESENT, LARGE = 0x803, 0x80
"""Bit 11 is KVM's own; the lowest two are what the CPU goes by."""
HOST_PFN = 64
LEAF = HOST_PFN << 12 | LARGE | PRESENT
VCPUS = 2


def is_table(spte: int) -> bool:
    """Does an entry point to a table?"""
    return spte & PRESENT != 0 and not spte & LARGE


def vcpu(m: CheckedMachine, v: int) -> None:
    """One round of a vCPU: enter the guest, and serve its fault if it left by one."""
    gfn = enter(m, v)
    if gfn >= 0:
        fault(m)


def enter(m: CheckedMachine, v: int) -> int:
    """vcpu_enter_guest: the gfn of the fault that ended guest mode, -1 for none."""
    requests = m.fetch_clear(words.VCPU_REQUESTS, v, words.TLB_FLUSH)
    if requests:
        m.flush_tlb(v)
    m.irq_disable(v)
    m.store(words.VCPU_MODE, v, words.IN_GUEST_MODE)
    gfn = -1
    requests = m.load(words.VCPU_REQUESTS, v)
    if not requests:
        mode = m.load(words.VCPU_MODE, v)
        if mode != words.EXITING_GUEST_MODE:
            gfn = m.enter_guest(v)
    m.store(words.VCPU_MODE, v, words.OUTSIDE_GUEST_MODE)
    m.irq_enable(v)
    return gfn


def fault(m: CheckedMachine) -> None:
    """kvm_tdp_mmu_map for gfn 0."""
    m.read_lock()
    m.rcu_read_lock()
    table = table_below(m)
    if table >= 0:
        old = m.read(table * 2)
        if old == EMPTY:
            m.cmpxchg(table * 2, EMPTY, LEAF)
    m.rcu_read_unlock()
    m.read_unlock()


def table_below(m: CheckedMachine) -> int:
    """The table under the root's first entry, linked if it was missing; -1: try again."""
    old = m.read(0)
    if old == FROZEN:
        return -1
    if old != EMPTY:
        return old >> 12
    table = m.alloc_table(EMPTY)
    if table < 0:
        return -1
    old = m.cmpxchg(0, EMPTY, table << 12 | PRESENT)
    if old != EMPTY:
        m.free_table(table)
        return -1
    return table


def flush(m: CheckedMachine) -> None:
    """kvm_flush_remote_tlbs: request, interrupt those in guest mode, and wait until they have left it."""
    kicked = 0
    v = 0
    while v < VCPUS:
        m.fetch_or(words.VCPU_REQUESTS, v, words.TLB_FLUSH)
        mode = m.exchange(words.VCPU_MODE, v, words.IN_GUEST_MODE, words.EXITING_GUEST_MODE)
        if mode != words.OUTSIDE_GUEST_MODE:
            kicked |= 1 << v
        v += 1
    v = 0
    while v < VCPUS:
        if kicked >> v & 1:
            m.send_ipi(v)
        v += 1
    v = 0
    while v < VCPUS:
        if kicked >> v & 1:
            m.wait_ipi(v)
        v += 1


def removed(m: CheckedMachine, table: int) -> None:
    """handle_removed_pt: nobody can use the table's entries any more, and it is freed after a grace period."""
    i = 0
    while i < 2:
        old = FROZEN
        while old == FROZEN:
            old = m.xchg(table * 2 + i, FROZEN)
        i += 1
    m.call_rcu(table)


def zap_entry(m: CheckedMachine, i: int, policy: str) -> bool:
    """Take a table out of the root; is a flush owed for it?"""
    while True:
        old = m.read(i)
        if not is_table(old):
            return False
        if policy == "eager":
            found = m.cmpxchg(i, old, FROZEN)
            if found != old:
                continue
            flush(m)
            m.write(i, EMPTY)
            removed(m, old >> 12)
            return False
        found = m.cmpxchg(i, old, EMPTY)
        if found == old:
            removed(m, old >> 12)
            return True


def zapper(m: CheckedMachine, policy: str) -> None:
    """Zap all, giving way between the root's entries or not, and promise that nothing old is left."""
    m.read_lock()
    m.rcu_read_lock()
    need = zap_entry(m, 0, policy)
    way = m.need_resched()
    if way:
        if need and policy != "noyieldflush":
            flush(m)
            need = False
        m.rcu_read_unlock()
        m.read_unlock()
        m.read_lock()
        m.rcu_read_lock()
    more = zap_entry(m, 1, policy)
    need = need or more
    if policy == "broken":
        m.rcu_read_unlock()
        if need:
            flush(m)
    else:
        if need:
            flush(m)
        m.rcu_read_unlock()
    m.read_unlock()
    m.forget(0)


def setting(policy: str) -> Setting:
    """The protocol under a policy, for ``Model``."""
    machine = CheckedMachine(1, Bug)
    programs = [Program(f"vCPU{v}", vcpu, (machine, v), True, v, ((0, 0),)) for v in range(VCPUS)]
    programs.append(Program("zapper", zapper, (machine, policy)))
    start = {0: 1 << 12 | PRESENT, 2: LEAF}
    return Setting(
        1, 2, 4, machine, {id(machine): "machine"}, programs, EMPTY, is_table, start, frozenset((0, 1)), [(0, 4)],
    )  # fmt: skip
