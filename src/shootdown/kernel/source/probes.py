"""What differs between trees: names and shapes to look for, the switches and behaviours that they stand for.

Nothing here goes by a version's number: a tree is asked whether it has something, so that a backport or a patch counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...errors import InputError
from .edits import body, masked

X86: Final = "arch/x86/kvm/"
MMU_H: Final = X86 + "mmu.h"
INTERNAL_H: Final = X86 + "mmu/mmu_internal.h"
SPTE_H: Final = X86 + "mmu/spte.h"
SPTE_C: Final = X86 + "mmu/spte.c"
ITER_H: Final = X86 + "mmu/tdp_iter.h"
TDP_H: Final = X86 + "mmu/tdp_mmu.h"
TDP_C: Final = X86 + "mmu/tdp_mmu.c"
MMU_C: Final = X86 + "mmu/mmu.c"
KCONFIG: Final = X86 + "Kconfig"
MAIN_C: Final = "virt/kvm/kvm_main.c"
RING_C: Final = "virt/kvm/dirty_ring.c"


@dataclass(frozen=True)
class Probe:
    """Something that a tree has or has not.

    name      the switch that the C code goes by, ``SD_...``; or the flag of mmu/behaviour.py
    file      where to look
    pattern   regular expression; comments are left out, and each run of blanks is one
    means     what it says if it is there
    function  look only into the body of this function
    absent    the probe says yes if the pattern is not found
    """

    name: str
    file: str
    pattern: str
    means: str = ""
    function: str = ""
    absent: bool = False


SWITCHES: Final = (
    Probe("SD_PAGES_ATOMIC", TDP_C, r"atomic64_\w+\(&kvm->arch\.tdp_mmu_pages", "tables are counted, not on a list"),
    Probe("SD_NONPRESENT", SPTE_H, r"\bSHADOW_NONPRESENT_VALUE\b", "an empty entry is not zero"),
    Probe("SD_ALLOC_ROOT", TDP_H, r"\bkvm_tdp_mmu_alloc_root\(", "a root is allocated under mmu_lock for read"),
    Probe("SD_ALLOC_ROOT_PRIVATE", TDP_H, r"\bkvm_tdp_mmu_alloc_root\([^)]*\bbool\b", "there may be two roots"),
    Probe(
        "SD_PUT_ROOT_SHARED", TDP_H, r"\bkvm_tdp_mmu_put_root\([^)]*\bbool shared\b", "put_root knows the lock's mode"
    ),
    Probe("SD_INVALIDATE_ROOTS_TYPES", TDP_H, r"\bkvm_tdp_mmu_invalidate_roots\(", "which roots to make invalid"),
    Probe(
        "SD_ZAP_INVALIDATED_SHARED", TDP_H, r"zap_invalidated_roots\([^)]*\bbool shared\b", "in which mode to zap them"
    ),
    Probe("SD_RECOVER_HUGE_PAGES", TDP_H, r"\bkvm_tdp_mmu_recover_huge_pages\(", "huge pages are rebuilt in place"),
    Probe(
        "SD_NX_ZAP_POSSIBLE", TDP_H, r"\bkvm_tdp_mmu_zap_possible_nx_huge_page\(", "NX recovery holds the lock for read"
    ),
    Probe("SD_LAST_SPTEP_GFN", TDP_H, r"fast_pf_get_last_sptep\([^)]*\bgfn_t\b", "a walk by gfn, not by address"),
    Probe("SD_CHANGE_PTE", TDP_H, r"\bkvm_tdp_mmu_set_spte_gfn\(", "the host may replace a page in one step"),
    Probe(
        "SD_NX_TRACK_TYPE",
        INTERNAL_H,
        r"\btrack_possible_nx_huge_page\([^)]*\bkvm_mmu_type\b",
        "two lists for NX recovery",
    ),
    Probe("SD_NX_LPAGE_DISALLOWED", INTERNAL_H, r"\blpage_disallowed_link\b", "the mark of NX and the list are one"),
    Probe(
        "SD_FLUSH_WITH_ADDRESS", INTERNAL_H, r"\bkvm_flush_remote_tlbs_with_address\(", "how a range flush is called"
    ),
    Probe(
        "SD_RET_WRITE_PROTECTED", INTERNAL_H, r"\bRET_PF_WRITE_PROTECTED\b", "a result for writes that stay forbidden"
    ),
    Probe("SD_DO_FAULT_LEVEL", INTERNAL_H, r"\bkvm_mmu_do_page_fault\([^)]*\bu8 \*level\b", "a fault tells the level"),
    Probe("SD_FAULT_HAS_SLOT", INTERNAL_H, r"\bfault\.slot = ", "a fault's slot is looked up before its handler"),
    Probe("SD_MAX_LEVEL_FAULT", INTERNAL_H, r"\bkvm_mmu_max_mapping_level\([^)]*\bkvm_page_fault\b", "... of a fault"),
    Probe(
        "SD_MAX_LEVEL_3", INTERNAL_H, r"\bkvm_mmu_max_mapping_level\([^,)]*,[^,)]*,[^,)]*\)", "... by three arguments"
    ),
    Probe("SD_CPU_DIRTY_LOG_SIZE_VM", INTERNAL_H, r"\bkvm->arch\.cpu_dirty_log_size\b", "PML is a matter of each VM"),
    Probe("SD_TDP_ENABLED_GLOBAL", MMU_H, r"\bextern bool tdp_mmu_enabled\b", "one switch for all VMs"),
    Probe("SD_IS_MMIO_KVM", SPTE_H, r"\bis_mmio_spte\(struct kvm \*", "a VM has its own value for MMIO"),
    Probe("SD_AD_VARIABLE", SPTE_H, r"\bextern bool [^;]*\bkvm_ad_enabled\b", "kvm_ad_enabled is a variable"),
    Probe("SD_ATTR_FILTER", TDP_C, r"\battr_filter\b", "ranges say which kind of memory"),
    Probe("SD_FAULT_CHECK_EARLY", MMU_C, r"\bmmu_invalidate_retry_gfn_unsafe\(", "a fault looks before it locks"),
    Probe(
        "SD_NX_MARKS_REFUSED",
        MMU_C,
        r"\bnx_huge_page_disallowed\b",
        "only marked tables refuse",
        "disallowed_hugepage_adjust",
    ),
    Probe(
        "SD_NX_WANTS_SLOT", MMU_C, r"\bsp->gfn\); (?:if \()?WARN_ON_ONCE\(!slot\)", "NX recovery warns where no slot is"
    ),
    Probe("SD_ZAP_BLOCKS_ALL", MMU_C, r"\bkvm_mmu_invalidate_begin\(kvm, 0,", "a range zap has all faults wait"),
    Probe("SD_SPLIT_END_SHORT", MMU_C, r"\bkvm_mmu_try_split_huge_pages\(kvm, slot, start, end,", "one page short"),
    Probe("SD_SLOT_ZAP_CHOICE", MMU_C, r"\bKVM_X86_QUIRK_SLOT_ZAP_ALL\b", "a slot's leaves may be zapped alone"),
    Probe("SD_NO_FLUSH_YOUNG", KCONFIG, r"\bselect KVM_ELIDE_TLB_FLUSH_IF_YOUNG\b", "ageing does not flush"),
    Probe("SD_AGE_LOCKLESS", KCONFIG, r"\bselect KVM_MMU_LOCKLESS_AGING\b", "ageing takes no lock"),
    Probe("SD_RANGE_BY_SLOT", MAIN_C, r"\bkvm_mmu_invalidate_range_add\(", "a notifier's range is noted by slot"),
    Probe("SD_RING_FULL_BY_REQUEST", RING_C, r"\bkvm_make_request\(KVM_REQ_DIRTY_RING_SOFT_FULL\b", "asked on request"),
)
"""The switches of the C code."""

FLAGS: Final = (
    Probe("range_zap_tables", TDP_H, r"\bkvm_tdp_mmu_zap_gfn_range\("),
    Probe(
        "flush_then_remove", TDP_C, r"flush_remote_tlbs\w*\(.*handle_changed_spte\(", function="tdp_mmu_zap_spte_atomic"
    ),
    Probe("flush_invalid_roots", TDP_C, r"\bfor_each_tdp_mmu_root_yield_safe\(", function="kvm_tdp_mmu_zap_leafs"),
    Probe("split_in_fault", TDP_C, r"\btdp_mmu_split_huge_page\(", function="kvm_tdp_mmu_map"),
    Probe("promote", TDP_H, r"\bkvm_tdp_mmu_recover_huge_pages\("),
    Probe("passes", TDP_C, r"\bPG_LEVEL_4K\b", function="tdp_mmu_zap_root"),
    Probe("empty", SPTE_H, r"\bSHADOW_NONPRESENT_VALUE\b"),
    Probe("ring_full_by_request", RING_C, r"\bkvm_make_request\(KVM_REQ_DIRTY_RING_SOFT_FULL\b"),
    Probe("software_ad", SPTE_H, r"\bextern bool [^;]*\bkvm_ad_enabled\b"),
    Probe("refault_drops_dirty", SPTE_C, r"\bis_writable_pte\(old_spte\)\) goto\b", function="make_spte"),
    Probe("spurious_early", TDP_C, r"\bis_access_allowed\(", function="tdp_mmu_map_handle_target_level"),
    Probe("flush_lost_writable", TDP_C, r"needs_tlb_flush\(", function="tdp_mmu_map_handle_target_level"),
    Probe("check_early", MMU_C, r"\bmmu_invalidate_retry_gfn_unsafe\("),
    Probe("marks_refused", MMU_C, r"\bnx_huge_page_disallowed\b", function="disallowed_hugepage_adjust"),
    Probe("write_protected", INTERNAL_H, r"\bRET_PF_WRITE_PROTECTED\b"),
    Probe("counts_pfns", TDP_C, r"\bkvm_set_pfn_(?:dirty|accessed)\("),
    Probe("direct_clear", ITER_H, r"\btdp_mmu_clear_spte_bits\("),
    Probe("recheck_leaf", TDP_C, r"\bis_last_spte\(", function="clear_dirty_gfn_range"),
    Probe("protect_invalid_roots", TDP_C, r"\bfor_each_tdp_mmu_root\(", function="kvm_tdp_mmu_write_protect_gfn"),
    Probe("split_end_short", MMU_C, r"\bkvm_mmu_try_split_huge_pages\(kvm, slot, start, end,"),
    Probe("protect_end_short", MMU_C, r"ALIGN\(start << PAGE_SHIFT, PMD_SIZE\) != ALIGN\(end"),
    Probe("split_alloc_locked", TDP_C, r"\bGFP_NOWAIT\b", function="tdp_mmu_alloc_sp_for_split"),
    Probe("flush_young", KCONFIG, r"\bselect KVM_ELIDE_TLB_FLUSH_IF_YOUNG\b", absent=True),
    Probe("change_pte", TDP_H, r"\bkvm_tdp_mmu_set_spte_gfn\("),
    Probe("range_by_slot", MAIN_C, r"\bkvm_mmu_invalidate_range_add\("),
    Probe("zap_blocks_all", MMU_C, r"\bkvm_mmu_invalidate_begin\(kvm, 0,"),
    Probe("slot_zap_choice", MMU_C, r"\bKVM_X86_QUIRK_SLOT_ZAP_ALL\b"),
    Probe(
        "wide_fault_flush",
        TDP_C,
        r"KVM_PAGES_PER_HPAGE\(iter->level \+ 1\)",
        function="tdp_mmu_map_handle_target_level",
    ),
    Probe("lists_tables", TDP_C, r"\blist_add\(&sp->link, &kvm->arch\.tdp_mmu_pages\)"),
    Probe("heeds_mtrrs", MMU_C, r"\bkvm_mtrr_check_gfn_range_consistency\("),
    Probe("roots_put_exclusive", MMU_C, r"\bread_lock\(", function="kvm_mmu_free_roots", absent=True),
    Probe("nx_shared", TDP_H, r"\bkvm_tdp_mmu_zap_possible_nx_huge_page\("),
    Probe("age_lockless", KCONFIG, r"\bselect KVM_MMU_LOCKLESS_AGING\b"),
    Probe("age_invalid_roots", TDP_C, r"\bkvm_tdp_mmu_handle_gfn\([^{]*\{[^{}]*\bfor_each_tdp_mmu_root\("),
    Probe("volatile_accessed", SPTE_H, r"\bspte_has_volatile_bits\("),
    Probe(
        "ahead_stops_at_table",
        TDP_C,
        r"\bfault->prefetch && is_shadow_present_pte\(",
        function="tdp_mmu_map_handle_target_level",
    ),
    Probe(
        "spurious_checks_pfn",
        TDP_C,
        r"WARN_ON_ONCE\(fault->pfn != spte_to_pfn\(",
        function="tdp_mmu_map_handle_target_level",
    ),
    Probe("nx_keeps_logged", MMU_C, r"\w+_dirty_(?:track|logging)_enabled\(", function="kvm_recover_nx_huge_pages"),
)
"""The flags of mmu/behaviour.py; of ``passes`` and ``empty``, whether they are those of 6.12."""

PROBED: Final = tuple(sorted({probe.file for probe in (*SWITCHES, *FLAGS)}))
"""The files that are looked into."""


def found(probes: tuple[Probe, ...], read: Callable[[str], str]) -> dict[str, bool]:
    """What a tree, whose files ``read`` gives, says to each probe; one whose function it does not have is left out."""
    texts: dict[str, str] = {}
    says: dict[str, bool] = {}
    for probe in probes:
        if probe.file not in texts:
            texts[probe.file] = read(probe.file)
        text: str | None = texts[probe.file]
        if probe.function:
            text = _body(texts[probe.file], probe.function)
        if text is not None:
            says[probe.name] = (re.search(probe.pattern, _flat(text)) is not None) != probe.absent
    return says


def _body(text: str, function: str) -> str | None:
    try:
        start, end = body(masked(text), function)
    except InputError:
        return None
    return text[start:end]


def switches(read: Callable[[str], str]) -> tuple[str, ...]:
    """The switches that the C code is to be compiled with."""
    return tuple(name for name, says in found(SWITCHES, read).items() if says)


def _flat(text: str) -> str:
    """Without comments, and each run of blanks as one."""
    return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL))
