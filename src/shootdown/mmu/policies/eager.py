"""``eager``: one remote flush for each removed table, before it is queued (5.15 to 5.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ..requests import flush_remote_tlbs, flush_remote_tlbs_range
from .policy import Policy

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


@mypyc_attr(allow_interpreted_subclasses=True)
class Eager(Policy):
    """As 5.17; tables are out of every vCPU's reach before RCU gets them, so callers flush when they like."""

    name = "eager"

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """TLB: flushes the table's range. Source: ``handle_removed_tdp_mmu_page``."""
        flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))
        kvm.m.call_rcu(table)

    def leave_to_yield(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed, outside the section. Source: ``tdp_mmu_iter_cond_resched``."""
        kvm.m.rcu_read_unlock()
        if batch.flush:
            flush_remote_tlbs(kvm)

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: the caller flushes. Source: ``zap_gfn_range``."""
        kvm.m.rcu_read_unlock()

    def end_fault(self, kvm: Kvm, batch: Batch, replaced: bool) -> None:
        """TLB: a table that was replaced has been flushed. Source: ``tdp_mmu_map_handle_target_level``."""
        kvm.m.rcu_read_unlock()

    def end_recovery(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed, outside the section. Source: ``kvm_recover_nx_lpages``."""
        kvm.m.rcu_read_unlock()
        if batch.flush:
            flush_remote_tlbs(kvm)

    def end_promotion(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: each replaced table has been flushed. Source: RFC 19/19 of November 2021."""
        kvm.m.rcu_read_unlock()


EAGER: Final = Eager()
