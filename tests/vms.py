"""What a VM's page tables hold, as plain dictionaries; and what must be true of any VM at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shootdown.machine import words
from shootdown.machine.native import NativeMachine
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.spte import AD_DISABLED, PRESENT, WRITABLE, is_executable, is_leaf, mark_for_access_track, spte_pfn

Place = tuple[int, int]
"""Level and first gfn of an entry."""


@dataclass
class Root:
    """One root: its address space, whether it is valid, its leaves, and the table below each entry that has one."""

    as_id: int
    valid: bool
    leaves: dict[Place, int] = field(default_factory=dict)
    tables: dict[Place, int] = field(default_factory=dict)


def pages(kvm: Kvm, level: int) -> int:
    """Pages under an entry."""
    return int(1 << int(kvm.bits) * (level - 1))


def covers(kvm: Kvm, place: Place, start: int, end: int) -> bool:
    """Has an entry a page in a range?"""
    return place[1] < end and start < place[1] + pages(kvm, place[0])


def entries(machine: NativeMachine, kvm: Kvm, table: int, level: int, first: int) -> Iterator[tuple[Place, int]]:
    """All entries below a table, parents first."""
    for index in range(1 << int(kvm.bits)):
        gfn = first + index * pages(kvm, level)
        spte = machine.read(table << int(kvm.bits) | index)
        yield (level, gfn), spte
        if spte & PRESENT and not is_leaf(spte, level):
            yield from entries(machine, kvm, spte_pfn(spte), level - 1, gfn)


def listed(machine: NativeMachine, which: int) -> list[int]:
    """The tables of a list, in order."""
    found, table = [], machine.list_next(which, words.NO_TABLE)
    while table != words.NO_TABLE:
        found.append(table)
        table = machine.list_next(which, table)
    return found


def held(machine: NativeMachine, kvm: Kvm) -> dict[int, Root]:
    """All roots by number."""
    roots = {}
    for table in listed(machine, words.ROOTS):
        role = machine.load(words.SP_ROLE, table)
        root = roots[table] = Root(role & words.ROLE_SMM, machine.load(words.ROOT_INVALID, table) == 0)
        for place, spte in entries(machine, kvm, table, role >> words.ROLE_LEVEL_SHIFT, 0):
            if is_leaf(spte, place[0]):
                root.leaves[place] = spte
            elif spte & PRESENT:
                root.tables[place] = spte_pfn(spte)
    return roots


def mapped(machine: NativeMachine, kvm: Kvm) -> dict[tuple[int, Place], int]:
    """Leaves of the valid roots, by address space and place."""
    roots = held(machine, kvm).values()
    return {(root.as_id, place): spte for root in roots if root.valid for place, spte in root.leaves.items()}


def translations(kvm: Kvm, leaves: dict[tuple[int, Place], int]) -> dict[tuple[int, int], tuple[int, bool]]:
    """What each page of the guest is mapped to, and whether it may be written, however large the leaf."""
    return {
        (as_id, first + page): (spte_pfn(spte) + page, bool(spte & WRITABLE))
        for (as_id, (level, first)), spte in leaves.items()
        for page in range(pages(kvm, level))
    }


def slots_of(machine: NativeMachine, kvm: Kvm) -> dict[int, tuple[int, range, int]]:
    """Address space, pages and flags of each slot that there is."""
    found = {}
    for slot in range(kvm.slots):
        base, count = machine.load(words.SLOT_BASE, slot), machine.load(words.SLOT_PAGES, slot)
        if count:
            flags = machine.load(words.SLOT_FLAGS, slot)
            found[slot] = machine.load(words.SLOT_AS, slot), range(base, base + count), flags
    return found


def logged(machine: NativeMachine, slot: int, count: int) -> set[int]:
    """Offsets of the pages that a slot's bitmap names."""
    return {page for page in range(count) if machine.load(words.DIRTY, slot << 32 | page >> 6) >> (page & 63) & 1}


def check_at_rest(machine: NativeMachine, kvm: Kvm) -> None:
    """No lock is held; statistics, references, tables in use and fields of tables are what the page tables say."""
    machine.slots_lock()
    machine.slots_unlock()
    machine.synchronize_srcu()
    machine.write_lock()
    machine.pages_lock()
    roots = held(machine, kvm)
    leaves = [place for root in roots.values() for place in root.leaves]
    tables = {(root, place): table for root in roots for place, table in roots[root].tables.items()}
    for level in range(1, int(kvm.root_level) + 1):
        assert machine.load(words.PAGES, level) == sum(place[0] == level for place in leaves)
    assert machine.load(words.TABLES, 0) == len(tables)
    assert len(set(tables.values())) == len(tables)
    assert (machine.tables.used, machine.tables.pending) == (len(roots) + len(tables), 0)
    for (root, (level, first)), table in tables.items():
        parent = roots[root].tables.get((level + 1, first // pages(kvm, level + 1) * pages(kvm, level + 1)), root)
        index = first // pages(kvm, level) % (1 << int(kvm.bits))
        assert machine.load(words.SP_PARENT, table) == parent << int(kvm.bits) | index
        assert (machine.load(words.SP_GFN, table), machine.load(words.SP_LEVEL, table)) == (first, level - 1)
    tracked = listed(machine, words.NX_TABLES)
    assert machine.load(words.NX_SPLITS, 0) == len(tracked) and set(tracked) <= set(tables.values())
    running = [machine.load(words.VCPU_ROOT, vcpu) for vcpu in range(int(kvm.vcpus))]
    for number, its in roots.items():
        assert machine.load(words.ROOT_COUNT, number) == its.valid + running.count(number)
    machine.pages_unlock()
    machine.write_unlock()
    for its in roots.values():
        for (level, _), spte in its.leaves.items():
            check_rights(kvm, level, spte)


def check_rights(kvm: Kvm, level: int, spte: int) -> None:
    """Writable only where the MMU allows it, that only where the host does; no huge page executes under NX."""
    assert not spte & WRITABLE or spte & kvm.fmt.mmu_writable
    assert not spte & kvm.fmt.mmu_writable or spte & kvm.fmt.host_writable
    assert level == 1 or not kvm.nx_huge_pages or not is_executable(spte, kvm.fmt)


def scramble(machine: NativeMachine, kvm: Kvm, choose: Callable[[Place], int]) -> None:
    """Bring leaves into any state that they may be in; ``choose`` gives a number for each.

    Writable or not, by the host, the MMU or now, used and dirty or not; without A/D bits, access-tracked or not.
    """
    fmt = kvm.fmt
    for table, root in held(machine, kvm).items():
        top = machine.load(words.SP_ROLE, table) >> words.ROLE_LEVEL_SHIFT
        for place, spte in root.leaves.items():
            number = choose(place)
            host, mmu, now = ((1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 0, 0))[number & 3]
            spte &= ~(WRITABLE | fmt.host_writable | fmt.mmu_writable | fmt.accessed | fmt.dirty)
            spte |= WRITABLE * now | fmt.host_writable * host | fmt.mmu_writable * mmu
            spte |= (fmt.accessed if number & 4 else 0) | (fmt.dirty if number & 8 and now else 0)
            if not fmt.ad:
                spte |= AD_DISABLED
                if number & 4 == 0:
                    spte = mark_for_access_track(spte, fmt)
            machine.write(address(machine, kvm, table, top, place), spte)


def address(machine: NativeMachine, kvm: Kvm, root: int, top: int, place: Place) -> int:
    """Where the entry of a place is."""
    table = root
    for level in range(top, 0, -1):
        sptep = table << int(kvm.bits) | place[1] // pages(kvm, level) % (1 << int(kvm.bits))
        if level == place[0]:
            return sptep
        table = spte_pfn(machine.read(sptep))
    raise AssertionError(place)
