"""How many remote flushes each policy makes for a recorded operation: counting rules, one small class a policy.

A rule sees an operation as recorded (what it unlinked, zapped, protected) and says how many flushes the policy would
have made for it, as (least, most): they differ where a walk may give way to others and must flush before, which a
recording does not always show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..trace.op import (
    AGE,
    CHANGE_PTE,
    CLEAR_DIRTY,
    COLLAPSE,
    MAP,
    NOTIFIER,
    NX_RECOVERY,
    SLOT_DELETE,
    SPLIT,
    WRITE_PROTECT,
    ZAP_LEAFS,
    ZAP_ROOT,
    Op,
)

Range = tuple[int, int]


class Policy(Protocol):
    """A flush policy and its rules."""

    @property
    def name(self) -> str:
        """As the command line and JSON call it."""

    @property
    def title(self) -> str:
        """What it is, in one line."""

    @property
    def defers(self) -> bool:
        """Do tables wait for the end of the operation before RCU gets them?"""

    @property
    def unsure(self) -> str:
        """What makes its counts ranges."""

    def flushes(self, op: Op, yields: bool) -> Range:
        """Remote flushes that the operation causes under this policy.

        ``yields``: the recording shows each giving way of a zap, so that those need no range.
        """

    def frees(self, op: Op) -> Range:
        """Page tables that the operation takes out of reach under this policy."""


ZAP_YIELDS = "1 for each zap of leaves, and 1 each time that it gives way"


def why_unsure(policy: Policy, kind: int) -> str:
    """What makes the count of such an operation a range under the policy."""
    if kind == AGE:
        return "none if the host's notifier was clear_young"
    return policy.unsure if kind in (COLLAPSE, ZAP_ROOT, SLOT_DELETE) else ZAP_YIELDS


def once(yes: bool) -> Range:
    """One flush at the end, if there was anything to flush."""
    return (1, 1) if yes else (0, 0)


def zapped(leafs: int, tail: int, op: Op, yields: bool) -> Range:
    """Flushes of a walk that zaps ``leafs``, ``tail`` of them since it last gave way.

    One before each time that it gives way with zaps pending, one at its end if it zapped any since.
    """
    if not leafs:
        return 0, 0
    count = op.yields + (1 if tail else 0)
    return (count, count) if yields else (1, leafs)


def common(op: Op, yields: bool, invalid: bool = True) -> Range:
    """Flushes that no policy changes: those that a caller owes for leaves, not for tables.

    ``invalid``: leaves in roots already invalid count.
    """
    if op.kind in (NOTIFIER, ZAP_LEAFS, SLOT_DELETE):
        if op.fast:
            return 0, 0
        leafs, tail = (op.leafs, op.tail) if invalid else (op.leafs - op.leafs_invalid, op.tail - op.tail_invalid)
        return zapped(leafs, tail, op, yields)
    if op.kind == WRITE_PROTECT:
        return once(op.protects > 0 or op.changes > 0)
    if op.kind == CLEAR_DIRTY:
        return once(op.reaped > 0 or (op.reaped < 0 and op.changes > 0))
    if op.kind == AGE:
        return (0, 0) if not op.changes or op.young == 0 else (1, 1) if op.young == 1 else (0, 1)
    if op.kind == CHANGE_PTE:
        return once(op.changes > 0)
    if op.kind in (MAP, SPLIT, ZAP_ROOT, COLLAPSE, NX_RECOVERY):
        return 0, 0
    return op.flushes, op.flushes


def add(a: Range, b: Range) -> Range:
    """The sum of two ranges."""
    return a[0] + b[0], a[1] + b[1]


@dataclass(frozen=True)
class Kernel:
    """What a released kernel does, operation by operation.

    splits          a fault with a huge page in its way splits it in place instead of zapping it (6.12)
    counts_invalid  zaps in roots already invalid owe a flush (6.1)

    Source: arch/x86/kvm/mmu/tdp_mmu.c and mmu.c of 6.1.192 and 6.12.117.
    """

    name: str
    title: str
    splits: bool
    counts_invalid: bool
    defers: bool = False
    unsure: str = ZAP_YIELDS

    def flushes(self, op: Op, yields: bool) -> Range:
        """As the kernel: a fault that replaces a table or zaps a huge page flushes, a collapse flushes each region."""
        if op.kind == MAP:
            count = op.replaced + (0 if self.splits else op.huge)
            return count, count
        if op.kind == COLLAPSE:
            return op.cuts, op.cuts
        if op.kind == NX_RECOVERY:
            # A recorded flush ends the operation; where none are recorded, it may hold several batches.
            return once(op.cuts > 0) if yields or op.flushes else (min(1, op.cuts), op.cuts)
        return common(op, yields, self.counts_invalid)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked."""
        return op.tables, op.tables


KERNEL_61 = Kernel("kernel-6.1", "by the rules of Linux 6.1, operation by operation", False, True)
KERNEL_612 = Kernel("kernel-6.12", "by the rules of Linux 6.12, operation by operation", True, False)


@dataclass(frozen=True)
class Promote:
    """Collapse as in 6.13: huge mappings built in place, flushed once, and before each time that it gives way.

    6.13 also dropped the flushes of aging (b9883ee40d7e); that is another change, and not counted here.

    Source: 13e2e4f62a4b and 35ef80eb29ab (6.13).
    """

    name: str = "promote"
    title: str = "collapse as in 6.13, in place with one batched flush; all else as 6.12"
    defers: bool = False
    unsure: str = "1 + yields: 1 for each collapse, and 1 each time that it gives way"

    def flushes(self, op: Op, yields: bool) -> Range:
        """As 6.12, but a collapse of n regions needs 1 flush and one for each of its at most n - 1 yields."""
        if op.kind == COLLAPSE:
            return (1, op.cuts) if op.cuts else (0, 0)
        return KERNEL_612.flushes(op, yields)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked: the promoted ones too."""
        return op.tables, op.tables


@dataclass(frozen=True)
class Rcu:
    """The seed mail, completed (5.18 on): removed tables go to RCU at once, one flush before the read section ends.

    Source: bb95dfb9e2df, bd29677952fa (5.18); roots need none (cf3e26427c08).
    """

    name: str = "rcu"
    title: str = "removed tables go to RCU at once, one flush before leaving it (5.18)"
    defers: bool = False
    unsure: str = ZAP_YIELDS

    def flushes(self, op: Op, yields: bool) -> Range:
        """One flush a fault that replaced something, a collapsed region, or a batch of NX recovery."""
        return KERNEL_61.flushes(op, yields)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked."""
        return op.tables, op.tables


@dataclass(frozen=True)
class ListPolicy:
    """The RFC under review (02 to 04): removed tables wait on a list, one flush, then RCU gets them.

    Source: list mail 20211110223010.1392399-1 and -3 to -5 (10 Nov 2021).
    """

    name: str = "list"
    title: str = "collect removed tables, flush once, then RCU (RFC of Nov 2021)"
    defers: bool = True
    unsure: str = "1 for each dying root, or 1 for each of its entries"

    def flushes(self, op: Op, yields: bool) -> Range:
        """One flush an entry zapped under the lock for read, one for a range under the lock for write."""
        if op.kind == MAP:
            count = op.huge + (op.tables if op.replaced else 0)
            return count, count
        if op.kind in (COLLAPSE, NX_RECOVERY):
            return op.cuts, op.cuts
        if op.kind == ZAP_ROOT or (op.kind == SLOT_DELETE and op.fast):
            count = max(op.top_cuts, 1 if op.changes else 0)
            return (1 if count else 0), count
        return common(op, yields)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked."""
        return op.tables, op.tables


@dataclass(frozen=True)
class Eager:
    """5.15 to 5.17: one remote flush for each removed table, and the caller's own.

    Source: ``handle_removed_tdp_mmu_page`` of 5.15.
    """

    name: str = "eager"
    title: str = "a flush for each removed table, as 5.15 to 5.17 freed them"
    defers: bool = False
    unsure: str = ZAP_YIELDS

    def flushes(self, op: Op, yields: bool) -> Range:
        """A flush a table; a collapse flushes each region besides, a dying root once more at its end."""
        if op.kind == MAP:
            count = op.huge + (op.tables if op.replaced else 0)
            return count, count
        if op.kind == COLLAPSE:
            return op.tables + op.cuts, op.tables + op.cuts
        if op.kind == NX_RECOVERY:
            return op.tables + (op.cuts > 0), op.tables + (op.cuts > 0)
        if op.kind == ZAP_ROOT or (op.kind == SLOT_DELETE and op.fast):
            return add((op.tables, op.tables), once(op.changes > 0))
        return common(op, yields)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked."""
        return op.tables, op.tables


@dataclass(frozen=True)
class LeafZap:
    """Before promotion (up to 5.18): a collapse zaps and flushes every leaf by itself and leaves its table linked.

    Source: 5ba7c4c6d1c7 (5.19), which ended it; figures of list mail 20211110223010.1392399-1.
    """

    name: str = "leaf-zap"
    title: str = "collapse zaps and flushes leaf by leaf (up to 5.18); all else as rcu"
    defers: bool = False
    unsure: str = "1 for each leaf, and 1 for each emptied table that a fault replaces later"

    def flushes(self, op: Op, yields: bool) -> Range:
        """As rcu, but a flush a leaf; the next fault in a region may replace its table, with a flush."""
        if op.kind == COLLAPSE:
            return op.mapped, op.mapped + op.cuts
        return KERNEL_61.flushes(op, yields)

    def frees(self, op: Op) -> Range:
        """Emptied tables stay linked until a fault replaces them, if one does."""
        return (0 if op.kind == COLLAPSE else op.tables), op.tables


EAGER = Eager()


@dataclass(frozen=True)
class PromoteRfc:
    """RFC 19 of November 2021: huge mappings built in place, and each table that goes is flushed as under ``eager``.

    Source: list mail 20211110223010.1392399-20.
    """

    name: str = "promote-rfc"
    title: str = "collapse in place, a flush for each table that goes (RFC 19 of Nov 2021); all else as eager"
    defers: bool = False
    unsure: str = ZAP_YIELDS

    def flushes(self, op: Op, yields: bool) -> Range:
        """As eager, without the flush that a zapped region takes besides those of its tables."""
        if op.kind == COLLAPSE:
            return op.tables, op.tables
        return EAGER.flushes(op, yields)

    def frees(self, op: Op) -> Range:
        """Every table that was unlinked."""
        return op.tables, op.tables


HISTORY: tuple[Policy, ...] = (EAGER, ListPolicy(), Rcu(), LeafZap(), PromoteRfc())
PROMOTE = Promote()
KERNELS = {"6.1": KERNEL_61, "6.12": KERNEL_612}


def kernel_policy(release: str, empty_is_zero: bool) -> tuple[Kernel, str]:
    """The rules for a recorded kernel, and a remark ("" if these are its own).

    Where the release is unknown, the value of an empty SPTE tells (0 up to 6.1, bit 63 in 6.12).
    """
    parts = release.split(".")
    try:
        version = int(parts[0]), int(parts[1].split("-")[0])
    except (ValueError, IndexError):
        kernel = KERNEL_61 if empty_is_zero else KERNEL_612
        return kernel, f"kernel not recorded; {kernel.name} by its empty SPTEs"
    if version == (6, 1) or version == (6, 12):
        return KERNELS[f"{version[0]}.{version[1]}"], ""
    kernel = KERNEL_61 if version < (6, 2) else KERNEL_612
    return kernel, f"no rules for {version[0]}.{version[1]}: those of {kernel.name} are the nearest"
