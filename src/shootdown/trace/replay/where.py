"""Where in the kernel's flow our MMU and the record part: the function that makes such a change."""

from __future__ import annotations

from typing import Final

from ...mmu.spte import is_frozen, is_table
from .. import codes as s
from . import operation
from .result import Difference

CALLERS: Final = {
    operation.FAULT: "kvm_tdp_mmu_map",
    operation.PREFETCH: "kvm_tdp_mmu_map (prefetch)",
    operation.FAST_FAULT: "fast_page_fault",
    operation.INVALIDATE: "kvm_unmap_gfn_range",
    operation.AGE: "kvm_tdp_mmu_age_gfn_range",
    operation.CHANGE_PTE: "kvm_tdp_mmu_set_spte_gfn",
    operation.REGION: "kvm_set_memslot",
    operation.GET_LOG: "kvm_get_dirty_log_protect",
    operation.CLEAR_LOG: "kvm_clear_dirty_log_protect",
    operation.RING: "kvm_dirty_ring_reset",
    operation.NX_RECOVERY: "kvm_recover_nx_huge_pages",
    operation.ZAP_RANGE: "kvm_zap_gfn_range",
    operation.ZAP_ALL: "kvm_mmu_zap_all",
    operation.UNINIT: "kvm_mmu_uninit_tdp_mmu",
    operation.WRPROT_GFN: "kvm_mmu_slot_gfn_write_protect",
    operation.FREE: "tdp_mmu_free_sp_rcu_callback",
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
    if change is None or d.op.kind == operation.FAST_FAULT:
        return ""
    _, level, old, new = change
    if is_frozen(new):
        return "handle_removed_pt"
    if is_table(new, level):
        return "tdp_mmu_link_sp" if not is_table(old, level) else "a table in place of a table"
    if d.op.kind in (operation.FAULT, operation.PREFETCH):
        return "tdp_mmu_map_handle_target_level"
    if is_table(old, level):
        return "the removal of a table"
    return ""
