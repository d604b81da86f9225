"""What a test's VM is at its start, and what its guests do, whichever machine it runs on."""

from __future__ import annotations

from typing import Any

from ...machine.words import ROLE_GUEST_MODE, ROLE_SMM
from ...mmu.access import FETCH, WRITE
from .litmus import Litmus


def role_of(vcpu: dict[str, Any]) -> int:
    """The role of the root that a vCPU begins on."""
    return int(vcpu.get("as_id", 0)) | (ROLE_GUEST_MODE if vcpu.get("nested") else 0)


def accesses_of(vcpu: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """The accesses by which a vCPU's guest may fault: gfns, and bits of the fault's code."""
    code = FETCH if vcpu.get("execute") else 0
    return (*((gfn, code) for gfn in vcpu.get("gfns", ())), *((gfn, WRITE) for gfn in vcpu.get("writes", ())))


def mapped_in(test: Litmus, role: int) -> tuple[tuple[int, int], ...]:
    """Gfns and levels of what a root of a role maps."""
    own = test.mapped_as1 if role & ROLE_SMM else test.mapped_nested if role & ROLE_GUEST_MODE else ()
    return (*test.mapped, *own)


def levels_of(test: Litmus, span: int) -> dict[int, int]:
    """By gfn, the level by which the host maps it."""
    levels = dict.fromkeys(range(span), 1)
    for gfn, level in test.host_levels:
        levels.update(dict.fromkeys(range(gfn, gfn + 2 ** (level - 1)), level))
    return levels


def leaf_at_start(test: Litmus, gfn: int, raw: int, fmt: Any, spte: Any) -> int:
    """A leaf for ``gfn`` as the test wants it at the start; ``spte``: the module of SPTEs, of whichever sources."""
    memory = test.memory
    if gfn in memory.protected:
        raw &= ~spte.WRITABLE
    if gfn in memory.clean:
        raw &= ~fmt.dirty
    if gfn in memory.read_only:
        raw &= ~(spte.WRITABLE | fmt.dirty | fmt.mmu_writable | fmt.host_writable)
    if gfn in memory.aged:
        raw = int(spte.mark_for_access_track(raw, fmt))
    return raw
