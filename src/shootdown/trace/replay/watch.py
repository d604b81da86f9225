"""``Watcher``: who is told what a run under another policy comes to, of which no flush is compared with the record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...machine.words import SLOT_AS, SLOT_BASE, SLOT_PAGES
from ...mmu.behaviour import BEHAVIOURS
from ...mmu.huge_pages import disable_dirty_logging
from ...mmu.kvm import Kvm
from ...mmu.policies.policy import RECOVER, Policy
from .machine import ReplayMachine
from .task import Task
from .vm import ReplayVm

HostLevel = Callable[[int], int]
"""The level at which the host maps a gfn."""


class Watcher(Protocol):
    """Told as it happens; ``task`` says in which operation, and up to which recorded event that has come."""

    def flushed(self, task: Task) -> None:
        """A remote flush."""

    def unlinked(self, task: Task) -> None:
        """A table was cut off."""

    def queued(self, task: Task) -> None:
        """A table that was cut off was handed to RCU."""

    def collapses(self, task: Task, slot: int, host_level: HostLevel) -> None:
        """A slot's huge pages are about to come back, in the form of the recorded kernel."""


class Totals:
    """Listens to a machine of which nothing is recorded: counts flushes and the tables that are cut off."""

    def __init__(self, host_level: HostLevel) -> None:
        self.flushes = 0
        self.tables = 0
        self.told = host_level

    def before_change(self, m: ReplayMachine, sptep: int, value: int, exchange: int) -> int:
        """The change happens."""
        return -1

    def changed(self, m: ReplayMachine, gfn: int, level: int, old: int, new: int) -> None:
        """It is what it is."""

    def flushed(self, m: ReplayMachine) -> None:
        """One more."""
        self.flushes += 1

    def unlinked(self, m: ReplayMachine) -> None:
        """One more."""
        self.tables += 1

    def queued(self, m: ReplayMachine, table: int) -> None:
        """It was cut off before."""

    def locked(self, m: ReplayMachine, held: bool) -> None:
        """Nobody else is there."""

    def synchronized(self, m: ReplayMachine) -> None:
        """Nobody else is there."""

    def stored(self, m: ReplayMachine, kind: int) -> None:
        """It is what it is."""

    def resched(self, m: ReplayMachine) -> bool:
        """Nobody else is there."""
        return False

    def host_level(self, m: ReplayMachine, gfn: int) -> int:
        """As the record tells it."""
        return self.told(gfn)


def collapse(vm: ReplayVm, slot: int, policy: Policy, host_level: HostLevel) -> Totals:
    """What it comes to if a slot's huge pages come back in the form of a policy.

    That is done to a copy of the page tables: what follows in the record goes on from the recorded form.
    """
    kvm = vm.kvm
    totals = Totals(host_level)
    m = vm.m.copy(totals)
    own = Kvm(m, kvm.fmt, kvm.behaviour, policy, kvm.root_level, kvm.vcpus, kvm.nx_huge_pages, kvm.slots)
    if policy.behaviour and BEHAVIOURS[policy.behaviour].promote:
        # The form of that kernel, to be had with the entries of the recorded one.
        own.collapse = RECOVER
    start = m.load(SLOT_BASE, slot)
    disable_dirty_logging(own, m.load(SLOT_AS, slot), start, start + m.load(SLOT_PAGES, slot))
    return totals
