"""A second explorer, slow and plain, against which the fast one is tested. It shares no code with it but constants.

States are plain values, one action is one transition, and nothing is glued but hidden accesses (see ``Reference``).
What hardware caches is either the greatest set that it may hold (``explicit=False``, as ``core`` has it), or what it
does hold: then every single fill of a TLB or paging-structure cache and every eviction is a transition. With ``late``,
an RCU callback runs whenever it may, as a transition; else at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...machine import words
from ...mmu.spte import spte_pfn
from ..program import steps
from ..program.access import Access, Stop
from ..program.guest import MAY_WRITE
from ..program.setting import Program, Setting
from .caches import flush_range, forget
from .guest import go, ways
from .rest import at_rest, still_mapped, stuck, wrong_for_ever
from .state import EFFECTS, Entry, State, World, gfns_of


@dataclass
class Place:
    """Where a program can stand: before ``access``, after the results in ``record``."""

    program: int
    record: tuple[Any, ...]
    access: Access
    key: Hashable
    after: dict[Any, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """``broken`` (steps.py) after ``depth`` steps; ``parents``: of each state, the one before it and what led on."""

    broken: int
    depth: int
    transitions: int
    parents: dict[State, tuple[State | None, str]]
    last: State
    stopped: bool = False


class Reference:
    """Explores a setting. ``glue``: hidden accesses run with the visible one before them, or else are steps.

    What is ``GLUED`` (steps.py) is part of the access before it in any case.

    To glue is right if nobody can see or disturb a hidden access: what it touches is a table that nobody else knows,
    or is protected by a lock that is held, or never changes, or belongs to the program. So it commutes with any step of
    another program and with hardware, and running it at once leaves out no state in which something breaks.

    Where a program stands is told by the code, instruction and all local variables of its frames, used up or not. So
    programs must not keep what an access gave on the evaluation stack over another access.
    """

    def __init__(self, setting: Setting, explicit: bool = False, late: bool = False, glue: bool = True) -> None:
        self.setting, self.explicit, self.late, self.glue = setting, explicit, late, glue
        self.entries = 1 << setting.bits
        self.places: list[Place] = []
        self.numbers: dict[Hashable, int] = {}
        self.first = [self.place(program, ()) for program in range(len(setting.programs))]

    # Programs

    def place(self, program: int, record: tuple[Any, ...]) -> int:
        """Where a program stands after these results."""
        task, machine = self.setting.programs[program], self.setting.machine
        key: Hashable
        while True:
            machine.start(list(record))
            try:
                run(task)
                machine.end()
            except Stop:
                access = machine.next
                key = (program, access, machine.held.key(), self._frames(machine.frame))
                break
            except machine.bug as error:
                access, key = Access(steps.BUG), (program, str(error))
                break
            access, key = Access(steps.END), (program,)
            if not task.again:
                break
            record = ()
        machine.frame = None
        if key not in self.numbers:
            self.numbers[key] = len(self.places)
            self.places.append(Place(program, record, access, key))
        return self.numbers[key]

    def _frames(self, frame: Any) -> Hashable:
        found = []
        while frame.f_code is not run.__code__:
            values = tuple((name, self._plain(value)) for name, value in sorted(frame.f_locals.items()))
            found.append((frame.f_code, frame.f_lasti, values))
            frame = frame.f_back
        return tuple(found)

    def _plain(self, value: Any) -> Hashable:
        if id(value) in self.setting.handles:
            return self.setting.handles[id(value)]
        if isinstance(value, list | tuple) or type(value).__name__ == "vec[i64]":
            return (type(value).__name__, *map(self._plain, value))
        if value is None or isinstance(value, int | str):
            return value
        return (type(value).__name__, *((name, self._plain(item)) for name, item in sorted(vars(value).items())))

    def access(self, world: World, program: int) -> Access:
        """What a program does next."""
        return self.places[world.places[program]].access

    def results(self, access: Access, program: int) -> int:
        """In how many ways an access can go."""
        if access.step == steps.GUEST:
            return len(ways(self, program))
        return access.number if access.step in steps.BRANCHES else int(access.step != steps.END)

    # Words

    def value(self, world: World, word: Any) -> Any:
        """What a word holds."""
        return world.words.get(word, self._first(word))

    def _first(self, word: Any) -> Any:
        return self.setting.empty if isinstance(word, int) else () if self._is_list(word) else 0

    @staticmethod
    def _is_list(word: Any) -> bool:
        return isinstance(word, tuple) and word[0] == "list"

    def _table(self, word: Any) -> int:
        """The table that a word belongs to, or -1."""
        if isinstance(word, int):
            return word >> self.setting.bits
        return word[1] if not self._is_list(word) and word[0] <= words.ROOT_SCHEDULED else -1

    def _update(self, world: World, access: Access) -> Any:
        word, verb, operands = access.word, access.verb, access.operands
        touched = {self._table(word), *(operands if self._is_list(word) else ())}
        if touched & world.free:
            world.breaks(steps.USE_AFTER_FREE)
        old = self.value(world, word)
        if verb == "put" and isinstance(word, int) and not access.hidden and not self.setting.is_table(old):
            if self.setting.hardware.may_change(old):
                world.breaks(steps.OVERWRITTEN)
        if verb == "next":
            following = dict(zip((-1, *old), (*old, -1), strict=True))
            return following.get(operands[0], following[-1])
        new = EFFECTS[verb](old, *operands)
        world.words[word] = new
        if new == self._first(word):
            del world.words[word]
        return {"inc": bool(old), "put": 0}.get(verb, old)

    def _free(self, world: World, table: int) -> None:
        if table in world.free:
            world.breaks(steps.DOUBLE_FREE)
        world.free |= {table}
        for word in [word for word in world.words if self._table(word) == table]:
            del world.words[word]
        for vcpu, cache in enumerate(world.caches):
            led = {entry for entry in cache if self.leads(entry) == table}
            world.marked |= {(vcpu, entry, steps.FREED_IN_REACH) for entry in led}

    # Hardware

    def leads(self, entry: Entry) -> int:
        """The table that a cached entry leads to, or -1."""
        return spte_pfn(entry[2]) if self.setting.is_table(entry[2]) else -1

    def root(self, world: World, vcpu: int) -> int:
        """The table of the root that a vCPU runs on."""
        return int(self.value(world, (words.VCPU_ROOT, vcpu)))

    def in_guest(self, world: World, vcpu: int) -> bool:
        """Does a vCPU run guest code?"""
        return self.access(world, vcpu).step == steps.GUEST

    def walkable(self, root: int, cache: frozenset[Entry]) -> set[tuple[int, tuple[int, ...]]]:
        """Tables where a walk can go on, with the indices that lead there."""
        return {(root, ())} | {(self.leads(e), e[1]) for e in cache if e[0] == root and self.leads(e) >= 0}

    def fills(self, world: World, root: int, cache: frozenset[Entry]) -> set[Entry]:
        """Entries that one more step of a walk could bring into a cache."""
        found = set()
        for table, path in self.walkable(root, cache):
            for index in range(self.entries):
                raw = self.value(world, table << self.setting.bits | index)
                if self.setting.hardware.rights(raw):
                    found.add((root, (*path, index), raw))
        return found - cache

    def closure(self, world: World, root: int, cache: frozenset[Entry]) -> frozenset[Entry]:
        """All that walks could bring into a cache."""
        while more := self.fills(world, root, cache):
            cache |= more
        return cache

    def on_path(self, table: int, path: tuple[int, ...], gfn: int) -> int | None:
        """The word in a table that ``path`` leads to, where a walk for ``gfn`` goes on; None: not on its way."""
        levels, bits = self.setting.levels, self.setting.bits
        want = tuple(gfn >> bits * level & self.entries - 1 for level in reversed(range(levels)))
        return table << bits | want[len(path)] if path == want[: len(path)] else None

    def span(self, entry: Entry) -> range:
        """The gfns that a cached entry is on the way of."""
        first, pages = 0, self.entries ** (self.setting.levels - len(entry[1]))
        for index in entry[1]:
            first = first * self.entries + index
        return range(first * pages, (first + 1) * pages)

    def pages(self, entry: Entry) -> tuple[range, range]:
        """The gfns that a cached leaf maps, and the pfns that it maps them to; empty for a table."""
        gfns = self.span(entry) if self.leads(entry) < 0 else range(0)
        return gfns, range(spte_pfn(entry[2]), spte_pfn(entry[2]) + len(gfns))

    def look(self, world: World) -> None:
        """Is a page mapped that was taken back, and does a vCPU that runs guest code hold what it must not?"""
        if any(still_mapped(self, world, pfn) for pfn in world.revoked):
            world.breaks(steps.STILL_MAPPED)
        for vcpu, cache in enumerate(world.caches):
            if self.in_guest(world, vcpu):
                if world.free & {self.root(world, vcpu), *map(self.leads, cache)}:
                    world.breaks(steps.FREED_IN_REACH)
                for _, _, why in sorted(mark for mark in world.marked if mark[0] == vcpu):
                    world.breaks(why)
                if any(pfn in world.revoked for entry in cache for pfn in self.pages(entry)[1]):
                    world.breaks(steps.REVOKED_IN_REACH)
                writable = [entry for entry in cache if self.setting.hardware.rights(entry[2]) & MAY_WRITE]
                if any(gfn in world.protected for entry in writable for gfn in self.pages(entry)[0]):
                    world.breaks(steps.WRITABLE_IN_REACH)
                for why in sorted(wrong_for_ever(self, entry) for entry in cache):
                    world.breaks(why)

    # Steps

    def _take(self, world: World, program: int, choice: int) -> bool:
        """Let a program make its next access; False if it cannot."""
        at = self.places[world.places[program]]
        access = at.access
        number, result = access.number, 0
        gfns = gfns_of(number)
        match access.step:
            case steps.UPDATE | steps.STORE:
                result = self._update(world, access)
            case steps.READ_LOCK if not world.writer and not world.waiting:
                world.readers |= {program}
            case steps.READ_UNLOCK:
                world.readers -= {program}
            case steps.WRITE_WAIT:
                world.waiting |= {program}
            case steps.WRITE_LOCK if not world.writer and not world.readers:
                world.waiting -= {program}
                world.writer |= {program}
            case steps.WRITE_UNLOCK:
                world.writer -= {program}
            case steps.PAGES_LOCK if not world.pages:
                world.pages |= {program}
            case steps.PAGES_UNLOCK:
                world.pages -= {program}
            case steps.RCU_LOCK:
                world.rcu |= {program}
            case steps.RCU_UNLOCK:
                world.rcu -= {program}
                world.pending = {table: waits - {program} for table, waits in world.pending.items()}
            case steps.CALL_RCU:
                if number in world.pending or number in world.free:
                    world.breaks(steps.DOUBLE_FREE)
                world.pending[number] = world.rcu
            case steps.ALLOC:
                result = min(world.free, default=-1)
                world.free -= {result}
            case steps.FREE:
                if number in world.pending:
                    world.breaks(steps.DOUBLE_FREE)
                self._free(world, number)
            case steps.GUEST:
                found = go(self, world, program, ways(self, program)[choice])
                if found is None or found == -2:
                    return found is not None
                result = found
            case steps.SEND_IPI:
                world.ipi |= {number} & world.irq_off
            case steps.WAIT_IPI if number not in world.ipi:
                pass
            case steps.IRQ_DISABLE:
                world.irq_off |= {number}
            case steps.IRQ_ENABLE:
                world.irq_off -= {number}
                world.ipi -= {number}
            case steps.FLUSH:
                world.caches[number] = frozenset()
                world.marked = frozenset(mark for mark in world.marked if mark[0] != number)
            case steps.FLUSH_RANGE:
                result = choice
                flush_range(self, world, access, choice)
            case steps.CHOOSE:
                result = choice
            case steps.REVOKE:
                world.revoked |= {number}
            case steps.FORGET:
                forget(self, world, number)
            case steps.SLOTS_LOCK if not world.slots:
                world.slots |= {program}
            case steps.SLOTS_UNLOCK:
                world.slots -= {program}
            case steps.SRCU_LOCK:
                world.srcu |= {program}
            case steps.SRCU_UNLOCK:
                world.srcu -= {program}
                world.syncs = {who: waits - {program} for who, waits in world.syncs.items()}
            case steps.SRCU_WAIT:
                world.syncs[program] = world.srcu
            case steps.SRCU_SYNC if not world.syncs[program]:
                del world.syncs[program]
            case steps.WATCH:
                world.watched |= gfns
            case steps.UNWATCH:
                world.watched -= gfns
                world.written -= gfns
            case steps.HARVEST:
                world.written -= gfns
            case steps.PROTECT:
                world.protected |= gfns
            case steps.BACK:
                world.backed |= gfns
            case steps.MMIO if number in world.backed:
                world.breaks(steps.PASSES_FOR_MMIO)
            case steps.BUG:
                world.breaks(steps.ASSERTION)
            case steps.READ_LOCK | steps.WRITE_LOCK | steps.PAGES_LOCK | steps.WAIT_IPI:
                return False
            case steps.SLOTS_LOCK | steps.SRCU_SYNC:
                return False
        if not self.late:
            for table in [table for table, waits in world.pending.items() if not waits]:
                del world.pending[table]
                self._free(world, table)
        if result not in at.after:
            at.after[result] = self.place(program, (*at.record, result))
        world.places[program] = at.after[result]
        if self.access(world, program).step == steps.BUG:
            world.breaks(steps.ASSERTION)
        return True

    def _step(self, world: World, program: int, choice: int) -> bool:
        """Let a program make a visible access, with the hidden ones before and after it; False if it cannot."""
        seen = False
        while True:
            seen = seen or not self._glued(self.access(world, program))
            if not self._take(world, program, choice):
                return False
            following = self.access(world, program)
            if world.broken or following.step in steps.FIRST:
                return True
            if seen and not self._glued(following):
                return True

    def _glued(self, access: Access) -> bool:
        return (self.glue and access.hidden) or access.step in steps.GLUED

    def successors(self, state: State) -> Iterator[tuple[str, World]]:
        """Every transition from a state: what it is, and the state after it."""
        first = World(state)
        for program in range(len(state.places)):
            for choice in range(self.results(self.access(first, program), program)):
                world = World(state)
                if self._step(world, program, choice):
                    yield f"{program}.{choice}", world
        if self.explicit:
            for vcpu, cache in enumerate(state.caches):
                for entry in cache:
                    world = World(state)
                    world.caches[vcpu] -= {entry}
                    world.marked = frozenset(mark for mark in world.marked if mark[:2] != (vcpu, entry))
                    yield f"vCPU{vcpu} drops", world
                if self.in_guest(first, vcpu):
                    for entry in self.fills(first, self.root(first, vcpu), first.caches[vcpu]):
                        world = World(state)
                        world.caches[vcpu] |= {entry}
                        yield f"vCPU{vcpu} fills", world
        for table, waits in state.pending:
            if not waits:
                world = World(state)
                del world.pending[table]
                self._free(world, table)
                yield f"callback frees {table}", world

    def settle(self, world: World) -> State:
        """The state, once hardware has filled what it may; notes what is broken in it."""
        if not self.explicit:
            for vcpu, cache in enumerate(world.caches):
                if self.in_guest(world, vcpu):
                    world.caches[vcpu] = self.closure(world, self.root(world, vcpu), cache)
        self.look(world)
        return world.frozen()

    def start(self) -> State:
        """The first state."""
        setting, none = self.setting, frozenset[Any]()
        held = {(word, raw) for word, raw in setting.words.items() if raw != self._first(word)}
        free = frozenset(range(setting.tables)) - setting.used
        caches = tuple(none for _ in range(setting.vcpus))
        return State(
            frozenset(held), tuple(self.first), none, none, none, none, none, none, free, none, none, none, caches,
            none, watched=gfns_of(setting.watched), protected=gfns_of(setting.protected),
            backed=gfns_of(setting.backed),
        )  # fmt: skip

    def explore(self, states_max: int) -> Outcome:
        """All states, breadth first, to the first that is broken; ``stopped`` if there are too many."""
        last = self.start()
        parents: dict[State, tuple[State | None, str]] = {last: (None, "")}
        layer, depth, transitions = [last], 0, 0
        while layer:
            following = []
            for state in layer:
                for what, world in self.successors(state):
                    transitions += 1
                    last = self.settle(world)
                    if last not in parents:
                        parents[last] = (state, what)
                        following.append(last)
                    if world.broken:
                        return Outcome(world.broken, depth + 1, transitions, parents, last)
                if stuck(self, state):
                    return Outcome(steps.DEADLOCK, depth, transitions, parents, state)
                wrong = at_rest(self, state)
                if wrong:
                    return Outcome(wrong, depth, transitions, parents, state)
                if len(parents) > states_max:
                    return Outcome(0, depth, transitions, parents, last, stopped=True)
            layer, depth = following, depth + 1
        return Outcome(0, depth - 1, transitions, parents, last)


def run(task: Program) -> None:
    """Call a program; frames further out are not its own."""
    task.run(*task.operands)
