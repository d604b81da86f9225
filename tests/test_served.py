"""An access of a guest that nobody interferes with is served, or handed to user space, after a few faults.

No search sees a vCPU that faults for ever (docs/model.md): here one faults alone, with nothing cached, and what its
fault says is held against what hardware makes of the entry that is there then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from shootdown.check.program.guest import Hardware, need_of
from shootdown.check.source.source import Source
from shootdown.machine.words import HOST_WRITABLE, LOG_DIRTY_PAGES, READONLY
from shootdown.mmu.access import FETCH, PERMISSION, RESERVED, WRITE

from .mutations import Mutation
from .test_check_suite import mutated

FAULTS_MAX = 3
"""One makes the translation; one more may be for rights; one for luck."""
PAGES = 1024
SETTINGS = tuple(
    product(
        ("6.1", "6.12", "6.18"), ("NPT", "EPT", "EPT_NO_AD"), (False, True), (1, 2), (0, LOG_DIRTY_PAGES, READONLY),
        (0, WRITE, FETCH),
    )
)  # fmt: skip
"""Behaviour, format, NX mitigation, the host's level, flags of the slot, what the guest tries."""


def faults_of(source: Source, setting: tuple[str, str, bool, int, int, int], gfn: int, first: int) -> int:
    """How many faults an access to ``gfn`` takes, behind a read of ``first`` (-1: none); FAULTS_MAX + 1: too many."""
    behaviour, form, nx, level, flags, tried = setting
    fmt = getattr(source.module("mmu.spte"), form)
    m = source.module("machine.native").NativeMachine(1, slots=1, host_level=level)
    policy = source.module("mmu.policies.registry").POLICIES["rcu"]
    flavour = source.module("mmu.behaviour").BEHAVIOURS[behaviour]
    kvm = source.module("mmu.kvm").Kvm(m, fmt, flavour, policy, 4, 1, nx, slots=1)
    fault, found = source.module("mmu.fault"), source.module("mmu.page_fault")
    hardware = Hardware(kvm.fmt.ept)
    source.module("mmu.memory_region").set_memory_region(kvm, 0, 0, 0, PAGES, flags)
    m.store(HOST_WRITABLE, gfn, 0)
    source.module("mmu.vcpu_roots").mmu_load(kvm, 0, 0)
    if first >= 0:
        fault.page_fault(kvm, 0, first, 0)
    for number in range(FAULTS_MAX + 1):
        last = int(source.module("mmu.walk").get_walk(kvm, 0, gfn)[-1])
        if hardware.rights(last) & need_of(tried):
            return number
        reserved, present = hardware.is_reserved(last), hardware.rights(last) != 0
        code = tried | (PERMISSION if present else 0) | (RESERVED if reserved else 0)
        result = fault.page_fault(kvm, 0, gfn, code)
        if result in (found.EMULATE, found.WRITE_PROTECTED):
            return number + 1
    return FAULTS_MAX + 1


def endless(source: Source) -> Iterator[tuple[str, str, bool, int, int, int]]:
    """The settings in which an access is never served."""
    return (
        setting
        for setting in SETTINGS
        for gfn, first in ((0, -1), (1, 0), (PAGES, PAGES))
        if faults_of(source, setting, gfn, first) > FAULTS_MAX
    )


def test_every_access_is_served() -> None:
    """Reads, writes and fetches of memory, of what may only be read, and of what is not there."""
    source = Source()
    try:
        assert list(endless(source)) == []
    finally:
        source.close()


BUGS = (
    Mutation(
        "a write to a slot that is read-only is tried again and again",
        (("mmu/fault.py",
          "    if fault.code & WRITE != 0 and fault.flags & READONLY != 0:\n        return EMULATE\n", ""),),
        "", 0,
    ),
    Mutation(
        "a fetch is served by a huge page, which the NX mitigation lets nobody execute",
        (("mmu/fault.py", "    if disallowed:\n        goal = 1\n", ""),), "", 0,
    ),
    Mutation(
        "an entry of MMIO on EPT has the bit by which it is told from an empty one",
        (("mmu/mmio.py",
          "    return spte if fmt.ept else spte | NPT_WRITE_USER",
          "    return spte | kvm.empty if fmt.ept else spte | NPT_WRITE_USER"),),
        "", 0,
    ),
    Mutation(
        "a write is served by a page that may only be read",
        (("mmu/fault.py", "        fault.writable = writable != 0\n", "        fault.writable = False\n"),), "", 0,
    ),
)  # fmt: skip


@pytest.mark.parametrize("mutation", BUGS, ids=lambda mutation: mutation.site)
def test_an_access_that_is_never_served_is_found(mutation: Mutation, tmp_path: Path) -> None:
    """Faults that say that the guest may go on, where it cannot."""
    with mutated(mutation, tmp_path) as source:
        assert next(endless(source), None) is not None
