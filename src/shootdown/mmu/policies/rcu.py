"""``rcu``: the seed mail of 12 November 2021, completed (5.18 on).

A removed table is queued at once and not flushed: the CPU that removed it is an RCU reader itself, so nothing that it
queued can be freed before it leaves its section. One flush before it does so suffices, for however many tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ..requests import flush_remote_tlbs, flush_remote_tlbs_range
from .policy import Policy

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


def flush_owed(kvm: Kvm, batch: Batch) -> None:
    """Flush if a flush is owed."""
    if batch.flush:
        flush_remote_tlbs(kvm)
        batch.flush = False


@mypyc_attr(allow_interpreted_subclasses=True)
class Rcu(Policy):
    """The section begins before the first cut and ends after the flush."""

    name = "rcu"

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """TLB: whoever holds the section flushes before leaving it. Source: bb95dfb9e2df."""
        kvm.m.call_rcu(table)

    def leave_to_yield(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed, inside the section. Source: bd29677952fa."""
        flush_owed(kvm, batch)
        kvm.m.rcu_read_unlock()

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed, inside the section."""
        flush_owed(kvm, batch)
        kvm.m.rcu_read_unlock()

    def end_fault(self, kvm: Kvm, batch: Batch, replaced: bool) -> None:
        """TLB: flushes if a table was replaced, inside the section. Source: bb95dfb9e2df, narrowed by c6753e20e09d."""
        if replaced:
            flush_remote_tlbs_range(kvm, batch.first, batch.pages)
        kvm.m.rcu_read_unlock()

    def end_recovery(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: one flush for all tables, inside the section. Source: bb95dfb9e2df, ``kvm_recover_nx_lpages``."""
        flush_owed(kvm, batch)
        kvm.m.rcu_read_unlock()

    def end_promotion(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: one flush of the range for all replaced tables, inside the section. Source: 13e2e4f62a4b."""
        if batch.flush:
            flush_remote_tlbs_range(kvm, batch.first, batch.pages)
        kvm.m.rcu_read_unlock()


RCU: Final = Rcu()
