"""Which of our MMU's behaviours a tree has, by what its code looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..mmu.behaviour import BEHAVIOURS, Behaviour
from .probes import FLAGS, SWITCHES, found, switches
from .tree import Tree

BEYOND: Final = ("SD_NX_ZAP_POSSIBLE", "SD_AGE_LOCKLESS")
"""What differs between kernels and none of our behaviours has (6.15 to 6.18)."""


@dataclass(frozen=True)
class Likeness:
    """The behaviour that is most like a tree, the flags in which it differs, and what no flag is for."""

    behaviour: str
    differs: tuple[str, ...]
    beyond: tuple[str, ...]

    def __str__(self) -> str:
        but = f" but for {', '.join(self.differs)}" if self.differs else ""
        return f"{self.behaviour}{but}" + (f"; {', '.join(self.beyond)}" if self.beyond else "")


def likeness(tree: Tree) -> Likeness:
    """The nearest of our behaviours."""
    says = found(FLAGS, tree.read)
    differs = {name: _differs(says, behaviour) for name, behaviour in BEHAVIOURS.items()}
    nearest = min(differs, key=lambda name: len(differs[name]))
    on = switches(tree.read)
    beyond = tuple(probe.means for probe in SWITCHES if probe.name in BEYOND and probe.name in on)
    return Likeness(nearest, differs[nearest], beyond)


def _differs(says: dict[str, bool], behaviour: Behaviour) -> tuple[str, ...]:
    late = BEHAVIOURS["6.12"]
    special = {"passes": behaviour.passes == late.passes, "empty": behaviour.empty == late.empty}
    return tuple(name for name, value in says.items() if value != special.get(name, getattr(behaviour, name)))
