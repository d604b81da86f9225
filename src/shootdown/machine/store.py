"""``Store``: the native machine's words that belong to no table, and how each kind of word is guarded."""

from __future__ import annotations

from typing import Final, NoReturn, final

from librt.vecs import append, vec
from mypy_extensions import i64

from .interface import Bug
from .words import (
    DIRTY,
    HOST_LEVEL,
    HOST_PFN,
    HOST_WRITABLE,
    KIND_NAMES,
    KINDS,
    NO_TABLE,
    PREV_ROOTS,
    PROTECTION,
    RING_ENTRY,
    ROOT_SCHEDULED,
    SLOT_BASE,
    SLOT_ORDER,
    UNDER_PAGES_LOCK,
    VCPU_PREV_ROOT,
    VCPU_ROOT,
    WRITTEN_UNDER_MMU_LOCK,
)

OWNERS: Final = 8
"""Owners of a word of the VM: 0, or a level."""

FIRST_STATISTIC: Final = 34
"""PAGES: from here on all kinds are statistics. A literal, since compiled code computes no constant beforehand."""

# How a kind of word is guarded.
UNGUARDED: Final = 0
WRITTEN_BY_MMU_LOCK: Final = 1
BY_PAGES_LOCK: Final = 2

GUARDS: Final = {
    UNDER_PAGES_LOCK: BY_PAGES_LOCK,
    WRITTEN_UNDER_MMU_LOCK: WRITTEN_BY_MMU_LOCK,
}


def no_kind(kind: i64) -> NoReturn:
    """Refuse a number that is no kind of word."""
    raise Bug(f"no kind of word has the number {kind}")


@final
class Store:
    """Words by kind and owner.

    guards   how each kind is guarded
    guarded  the bits, by kind, of those that may be read with a lock only

    Kinds with few owners lie in one vector; those of a gfn, of a slot's bitmap and of a ring are kept where stored.
    """

    def __init__(self, vcpus: i64, slots: i64, host_level: i64) -> None:
        self._host_level = host_level
        self._stride: Final[i64] = max(PREV_ROOTS * vcpus, OWNERS, slots)
        guards = vec[i64]()
        owners = vec[i64]()
        sparse: list[dict[int, int]] = []
        guarded: i64 = 0
        bit: i64 = 1
        for kind in range(KINDS):
            number: i64 = OWNERS
            if kind <= ROOT_SCHEDULED or HOST_PFN <= kind <= HOST_WRITABLE or DIRTY <= kind <= RING_ENTRY:
                number = 0
            elif SLOT_BASE <= kind <= SLOT_ORDER:
                number = slots
            elif RING_ENTRY < kind <= VCPU_ROOT:
                number = vcpus
            elif kind == VCPU_PREV_ROOT:
                number = PREV_ROOTS * vcpus
            owners = append(owners, number)
            guard = GUARDS.get(PROTECTION[kind], UNGUARDED)
            guards = append(guards, guard)
            if guard == BY_PAGES_LOCK:
                guarded |= bit
            bit += bit
            sparse.append({})
        self.guards: Final = guards
        self.guarded: Final = guarded
        self._owners: Final = owners
        self._sparse: Final = sparse
        self._kept: Final = vec[i64]([0] * KINDS)
        self._words: Final = vec[i64]([0] * (KINDS * self._stride))
        for vcpu in range(vcpus):
            self._words[VCPU_ROOT * self._stride + vcpu] = NO_TABLE

    def get(self, kind: i64, owner: i64) -> i64:
        """The value of a word: 0 before it is set, but -1 of VCPU_ROOT, and the host maps each gfn to itself."""
        if 0 <= owner < self._owners[kind]:
            return self._words[kind * self._stride + owner]
        return self._get_sparse(kind, owner)

    def _get_sparse(self, kind: i64, owner: i64) -> i64:
        """The value of a word that is kept where it was stored."""
        if HOST_PFN <= kind <= HOST_WRITABLE:
            # An integer that is one of several by a conditional expression would be a Python object for a moment.
            usual: i64 = 1
            if kind == HOST_PFN:
                usual = owner
            elif kind == HOST_LEVEL:
                usual = self._host_level
            # Looking into a dictionary takes a Python integer, which most VMs need not make.
            if self._kept[kind] == 0:
                return usual
            return self._sparse[kind].get(owner, usual)
        if DIRTY <= kind <= RING_ENTRY:
            return self._sparse[kind].get(owner, 0)
        self._no_owner(kind, owner)

    def set(self, kind: i64, owner: i64, value: i64) -> None:
        """Set a word."""
        if 0 <= owner < self._owners[kind]:
            self._words[kind * self._stride + owner] = value
        elif HOST_PFN <= kind <= HOST_WRITABLE or DIRTY <= kind <= RING_ENTRY:
            self._sparse[kind][owner] = value
            self._kept[kind] = 1
        else:
            self._no_owner(kind, owner)

    def count(self, kind: i64, owner: i64, number: i64) -> None:
        """Add to a statistic."""
        if kind < FIRST_STATISTIC or kind >= KINDS or owner < 0 or owner >= OWNERS:
            self._no_statistic(kind, owner)
        self._words[kind * self._stride + owner] += number

    def _no_statistic(self, kind: i64, owner: i64) -> NoReturn:
        if kind < 0 or kind >= KINDS:
            no_kind(kind)
        if kind < FIRST_STATISTIC:
            raise Bug(f"{KIND_NAMES[kind]} is counted, but is no statistic")
        self._no_owner(kind, owner)

    def _no_owner(self, kind: i64, owner: i64) -> NoReturn:
        raise Bug(f"{KIND_NAMES[kind]} has {self._owners[kind]} owners from 0 on, {owner} is none")
