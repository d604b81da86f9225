"""``leaf-zap``: a collapse zaps and flushes leaf by leaf, and leaves tables to faults (up to 5.18); else ``rcu``."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from . import policy
from .rcu import Rcu


@mypyc_attr(allow_interpreted_subclasses=True)
class LeafZap(Rcu):
    """The flush of each leaf is the atomic zap's own.

    Source: ``zap_collapsible_spte_range``, until 5ba7c4c6d1c7 (5.19).
    """

    name = "leaf-zap"
    collapse: i64 = policy.ZAP_LEAFS


LEAF_ZAP: Final = LeafZap()
