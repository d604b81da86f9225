"""``list``: collect removed tables, flush once, then queue them (RFC 02 to 04 of November 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.vecs import append, vec
from mypy_extensions import i64, mypyc_attr

from ..requests import flush_remote_tlbs, flush_remote_tlbs_range
from .eager import Eager

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


def queue_all(kvm: Kvm, batch: Batch) -> None:
    """Hand the collected tables to RCU. TLB: the caller has flushed them."""
    i = 0
    while i < len(batch.tables):
        kvm.m.call_rcu(batch.tables[i])
        i += 1
    batch.tables = vec[i64]()


@mypyc_attr(allow_interpreted_subclasses=True)
class Collect(Eager):
    """As ``eager`` where an operation does not end with a flush of its own (faults, promotion, zapped roots)."""

    name = "list"

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """TLB: the operation flushes before it queues what it collected. Source: RFC 02/19, 03/19."""
        if batch.collect:
            batch.tables = append(batch.tables, table)
            return
        flush_remote_tlbs_range(kvm, gfn, kvm.pages(level + 1))
        kvm.m.call_rcu(table)

    def entry_flushed(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: was flushed a moment ago. Source: RFC 02/19, ``tdp_mmu_zap_spte_atomic``."""
        queue_all(kvm, batch)

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes if tables were collected; leaves only are the caller's. Source: RFC 03/19, ``zap_gfn_range``."""
        if len(batch.tables) > 0:
            flush_remote_tlbs(kvm)
            batch.flush = False
            queue_all(kvm, batch)
        kvm.m.rcu_read_unlock()


LIST: Final = Collect()
