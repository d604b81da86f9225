"""``Model``: a setting as the tables of ``core``, filled as the exploration asks for more.

Values, nodes and cached translations get small numbers when they first occur; a field of a state is as wide as the
numbers that it must hold. When one outgrows its field, all states found so far are packed anew and the search goes on.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from librt.vecs import append

from ...machine import words
from ...mmu.access import NO_FAULT, fault_of
from ..program import steps
from ..program.access import BUFFERS, Access
from ..program.automaton import Automata
from ..program.guest import DIRTIES, TOUCHES
from ..program.setting import Setting
from . import layout, states
from .fields import placed
from .rows import HELD_BITS, Restart, lay_out
from .tabulate import packed, tabulate

USES = {
    steps.SLOTS_LOCK: "slots", steps.SRCU_LOCK: "srcu", steps.SRCU_WAIT: "srcu", steps.WATCH: "log",
    steps.UNWATCH: "log", steps.HARVEST: "log", steps.PROTECT: "protected",
    steps.BACK: "backed",
}  # fmt: skip
"""Steps that need a field of their own in a state."""
_DRAWN = random.Random(20261)
KEYS = np.array([_DRAWN.getrandbits(62) for _ in range(2 + 4 * 64)], np.int64)
"""Of hash compaction: more than the widest row takes. Drawn once, so that a search can be repeated."""


class TooLarge(Exception):  # noqa: N818 - becomes a verdict
    """A budget ran out; the text says which."""


@dataclass(frozen=True)
class Goal:
    """What a search for a witness looks for: ``functions`` that must run, ``stakes`` (bits of stakes.py)."""

    functions: tuple[str, ...] = ()
    stakes: int = 0

    @property
    def mask(self) -> int:
        """All of it."""
        return ((1 << len(self.functions)) - 1 << layout.STAKES) | self.stakes

    def of(self, functions: set[str]) -> int:
        """What it is to be in these functions."""
        return sum(1 << layout.STAKES + n for n, name in enumerate(self.functions) if name in functions)


NO_GOAL = Goal()


class Model:
    """The tables for one setting. ``movers``: glue steps that commute; ``merge``, ``watch``: see ``Automata``.

    ``compact``: keep hashes of states only (compact.py), with no way back to the start.
    """

    def __init__(
        self,
        setting: Setting,
        movers: bool = True,
        merge: bool = True,
        watch: frozenset[str] = frozenset(),
        goal: Goal = NO_GOAL,
        compact: bool = False,
    ) -> None:
        self.setting = setting
        self.movers = movers
        self.goal = goal
        self.compact = compact
        self.automata = Automata(setting, merge, watch)
        self.entries = 1 << setting.bits
        self.prefixes = sum(self.entries**n for n in range(setting.levels))
        self.spte_words = setting.tables * self.entries
        self.words: list[Hashable] = list(range(self.spte_words))
        self.word_numbers: dict[Hashable, int] = {word: n for n, word in enumerate(self.words)}
        self.values: list[list[Any]] = [[setting.empty] for _ in self.words]
        self.value_ids: list[dict[Any, int]] = [{setting.empty: 0} for _ in self.words]
        self.read_kinds: set[int] = {words.VCPU_ROOT, words.DIRTY, words.RING_ENTRY}
        self.acts = [setting.acts(n) for n in range(len(setting.programs))]
        self.marks = {act.kind for found, _ in self.acts for act in found} & {DIRTIES, TOUCHES}
        self.uses = {
            use
            for use, of in (("log", setting.watched), ("protected", setting.protected), ("backed", setting.backed))
            if of
        }
        """Of what no test but some needs a place in a state: "slots", "srcu", "log", "protected", "backed"."""
        self.flushes: list[tuple[Any, ...]] = []
        """Flushes of a range, by number: the vCPUs that are left, the first gfn, and how many."""
        self.sptes: dict[int, int] = {}
        self.held: list[tuple[int, int]] = []
        """Entries that hardware was seen to hold, (place, SPTE), by bit."""
        self.local: list[int] = []
        self.by_program: list[list[int]] = [[] for _ in setting.programs]
        self.met = [0] * len(setting.programs)
        """By program, nodes that a search knew which had to begin again."""
        self.node_room: list[int] = []
        """By program, how many nodes its field of a state can tell apart."""
        self.irq_moves = movers
        """Is switching interrupts off a mover? Not where a program waits with them off: then it may hold up others."""
        self.revoked: list[int] = []
        """Pfns that programs promise to keep from vCPUs, by bit."""
        self.width = self.bits = 0
        """Words of a row, and bits of its fields before they are packed."""
        self.fields = placed((), ())
        """Where each field is (fields.py), with room for ``allotted`` bits."""
        self.allotted: list[int] = []
        self.begin()

    # Words and values

    def word(self, name: Hashable) -> int:
        """Number of a word, given to it now if it has none."""
        number = self.word_numbers.get(name)
        if number is None:
            number = len(self.words)
            first = self.setting.words.get(name, () if isinstance(name, tuple) and name[0] == "list" else 0)
            if self.owner(name) >= 0:
                first = 0
            self.words.append(name)
            self.word_numbers[name] = number
            self.values.append([first])
            self.value_ids.append({first: 0})
            self.changed = True
            for after in self._by_hardware(number, first):
                self.value(number, after)
        return number

    @staticmethod
    def owner(name: Hashable) -> int:
        """The table that a word belongs to, besides SPTEs; -1 for none."""
        if isinstance(name, tuple) and name[0] != "list" and name[0] <= words.ROOT_SCHEDULED:
            return int(name[1])
        return -1

    def value(self, word: int, raw: Any) -> int:
        """Number of a value of a word."""
        number = self.value_ids[word].get(raw)
        if number is None:
            number = len(self.values[word])
            self.values[word].append(raw)
            self.value_ids[word][raw] = number
            self.changed = True
            for after in self._by_hardware(word, raw):
                self.value(word, after)
        return number

    def _by_hardware(self, word: int, raw: Any) -> list[Any]:
        """What CPUs can make of a value that a word holds."""
        setting, found = self.setting, []
        if word < self.spte_words and not setting.is_table(raw):
            found = [setting.hardware.touched(raw, kind) for kind in self.marks]
        elif setting.hardware.logs and self.words[word] in setting.logs:
            found = [raw | bit for bit in setting.logs[self.words[word]].values()]
        return [after for after in found if after != raw]

    # Building the tables

    def begin(self) -> None:
        """Begin with the first state only; automata, words and values stay."""
        while True:
            try:
                self.t = layout.Tables()
                self.local.clear()
                self.by_program = [[] for _ in self.setting.programs]
                self.node_room = [0] * len(self.by_program)
                self._reset()
                return
            except Restart:
                continue

    def _reset(self) -> None:
        self.changed = True
        for vcpu in range(self.setting.vcpus):
            self.word((words.VCPU_ROOT, vcpu))
        for name in (*self.setting.logs, *self.setting.ring_words()):
            self.word(name)
        for name, raw in self.setting.words.items():
            if isinstance(name, tuple) and name[0] != "list" and self._kind(name) not in self.read_kinds:
                continue
            self.value(self.word(name), raw)
        self.starts = [self._local(self.automata.start(n)) for n in range(len(self.setting.programs))]
        tabulate(self)
        lay_out(self)
        t = self.t
        t.p[layout.STATES] = t.p[layout.NEXT] = t.p[layout.TRANSITIONS] = 0
        t.p[layout.GOAL], t.p[layout.COMPACT], t.p[layout.LEVEL_END] = self.goal.mask, int(self.compact), 1
        t.keys = packed(KEYS)
        states.make_room(t, 1024)
        states.rebuild_index(t, 2048)
        self._first_state()

    @staticmethod
    def _kind(name: Any) -> int:
        return -1 if name[0] == "list" else int(name[0])

    def _local(self, node: int) -> int:
        """Enter a node of the automata into the tables; its number within its program."""
        t, nodes = self.t, self.automata.nodes
        while len(self.local) <= node:
            n = len(self.local)
            at = nodes[n]
            access = at.access
            mine = self.by_program[at.program]
            self.local.append(len(mine))
            mine.append(n)
            a, b = access.number, 0
            step = access.step
            if step == steps.REVOKE:
                if a not in self.revoked:
                    self.revoked.append(a)
                    self.changed = True
                a = self.revoked.index(a)
            if step == steps.FLUSH_RANGE:
                if access.operands not in self.flushes:
                    self.flushes.append(access.operands)
                    self.changed = True
                b = self.flushes.index(access.operands)
            use = USES.get(step, "")
            if use and use not in self.uses:
                self.uses.add(use)
                self.changed = True
            if access.word is not None:
                if step == steps.UPDATE and not isinstance(access.word, int):
                    self._reads(self._kind(access.word))
                if access.verb == "push" and not isinstance(access.operands[0], int):
                    self._reads(self._kind(access.operands[0]))
                if step == steps.STORE and not isinstance(access.word, int):
                    if self._kind(access.word) not in self.read_kinds:
                        step = steps.SKIP
                if step != steps.SKIP:
                    a = self.word(access.word)
                    if step == steps.STORE:
                        b = self.value(a, access.operands[0])
            touch = self._touched(access)
            flags = layout.LEFT_MOVER if step in steps.LEFT else 0
            flags |= layout.RIGHT_MOVER if step in steps.RIGHT else 0
            if step == steps.IRQ_DISABLE and not self.irq_moves:
                flags = 0
            elif step in steps.WAITS and at.irq_off and self.irq_moves:
                self.irq_moves = False
                raise Restart
            # A promise is made at the moment of the access before it: else what another task has in hand would be
            # held against this one.
            if access.hidden or step in steps.GLUED:
                flags = layout.LEFT_MOVER | layout.RIGHT_MOVER | layout.HIDDEN
            flags |= layout.FRONT if step in steps.FIRST else layout.TAKER if step in steps.TAKES else 0
            flags |= layout.WAITER if step in steps.WAITS else 0
            t.ran = append(t.ran, self.goal.of({function for _, function, _ in at.stack}))
            t.kind = append(t.kind, step)
            t.a, t.b, t.touch = append(t.a, a), append(t.b, b), append(t.touch, touch)
            t.local, t.flags, t.edge = append(t.local, self.local[n]), append(t.flags, flags), append(t.edge, -1)
            if len(mine) <= self.node_room[at.program]:
                t.nodes[at.program * int(t.p[layout.NODES_MAX]) + len(mine) - 1] = n
            else:
                self.changed = True
        return self.local[node]

    def _touched(self, access: Access) -> int:
        """The table in whose memory an access is made, -1 for none: links of lists are in the tables too."""
        word = access.word
        if isinstance(word, int):
            return word // self.entries
        if isinstance(word, tuple) and word[0] == "list":
            return int(access.operands[0]) if word[1] < BUFFERS else -1
        return self.owner(word)

    def _reads(self, kind: int) -> None:
        if kind not in self.read_kinds and kind >= 0:
            # Stores to words that nobody had read were left out so far: the search must begin again with them.
            self.read_kinds.add(kind)
            raise Restart

    def edge(self, node: int, result: int) -> None:
        """Find out where a program goes from a node with a result that is new there."""
        at = self.automata.nodes[node]
        access, t = at.access, self.t
        step = int(t.kind[node])
        write = -1
        given: Any = result
        if step == steps.UPDATE:
            word = int(t.a[node])
            raw = self.values[word][result]
            given = access.result(raw)
            written = access.written(raw)
            if written != raw:
                write = self.value(word, written)
        elif step == steps.GUEST:
            given = NO_FAULT
            if result != 0:
                act = self.acts[at.program][0][result - 1]
                given = fault_of(act.gfn, act.code)
        after = self.automata.after(node, given)
        self._local(after)
        t.seen, t.to, t.put = append(t.seen, result), append(t.to, after), append(t.put, write)
        t.link = append(t.link, t.edge[node])
        t.edge[node] = len(t.to) - 1

    def bit(self, place: int, value: int) -> None:
        """Give a bit to an entry that hardware may hold."""
        spte = int(self.t.entry[value])
        bit = len(self.held)
        if bit >= HELD_BITS:
            raise TooLarge(f"a vCPU may hold more than {HELD_BITS} translations")
        raw = next(raw for raw, number in self.sptes.items() if number == spte)
        self.held.append((place, raw))
        self.changed = True

    def span(self, place: int) -> tuple[int, int, int]:
        """Of a place: the root's table, the first gfn that an entry there covers, and how many."""
        at, index = divmod(place, self.entries)
        tag, prefix = divmod(at, self.prefixes)
        indices = [index]
        while prefix:
            prefix, last = divmod(prefix - 1, self.entries)
            indices.insert(0, last)
        pages = self.entries ** (self.setting.levels - len(indices))
        gfn = 0
        for number in indices:
            gfn = gfn * self.entries + number
        return tag, gfn * pages, pages

    def _first_state(self) -> None:
        setting, t, p = self.setting, self.t, self.t.p
        for k in range(self.width):
            t.row[k] = 0
        for name, raw in setting.words.items():
            number = self.word_numbers.get(name)
            if number is not None:
                layout.put(t.row, number, self.value_ids[number][raw], t.fw, t.fs, t.fm)
        free = sum(1 << table for table in range(setting.tables) if table not in setting.used)
        layout.put(t.row, p[layout.F_FREE], free, t.fw, t.fs, t.fm)
        layout.put(t.row, p[layout.F_WATCHED], setting.watched, t.fw, t.fs, t.fm)
        layout.put(t.row, p[layout.F_PROTECTED], setting.protected, t.fw, t.fs, t.fm)
        layout.put(t.row, p[layout.F_BACKED], setting.backed, t.fw, t.fs, t.fm)
        for n, local in enumerate(self.starts):
            layout.put(t.row, p[layout.F_NODE] + n, local, t.fw, t.fs, t.fm)
        states.insert(t, 0, 0)

    # Reading states

    def field(self, state: int, number: int) -> int:
        """A field of a state."""
        word, shift, mask = (int(x) for x in self.fields[:, number])
        return (int(self.t.rows[state * self.width + word]) >> shift) & mask

    def ways(self, node: int) -> dict[int, int]:
        """By result, the edges by which a program was seen to go on from a node."""
        found, edge = dict[int, int](), int(self.t.edge[node])
        while edge >= 0:
            found[int(self.t.seen[edge])] = edge
            edge = int(self.t.link[edge])
        return found

    def node_of(self, state: int, program: int) -> int:
        """The node where a program stands in a state."""
        return self.by_program[program][self.field(state, int(self.t.p[layout.F_NODE]) + program)]
