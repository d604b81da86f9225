"""``rcu-roots``: ``rcu`` with one section and one flush over all roots of a range zap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from .rcu import Rcu, flush_owed

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


@mypyc_attr(allow_interpreted_subclasses=True)
class RcuRoots(Rcu):
    """The mail's "callers hold RCU ... zap multiple roots": the batch is the whole operation."""

    name = "rcu-roots"

    def begin_roots(self, kvm: Kvm) -> None:
        """Enter the one section."""
        kvm.m.rcu_read_lock()

    def end_roots(self, kvm: Kvm, batch: Batch) -> None:
        """TLB: flushes what is owed for all roots, inside the section."""
        flush_owed(kvm, batch)
        kvm.m.rcu_read_unlock()

    def begin_range(self, kvm: Kvm) -> None:
        """Already in the section."""

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """The section goes on."""


RCU_ROOTS: Final = RcuRoots()
