"""What the tasks of a litmus test run: vCPU threads and tasks of the host, with the promises that they rely on.

Shared accesses are whole statements and loops count by hand, so that frames can be compared (frames.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...machine import words


def vcpu(lib: Any, kvm: Any, number: int, role: int) -> None:
    """One round of a vCPU's thread: the guest touches any of its gfns, and its fault is served."""
    lib.vcpu.vcpu_run(kvm, number, role)


def ahead(lib: Any, kvm: Any, number: int, role: int, gfn: int) -> None:
    """One round of a vCPU's thread that maps a page before the guest asks for it, if it has a root."""
    lib.vcpu.vcpu_run(kvm, number, role)
    root = kvm.m.load(words.VCPU_ROOT, number)
    if root != words.NO_TABLE:
        lib.fault.prefetch(kvm, number, gfn)


def switching(lib: Any, kvm: Any, number: int, role: int) -> None:
    """One round of a vCPU's thread, whose guest may have entered or left a nested guest, with a root of its own."""
    nested = kvm.m.need_resched()
    if nested:
        role |= words.ROLE_GUEST_MODE
    lib.vcpu_roots.new_pgd(kvm, number, role)
    lib.vcpu.vcpu_run(kvm, number, role)
    root = kvm.m.load(words.VCPU_ROOT, number)
    if root != words.NO_TABLE:
        owned = kvm.m.load(words.SP_ROLE, root)
        if owned & (words.ROLE_SMM | words.ROLE_GUEST_MODE) != role:
            raise kvm.m.bug("a vCPU has run on a root of another role")


def parked(lib: Any, kvm: Any, number: int, role: int) -> None:
    """A vCPU whose thread has gone, or never runs."""


def unmap(
    lib: Any, kvm: Any, start: int, end: int, pfns: tuple[int, ...], refill: int, may_block: bool, read_only: bool
) -> None:
    """The host takes the pages of a range back, and gives ``refill`` frames further on in their place (-1: none).

    ``read_only``: pages that others have too, as when equal pages are made one. A write would get its own; in a test
    that says so no guest writes there.
    """
    kvm.m.held.atomic = not may_block
    lib.notifier.invalidate_range_start(kvm, start, end, may_block)
    kvm.m.held.atomic = False
    i = 0
    while i < len(pfns):
        kvm.m.revoke(pfns[i])
        i += 1
    gfn = start
    while gfn < end:
        kvm.m.store(words.HOST_PFN, gfn, -1 if refill < 0 else pfns[gfn - start] + refill)
        if read_only:
            kvm.m.store(words.HOST_WRITABLE, gfn, 0)
            kvm.m.protect(1 << gfn)
        gfn += 1
    lib.notifier.invalidate_range_end(kvm, start, end)


def migrate(lib: Any, kvm: Any, start: int, end: int, gfn: int, pfn: int, refill: int) -> None:
    """The host breaks a huge page of its own up, and then has one of its pages ``refill`` frames further on."""
    lib.notifier.invalidate_range_start(kvm, start, end, True)
    page = start
    while page < end:
        kvm.m.store(words.HOST_LEVEL, page, 1)
        page += 1
    lib.notifier.invalidate_range_end(kvm, start, end)
    lib.notifier.invalidate_range_start(kvm, gfn, gfn + 1, True)
    kvm.m.revoke(pfn)
    kvm.m.store(words.HOST_PFN, gfn, pfn + refill)
    lib.notifier.invalidate_range_end(kvm, gfn, gfn + 1)


def zap_range(lib: Any, kvm: Any, start: int, end: int, promise: int) -> None:
    """A range is to be mapped anew, for instance with another memory type: what was cached of it must be gone."""
    lib.notifier.kvm_zap_gfn_range(kvm, start, end)
    kvm.m.forget(promise)


def zap_all_fast(lib: Any, kvm: Any, promise: int) -> None:
    """A memory slot is deleted: nothing that was cached before may be used after."""
    lib.zap.zap_all_fast(kvm)
    kvm.m.forget(promise)


def collapse(lib: Any, kvm: Any, start: int, end: int) -> None:
    """Dirty logging of a slot was switched off: huge pages may come back."""
    if kvm.slots > 0:
        kvm.m.slots_lock()
    lib.huge_pages.disable_dirty_logging(kvm, 0, start, end)
    if kvm.slots > 0:
        kvm.m.slots_unlock()


def recover_nx(lib: Any, kvm: Any, tables: int, rounds: int) -> None:
    """The worker, of which a VM has one, gives regions another chance to be huge pages that must not be executed."""
    while rounds > 0:
        lib.huge_pages.recover_nx_huge_pages(kvm, tables)
        rounds -= 1


def prefault(lib: Any, kvm: Any, number: int, gfn: int, code: int) -> None:
    """A page is mapped ahead of its fault, as by KVM_PRE_FAULT_MEMORY: the fault of one more vCPU on the same root."""
    lib.fault.page_fault(kvm, number, gfn, code)


def log_on(lib: Any, kvm: Any, slot: int, as_id: int, base: int, pages: int, gfns: int) -> None:
    """A slot's writes are logged from here on."""
    lib.memory_region.set_memory_region(kvm, slot, as_id, base, pages, words.LOG_DIRTY_PAGES)
    kvm.m.watch(gfns)


def log_off(lib: Any, kvm: Any, slot: int, as_id: int, base: int, pages: int, gfns: int) -> None:
    """They are not any more."""
    kvm.m.unwatch(gfns)
    lib.memory_region.set_memory_region(kvm, slot, as_id, base, pages, 0)


def get_log(lib: Any, kvm: Any, slot: int, base: int) -> None:
    """The user asks which pages were written, and reads them."""
    masks = lib.dirty_log.get_dirty_log(kvm, slot, False)
    written = masks[0] << base
    masks = None
    kvm.m.harvest(written)


def clear_log(lib: Any, kvm: Any, slot: int, base: int) -> None:
    """The user asks which pages were written, has their bits cleared, and reads them."""
    masks = lib.dirty_log.get_dirty_log(kvm, slot, True)
    lib.dirty_log.clear_dirty_log(kvm, slot, 0, masks)
    written = masks[0] << base
    masks = None
    kvm.m.harvest(written)


def reset_ring(lib: Any, kvm: Any, number: int, bases: tuple[int, ...]) -> None:
    """The user takes all that is in a vCPU's dirty ring, gives the entries back, and reads the pages."""
    written = 0
    index = 0
    while True:
        place = lib.dirty_ring.harvest(kvm, number, index)
        if place < 0:
            break
        written |= 1 << bases[place >> 32] + (place & 0xFFFF_FFFF)
        index += 1
    lib.dirty_log.reset_dirty_rings(kvm)
    kvm.m.harvest(written)


def age(lib: Any, kvm: Any, start: int, end: int) -> None:
    """The host asks whether pages were used since it last did, and has them forget it."""
    lib.notifier.clear_flush_young(kvm, start, end)


def clear_young(lib: Any, kvm: Any, start: int, end: int) -> None:
    """The same, where it does not matter that a CPU may go on with what it has cached."""
    lib.notifier.clear_young(kvm, start, end)


def test_young(lib: Any, kvm: Any, gfn: int) -> None:
    """The host only asks."""
    lib.notifier.test_young(kvm, gfn)


def change_pte(lib: Any, kvm: Any, gfn: int, pfn: int, refill: int) -> None:
    """The host puts another page, which nobody may write, in the place of one, and takes that back."""
    lib.notifier.invalidate_range_start(kvm, gfn, gfn + 1, True)
    kvm.m.store(words.HOST_WRITABLE, gfn, 0)
    kvm.m.store(words.HOST_PFN, gfn, pfn + refill)
    lib.notifier.change_pte(kvm, gfn, pfn + refill, False)
    kvm.m.revoke(pfn)
    lib.notifier.invalidate_range_end(kvm, gfn, gfn + 1)


def write_protect(lib: Any, kvm: Any, slot: int, gfn: int) -> None:
    """A page turns out to hold page tables of a nested guest: nobody may write it unseen."""
    kvm.m.srcu_read_lock()
    lib.write_track.write_track_add_gfn(kvm, slot, gfn)
    kvm.m.protect(1 << gfn)
    kvm.m.srcu_read_unlock()


def host_writable(lib: Any, kvm: Any, gfn: int) -> None:
    """The host may write a page from here on, as after a copy of it was not needed."""
    kvm.m.store(words.HOST_WRITABLE, gfn, 1)


def release(lib: Any, kvm: Any, pfns: tuple[int, ...]) -> None:
    """The process that owns the VM ends, and its pages with it; no vCPU runs any more."""
    lib.notifier.release(kvm)
    i = 0
    while i < len(pfns):
        kvm.m.revoke(pfns[i])
        i += 1


def delete_slot(lib: Any, kvm: Any, slot: int, as_id: int, pfns: tuple[int, ...]) -> None:
    """A memory slot goes, and its pages are used for something else, with no notifier that would find a slot."""
    lib.memory_region.set_memory_region(kvm, slot, as_id, 0, 0, 0)
    i = 0
    while i < len(pfns):
        kvm.m.revoke(pfns[i])
        i += 1


def move_slot(
    lib: Any, kvm: Any, slot: int, base: int, pages: int, flags: int, pfns: tuple[int, ...], gfns: int, given: int,
    logged: int,
) -> None:  # fmt: skip
    """A memory slot is to be found at another gfn, and nothing where it was; its log goes on there, or begins or ends.

    What was written where it was, ``given``, the user asks for no more.
    """
    if given != 0:
        kvm.m.unwatch(given)
    lib.memory_region.set_memory_region(kvm, slot, 0, base, pages, flags)
    kvm.m.back(gfns)
    if logged != 0:
        kvm.m.watch(logged)
    i = 0
    while i < len(pfns):
        kvm.m.revoke(pfns[i])
        i += 1


def create_slot(
    lib: Any, kvm: Any, slot: int, as_id: int, base: int, pages: int, flags: int, gfns: int, logged: int
) -> None:
    """A memory slot comes, where there was none; it may be logged from the start, or read-only."""
    lib.memory_region.set_memory_region(kvm, slot, as_id, base, pages, flags)
    kvm.m.back(gfns)
    if logged != 0:
        kvm.m.watch(logged)


def create_shadowed(lib: Any, kvm: Any, slot: int, base: int, pages: int, gfn: int, gfns: int) -> None:
    """A memory slot comes, and then a page of it turns out to hold page tables of a nested guest."""
    lib.memory_region.set_memory_region(kvm, slot, 0, base, pages, 0)
    kvm.m.back(gfns)
    kvm.m.srcu_read_lock()
    lib.write_track.write_track_add_gfn(kvm, slot, gfn)
    kvm.m.protect(1 << gfn)
    kvm.m.srcu_read_unlock()


def prefetch(lib: Any, kvm: Any, number: int, gfn: int) -> None:
    """A page that the host has brought in is mapped before the guest asks again."""
    lib.fault.prefetch(kvm, number, gfn)


def store_buffer(machine: Any, number: int) -> None:
    """The buffer of a program's CPU: its oldest store comes to memory."""
    oldest = machine.oldest(number)
    if oldest is not None:
        machine.commit(oldest[0], oldest[1])
        machine.drop(number)


HOST: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "unmap": (unmap, ("start", "end", "refill", "may_block", "read_only")),
    "migrate": (migrate, ("start", "end", "gfn", "refill")),
    "zap_range": (zap_range, ("start", "end")),
    "zap_all_fast": (zap_all_fast, ()),
    "collapse": (collapse, ("start", "end")),
    "recover_nx": (recover_nx, ("tables", "rounds")),
    "prefault": (prefault, ("vcpu", "gfn", "execute")),
    "prefetch": (prefetch, ("vcpu", "gfn")),
    "log_on": (log_on, ("slot",)),
    "log_off": (log_off, ("slot",)),
    "get_log": (get_log, ("slot",)),
    "clear_log": (clear_log, ("slot",)),
    "reset_ring": (reset_ring, ("vcpu",)),
    "age": (age, ("start", "end")),
    "clear_young": (clear_young, ("start", "end")),
    "test_young": (test_young, ("gfn",)),
    "change_pte": (change_pte, ("gfn", "refill")),
    "write_protect": (write_protect, ("slot", "gfn")),
    "host_writable": (host_writable, ("gfn",)),
    "release": (release, ()),
    "delete_slot": (delete_slot, ("slot",)),
    "move_slot": (move_slot, ("slot", "base", "flags")),
    "create_slot": (create_slot, ("slot", "base", "pages", "flags")),
    "create_shadowed": (create_shadowed, ("slot", "base", "pages", "gfn")),
}
"""Tasks of the host by the name that a litmus file gives, and the keys that they take there."""
