"""Acts (acts.py) that no random story has: what a recording tells of the host, of slots and of logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...machine import words
from ...machine.words import ROLE_SMM
from ...mmu.spte import PAGES, is_leaf, spte_pfn
from ...mmu.walk import walk_to_last
from .acts import clear_words, end_range, has_root, is_logged, log_of, pages_of, place_of, set_slot, start_range, touch
from .guest_acts import GUEST_ACTS
from .pair import Pair


def host_maps(pair: Pair, vcpu: int, gfn: int, pfn: int, level: int, writable: int) -> None:
    """The host maps a page so; a leaf that says otherwise is taken away first, as notifiers must have done."""
    stale = _is_stale(pair, vcpu, gfn, pfn, writable)
    if stale:
        start_range(pair, gfn, gfn + 1, 1)
    # What collapses looks at the first page of a region.
    for each in dict.fromkeys((gfn, *(gfn - gfn % PAGES[size] for size in range(2, level + 1)))):
        pair.c.host(each, level=level)
        pair.machine.store(words.HOST_LEVEL, each, level)
    pair.c.host(gfn, 1, pfn, writable=writable)
    pair.machine.store(words.HOST_PFN, gfn, pfn)
    pair.machine.store(words.HOST_WRITABLE, gfn, writable)
    if stale:
        end_range(pair, gfn, gfn + 1)
    pair.acted = True


def _is_stale(pair: Pair, vcpu: int, gfn: int, pfn: int, writable: int) -> bool:
    """Does a leaf map another page, or one that may be written, where that must not be?"""
    if not has_root(pair, vcpu):
        return False
    it = walk_to_last(pair.kvm, pair.machine.load(words.VCPU_ROOT, vcpu), gfn)
    old = int(it.old_spte)
    if not it.valid or not is_leaf(old, it.level):
        return False
    return bool(spte_pfn(old) + gfn % PAGES[it.level] != pfn or (not writable and old & pair.kvm.fmt.host_writable))


def used(pair: Pair, as_id: int, gfn: int, write: int) -> None:
    """A guest uses a page, on a vCPU whose root is of the address space: the CPU sets A, or A and D."""
    for vcpu in range(pair.config.vcpus):
        if has_root(pair, vcpu) and pair.roles[vcpu] & ROLE_SMM == as_id:
            touch(pair, vcpu, gfn, write)
            return


def region(pair: Pair, slot: int, as_id: int, base: int, pages: int, flags: int) -> None:
    """A slot is made, deleted (0 pages), moved or reflagged."""
    if pages == 0 and pages_of(pair, slot) == 0:
        return
    set_slot(pair, slot, as_id, base if pages else 0, pages, flags if pages else 0)


def clear_told(pair: Pair, slot: int, first: int, pages: int) -> None:
    """The user reads a log, and clears the part of it that is about some pages."""
    if not is_logged(pair, slot) or pair.config.ring_size != 0:
        return
    low, high = first // 64, min(-(-(first + pages) // 64), -(-pages_of(pair, slot) // 64))
    found = {n: mask for n, mask in log_of(pair, slot, True).items() if low <= n < high}
    clear_words(pair, slot, found)


def reflag_told(pair: Pair, slot: int, flags: int) -> None:
    """Logging of a slot begins or ends."""
    as_id, base, end = place_of(pair, slot)
    if end > base:
        set_slot(pair, slot, as_id, base, end - base, flags)


EVERY_ACT: Final[dict[str, Callable[..., Any]]] = {
    **GUEST_ACTS, "host_maps": host_maps, "used": used, "region": region, "clear_told": clear_told,
    "reflag_told": reflag_told,
}  # fmt: skip
"""Everything that can be done to a pair."""
