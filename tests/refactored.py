"""Changes of the MMU's sources after which it does what it did: as good as any contributor's."""

from __future__ import annotations

from .mutations import Change

REFACTORED: dict[str, tuple[Change, ...]] = {
    "independent statements in another order": (
        ("mmu/link.py",
         "    m.store(SP_GFN, table, it.gfn)\n    m.store(SP_LEVEL, table, it.level - 1)\n"
         "    m.store(SP_PARENT, table, it.sptep)\n    entry = make_nonleaf(kvm, table)\n",
         "    entry = make_nonleaf(kvm, table)\n    m.store(SP_PARENT, table, it.sptep)\n"
         "    m.store(SP_LEVEL, table, it.level - 1)\n    m.store(SP_GFN, table, it.gfn)\n"),
        ("mmu/notifier.py",
         "    m.store(INVALIDATE_START, 0, min(start, first))\n    m.store(INVALIDATE_END, 0, max(end, last))\n",
         "    m.store(INVALIDATE_END, 0, max(end, last))\n    m.store(INVALIDATE_START, 0, min(start, first))\n"),
        ("mmu/roots.py",
         "            m.store(ROOT_SCHEDULED, root, 1)\n            m.store(ROOT_INVALID, root, 1)\n",
         "            m.store(ROOT_INVALID, root, 1)\n            m.store(ROOT_SCHEDULED, root, 1)\n"),
    ),
    "locals with other names": (
        ("mmu/zap.py",
         "    it = TdpIter(kvm, root, top, 1, start)\n    while it.valid and it.gfn < end:\n"
         "        if not (may_yield and cond_resched(kvm, it, batch, False)):\n"
         "            if it.old_spte & PRESENT != 0 and is_last(it.old_spte, it.level):\n"
         "                set_spte(kvm, batch, it.sptep, it.gfn, it.level, it.old_spte, kvm.empty)\n",
         "    walk = TdpIter(kvm, root, top, 1, start)\n    while walk.valid and walk.gfn < end:\n"
         "        if not (may_yield and cond_resched(kvm, walk, batch, False)):\n"
         "            if walk.old_spte & PRESENT != 0 and is_last(walk.old_spte, walk.level):\n"
         "                set_spte(kvm, batch, walk.sptep, walk.gfn, walk.level, walk.old_spte, kvm.empty)\n"),
        ("mmu/zap.py",
         "                    batch.flush = True\n        it.next()\n    m.rcu_read_unlock()\n",
         "                    batch.flush = True\n        walk.next()\n    m.rcu_read_unlock()\n"),
        ("mmu/fault.py",
         "    seq = m.load(INVALIDATE_SEQ, 0)\n    result = faultin_pfn(kvm, fault, seq)\n"
         "    if result != CONTINUE:\n        return result\n    m.read_lock()\n    if is_stale(kvm, fault, seq):\n",
         "    snapshot = m.load(INVALIDATE_SEQ, 0)\n    result = faultin_pfn(kvm, fault, snapshot)\n"
         "    if result != CONTINUE:\n        return result\n    m.read_lock()\n"
         "    if is_stale(kvm, fault, snapshot):\n"),
    ),
    "a function of its own for some statements": (
        ("mmu/write_protect.py",
         "        while not cond_resched(kvm, it, batch, True):\n"
         "            if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:\n                break\n"
         "            if set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE):\n                changed = True\n"
         "                break\n        it.next()\n",
         "        if wrprot_entry(kvm, batch, it):\n            changed = True\n        it.next()\n"),
        ("mmu/write_protect.py",
         "def write_protect_gfn(kvm: Kvm,",
         "def wrprot_entry(kvm: Kvm, batch: Batch, it: TdpIter) -> bool:\n"
         "    while not cond_resched(kvm, it, batch, True):\n"
         "        if not is_leaf(it.old_spte, it.level) or it.old_spte & WRITABLE == 0:\n            return False\n"
         "        if set_spte_atomic(kvm, batch, it, it.old_spte & ~WRITABLE):\n            return True\n"
         "    return False\n\n\ndef write_protect_gfn(kvm: Kvm,"),
    ),
    "a flush that is not needed": (
        ("mmu/notifier.py",
         "    if flush:\n        flush_remote_tlbs(kvm)\n\n\ndef invalidate_range_end",
         "    flush_remote_tlbs(kvm)\n\n\ndef invalidate_range_end"),
        ("mmu/dirty_log.py",
         "        m.write_unlock()\n    if flush:\n        flush_remote_tlbs_range(kvm, base, pages)\n"
         "    m.slots_unlock()\n    return words\n",
         "        m.write_unlock()\n    if flush or not manual:\n        flush_remote_tlbs_range(kvm, base, pages)\n"
         "    m.slots_unlock()\n    return words\n"),
    ),
    "loops written otherwise": (
        ("mmu/roots.py",
         "        while found != NO_TABLE:\n"
         "            if is_wanted(kvm, found, ANY_AS, only_valid) and m.inc_not_zero(ROOT_COUNT, found):\n"
         "                break\n            found = m.list_next(ROOTS, found)\n        m.rcu_read_unlock()\n",
         "        while True:\n            if found == NO_TABLE:\n                break\n"
         "            if is_wanted(kvm, found, ANY_AS, only_valid):\n"
         "                if m.inc_not_zero(ROOT_COUNT, found):\n                    break\n"
         "            found = m.list_next(ROOTS, found)\n        m.rcu_read_unlock()\n"),
        ("mmu/zap.py",
         "    i = 0\n    while i < len(kvm.behaviour.passes):\n        level: i64 = kvm.behaviour.passes[i]\n"
         "        if level == 0:\n            zap_root_level(kvm, root, shared, top)\n        elif level < top:\n"
         "            zap_root_level(kvm, root, shared, level)\n        i += 1\n",
         "    i = len(kvm.behaviour.passes)\n    while i > 0:\n"
         "        level: i64 = kvm.behaviour.passes[len(kvm.behaviour.passes) - i]\n"
         "        if level == 0:\n            level = top\n        elif level >= top:\n            level = 0\n"
         "        if level != 0:\n            zap_root_level(kvm, root, shared, level)\n        i -= 1\n"),
    ),
}  # fmt: skip
