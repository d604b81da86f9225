"""Bugs planted in the kernel's own C, by edits that name functions and what is done to them, and what refutes each.

``python -m tests.kernel_planted`` tries them on the trees that SHOOTDOWN_LINUX names; docs/bugs.md shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.edits import BEFORE, DROP, REPLACE, Edit

BOTH = ("6.1", "6.12")
FREED, REVOKED, STALE, USED, LEAK = "freed in reach", "revoked in reach", "stale", "use after free", "leak"
LOST, WRITABLE, OVERWRITTEN, UNKNOWN = "lost write", "writable in reach", "overwritten", "unknown in reach"
EXECUTABLE, OTHER, PASSES = "executable in reach", "other in reach", "passes for mmio"
WARN, LOCKDEP, FAULT, MAPPED, HARMLESS = "warn", "lockdep", "memory fault", "still mapped", ""


@dataclass(frozen=True)
class Planted:
    """A bug in the C.

    row       of docs/bugs.md (bug_rows.py); "": of none
    edits     to the file of the tree that defines the function, or to the driver of ours that stands for it
    test      that refutes it, in its tiny geometry; ``breaks``: how (scenario.BROKEN), HARMLESS: it holds with it too
    without   what the test gives where nothing is planted; where that search is cut short, it went deeper than this one
    versions  of the kernel that it is tried on
    ranged    a flush of a range flushes no more than that
    failures  of allocations
    upon      edits that mend what the tree has by itself, there with the bug and without it
    """

    row: str
    name: str
    edits: tuple[Edit, ...]
    test: str
    breaks: str
    versions: tuple[str, ...] = BOTH
    ranged: bool = False
    failures: int = 0
    upon: tuple[Edit, ...] = ()
    without: str = HARMLESS


def drop(function: str, what: str, nth: int = 0) -> tuple[Edit, ...]:
    """A statement is taken out."""
    return (Edit(function, DROP, what, nth=nth),)


def put(function: str, what: str, by: str, nth: int = 0) -> tuple[Edit, ...]:
    """An expression becomes another."""
    return (Edit(function, REPLACE, what, by, nth),)


FLUSH, RANGE = r"kvm_flush_remote_tlbs\(kvm\)", r"kvm_flush_remote_tlbs_\w+"
RESCHED = "tdp_mmu_iter_cond_resched"
LATE = drop(RESCHED, FLUSH)
AFTER_RCU = (*LATE, *put(RESCHED, r"rcu_read_unlock\(\)", "rcu_read_unlock(); if (flush) kvm_flush_remote_tlbs(kvm)"))
AFTER_LOCK = (
    *LATE,
    *put(RESCHED, r"iter->yielded = true", "if (flush) kvm_flush_remote_tlbs(kvm); iter->yielded = true"),
)
NO_KICK = drop("invalidate_roots", "sd_request_all")
AT_ONCE = put("handle_removed_pt", r"call_rcu\(&sp->rcu_head, tdp_mmu_free_sp_rcu_callback\)", "tdp_mmu_free_sp(sp)")
AGAIN = "rcu_read_unlock(); rcu_read_lock()"
LAST_PAGE = put("tdp_mmu_zap_spte_atomic", "iter->gfn", "iter->gfn + KVM_PAGES_PER_HPAGE(iter->level) - 1")
MAP_RANGE_61 = put("tdp_mmu_map_handle_target_level", r"sp->gfn", "iter->gfn")
OUTSIDE = (
    *drop("kvm_tdp_mmu_map", "rcu_read_lock"), *put("kvm_tdp_mmu_map", r"rcu_read_unlock\(\)", "(void)0", -1)
)  # fmt: skip
MENDED = (
    *drop("tdp_mmu_link_sp", "spin_lock"),
    *put("tdp_mmu_link_sp", r"int ret = 0;", "int ret = 0; spin_lock(&kvm->arch.tdp_mmu_pages_lock);"),
    *put("tdp_mmu_link_sp", r"return ret;", "{ spin_unlock(&kvm->arch.tdp_mmu_pages_lock); return ret; }"),
)
"""6.1: a table is on its list when it can be seen."""

SECTION: tuple[Planted, ...] = (
    Planted("", "no flush before giving way", LATE, "unmap-yield-leafs", REVOKED),
    Planted("", "a notifier that may not block gives way in its zap",
            put("kvm_tdp_mmu_unmap_gfn_range", r"range->may_block", "true"), "huge-in-the-way-notifier", LOCKDEP),
    Planted("", "that flush after the lock is dropped", AFTER_LOCK, "zap-range-notifier", REVOKED),
    Planted("B18", "that flush after RCU is left, where only leaves go", AFTER_RCU, "unmap-yield-leafs", HARMLESS),
    Planted("B18", "that flush after RCU is left, where tables go", AFTER_RCU, "collapse-promote", FREED, ("6.13",)),
    Planted("E04", "no flush when a notifier has unmapped", drop("sd_range_start", "kvm_flush_remote_tlbs"),
            "unmap-leafs", REVOKED),
    Planted("E09", "a zap of leaves forgets that it zapped", drop("tdp_mmu_zap_leafs", r"flush = true"), "unmap-leafs",
            REVOKED),
    Planted("E15", "no flush when an entry is zapped under the lock for read", drop("tdp_mmu_zap_spte_atomic", RANGE),
            "collapse-zap", FREED),
    Planted("E08", "no flush when a fault replaces a table", drop("tdp_mmu_map_handle_target_level", RANGE),
            "fault-replaces-table", FREED),
    Planted("B07", "a removed table is freed at once", AT_ONCE, "nx-recovery", FREED),
    Planted("B07", "a removed table is freed at once", AT_ONCE, "collapse-zap", FREED, ("6.1",)),
    Planted("B07", "a removed table is freed at once", AT_ONCE, "link-and-collapse", USED, ("6.12",)),
    Planted("B20", "NX recovery leaves RCU before it flushes",
            put("sd_recover_nx", r"flush \|= recover\(sp\)", "flush |= recover(sp); " + AGAIN), "nx-recovery", FREED),
    Planted("E07", "no vCPU is asked to leave roots that are invalid", NO_KICK, "zap-all-fast", FREED),
    Planted("", "a vCPU does not look at requests once more when its mode shows",
            put("sd_vcpu_enter_guest", r"!sd_requests\(id\)", "true"), "nx-recovery", FREED),
    Planted("B55", "the flush of a fault is one level too small",
            put("tdp_mmu_map_handle_target_level", r"(?<=iter->gfn, )iter->level", "iter->level - 1"),
            "fault-replaces-table", FREED, ("6.12",), ranged=True),
    Planted("B55", "the flush of a fault is one level too small",
            put("tdp_mmu_map_handle_target_level", r"iter->level \+ 1", "iter->level - 1"),
            "fault-replaces-table", FREED, ("6.1",), ranged=True),
    Planted("B55", "the flush of a zap under the lock for read is one level too small",
            put("tdp_mmu_zap_spte_atomic", r"iter->level(?=\)(?:\)|;))", "iter->level - 1"), "collapse-zap", FREED,
            ranged=True),
    Planted("B55", "the same, where flushes are whole",
            put("tdp_mmu_zap_spte_atomic", r"iter->level(?=\)(?:\)|;))", "iter->level - 1"), "collapse-zap", HARMLESS),
)  # fmt: skip
"""Flushes and their order."""

ROWS: tuple[Planted, ...] = (
    Planted("B01", "what a root owes is unknown in the walk of the next",
            put("kvm_tdp_mmu_zap_leafs", r"true, flush\)", "true, false) | flush"), "zap-range-roots-notifier",
            REVOKED),
    Planted("B02", "NX recovery does not hear that a flush is owed",
            put("kvm_tdp_mmu_zap_sp", "return true", "return false"), "nx-recovery", FREED),
    Planted("B03", "the zap of one table may give way",
            put("kvm_tdp_mmu_zap_sp", r"u64 old_spte;",
                "u64 old_spte; if (need_resched()) { rcu_read_unlock(); cond_resched_rwlock_write(&kvm->mmu_lock); "
                "rcu_read_lock(); }"), "nx-recovery-yield", FREED),
    Planted("B04", "NX recovery forgets what was owed", put("sd_recover_nx", r"flush \|= recover", "flush = recover"),
            "nx-recovery-two-slots", FREED, ("6.12",)),
    Planted("B04", "a notifier forgets what was owed", put("sd_range_start", r"flush \|= kvm", "flush = kvm"),
            "two-slots-notifier", REVOKED),
    Planted("B04", "write protection forgets what was owed",
            put("kvm_tdp_mmu_write_protect_gfn", r"spte_set \|=", "spte_set ="), "write-protect-roots", WRITABLE),
    Planted("B05", "an entry is cleared before the flush, and not frozen",
            put("tdp_mmu_zap_spte_atomic", r"(?:FROZEN|REMOVED)_SPTE", "SHADOW_NONPRESENT_VALUE"),
            "collapse-and-notifier", REVOKED, ("6.12",)),
    Planted("B05", "an entry is cleared before the flush, and not frozen",
            put("tdp_mmu_zap_spte_atomic", r"REMOVED_SPTE", "0"), "collapse-and-notifier", OVERWRITTEN, ("6.1",)),
    Planted("B06", "entries of a table that was cut off are not marked",
            put("handle_removed_pt", r"FROZEN_SPTE", "SHADOW_NONPRESENT_VALUE"), "nested-collapses", LEAK, ("6.12",)),
    Planted("B06", "entries of a table that was cut off are not marked",
            put("handle_removed_pt", r"REMOVED_SPTE", "0"), "nested-collapses", LEAK, ("6.1",), upon=MENDED),
    Planted("B08", "the flush of a removed table begins at its last page",
            LAST_PAGE, "collapse-zap", FREED, ("6.1",), ranged=True),
    Planted("B08", "the same, where flushes are whole", LAST_PAGE, "collapse-zap", HARMLESS, ("6.1",)),
    Planted("B08", "the same, where who flushes an entry rounds to its first page", LAST_PAGE, "collapse-zap", HARMLESS,
            ("6.12",), ranged=True),
    Planted("B09", "a walk that begins again goes one entry on", drop("tdp_iter_next", "return"), "unmap-yield-huge",
            MAPPED),
    Planted("B11", "a notifier leaves invalid roots alone",
            put("kvm_tdp_mmu_unmap_gfn_range", r"false(?=\)\s*flush)", "true"), "notifier-and-fast-zap", MAPPED),
    Planted("B12", "an invalid root is given out",
            put("kvm_tdp_mmu_alloc_root", r"root->role\.word == role\.word",
                "({ union kvm_mmu_page_role r = root->role; r.invalid = 0; r.word == role.word; })", 1),
            "zap-all-fast", FREED, ("6.12",)),
    Planted("B12", "an invalid root is given out",
            put("kvm_tdp_mmu_get_vcpu_root_hpa", r"root->role\.word == role\.word",
                "({ union kvm_mmu_page_role r = root->role; r.invalid = 0; r.word == role.word; })"),
            "zap-all-fast", FREED, ("6.1",)),
    Planted("B14", "a fault maps in a root that was invalidated", put("is_stale", r"root->role\.invalid", "false"),
            "fast-zap-fault", LEAK, ("6.12",)),
    Planted("B14", "the same where tables are on a list", put("is_stale", r"root->role\.invalid", "false"),
            "fast-zap-fault", FAULT, ("6.1",)),
    Planted("B16", "each root's walk is told that nothing is owed",
            put("kvm_tdp_mmu_zap_leafs", r"true, flush\)", "true, false)"), "two-roots-leafs", STALE),
    Planted("B19", "a zap of a range does not report what it owes",
            put("kvm_tdp_mmu_zap_leafs", r"return flush", "return false"), "zap-range-leafs", STALE),
    Planted("B21", "volatile entries are overwritten",
            put("kvm_tdp_mmu_write_spte", r"return kvm_tdp_mmu_write_spte_atomic\(sptep, new_spte\)",
                "{ __kvm_tdp_mmu_write_spte(sptep, new_spte); return old_spte; }"), "pml-get-notifier", OVERWRITTEN),
    Planted("B21", "bits of a volatile entry are cleared by a store",
            put("tdp_mmu_clear_spte_bits", r"kvm_tdp_mmu_spte_need_atomic_write\(old_spte, level\)", "false"),
            "age-writable", OVERWRITTEN, ("6.12",)),
    Planted("B21", "entries of a table that was cut off are overwritten",
            put("handle_removed_pt", r"old_spte = kvm_tdp_mmu_write_spte\(sptep, old_spte,\s*\w+, level\)",
                "__kvm_tdp_mmu_write_spte(sptep, REMOVED_SPTE)"), "nx-recovery-logged", OVERWRITTEN, ("6.1",)),
    Planted("B22", "write protection passes over what logging made read-only",
            put("write_protect_gfn", r"new_spte == iter\.old_spte", "!(iter.old_spte & PT_WRITABLE_MASK)"),
            "write-protect-logged", WRITABLE),
    Planted("B22", "the same, while a reader of the log has its flush in hand",
            put("write_protect_gfn", r"new_spte == iter\.old_spte", "!(iter.old_spte & PT_WRITABLE_MASK)"),
            "write-protect-get", WRITABLE),
    Planted("B23", "a page that is replaced read-only keeps MMU-writable",
            drop("kvm_mmu_changed_pte_notifier_make_spte", r"new_spte &= ~shadow_mmu_writable_mask"), "change-pte",
            HARMLESS, ("6.1",)),
    Planted("B24", "D is cleared in the leaves of a nested guest",
            (*put("tdp_mmu_need_write_protect", r"kvm_mmu_page_ad_need_write_protect\(sp\)", "false"),
             *drop("clear_dirty_pt_masked", "KVM_MMU_WARN_ON")), "nested-pml", LOST, ("6.12",)),
    Planted("B24", "D is cleared in the leaves of a nested guest",
            put("clear_dirty_pt_masked", r"spte_ad_need_write_protect\(iter\.old_spte\)", "false"), "nested-pml", LOST,
            ("6.1",)),
    Planted("B25", "bits of a mask stay when their page needs no change", drop("clear_dirty_pt_masked", r"mask &="),
            "log-get", HARMLESS),
    Planted("B26", "a walk may give way before it got on; each yield counts here, so that it comes to an end",
            put(RESCHED, r"iter->next_last_level_gfn == iter->yielded_gfn", "false"), "unmap-yield-leafs", HARMLESS),
    Planted("B27", "a fault walks outside of RCU", OUTSIDE, "link-and-collapse", USED, ("6.12",)),
    Planted("B27", "a fault walks outside of RCU",
            (*drop("kvm_tdp_mmu_map", "rcu_read_unlock"), *OUTSIDE), "link-and-collapse", USED, ("6.1",), upon=MENDED),
    Planted("B27", "a fault without a lock walks outside of RCU",
            (*drop("sd_fast_page_fault", "kvm_tdp_mmu_walk_lockless_begin"),
             *drop("sd_fast_page_fault", "kvm_tdp_mmu_walk_lockless_end")), "fast-fault-collapse", USED),
    Planted("B28", "a zap of all keeps the root's own entries",
            put("__tdp_mmu_zap_root", r"iter\.level > zap_level",
                "iter.level > zap_level || iter.level == root->role.level"), "fast-zap-fault", LEAK),
    Planted("B33", "a table that was zapped meanwhile goes on the list for NX recovery",
            put("kvm_tdp_mmu_map", r"sp->nx_huge_page_disallowed(?=\))", "true"), "nx-split-collapse", FAULT,
            ("6.12",)),
    Planted("B34", "a table is on its list when it can be seen", MENDED, "link-and-collapse", HARMLESS, ("6.1",),
            without=FAULT),
    Planted("B38", "a fault goes on at a frozen entry", put("kvm_tdp_mmu_map", r"is_frozen_spte\(iter\.old_spte\)",
            "false"), "collapse-zap", WARN, ("6.12",)),
    Planted("B38", "a fault goes on at a frozen entry", (
            *put("kvm_tdp_mmu_map", r"is_removed_spte\(iter\.old_spte\)", "false"),
            *put("kvm_tdp_mmu_map", r"is_removed_spte\(iter\.old_spte\)", "false")), "collapse-zap", WARN, ("6.1",)),
    Planted("B39", "a page is mapped ahead in an invalid root",
            put("is_stale", r"root->role\.invalid", "!fault->prefetch && root->role.invalid"), "slot-delete-prefetch",
            LEAK, ("6.12",)),
    Planted("B39", "the same where tables are on a list",
            put("is_stale", r"root->role\.invalid", "!fault->prefetch && root->role.invalid"), "slot-delete-prefetch",
            FAULT, ("6.1",)),
    Planted("B45", "a fault does not look for an invalidation before it takes the lock",
            put("faultin_pfn", r"sd_is_retry\(fault->gfn, fault->mmu_seq, false\)", "false"), "unmap-leafs", HARMLESS,
            ("6.12",)),
    Planted("B57", "previous roots that were invalidated stay, and none comes back to them",
            drop("sd_free_obsolete_roots", r"mask \|= 2 << i"), "previous-roots", HARMLESS, ("6.1",)),
    Planted("B57", "a vCPU comes back to them",
            (*drop("sd_free_obsolete_roots", r"mask \|= 2 << i"),
             *put("usable", r"role_of\(root\)\.word == role\.word",
                  "({ union kvm_mmu_page_role r = role_of(root); r.invalid = 0; r.word == role.word; })")),
            "previous-roots", FREED),
    Planted("B67", "a fault without a lock makes a huge page writable", put("better", r"level > PG_LEVEL_4K", "false"),
            "fast-fault-huge", LOST),
)  # fmt: skip
"""By row of docs/bugs.md."""

TWINS: tuple[Planted, ...] = (
    Planted("E02", "no flush when a range is zapped", put("sd_zap_gfn_range", r"end, false\)", "end, false) && false"),
            "zap-range-leafs", STALE),
    Planted("E04", "no flush when a page was replaced: the start of the notifier has flushed",
            put("handle_range", "r && flush", "false"), "change-pte", HARMLESS, ("6.1",)),
    Planted("E06", "all is zapped without a flush while vCPUs run",
            (*drop("sd_zap_all_fast", "invalidate_roots"),
             *put("sd_zap_all_fast", r"zap_invalidated_roots\(\)", "sd_zap_all()")), "zap-all-fast", FREED),
    Planted("E07", "no flush when a root is loaded", drop("sd_mmu_load", "sd_flush_tlb"), "zap-all-fast", FREED),
    Planted("E12", "what was zapped in a valid root owes no flush",
            put("tdp_mmu_zap_leafs", r"!root->role\.invalid", "root->role.invalid"), "unmap-leafs", REVOKED, ("6.12",)),
    Planted("E13", "no flush when a log was read", drop("sd_get_dirty_log", "sd_flush_memslot"), "log-get", LOST),
    Planted("E15", "an entry is released just before the flush: small and huge translations agree",
            (Edit("tdp_mmu_zap_spte_atomic", BEFORE, r"__kvm_tdp_mmu_write_spte", RANGE),), "collapse-and-notifier",
            HARMLESS, ("6.12",)),
    Planted("E16", "no flush of huge pages that were put in place",
            drop("recover_huge_pages_range", "kvm_flush_remote_tlbs_memslot"), "collapse-promote", FREED, ("6.13",)),
    Planted("E18", "no flush when pages were aged", put("handle_range", "r && flush", "false"),
            "age-notifier", HARMLESS),
    Planted("E20", "a fault flushes what the table mapped, and no more",
            (*MAP_RANGE_61, *put("tdp_mmu_map_handle_target_level", r"iter->level \+ 1", "iter->level")),
            "fault-replaces-table", HARMLESS, ("6.1",), ranged=True),
    Planted("E20", "the same from the first page of the table that it is in",
            put("tdp_mmu_map_handle_target_level", r"iter->level \+ 1", "iter->level"),
            "fault-replaces-table", HARMLESS, ("6.1",), ranged=True),
    Planted("E25", "a flush after a huge page was split",
            put("tdp_mmu_split_huge_page", r"kvm_update_\w+", "kvm_flush_remote_tlbs(kvm); kvm_update_page_stats"),
            "split-two-vcpus", HARMLESS),
    Planted("E25", "no flush when logging is switched on", drop("sd_apply_flags", "sd_flush_memslot"),
            "split-two-vcpus", LOST),
)  # fmt: skip
"""Flushes that were dropped or moved, and those beside them that must stay."""

MORE: tuple[Planted, ...] = (
    Planted("", "a fault does not log the write that it makes possible", drop("make_spte", "mark_page_dirty_in_slot"),
            "prefetch", LOST),
    Planted("", "a fault does not ask whether its page must stay write-protected",
            (*put("make_spte", r"mmu_try_to_unsync_pages\([^;]*\)(?=\) \{)", "0"),
             *put("kvm_tdp_page_fault", r"sd_is_tracked\(fault->slot, fault->gfn\)", "false")), "write-protect",
            WRITABLE),
    Planted("", "protection for good keeps MMU-writable",
            put("write_protect_gfn", r"\(PT_WRITABLE_MASK \| shadow_mmu_writable_mask\)", "PT_WRITABLE_MASK"),
            "write-protect-logged", WRITABLE),
    Planted("", "write protection for logging takes W from an entry of MMIO",
            put("wrprot_gfn_range", r"!is_shadow_present_pte\(iter\.old_spte\)", "false"), "mmio-log-on", UNKNOWN),
    Planted("", "write protection for logging passes over leaves", drop("wrprot_gfn_range", r"new_spte = iter", 0)
            + put("wrprot_gfn_range", "new_spte;", "new_spte = 0;") + put("wrprot_gfn_range",
            r"tdp_mmu_set_spte_atomic\(kvm, &iter, new_spte\)", "new_spte"), "log-on", LOST),
    Planted("", "faults in a slot that goes do not wait", put("invalidate", r"invalid->flags \|= SD_SLOT_INVALID",
            "(void)0"), "slot-delete-alone", MAPPED, ("6.12",)),
    Planted("", "a fault does not look whether an invalidation ended", put("sd_is_retry",
            r"READ_ONCE\(kvm->mmu_invalidate_seq\) != seq", "false"), "unmap-leafs", MAPPED, ("6.1",)),
    Planted("", "a fault does not look whether an invalidation runs", put("sd_is_retry",
            r"READ_ONCE\(kvm->mmu_invalidate_in_progress\)", "false"), "unmap-leafs", MAPPED),
    Planted("", "a table that could not be linked is not freed", drop("kvm_tdp_mmu_map", "tdp_mmu_free_sp"),
            "nested-collapses", LEAK, ("6.12",)),
    Planted("", "a table that could not be linked is not freed", drop("kvm_tdp_mmu_map", "tdp_mmu_free_sp"),
            "nested-collapses", LEAK, ("6.1",), upon=MENDED),
    Planted("", "a table of a split that nobody needs is not freed",
            drop("tdp_mmu_split_huge_pages_root", "tdp_mmu_free_sp"), "split-notifier", LEAK, ("6.12",)),
    Planted("", "a walk that dropped its lock for a table goes on where it was",
            drop("tdp_mmu_split_huge_pages_root", r"iter\.yielded = true"), "split-release", USED, ("6.12",)),
    Planted("", "the ranges of two notifiers are that of the latter", put("range_add", r"min\([^;]*(?=\);)", "start"),
            "two-ranges", MAPPED),
)  # fmt: skip
"""Of no row."""

FAILING: tuple[Planted, ...] = (
    Planted("", "a split does not ask whether it got a table",
            put("tdp_mmu_alloc_sp_for_split", r"!sp\b(?!->)", "false"), "log-on-huge", FAULT, ("6.12",), failures=1),
    Planted("", "the same where no allocation fails",
            put("tdp_mmu_alloc_sp_for_split", r"!sp\b(?!->)", "false"), "log-on-huge", HARMLESS, ("6.12",)),
    Planted("", "a split does not ask whether it got a table",
            put("__tdp_mmu_alloc_sp_for_split", r"!sp\b(?!->)", "false"), "log-on-huge", FAULT, ("6.1",), failures=1),
    Planted("", "a split that got no table leaves as if it were in its section",
            put("tdp_mmu_split_huge_pages_root", r"return -ENOMEM", "break"), "log-on-huge", LOCKDEP, ("6.12",),
            failures=1),
)  # fmt: skip
"""What only shows when an allocation fails."""

ENTRIES: tuple[Planted, ...] = (
    Planted("", "an entry of MMIO is made of the generation that comes next",
            put("make_mmio_spte", r"(?<=gen = )kvm_vcpu_memslots\(vcpu\)", "2 + kvm_vcpu_memslots(vcpu)"),
            "slot-create-mmio", PASSES),
    Planted("", "an entry of MMIO is believed whatever its generation",
            put("sd_handle_mmio_fault", r"\(gen & MMIO_SPTE_GEN_MASK\) != get_mmio_spte_generation\(spte\)", "false"),
            "slot-create-mmio", PASSES),
    Planted("", "the same where the slot is moved there",
            put("sd_handle_mmio_fault", r"\(gen & MMIO_SPTE_GEN_MASK\) != get_mmio_spte_generation\(spte\)", "false"),
            "slot-move-mmio", PASSES, ("6.12",)),
    Planted("", "the generation goes on before those are done who saw the old slots",
            drop("swap_active", "synchronize_srcu"), "slot-create-mmio", PASSES),
    Planted("", "the generation stays when slots have changed", drop("swap_active", r"gen \+= SD_AS"),
            "slot-create-mmio", PASSES),
    Planted("", "an entry of MMIO is never believed, which costs time",
            put("sd_handle_mmio_fault", r"\(gen & MMIO_SPTE_GEN_MASK\) != get_mmio_spte_generation\(spte\)", "true"),
            "slot-create-mmio", HARMLESS),
    Planted("", "a fault maps what the host may only read as writable",
            put("make_spte", r"(?<=if \()host_writable", "true"), "unmap-read-only", WRITABLE),
    Planted("", "a fault maps a huge page that may be executed, with the NX mitigation on",
            put("make_spte", r"is_nx_huge_page_enabled\(vcpu->kvm\)", "false"), "nx-huge", EXECUTABLE),
    Planted("", "a huge page that is rebuilt in place may be executed, with the NX mitigation on",
            put("make_huge_spte", r"is_nx_huge_page_enabled\(kvm\)", "false"), "nx-collapse", EXECUTABLE, ("6.13",)),
    Planted("", "the parts of a huge page that is split map its first page",
            put("make_huge_page_split_spte", r"index \* KVM", "0 * KVM"), "log-on-huge", OTHER),
    Planted("", "the parts of a huge page that is split map its pages in falling order",
            put("make_huge_page_split_spte", r"index \* KVM", "(1 - index) * KVM"), "log-on-huge", OTHER),
    Planted("", "a huge page is mapped where guest and host do not agree on where it begins",
            put("max_level_of", r"min\(level, \(int\)sd_host_level\(sd_test_gfn\(gfn\)\)\)",
                "((void)sd_host_level(sd_test_gfn(gfn)), level)"), "unmap-huge-moved", OTHER),
)  # fmt: skip
"""What an entry is: one that passes for MMIO, X of a huge page, another page."""

PLANTED = (*SECTION, *ROWS, *TWINS, *MORE, *FAILING, *ENTRIES)

ABSENT = {
    "B13": "its callers hold `slots_lock`", "B15": "every root is a table",
    "B17": "what removes tables under the lock for write is NX recovery: B20", "B29": "one task alone",
    "B35": "its look-up is a driver's, which finds no slot", "B37": "no kernel promotes so",
    "B42": "livelock, which the explorer of the C does not look for", "B44": "store buffers are for entries only",
    "B47": "B22", "B64": "livelock",
}  # fmt: skip
"""Rows about this MMU that are not planted in the C, and why; the others are costs, or about what is not here."""
