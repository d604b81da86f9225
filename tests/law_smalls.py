"""Small programs for tests/laws.py, each about one thing that a checker may forget; SMALL says what breaks in each."""

from __future__ import annotations

from collections.abc import Callable

from shootdown.check.program import steps
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Setting
from shootdown.machine import words
from tests.small import PFN, leaf, link, small
from tests.test_check_defects import DEFECTS, guest
from tests.test_hardware_presence import believed, executable, opened


def leaks() -> Setting:
    """A table is cut off, and never freed."""

    def task(m: CheckedMachine) -> None:
        m.write(0, 0)
        m.flush_tlb(0)

    return rounds(task, {0: link(1)}, 2)


def miscounts() -> Setting:
    """A reference to a root is taken and never given back."""

    def task(m: CheckedMachine) -> None:
        m.fetch_add(words.ROOT_COUNT, 0, 1)

    return rounds(task, {(words.ROOT_COUNT, 0): 2}, 1)


def rounds(task: Callable[[CheckedMachine], None], start: dict[object, object], used: int) -> Setting:
    """A task beside a vCPU that runs its guest again and again."""

    def again(m: CheckedMachine) -> None:
        m.list_next(words.ROOTS, -1)
        guest(m)

    found = small(again, task, used=used, words={("list", words.ROOTS): (0,), **start})
    found.programs[0].again = True
    return found


def freed_and_used_again() -> Setting:
    """A table that a vCPU may walk into is freed and given out again before the vCPU's next step."""

    def task(m: CheckedMachine) -> None:
        m.free_table(1)
        m.alloc_table(0)

    return small(guest, task, used=2, words={0: link(1), 2: leaf(PFN)}, tables=2)


def filled_again_after_a_flush() -> Setting:
    """A vCPU that is flushed while it runs the guest may cache at once what memory gives still."""

    def task(m: CheckedMachine) -> None:
        m.flush_tlb(0)
        m.write(0, 0)
        m.revoke(PFN)

    def running(m: CheckedMachine) -> None:
        m.enter_guest(0)

    return small(running, task, words={0: leaf(PFN)})


def range_elsewhere() -> Setting:
    """A page is unmapped and taken back, after a flush of the page beside it."""

    def task(m: CheckedMachine) -> None:
        m.write(0, 0)
        m.flush_range(2, 2)
        m.revoke(PFN)

    return small(guest, task, words={0: leaf(PFN)}, ranged=True)


def range_of_a_table() -> Setting:
    """A table is cut off and freed, after a flush of all that it mapped."""
    return cut_off(0, 2)


def range_within_a_table() -> Setting:
    """The same after a flush of its second page only."""
    return cut_off(1, 1)


def cut_off(first: int, pages: int) -> Setting:
    """A table of two pages, the first of which is mapped, is cut off, something is flushed, and the table freed."""

    def task(m: CheckedMachine) -> None:
        m.write(0, 0)
        m.flush_range(first, pages)
        m.free_table(1)

    return small(guest, task, used=2, words={0: link(1), 2: leaf(PFN)}, ranged=True)


def mark_outlives_a_flush_elsewhere() -> Setting:
    """A table is freed and used again while a vCPU that may walk into it is out of the guest, and others flushed."""
    return freed_out_of_the_guest(2, 2)


def mark_goes_with_its_entry() -> Setting:
    """The same, and the way to the table is flushed before the vCPU enters the guest again."""
    return freed_out_of_the_guest(0, 2)


def used_again_out_of_the_guest() -> Setting:
    """The same, and nobody flushes anything."""
    return freed_out_of_the_guest(0, 0)


def freed_out_of_the_guest(first: int, pages: int) -> Setting:
    """A vCPU is out of its guest from when its mode is 1 until it is 2; meanwhile a table goes."""

    def twice(m: CheckedMachine) -> None:
        guest(m)
        m.store(words.VCPU_MODE, 0, 1)
        if m.load(words.VCPU_MODE, 0) == 2:
            m.enter_guest(0)

    def task(m: CheckedMachine) -> None:
        if m.load(words.VCPU_MODE, 0) == 1:
            m.write(0, 0)
            m.free_table(1)
            m.alloc_table(0)
            if pages != 0:
                m.flush_range(first, pages)
            m.store(words.VCPU_MODE, 0, 2)

    return small(twice, task, used=2, words={0: link(1), 2: leaf(PFN)}, tables=2, ranged=True)


def freed_right_before_a_flush() -> Setting:
    """A table is freed under a vCPU that is flushed at once, which is too late."""

    def running(m: CheckedMachine) -> None:
        m.enter_guest(0)

    def task(m: CheckedMachine) -> None:
        m.write(1, 0)
        m.rcu_read_lock()
        m.write(0, 0)
        m.call_rcu(1)
        m.rcu_read_unlock()
        m.flush_tlb(0)

    return small(running, task, used=2, words={0: link(1)})


def seen_between_a_lock_and_a_store() -> Setting:
    """Behind a lock that is dropped another task may come before the next store."""

    def task(m: CheckedMachine) -> None:
        m.write_lock()
        m.store(words.RING_ENTRY, 1, 1)
        m.write_unlock()
        m.store(words.RING_ENTRY, 2, 1)

    def other(m: CheckedMachine) -> None:
        m.write_lock()
        first = m.load(words.RING_ENTRY, 1)
        second = m.load(words.RING_ENTRY, 2)
        if first == 1 and second == 0:
            raise m.bug("between")
        m.write_unlock()

    return small(None, task, other)


def mapped_for_a_moment_in_a_table_that_is_linked() -> Setting:
    """What is written into a table that was linked is seen at once, also by whom it was made for."""

    def running(m: CheckedMachine) -> None:
        m.enter_guest(0)

    def task(m: CheckedMachine) -> None:
        table = m.alloc_table(0)
        m.write(0, link(table))
        m.write(2 * table, leaf(PFN))
        m.write(2 * table, 0)
        m.revoke(PFN)

    return small(running, task)


def update_between_sections() -> Setting:
    """A reader must not find what was stored after the wait for its section, and not what was stored before it."""

    def reader(m: CheckedMachine) -> None:
        m.srcu_read_lock()
        first = m.load(words.RING_ENTRY, 1)
        second = m.load(words.RING_ENTRY, 2)
        if first == 0 and second != 0:
            raise m.bug("the grace period ended within a section")
        m.srcu_read_unlock()

    def updater(m: CheckedMachine) -> None:
        m.store(words.RING_ENTRY, 1, 1)
        m.synchronize_srcu()
        m.store(words.RING_ENTRY, 2, 1)

    return small(None, reader, updater)


def slots_in_turn() -> Setting:
    """Who holds slots_lock is alone."""

    def task(m: CheckedMachine) -> None:
        m.slots_lock()
        m.store(words.RING_ENTRY, 1, 1)
        found = m.load(words.RING_ENTRY, 1)
        if found != 1:
            raise m.bug("somebody else was in slots_lock")
        m.store(words.RING_ENTRY, 1, 0)
        m.slots_unlock()

    return small(None, task, task)


def one_then_two(m: CheckedMachine) -> None:
    """Two stores."""
    m.store(words.RING_ENTRY, 1, 1)
    m.store(words.RING_ENTRY, 2, 1)


def read_behind_a_jump() -> Setting:
    """What a task loaded first matters only if it goes one of two ways later."""

    def task(m: CheckedMachine) -> None:
        first = m.load(words.RING_ENTRY, 1)
        second = m.load(words.RING_ENTRY, 2)
        if second == 0:
            m.load(words.RING_ENTRY, 3)
        elif first == 1:
            raise m.bug("one, then two")

    return small(None, task, one_then_two)


def kept_in_a_list() -> Setting:
    """What a task loaded first is an item of a list."""

    def task(m: CheckedMachine) -> None:
        first = m.load(words.RING_ENTRY, 1)
        found = [first]
        second = m.load(words.RING_ENTRY, 2)
        if second == 1 and found[0] == 1:
            raise m.bug("one, then two")

    return small(None, task, one_then_two)


def told_by_its_caller() -> Setting:
    """A function goes on alike wherever it was called from, and who called it does not."""

    def below(m: CheckedMachine) -> None:
        m.load(words.RING_ENTRY, 3)

    def task(m: CheckedMachine) -> None:
        first = m.load(words.RING_ENTRY, 1)
        if first == 1:
            below(m)
            raise m.bug("one")
        below(m)

    return small(None, task, one_then_two)


def lock_that_one_way_takes() -> Setting:
    """A task is over with a lock held, if it went one way before."""

    def task(m: CheckedMachine) -> None:
        first = m.load(words.RING_ENTRY, 1)
        if first == 1:
            m.pages_lock()
        m.load(words.RING_ENTRY, 2)

    return small(None, task, one_then_two)


def second_page_of_a_huge_one() -> Setting:
    """A huge page is unmapped with no flush, and its second half is the host's."""

    def task(m: CheckedMachine) -> None:
        m.write(0, 0)
        m.revoke(PFN + 1)

    return small(guest, task, words={0: leaf(PFN)})


def second_page_of_a_range() -> Setting:
    """Of a range that is forgotten, the second page is unmapped with no flush."""

    def task(m: CheckedMachine) -> None:
        m.write(3, 0)
        m.forget(0)

    return small(guest, task, used=2, words={0: link(1), 3: leaf(PFN)})


def own_stores() -> Setting:
    """A task finds what it stored, be it in its buffer still."""

    def task(m: CheckedMachine) -> None:
        m.store(words.RING_ENTRY, 1, 1)
        found = m.load(words.RING_ENTRY, 1)
        if found != 1:
            raise m.bug("not its own store")

    return small(None, task, buffers=1)


SMALL: dict[Callable[[], Setting], int] = {
    **DEFECTS, leaks: steps.LEAK, miscounts: steps.MISCOUNT, freed_and_used_again: steps.FREED_IN_REACH,
    freed_right_before_a_flush: steps.FREED_IN_REACH, seen_between_a_lock_and_a_store: steps.ASSERTION,
    mapped_for_a_moment_in_a_table_that_is_linked: steps.REVOKED_IN_REACH,
    filled_again_after_a_flush: steps.REVOKED_IN_REACH,
    second_page_of_a_huge_one: steps.REVOKED_IN_REACH, second_page_of_a_range: steps.STALE,
    range_elsewhere: steps.REVOKED_IN_REACH, range_within_a_table: steps.FREED_IN_REACH, range_of_a_table: 0,
    mark_outlives_a_flush_elsewhere: steps.FREED_IN_REACH, mark_goes_with_its_entry: 0,
    used_again_out_of_the_guest: steps.FREED_IN_REACH,
    told_by_its_caller: steps.ASSERTION,
    read_behind_a_jump: steps.ASSERTION, kept_in_a_list: steps.ASSERTION, lock_that_one_way_takes: steps.ASSERTION,
    opened: steps.UNKNOWN_IN_REACH, believed: steps.PASSES_FOR_MMIO, executable: steps.EXECUTABLE_IN_REACH,
    update_between_sections: 0, slots_in_turn: 0, own_stores: 0,
}  # fmt: skip
