"""Where in the kernel's flow our MMU and the record part: the function that makes such a change."""

from __future__ import annotations

from typing import Final

from ...mmu.spte import is_frozen, is_table
from .. import codes as s
from . import plan
from .result import Difference

CALLERS: Final = {
    plan.FAULT: "kvm_tdp_mmu_map",
    plan.PREFETCH: "kvm_tdp_mmu_map (prefetch)",
    plan.FAST_FAULT: "fast_page_fault",
    plan.INVALIDATE: "kvm_unmap_gfn_range",
    plan.AGE: "kvm_tdp_mmu_age_gfn_range",
    plan.CHANGE_PTE: "kvm_tdp_mmu_set_spte_gfn",
    plan.REGION: "kvm_set_memslot",
    plan.GET_LOG: "kvm_get_dirty_log_protect",
    plan.CLEAR_LOG: "kvm_clear_dirty_log_protect",
    plan.RING: "kvm_dirty_ring_reset",
    plan.NX_RECOVERY: "kvm_recover_nx_huge_pages",
    plan.ZAP_RANGE: "kvm_zap_gfn_range",
    plan.ZAP_ALL: "kvm_mmu_zap_all",
    plan.UNINIT: "kvm_mmu_uninit_tdp_mmu",
    plan.WRPROT_GFN: "kvm_mmu_slot_gfn_write_protect",
    plan.FREE: "tdp_mmu_free_sp_rcu_callback",
}


def where(d: Difference) -> str:
    """The kernel's functions, outermost first."""
    caller = CALLERS.get(d.op.kind, "an operation that no event tells")
    inner = _inner(d)
    return f"{caller}, {inner}" if inner else caller


def _inner(d: Difference) -> str:
    event = d.event
    if event is not None and event.code == s.FLUSH:
        return "kvm_flush_remote_tlbs"
    change = d.predicted or (event.change() if event is not None else None)
    if change is None or d.op.kind == plan.FAST_FAULT:
        return ""
    _, level, old, new = change
    if is_frozen(new):
        return "handle_removed_pt"
    if is_table(new, level):
        return "tdp_mmu_link_sp" if not is_table(old, level) else "a table in place of a table"
    if d.op.kind in (plan.FAULT, plan.PREFETCH):
        return "tdp_mmu_map_handle_target_level"
    if is_table(old, level):
        return "the removal of a table"
    return ""
