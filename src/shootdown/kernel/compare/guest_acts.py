"""Acts (acts.py) that litmus tests need besides: what makes a start, the halves of notifiers, and guests.

A guest caches nothing here: what it may do is what memory says at that moment. Its CPU sets A and D where entries have
them, and logs what it sets D for with PML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...check.program.guest import DIRTIES, TOUCHES, Hardware, need_of
from ...machine import words
from ...machine.words import ROLE_GUEST_MODE, ROLE_SMM
from ...mmu import notifier
from ...mmu.access import PERMISSION, RESERVED, WRITE
from ...mmu.fault import page_fault, prefetch
from ...mmu.huge_pages import disable_dirty_logging
from ...mmu.mark_dirty import bit_of, word_of
from ...mmu.slots import find_slot
from ...mmu.spte import is_leaf, signed, unsigned
from ...mmu.walk import walk_to_last
from .acts import ACTS, can_run, clear_words, end_range, has_root, is_logged, log_of, pages_of, place_of, start_range
from .pair import Pair

# The start


def host(pair: Pair, gfn: int, level: int, writable: int) -> None:
    """The host maps a page so; nobody is told, since nobody has mapped it otherwise."""
    pair.c.host(gfn, 1, level=level, writable=writable)
    pair.machine.store(words.HOST_LEVEL, gfn, level)
    pair.machine.store(words.HOST_WRITABLE, gfn, writable)
    pair.acted = True


def leaf(pair: Pair, vcpu: int, gfn: int, keep: int, gets: int) -> None:
    """Which bits of a leaf remain, and which it gets."""
    if not has_root(pair, vcpu):
        return
    it = walk_to_last(pair.kvm, pair.machine.load(words.VCPU_ROOT, vcpu), gfn)
    if it.valid and is_leaf(int(it.old_spte), it.level):
        _change(pair, vcpu, gfn, it.sptep, int(it.old_spte), int(it.old_spte) & signed(keep) | signed(gets))


def _change(pair: Pair, vcpu: int, gfn: int, sptep: int, old: int, new: int) -> None:
    """A leaf becomes another, in both."""
    pair.machine.write(sptep, new)
    pair.c.poke(vcpu, gfn, unsigned(old ^ new))
    pair.acted = True


def flags(pair: Pair, slot: int, value: int) -> None:
    """A slot has these flags; nothing that their change would entail is done."""
    if pages_of(pair, slot) == 0:
        return
    pair.machine.slots_lock()
    pair.machine.store(words.SLOT_FLAGS, slot, value)
    pair.machine.slots_unlock()
    pair.c.operation("flags", slot, value)
    pair.acted = True


def dirty(pair: Pair, slot: int, gfn: int) -> None:
    """A page of a slot is dirty."""
    _, base, end = place_of(pair, slot)
    if not base <= gfn < end:
        return
    pair.machine.fetch_or(words.DIRTY, word_of(slot, gfn - base), bit_of(gfn - base))
    pair.c.operation("dirty", slot, gfn)
    pair.acted = True


def collapse_range(pair: Pair, start: int, end: int) -> None:
    """A part of a slot may be mapped by huge pages again."""
    slot = find_slot(pair.kvm, 0, start)
    if slot < 0 or is_logged(pair, slot):
        return
    pair.both(
        lambda: pair.c.operation("collapse", start, end),
        lambda: disable_dirty_logging(pair.kvm, 0, start, end),
    )


# The host


def range_start(pair: Pair, start: int, end: int, may_block: int) -> None:
    """A notifier begins."""
    pair.running.append((start, end))
    start_range(pair, start, end, may_block)


def range_end(pair: Pair, start: int, end: int) -> None:
    """It ends."""
    if (start, end) in pair.running:
        pair.running.remove((start, end))
        end_range(pair, start, end)


def is_running(pair: Pair, gfn: int) -> bool:
    """Is a page within a notifier's range, between its start and its end?"""
    return any(start <= gfn < end for start, end in pair.running)


def host_page(pair: Pair, gfn: int, pfn: int, writable: int) -> None:
    """The host maps another frame (-1: none), writable or not (-1: as before); within a notifier."""
    if not is_running(pair, gfn):
        return
    pair.c.host(gfn, 1, pfn, writable=writable)
    pair.machine.store(words.HOST_PFN, gfn, pfn)
    if writable >= 0:
        pair.machine.store(words.HOST_WRITABLE, gfn, writable)
    pair.acted = True


def change_page(pair: Pair, gfn: int, pfn: int, writable: int) -> None:
    """The host has put a page in the place of another, which nobody may write if it says so, and tells (6.1)."""
    if pair.kvm.behaviour.change_pte and is_running(pair, gfn):
        pair.both(
            lambda: pair.c.change_pte(gfn, pfn, writable != 0),
            lambda: notifier.change_pte(pair.kvm, gfn, pfn, writable != 0),
        )


def read_log(pair: Pair, slot: int) -> None:
    """The user reads a log, to clear later what it says."""
    if is_logged(pair, slot) and pair.config.ring_size == 0:
        pair.read[slot] = log_of(pair, slot, True)
        pair.both(lambda: pair.c.get_dirty_log(slot, True), lambda: pair.read[slot])


def clear_read(pair: Pair, slot: int) -> None:
    """He clears that."""
    found = pair.read.pop(slot, None)
    if found is None or not is_logged(pair, slot):
        return
    clear_words(pair, slot, found)


# vCPUs


def stale_prefetch(pair: Pair, vcpu: int, gfn: int) -> None:
    """A page is mapped ahead of its fault, on the root that the vCPU has had."""
    if has_root(pair, vcpu):
        pair.both(lambda: pair.c.prefetch(vcpu, gfn), lambda: prefetch(pair.kvm, vcpu, gfn))


def access(pair: Pair, vcpu: int, gfn: int, code: int) -> None:
    """The guest touches a page: the CPU sets A or D, or it leaves with a fault that is served later."""
    pair.faults.pop(vcpu, None)
    if not can_run(pair, vcpu):
        return
    it = walk_to_last(pair.kvm, pair.machine.load(words.VCPU_ROOT, vcpu), gfn)
    fmt = pair.kvm.fmt
    hardware = Hardware(fmt.ept, int(fmt.accessed) if fmt.ad else 0, int(fmt.dirty) if fmt.ad else 0)
    raw = int(it.old_spte) if it.valid else 0
    rights = hardware.rights(raw)
    if hardware.is_reserved(raw):
        pair.faults[vcpu] = gfn, RESERVED if fmt.ept else code | RESERVED | PERMISSION
    elif rights == 0:
        pair.faults[vcpu] = gfn, code
    elif not rights & need_of(code):
        pair.faults[vcpu] = gfn, code | PERMISSION
    else:
        new = hardware.touched(raw, DIRTIES if code & WRITE else TOUCHES)
        if new != raw:
            _change(pair, vcpu, gfn, it.sptep, raw, new)
            _log(pair, vcpu, gfn, new & ~raw & hardware.dirty)


def _log(pair: Pair, vcpu: int, gfn: int, became_dirty: int) -> None:
    """With PML a page that becomes dirty is logged, but for those of nested guests, whose addresses are others."""
    role = pair.roles[vcpu]
    slot = int(find_slot(pair.kvm, role & ROLE_SMM, gfn))
    if pair.config.pml and became_dirty and not role & ROLE_GUEST_MODE and slot >= 0 and is_logged(pair, slot):
        dirty(pair, slot, gfn)


def serve(pair: Pair, vcpu: int) -> None:
    """The fault that the guest left with is served."""
    found = pair.faults.pop(vcpu, None)
    if found is not None and has_root(pair, vcpu):
        gfn, code = found
        pair.both(lambda: pair.c.fault(vcpu, gfn, code), lambda: page_fault(pair.kvm, vcpu, gfn, code))


GUEST_ACTS: Final[dict[str, Callable[..., Any]]] = {
    **ACTS, "host": host, "leaf": leaf, "flags": flags, "dirty": dirty, "collapse_range": collapse_range,
    "range_start": range_start, "range_end": range_end, "host_page": host_page, "change_page": change_page,
    "read_log": read_log, "clear_read": clear_read, "stale_prefetch": stale_prefetch,
    "access": access, "serve": serve,
}  # fmt: skip
"""What random stories and litmus tests do to a pair."""
