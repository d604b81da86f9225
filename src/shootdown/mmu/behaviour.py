"""What differs between kernel versions, one named flag a difference."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from .spte import EMPTY_61, EMPTY_612, FROZEN_61, FROZEN_612


class Behaviour:
    """The flags of one kernel version; ``name`` is that version.

    empty, frozen         the values of an entry that maps nothing and of one that is owned (spte.h)
    range_zap_tables      a range zap also cuts every table that lies wholly in the range: ``zap_gfn_range`` of 5.15 to
                          5.17; else it zaps leaves only (cf3e26427c08 and f47e5bbbc92f, in 5.18)
    flush_then_remove     the atomic zap flushes and releases the entry before it tears the table down (aca48556c592,
                          in 6.10); else it tears down first
    flush_invalid_roots   zaps of leaves treat an invalid root as any other: ``kvm_zap_gfn_range`` visits it, and owes
                          a flush for it (6.1); else neither, since no vCPU can use that root any more (6.12)
    split_in_fault        a fault splits a huge page that is in its way (read in 6.12), else it zaps it (read in 6.1)
    promote               huge pages are rebuilt in place (13e2e4f62a4b, in 6.13); else the table is zapped and a fault
                          maps the huge page
    passes                the levels at which ``zap_root`` stops, from the lowest; 0 stands for the root's own level
    ring_full_by_request  whether a dirty ring is full is looked at only where a request says so (read in 6.12), else at
                          every entry (read in 6.1)
    software_ad           KVM keeps A and D itself where the CPU does not (read after 6.13)
    refault_drops_dirty   a fault that finds its entry writable builds its leaf without D (read in 6.12)
    spurious_early        a fault whose access the entry allows already changes nothing (386d69f9f29b, in 6.13); else
                          each fault builds its leaf anew
    flush_lost_writable   a fault flushes if its leaf takes "MMU-writable" away (1a175082b190, in 6.13)
    check_early           a fault looks before it takes mmu_lock whether its page is being invalidated (read in 6.12)
    lists_tables          all tables are on a list, on which a new one comes after it was linked; whoever takes it away
                          before crashes (read in 6.1 and in kernel bug 217562 of 5.15; gone with d25ceb926436)
    heeds_mtrrs           where a device bypasses caches, what the guest's MTRRs say of its memory counts (read in 6.1)
    marks_refused         a table is marked if the NX mitigation alone caused it, and only such a table keeps later
                          faults from mapping a huge page there (read in 6.12); else any table does (read in 6.1)
    write_protected       a write to a page that must stay write-protected has a result of its own (read in 6.12)
    counts_pfns           a leaf that goes, or loses its A or D, tells the host's page so (read in 6.12); else that is
                          done when a fault maps it (read in 6.13)
    direct_clear          clearing the dirty log and ageing clear single bits by an atomic AND and account for no more
                          than the trace (read in 6.12), else they set the entry as anybody does (read in 6.1)
    recheck_leaf          after it lost a race, the clearing of a whole slot's dirty bits looks again whether the entry
                          is a leaf (read in 6.12), else only whether it is present (read in 6.1)
    protect_invalid_roots  write-protection and the clearing of dirty bits by mask visit invalid roots too (read in 6.1)
    split_end_short       clearing a log that began all ones does not split the page of the last bit (read in 6.1)
    protect_end_short     nor does it protect the huge page that begins with the last bit's, if the first bit's page is
                          in the one before and does not begin it (read in 6.1, 6.12 and 6.19)
    split_alloc_locked    splitting asks for a table without dropping mmu_lock first (read in 6.1)
    flush_young           ``clear_flush_young`` flushes (read in 6.12); else what is cached of A may stay (in 6.13)
    change_pte            the host may replace a page in one step (read in 6.1; gone in 6.12)
    range_by_slot         a notifier's range is noted slot by slot, as gfns (read in 6.12); else once, as the host's
                          addresses (read in 6.1)
    zap_blocks_all        ``kvm_zap_gfn_range`` has all faults wait (read in 6.1), else those of its range
    slot_zap_choice       a deleted slot's leaves may be zapped alone, if the VM wants it (read in 6.12)
    wide_fault_flush      a fault that replaced a table flushes what the table around its entry covers (read in 6.1),
                          else what the entry covers (c6753e20e09d)
    nx_keeps_logged       NX recovery leaves the tables of a logged slot where they are, and warns of one that has no
                          slot while any is logged (read in 6.12)
    nx_shared             NX recovery holds mmu_lock for read, forgets a table before it zaps it, and zaps it only where
                          it still is (read in 6.18), else it holds the lock for write
    age_lockless          ageing holds no lock but RCU, and clears A in whatever the entry is by then (read in 6.18;
                          aa34b811650c let architectures do so, in 6.15), else it holds mmu_lock for write
    age_invalid_roots     ageing visits invalid roots too (read in 6.1 and 6.12)
    volatile_accessed     an A that a CPU may set meanwhile is kept when an entry is written (read in 6.13), else only a
                          D is, and what has no A or D bits is always written by exchange (read in 6.18)
    roots_put_exclusive   a vCPU lets go of roots with mmu_lock held for write (read in 6.1), else for
                          read (read in 6.12)
    ahead_stops_at_table  a page is not mapped ahead of its fault where a table is (read in 6.13), else not where a leaf
                          is (read in 6.18)
    spurious_checks_pfn   a fault whose access the entry allows already warns if it was to map another page (read in
                          6.18)
    """

    def __init__(
        self,
        name: str,
        *,
        range_zap_tables: bool,
        flush_then_remove: bool,
        flush_invalid_roots: bool,
        split_in_fault: bool,
        promote: bool,
        passes: tuple[int, ...],
        empty: i64,
        frozen: i64,
        ring_full_by_request: bool,
        software_ad: bool,
        refault_drops_dirty: bool,
        spurious_early: bool,
        flush_lost_writable: bool,
        check_early: bool,
        lists_tables: bool,
        heeds_mtrrs: bool,
        marks_refused: bool,
        write_protected: bool,
        counts_pfns: bool,
        direct_clear: bool,
        recheck_leaf: bool,
        protect_invalid_roots: bool,
        split_end_short: bool,
        protect_end_short: bool,
        split_alloc_locked: bool,
        flush_young: bool,
        change_pte: bool,
        range_by_slot: bool,
        zap_blocks_all: bool,
        slot_zap_choice: bool,
        nx_keeps_logged: bool,
        wide_fault_flush: bool,
        nx_shared: bool,
        age_lockless: bool,
        age_invalid_roots: bool,
        volatile_accessed: bool,
        ahead_stops_at_table: bool,
        spurious_checks_pfn: bool,
        roots_put_exclusive: bool,
    ) -> None:
        self.name = name
        self.range_zap_tables = range_zap_tables
        self.flush_then_remove = flush_then_remove
        self.flush_invalid_roots = flush_invalid_roots
        self.split_in_fault = split_in_fault
        self.promote = promote
        self.passes = passes
        self.empty = empty
        self.frozen = frozen
        self.ring_full_by_request = ring_full_by_request
        self.software_ad = software_ad
        self.refault_drops_dirty = refault_drops_dirty
        self.spurious_early = spurious_early
        self.flush_lost_writable = flush_lost_writable
        self.check_early = check_early
        self.lists_tables = lists_tables
        self.heeds_mtrrs = heeds_mtrrs
        self.marks_refused = marks_refused
        self.write_protected = write_protected
        self.counts_pfns = counts_pfns
        self.direct_clear = direct_clear
        self.recheck_leaf = recheck_leaf
        self.protect_invalid_roots = protect_invalid_roots
        self.split_end_short = split_end_short
        self.protect_end_short = protect_end_short
        self.split_alloc_locked = split_alloc_locked
        self.flush_young = flush_young
        self.change_pte = change_pte
        self.range_by_slot = range_by_slot
        self.zap_blocks_all = zap_blocks_all
        self.slot_zap_choice = slot_zap_choice
        self.nx_keeps_logged = nx_keeps_logged
        self.wide_fault_flush = wide_fault_flush
        self.nx_shared = nx_shared
        self.age_lockless = age_lockless
        self.age_invalid_roots = age_invalid_roots
        self.volatile_accessed = volatile_accessed
        self.ahead_stops_at_table = ahead_stops_at_table
        self.spurious_checks_pfn = spurious_checks_pfn
        self.roots_put_exclusive = roots_put_exclusive


def _behaviour(name: str) -> Behaviour:
    late = name in ("6.12", "6.13", "6.18")
    later = name in ("6.13", "6.18")
    return Behaviour(
        name,
        range_zap_tables=name == "5.17",
        flush_then_remove=late,
        flush_invalid_roots=not late,
        split_in_fault=late,
        promote=later,
        passes=(1, 2, 3, 0) if late else (3, 0),
        empty=EMPTY_612 if late else EMPTY_61,
        frozen=FROZEN_612 if late else FROZEN_61,
        ring_full_by_request=late,
        software_ad=later,
        refault_drops_dirty=not later,
        spurious_early=later,
        flush_lost_writable=later,
        check_early=late,
        lists_tables=not late,
        heeds_mtrrs=not late,
        marks_refused=late,
        write_protected=late,
        counts_pfns=not later,
        direct_clear=late,
        recheck_leaf=late,
        protect_invalid_roots=not late,
        split_end_short=not late,
        protect_end_short=True,
        split_alloc_locked=not late,
        flush_young=not later,
        change_pte=not late,
        range_by_slot=late,
        zap_blocks_all=name == "6.1",
        slot_zap_choice=late,
        nx_keeps_logged=late,
        wide_fault_flush=not late,
        nx_shared=name == "6.18",
        age_lockless=name == "6.18",
        age_invalid_roots=not later,
        volatile_accessed=name != "6.18",
        ahead_stops_at_table=name == "6.13",
        spurious_checks_pfn=name == "6.18",
        roots_put_exclusive=not late,
    )


BEHAVIOURS: Final = {name: _behaviour(name) for name in ("5.17", "6.1", "6.12", "6.13", "6.18")}
"""All behaviours by name."""
