"""What no entry may be that a CPU goes through, whenever and by whomever it was written (P5).

It can be told of an entry by itself: each that hardware may hold is looked at once, when it first occurs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...mmu.spte import is_present, spte_pfn
from .guest import MAY_EXECUTE
from .steps import EXECUTABLE_IN_REACH, OTHER_IN_REACH, UNKNOWN_IN_REACH

if TYPE_CHECKING:
    from .setting import Setting

KINDS: Final = (UNKNOWN_IN_REACH, EXECUTABLE_IN_REACH, OTHER_IN_REACH)


def amiss(setting: Setting, raw: int, gfns: range) -> int:
    """What is wrong with an entry that hardware goes through for these gfns (steps.py), 0 for nothing.

    Source: ``is_shadow_present_pte`` and hardware's own bits (AMD APM vol. 2, 15.25; Intel SDM vol. 3, 29.3); the NX
    mitigation in ``make_spte``, b8e8c8303ff2; ``kvm_faultin_pfn``.
    """
    if not is_present(raw):
        return UNKNOWN_IN_REACH
    if setting.is_table(raw):
        return 0
    if setting.nx and len(gfns) > 1 and setting.hardware.rights(raw) & MAY_EXECUTE:
        return EXECUTABLE_IN_REACH
    frames, ahead = setting.frames, int(spte_pfn(raw)) - gfns.start
    return OTHER_IN_REACH if any(gfn in frames and ahead + gfn not in frames[gfn] for gfn in gfns) else 0
