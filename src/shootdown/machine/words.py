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
SP_ROLE: Final = 2
"""Of a root: its role, by the bits below; 0 of any other table."""
SP_PARENT: Final = 3
"""Address of the entry that points to the table (``sp->ptep``)."""
SP_NX: Final = 4
"""1: on the list NX_TABLES: the host had a huge page here, which the NX mitigation refused."""
SP_NX_REFUSED: Final = 5
"""1: the table was linked by a fault that the NX mitigation denied a huge page, whether the host had one there or not;
not kept by 6.1 (``nx_huge_page_disallowed`` of 6.12, where SP_NX stands for its list)."""
SP_LISTED: Final = 6
"""1: on the list of all tables that kernels up to 6.1 keep (``tdp_mmu_pages``), in whatever order: nobody walks it."""

# Of a root's table.
ROOT_COUNT: Final = 7
"""References (``tdp_mmu_root_count``)."""
ROOT_INVALID: Final = 8
"""1: no vCPU may use the root any more (``role.invalid``)."""
ROOT_SCHEDULED: Final = 9
"""1: whoever zaps invalidated roots has still to put the MMU's own reference (``tdp_mmu_scheduled_root_to_zap``)."""

# Of the VM.
INVALIDATE_SEQ: Final = 10
"""Counts finished invalidations (``mmu_invalidate_seq``)."""
INVALIDATE_IN_PROGRESS: Final = 11
"""Invalidations that have begun and not ended (``mmu_invalidate_in_progress``)."""
INVALIDATE_START: Final = 12
INVALIDATE_END: Final = 13
"""First gfn of the range under invalidation, and the first after it."""

# Of the host's own page tables, by gfn.
HOST_PFN: Final = 14
"""What the host maps there, -1 for nothing."""
HOST_LEVEL: Final = 15
"""Level at which the host maps it."""
HOST_WRITABLE: Final = 16
"""1: the host may write it (``map_writable`` of a fault that only reads)."""

# Of a memory slot, by its number (struct kvm_memory_slot); changed under slots_lock, read under SRCU.
SLOT_BASE: Final = 17
"""First gfn."""
SLOT_PAGES: Final = 18
"""How many gfns, 0 where there is no slot of that number."""
SLOT_FLAGS: Final = 19
"""The bits below."""
SLOT_AS: Final = 20
"""Address space that the slot belongs to."""
SLOT_ORDER: Final = 21
"""Where to look first for a slot: slot + 1 by place in the order of address spaces and bases, 0 behind the last. Only
a hint: while slots change it need not agree with them."""
SLOTS_GENERATION: Final = 22
"""Counts updates of the slots, by address space (``kvm_memslots.generation``)."""

# Of dirty logging.
DIRTY: Final = 23
"""64 bits of a slot's dirty bitmap, by ``slot << 32 | word``."""
WRITE_TRACKED: Final = 24
"""Users who track writes to a page, by ``1 << 48 | gfn`` (``gfn_write_track``); of an entry above 4K, who track writes
below it by way of a slot of an address space, by ``as_id << 56 | level << 48 | gfn`` (``disallow_lpage``)."""
RING_ENTRY: Final = 25
"""``slot << 32 | offset`` of a page in a vCPU's dirty ring, by ``vcpu << 32 | index``."""
RING_PUSHED: Final = 26
"""Entries that were ever pushed, by vCPU (``dirty_index``)."""
RING_RESET: Final = 27
"""Entries that were ever reset, by vCPU (``reset_index``)."""

# Of a vCPU.
VCPU_MODE: Final = 28
"""One of the modes below (``vcpu->mode``)."""
VCPU_REQUESTS: Final = 29
"""Bits of the requests below (``vcpu->requests``)."""
VCPU_CPU: Final = 30
"""The CPU that the vCPU's thread was on when it last began to run there."""
VCPU_ROOT: Final = 31
"""Table of the root that the vCPU runs on, -1 for none (``vcpu->arch.mmu->root``)."""
VCPU_PREV_ROOT: Final = 32
"""Three roots that the vCPU ran on before, the latest first, by ``3 * vcpu + which``: table + 1, 0 for none; the vCPU
keeps a reference to each (``vcpu->arch.mmu->prev_roots``)."""

# Of the VM, for those who change its slots.
INVALIDATIONS: Final = 33
"""Notifiers that have started and not ended (``mn_active_invalidate_count``); -1: none may start just now."""

# Statistics of the VM.
PAGES: Final = 34
"""Present leaves, by level as the owner's number (``stat.pages``)."""
NX_SPLITS: Final = 35
"""``stat.nx_lpage_splits``."""
TABLES: Final = 36
"""Linked tables, roots not counted (``tdp_mmu_pages``)."""
FLUSH_REQUESTS: Final = 37
"""``stat.generic.remote_tlb_flush_requests``: calls."""
FLUSHES: Final = 38
"""``stat.generic.remote_tlb_flush``: calls that interrupted a vCPU."""
DIRTY_PFNS: Final = 39
"""Pages handed to the host as dirty (``kvm_set_pfn_dirty``)."""
ACCESSED_PFNS: Final = 40
"""Pages handed to the host as accessed (``kvm_set_pfn_accessed``)."""
FAULTS: Final = 41
"""Faults by result, as the owner's number (``pf_fixed``, ``pf_spurious``, ``pf_emulate``; mmu/fault.py)."""
FAST_FAULTS: Final = 42
"""``pf_fast``."""
MMIO_SPTES: Final = 43
"""``pf_mmio_spte_created``."""

KINDS: Final = 44
KIND_NAMES: Final = (
    *("SP_GFN", "SP_LEVEL", "SP_ROLE", "SP_PARENT", "SP_NX", "SP_NX_REFUSED", "SP_LISTED"),
    *("ROOT_COUNT", "ROOT_INVALID", "ROOT_SCHEDULED"),
    *("INVALIDATE_SEQ", "INVALIDATE_IN_PROGRESS", "INVALIDATE_START", "INVALIDATE_END"),
    *("HOST_PFN", "HOST_LEVEL", "HOST_WRITABLE"),
    *("SLOT_BASE", "SLOT_PAGES", "SLOT_FLAGS", "SLOT_AS", "SLOT_ORDER", "SLOTS_GENERATION"),
    *("DIRTY", "WRITE_TRACKED", "RING_ENTRY", "RING_PUSHED", "RING_RESET"),
    *("VCPU_MODE", "VCPU_REQUESTS", "VCPU_CPU", "VCPU_ROOT", "VCPU_PREV_ROOT", "INVALIDATIONS"),
    *("PAGES", "NX_SPLITS", "TABLES", "FLUSH_REQUESTS", "FLUSHES", "DIRTY_PFNS", "ACCESSED_PFNS"),
    *("FAULTS", "FAST_FAULTS", "MMIO_SPTES"),
)
"""The names above, by number, for messages."""

# Lists of tables.
ROOTS: Final = 0
"""All roots (``arch.tdp_mmu_roots``), the newest first: changed under the pages lock, read under RCU."""
NX_TABLES: Final = 1
"""Tables whose NX recovery could rebuild a huge page (``possible_nx_huge_pages``), oldest first."""
LISTS: Final = 2
LIST_NAMES: Final = ("ROOTS", "NX_TABLES")

# How a word is protected, which decides whether an access is a step of its own in a schedule.
SHARED: Final = "shared"
"""Anybody may access it at any time: every access is a step."""
WRITTEN_UNDER_MMU_LOCK: Final = "written under mmu_lock"
"""Written with mmu_lock held for write, read by anybody: a step where the reader does not hold the lock."""
UNDER_PAGES_LOCK: Final = "under the pages lock"
"""Accessed with the pages lock held, or with mmu_lock held for write."""
UNDER_SLOTS_LOCK: Final = "written under slots_lock"
"""Written with slots_lock held, read with it or in an SRCU section: a step in such a section."""
CONSTANT: Final = "constant once published"
"""Written before others can find its owner, then only read: no step."""
OWN: Final = "its vCPU's own"
"""Accessed by its vCPU's thread only: no step."""
STATISTIC: Final = "statistic"
"""Only added to, and read by nobody who decides: additions commute."""

PROTECTION: Final = {
    SP_GFN: CONSTANT,
    SP_LEVEL: CONSTANT,
    SP_ROLE: CONSTANT,
    SP_PARENT: CONSTANT,
    SP_NX: UNDER_PAGES_LOCK,
    SP_NX_REFUSED: SHARED,
    SP_LISTED: UNDER_PAGES_LOCK,
    ROOT_COUNT: SHARED,
    ROOT_INVALID: WRITTEN_UNDER_MMU_LOCK,
    ROOT_SCHEDULED: SHARED,
    INVALIDATE_SEQ: WRITTEN_UNDER_MMU_LOCK,
    INVALIDATE_IN_PROGRESS: WRITTEN_UNDER_MMU_LOCK,
    INVALIDATE_START: WRITTEN_UNDER_MMU_LOCK,
    INVALIDATE_END: WRITTEN_UNDER_MMU_LOCK,
    HOST_PFN: SHARED,
    HOST_LEVEL: SHARED,
    HOST_WRITABLE: SHARED,
    SLOT_BASE: UNDER_SLOTS_LOCK,
    SLOT_PAGES: UNDER_SLOTS_LOCK,
    SLOT_FLAGS: UNDER_SLOTS_LOCK,
    SLOT_AS: UNDER_SLOTS_LOCK,
    SLOT_ORDER: UNDER_SLOTS_LOCK,
    SLOTS_GENERATION: SHARED,
    DIRTY: SHARED,
    WRITE_TRACKED: WRITTEN_UNDER_MMU_LOCK,
    RING_ENTRY: SHARED,
    RING_PUSHED: SHARED,
    RING_RESET: SHARED,
    VCPU_MODE: SHARED,
    VCPU_REQUESTS: SHARED,
    VCPU_CPU: OWN,
    VCPU_ROOT: OWN,
    VCPU_PREV_ROOT: OWN,
    INVALIDATIONS: SHARED,
    PAGES: STATISTIC,
    NX_SPLITS: STATISTIC,
    TABLES: STATISTIC,
    FLUSH_REQUESTS: STATISTIC,
    FLUSHES: STATISTIC,
    DIRTY_PFNS: STATISTIC,
    ACCESSED_PFNS: STATISTIC,
    FAULTS: STATISTIC,
    FAST_FAULTS: STATISTIC,
    MMIO_SPTES: STATISTIC,
}

# Bits of a root's role; source: union kvm_mmu_page_role, arch/x86/include/asm/kvm_host.h.
ROLE_SMM: Final = 1
"""The address space of system management mode."""
ROLE_GUEST_MODE: Final = 2
"""For a nested guest without page tables of its own for it."""
ROLE_LEVEL_SHIFT: Final = 4
"""From here on the level of the entries in the root."""

# Flags of a slot; source: include/uapi/linux/kvm.h, include/linux/kvm_host.h.
LOG_DIRTY_PAGES: Final = 1
READONLY: Final = 2
SLOT_INVALID: Final = 4
"""The slot is being deleted or moved: faults in it must retry."""

# Modes of a vCPU; source: include/linux/kvm_host.h.
OUTSIDE_GUEST_MODE: Final = 0
IN_GUEST_MODE: Final = 1
EXITING_GUEST_MODE: Final = 2

PREV_ROOTS: Final = 3
"""Previous roots that a vCPU keeps (``KVM_MMU_NUM_PREV_ROOTS``)."""

# Requests, as bits.
TLB_FLUSH: Final = 1
"""``KVM_REQ_TLB_FLUSH``."""
FREE_OBSOLETE_ROOTS: Final = 2
"""``KVM_REQ_MMU_FREE_OBSOLETE_ROOTS``."""
DIRTY_RING_SOFT_FULL: Final = 4
"""``KVM_REQ_DIRTY_RING_SOFT_FULL``."""
UPDATE_CPU_DIRTY_LOGGING: Final = 8
"""``KVM_REQ_UPDATE_CPU_DIRTY_LOGGING``: switch PML on or off."""

NO_TABLE: Final = -1
