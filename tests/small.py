"""Small settings of our own for the checker, and the fast explorer's states in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shootdown.check.program import steps
from shootdown.check.program.buffers import BufferedMachine, with_buffers
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Program, Setting
from shootdown.check.reference.explorer import Reference
from shootdown.check.reference.state import State
from shootdown.check.search import layout
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.machine.interface import Bug
from shootdown.machine.words import VCPU_ROOT
from shootdown.mmu.spte import PRESENT, spte_pfn

Task = Callable[[CheckedMachine], object]

PFN = 64
"""A page of the host: pfns below are page tables."""


def leaf(pfn: int, rights: int = 3) -> int:
    """An entry that maps a page; ``rights``: bits P and W of NPT, and those of A and D."""
    return PRESENT | rights | pfn << 12


def link(table: int) -> int:
    """An entry that points to a table."""
    return PRESENT | 3 | table << 12


def is_table(raw: int) -> bool:
    """Does an entry point to a table?"""
    return bool(raw & PRESENT) and spte_pfn(raw) < PFN


def small(
    guest: Task | None, *tasks: Task, used: int = 1, words: dict[Any, Any] | None = None, tables: int = 4,
    faults: tuple[tuple[int, int], ...] = ((0, 0),), buffers: int = 0, ranged: bool = False, **more: Any,
) -> Setting:  # fmt: skip
    """A setting with two levels, perhaps a vCPU on root 0 that runs ``guest``, and tasks of the host.

    ``buffers``: entries of each task's store buffer. ``ranged``: a flush of a range leaves the rest. ``more``: further
    fields of the setting.
    """
    machine = BufferedMachine(1, Bug, depth=buffers) if buffers else CheckedMachine(1, Bug)
    machine.ranged = int(ranged)
    programs = [Program("vCPU0", guest, (machine,), False, 0, faults)] if guest else []
    programs += [Program(f"task{n}", task, (machine,)) for n, task in enumerate(tasks)]
    if isinstance(machine, BufferedMachine):
        programs = with_buffers(machine, programs)
    start = {(VCPU_ROOT, 0): 0} if guest else {}
    return Setting(
        1, 2, tables, machine, {id(machine): "machine"}, programs, 0, is_table, {**start, **(words or {})},
        frozenset(range(used)), [(0, 2)], **more,
    )  # fmt: skip


def verdicts(make: Callable[[], Setting]) -> dict[str, int]:
    """What every explorer finds broken in a setting, 0 for nothing; those that stop early fail."""
    found = {}
    for name, movers, merge in (("movers", True, True), ("none", False, True), ("unmerged", False, False)):
        result = search(Model(make(), movers, merge), 20_000)
        assert not result.stopped
        found[name] = result.broken
    for name, options in (
        ("reference", {}),
        ("reference, nothing glued", {"glue": False}),
        ("reference, explicit", {"explicit": True, "late": True, "glue": False}),
    ):
        outcome = Reference(make(), **options).explore(40_000)
        assert not outcome.stopped
        found[name] = outcome.broken
    return found


def core_states(model: Model, count: int) -> set[Any]:
    """The first states of the fast explorer, in the form of ``reference_states``."""
    p, setting = model.t.p, model.setting
    found = set()

    def members(state: int, number: int, offset: int = 0) -> frozenset[int]:
        mask = model.field(state, int(p[number]) + offset)
        return frozenset(n for n in range(mask.bit_length()) if mask >> n & 1)

    for state in range(count):
        held = []
        marks = []
        for vcpu in range(setting.vcpus):
            mask = model.field(state, int(p[layout.F_TLB]) + vcpu)
            held.append(frozenset(entry(model, n) for n in range(len(model.held)) if mask >> n & 1))
            flags = model.field(state, int(p[layout.F_FLAGS]) + vcpu)
            marks.append(flags)
        pending = set()
        for table in range(setting.tables):
            mask = model.field(state, int(p[layout.F_PENDING]) + table)
            waits = frozenset(n for n in range(len(setting.programs)) if mask >> n & 1)
            if mask >> len(setting.programs):
                pending.add((table, waits))
            else:
                assert not mask
        values = {name: model.values[n][model.field(state, n)] for n, name in enumerate(model.words)}
        found.add(
            (
                frozenset((name, raw) for name, raw in values.items() if raw != first(setting, name)),
                tuple(model.node_of(state, n) for n in range(len(setting.programs))),
                members(state, layout.F_READERS), members(state, layout.F_WRITER), members(state, layout.F_WAITING),
                members(state, layout.F_PAGES), members(state, layout.F_RCU), frozenset(pending),
                members(state, layout.F_FREE), frozenset(model.revoked[n] for n in members(state, layout.F_REVOKED)),
                tuple(marks), tuple(held), members(state, layout.F_SLOTS), members(state, layout.F_SRCU),
                tuple(members(state, layout.F_SYNC, n) for n in range(len(setting.programs))),
                members(state, layout.F_WATCHED), members(state, layout.F_WRITTEN), members(state, layout.F_PROTECTED),
                members(state, layout.F_BACKED),
            )
        )  # fmt: skip
    return found


def entry(model: Model, bit: int) -> tuple[int, tuple[int, ...], int]:
    """What a bit of a vCPU's cache stands for, as the reference has it."""
    place, raw = model.held[bit]
    at, index = divmod(place, model.entries)
    tag, prefix = divmod(at, model.prefixes)
    path = [index]
    while prefix:
        prefix, last = divmod(prefix - 1, model.entries)
        path.insert(0, last)
    return tag, tuple(path), raw


def first(setting: Setting, name: Any) -> Any:
    """What a word holds that was never written."""
    if isinstance(name, int):
        return setting.empty
    return () if name[0] == "list" else 0


def reference_states(reference: Reference, states: set[State] | dict[State, Any], model: Model) -> set[Any]:
    """The reference's states: places by the fast explorer's nodes, marks by vCPU, and only words that are ever read."""
    nodes = [model.automata._node(place.program, list(place.record)) for place in reference.places]
    found = set()
    for state in states:
        marks = []
        for vcpu in range(model.setting.vcpus):
            why = {mark[2] for mark in state.marked if mark[0] == vcpu}
            marks.append(
                (steps.IRQ_OFF if vcpu in state.irq_off else 0) | (steps.IPI if vcpu in state.ipi else 0)
                | (steps.HOLDS_FREED if steps.FREED_IN_REACH in why else 0)
                | (steps.HOLDS_STALE if steps.STALE in why else 0)
            )  # fmt: skip
        found.add(
            (
                frozenset((name, raw) for name, raw in state.words if name in model.word_numbers),
                tuple(nodes[place] for place in state.places),
                state.readers, state.writer, state.waiting, state.pages, state.rcu, state.pending, state.free,
                state.revoked, tuple(marks), state.caches, state.slots, state.srcu,
                tuple(dict(state.syncs).get(n, frozenset()) for n in range(len(model.setting.programs))),
                state.watched, state.written, state.protected, state.backed,
            )
        )  # fmt: skip
    return found
