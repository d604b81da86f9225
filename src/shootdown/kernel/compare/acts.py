"""What operations.py draws, done to a pair: in both VMs alike, or in neither where it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from librt.vecs import vec
from mypy_extensions import i64

from ...machine import words
from ...machine.words import LOG_DIRTY_PAGES, READONLY
from ...mmu import dirty_log, dirty_ring, notifier, vcpu_roots, write_track
from ...mmu.fault import page_fault, prefetch
from ...mmu.huge_pages import disable_dirty_logging, recover_nx_huge_pages
from ...mmu.memory_region import refusal, set_memory_region
from ...mmu.split import slot_try_split_huge_pages
from ...mmu.spte import is_leaf, is_writable, signed, unsigned
from ...mmu.vcpu import vcpu_enter_guest
from ...mmu.walk import walk_to_last
from ...mmu.write_protect import slot_remove_write_access
from ...mmu.zap import zap_all_fast
from ..library import native
from .operations import GIB, HUGE
from .pair import Pair

HOST_END: Final = 1 << 21
"""The host's pages are what they are from this gfn on."""


# Slots as they are


def pages_of(pair: Pair, slot: int) -> int:
    """Pages of a slot, 0 where there is none."""
    return int(pair.machine.load(words.SLOT_PAGES, slot))


def flags_of(pair: Pair, slot: int) -> int:
    """Flags of a slot."""
    return int(pair.machine.load(words.SLOT_FLAGS, slot))


def place_of(pair: Pair, slot: int) -> tuple[int, int, int]:
    """Address space, first gfn and the first after a slot."""
    load = pair.machine.load
    base = int(load(words.SLOT_BASE, slot))
    return int(load(words.SLOT_AS, slot)), base, base + pages_of(pair, slot)


def is_logged(pair: Pair, slot: int) -> bool:
    """Is there a slot of that number, and logged?"""
    return pages_of(pair, slot) != 0 and flags_of(pair, slot) & LOG_DIRTY_PAGES != 0


def set_slot(pair: Pair, slot: int, as_id: int, base: int, pages: int, flags: int) -> None:
    """Change a slot, if that can be; no notifier may run, and no page of a slot that goes is tracked."""
    goes = pages == 0 or (pages_of(pair, slot) != 0 and place_of(pair, slot)[1] != base)
    if pair.running or (goes and any(of == slot for of, _ in pair.tracked)):
        return
    if refusal(pair.kvm, slot, as_id, base, pages, flags) == "":
        pair.both(
            lambda: pair.c.set_memory_region(slot, as_id, base, pages, flags),
            lambda: set_memory_region(pair.kvm, slot, as_id, base, pages, flags),
        )


def create(pair: Pair, slot: int, as_id: int, base: int, pages: int, flags: int) -> None:
    """A slot is made."""
    if pages_of(pair, slot) == 0:
        set_slot(pair, slot, as_id, base, pages, flags)


def delete(pair: Pair, slot: int) -> None:
    """A slot goes."""
    if pages_of(pair, slot) != 0:
        set_slot(pair, slot, place_of(pair, slot)[0], 0, 0, 0)


def move(pair: Pair, slot: int, base: int) -> None:
    """A slot lies elsewhere from here on."""
    if pages_of(pair, slot) != 0:
        set_slot(pair, slot, place_of(pair, slot)[0], base, pages_of(pair, slot), flags_of(pair, slot))


def reflag(pair: Pair, slot: int, log: int) -> None:
    """A slot is logged, or no more."""
    if pages_of(pair, slot) != 0:
        as_id, base, end = place_of(pair, slot)
        if end - base < GIB:
            set_slot(pair, slot, as_id, base, end - base, log | flags_of(pair, slot) & READONLY)


# vCPUs


def enter(pair: Pair, vcpu: int) -> bool:
    """A vCPU serves its requests and has a root; False if its ring must be read before it runs."""
    pair.both(lambda: pair.c.enter(vcpu), lambda: unit(vcpu_enter_guest(pair.kvm, vcpu, pair.roles[vcpu])))
    if pair.config.ring_size == 0:
        return True
    load = pair.machine.load
    used = load(words.RING_PUSHED, vcpu) - load(words.RING_RESET, vcpu)
    return bool(used < pair.config.ring_soft_limit)


def unit(answer: object) -> None:
    """An answer that is of no interest."""


def has_root(pair: Pair, vcpu: int) -> bool:
    """Has a vCPU a root?"""
    return bool(pair.machine.load(words.VCPU_ROOT, vcpu) != words.NO_TABLE)


def fault(pair: Pair, vcpu: int, gfn: int, code: int) -> None:
    """The guest runs, and faults."""
    if can_run(pair, vcpu):
        pair.both(lambda: pair.c.fault(vcpu, gfn, code), lambda: page_fault(pair.kvm, vcpu, gfn, code))


def can_run(pair: Pair, vcpu: int) -> bool:
    """A vCPU enters its guest, if it may: nothing is done if not."""
    runs = enter(pair, vcpu) and has_root(pair, vcpu)
    pair.acted = runs
    return runs


def stale_fault(pair: Pair, vcpu: int, gfn: int, code: int) -> None:
    """A fault is served that the guest had before what came last: its root may be invalid by now."""
    if has_root(pair, vcpu) and not ring_is_short(pair, vcpu):
        pair.both(lambda: pair.c.fault(vcpu, gfn, code), lambda: page_fault(pair.kvm, vcpu, gfn, code))


def ring_is_short(pair: Pair, vcpu: int) -> bool:
    """Are there few free entries left?"""
    load = pair.machine.load
    used = load(words.RING_PUSHED, vcpu) - load(words.RING_RESET, vcpu)
    return bool(pair.config.ring_size != 0 and used > pair.config.ring_soft_limit)


def map_ahead(pair: Pair, vcpu: int, gfn: int) -> None:
    """A page is mapped ahead of its fault."""
    if can_run(pair, vcpu):
        pair.both(lambda: pair.c.prefetch(vcpu, gfn), lambda: prefetch(pair.kvm, vcpu, gfn))


def touch(pair: Pair, vcpu: int, gfn: int, write: int) -> None:
    """The CPU sets A, or A and D, in the leaf of a page, as where the guest uses it."""
    if not has_root(pair, vcpu) or not pair.kvm.fmt.ad:
        return
    it = walk_to_last(pair.kvm, pair.machine.load(words.VCPU_ROOT, vcpu), gfn)
    old = int(it.old_spte)
    if not it.valid or not is_leaf(old, it.level) or (write and not is_writable(old)):
        return
    flip = (int(pair.kvm.fmt.accessed) | (int(pair.kvm.fmt.dirty) if write else 0)) & ~old
    if flip:
        pair.machine.write(it.sptep, old ^ flip)
        pair.c.poke(vcpu, gfn, flip)
        pair.acted = True


def new_pgd(pair: Pair, vcpu: int, role: int) -> None:
    """The vCPU goes on with a root of another role."""
    pair.roles[vcpu] = role
    pair.both(lambda: pair.c.new_pgd(vcpu, role), lambda: vcpu_roots.new_pgd(pair.kvm, vcpu, role))


def reset_context(pair: Pair, vcpu: int, role: int) -> None:
    """It lets go of all roots before."""
    pair.roles[vcpu] = role
    pair.both(lambda: pair.c.reset_context(vcpu, role), lambda: vcpu_roots.reset_context(pair.kvm, vcpu))


# The host


def set_host(pair: Pair, start: int, end: int, pfn: int) -> None:
    """The host maps a range to frames from ``pfn`` on (-1: to nothing), in pages of 4 KiB. Within an invalidation."""
    end = min(end, HOST_END)
    if end - start > 2 * HUGE or start >= end:
        return
    for gib in range(start // GIB, (end - 1) // GIB + 1):
        cut_gib(pair, gib)
    first = start // HUGE * HUGE
    set_level(pair, first, -(-end // HUGE) * HUGE, 1)
    pair.c.host(start, end - start, pfn)
    for gfn in range(start, end):
        pair.machine.store(words.HOST_PFN, gfn, pfn if pfn < 0 else pfn + gfn - start)


def cut_gib(pair: Pair, gib: int) -> None:
    """A part of a GiB is to lie elsewhere: no page of the host is that large there any more."""
    if gib in pair.cut:
        return
    pair.cut.add(gib)
    for start in range(gib * GIB, min((gib + 1) * GIB, HOST_END), HUGE):
        if pair.machine.load(words.HOST_LEVEL, start) == 3:
            set_level(pair, start, start + HUGE, 2)


def set_level(pair: Pair, start: int, end: int, level: int) -> None:
    """The host maps a range by pages of a level."""
    pair.c.host(start, end - start, level=level)
    for gfn in range(start, end):
        pair.machine.store(words.HOST_LEVEL, gfn, level)


def is_usual(pair: Pair, start: int, end: int) -> bool:
    """Does the host map a range as one piece?"""
    load = pair.machine.load
    return all(load(words.HOST_PFN, gfn) == gfn and load(words.HOST_WRITABLE, gfn) for gfn in range(start, end))


def begin(pair: Pair, start: int, end: int) -> None:
    """A notifier begins, and ends some time later."""
    if len(pair.running) < 2:
        pair.running.append((start, end))
        start_range(pair, start, end, 1)


def start_range(pair: Pair, start: int, end: int, may_block: int) -> None:
    """The first half of a notifier."""
    blocks = may_block != 0
    pair.both(
        lambda: pair.c.invalidate_range_start(start, end, blocks),
        lambda: notifier.invalidate_range_start(pair.kvm, start, end, blocks),
    )


def end_range(pair: Pair, start: int, end: int) -> None:
    """The second half."""
    pair.both(
        lambda: pair.c.invalidate_range_end(start, end), lambda: notifier.invalidate_range_end(pair.kvm, start, end)
    )


def end_one(pair: Pair, which: int) -> None:
    """A notifier that runs ends."""
    if pair.running:
        end_range(pair, *pair.running.pop(which % len(pair.running)))


def unmap(pair: Pair, start: int, end: int, may_block: int, further: int) -> None:
    """The host takes pages back, and gives those ``further`` on in their place (-1: none, 0: the usual ones)."""
    start_range(pair, start, end, may_block)
    set_host(pair, start, end, -1 if further < 0 else start + further)
    end_range(pair, start, end)


def change_pte(pair: Pair, gfn: int, pfn: int, writable: int) -> None:
    """The host puts another page in the place of one, in one step (6.1)."""
    if not pair.kvm.behaviour.change_pte:
        return
    begin(pair, gfn, gfn + 1)
    if (gfn, gfn + 1) not in pair.running:
        return
    set_host(pair, gfn, gfn + 1, pfn)
    allowed = writable != 0
    pair.c.host(gfn, writable=writable)
    pair.machine.store(words.HOST_WRITABLE, gfn, writable)
    pair.both(lambda: pair.c.change_pte(gfn, pfn, allowed), lambda: notifier.change_pte(pair.kvm, gfn, pfn, allowed))
    pair.running.remove((gfn, gfn + 1))
    end_range(pair, gfn, gfn + 1)


def host_level(pair: Pair, gfn: int, level: int) -> None:
    """The host maps the pages around a gfn by larger ones, or smaller ones, which nobody is told."""
    size = GIB if level == 3 else HUGE
    start = gfn // size * size
    if level == 3 and (pair.config.host_level != 3 or gfn // GIB in pair.cut):
        return
    if level == 1 or is_usual(pair, start, start + HUGE):
        set_level(pair, start, start + HUGE, level)
        pair.acted = True


def host_writable(pair: Pair, gfn: int, writable: int) -> None:
    """The host may write a page from here on, or not; in the latter case notifiers are told."""
    if not writable:
        start_range(pair, gfn, gfn + 1, 1)
    pair.c.host(gfn, writable=writable)
    pair.machine.store(words.HOST_WRITABLE, gfn, writable)
    if not writable:
        end_range(pair, gfn, gfn + 1)
    pair.acted = True


def zap_range(pair: Pair, start: int, end: int) -> None:
    """A range is to be mapped anew."""
    pair.both(lambda: pair.c.zap_range(start, end), lambda: notifier.kvm_zap_gfn_range(pair.kvm, start, end))


def zap_all(pair: Pair) -> None:
    """All roots are replaced."""
    pair.both(pair.c.zap_all_fast, lambda: zap_all_fast(pair.kvm))


def release(pair: Pair) -> None:
    """Everything is unmapped."""
    pair.both(pair.c.release, lambda: notifier.release(pair.kvm))


def age(pair: Pair, start: int, end: int) -> None:
    """Was something used? It is not any more."""
    pair.both(lambda: pair.c.age(start, end, True), lambda: notifier.clear_flush_young(pair.kvm, start, end))


def clear_young(pair: Pair, start: int, end: int) -> None:
    """The same without a flush."""
    pair.both(lambda: pair.c.age(start, end, False), lambda: notifier.clear_young(pair.kvm, start, end))


def test_young(pair: Pair, gfn: int) -> None:
    """Was a page used?"""
    pair.both(lambda: pair.c.test_age(gfn), lambda: notifier.test_young(pair.kvm, gfn))


def recover_nx(pair: Pair, tables: int) -> None:
    """NX recovery."""
    pair.both(lambda: pair.c.recover_nx(tables), lambda: recover_nx_huge_pages(pair.kvm, tables))


# Dirty logs


def get_log(pair: Pair, slot: int, manual: int) -> None:
    """The user reads a log; where it began all ones he clears it by himself."""
    if not is_logged(pair, slot) or pair.config.ring_size != 0:
        return
    keeps = manual != 0 or pair.config.initially_set
    pair.both(lambda: pair.c.get_dirty_log(slot, keeps), lambda: log_of(pair, slot, keeps))


def log_of(pair: Pair, slot: int, manual: bool) -> dict[int, int]:
    """Our log, as the C's comes."""
    masks = dirty_log.get_dirty_log(pair.kvm, slot, manual)
    return {n: unsigned(mask) for n, mask in enumerate(masks) if mask != 0}


def clear_log(pair: Pair, slot: int, bits: int, word: int) -> None:
    """The user reads a log and clears some of it: some bits of one word, or of all (-1)."""
    if not is_logged(pair, slot) or pair.config.ring_size != 0:
        return
    found = {n: mask & bits for n, mask in log_of(pair, slot, True).items() if mask & bits and word in (n, -1)}
    clear_words(pair, slot, found)


def clear_words(pair: Pair, slot: int, found: dict[int, int]) -> None:
    """The user clears bits of a log: of each word, by number, those of a mask."""
    masks = vec[i64]([0] * (max(found, default=-1) + 1))
    for n, mask in found.items():
        masks[n] = signed(mask)
    pair.both(lambda: pair.c.clear_dirty_log(slot, found), lambda: dirty_log.clear_dirty_log(pair.kvm, slot, 0, masks))


def take(pair: Pair, vcpu: int, number: int) -> None:
    """The user takes entries out of a ring."""
    for _ in range(number if pair.config.ring_size else 0):
        if pair.machine.load(words.RING_PUSHED, vcpu) <= pair.taken[vcpu]:
            return
        take_one(pair, vcpu, pair.taken[vcpu])
        pair.taken[vcpu] += 1


def take_one(pair: Pair, vcpu: int, index: int) -> None:
    """The user takes one."""
    pair.both(lambda: pair.c.harvest(vcpu, index), lambda: int(dirty_ring.harvest(pair.kvm, vcpu, index)))


def reset(pair: Pair) -> None:
    """What was taken out of rings is free again."""
    if pair.config.ring_size:
        pair.both(pair.c.reset_rings, lambda: int(dirty_log.reset_dirty_rings(pair.kvm)))


def track(pair: Pair, slot: int, gfn: int) -> None:
    """A page turns out to hold what must not be written unseen."""
    _, base, end = place_of(pair, slot)
    if not base <= gfn < end or len(pair.tracked) > 4 or (slot, gfn) in pair.tracked or flags_of(pair, slot) & READONLY:
        return
    pair.tracked.append((slot, gfn))
    pair.both(
        lambda: pair.c.slot(slot, native.TRACK, gfn), lambda: write_track.write_track_add_gfn(pair.kvm, slot, gfn)
    )


def untrack(pair: Pair, which: int, gfn: int) -> None:
    """It does not any more."""
    if not pair.tracked:
        return
    slot, gfn = pair.tracked.pop((which + gfn) % len(pair.tracked))
    pair.both(
        lambda: pair.c.slot(slot, native.UNTRACK, gfn), lambda: write_track.write_track_remove_gfn(pair.kvm, slot, gfn)
    )


# What others do to a whole slot


def of_slot(what: int, ours: Callable[..., object], *rest: int) -> Callable[..., None]:
    """Something that is done to a whole slot, by itself."""

    def act(pair: Pair, slot: int, *numbers: int) -> None:
        as_id, base, end = place_of(pair, slot)
        if not 0 < end - base < GIB or (what == native.COLLAPSE and is_logged(pair, slot)):
            return
        pair.both(lambda: pair.c.slot(slot, what, *numbers), lambda: unit(ours(pair.kvm, as_id, base, end, *numbers)))

    return act


ACTS: Final[dict[str, Callable[..., Any]]] = {
    "fault": fault, "stale_fault": stale_fault, "prefetch": map_ahead, "enter": enter, "touch": touch, "unmap": unmap,
    "begin": begin, "end": end_one, "zap_range": zap_range, "zap_all_fast": zap_all, "release": release, "age": age,
    "clear_young": clear_young, "test_young": test_young, "change_pte": change_pte, "recover_nx": recover_nx,
    "create": create, "delete": delete, "move": move, "log_on": lambda pair, slot: reflag(pair, slot, LOG_DIRTY_PAGES),
    "log_off": lambda pair, slot: reflag(pair, slot, 0), "get_log": get_log, "clear_log": clear_log, "harvest": take,
    "reset": reset, "track": track, "untrack": untrack, "new_pgd": new_pgd, "reset_context": reset_context,
    "host_level": host_level, "host_writable": host_writable,
    "split": of_slot(native.SPLIT, slot_try_split_huge_pages),
    "collapse": of_slot(native.COLLAPSE, disable_dirty_logging),
    "protect": of_slot(native.PROTECT, slot_remove_write_access),
    "clear_dirty": of_slot(native.CLEAR_DIRTY, dirty_log.slot_leaf_clear_dirty),
}  # fmt: skip
"""By the names that operations.py draws."""
