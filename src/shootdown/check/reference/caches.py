"""What the reference explorer has a CPU lose of what it may hold, or no more be allowed to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..program import steps
from ..program.access import Access
from .state import World

if TYPE_CHECKING:
    from .explorer import Reference


def flush_range(reference: Reference, world: World, access: Access, choice: int) -> None:
    """The chosen vCPU loses each leaf that maps a page of the range, and each table all of whose pages lie in it.

    Source: search/flushes.py has the rule and where it is from.
    """
    left, first, count = access.operands
    vcpu, gone = left[choice], set()
    for entry in world.caches[vcpu]:
        hit = [first <= gfn < first + count for gfn in reference.span(entry)]
        if all(hit) if reference.leads(entry) >= 0 else any(hit):
            gone.add(entry)
    world.caches[vcpu] -= gone
    world.marked = frozenset(mark for mark in world.marked if mark[0] != vcpu or mark[1] not in gone)


def forget(reference: Reference, world: World, promise: int) -> None:
    """Mark what vCPUs hold, of a promise's range, that memory does not give."""
    start, end = reference.setting.promises[promise]
    for vcpu, cache in enumerate(world.caches):
        root = reference.root(world, vcpu)
        given = reference.closure(world, root, frozenset()) if root >= 0 else frozenset()
        for entry in cache - given:
            if entry[0] == root and any(start <= gfn < end for gfn in reference.pages(entry)[0]):
                world.marked |= {(vcpu, entry, steps.STALE)}
