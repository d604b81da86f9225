"""Two VMs that must stay alike: one is the kernel's C (native.py), the other our MMU on its own native machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...errors import InputError
from ...machine import words
from ...machine.interface import Bug
from ...machine.native import NativeMachine
from ...mmu import spte
from ...mmu.behaviour import BEHAVIOURS
from ...mmu.kvm import Kvm
from ...mmu.policies.registry import POLICIES
from ..library import native
from ..library.native import Config, KernelBug, NativeVm
from .state import digest, rows

Gfns = tuple[int, int]
"""The first gfn, and the first that is none of them any more."""
EVERYWHERE: Final = (0, native.GFNS)
SLOTS: Final = 8
"""Of a VM, unless it is told otherwise."""
ASKS_FIRST: Final = ("6.13", "6.18")
"""Versions that ask whether to give way before they look whether a walk got on, so that calls are counted otherwise."""
POLICY_OF: Final = {"6.1": "kernel-6.1", "6.12": "kernel-6.12", "6.13": "promote", "6.18": "promote"}
"""The policy whose flushes are those of a version, flush for flush."""


PHYS_BITS: Final = 46
"""Of the host that c/shims/sd_facts.c describes."""


class BothBugged(Exception):  # noqa: N818 - agreement is no error
    """Both stopped at an assertion: they are alike, and of no further use. ``warned``: in the C it only warns."""

    def __init__(self, text: str, warned: bool) -> None:
        super().__init__(text)
        self.warned: Final = warned


class Pair:
    """The two VMs, and what their user knows.

    slots            how many numbers of slots there are
    c, kvm, machine  the kernel's VM, ours, and the machine of ours
    roles, taken     of each vCPU: its role, and how many entries were taken from its ring
    running          ranges of notifiers that have begun and not ended
    tracked          pages whose writes are tracked, slot and gfn
    cut              GiBs of which the host maps a part elsewhere
    faults           of vCPUs that left their guest: gfn and code of what is not served yet
    read             of slots: words of a log that the user has read and not cleared
    acted            something was done in both
    """

    def __init__(self, library: Path, config: Config, behaviour: str, slots: int = SLOTS) -> None:
        if behaviour not in POLICY_OF:
            raise InputError(f"our MMU has no policy for {behaviour}", advice=f"use one of {', '.join(POLICY_OF)}")
        self.config: Final = config
        self.slots: Final = slots
        self.c: Final = NativeVm(library, config)
        self.machine: Final = NativeMachine(
            config.vcpus, resched_every=config.resched_every, slots=slots, host_level=config.host_level
        )
        self.machine.keep_journal()
        self.kvm: Final = Kvm(
            self.machine, getattr(spte, config.format), BEHAVIOURS[behaviour], POLICIES[POLICY_OF[behaviour]],
            config.levels, config.vcpus, config.nx_huge_pages, slots=slots, pml=config.pml,
            eager_split=config.eager_split, initially_set=config.initially_set, ring_size=config.ring_size,
            ring_soft_limit=config.ring_soft_limit, slot_zap_all=config.slot_zap_all, phys_bits=PHYS_BITS,
        )  # fmt: skip
        self.roles = [0] * config.vcpus
        self.taken = [0] * config.vcpus
        self.running: list[tuple[int, int]] = []
        self.tracked: list[tuple[int, int]] = []
        self.cut: set[int] = set()
        self.faults: dict[int, tuple[int, int]] = {}
        self.read: dict[int, dict[int, int]] = {}
        self.acted = False
        self._difference = ""

    def both(self, theirs: Callable[[], object], ours: Callable[[], object]) -> None:
        """Do something in both; their answers must be alike. A warning is a stop: ours has no other."""
        answers: list[object] = []
        before = len(self.c.problems())
        self.acted = True
        for call in (theirs, ours):
            try:
                answer = call()
                answers.append(int(answer) if isinstance(answer, bool) else answer)
            except (Bug, KernelBug) as bug:
                answers.append(bug)
        theirs_said, ours_said = answers
        if not isinstance(ours_said, Bug):
            self._difference = self._difference or _differs("answer", theirs_said, ours_said)
            return
        stopped = isinstance(theirs_said, KernelBug)
        problems = self.c.problems()[before:]
        if problems or stopped:
            first = problems[0] if problems else theirs_said
            raise BothBugged(f"{first} in the C, {ours_said} in ours", not stopped)
        self._difference = self._difference or f"only ours stops: {ours_said}"

    def difference(self, gfns: Gfns | None = EVERYWHERE) -> str:
        """What differs since the last operation, "" for nothing.

        Of entries those of each table that maps some of the gfns are compared; with None neither they nor roots nor
        vCPUs are.
        """
        found, self._difference = self._difference, ""
        self.c.drain()
        found = self._problem() or found or self._flushes() or self._counters() or (self._state(*gfns) if gfns else "")
        self.c.forget_notes()
        return found

    def _problem(self) -> str:
        problems = self.c.problems()
        return f"the C has a {problems[0].kind} at {problems[0].place}: {problems[0].what}" if problems else ""

    def _flushes(self) -> str:
        """Flushes and freed tables, in order."""
        flat = self.machine.take_flushes()
        ours = [*zip(flat[::2], flat[1::2], strict=True)]
        flat = self.machine.take_retired()
        retired = [*zip(flat[::2], flat[1::2], strict=True)]
        theirs = [(gfn, pages) for _, gfn, pages, _ in self.c.notes(native.FLUSHES)]
        freed = [(level, gfn) for level, gfn, _, _ in self.c.notes(native.FREED)]
        limit = native.NOTES
        return _differs("flushes, first gfn and pages (0, 0: all)", theirs, ours[:limit]) or _differs(
            "freed tables, level and first gfn", freed, retired[:limit]
        )

    def _counters(self) -> str:
        load = self.machine.load
        ours = {
            "pages_4k": load(words.PAGES, 1),
            "pages_2m": load(words.PAGES, 2),
            "pages_1g": load(words.PAGES, 3),
            "nx_splits": load(words.NX_SPLITS, 0),
            "tables": self.machine.tables.used,
            "dirty": load(words.DIRTY_PFNS, 0),
            "accessed": load(words.ACCESSED_PFNS, 0),
            "local_flushes": sum(self.machine.vcpus.flushes(vcpu) for vcpu in range(self.config.vcpus)),
            "fast_faults": load(words.FAST_FAULTS, 0),
            "mmio_sptes": load(words.MMIO_SPTES, 0),
            "resched_calls": self.machine.resched_calls,
        }
        theirs = self.c.counters()
        return next((found for name in ours if (found := _differs(name, theirs[name], int(ours[name])))), "")

    def _state(self, first: int, end: int) -> str:
        ours = rows(self.kvm, first, end)
        if digest(ours) == self.c.digest(first, end):
            return ""
        return row_difference(self.c.rows(first, end), [spte.unsigned(number) for number in ours], self.kvm)


def _differs(what: str, theirs: object, ours: object) -> str:
    return "" if theirs == ours else f"{what}: {theirs} in the C, {ours} in ours"


def row_difference(theirs: list[int], ours: list[int], kvm: Kvm) -> str:
    """The first row in which the two differ, in words; a row that only one has is missing in the other."""
    split = [[tuple(flat[n : n + 4]) for n in range(0, len(flat), 4)] for flat in (theirs, ours)]
    for one, other in zip(*split, strict=False):
        if one != other:
            same = one[:2] == other[:2]
            return "; ".join(
                f"{'the C' if row is one else 'ours'} has {describe_row(row, kvm)}" for row in (one, other)
            ) + ("" if same else " (the first of what differs)")
    longer = max(split, key=len)
    extra = longer[min(map(len, split))]
    return f"only {'the C' if longer is split[0] else 'ours'} has {describe_row(extra, kvm)}"


def describe_row(row: tuple[int, ...], kvm: Kvm) -> str:
    """A row of state.py in words."""
    kind, a, b, c = row
    if kind == 0:
        return f"root of role {a:#x}, invalid {b}, {c} references"
    if kind < 6:
        marks = f", NX marks {c}" if c else ""
        return f"gfn {a:#x} level {kind}: {b:#018x} ({spte.describe(spte.signed(b), kind, kvm.fmt)}{marks})"
    return (
        f"{ {100: 'NX list: gfn, level', 101: 'vCPU: root, previous, requests', 102: 'VM'}[kind] } {a:#x} {b:#x} {c:#x}"
    )
