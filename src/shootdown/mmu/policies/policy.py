"""``Policy``: the few decisions that a flush policy makes; each policy is a file beside this one.

A removed table is *queued* when it is handed to RCU, which frees it when all who read now have left their sections. A
flush is *owed* (``batch.flush``) from the moment that something was unmapped until all vCPUs were made to drop it.

A policy decides about flushes and nothing else; what is changed is for the kernel's version to say (behaviour.py). One
thing is both: how huge pages come back when dirty logging ends, since the number of flushes follows from what is zapped
there. So a policy may name its *form of collapse*; ``Kvm`` resolves it once, and the MMU looks at ``kvm.collapse``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from ..batch import Batch
    from ..kvm import Kvm


AS_VERSION: Final = 0
"""Huge pages come back as in the kernel's version (``Behaviour.promote``)."""
ZAP_TABLES: Final = 1
"""Each table that a huge page could stand for is zapped; a fault maps the huge page (5.19 to 6.12)."""
RECOVER: Final = 2
"""The huge page is made of the table's first leaf, and takes the table's place (6.13)."""
ZAP_LEAFS: Final = 3
"""Each leaf is zapped; the tables stay until a fault puts a huge page in their place (up to 5.18)."""
PROMOTE: Final = 4
"""The huge page is made of what the host maps, and takes the table's place (RFC 19 of November 2021)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Policy:
    """Immutable.

    name       as users give it
    behaviour  the kernel's version whose flushes these are, "" for none: a test that has it is checked with it
    exact      with any other version the policy makes no sense
    collapse   its form of collapse, of those above
    """

    name = ""
    behaviour = ""
    exact = False
    collapse: i64 = AS_VERSION

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """A table is cut off, and all its entries are marked; it held entries of ``level`` from ``gfn`` on.

        The caller is in an RCU section; ``shared``: it holds mmu_lock for read only.
        """
        raise NotImplementedError

    def entry_flushed(self, kvm: Kvm, batch: Batch) -> None:
        """The atomic zap of one entry has flushed, and the tables below it were removed."""

    def leave_to_yield(self, kvm: Kvm, batch: Batch) -> None:
        """Leave the RCU section, because the caller is about to drop mmu_lock for a while."""
        raise NotImplementedError

    def begin_roots(self, kvm: Kvm) -> None:
        """A range zap over several roots begins."""

    def end_roots(self, kvm: Kvm, batch: Batch) -> None:
        """It ends. What ``batch`` still owes then, its caller pays before it drops mmu_lock."""

    def begin_range(self, kvm: Kvm) -> None:
        """The part of a range zap that is about one root begins: enter the RCU section."""
        kvm.m.rcu_read_lock()

    def end_range(self, kvm: Kvm, batch: Batch) -> None:
        """It ends: leave the RCU section."""
        raise NotImplementedError

    def end_fault(self, kvm: Kvm, batch: Batch, replaced: bool) -> None:
        """A fault has mapped its page, perhaps (``replaced``) in place of a table: leave the RCU section."""
        raise NotImplementedError

    def end_recovery(self, kvm: Kvm, batch: Batch) -> None:
        """Tables were zapped one by one (NX recovery): pay what is owed and leave the RCU section."""
        raise NotImplementedError

    def end_promotion(self, kvm: Kvm, batch: Batch) -> None:
        """Huge pages were rebuilt in place: pay what is owed and leave the RCU section."""
        raise NotImplementedError
