"""What a program of the checker holds, as its accesses take and drop it: by that rules of locking are tested."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from . import steps
from .access import Access


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
        match access.step:
            case steps.READ_LOCK:
                self.mmu = "read"
            case steps.WRITE_WAIT:
                self.mmu = "waiting"
            case steps.WRITE_LOCK:
                self.mmu = "write"
            case steps.READ_UNLOCK | steps.WRITE_UNLOCK:
                self.mmu = ""
            case steps.PAGES_LOCK:
                self.pages = True
            case steps.PAGES_UNLOCK:
                self.pages = False
            case steps.SLOTS_LOCK:
                self.slots = True
            case steps.SLOTS_UNLOCK:
                self.slots = False
            case steps.IRQ_DISABLE:
                self.irq_off = True
            case steps.IRQ_ENABLE:
                self.irq_off = False
            case steps.ALLOC if result >= 0:
                self.private.add(result)
            case steps.FREE | steps.CALL_RCU:
                self.private.discard(access.number)
