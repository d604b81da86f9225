"""A breach of a rule that recorded changes must obey: which rule, where, and what was held and said.

Source of the rules: arch/x86/kvm/mmu/tdp_mmu.c (``handle_changed_spte``, ``handle_removed_pt``, ``tdp_mmu_map``,
``tdp_mmu_zap_spte_atomic``) of 6.1 and 6.12. What may explain a breach is in ``causes.py``.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from .tables import UNSEEN

OLD_VALUE: Final = "old value is not what was held"
NEW_PFN: Final = "a present leaf changed its frame"
FROZEN: Final = "a frozen entry changed"
RIGHTS: Final = "rights that exclude each other"
FREED_USED: Final = "a table in use was freed"
CHILD_LEFT: Final = "a removed table kept a present entry"
SET_DIFFERS: Final = "the entry set by a fault is not what was held"
LINKED_TWICE: Final = "a table was linked twice"
FREE_UNKNOWN: Final = "a table was freed that was never seen"
NO_FLUSH: Final = "a removed table was freed without a flush in between"
NEVER_FREED: Final = "a removed table was never freed"
NEVER_LINKED: Final = "a table was made and never linked"


class Finding:
    """A breach of a rule: where, what was held (``UNSEEN`` if nothing), what the event said, and what explains it.

    op       number of the kind of operation that made the change, -1 none
    lost     1 if events were lost since anything was last known of the entry
    late_at  time of a later event that bears on the finding, -1 none: of the one that supplies the missing link between
             ``held`` and ``old``; of the first free of a table that was removed later; of another thread's linking of a
             table in the same place
    """

    def __init__(self, rule: str, time: i64, cpu: i64, pid: i64, vm: i64, as_id: i64, gfn: i64, level: i64) -> None:
        self.rule = rule
        self.time: i64 = time
        self.cpu: i64 = cpu
        self.pid: i64 = pid
        self.vm: i64 = vm
        self.as_id: i64 = as_id
        self.gfn: i64 = gfn
        self.level: i64 = level
        self.held: i64 = UNSEEN
        self.old: i64 = UNSEEN
        self.new: i64 = UNSEEN
        self.lost: i64 = 0
        self.late_at: i64 = -1
        self.op: i64 = -1
        self.cause = ""
