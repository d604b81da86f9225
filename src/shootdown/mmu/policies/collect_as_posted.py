"""``list-as-posted``: RFC 02 alone, whose exclusive setter queues its tables with no flush at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from .collect import Collect

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


@mypyc_attr(allow_interpreted_subclasses=True)
class CollectAsPosted(Collect):
    """What a reviewer asked about: where is the flush for the tables that the exclusive setter removes?"""

    name = "list-as-posted"

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """TLB: none for an exclusive zap; its caller's flush comes after the tables may be gone. Source: RFC 02/19."""
        if not shared:
            kvm.m.call_rcu(table)
            return
        Collect.table_removed(self, kvm, batch, table, gfn, level, shared)

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: the caller flushes. Source: ``zap_gfn_range`` before RFC 03/19."""
        kvm.m.rcu_read_unlock()


LIST_AS_POSTED: Final = CollectAsPosted()
