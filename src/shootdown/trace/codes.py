"""The events that the loops over a recording know: a number for each, and which of its fields they take.

On its own, since compiled code reads constants of a compiled module at no cost.
"""

from __future__ import annotations

from typing import Final

CHANGED: Final = 1
FAST_FAULT: Final = 2
SET_SPTE: Final = 3
REQUESTED: Final = 4
GET_PAGE: Final = 5
PREPARE_ZAP: Final = 6
SPLIT_PAGE: Final = 7
ZAP_ALL_FAST: Final = 8
UNMAP_HVA: Final = 9
AGE_HVA: Final = 10
SET_SPTE_HVA: Final = 11
ENTRY: Final = 12
EXIT: Final = 13
RING_RESET: Final = 14
LOST: Final = 15
HANDLED: Final = 20
FLUSH: Final = 21
FREE: Final = 22
VCPU_OF: Final = 24
MAP: Final = 30
MAP_RET: Final = 31
UNMAP: Final = 32
UNMAP_RET: Final = 33
ZAP_LEAFS: Final = 34
ZAP_LEAFS_RET: Final = 35
ZAP_ALL: Final = 36
ZAP_ALL_RET: Final = 37
INVALIDATE_ROOTS: Final = 38
ZAP_INVALIDATED: Final = 39
ZAP_INVALIDATED_RET: Final = 40
ZAP_ROOT: Final = 41
ZAP_SP: Final = 42
ZAP_SP_RET: Final = 43
PUT_ROOT: Final = 44
WRPROT: Final = 45
WRPROT_RET: Final = 46
CLEAR_PT: Final = 47
CLEAR_SLOT: Final = 48
TRY_SPLIT: Final = 49
TRY_SPLIT_RET: Final = 50
COLLAPSE: Final = 51
COLLAPSE_RET: Final = 52
WRPROT_GFN: Final = 53
AGE: Final = 54
AGE_RET: Final = 55
NOTIFIER: Final = 56
NOTIFIER_RET: Final = 57
FLUSH_YOUNG: Final = 58
CLEAR_YOUNG: Final = 59
SET_REGION: Final = 60
SET_REGION_RET: Final = 61
GET_LOG: Final = 62
GET_LOG_RET: Final = 63
CLEAR_LOG: Final = 64
CLEAR_LOG_RET: Final = 65
FLUSH_SLOT: Final = 66
FLUSH_ALL: Final = 67
ZAP_GFN_RANGE: Final = 68
INIT_VM: Final = 69
DESTROY_VM: Final = 70
CHANGE_PTE: Final = 71
ZAP_LEAFS_CALL: Final = 72
ZAP_LEAFS_CALL_RET: Final = 73

KINDS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "kvmmmu:kvm_tdp_mmu_spte_changed": (CHANGED, ("gfn", "old_spte", "new_spte", "level", "as_id")),
    "kvmmmu:fast_page_fault": (FAST_FAULT, ("cr2_or_gpa", "old_spte", "new_spte", "sptep", "vcpu_id")),
    "kvmmmu:kvm_mmu_set_spte": (SET_SPTE, ("gfn", "spte", "sptep", "level")),
    "kvmmmu:kvm_mmu_spte_requested": (REQUESTED, ("gfn", "pfn", "level")),
    "kvmmmu:kvm_mmu_get_page": (GET_PAGE, ("gfn", "role")),
    "kvmmmu:kvm_mmu_prepare_zap_page": (PREPARE_ZAP, ("gfn", "role")),
    "kvmmmu:kvm_mmu_split_huge_page": (SPLIT_PAGE, ("gfn", "spte", "level", "errno")),
    "kvmmmu:kvm_mmu_zap_all_fast": (ZAP_ALL_FAST, ()),
    "kvm:kvm_unmap_hva_range": (UNMAP_HVA, ("start", "end")),
    "kvm:kvm_age_hva": (AGE_HVA, ("start", "end")),
    "kvm:kvm_set_spte_hva": (SET_SPTE_HVA, ("hva",)),
    "kvm:kvm_entry": (ENTRY, ("vcpu_id",)),
    "kvm:kvm_exit": (EXIT, ("vcpu_id",)),
    "kvm:kvm_dirty_ring_reset": (RING_RESET, ("index",)),
    "kprobes:handle_changed_spte": (HANDLED, ("kvm", "gfn", "old", "new", "level")),
    "kprobes:__handle_changed_spte": (HANDLED, ("kvm", "gfn", "old", "new", "level")),
    "kprobes:kvm_flush_remote_tlbs": (FLUSH, ("kvm",)),
    "kprobes:tdp_mmu_free_sp_rcu_callback": (FREE, ("gfn", "role", "spt", "head")),
    "kprobes:svm_flush_tlb_current": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:svm_flush_tlb_all": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:svm_flush_tlb_asid": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:vmx_flush_tlb_current": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:vmx_flush_tlb_all": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:kvm_tdp_mmu_get_vcpu_root_hpa": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:kvm_tdp_mmu_alloc_root": (VCPU_OF, ("kvm", "vcpu_id")),
    "kprobes:kvm_tdp_mmu_map": (MAP, ("kvm", "vcpu_id", "gfn")),
    "kprobes:kvm_tdp_mmu_map__ret": (MAP_RET, ("ret",)),
    "kprobes:kvm_tdp_mmu_unmap_gfn_range": (UNMAP, ("kvm", "start", "end", "as_id")),
    "kprobes:kvm_tdp_mmu_unmap_gfn_range__ret": (UNMAP_RET, ("ret",)),
    "kprobes:tdp_mmu_zap_leafs": (ZAP_LEAFS, ("kvm", "root", "role", "start", "end")),
    "kprobes:tdp_mmu_zap_leafs__ret": (ZAP_LEAFS_RET, ("ret",)),
    "kprobes:kvm_tdp_mmu_zap_all": (ZAP_ALL, ("kvm",)),
    "kprobes:kvm_tdp_mmu_zap_all__ret": (ZAP_ALL_RET, ()),
    "kprobes:kvm_tdp_mmu_invalidate_all_roots": (INVALIDATE_ROOTS, ("kvm",)),
    "kprobes:kvm_tdp_mmu_zap_invalidated_roots": (ZAP_INVALIDATED, ("kvm",)),
    "kprobes:kvm_tdp_mmu_zap_invalidated_roots__ret": (ZAP_INVALIDATED_RET, ()),
    "kprobes:__tdp_mmu_zap_root": (ZAP_ROOT, ("kvm", "root", "role", "level")),
    "kprobes:kvm_tdp_mmu_zap_sp": (ZAP_SP, ("kvm", "gfn", "role")),
    "kprobes:kvm_tdp_mmu_zap_sp__ret": (ZAP_SP_RET, ("ret",)),
    "kprobes:kvm_tdp_mmu_put_root": (PUT_ROOT, ("kvm", "root", "role", "refs")),
    "kprobes:kvm_tdp_mmu_wrprot_slot": (WRPROT, ("kvm",)),
    "kprobes:kvm_tdp_mmu_wrprot_slot__ret": (WRPROT_RET, ("ret",)),
    "kprobes:kvm_tdp_mmu_clear_dirty_pt_masked": (CLEAR_PT, ("kvm", "gfn", "mask", "as_id")),
    "kprobes:kvm_tdp_mmu_clear_dirty_slot": (CLEAR_SLOT, ("kvm",)),
    "kprobes:kvm_tdp_mmu_try_split_huge_pages": (TRY_SPLIT, ("kvm",)),
    "kprobes:kvm_tdp_mmu_try_split_huge_pages__ret": (TRY_SPLIT_RET, ()),
    "kprobes:kvm_tdp_mmu_zap_collapsible_sptes": (COLLAPSE, ("kvm",)),
    "kprobes:kvm_tdp_mmu_zap_collapsible_sptes__ret": (COLLAPSE_RET, ()),
    "kprobes:kvm_tdp_mmu_recover_huge_pages": (COLLAPSE, ("kvm",)),
    "kprobes:kvm_tdp_mmu_write_protect_gfn": (WRPROT_GFN, ("kvm", "gfn")),
    "kprobes:kvm_tdp_mmu_age_gfn_range": (AGE, ("kvm", "start", "end", "as_id")),
    "kprobes:kvm_tdp_mmu_age_gfn_range__ret": (AGE_RET, ("ret",)),
    "kprobes:kvm_mmu_notifier_invalidate_range_start": (NOTIFIER, ("mn",)),
    "kprobes:kvm_mmu_notifier_invalidate_range_start__ret": (NOTIFIER_RET, ("ret",)),
    "kprobes:kvm_mmu_notifier_clear_flush_young": (FLUSH_YOUNG, ("mn",)),
    "kprobes:kvm_mmu_notifier_clear_young": (CLEAR_YOUNG, ("mn",)),
    "kprobes:kvm_mmu_notifier_change_pte": (CHANGE_PTE, ("mn",)),
    "kprobes:__kvm_set_memory_region": (SET_REGION, ("kvm", "slot", "flags", "gpa", "size")),
    "kprobes:__kvm_set_memory_region__ret": (SET_REGION_RET, ("ret",)),
    "kprobes:kvm_get_dirty_log_protect": (GET_LOG, ("kvm", "slot")),
    "kprobes:kvm_get_dirty_log_protect__ret": (GET_LOG_RET, ("ret",)),
    "kprobes:kvm_clear_dirty_log_protect": (CLEAR_LOG, ("kvm", "slot")),
    "kprobes:kvm_clear_dirty_log_protect__ret": (CLEAR_LOG_RET, ("ret",)),
    "kprobes:kvm_arch_flush_shadow_memslot": (FLUSH_SLOT, ("kvm",)),
    "kprobes:kvm_arch_flush_shadow_all": (FLUSH_ALL, ("kvm",)),
    "kprobes:kvm_zap_gfn_range": (ZAP_GFN_RANGE, ("kvm", "start", "end")),
    "kprobes:kvm_tdp_mmu_zap_leafs": (ZAP_LEAFS_CALL, ("kvm", "start", "end")),
    "kprobes:kvm_tdp_mmu_zap_leafs__ret": (ZAP_LEAFS_CALL_RET, ("ret",)),
    "kprobes:kvm_arch_init_vm": (INIT_VM, ("kvm",)),
    "kprobes:kvm_destroy_vm": (DESTROY_VM, ("kvm",)),
}
"""What is taken of each kind of event: its code, and the fields that become its numbers a, b, c, d, e."""

MISSING: Final = -1
"""Stands for a field that the input does not show."""
