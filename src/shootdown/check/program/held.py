"""What a program of the checker holds, as its accesses take and drop it: by that rules of locking are tested."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from . import steps
from .access import Access

SETS: Final[dict[int, tuple[str, str | bool]]] = {
    steps.READ_LOCK: ("mmu", "read"),
    steps.READ_UNLOCK: ("mmu", ""),
    steps.WRITE_WAIT: ("mmu", "waiting"),
    steps.WRITE_LOCK: ("mmu", "write"),
    steps.WRITE_UNLOCK: ("mmu", ""),
    steps.PAGES_LOCK: ("pages", True),
    steps.PAGES_UNLOCK: ("pages", False),
    steps.SLOTS_LOCK: ("slots", True),
    steps.SLOTS_UNLOCK: ("slots", False),
    steps.IRQ_DISABLE: ("irq_off", True),
    steps.IRQ_ENABLE: ("irq_off", False),
}
"""What a step makes of a field, whatever it was."""


@dataclass
class Held:
    """What a program holds.

    mmu_lock ("", "read", "waiting", "write"), the pages lock, slots_lock, RCU and SRCU (depths), tables of its own.
    ``irq_off``: it runs with interrupts off, so that who interrupts it waits. ``stored``: words of which a store may be
    in its buffer still. ``atomic``: whoever called it may not sleep, nor it give way.
    """

    mmu: str = ""
    pages: bool = False
    slots: bool = False
    rcu: int = 0
    srcu: int = 0
    private: set[int] = field(default_factory=set)
    irq_off: bool = False
    stored: set[Any] = field(default_factory=set)
    atomic: bool = False

    def key(self) -> Hashable:
        """As a value."""
        return (self.mmu, self.pages, self.slots, self.rcu, self.srcu, frozenset(self.private), self.irq_off,
                frozenset(self.stored), self.atomic)  # fmt: skip

    def any(self) -> bool:
        """Does it hold anything at all, own tables aside?"""
        return bool(self.mmu or self.pages or self.slots or self.rcu or self.srcu)

    def follow(self, access: Access, result: Any) -> None:
        """Note what an access took or gave back, given its result."""
        if access.step in SETS:
            setattr(self, *SETS[access.step])
        elif access.step == steps.ALLOC and result >= 0:
            self.private.add(result)
        elif access.step in (steps.FREE, steps.CALL_RCU):
            self.private.discard(access.number)
