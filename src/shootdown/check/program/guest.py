"""What hardware makes of an entry, and what a guest can do while it runs.

Only rights and bits that a CPU looks at are here; what KVM means by the others is in ``mmu.spte``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...mmu.access import FETCH, PERMISSION, RESERVED, WRITE
from ...mmu.spte import NX, PRESENT

MAY_READ: Final = 1
MAY_WRITE: Final = 2
MAY_EXECUTE: Final = 4
NPT_RESERVED: Final = 1 << 51

# What the guest's acts are.
ABSENT: Final = 0
"""It leaves with a fault: a walk met an entry that is not present."""
LACKING: Final = 1
"""It leaves with a fault: a translation lacks the right."""
UNKNOWN: Final = 2
"""It leaves with a fault: an entry has a reserved bit set, or is misconfigured on purpose."""
WRITES: Final = 3
"""It writes a page through what it has cached, and memory does not notice."""
DIRTIES: Final = 4
"""It writes a page, and the CPU sets D in the leaf."""
TOUCHES: Final = 5
"""It reads a page, or the CPU does on its own account, and sets A in the leaf."""


@dataclass(frozen=True)
class Hardware:
    """How CPUs read entries: ``ept`` or NPT; ``accessed`` and ``dirty``: the bits that they set, 0 for none.

    mmu_writable    KVM's own bit: a fault may set W without a lock
    sets_accessed   A is set in steps of its own; else only D is
    logs            the first write to a page since its D was cleared is logged (PML)
    """

    ept: bool = False
    accessed: int = 0
    dirty: int = 0
    mmu_writable: int = 0
    sets_accessed: bool = False
    logs: bool = False

    def rights(self, raw: int) -> int:
        """MAY_READ and so on; 0: no walk goes through it."""
        if not raw & PRESENT:
            return 0
        if self.ept:
            return raw & 7
        return (raw & 1) * (MAY_READ | raw & MAY_WRITE | (0 if raw & NX else MAY_EXECUTE))

    def is_reserved(self, raw: int) -> bool:
        """Does a walk end at this entry with a fault of its own kind, as at those of MMIO?"""
        if self.ept:
            return raw & 3 == 2
        return raw & 1 == 1 and raw & NPT_RESERVED != 0

    def keeps_dirty(self, raw: int) -> bool:
        """Can a page be written through a cached copy of this leaf with no access to memory?"""
        return self.rights(raw) & MAY_WRITE != 0 and (self.dirty == 0 or raw & self.dirty != 0)

    def may_change(self, raw: int) -> bool:
        """Is a leaf one that a CPU or a lock-free fault may give a W or D at any time? (I-18)"""
        if not raw & PRESENT:
            return False
        if raw & MAY_WRITE:
            return self.dirty != 0 and raw & self.dirty == 0
        return raw & self.mmu_writable != 0

    def touched(self, raw: int, kind: int) -> int:
        """A leaf after a CPU set A (TOUCHES) or A and D (DIRTIES) in it; the same if it would not."""
        rights = self.rights(raw)
        if kind == TOUCHES:
            return raw | self.accessed if rights else raw
        return raw | self.accessed | self.dirty if rights & MAY_WRITE and self.dirty else raw


@dataclass(frozen=True)
class Act:
    """Something that a guest can do: a fault with which it leaves (``code`` as in mmu/access.py), or a write.

    ``table``: of DIRTIES and TOUCHES, the table whose entry is changed.
    """

    kind: int
    gfn: int
    code: int = 0
    table: int = -1


def need_of(code: int) -> int:
    """The right that an access takes."""
    return MAY_WRITE if code & WRITE else MAY_EXECUTE if code & FETCH else MAY_READ


def acts_of(
    accesses: tuple[tuple[int, int], ...], hardware: Hardware, tables: int, reserved: bool
) -> tuple[list[Act], int]:
    """All acts of a guest that makes these accesses, first the faults; and how many of them are faults.

    A read needs no check of rights: no entry that a walk goes through forbids it.
    """
    found = []
    for gfn, code in accesses:
        found.append(Act(ABSENT, gfn, code))
        if code & (WRITE | FETCH):
            found.append(Act(LACKING, gfn, code | PERMISSION))
        if reserved:
            found.append(Act(UNKNOWN, gfn, RESERVED if hardware.ept else code | RESERVED | PERMISSION))
    faults = len(found)
    for gfn in dict.fromkeys(gfn for gfn, code in accesses if code & WRITE):
        found.append(Act(WRITES, gfn))
        if hardware.dirty:
            found += [Act(DIRTIES, gfn, table=table) for table in range(tables)]
    if hardware.sets_accessed and hardware.accessed:
        for gfn in dict.fromkeys(gfn for gfn, _ in accesses):
            found += [Act(TOUCHES, gfn, table=table) for table in range(tables)]
    return found, faults
