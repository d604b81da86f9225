"""``TdpIter``: a pre-order walk over the entries of a root, parents before children.

Source: arch/x86/kvm/mmu/tdp_iter.c; the same in 6.1 and 6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.vecs import vec
from mypy_extensions import i64, mypyc_attr

from .spte import is_table

if TYPE_CHECKING:
    from .kvm import Kvm


@mypyc_attr(acyclic=True, free_list_len=1)
class TdpIter:
    """Where a walk stands.

    gfn, level, sptep    the entry: first gfn that it covers, its level, its address
    old_spte             its value when it was read last; after a failed exchange the value found
    valid                False when the root is exhausted
    yielded              its caller gave up its locks: the next step begins again at the root
    next_last_level_gfn  first gfn that the walk has not finished with
    yielded_gfn          the same at the last (re)start, so that a walk which yields still gets on
    """

    def __init__(self, kvm: Kvm, root: i64, root_level: i64, min_level: i64, gfn: i64) -> None:
        self.kvm = kvm
        self.root = root
        self.root_level = root_level
        self.min_level = min_level
        self.next_last_level_gfn = gfn
        self.yielded_gfn: i64 = 0
        self.tables = vec[i64]([root] * root_level)
        self.sptep: i64 = 0
        self.gfn: i64 = 0
        self.level: i64 = 0
        self.old_spte: i64 = 0
        self.valid = True
        self.yielded = False
        self.restart()

    def restart(self) -> None:
        """Begin again at the root, at the first gfn that is not finished. Source: ``tdp_iter_restart``."""
        self.yielded = False
        self.yielded_gfn = self.next_last_level_gfn
        self.level = self.root_level
        self.gfn = self.kvm.round(self.next_last_level_gfn, self.level)
        self.read_entry()

    def read_entry(self) -> None:
        """Read the entry for ``gfn`` in the table at ``level``. Source: ``tdp_iter_refresh_sptep``."""
        table = self.tables[self.level - 1]
        self.sptep = (table << self.kvm.bits) + self.kvm.index(self.gfn, self.level)
        self.old_spte = self.kvm.m.read(self.sptep)

    def next(self) -> None:
        """Go to the next entry. Source: ``tdp_iter_next``."""
        if self.yielded:
            self.restart()
            return
        if self.try_step_down():
            return
        while True:
            if self.try_step_side():
                return
            if not self.try_step_up():
                break
        self.valid = False

    def try_step_down(self) -> bool:
        """Go into the table below, if there is one now: the entry is read again. Source: ``try_step_down``."""
        if self.level == self.min_level:
            return False
        self.old_spte = self.kvm.m.read(self.sptep)
        if not is_table(self.old_spte, self.level):
            return False
        self.level -= 1
        self.tables[self.level - 1] = self.kvm.pfn(self.old_spte)
        self.gfn = self.kvm.round(self.next_last_level_gfn, self.level)
        self.read_entry()
        return True

    def try_step_side(self) -> bool:
        """Go to the next entry of the same table. Source: ``try_step_side``."""
        if self.kvm.is_last_entry(self.sptep):
            return False
        self.gfn += self.kvm.pages(self.level)
        self.next_last_level_gfn = self.gfn
        self.sptep += 1
        self.old_spte = self.kvm.m.read(self.sptep)
        return True

    def try_step_up(self) -> bool:
        """Go back to the entry of the table above, which was visited before. Source: ``try_step_up``."""
        if self.level == self.root_level:
            return False
        # What the checker would take for a difference between states must not outlive its use.
        self.tables[self.level - 1] = self.root
        self.level += 1
        self.gfn = self.kvm.round(self.gfn, self.level)
        self.read_entry()
        return True
