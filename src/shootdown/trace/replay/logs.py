"""The operations of dirty logging, with the bitmap as the record shows it reaped."""

from __future__ import annotations

from librt.vecs import vec
from mypy_extensions import i64

from ...machine.words import DIRTY, RING_ENTRY, RING_PUSHED, RING_RESET, SLOT_BASE, SLOT_FLAGS, SLOT_PAGES
from ...mmu.clear_dirty import clear_dirty_pt_masked
from ...mmu.dirty_log import clear_dirty_log, get_dirty_log, reset_dirty_rings
from ...mmu.dirty_ring import HARVESTED, PLACE
from ...mmu.mark_dirty import bit_of
from ...mmu.requests import flush_remote_tlbs
from .. import codes as s
from .config import RING_SIZE
from .follow import Follower
from .task import Task
from .vm import ReplayVm

BITMAP = "words of the dirty bitmap that were reaped, where ours differ"
HARVEST = "how many ring entries user space gave back"


def masks_of(task: Task) -> list[tuple[int, int]]:
    """First gfn and mask of each word that was reaped."""
    return [(e.b, e.c) for e in task.op.calls if e.code == s.CLEAR_PT]


def masks_by_changes(task: Task, base: int) -> list[tuple[int, int]]:
    """The same from where entries changed: of a log that was begun before the record, nothing else tells."""
    masks: dict[int, int] = {}
    for e in task.op.expected:
        if e.code == s.CHANGED and e.b == 1:
            offset = e.a - base
            masks[offset >> 6] = masks.get(offset >> 6, 0) | bit_of(offset)
    return [(base + 64 * word, mask) for word, mask in sorted(masks.items())]


def set_word(follower: Follower, vm: ReplayVm, name: int, mask: int) -> None:
    """Have a word of the bitmap be what was reaped."""
    words = vm.m.words[DIRTY]
    if words.get(name, 0) != mask:
        follower.result.inputs[BITMAP] += 1
        words[name] = mask


def slot_of(task: Task) -> int:
    """Our number of the slot, if it is one that is logged; -1 if nothing is known of it."""
    vm = task.vm
    number = vm.config.numbers.get(task.op.first.b, -1)
    m = vm.m
    if number < 0 or not m.words[SLOT_PAGES].get(number) or not m.words[SLOT_FLAGS].get(number, 0) & 1:
        return -1
    return number


def get_log(follower: Follower, task: Task) -> None:
    """The dirty log is asked for; without manual protection it starts over."""
    vm = task.vm
    masks = masks_of(task)
    slot = task.op.slot if task.op.guess else slot_of(task)
    if slot < 0:
        by_masks(vm, masks)
        return
    manual = vm.config.manual and not task.op.guess
    if task.op.guess and not vm.config.born:
        masks = masks_by_changes(task, vm.m.words[SLOT_BASE][slot])
    if (follower.sees_masks and not manual and not task.op.guess) or masks:
        base, pages = vm.m.words[SLOT_BASE][slot], vm.m.words[SLOT_PAGES][slot]
        reaped = {(slot << 32) | (gfn - base) >> 6: mask for gfn, mask in masks}
        for word in range((pages + 63) >> 6):
            name = slot << 32 | word
            set_word(follower, vm, name, reaped.get(name, 0))
    get_dirty_log(vm.kvm, slot, manual)


def clear_log(follower: Follower, task: Task) -> None:
    """A part of the dirty log starts over."""
    vm, op = task.vm, task.op
    masks = masks_of(task)
    slot = slot_of(task)
    if slot < 0:
        by_masks(vm, masks)
        return
    base = vm.m.words[SLOT_BASE][slot]
    first, number = max(op.first.d, 0), max(op.first.c, 0)
    given = vec[i64]([-1] * ((number + 63) >> 6))
    if follower.sees_masks:
        for i in range(len(given)):
            given[i] = 0
        for gfn, mask in masks:
            offset = gfn - base
            name = slot << 32 | offset >> 6
            given[(offset - first) >> 6] = mask
            held = vm.m.words[DIRTY].get(name, 0)
            if held & mask != mask:
                follower.result.inputs[BITMAP] += 1
                vm.m.words[DIRTY][name] = held | mask
    clear_dirty_log(vm.kvm, slot, first, given)


def by_masks(vm: ReplayVm, masks: list[tuple[int, int]]) -> None:
    """Nothing is known of the slot: as far as the masks tell."""
    vm.m.write_lock()
    for gfn, mask in masks:
        clear_dirty_pt_masked(vm.kvm, 0, gfn, mask, not vm.kvm.pml)
    vm.m.write_unlock()
    if masks:
        flush_remote_tlbs(vm.kvm)


def reset(follower: Follower, task: Task) -> None:
    """User space gives ring entries back: as many as the record tells."""
    vm = task.vm
    words = vm.m.words
    if vm.kvm.ring_size == 0:
        # The log is cleared for nothing that the record shows otherwise.
        by_masks(vm, masks_of(task))
        return
    for e in task.op.calls:
        if e.code != s.RING_RESET:
            continue
        follower.result.inputs[HARVEST] += 1
        index = words[RING_RESET].get(e.a, 0)
        until = index + ((e.c - index) & 0xFFFF_FFFF)
        while index < min(until, words[RING_PUSHED].get(e.a, 0)):
            name = e.a << 32 | index % RING_SIZE
            words[RING_ENTRY][name] = words[RING_ENTRY].get(name, 0) & PLACE | HARVESTED
            index += 1
    reset_dirty_rings(vm.kvm)
