"""Further bugs of the families in known_bugs.py: some that KVM had, others that it might have; found by trying.

A commit in a site is that of KVM's fix.
"""

from __future__ import annotations

from .known_bugs import USED
from .mutations import ASSERTION, LOST, MAPPED, WRITABLE, Mutation

FURTHER = (
    Mutation(
        "b64d740ea7dd: logging that begins flushes only if an entry changed, though aged ones are cached as they were",
        (("mmu/write_protect.py",
          "min_level: i64) -> None:\n    \"\"\"Make a slot read-only",
          "min_level: i64) -> bool:\n    \"\"\"Make a slot read-only"),
         ("mmu/write_protect.py",
          "    wrprot_slot(kvm, as_id, start, end, min_level)\n    kvm.m.read_unlock()\n",
          "    changed = wrprot_slot(kvm, as_id, start, end, min_level)\n    kvm.m.read_unlock()\n"
            "    return changed\n"),
         ("mmu/dirty_log.py",
          "        slot_remove_write_access(kvm, as_id, start, start + pages, 1)\n"
            "    flush_remote_tlbs_range(kvm, start, pages)\n",
          "        changed = slot_remove_write_access(kvm, as_id, start, start + pages, 1)\n"
            "        if not changed:\n            return\n    flush_remote_tlbs_range(kvm, start, pages)\n"),),
        "log-on-aged", LOST,
    ),
    Mutation(
        "1f4e5fc83a42: leaves of a nested guest rely on D though the CPU logs other addresses",
        (("mmu/make_spte.py",
          "    elif kvm.pml and role & ROLE_GUEST_MODE != 0:\n",
          "    elif False:\n"),),
        "nested-pml", LOST,
    ),
    Mutation(
        "a table leaves the list for NX recovery without the pages lock, under mmu_lock held for read",
        (("mmu/table_lists.py",
          "    if shared:\n        m.pages_lock()\n    untrack_locked(kvm, table)\n    if shared:\n"
            "        m.pages_unlock()\n",
          "    untrack_locked(kvm, table)\n"),),
        "nx-recovery-collapse", ASSERTION,
    ),
    Mutation(
        "a range zap goes on with its entry after it gave way",
        (("mmu/zap.py",
          "        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
            "            if it.old_spte & PRESENT != 0 and is_last(it.old_spte, it.level):\n",
          "        if may_yield:\n            cond_resched(kvm, it, batch, False)\n        if True:\n"
            "            if it.old_spte & PRESENT != 0 and is_last(it.old_spte, it.level):\n"),),
        "unmap-yield-collapse", USED,
    ),
    Mutation(
        "write protection for logging goes on with its entry after it gave way",
        (("mmu/write_protect.py",
          "        while not cond_resched(kvm, it, batch, True):\n"
            "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:",
          "        cond_resched(kvm, it, batch, True)\n        while True:\n"
            "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:"),),
        "log-on-huge", ASSERTION,
    ),
    Mutation(
        "write protection for logging gives up on an entry that changes under it",
        (("mmu/write_protect.py",
          "            if set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE):\n"
            "                changed = True\n                break\n",
          "            if set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE):\n"
            "                changed = True\n            break\n"),),
        "log-on-clean", LOST,
    ),
    Mutation(
        "with PML huge pages stay writable when logging begins",
        (("mmu/dirty_log.py",
          "        slot_remove_write_access(kvm, as_id, start, start + pages, 2)\n",
          "        pass\n"),),
        "pml-on-huge", LOST,
    ),
    Mutation(
        "with PML pages stay dirty when logging begins",
        (("mmu/dirty_log.py",
          "        slot_leaf_clear_dirty(kvm, as_id, start, start + pages)\n",
          "        pass\n"),),
        "pml-on", LOST,
    ),
    Mutation(
        "who makes a slot clean gives up on an entry that changes under it",
        (("mmu/clear_dirty.py",
          "        if it.old_spte & PRESENT == 0:\n            return False\n"
            "        if kvm.behaviour.recheck_leaf",
          "        return False\n        if kvm.behaviour.recheck_leaf"),),
        "pml-on-used", LOST,
    ),
    Mutation(
        "the MMU's reference to a root is put twice",
        (("mmu/zap.py",
          "            m.store(ROOT_SCHEDULED, root, 0)\n",
          ""),),
        "slot-delete-both", USED,
    ),
    Mutation(
        "a notifier zaps the roots of address space 0 only",
        (("mmu/notifier.py",
          "        if zap_range(kvm, as_id, first, last, False, may_block):",
          "        if zap_range(kvm, 0, first, last, False, may_block):"),),
        "smm-notifier", MAPPED,
    ),
    Mutation(
        "write protection for good leaves 4K pages writable",
        (("mmu/write_track.py",
          "    changed = slot_gfn_write_protect(kvm, slot, gfn, 1)",
          "    changed = slot_gfn_write_protect(kvm, slot, gfn, 2)"),),
        "write-protect", WRITABLE,
    ),
    Mutation(
        "a page is tracked after it was protected and not before",
        (("mmu/write_track.py",
          "    update_gfn_write_track(kvm, slot, gfn, 1)\n"
            "    changed = slot_gfn_write_protect(kvm, slot, gfn, 1)\n    if changed:\n"
            "        flush_remote_tlbs(kvm)\n    kvm.m.write_unlock()\n",
          "    changed = slot_gfn_write_protect(kvm, slot, gfn, 1)\n    if changed:\n"
            "        flush_remote_tlbs(kvm)\n    kvm.m.write_unlock()\n    kvm.m.write_lock()\n"
            "    update_gfn_write_track(kvm, slot, gfn, 1)\n    kvm.m.write_unlock()\n"),),
        "write-protect", WRITABLE,
    ),
    Mutation(
        "who maps a page ahead does not ask whether it is tracked",
        (("mmu/fault.py",
          "    protect = fault.writable and is_tracked(kvm, it)\n",
          "    protect = fault.writable and not fault.prefetch and is_tracked(kvm, it)\n"),),
        "write-protect-prefetch", WRITABLE,
    ),
    Mutation(
        "the last pages of a ring that is given back are not protected",
        (("mmu/dirty_log.py",
          "    reset_dirty_gfn(kvm, place, mask)\n    return count\n",
          "    return count\n"),),
        "ring-reset", LOST,
    ),
    Mutation(
        "pages of a ring that come in falling order are protected wrongly",
        (("mmu/dirty_log.py",
          "            place += delta\n            mask = moved_up(mask, -delta) | 1\n",
          "            mask = moved_up(mask, -delta) | 1\n"),),
        "ring-pages", LOST,
    ),
    Mutation(
        "the place of a ring's entry is free before the entry is empty",
        (("mmu/dirty_log.py",
          "        m.store(RING_ENTRY, entry_of(kvm, vcpu, index), 0)\n"
            "        m.store(RING_RESET, vcpu, index + 1)\n",
          "        m.store(RING_RESET, vcpu, index + 1)\n"
            "        m.store(RING_ENTRY, entry_of(kvm, vcpu, index), 0)\n"),),
        "ring-reused", LOST,
    ),
    Mutation(
        "the last page of a slot is not protected when its entry of a ring is given back",
        (("mmu/dirty_log.py",
          "    if offset + last_bit(mask) >= pages:\n",
          "    if offset + last_bit(mask) >= pages - 1:\n"),),
        "ring-pages", LOST,
    ),
    Mutation(
        "the flush of a ring's reset comes first",
        (("mmu/dirty_log.py",
          "    cleared: i64 = 0\n    vcpu: i64 = 0\n",
          "    flush_remote_tlbs(kvm)\n    cleared: i64 = 0\n    vcpu: i64 = 0\n"),
         ("mmu/dirty_log.py",
          "    if cleared > 0:\n        flush_remote_tlbs(kvm)\n    return cleared",
          "    return cleared"),),
        "ring-reset", LOST,
    ),
    Mutation(
        "bits that are cleared are those that were not set",
        (("mmu/dirty_log.py",
          "                enable_log_dirty_pt_masked(kvm, slot, offset, was & masks[i])\n",
          "                enable_log_dirty_pt_masked(kvm, slot, offset, masks[i] & ~was)\n"),),
        "log-clear", LOST,
    ),
    Mutation(
        "pages before the last that a mask names are not made clean",
        (("mmu/clear_dirty.py",
          "gfn + first_bit(mask))",
          "gfn + last_bit(mask))"),),
        "log-get-pages", LOST,
    ),
    Mutation(
        "the bit of a page is counted from gfn 0, not from the slot's first",
        (("mmu/mark_dirty.py",
          "        m.fetch_or(DIRTY, word_of(slot, gfn - base), bit_of(gfn - base))",
          "        m.fetch_or(DIRTY, word_of(slot, gfn), bit_of(gfn))"),),
        "log-get-pages", LOST,
    ),
    Mutation(
        "the bit of a page is set by a load and a store",
        (("mmu/mark_dirty.py",
          "        m.fetch_or(DIRTY, word_of(slot, gfn - base), bit_of(gfn - base))",
          "        was = m.load(DIRTY, word_of(slot, gfn - base))\n"
            "        m.store(DIRTY, word_of(slot, gfn - base), was | bit_of(gfn - base))"),),
        "log-two-pages", LOST,
    ),
    Mutation(
        "the bits of a log are taken by a load and a store",
        (("mmu/dirty_log.py",
          "            mask = m.fetch_clear(DIRTY, word_of(slot, offset), -1)\n            flush = True\n",
          "            m.store(DIRTY, word_of(slot, offset), 0)\n            flush = True\n"),),
        "log-get-other", LOST,
    ),
)  # fmt: skip
"""Each with the test that refutes it."""
