"""Small programs, each with one defect that a reduction of the checker could hide; every explorer must find it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shootdown.check.program import steps
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Setting
from shootdown.machine import words
from shootdown.machine.interface import Bug
from tests.small import PFN, leaf, link, small, verdicts


def guest(m: CheckedMachine) -> None:
    """Run the guest once, and never flush."""
    m.irq_disable(0)
    m.enter_guest(0)
    m.irq_enable(0)


def free_1(m: CheckedMachine) -> None:
    """Hand table 1 to RCU."""
    m.call_rcu(1)


def use_of_a_field() -> Setting:
    """A field of a table that may be free by then is read."""

    def task(m: CheckedMachine) -> None:
        m.load(words.ROOT_COUNT, 1)

    return small(None, task, free_1, used=2)


def use_of_a_constant_field() -> Setting:
    """The same with a field that never changes: for one who holds nothing, the table may go at any time."""

    def task(m: CheckedMachine) -> None:
        busy = m.load(words.INVALIDATE_SEQ, 0)
        if busy == 0:
            m.load(words.SP_LEVEL, 1)

    def other(m: CheckedMachine) -> None:
        m.write_lock()
        m.store(words.INVALIDATE_SEQ, 0, 1)
        m.write_unlock()
        m.call_rcu(1)

    return small(None, task, other, used=2)


def use_of_a_link() -> Setting:
    """Somebody goes on along a list from a table that may be free by then."""

    def task(m: CheckedMachine) -> None:
        m.list_next(words.ROOTS, 1)

    return small(None, task, free_1, used=2)


def store_that_nobody_reads() -> Setting:
    """A field that is never read is written in a table that may be free by then."""

    def task(m: CheckedMachine) -> None:
        m.store(words.ROOT_SCHEDULED, 1, 1)

    return small(None, task, free_1, used=2)


def use_behind_the_own_section() -> Setting:
    """A hidden access right behind the end of the section that kept its table."""

    def task(m: CheckedMachine) -> None:
        m.read_lock()
        m.rcu_read_lock()
        m.call_rcu(1)
        m.rcu_read_unlock()
        m.load(words.SP_LEVEL, 1)
        m.read_unlock()

    return small(None, task, used=2)


def use_of_an_own_table() -> Setting:
    """A table that nobody else ever saw is used after it was handed to RCU."""

    def task(m: CheckedMachine) -> None:
        table = m.alloc_table(0)
        m.call_rcu(table)
        m.write(table << 1, 0)

    return small(None, task)


def use_that_ends_where_no_use_ends() -> Setting:
    """The state behind the use is one that was reached before without it."""

    def task(m: CheckedMachine) -> None:
        if m.need_resched():
            m.read(2)

    return small(None, task)


def free_of_a_queued_table() -> Setting:
    """A table is freed at once while it waits for a grace period."""

    def reader(m: CheckedMachine) -> None:
        m.rcu_read_lock()
        m.load(words.HOST_PFN, 0)
        m.rcu_read_unlock()

    def task(m: CheckedMachine) -> None:
        m.call_rcu(1)
        m.free_table(1)

    return small(None, reader, task, used=2)


def hidden_write_behind_a_link() -> Setting:
    """A translation is in reach for a moment, right before a write that no vCPU can see."""

    def enter(m: CheckedMachine) -> None:
        m.store(words.VCPU_MODE, 0, words.IN_GUEST_MODE)
        m.enter_guest(0)

    def task(m: CheckedMachine) -> None:
        first = m.alloc_table(0)
        second = m.alloc_table(0)
        m.write(first << 1, leaf(PFN))
        mode = m.load(words.VCPU_MODE, 0)
        if mode == words.IN_GUEST_MODE:
            m.write(0, link(first))
            m.write(second << 1, leaf(PFN + 1))
            m.write(0, 0)
            m.revoke(PFN)

    return small(enter, task)


def root_freed_under_a_vcpu() -> Setting:
    """The root that a vCPU runs on is freed."""

    def task(m: CheckedMachine) -> None:
        m.call_rcu(0)

    return small(guest, task)


def root_freed_before_the_guest_runs() -> Setting:
    """The same, while the vCPU is outside of the guest and waits for just that."""

    def late(m: CheckedMachine) -> None:
        seen = m.load(words.HOST_PFN, 0)
        if seen == 1:
            guest(m)

    def task(m: CheckedMachine) -> None:
        m.call_rcu(0)
        m.store(words.HOST_PFN, 0, 1)

    return small(late, task)


def table_freed_while_linked() -> Setting:
    """A vCPU walks into a table that was freed, and never cut off, before it entered the guest."""

    def late(m: CheckedMachine) -> None:
        seen = m.load(words.HOST_PFN, 0)
        if seen == 1:
            guest(m)

    def task(m: CheckedMachine) -> None:
        m.call_rcu(1)
        m.store(words.HOST_PFN, 0, 1)

    return small(late, task, used=2, words={0: link(1)})


def lock_never_dropped() -> Setting:
    """A task returns with mmu_lock."""

    def task(m: CheckedMachine) -> None:
        m.read_lock()

    return small(None, task)


def section_never_left() -> Setting:
    """A task returns inside its RCU section, so that nothing would ever be freed."""

    def task(m: CheckedMachine) -> None:
        m.rcu_read_lock()

    return small(None, task)


def list_read_without_a_lock() -> Setting:
    """The list for NX recovery is read with no lock."""

    def task(m: CheckedMachine) -> None:
        m.list_next(words.NX_TABLES, -1)

    return small(None, task)


def list_changed_with_mmu_lock_only() -> Setting:
    """The list of roots is changed without the pages lock, which is all that ``put_root`` takes."""

    def task(m: CheckedMachine) -> None:
        m.write_lock()
        m.list_add(words.ROOTS, 1)
        m.write_unlock()

    return small(None, task, used=2)


def two_locks_for_one_word() -> Setting:
    """The pages lock alone does not keep out a task that holds mmu_lock for write alone."""

    def task(m: CheckedMachine) -> None:
        m.pages_lock()
        old = m.load(words.SP_NX, 0)
        new = m.load(words.SP_NX, 0)
        if old != new:
            raise Bug("changed under the lock")
        m.pages_unlock()

    def other(m: CheckedMachine) -> None:
        m.write_lock()
        m.store(words.SP_NX, 0, 1)
        m.write_unlock()

    return small(None, task, other)


def take_both(m: CheckedMachine) -> None:
    """mmu_lock, and then the pages lock."""
    m.read_lock()
    m.pages_lock()
    m.pages_unlock()
    m.read_unlock()


def write(m: CheckedMachine) -> None:
    """Take mmu_lock for write and drop it."""
    m.write_lock()
    m.write_unlock()


def locks_in_two_orders() -> Setting:
    """Two tasks take two locks in opposite orders, with nothing between."""

    def task(m: CheckedMachine) -> None:
        m.pages_lock()
        m.write_lock()
        m.write_unlock()
        m.pages_unlock()

    return small(None, take_both, task)


def readers_behind_a_writer_that_waits() -> Setting:
    """Two readers, in opposite orders with the pages lock: only a writer that waits makes them wait for one another."""

    def task(m: CheckedMachine) -> None:
        m.pages_lock()
        m.read_lock()
        m.read_unlock()
        m.pages_unlock()

    return small(None, take_both, task, write)


def deadlock_beside_a_vcpu_that_runs() -> Setting:
    """Two tasks of the host wait for one another, while a vCPU goes on for ever."""
    made = small(guest, *(program.run for program in locks_in_two_orders().programs))
    made.programs[0].again = True
    return made


def interrupt_of_one_who_waits() -> Setting:
    """A vCPU waits for a lock with interrupts off, and who holds it waits for the vCPU to take an interrupt."""

    def vcpu(m: CheckedMachine) -> None:
        m.irq_disable(0)
        m.read_lock()
        m.read_unlock()
        m.irq_enable(0)

    def task(m: CheckedMachine) -> None:
        m.write_lock()
        m.send_ipi(0)
        m.wait_ipi(0)
        m.write_unlock()

    return small(vcpu, task)


def interrupt_before_the_first_access() -> Setting:
    """The same, but only if the interrupt comes after interrupts went off and before the vCPU's next access."""

    def vcpu(m: CheckedMachine) -> None:
        m.irq_disable(0)
        locked = m.load(words.HOST_PFN, 0)
        if locked:
            m.read_lock()
            m.read_unlock()
        m.irq_enable(0)

    def task(m: CheckedMachine) -> None:
        m.write_lock()
        m.send_ipi(0)
        m.store(words.HOST_PFN, 0, 1)
        m.wait_ipi(0)
        m.write_unlock()

    return small(vcpu, task)


def interrupt_of_oneself() -> Setting:
    """A vCPU's thread interrupts itself with interrupts off, and waits."""

    def vcpu(m: CheckedMachine) -> None:
        m.irq_disable(0)
        m.send_ipi(0)
        m.wait_ipi(0)
        m.irq_enable(0)

    return small(vcpu, write)


def page_mapped_again_by_a_root_of_nobody() -> Setting:
    """A page is mapped between the end of the section that unmapped it and the moment that it is given back."""

    def task(m: CheckedMachine) -> None:
        m.list_next(words.ROOTS, -1)
        m.write_lock()
        m.write(0, 0)
        m.write_unlock()
        m.revoke(PFN)

    def other(m: CheckedMachine) -> None:
        m.read_lock()
        m.write(0, leaf(PFN))
        m.read_unlock()

    return small(None, task, other, words={("list", words.ROOTS): (0,)})


DEFECTS: dict[Callable[[], Setting], int] = {
    use_of_a_field: steps.USE_AFTER_FREE,
    use_of_a_constant_field: steps.USE_AFTER_FREE,
    use_of_a_link: steps.USE_AFTER_FREE,
    store_that_nobody_reads: steps.USE_AFTER_FREE,
    use_behind_the_own_section: steps.USE_AFTER_FREE,
    use_of_an_own_table: steps.USE_AFTER_FREE,
    use_that_ends_where_no_use_ends: steps.USE_AFTER_FREE,
    free_of_a_queued_table: steps.DOUBLE_FREE,
    page_mapped_again_by_a_root_of_nobody: steps.STILL_MAPPED,
    hidden_write_behind_a_link: steps.REVOKED_IN_REACH,
    root_freed_under_a_vcpu: steps.FREED_IN_REACH,
    root_freed_before_the_guest_runs: steps.FREED_IN_REACH,
    table_freed_while_linked: steps.FREED_IN_REACH,
    lock_never_dropped: steps.ASSERTION,
    section_never_left: steps.ASSERTION,
    list_read_without_a_lock: steps.ASSERTION,
    list_changed_with_mmu_lock_only: steps.ASSERTION,
    two_locks_for_one_word: steps.ASSERTION,
    locks_in_two_orders: steps.DEADLOCK,
    readers_behind_a_writer_that_waits: steps.DEADLOCK,
    deadlock_beside_a_vcpu_that_runs: steps.DEADLOCK,
    interrupt_of_one_who_waits: steps.DEADLOCK,
    interrupt_before_the_first_access: steps.DEADLOCK,
    interrupt_of_oneself: steps.DEADLOCK,
}


@pytest.mark.parametrize("make", DEFECTS, ids=lambda make: make.__name__)
def test_every_explorer_finds_a_defect(make: Callable[[], Setting]) -> None:
    """Neither gluing nor merging nor the order in which things are looked at hides a defect."""
    found = verdicts(make)
    assert found == dict.fromkeys(found, DEFECTS[make])


def test_a_promise_is_not_blamed_for_what_another_task_has_in_hand() -> None:
    """Who forgets a range when it drops its lock need not wait for the flush of a task that takes it right after."""

    def zapper(m: CheckedMachine) -> None:
        m.write_lock()
        m.write(0, 0)
        m.flush_tlb(0)
        m.write_unlock()
        m.forget(0)

    def other(m: CheckedMachine) -> None:
        m.read_lock()
        m.write(0, leaf(PFN))
        m.read_unlock()
        m.write_lock()
        m.write(0, 0)
        m.flush_tlb(0)
        m.write_unlock()

    found = verdicts(lambda: small(guest, zapper, other))
    assert found == dict.fromkeys(found, 0)


def test_who_waits_for_one_that_goes_on_is_in_no_deadlock() -> None:
    """Locks taken in one order by all, and an interrupt that is taken in the end, are nobody's deadlock."""

    def task(m: CheckedMachine) -> None:
        m.write_lock()
        m.send_ipi(0)
        m.wait_ipi(0)
        m.pages_lock()
        m.pages_unlock()
        m.write_unlock()

    found = verdicts(lambda: small(guest, take_both, task))
    assert found == dict.fromkeys(found, 0)


def test_a_leak_is_found_by_every_explorer() -> None:
    """A table that is cut off and never freed is one that is neither free nor in use once all is at rest."""

    def again(m: CheckedMachine) -> None:
        m.list_next(words.ROOTS, -1)
        guest(m)

    def task(m: CheckedMachine) -> None:
        m.write(0, 0)
        m.flush_tlb(0)

    start = {0: link(1), ("list", words.ROOTS): (0,)}

    def setting() -> Setting:
        made = small(again, task, used=2, words=start)
        made.programs[0].again = True
        return made

    found = verdicts(setting)
    assert found == dict.fromkeys(found, steps.LEAK)
