"""The words of shared memory besides SPTEs: what each is, who owns one, and what protects it.

A word is named by its kind and the number of its owner (a table, a vCPU, a gfn, or 0 where the VM owns it). The checker
trusts these declarations and tests them on every access; the native machine tests the locks.
"""

from __future__ import annotations

from typing import Final

# Of a table (struct kvm_mmu_page).
SP_GFN: Final = 0
"""First gfn that the table covers."""
SP_LEVEL: Final = 1
"""Level of the table's entries, 1 to 5."""
SP_AS: Final = 2
"""Address space: 0, or 1 for system management mode."""
SP_PARENT: Final = 3
"""Address of the entry that points to the table (``sp->ptep``)."""
SP_NX: Final = 4
"""1: a huge page was refused here because of the NX mitigation (``nx_huge_page_disallowed``)."""

# Of a root's table.
ROOT_COUNT: Final = 5
"""References (``tdp_mmu_root_count``)."""
ROOT_INVALID: Final = 6
"""1: no vCPU may use the root any more (``role.invalid``)."""
ROOT_SCHEDULED: Final = 7
"""1: whoever zaps invalidated roots has still to put the MMU's own reference (``tdp_mmu_scheduled_root_to_zap``)."""

# Of the VM.
INVALIDATE_SEQ: Final = 8
"""Counts finished invalidations (``mmu_invalidate_seq``)."""
INVALIDATE_IN_PROGRESS: Final = 9
"""Invalidations that have begun and not ended (``mmu_invalidate_in_progress``)."""
INVALIDATE_START: Final = 10
INVALIDATE_END: Final = 11
"""First gfn of the range under invalidation, and the first after it."""

# Of the host's own page tables, by gfn.
HOST_PFN: Final = 12
"""What the host maps there, -1 for nothing."""
HOST_LEVEL: Final = 13
"""Level at which the host maps it."""

# Of a vCPU.
VCPU_MODE: Final = 14
"""One of the modes below (``vcpu->mode``)."""
VCPU_REQUESTS: Final = 15
"""Bits of the requests below (``vcpu->requests``)."""
VCPU_ROOT: Final = 16
"""Table of the root that the vCPU runs on, -1 for none (``vcpu->arch.mmu->root``)."""

# Statistics of the VM.
PAGES: Final = 17
"""Present leaves, by level as the owner's number (``stat.pages``)."""
NX_SPLITS: Final = 18
"""``stat.nx_lpage_splits``."""
TABLES: Final = 19
"""Linked tables, roots not counted (``tdp_mmu_pages``)."""
FLUSH_REQUESTS: Final = 20
"""``stat.generic.remote_tlb_flush_requests``: calls."""
FLUSHES: Final = 21
"""``stat.generic.remote_tlb_flush``: calls that interrupted a vCPU."""
DIRTY_PFNS: Final = 22
"""Pages handed to the host as dirty (``kvm_set_pfn_dirty``)."""
ACCESSED_PFNS: Final = 23
"""Pages handed to the host as accessed (``kvm_set_pfn_accessed``)."""

KINDS: Final = 24
KIND_NAMES: Final = (
    *("SP_GFN", "SP_LEVEL", "SP_AS", "SP_PARENT", "SP_NX"),
    *("ROOT_COUNT", "ROOT_INVALID", "ROOT_SCHEDULED"),
    *("INVALIDATE_SEQ", "INVALIDATE_IN_PROGRESS", "INVALIDATE_START", "INVALIDATE_END"),
    *("HOST_PFN", "HOST_LEVEL"),
    *("VCPU_MODE", "VCPU_REQUESTS", "VCPU_ROOT"),
    *("PAGES", "NX_SPLITS", "TABLES", "FLUSH_REQUESTS", "FLUSHES", "DIRTY_PFNS", "ACCESSED_PFNS"),
)
"""The names above, by number, for messages."""

# Lists of tables.
ROOTS: Final = 0
"""All roots (``arch.tdp_mmu_roots``): changed under the pages lock, read under RCU."""
NX_TABLES: Final = 1
"""Tables whose NX recovery could rebuild a huge page (``possible_nx_huge_pages``), oldest first."""
LISTS: Final = 2
LIST_NAMES: Final = ("ROOTS", "NX_TABLES")

# How a word is protected, which decides whether an access is a step of its own in a schedule.
SHARED: Final = "shared"
"""Anybody may access it at any time: every access is a step."""
UNDER_MMU_LOCK: Final = "under mmu_lock"
"""Read with mmu_lock held, written with it held for write: no step, since nobody can come between."""
WRITTEN_UNDER_MMU_LOCK: Final = "written under mmu_lock"
"""Written with mmu_lock held for write, read by anybody: a step where the reader does not hold the lock."""
UNDER_PAGES_LOCK: Final = "under the pages lock"
"""Accessed with the pages lock held, or with mmu_lock held for write."""
CONSTANT: Final = "constant once published"
"""Written before others can find its owner, then only read: no step."""
OWN: Final = "its vCPU's own"
"""Accessed by its vCPU's thread only: no step."""
STATISTIC: Final = "statistic"
"""Only added to, and read by nobody who decides: additions commute."""

PROTECTION: Final = {
    SP_GFN: CONSTANT,
    SP_LEVEL: CONSTANT,
    SP_AS: CONSTANT,
    SP_PARENT: CONSTANT,
    SP_NX: UNDER_PAGES_LOCK,
    ROOT_COUNT: SHARED,
    ROOT_INVALID: WRITTEN_UNDER_MMU_LOCK,
    ROOT_SCHEDULED: SHARED,
    INVALIDATE_SEQ: WRITTEN_UNDER_MMU_LOCK,
    INVALIDATE_IN_PROGRESS: UNDER_MMU_LOCK,
    INVALIDATE_START: UNDER_MMU_LOCK,
    INVALIDATE_END: UNDER_MMU_LOCK,
    HOST_PFN: SHARED,
    HOST_LEVEL: SHARED,
    VCPU_MODE: SHARED,
    VCPU_REQUESTS: SHARED,
    VCPU_ROOT: OWN,
    PAGES: STATISTIC,
    NX_SPLITS: STATISTIC,
    TABLES: STATISTIC,
    FLUSH_REQUESTS: STATISTIC,
    FLUSHES: STATISTIC,
    DIRTY_PFNS: STATISTIC,
    ACCESSED_PFNS: STATISTIC,
}

# Modes of a vCPU; source: include/linux/kvm_host.h.
OUTSIDE_GUEST_MODE: Final = 0
IN_GUEST_MODE: Final = 1
EXITING_GUEST_MODE: Final = 2

# Requests, as bits.
TLB_FLUSH: Final = 1
"""``KVM_REQ_TLB_FLUSH``."""
FREE_OBSOLETE_ROOTS: Final = 2
"""``KVM_REQ_MMU_FREE_OBSOLETE_ROOTS``."""

NO_TABLE: Final = -1
