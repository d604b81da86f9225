"""Bugs that no test of the suite refuted before one was written for each; and more changes that only look wrong."""

from __future__ import annotations

from .mutations import LOST, WRITABLE, Mutation

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
)  # fmt: skip
