"""``kernel-6.1``: the flushes of Linux 6.1, operation by operation: ``rcu`` over what that version changes."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from . import policy
from .rcu import Rcu


@mypyc_attr(allow_interpreted_subclasses=True)
class Kernel61(Rcu):
    """A range zap owes one flush, for leaves only; a collapse flushes each table, torn down before it is released.

    Source: arch/x86/kvm/mmu/tdp_mmu.c of 6.1.
    """

    name = "kernel-6.1"
    behaviour = "6.1"
    exact = True
    collapse: i64 = policy.ZAP_TABLES


KERNEL_61: Final = Kernel61()
