"""``kernel-6.12``: the flushes of Linux 6.12, operation by operation: ``rcu`` over what that version changes."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from . import policy
from .rcu import Rcu


@mypyc_attr(allow_interpreted_subclasses=True)
class Kernel612(Rcu):
    """As ``kernel-6.1``, but a collapse releases before it tears down, and leaves of invalid roots owe no flush.

    Source: arch/x86/kvm/mmu/tdp_mmu.c of 6.12; aca48556c592.
    """

    name = "kernel-6.12"
    behaviour = "6.12"
    exact = True
    collapse: i64 = policy.ZAP_TABLES


KERNEL_612: Final = Kernel612()
