"""``rcu-literal``: the four hunks of the seed mail and nothing else ("sans zap_gfn_range() changes")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from ..requests import flush_remote_tlbs
from .rcu import Rcu

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


@mypyc_attr(allow_interpreted_subclasses=True)
class RcuLiteral(Rcu):
    """Lacks what the mail left out: the flush of ``zap_gfn_range`` and the section of NX recovery."""

    name = "rcu-literal"

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: none, and the caller does not hear that one is owed (the mail's third hunk)."""
        batch.flush = False
        kvm.m.rcu_read_unlock()

    def end_recovery(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed, but after the section: the mail does not touch NX recovery."""
        kvm.m.rcu_read_unlock()
        if batch.flush:
            flush_remote_tlbs(kvm)


RCU_LITERAL: Final = RcuLiteral()
