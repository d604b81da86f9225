"""Small programs about what guests may write, what is logged, slots_lock and SRCU: every explorer judges them alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shootdown.check.program import steps
from shootdown.check.program.guest import Hardware
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Setting
from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.mmu.access import FETCH, PERMISSION, WRITE, fault_of
from shootdown.mmu.spte import NPT, NX
from tests.small import PFN, leaf, link, small, verdicts

READ_ONLY, CLEAN, DIRTY = 0x21, 0x23, 0x63
"""Bits of a leaf of NPT: accessed, and read-only, writable, or writable and dirty."""
BITMAP = (words.DIRTY, 0)
PLAIN = Hardware()
TRACKED = Hardware(accessed=NPT.accessed, dirty=NPT.dirty, mmu_writable=NPT.mmu_writable)
PML = Hardware(accessed=NPT.accessed, dirty=NPT.dirty, logs=True)


def logged(guest: Any, *tasks: Any, spte: int, hardware: Hardware = TRACKED, **more: Any) -> Setting:
    """A vCPU that writes gfn 0, which ``spte`` maps; its log is bit 0 of a bitmap, and it is watched."""
    return small(
        guest, *tasks, used=2, words={0: link(1), 2: spte, **more.pop("start", {})}, faults=((0, WRITE),),
        hardware=hardware, watched=1, logs={BITMAP: {0: 1}}, **more,
    )  # fmt: skip


def guest(m: CheckedMachine) -> None:
    """Run the guest once, and log what it wanted to write."""
    m.irq_disable(0)
    fault = m.enter_guest(0)
    m.irq_enable(0)
    if fault == fault_of(0, WRITE | PERMISSION):
        m.fetch_or(words.DIRTY, 0, 1)


def flushed(m: CheckedMachine) -> None:
    """The same, behind a flush."""
    m.flush_tlb(0)
    guest(m)


def write_with_no_log() -> Setting:
    """The page stays writable, so that nobody is told of the write."""
    return logged(guest, spte=leaf(PFN, DIRTY))


def write_through_a_stale_translation() -> Setting:
    """The page is write-protected, but a vCPU goes on with what it has cached."""

    def reap(m: CheckedMachine) -> None:
        m.write(2, leaf(PFN, READ_ONLY))
        m.fetch_clear(words.DIRTY, 0, 1)
        m.harvest(1)

    return logged(guest, reap, spte=leaf(PFN, DIRTY), start={BITMAP: 1})


def log_before_the_right_is_given() -> Setting:
    """A fault logs the write first and makes the page writable after: a reap may come between."""

    def early(m: CheckedMachine) -> None:
        m.flush_tlb(0)
        m.irq_disable(0)
        fault = m.enter_guest(0)
        m.irq_enable(0)
        if fault == fault_of(0, WRITE | PERMISSION):
            m.fetch_or(words.DIRTY, 0, 1)
            m.cmpxchg(2, leaf(PFN, READ_ONLY), leaf(PFN, DIRTY))
            m.irq_disable(0)
            m.enter_guest(0)
            m.irq_enable(0)

    def reap(m: CheckedMachine) -> None:
        found = m.fetch_clear(words.DIRTY, 0, 1)
        if found == 1:
            m.cmpxchg(2, leaf(PFN, DIRTY), leaf(PFN, READ_ONLY))
            m.harvest(1)

    return logged(early, reap, spte=leaf(PFN, READ_ONLY))


def dirty_bit_that_logs_nothing() -> Setting:
    """The CPU sets D, but nobody logs that."""
    return logged(guest, spte=leaf(PFN, CLEAN))


def overwritten_while_clean() -> Setting:
    """A leaf in which the CPU may set D at any time is overwritten by a plain write."""

    def task(m: CheckedMachine) -> None:
        m.write(2, 0)

    return logged(guest, task, spte=leaf(PFN, CLEAN), hardware=PML)


def overwritten_while_a_fault_may_give_the_right() -> Setting:
    """The same, where a lock-free fault may set W."""

    def task(m: CheckedMachine) -> None:
        m.write(2, 0)

    return logged(guest, task, spte=leaf(PFN, READ_ONLY) | NPT.mmu_writable)


def cleaned_before_it_is_reaped() -> Setting:
    """With PML, D is cleared first and the log reaped after: a write in between sets D, and later ones go unseen."""

    def reap(m: CheckedMachine) -> None:
        m.fetch_and(2, ~NPT.dirty)
        m.fetch_clear(words.DIRTY, 0, 1)
        m.flush_tlb(0)
        m.harvest(1)

    return logged(flushed, reap, spte=leaf(PFN, CLEAN), hardware=PML)


def write_of_a_protected_page() -> Setting:
    """A promise that nobody writes a page, without a flush."""

    def task(m: CheckedMachine) -> None:
        m.write(2, leaf(PFN, READ_ONLY))
        m.protect(1)

    return logged(guest, task, spte=leaf(PFN, DIRTY))


def fault_for_a_right_that_memory_gives() -> Setting:
    """A CPU may fault by a translation that it has cached and that allows less than memory does."""

    def late(m: CheckedMachine) -> None:
        m.irq_disable(0)
        m.enter_guest(0)
        m.irq_enable(0)
        seen = m.read(2)
        if seen == leaf(PFN, DIRTY):
            m.irq_disable(0)
            fault = m.enter_guest(0)
            m.irq_enable(0)
            if fault == fault_of(0, WRITE | PERMISSION):
                raise Bug("found")

    def task(m: CheckedMachine) -> None:
        m.cmpxchg(2, leaf(PFN, READ_ONLY), leaf(PFN, DIRTY))

    return small(late, task, used=2, words={0: link(1), 2: leaf(PFN, READ_ONLY)}, faults=((0, WRITE),))


def fetch_that_is_refused() -> Setting:
    """A page that must not be executed faults on a fetch, and on nothing else."""

    def run(m: CheckedMachine) -> None:
        m.irq_disable(0)
        fault = m.enter_guest(0)
        m.irq_enable(0)
        if fault == fault_of(0, FETCH | PERMISSION):
            raise Bug("found")

    return small(run, used=2, words={0: link(1), 2: leaf(PFN, 3) | NX}, faults=((0, FETCH), (0, 0)))


def task_that_waits_for_itself() -> Setting:
    """Who is in an SRCU section must not wait for such sections."""

    def task(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        m.synchronize_srcu()

    return small(None, task)


def section_that_is_waited_for_too_late() -> Setting:
    """A section that begins after the wait did is not waited for."""

    def reader(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        m.load(words.HOST_PFN, 0)
        m.load(words.ROOT_COUNT, 1)
        m.srcu_read_unlock()

    def task(m: CheckedMachine) -> None:
        m.synchronize_srcu()
        m.call_rcu(1)

    return small(None, reader, task, used=2)


def slot_read_without_a_section() -> Setting:
    """A memory slot is read where it may go at any time."""

    def task(m: CheckedMachine) -> None:
        m.load(words.SLOT_FLAGS, 0)

    return small(None, task)


def slot_written_in_a_section() -> Setting:
    """A memory slot is written without slots_lock."""

    def task(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        m.store(words.SLOT_FLAGS, 0, 1)
        m.srcu_read_unlock()

    return small(None, task)


def slots_lock_inside_a_section() -> Setting:
    """slots_lock is taken in an SRCU section: its holder may wait for just that section."""

    def task(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        m.slots_lock()

    return small(None, task)


def slot_that_changes_under_a_reader() -> Setting:
    """An SRCU section does not keep writers out."""

    def reader(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        one = m.load(words.SLOT_FLAGS, 0)
        two = m.load(words.SLOT_FLAGS, 0)
        if one != two:
            raise Bug("found")
        m.srcu_read_unlock()

    def writer(m: CheckedMachine) -> None:
        m.slots_lock()
        m.store(words.SLOT_FLAGS, 0, 1)
        m.slots_unlock()

    return small(None, reader, writer)


DEFECTS: dict[Callable[[], Setting], int] = {
    write_with_no_log: steps.LOST_WRITE,
    write_through_a_stale_translation: steps.LOST_WRITE,
    log_before_the_right_is_given: steps.LOST_WRITE,
    dirty_bit_that_logs_nothing: steps.LOST_WRITE,
    cleaned_before_it_is_reaped: steps.LOST_WRITE,
    overwritten_while_clean: steps.OVERWRITTEN,
    overwritten_while_a_fault_may_give_the_right: steps.OVERWRITTEN,
    write_of_a_protected_page: steps.WRITABLE_IN_REACH,
    fault_for_a_right_that_memory_gives: steps.ASSERTION,
    fetch_that_is_refused: steps.ASSERTION,
    task_that_waits_for_itself: steps.ASSERTION,
    section_that_is_waited_for_too_late: steps.USE_AFTER_FREE,
    slot_read_without_a_section: steps.ASSERTION,
    slot_written_in_a_section: steps.ASSERTION,
    slots_lock_inside_a_section: steps.ASSERTION,
    slot_that_changes_under_a_reader: steps.ASSERTION,
}


def logged_by_the_cpu() -> Setting:
    """With PML the first write of a clean page is logged by the CPU, and a leaf may be cleaned by an exchange."""

    def reap(m: CheckedMachine) -> None:
        m.fetch_clear(words.DIRTY, 0, 1)
        m.fetch_and(2, ~NPT.dirty)
        m.flush_tlb(0)
        m.harvest(1)

    return logged(flushed, reap, spte=leaf(PFN, CLEAN), hardware=PML)


def log_after_the_right_was_given() -> Setting:
    """A fault that makes the page writable and logs the write after, and a reap that flushes, lose nothing."""

    def late(m: CheckedMachine) -> None:
        m.flush_tlb(0)
        m.irq_disable(0)
        fault = m.enter_guest(0)
        m.irq_enable(0)
        if fault == fault_of(0, WRITE | PERMISSION):
            m.cmpxchg(2, leaf(PFN, READ_ONLY), leaf(PFN, DIRTY))
            m.fetch_or(words.DIRTY, 0, 1)

    def reap(m: CheckedMachine) -> None:
        found = m.fetch_clear(words.DIRTY, 0, 1)
        if found == 1:
            m.cmpxchg(2, leaf(PFN, DIRTY), leaf(PFN, READ_ONLY))
            m.flush_tlb(0)
            m.harvest(1)

    return logged(late, reap, spte=leaf(PFN, READ_ONLY))


def log_that_was_given_up() -> Setting:
    """Nobody asks for writes after logging was switched off, nor before it was switched on."""

    def task(m: CheckedMachine) -> None:
        m.unwatch(1)
        m.load(words.HOST_PFN, 0)
        m.write(2, 0)
        m.flush_tlb(0)
        m.watch(1)

    return logged(guest, task, spte=leaf(PFN, DIRTY))


def section_that_is_waited_for() -> Setting:
    """What a section that was there first uses is freed after it; sections nest."""

    def reader(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        linked = m.load(words.HOST_PFN, 0)
        if linked == 0:
            m.srcu_read_lock()
            m.load(words.ROOT_COUNT, 1)
            m.srcu_read_unlock()
            m.load(words.ROOT_COUNT, 1)
        m.srcu_read_unlock()

    def task(m: CheckedMachine) -> None:
        m.slots_lock()
        m.store(words.HOST_PFN, 0, 1)
        m.synchronize_srcu()
        m.call_rcu(1)
        m.slots_unlock()

    return small(None, reader, task, used=2)


def slots_under_their_lock() -> Setting:
    """Two tasks that change a slot with slots_lock held do not meet."""

    def task(m: CheckedMachine) -> None:
        m.slots_lock()
        old = m.load(words.SLOT_FLAGS, 0)
        m.store(words.SLOT_FLAGS, 0, old + 1)
        new = m.load(words.SLOT_FLAGS, 0)
        if new != old + 1:
            raise Bug("changed under the lock")
        m.slots_unlock()

    return small(None, task, task)


def ring_that_logs() -> Setting:
    """A write whose page stands in a ring between what was reset and what was pushed is logged."""

    def push(m: CheckedMachine) -> None:
        m.irq_disable(0)
        fault = m.enter_guest(0)
        m.irq_enable(0)
        if fault == fault_of(0, WRITE | PERMISSION):
            pushed = m.load(words.RING_PUSHED, 0)
            m.store(words.RING_ENTRY, pushed % 2, 5)
            m.store(words.RING_PUSHED, 0, pushed + 1)
            m.cmpxchg(2, leaf(PFN, READ_ONLY), leaf(PFN, DIRTY))
            m.irq_disable(0)
            m.enter_guest(0)
            m.irq_enable(0)

    return logged(push, spte=leaf(PFN, READ_ONLY), ring_entries=2, rings={5: 0})


FINE = (
    logged_by_the_cpu,
    log_after_the_right_was_given,
    log_that_was_given_up,
    section_that_is_waited_for,
    slots_under_their_lock,
    ring_that_logs,
)


@pytest.mark.parametrize("make", DEFECTS, ids=lambda make: make.__name__)
def test_every_explorer_finds_a_defect(make: Callable[[], Setting]) -> None:
    """What breaks is found with movers and without, merged or not, by the slow explorer, and by single fills."""
    found = verdicts(make)
    assert found == dict.fromkeys(found, DEFECTS[make])


@pytest.mark.parametrize("make", FINE, ids=lambda make: make.__name__)
def test_every_explorer_passes_what_is_right(make: Callable[[], Setting]) -> None:
    """What is right holds with every explorer."""
    found = verdicts(make)
    assert found == dict.fromkeys(found, 0)
