"""The native machine: it remembers what was stored, links what was listed, frees when it may, and tells misuse."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shootdown.machine import tables as native_tables
from shootdown.machine import words
from shootdown.machine.interface import Bug
from shootdown.machine.native import NativeMachine
from shootdown.machine.store import FIRST_STATISTIC
from shootdown.mmu.access import WRITE, fault_of
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT
from shootdown.mmu.vcpu import vcpu_run
from shootdown.mmu.zap import zap_all_fast, zap_range

BITS = 3
ENTRIES = 1 << BITS
VALUES = st.integers(-(2**63), 2**63 - 1)
FEW_VALUES = st.sampled_from([0, 1, -1, 0x800, -(2**63), 2**63 - 1, -113])
LISTS = st.sampled_from([words.ROOTS, words.NX_TABLES])
TABLE_KINDS = range(words.SP_GFN, words.ROOT_SCHEDULED + 1)


def signed(value: int) -> int:
    """The low 64 bits, as a signed word."""
    return (value + 2**63) % 2**64 - 2**63


class AgainstModel(RuleBasedStateMachine):
    """Everything about tables, done to the machine and to plain dictionaries and lists."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = NativeMachine(2, BITS, tables_max=12)
        self.machine.write_lock()
        self.sptes: dict[int, int] = {}
        self.words: dict[tuple[int, int], int] = {}
        self.used: list[int] = []
        self.pending: list[int] = []
        self.pending_max = 0
        self.free: list[int] = []
        self.top = 1
        self.lists: dict[int, list[int]] = {words.ROOTS: [], words.NX_TABLES: []}
        # Where a table led when it was last on a list.
        self.led: dict[tuple[int, int], int] = {}
        self.depth = 0
        for empty in range(4):
            self.alloc(empty)

    def pick(self, data: st.DataObject, tables: list[int]) -> int:
        """One of the tables."""
        return data.draw(st.sampled_from(sorted(tables)))

    @rule(empty=FEW_VALUES)
    def alloc(self, empty: int) -> None:
        """A new table is the last that was freed, else the next number, and is empty."""
        table = self.machine.alloc_table(empty)
        if not self.free and self.top > 12:
            assert table == -1
            return
        if self.free:
            assert table == self.free.pop()
        else:
            assert table == self.top
            self.top += 1
        self.used.append(table)
        self.sptes.update({table << BITS | index: empty for index in range(ENTRIES)})
        self.words.update({(kind, table): 0 for kind in TABLE_KINDS})

    @rule(data=st.data(), by_rcu=st.booleans())
    def free_one(self, data: st.DataObject, by_rcu: bool) -> None:
        """A table goes back at once, or after the read section; one that is on a list cannot."""
        if len(self.used) == 1:
            return
        table = self.pick(data, self.used)
        if any(table in tables for tables in self.lists.values()):
            with pytest.raises(Bug, match="but still on the list"):
                self.machine.free_table(table)
            return
        self.used.remove(table)
        (self.machine.call_rcu if by_rcu else self.machine.free_table)(table)
        if by_rcu and self.depth:
            self.pending.append(table)
            self.pending_max = max(self.pending_max, len(self.pending))
        else:
            self.forget(table)

    def forget(self, table: int) -> None:
        """The table is free now."""
        self.free.append(table)
        for which in self.lists:
            self.led.pop((which, table), None)

    @rule()
    def enter_rcu(self) -> None:
        """One section deeper."""
        self.machine.rcu_read_lock()
        self.depth += 1

    @rule()
    def leave_rcu(self) -> None:
        """The outermost end frees what waits, in order."""
        if not self.depth:
            return
        self.machine.rcu_read_unlock()
        self.depth -= 1
        if not self.depth:
            for table in self.pending:
                self.forget(table)
            self.pending.clear()

    @rule(data=st.data(), value=FEW_VALUES | VALUES, old=FEW_VALUES, verb=st.integers(0, 4))
    def change_spte(self, data: st.DataObject, value: int, old: int, verb: int) -> None:
        """Each way to change an SPTE gives and leaves what it says."""
        sptep = self.pick(data, self.used) << BITS | data.draw(st.integers(0, ENTRIES - 1))
        before = self.sptes[sptep]
        if data.draw(st.booleans()):
            old = before
        if verb == 0:
            self.machine.write(sptep, value)
            self.sptes[sptep] = value
        elif verb == 1:
            assert self.machine.xchg(sptep, value) == before
            self.sptes[sptep] = value
        elif verb == 2:
            assert self.machine.cmpxchg(sptep, old, value) == before
            self.sptes[sptep] = value if before == old else before
        elif verb == 3:
            assert self.machine.fetch_and(sptep, value) == before
            self.sptes[sptep] = before & value
        assert self.machine.read(sptep) == self.sptes[sptep]

    @rule(data=st.data(), kind=st.sampled_from(TABLE_KINDS), value=FEW_VALUES | VALUES, verb=st.integers(0, 5))
    def change_word(self, data: st.DataObject, kind: int, value: int, verb: int) -> None:
        """Each way to change a table's word gives and leaves what it says."""
        table = self.pick(data, self.used)
        self.words[kind, table] = change(self.machine, kind, table, self.words[kind, table], value, verb)

    @rule(data=st.data(), which=LISTS, tail=st.booleans())
    def move(self, data: st.DataObject, which: int, tail: bool) -> None:
        """A table comes first or last in a list, or is taken off and still leads to what came after; each only once."""
        table = self.pick(data, self.used)
        tables = self.lists[which]
        add = self.machine.list_add_tail if tail else self.machine.list_add
        if table in tables:
            with pytest.raises(Bug, match="but is on it"):
                add(which, table)
            self.machine.list_del(which, table)
            self.led[which, table] = next(iter(tables[tables.index(table) + 1 :]), words.NO_TABLE)
            tables.remove(table)
        else:
            with pytest.raises(Bug, match="but is not on it"):
                self.machine.list_del(which, table)
            add(which, table)
            tables.insert(len(tables) if tail else 0, table)
            self.led.pop((which, table), None)

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        """All SPTEs and words of live tables, all lists, and the counts."""
        machine = self.machine
        for table in self.used + self.pending:
            for sptep in range(table << BITS, (table + 1) << BITS):
                assert machine.read(sptep) == self.sptes[sptep]
            for kind in TABLE_KINDS:
                assert machine.load(kind, table) == self.words[kind, table]
        for which, tables in self.lists.items():
            found = []
            table = machine.list_next(which, words.NO_TABLE)
            while table != words.NO_TABLE:
                found.append(table)
                table = machine.list_next(which, table)
            assert found == tables
        for (which, table), after in self.led.items():
            assert machine.list_next(which, table) == after
        assert machine.tables.used == len(self.used) + len(self.pending)
        assert machine.tables.pending == len(self.pending)
        assert machine.tables.pending_max == self.pending_max


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstModel = AgainstModel.TestCase


def change(machine: NativeMachine, kind: int, owner: int, before: int, value: int, verb: int) -> int:
    """Change a word in one of six ways, check what the machine gives, and return what the word must hold."""
    if verb == 0:
        machine.store(kind, owner, value)
        return value
    if verb == 1:
        value = signed(value) >> 2 if abs(before) < 2**62 else 0  # no sum that overflows: the two builds differ there
        assert machine.fetch_add(kind, owner, value) == before
        return before + value
    if verb == 2:
        assert machine.fetch_or(kind, owner, value) == before
        return before | value
    if verb == 3:
        assert machine.fetch_clear(kind, owner, value) == before
        return before & ~value
    if verb == 4:
        assert machine.exchange(kind, owner, before, value) == before
        return value
    assert machine.exchange(kind, owner, before ^ 1, value) == before
    return before


def locked(**arguments: int) -> NativeMachine:
    """A machine whose mmu_lock is held for write, so that every word may be touched."""
    machine = NativeMachine(**arguments)
    machine.write_lock()
    return machine


# Words


def owners_of(kind: int) -> list[int]:
    """Some owners that a kind of word has on a machine with three tables, three vCPUs and three slots."""
    if kind <= words.ROOT_SCHEDULED:
        return [1, 2, 3]
    if kind in (words.HOST_PFN, words.HOST_LEVEL, words.HOST_WRITABLE, words.DIRTY, words.RING_ENTRY):
        return [0, 7, 2**36]
    if words.SLOT_BASE <= kind <= words.SLOT_ORDER or words.RING_PUSHED <= kind <= words.VCPU_ROOT:
        return [0, 1, 2]
    return [0, 1, 5]


def test_every_word_is_its_own() -> None:
    """Each kind and owner has a word that no other one shares."""
    machine = locked(vcpus=3, slots=3)
    for _ in range(3):
        machine.alloc_table(0)
    places = [(kind, owner) for kind in range(words.KINDS) for owner in owners_of(kind)]
    for number, (kind, owner) in enumerate(places):
        machine.store(kind, owner, number + 1000)
    assert [machine.load(kind, owner) for kind, owner in places] == [number + 1000 for number in range(len(places))]


@pytest.mark.parametrize("kind", range(words.ROOT_SCHEDULED + 1, words.KINDS))
@pytest.mark.parametrize("verb", range(6))
def test_words_of_all_owners_can_be_changed_in_all_ways(kind: int, verb: int) -> None:
    """The words of the VM, its vCPUs and its host obey every operation."""
    machine = locked(vcpus=3, slots=3)
    for owner in owners_of(kind):
        value = machine.load(kind, owner)
        for other in (5, -2, 0x70):
            value = change(machine, kind, owner, value, other, verb)
            assert machine.load(kind, owner) == value


def test_words_begin_as_declared() -> None:
    """A vCPU has no root, the host maps gfn n to pfn n in writable 4K pages, all else is 0."""
    machine = locked(vcpus=2, slots=1)
    assert machine.load(words.VCPU_ROOT, 1) == words.NO_TABLE
    assert machine.load(words.HOST_PFN, 1234) == 1234
    assert machine.load(words.HOST_LEVEL, 1234) == machine.load(words.HOST_WRITABLE, 1234) == 1
    host = {words.HOST_PFN, words.HOST_LEVEL, words.HOST_WRITABLE}
    others = set(range(words.ROOT_SCHEDULED + 1, words.KINDS)) - host - {words.VCPU_ROOT}
    assert {machine.load(kind, 0) for kind in others} == {0}


def test_kinds_and_lists_have_their_names() -> None:
    """Messages call words and lists by the names that the code uses, and records have room for all that is in them."""
    assert [getattr(words, name) for name in words.KIND_NAMES] == list(range(words.KINDS))
    assert [getattr(words, name) for name in words.LIST_NAMES] == list(range(words.LISTS))
    statistics = [kind for kind, protection in words.PROTECTION.items() if protection == words.STATISTIC]
    assert statistics == list(range(FIRST_STATISTIC, words.KINDS))
    assert native_tables.TABLE_KINDS == words.ROOT_SCHEDULED + 1 == native_tables.STATE
    assert native_tables.PREVIOUS + words.LISTS == native_tables.NEXT
    assert native_tables.NEXT + words.LISTS <= 1 << native_tables.RECORD_BITS


def test_statistics_add_up() -> None:
    """Counts are told by ``load``, each for its owner."""
    machine = NativeMachine()
    for level, number in [(1, 5), (2, 7), (1, -2)]:
        machine.count(words.PAGES, level, number)
    assert [machine.load(words.PAGES, level) for level in (0, 1, 2, 5)] == [0, 3, 7, 0]


def test_inc_not_zero_leaves_zero_alone() -> None:
    """A reference is taken only where there is one."""
    machine = NativeMachine()
    root = machine.alloc_table(0)
    assert not machine.inc_not_zero(words.ROOT_COUNT, root)
    machine.store(words.ROOT_COUNT, root, 1)
    assert machine.inc_not_zero(words.ROOT_COUNT, root)
    assert machine.load(words.ROOT_COUNT, root) == 2


# Misuse, each with the text that it is told in. What leads to it comes first, the last call is the bug.

RANGE = [words.INVALIDATE_IN_PROGRESS, words.INVALIDATE_START, words.INVALIDATE_END]
WRITE_GUARDED = [*RANGE, words.INVALIDATE_SEQ]
BUGS: list[tuple[str, str]] = [
    ("write_lock read_lock", "mmu_lock is taken for read while it is held for write"),
    ("write_lock write_lock", "mmu_lock is taken for write while it is held for write"),
    ("read_lock write_lock", "mmu_lock is taken for write while it is held for read"),
    ("read_unlock", "mmu_lock is dropped for read, but is not held for read"),
    ("write_lock read_unlock", "mmu_lock is dropped for read, but is not held for read"),
    ("write_unlock", "mmu_lock is dropped for write, but is not held for write"),
    ("read_lock write_unlock", "mmu_lock is dropped for write, but is not held for write"),
    ("read_lock read_lock read_unlock write_lock", "mmu_lock is taken for write while it is held for read"),
    ("pages_lock pages_lock", "the pages lock is taken while it is held"),
    ("pages_unlock", "the pages lock is dropped, but is not held"),
    ("slots_lock slots_lock", "slots_lock is taken while it is held"),
    ("slots_unlock", "slots_lock is dropped, but is not held"),
    (
        "srcu_read_lock slots_lock",
        "slots_lock is taken inside an SRCU read section: whoever holds it may wait for that section",
    ),
    ("read_lock slots_lock", "slots_lock is taken with a spinning lock held or inside an RCU read section"),
    ("srcu_read_unlock", "an SRCU read section is left, but none was entered"),
    (
        "srcu_read_lock synchronize_srcu",
        "synchronize_srcu is called inside an SRCU read section: it would wait for ever",
    ),
    ("rcu_read_unlock", "an RCU read section is left, but none was entered"),
    ("rcu_read_lock rcu_read_unlock rcu_read_unlock", "an RCU read section is left, but none was entered"),
    ("alloc_table:0 free_table:1 free_table:1", "table 1 is freed, but is free"),
    ("free_table:1", "table 1 is freed, but was never allocated"),
    ("alloc_table:0 free_table:0", "table 0 is freed, but was never allocated"),
    ("alloc_table:0 free_table:-1", "table -1 is freed, but was never allocated"),
    ("alloc_table:0 call_rcu:1 call_rcu:1", "table 1 is freed, but is free"),
    ("alloc_table:0 rcu_read_lock call_rcu:1 call_rcu:1", "table 1 is given to call_rcu, but waits for RCU already"),
    ("alloc_table:0 rcu_read_lock call_rcu:1 free_table:1", "table 1 is freed, but waits for RCU already"),
    ("alloc_table:0 free_table:1 rcu_read_lock call_rcu:1", "table 1 is given to call_rcu, but is free"),
    ("alloc_table:0 pages_lock list_add:1:1 free_table:1", "table 1 is freed, but still on the list NX_TABLES"),
    (
        "alloc_table:0 write_lock list_add:0:1 rcu_read_lock call_rcu:1",
        "table 1 is given to call_rcu, but still on the list ROOTS",
    ),
    ("alloc_table:0 list_add:0:1", "ROOTS is changed without the pages lock or mmu_lock held for write"),
    (
        "alloc_table:0 pages_lock list_add:1:1 pages_unlock read_lock list_del:1:1",
        "NX_TABLES is changed without the pages lock or mmu_lock held for write",
    ),
    ("alloc_table:0 list_next:0:1", "table 1 is stood on in the list ROOTS, but never was on it"),
    ("list_next:2:-1", "no list has the number 2"),
    ("alloc_table:0 pages_lock list_add:-1:1", "no list has the number -1"),
    ("alloc_table:0 pages_lock free_table:1 list_add:0:1", "table 1 is added to a list, but is free"),
    (
        "alloc_table:0 pages_lock list_add:0:1 list_del:0:1 free_table:1 list_next:0:1",
        "table 1 is stood on in a list, but is free",
    ),
    (
        "alloc_table:0 pages_lock list_add:0:1 list_del:0:1 free_table:1 alloc_table:0 list_next:0:1",
        "table 1 is stood on in the list ROOTS, but never was on it",
    ),
    ("alloc_table:0 free_table:1 load:0:1", "table 1 is asked for a word, but is free"),
    ("alloc_table:0 free_table:1 store:0:1:5", "table 1 is given a word, but is free"),
    ("load:1:3", "table 3 is asked for a word, but was never allocated"),
    ("store:1:-3:0", "table -3 is given a word, but was never allocated"),
    ("read:0", "no SPTE is at 0: table 0 was never allocated"),
    ("read:-1", "no SPTE is at -1: table -1 was never allocated"),
    ("alloc_table:0 write:1024:7", "no SPTE is at 1024: table 2 was never allocated"),
    ("alloc_table:0 xchg:511:7", "no SPTE is at 511: table 0 was never allocated"),
    ("alloc_table:0 cmpxchg:1024:7:8", "no SPTE is at 1024: table 2 was never allocated"),
    ("alloc_table:0 fetch_and:1024:7", "no SPTE is at 1024: table 2 was never allocated"),
    (f"load:{words.KINDS}:0", f"no kind of word has the number {words.KINDS}"),
    ("store:-1:0:0", "no kind of word has the number -1"),
    (f"count:{words.KINDS}:0:1", f"no kind of word has the number {words.KINDS}"),
    (f"count:{words.INVALIDATE_SEQ}:0:1", "INVALIDATE_SEQ is counted, but is no statistic"),
    (f"count:{words.PAGES}:8:1", "PAGES has 8 owners from 0 on, 8 is none"),
    (f"load:{words.VCPU_MODE}:2", "VCPU_MODE has 2 owners from 0 on, 2 is none"),
    (f"load:{words.VCPU_MODE}:-1", "VCPU_MODE has 2 owners from 0 on, -1 is none"),
    ("send_ipi:2", "VCPU_MODE has 2 owners from 0 on, 2 is none"),
    ("flush_tlb:2", "there is no vCPU 2, only 2 from 0 on"),
    ("enter_guest:-1", "there is no vCPU -1, only 2 from 0 on"),
    ("irq_disable:1 send_ipi:1 wait_ipi:1", "an IPI to vCPU 1 is waited for for ever: interrupts are off there"),
    ("read_lock enter_guest:0", "vCPU 0 enters the guest with a lock held or inside an RCU read section"),
    ("pages_lock enter_guest:0", "vCPU 0 enters the guest with a lock held or inside an RCU read section"),
    ("rcu_read_lock enter_guest:1", "vCPU 1 enters the guest with a lock held or inside an RCU read section"),
    ("alloc_table:0 load:4:1", "SP_NX is read without the pages lock or mmu_lock held for write"),
    ("alloc_table:0 read_lock load:4:1", "SP_NX is read without the pages lock or mmu_lock held for write"),
    ("alloc_table:0 read_lock store:4:1:1", "SP_NX is written without the pages lock or mmu_lock held for write"),
    (
        f"alloc_table:0 read_lock store:{words.ROOT_INVALID}:1:1",
        "ROOT_INVALID is written without mmu_lock held for write",
    ),
    *[
        (f"{lock}{write}", f"{words.KIND_NAMES[kind]} is written without mmu_lock held for write")
        for lock in ("", "read_lock ", "pages_lock ")
        for kind in WRITE_GUARDED
        for write in (f"store:{kind}:0:1", f"fetch_add:{kind}:0:1", f"fetch_or:{kind}:0:1", f"exchange:{kind}:0:1:1")
    ],
]


LOCKS = ("_mmu_lock", "_pages_lock", "_slots_lock", "_rcu_depth", "_srcu_depth")
TABLES = ("top", "used", "pending", "_free", "_pending_first", "_pending_last")


def everything(machine: NativeMachine) -> list[object]:
    """All that a machine keeps: locks, words, tables with their records, entries, vCPUs."""
    tables, store, vcpus = machine.tables, machine._store, machine.vcpus
    numbers = range(1, int(tables.top))
    return [
        [getattr(machine, name) for name in LOCKS],
        [*store._words],
        [dict(words) for words in store._sparse],
        [getattr(tables, name) for name in TABLES],
        [[*tables._list_first], [*tables._list_last]],
        [[tables._word(table, word) for word in range(16)] for table in numbers],
        [machine.read(table << 9 | index) for table in numbers for index in range(512)],
        [[*vcpus._irqs_off], [*vcpus._ipi_waits], [*vcpus._interrupts], [*vcpus._flushes], [*vcpus._taken]],
    ]


@pytest.mark.parametrize(("calls", "text"), BUGS)
def test_misuse_is_a_bug_in_one_clear_line(calls: str, text: str) -> None:
    """What would hang a CPU, corrupt memory or break a word's protection raises Bug, and changes nothing."""
    machine = NativeMachine(vcpus=2)
    steps: list[tuple[Callable[..., object], list[int]]] = [
        (getattr(machine, call.partition(":")[0]), [int(number) for number in call.split(":")[1:]])
        for call in calls.split()
    ]
    for method, numbers in steps[:-1]:
        method(*numbers)
    method, numbers = steps[-1]
    before = everything(machine)
    with pytest.raises(Bug) as caught:
        method(*numbers)
    assert str(caught.value) == text
    assert everything(machine) == before


@pytest.mark.parametrize("lock", ["read_lock", "write_lock"])
def test_guarded_words_can_be_touched_with_their_lock(lock: str) -> None:
    """mmu_lock allows reads in any mode, and writes if held for write; the pages lock allows its words and lists."""
    machine = NativeMachine()
    table = machine.alloc_table(0)
    getattr(machine, lock)()
    for kind in RANGE:
        machine.load(kind, 0)
        if lock == "write_lock":
            machine.store(kind, 0, 1)
    assert machine.load(words.INVALIDATE_SEQ, 0) == 0
    if lock == "read_lock":
        machine.pages_lock()
    machine.store(words.SP_NX, table, 1)
    machine.list_add(words.NX_TABLES, table)
    assert machine.load(words.SP_NX, table) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"bits": 0}, {"bits": 15}, {"vcpus": -1}, {"tables_max": -1}, {"tables_max": 2**40}, {"resched_every": -1}],
)
def test_impossible_machines_are_refused(arguments: dict[str, int]) -> None:
    """A size that no machine can have is a ValueError."""
    with pytest.raises(ValueError, match=r"use 1 to 14 bits|may be negative"):
        NativeMachine(**arguments)


# Tables


@pytest.mark.parametrize("bits", [1, 9, 14])
def test_growth_over_many_chunks_keeps_every_word(bits: int) -> None:
    """Tables never share or lose an entry or a word, however many chunks of memory there come to be."""
    machine = NativeMachine(bits=bits)
    number = max(5 * native_tables.CHUNK_WORDS >> max(bits, native_tables.RECORD_BITS), 4)
    last = (1 << bits) - 1
    for table in range(1, number + 1):
        assert machine.alloc_table(-table) == table
        machine.write(table << bits, table)
        machine.store(words.SP_GFN, table, table * 3)
    for table in range(1, number + 1):
        assert machine.read(table << bits) == table
        assert machine.read(table << bits | last) == -table
        assert machine.load(words.SP_GFN, table) == table * 3


def test_allocation_stops_at_the_limit() -> None:
    """At the limit there is no table, until one is free again; one that waits for RCU still counts."""
    machine = NativeMachine(tables_max=2)
    assert [machine.alloc_table(0) for _ in range(4)] == [1, 2, -1, -1]
    machine.rcu_read_lock()
    machine.call_rcu(1)
    assert machine.alloc_table(0) == -1
    machine.rcu_read_unlock()
    assert [machine.alloc_table(0) for _ in range(2)] == [1, -1]
    assert NativeMachine(tables_max=0).alloc_table(0) == -1


def test_a_recycled_table_is_as_new() -> None:
    """Entries, words and lists of a table do not outlive it."""
    machine = locked()
    table = machine.alloc_table(5)
    for kind in TABLE_KINDS:
        machine.store(kind, table, 9)
    machine.write(table << 9, 9)
    machine.list_add(words.ROOTS, table)
    machine.list_del(words.ROOTS, table)
    machine.free_table(table)
    assert machine.alloc_table(6) == table
    assert {machine.load(kind, table) for kind in TABLE_KINDS} == {0}
    assert {machine.read(table << 9 | index) for index in range(512)} == {6}


OUT_OF_MEMORY = """
import resource, sys
from shootdown.machine.native import NativeMachine

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (48 << 20)
machine = NativeMachine(bits=14)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
number = 0
while machine.alloc_table(number) != -1:
    number += 1
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert number > 100, number
assert machine.tables.used == number
assert all(machine.read((table << 14) + 16383) == table - 1 for table in range(1, number + 1))
machine.free_table(7)
assert machine.alloc_table(1) == 7
assert machine.alloc_table(1) == number + 1
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's limit on memory")
def test_allocation_fails_cleanly_without_memory() -> None:
    """A host that has no memory left gives -1 and keeps every table that there is."""
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_lists_stay_linked_whatever_the_order_of_removal(order: tuple[int, ...]) -> None:
    """Tables that are taken off in any order leave the others in theirs, and lead to what came after them."""
    machine = locked()
    left = [machine.alloc_table(0) for _ in order]
    tables = list(left)
    for table in tables:
        machine.list_add_tail(words.NX_TABLES, table)
    for index in order:
        table = tables[index]
        after = next(iter(left[left.index(table) + 1 :]), words.NO_TABLE)
        left.remove(table)
        machine.list_del(words.NX_TABLES, table)
        assert machine.list_next(words.NX_TABLES, table) == after
        for before, behind in itertools.pairwise([words.NO_TABLE, *left, words.NO_TABLE]):
            assert machine.list_next(words.NX_TABLES, before) == behind
    machine.list_add(words.NX_TABLES, tables[0])
    assert machine.list_next(words.NX_TABLES, words.NO_TABLE) == tables[0]


# RCU and rescheduling


def test_tables_wait_for_the_outermost_section() -> None:
    """Sections nest; without one there is nobody to wait for."""
    machine = NativeMachine()
    tables = [machine.alloc_table(0) for _ in range(4)]
    machine.call_rcu(tables[0])
    assert (machine.tables.pending, machine.tables.pending_max, machine.tables.used) == (0, 0, 3)
    machine.rcu_read_lock()
    machine.rcu_read_lock()
    machine.call_rcu(tables[1])
    machine.call_rcu(tables[2])
    machine.rcu_read_unlock()
    assert (machine.tables.pending, machine.tables.used) == (2, 3)
    machine.rcu_read_unlock()
    assert (machine.tables.pending, machine.tables.pending_max, machine.tables.used) == (0, 2, 1)


@pytest.mark.parametrize(("every", "answers"), [(0, "......"), (1, "yyyyyy"), (3, "..y..y")])
def test_rescheduling_follows_its_policy(every: int, answers: str) -> None:
    """``need_resched`` says yes at every n-th call, or never."""
    machine = NativeMachine(resched_every=every)
    assert "".join("y" if machine.need_resched() else "." for _ in answers) == answers


# vCPUs


@pytest.mark.parametrize("mode", [words.IN_GUEST_MODE, words.EXITING_GUEST_MODE])
@pytest.mark.parametrize("irqs_off", [False, True])
def test_an_ipi_makes_a_guest_leave(mode: int, irqs_off: bool) -> None:
    """A vCPU in its guest leaves it, whatever the host's interrupt flag, and counts as interrupted."""
    machine = NativeMachine(vcpus=2)
    if irqs_off:
        machine.irq_disable(1)
    machine.store(words.VCPU_MODE, 1, mode)
    machine.send_ipi(1)
    machine.wait_ipi(1)
    assert machine.load(words.VCPU_MODE, 1) == words.OUTSIDE_GUEST_MODE
    assert [machine.vcpus.interrupts(vcpu) for vcpu in (0, 1)] == [0, 1]


def test_an_ipi_outside_the_guest_interrupts_no_guest() -> None:
    """It is taken at once, or when interrupts are on again."""
    machine = NativeMachine()
    machine.send_ipi(0)
    machine.wait_ipi(0)
    machine.irq_disable(0)
    machine.send_ipi(0)
    machine.irq_enable(0)
    machine.wait_ipi(0)
    assert machine.vcpus.interrupts(0) == 0


def test_an_ipi_that_waits_is_taken_on_entry() -> None:
    """Sent with interrupts off, it makes the guest leave before its first fault."""
    machine = NativeMachine()
    machine.vcpus.set_faults(0, [5])
    machine.irq_disable(0)
    machine.send_ipi(0)
    assert [machine.enter_guest(0) for _ in range(3)] == [-1, fault_of(5, 0), -1]
    machine.wait_ipi(0)
    assert machine.vcpus.interrupts(0) == 1


def test_guests_fault_where_they_are_told_to() -> None:
    """Each vCPU has its own queue, which can be set anew; in the end it leaves without a fault."""
    machine = NativeMachine(vcpus=2)
    machine.vcpus.set_faults(0, range(10, 13))
    machine.vcpus.set_faults(1, [7], WRITE)
    assert [machine.enter_guest(0) for _ in range(2)] == [fault_of(10, 0), fault_of(11, 0)]
    assert [machine.enter_guest(1) for _ in range(2)] == [fault_of(7, WRITE), -1]
    machine.vcpus.set_faults(0, iter([99]))
    assert [machine.enter_guest(0) for _ in range(2)] == [fault_of(99, 0), -1]


def test_flushes_are_counted_by_vcpu() -> None:
    """Nothing is cached, but who flushed how often is known."""
    machine = NativeMachine(vcpus=2)
    machine.flush_tlb(1)
    machine.flush_tlb(1)
    assert [machine.vcpus.flushes(vcpu) for vcpu in (0, 1)] == [0, 2]


# The MMU on it


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("behaviour", sorted(BEHAVIOURS))
@pytest.mark.parametrize("resched_every", [0, 1, 3])
def test_the_mmu_runs_on_it(policy: str, behaviour: str, resched_every: int) -> None:
    """Faults map, a range zap unmaps, and zapping everything gives every table back, with no lock left or misused."""
    machine = NativeMachine(vcpus=2, bits=2, resched_every=resched_every)
    kvm = Kvm(machine, NPT, BEHAVIOURS[behaviour], POLICIES[policy], 3, 2)
    gfns = list(range(0, 64, 3))
    for vcpu in (0, 1):
        machine.vcpus.set_faults(vcpu, gfns)
    for _ in gfns:
        vcpu_run(kvm, 0, 0)
    vcpu_run(kvm, 1, 0)
    assert machine.load(words.PAGES, 1) == len(gfns)
    machine.write_lock()
    zap_range(kvm, 0, 0, 32, True, True)
    machine.write_unlock()
    assert machine.load(words.PAGES, 1) == len([gfn for gfn in gfns if gfn >= 32])
    zap_all_fast(kvm)
    for vcpu in (0, 1):
        machine.vcpus.set_faults(vcpu, [])
        vcpu_run(kvm, vcpu, 0)
    assert machine.load(words.PAGES, 1) == 0
    assert machine.load(words.TABLES, 0) == 0
    assert (machine.tables.used, machine.tables.pending) == (1, 0)
    machine.write_lock()
    machine.pages_lock()
