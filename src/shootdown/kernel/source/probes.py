"""What differs between trees: names and shapes to look for, the switches and behaviours that they stand for.

Nothing here goes by a version's number: a tree is asked whether it has something, so that a backport or a patch counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ...errors import InputError
from .c_text import body, masked

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

    file      where to look
    pattern   regular expression; comments are left out, and each run of blanks is one
    flag      of mmu/behaviour.py that it decides; of ``passes`` and ``empty``, whether they are those of 6.12
    switch    that the C code is compiled with if it is there, ``SD_...``
    means     what the switch stands for
    function  look only into the body of this function
    absent    the flag is set if the pattern is not found
    """

    file: str
    pattern: str
    flag: str = ""
    switch: str = ""
    means: str = ""
    function: str = ""
    absent: bool = False


PROBES: Final = (
    Probe(TDP_H, r"\bkvm_tdp_mmu_zap_gfn_range\(", flag="range_zap_tables"),
    Probe(TDP_C, r"flush_remote_tlbs\w*\(.*handle_changed_spte\(", flag="flush_then_remove",
          function="tdp_mmu_zap_spte_atomic"),
    Probe(TDP_C, r"\bfor_each_tdp_mmu_root_yield_safe\(", flag="flush_invalid_roots", function="kvm_tdp_mmu_zap_leafs"),
    Probe(TDP_C, r"\btdp_mmu_split_huge_page\(", flag="split_in_fault", function="kvm_tdp_mmu_map"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_recover_huge_pages\(", flag="promote", switch="SD_RECOVER_HUGE_PAGES",
          means="huge pages are rebuilt in place"),
    Probe(TDP_C, r"\bPG_LEVEL_4K\b", flag="passes", function="tdp_mmu_zap_root"),
    Probe(SPTE_H, r"\bSHADOW_NONPRESENT_VALUE\b", flag="empty", switch="SD_NONPRESENT",
          means="an empty entry is not zero"),
    Probe(RING_C, r"\bkvm_make_request\(KVM_REQ_DIRTY_RING_SOFT_FULL\b", flag="ring_full_by_request",
          switch="SD_RING_FULL_BY_REQUEST", means="a full ring is a request to the vCPU"),
    Probe(SPTE_H, r"\bextern bool [^;]*\bkvm_ad_enabled\b", flag="software_ad", switch="SD_AD_VARIABLE",
          means="kvm_ad_enabled is a variable"),
    Probe(SPTE_C, r"\bis_writable_pte\(old_spte\)\) goto\b", flag="refault_drops_dirty", function="make_spte"),
    Probe(TDP_C, r"\bis_access_allowed\(", flag="spurious_early", function="tdp_mmu_map_handle_target_level"),
    Probe(TDP_C, r"needs_tlb_flush\(", flag="flush_lost_writable", function="tdp_mmu_map_handle_target_level"),
    Probe(MMU_C, r"\bmmu_invalidate_retry_gfn_unsafe\(", flag="check_early", switch="SD_FAULT_CHECK_EARLY",
          means="a fault looks before it locks"),
    Probe(MMU_C, r"\bnx_huge_page_disallowed\b", flag="marks_refused", switch="SD_NX_MARKS_REFUSED",
          function="disallowed_hugepage_adjust", means="only marked tables refuse"),
    Probe(INTERNAL_H, r"\bRET_PF_WRITE_PROTECTED\b", flag="write_protected", switch="SD_RET_WRITE_PROTECTED",
          means="a result for writes that stay forbidden"),
    Probe(TDP_C, r"\bkvm_set_pfn_(?:dirty|accessed)\(", flag="counts_pfns"),
    Probe(ITER_H, r"\btdp_mmu_clear_spte_bits\(", flag="direct_clear"),
    Probe(TDP_C, r"\bis_last_spte\(", flag="recheck_leaf", function="clear_dirty_gfn_range"),
    Probe(TDP_C, r"\bfor_each_tdp_mmu_root\(", flag="protect_invalid_roots", function="kvm_tdp_mmu_write_protect_gfn"),
    Probe(MMU_C, r"\bkvm_mmu_try_split_huge_pages\(kvm, slot, start, end,", flag="split_end_short",
          switch="SD_SPLIT_END_SHORT", means="a split before a log is cleared ends one page short"),
    Probe(MMU_C, r"ALIGN\(start << PAGE_SHIFT, PMD_SIZE\) != ALIGN\(end", flag="protect_end_short"),
    Probe(TDP_C, r"\bGFP_NOWAIT\b", flag="split_alloc_locked", function="tdp_mmu_alloc_sp_for_split"),
    Probe(KCONFIG, r"\bselect KVM_ELIDE_TLB_FLUSH_IF_YOUNG\b", flag="flush_young", switch="SD_NO_FLUSH_YOUNG",
          absent=True, means="ageing does not flush"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_set_spte_gfn\(", flag="change_pte", switch="SD_CHANGE_PTE",
          means="the host may replace a page in one step"),
    Probe(MAIN_C, r"\bkvm_mmu_invalidate_range_add\(", flag="range_by_slot", switch="SD_RANGE_BY_SLOT",
          means="a notifier's range is noted by slot"),
    Probe(MMU_C, r"\bkvm_mmu_invalidate_begin\(kvm, 0,", flag="zap_blocks_all", switch="SD_ZAP_BLOCKS_ALL",
          means="a range zap has all faults wait"),
    Probe(MMU_C, r"\bKVM_X86_QUIRK_SLOT_ZAP_ALL\b", flag="slot_zap_choice", switch="SD_SLOT_ZAP_CHOICE",
          means="a slot's leaves may be zapped alone"),
    Probe(TDP_C, r"KVM_PAGES_PER_HPAGE\(iter->level \+ 1\)", flag="wide_fault_flush",
          function="tdp_mmu_map_handle_target_level"),
    Probe(TDP_C, r"\blist_add\(&sp->link, &kvm->arch\.tdp_mmu_pages\)", flag="lists_tables"),
    Probe(MMU_C, r"\bkvm_mtrr_check_gfn_range_consistency\(", flag="heeds_mtrrs"),
    Probe(MMU_C, r"\bread_lock\(", flag="roots_put_exclusive", function="kvm_mmu_free_roots", absent=True),
    Probe(TDP_H, r"\bkvm_tdp_mmu_zap_possible_nx_huge_page\(", flag="nx_shared", switch="SD_NX_ZAP_POSSIBLE",
          means="NX recovery holds the lock for read"),
    Probe(KCONFIG, r"\bselect KVM_MMU_LOCKLESS_AGING\b", flag="age_lockless", switch="SD_AGE_LOCKLESS",
          means="ageing takes no lock"),
    Probe(TDP_C, r"\bkvm_tdp_mmu_handle_gfn\([^{]*\{[^{}]*\bfor_each_tdp_mmu_root\(", flag="age_invalid_roots"),
    Probe(SPTE_H, r"\bspte_has_volatile_bits\(", flag="volatile_accessed"),
    Probe(TDP_C, r"\bfault->prefetch && is_shadow_present_pte\(", flag="ahead_stops_at_table",
          function="tdp_mmu_map_handle_target_level"),
    Probe(TDP_C, r"WARN_ON_ONCE\(fault->pfn != spte_to_pfn\(", flag="spurious_checks_pfn",
          function="tdp_mmu_map_handle_target_level"),
    Probe(MMU_C, r"\w+_dirty_(?:track|logging)_enabled\(", flag="nx_keeps_logged",
          function="kvm_recover_nx_huge_pages"),
    Probe(TDP_C, r"atomic64_\w+\(&kvm->arch\.tdp_mmu_pages", switch="SD_PAGES_ATOMIC",
          means="tables are counted, not on a list"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_alloc_root\(", switch="SD_ALLOC_ROOT",
          means="a root is allocated under mmu_lock for read"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_alloc_root\([^)]*\bbool\b", switch="SD_ALLOC_ROOT_PRIVATE",
          means="there may be two roots"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_put_root\([^)]*\bbool shared\b", switch="SD_PUT_ROOT_SHARED",
          means="put_root knows the lock's mode"),
    Probe(TDP_H, r"\bkvm_tdp_mmu_invalidate_roots\(", switch="SD_INVALIDATE_ROOTS_TYPES",
          means="which roots to make invalid"),
    Probe(TDP_H, r"zap_invalidated_roots\([^)]*\bbool shared\b", switch="SD_ZAP_INVALIDATED_SHARED",
          means="in which mode to zap them"),
    Probe(TDP_H, r"fast_pf_get_last_sptep\([^)]*\bgfn_t\b", switch="SD_LAST_SPTEP_GFN",
          means="a walk by gfn, not by address"),
    Probe(INTERNAL_H, r"\btrack_possible_nx_huge_page\([^)]*\bkvm_mmu_type\b", switch="SD_NX_TRACK_TYPE",
          means="two lists for NX recovery"),
    Probe(INTERNAL_H, r"\blpage_disallowed_link\b", switch="SD_NX_LPAGE_DISALLOWED",
          means="the mark of NX and the list are one"),
    Probe(INTERNAL_H, r"\bkvm_flush_remote_tlbs_with_address\(", switch="SD_FLUSH_WITH_ADDRESS",
          means="how a range flush is called"),
    Probe(INTERNAL_H, r"\bkvm_mmu_do_page_fault\([^)]*\bu8 \*level\b", switch="SD_DO_FAULT_LEVEL",
          means="a fault tells the level"),
    Probe(INTERNAL_H, r"\bfault\.slot = ", switch="SD_FAULT_HAS_SLOT",
          means="a fault's slot is looked up before its handler"),
    Probe(INTERNAL_H, r"\bkvm_mmu_max_mapping_level\([^)]*\bkvm_page_fault\b", switch="SD_MAX_LEVEL_FAULT",
          means="the largest level is asked for by a fault"),
    Probe(INTERNAL_H, r"\bkvm_mmu_max_mapping_level\([^,)]*,[^,)]*,[^,)]*\)", switch="SD_MAX_LEVEL_3",
          means="... or by three arguments"),
    Probe(INTERNAL_H, r"\bkvm->arch\.cpu_dirty_log_size\b", switch="SD_CPU_DIRTY_LOG_SIZE_VM",
          means="PML is a matter of each VM"),
    Probe(MMU_H, r"\bextern bool tdp_mmu_enabled\b", switch="SD_TDP_ENABLED_GLOBAL", means="one switch for all VMs"),
    Probe(SPTE_H, r"\bis_mmio_spte\(struct kvm \*", switch="SD_IS_MMIO_KVM", means="a VM has its own value for MMIO"),
    Probe(TDP_C, r"\battr_filter\b", switch="SD_ATTR_FILTER", means="ranges say which kind of memory"),
    Probe(MMU_C, r"\bsp->gfn\); (?:if \()?WARN_ON_ONCE\(!slot\)", switch="SD_NX_WANTS_SLOT",
          means="NX recovery warns where no slot is"),
)  # fmt: skip

PROBED: Final = tuple(sorted({probe.file for probe in PROBES}))
"""The files that are looked into."""


def flags(read: Callable[[str], str]) -> dict[str, bool]:
    """What a tree, whose files ``read`` gives, says to each flag; one whose function it does not have is left out."""
    wanted = [probe for probe in PROBES if probe.flag]
    return {probe.flag: there != probe.absent for probe, there in _asked(wanted, read)}


def switches(read: Callable[[str], str]) -> tuple[str, ...]:
    """The switches that the C code is to be compiled with."""
    return tuple(probe.switch for probe, there in _asked([probe for probe in PROBES if probe.switch], read) if there)


def _asked(probes: list[Probe], read: Callable[[str], str]) -> Iterator[tuple[Probe, bool]]:
    """Whether a tree has what each of some probes looks for."""
    texts: dict[str, str] = {}
    for probe in probes:
        if probe.file not in texts:
            texts[probe.file] = read(probe.file)
        text: str | None = texts[probe.file]
        if probe.function:
            text = _body(texts[probe.file], probe.function)
        if text is not None:
            yield probe, re.search(probe.pattern, _flat(text)) is not None


def _body(text: str, function: str) -> str | None:
    try:
        start, end = body(masked(text), function)
    except InputError:
        return None
    return text[start:end]


def _flat(text: str) -> str:
    """Without comments, and each run of blanks as one."""
    return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL))
