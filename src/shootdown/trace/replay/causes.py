"""Why our MMU and the record may differ, one predicate a cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...mmu.kvm import Kvm
from ...mmu.mmio import make_mmio_spte
from ...mmu.slots import ADDRESS_SPACES

Change = tuple[int, int, int, int]
"""gfn, level, old and new value."""

GENERATION: Final = "the generation of the slots went on while a change of slots was under way"
"""Its moment, between two waits of the ioctl, is in no event."""


@dataclass(slots=True)
class Moment:
    """What is known when a difference is found.

    generation  of the slots of the address space, as our MMU holds it
    changing    a change of slots has begun in the VM, and not ended
    """

    kvm: Kvm
    generation: int
    changing: bool


def generation_went_on(recorded: Change, ours: Change | None, moment: Moment) -> bool:
    """Is it the entry of MMIO that our MMU has or makes there, but of the generation that comes next?"""
    gfn, level, _, new = recorded
    if not moment.changing or level != 1:
        return False
    if ours is not None and (ours[:2] != (gfn, level) or ours[3] != make_mmio_spte(moment.kvm, gfn, moment.generation)):
        return False
    return bool(new == make_mmio_spte(moment.kvm, gfn, moment.generation + ADDRESS_SPACES))


def cause_of(recorded: Change | None, ours: Change | None, moment: Moment) -> str:
    """The cause of a difference, "" if none explains it; None stands for nothing recorded, or nothing done by ours."""
    if recorded is not None and generation_went_on(recorded, ours, moment):
        return GENERATION
    return ""
