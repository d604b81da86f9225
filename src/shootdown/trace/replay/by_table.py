"""Policies that flush for single tables, as they are replayed: no recorded kernel makes those flushes.

They tell the machine when they do, so that such a flush is not taken for the next one of the record, by which the
order of operations is kept.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ...mmu.batch import Batch
from ...mmu.kvm import Kvm
from ...mmu.policies.collect import Collect
from ...mmu.policies.eager import Eager
from ...mmu.policies.policy import Policy
from .machine import ReplayMachine


class ReplayedEager(Eager):
    """``eager``, announced."""

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """As the policy."""
        m = kvm.m
        assert isinstance(m, ReplayMachine)
        m.by_table = True
        super().table_removed(kvm, batch, table, gfn, level, shared)
        m.by_table = False


class ReplayedList(Collect):
    """``list``, announced."""

    def table_removed(self, kvm: Kvm, batch: Batch, table: i64, gfn: i64, level: i64, shared: bool) -> None:
        """As the policy."""
        m = kvm.m
        assert isinstance(m, ReplayMachine)
        m.by_table = True
        super().table_removed(kvm, batch, table, gfn, level, shared)
        m.by_table = False


BY_TABLE: Final[dict[str, Policy]] = {"eager": ReplayedEager(), "list": ReplayedList()}
"""Those policies by name."""
