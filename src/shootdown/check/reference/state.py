"""What the reference explorer takes for a state, as a value and while it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Entry = tuple[int, tuple[int, ...], int]
"""What hardware caches of an SPTE: the root's table, the indices from there to the entry, and its value."""


EFFECTS: dict[str, Callable[..., Any]] = {
    "get": lambda old: old,
    "put": lambda old, new: new,
    "xchg": lambda old, new: new,
    "cmpxchg": lambda old, wanted, new: new if old == wanted else old,
    "exchange": lambda old, wanted, new: new if old == wanted else old,
    "and": lambda old, mask: old & mask,
    "or": lambda old, bits: old | bits,
    "clear": lambda old, bits: old & ~bits,
    "add": lambda old, number: old + number,
    "inc": lambda old: old + 1 if old else old,
    "append": lambda old, table: (*old, table),
    "prepend": lambda old, table: (table, *old),
    "remove": lambda old, table: tuple(other for other in old if other != table),
}
"""What a word holds after each verb."""


class State(NamedTuple):
    """All there is at one moment; who holds a lock or is in a section by the number of the program."""

    words: frozenset[tuple[Any, Any]]
    places: tuple[int, ...]
    readers: frozenset[int]
    writer: frozenset[int]
    waiting: frozenset[int]
    pages: frozenset[int]
    rcu: frozenset[int]
    pending: frozenset[tuple[int, frozenset[int]]]
    free: frozenset[int]
    revoked: frozenset[int]
    irq_off: frozenset[int]
    ipi: frozenset[int]
    caches: tuple[frozenset[Entry], ...]
    marked: frozenset[tuple[int, Entry, int]]
    """(vCPU, entry that it holds, FREED_IN_REACH or STALE)."""
    slots: frozenset[int] = frozenset()
    srcu: frozenset[int] = frozenset()
    syncs: frozenset[tuple[int, frozenset[int]]] = frozenset()
    """(who waits in ``synchronize_srcu``, for whom)."""
    watched: frozenset[int] = frozenset()
    written: frozenset[int] = frozenset()
    protected: frozenset[int] = frozenset()
    """Gfns whose writes must be logged; that were written since the user last learned so; that nobody may write."""
    backed: frozenset[int] = frozenset()
    """Gfns that are memory, as was promised."""


class World:
    """A state while it changes; the fields are those of ``State``, whose sets are shared until one is replaced."""

    def __init__(self, state: State) -> None:
        self.words, self.pending, self.syncs = dict(state.words), dict(state.pending), dict(state.syncs)
        self.places, self.caches = list(state.places), list(state.caches)
        self.readers, self.writer, self.waiting = state.readers, state.writer, state.waiting
        self.pages, self.rcu, self.free, self.revoked = state.pages, state.rcu, state.free, state.revoked
        self.irq_off, self.ipi, self.marked = state.irq_off, state.ipi, state.marked
        self.slots, self.srcu, self.backed = state.slots, state.srcu, state.backed
        self.watched, self.written, self.protected = state.watched, state.written, state.protected
        self.broken = 0

    def frozen(self) -> State:
        """As a value."""
        return State(
            frozenset(self.words.items()), tuple(self.places), self.readers, self.writer, self.waiting, self.pages,
            self.rcu, frozenset(self.pending.items()), self.free, self.revoked, self.irq_off, self.ipi,
            tuple(self.caches), self.marked, self.slots, self.srcu, frozenset(self.syncs.items()), self.watched,
            self.written, self.protected, self.backed,
        )  # fmt: skip

    def breaks(self, what: int) -> None:
        """Note the first thing that broke."""
        self.broken = self.broken or what


def gfns_of(mask: int) -> frozenset[int]:
    """The gfns that a mask names."""
    return frozenset(gfn for gfn in range(mask.bit_length()) if mask >> gfn & 1)
