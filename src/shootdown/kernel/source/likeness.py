"""Which of our MMU's behaviours a tree has, by what its code looks like."""

from __future__ import annotations

from dataclasses import dataclass

from ...mmu.behaviour import BEHAVIOURS, Behaviour
from .probes import flags
from .tree import Tree


@dataclass(frozen=True)
class Likeness:
    """The behaviour that is most like a tree, and the flags in which it differs."""

    behaviour: str
    differs: tuple[str, ...]

    def __str__(self) -> str:
        return self.behaviour + (f" but for {', '.join(self.differs)}" if self.differs else "")


def likeness(tree: Tree) -> Likeness:
    """The nearest of our behaviours."""
    says = flags(tree.read)
    differs = {name: _differs(says, behaviour) for name, behaviour in BEHAVIOURS.items()}
    nearest = min(differs, key=lambda name: len(differs[name]))
    return Likeness(nearest, differs[nearest])


def _differs(says: dict[str, bool], behaviour: Behaviour) -> tuple[str, ...]:
    late = BEHAVIOURS["6.12"]
    special = {"passes": behaviour.passes == late.passes, "empty": behaviour.empty == late.empty}
    return tuple(name for name, value in says.items() if value != special.get(name, getattr(behaviour, name)))
