"""Bugs that no test of the suite refuted before one was written for each; and more changes that only look wrong."""

from __future__ import annotations

from .known_bugs import USED
from .mutations import ASSERTION, FREED, LEAK, LOST, MAPPED, WRITABLE, Mutation

GAPS = (
    Mutation(
        "1a175082b190: a fault that takes MMU-writable away flushes only where W was set, which ageing takes as well",
        (("mmu/fault.py",
          "            if is_mmu_writable(old, kvm.fmt) and not is_mmu_writable(spte, kvm.fmt):",
          "            if is_writable(old) and not is_writable(spte):"),),
        "read-fault-aged", WRITABLE, behaviour="6.13",
    ),
    Mutation(
        "a fault logs nothing where it finds W, which entries of MMIO have as well",
        (("mmu/fault.py",
          "    if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(spte):",
          "    if fault.flags & LOG_DIRTY_PAGES != 0 and is_writable(spte) and not is_writable(old):"),),
        "mmio-log-write", LOST,
    ),
    Mutation(
        "a log that is to begin all ones begins clean",
        (("mmu/memory_region.py",
          "        kvm.m.store(DIRTY, word_of(slot, offset), ones)\n", "        pass\n"),),
        "log-on-ones", LOST,
    ),
    Mutation(
        "a log that begins all ones lacks that of the last page",
        (("mmu/memory_region.py", ">> (63 - left)", ">> (64 - left)"),),
        "log-on-ones", LOST,
    ),
    Mutation(
        "of two huge pages whose bits are cleared at once the first alone is protected",
        (("mmu/dirty_log.py",
          "        while first <= last:\n            slot_gfn", "        if first <= last:\n            slot_gfn"),
         ("mmu/dirty_log.py",
          "            first = kvm.round(first, 2) + kvm.pages(2)\n"
            "            if first == last and short:\n                break\n", ""),),
        "log-clear-lazy-two", LOST,
    ),
    Mutation(
        "who clears bits of a log clears all of their word",
        (("mmu/dirty_log.py",
          "was = m.fetch_clear(DIRTY, word_of(slot, offset), masks[i])",
          "was = m.fetch_clear(DIRTY, word_of(slot, offset), -1)"),),
        "log-clear-other", LOST,
    ),
    Mutation(
        "entries of two slots that are given back go into one mask, of the first slot",
        (("mmu/dirty_log.py",
          "        delta = (entry & PLACE) - place\n",
          "        delta = (entry & 0xFFFF_FFFF) - (place & 0xFFFF_FFFF)\n"),),
        "ring-two-slots", LOST,
    ),
    Mutation(
        "an entry of a ring names the first slot, whichever its page is in",
        (("mmu/mark_dirty.py", "push(kvm, vcpu, slot, gfn - base)", "push(kvm, vcpu, 0, gfn - base)"),),
        "ring-two-slots", LOST,
    ),
    Mutation(
        "F10: who tracks a page flushes after mmu_lock, and another who does so relies on that flush",
        (("mmu/write_track.py",
          "    if changed:\n        flush_remote_tlbs(kvm)\n    kvm.m.write_unlock()\n",
          "    kvm.m.write_unlock()\n    if changed:\n        flush_remote_tlbs(kvm)\n"),),
        "write-protect-two", WRITABLE,
    ),
    Mutation(
        "a fault without a lock gives a page that was aged its W back, even a huge one's of a slot that is logged",
        (("mmu/fast_fault.py",
          "        new = restore_acc_track(old) | kvm.fmt.accessed\n",
          "        new = restore_acc_track(old) | kvm.fmt.accessed\n"
            "        if is_mmu_writable(old, kvm.fmt):\n            new |= WRITABLE\n"),),
        "fast-fault-huge-read", LOST,
    ),
    Mutation(
        "I-15: write protection for logging takes MMU-writable as well, and its flush comes after mmu_lock",
        (("mmu/write_protect.py",
          "set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE)",
          "set_spte_atomic(kvm, batch, it, it.old_spte & ~(WRITABLE | kvm.fmt.mmu_writable))"),),
        "write-protect-log-on", WRITABLE,
    ),
    Mutation(
        "logging that begins protects the pages from gfn 0 on, not from the slot's first",
        (("mmu/dirty_log.py",
          "    start = m.load(SLOT_BASE, slot)\n    as_id", "    start: i64 = 0\n    as_id"),),
        "log-on-second", LOST,
    ),
    Mutation(
        "a slot that is deleted by itself is zapped from gfn 0 on, not from its first page",
        (("mmu/zap.py",
          "    flush = zap_range(kvm, as_id, base, base + pages, False, True)",
          "    flush = zap_range(kvm, as_id, 0, pages, False, True)"),),
        "slot-delete-second", MAPPED,
    ),
    Mutation(
        "I-15: ageing without A bits takes MMU-writable as well, and does not flush",
        (("mmu/aging.py",
          "    new = mark_for_access_track(it.old_spte, kvm.fmt)\n    if not ad",
          "    new = mark_for_access_track(it.old_spte, kvm.fmt) & ~kvm.fmt.mmu_writable\n    if not ad"),),
        "write-protect-aged", WRITABLE,
    ),
    Mutation(
        "a page of 1G may be mapped around one that nobody may write",
        (("mmu/write_track.py", "    while level <= LEVEL_HUGE_MAX:", "    while level < LEVEL_HUGE_MAX:"),),
        "write-protect-1g", WRITABLE,
    ),
    Mutation(
        "no huge page is mapped around a tracked one in address space 0, whatever the slot's is",
        (("mmu/write_track.py", "tracked_at(as_id, level, kvm.round", "tracked_at(0, level, kvm.round"),),
        "smm-write-protect-huge", WRITABLE,
    ),
    Mutation(
        "write protection for good ends with the first root in which it finds nothing",
        (("mmu/write_protect.py",
          "        if write_protect_root(kvm, root, gfn, min_level):\n            changed = True\n        root",
          "        if write_protect_root(kvm, root, gfn, min_level):\n            changed = True\n"
            "        else:\n            break\n        root"),),
        "write-protect-other-root", WRITABLE,
    ),
    Mutation(
        "entries of the first vCPU's ring alone are taken back",
        (("mmu/dirty_log.py",
          "        cleared += number\n        vcpu += 1\n", "        cleared += number\n        vcpu = kvm.vcpus\n"),),
        "ring-second-vcpu", LOST,
    ),
    Mutation(
        "logging that begins leaves W to pages that were not used, as if no CPU had them cached",
        (("mmu/write_protect.py",
          "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:",
          "            if not is_leaf(it.old_spte, it.level) or it.old_spte & (WRITABLE | kvm.fmt.accessed) in "
            "(0, WRITABLE, kvm.fmt.accessed):"),),
        "log-on-unused", LOST,
    ),
    Mutation(
        "ageing without a lock looks for the first root before its section begins",
        (("mmu/aging.py",
          "    m.rcu_read_lock()\n    root = m.list_next(ROOTS, NO_TABLE)\n    while root != NO_TABLE and not",
          "    root = m.list_next(ROOTS, NO_TABLE)\n    m.rcu_read_lock()\n    while root != NO_TABLE and not"),),
        "age-roots", USED, behaviour="6.18",
    ),
    Mutation(
        "61f94478547b: the NX mitigation marks a table when it is linked, and may be too late for who zaps it",
        (("mmu/fault.py",
          "    if disallowed and kvm.behaviour.marks_refused:\n        m.store(SP_NX_REFUSED, table, 1)\n", ""),
         ("mmu/link.py",
          "    if kvm.behaviour.lists_tables:\n        list_table",
          "    if track and kvm.behaviour.marks_refused:\n        m.store(SP_NX_REFUSED, table, 1)\n"
            "    if kvm.behaviour.lists_tables:\n        list_table"),
         ("mmu/link.py",
          "import SP_GFN, SP_LEVEL, SP_PARENT, TABLES", "import SP_GFN, SP_LEVEL, SP_NX_REFUSED, SP_PARENT, TABLES")),
        "nx-split-collapse", USED,
    ),
    Mutation(
        "d02c357e5bfa, misread: the check before mmu_lock stands for the one under it",
        (("mmu/fault.py",
          "    return fault.slot != NO_SLOT and is_invalidated(kvm, fault.gfn, seq)\n",
          "    early = kvm.behaviour.check_early or fault.slot == NO_SLOT\n"
            "    return not early and is_invalidated(kvm, fault.gfn, seq)\n"),),
        "prefetch-notifier", MAPPED,
    ),
    Mutation(
        "the sequence moves when an invalidation begins, and not when it ends",
        (("mmu/notifier.py",
          "    m.fetch_add(INVALIDATE_SEQ, 0, 1)\n    running", "    running"),
         ("mmu/notifier.py",
          "    m = kvm.m\n    running = m.load(INVALIDATE_IN_PROGRESS, 0)\n    m.store",
          "    m = kvm.m\n    m.fetch_add(INVALIDATE_SEQ, 0, 1)\n"
            "    running = m.load(INVALIDATE_IN_PROGRESS, 0)\n    m.store")),
        "prefetch-notifier", MAPPED,
    ),
    Mutation(
        "52ac8b358b0c: slots may change before an invalidation's end has looked for them",
        (("mmu/notifier.py",
          "    m = kvm.m\n    read_slots(kvm)\n    slots = slots_in(kvm, start, end)\n    if len(slots) > 0:\n"
            "        m.write_lock()\n        invalidate_end(kvm)",
          "    m = kvm.m\n    if kvm.slots > 0:\n        m.fetch_add(INVALIDATIONS, 0, -1)\n"
            "    read_slots(kvm)\n    slots = slots_in(kvm, start, end)\n    if len(slots) > 0:\n"
            "        m.write_lock()\n        invalidate_end(kvm)"),
         ("mmu/notifier.py",
          "    leave_slots(kvm)\n    if kvm.slots > 0:\n        m.fetch_add(INVALIDATIONS, 0, -1)\n",
          "    leave_slots(kvm)\n")),
        "slot-create-notifier", ASSERTION,
    ),
    Mutation(
        "a vCPU that was told to leave the guest is not waited for by the next who tells it",
        (("mmu/requests.py",
          "        if mode != OUTSIDE_GUEST_MODE:\n", "        if mode == IN_GUEST_MODE:\n"),),
        "pml-get", LOST,
    ),
    Mutation(
        "a vCPU that is asked to flush already is not asked again, nor waited for",
        (("mmu/requests.py",
          "        m.fetch_or(VCPU_REQUESTS, vcpu, request)\n        mode",
          "        was = m.fetch_or(VCPU_REQUESTS, vcpu, request)\n        if was & request != 0:\n"
            "            vcpu += 1\n            continue\n        mode"),),
        "write-protect-get", WRITABLE,
    ),
    Mutation(
        "a vCPU gets its root before it serves the request to leave invalid ones",
        (("mmu/vcpu.py",
          "    if requests != 0:\n        serve_requests(kvm, vcpu, requests)\n"
            "    if m.load(VCPU_ROOT, vcpu) == NO_TABLE:\n        if not mmu_load(kvm, vcpu, role):\n"
            "            return NO_FAULT\n",
          "    if m.load(VCPU_ROOT, vcpu) == NO_TABLE:\n        if not mmu_load(kvm, vcpu, role):\n"
            "            return NO_FAULT\n    if requests != 0:\n        serve_requests(kvm, vcpu, requests)\n"),),
        "zap-all-fast", FREED,
    ),
    Mutation(
        "a range that begins at a slot's last page is not found to lie in it",
        (("mmu/slots.py",
          "                if owner == as_id and base < end and start < base + pages:",
          "                if owner == as_id and base < end and start < base + pages - 1:"),),
        "slot-unmap-last", MAPPED,
    ),
    Mutation(
        "a slot that is deleted by itself is zapped before nobody can see it as it was",
        (("mmu/memory_region.py",
          "    end_publishing(kvm, as_id)\n    flush_shadow_memslot(kvm, slot)\n",
          "    flush_shadow_memslot(kvm, slot)\n    end_publishing(kvm, as_id)\n"),),
        "slot-delete-late", MAPPED,
    ),
    Mutation(
        "a slot that is moved by itself is zapped where it is, and not where it was",
        (("mmu/memory_region.py",
          "        invalidate_slot(kvm, slot, old_flags)\n        move_slot(kvm, slot, base, flags)\n",
          "        move_slot(kvm, slot, base, flags)\n        flush_shadow_memslot(kvm, slot)\n"),),
        "slot-move-alone", MAPPED,
    ),
    Mutation(
        "a root is queued before it leaves the list",
        (("mmu/roots.py",
          "    m.pages_lock()\n    m.list_del(ROOTS, root)\n    m.pages_unlock()\n    m.call_rcu(root)\n",
          "    m.call_rcu(root)\n    m.pages_lock()\n    m.list_del(ROOTS, root)\n    m.pages_unlock()\n"),),
        "age-roots", USED, behaviour="6.18",
    ),
    Mutation(
        "a root is freed with its last reference, while others may walk the list",
        (("mmu/roots.py", "    m.call_rcu(root)\n", "    m.free_table(root)\n"),),
        "age-roots", USED, behaviour="6.18",
    ),
    Mutation(
        "roots of system management mode are not invalidated with the others",
        (("mmu/roots.py",
          "        if m.load(ROOT_INVALID, root) == 0:\n            m.store(ROOT_SCHEDULED",
          "        if m.load(ROOT_INVALID, root) == 0 and root_as_id(kvm, root) == 0:\n"
            "            m.store(ROOT_SCHEDULED"),),
        "smm-slot-delete-all", MAPPED,
    ),
    Mutation(
        "a walk begins at the very gfn, not at the first that its entry covers, and passes over one of the next",
        (("mmu/iter.py",
          "        self.gfn = self.kvm.round(self.next_last_level_gfn, self.level)\n        self.read_entry()\n\n"
            "    def read_entry",
          "        self.gfn = self.next_last_level_gfn\n        self.read_entry()\n\n    def read_entry"),),
        "unmap-across", MAPPED,
    ),
    Mutation(
        "a table for a huge page that is split is filled when it is got, whichever page it is used for",
        (("mmu/split.py",
          "    fill_split(kvm, table, it.old_spte, level)\n    if not link", "    if not link"),
         ("mmu/split.py",
          "                if it.yielded:\n                    break\n",
          "                fill_split(kvm, table, it.old_spte, it.level)\n"
            "                if it.yielded:\n                    break\n")),
        "split-other-huge", MAPPED,
    ),
    Mutation(
        "a split that lost its race forgets its table",
        (("mmu/split.py",
          "            if split_huge_page(kvm, batch, it, table, shared, False):\n"
            "                table = NO_TABLE\n                break\n",
          "            done = split_huge_page(kvm, batch, it, table, shared, False)\n"
            "            table = NO_TABLE\n            if done:\n                break\n"),),
        "log-on-huge-clean", LEAK,
    ),
    Mutation(
        "a huge page is rebuilt where the host has none",
        (("mmu/huge_pages.py", "    return host >= wanted\n", "    return host >= 1\n"),),
        "recover-small", MAPPED, behaviour="6.13",
    ),
    Mutation(
        "a huge page is rebuilt that begins before its slot",
        (("mmu/huge_pages.py",
          "    if it.gfn < start or it.gfn + kvm.pages(it.level) > end:\n",
          "    if it.gfn + kvm.pages(it.level) > end:\n"),),
        "recover-at-start", LOST, behaviour="6.13",
    ),
    Mutation(
        "of three pages of a ring whose entries are given back at once the first ones are forgotten",
        (("mmu/dirty_log.py",
          "    return (mask & ~bit_of(top)) << number | bit_of(top + number)\n", "    return bit_of(top + number)\n"),),
        "ring-three-pages", LOST,
    ),
)  # fmt: skip
