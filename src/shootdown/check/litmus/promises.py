"""What tasks and slots of a test promise: pages that nobody writes, or that are memory, and what the host has where."""

from __future__ import annotations

from typing import Any

from ...machine import words
from .litmus import Litmus
from .memory import FLAGS, mask_of

HOST_PFN_FIRST = 64
"""Frames of the host begin here; those below are page tables."""

REFILL = 8
"""How many frames further on ``change_pte`` and ``migrate`` take a page, if a test does not say."""


def protected(test: Litmus) -> int:
    """The gfns that no vCPU may write, as a mask: those of read-only slots, and what the host maps read-only.

    The latter where no guest writes and the host never makes it writable: a write has the host put another page there.
    """
    found = test.memory.unwritten() | _made_read_only(test)
    if all(entry["run"] not in ("host_writable", "change_pte") for entry in test.host):
        written = {gfn for entry in test.vcpus for gfn in entry.get("writes", ())}
        found |= mask_of(set(test.memory.read_only) - written)
    return found


def frames(test: Litmus, span: int) -> dict[int, frozenset[int]]:
    """By gfn, the frames of the pages that the host ever has there."""
    return {gfn: frozenset(HOST_PFN_FIRST + page for page in pages) for gfn, pages in pages_of(test, span).items()}


def pages_of(test: Litmus, span: int) -> dict[int, frozenset[int]]:
    """By gfn, the pages that the host ever has there, by their numbers: that of a gfn is its own at first."""
    found = {gfn: {gfn} for gfn in range(span)}
    for entry in test.host:
        refill, gfns = entry.get("refill", -1), range(entry.get("start", 0), entry.get("end", span))
        if entry["run"] in ("change_pte", "migrate"):
            refill, gfn = entry.get("refill", REFILL), entry.get("gfn", 0)
            gfns = range(gfn, gfn + 1)
        for gfn in gfns if refill >= 0 else ():
            found[gfn].add(gfn + refill)
    return {gfn: frozenset(pages) for gfn, pages in found.items()}


def backed(test: Litmus) -> int:
    """The gfns with entries of MMIO from before that lie in slots which stay, as a mask; of ``mmio_space``."""
    slots = [slot for n, slot in enumerate(test.memory.slots) if slot.as_id == mmio_space(test) and _stays(test, n)]
    return mask_of(gfn for gfn in test.memory.mmio if any(gfn in slot.gfns() for slot in slots))


def made_in(test: Litmus, entry: dict[str, Any], base: int, pages: int) -> int:
    """The gfns that a task makes memory for good, as a mask, in the address space that is looked at."""
    slot = entry.get("slot", 0)
    if test.memory.slots[slot].as_id != mmio_space(test) or not _stays(test, slot, entry["name"]):
        return 0
    return mask_of(range(base, base + pages))


def settled(test: Litmus) -> frozenset[int]:
    """The kinds of words that no task of the test writes."""
    runs = {entry["run"] for entry in test.host}
    found: set[int] = set()
    if not runs & {"log_on", "log_off", "delete_slot", "move_slot", "create_slot", "create_shadowed"}:
        found |= {words.SLOT_BASE, words.SLOT_PAGES, words.SLOT_FLAGS, words.SLOT_AS, words.SLOTS_GENERATION}
    shared = any(entry.get("read_only") for entry in test.host)
    if not test.memory.read_only and not shared and not runs & {"host_writable", "change_pte"}:
        found.add(words.HOST_WRITABLE)
    return frozenset(found)


def mmio_space(test: Litmus) -> int:
    """The address space whose accesses to MMIO are looked at: 0, unless a task makes a slot of the other."""
    slots = test.memory.slots
    return int(any(entry["run"] == "create_slot" and slots[entry.get("slot", 0)].as_id for entry in test.host))


def flags_of(entry: dict[str, Any]) -> int:
    """The flags with which a task makes or moves a slot."""
    return sum(FLAGS[flag] for flag in set(entry.get("flags", [])))


def logged_in(entry: dict[str, Any], base: int, pages: int) -> int:
    """The gfns whose writes are logged once a task has made, or moved, their slot, as a mask."""
    return mask_of(range(base, base + pages)) if flags_of(entry) & words.LOG_DIRTY_PAGES else 0


def _made_read_only(test: Litmus) -> int:
    """The gfns that no slot holds before a task makes a read-only one of them, as a mask."""
    found = 0
    for entry in test.host:
        if entry["run"] == "create_slot" and flags_of(entry) & words.READONLY:
            base = entry.get("base", 0)
            found |= mask_of(range(base, base + entry.get("pages", 1)))
    return found & ~mask_of(gfn for slot in test.memory.slots for gfn in slot.gfns())


def _stays(test: Litmus, slot: int, but: str = "") -> bool:
    """Does no task delete or move a slot, other than the one called ``but``?"""
    return all(
        entry["run"] not in ("delete_slot", "move_slot") or entry.get("slot", 0) != slot or entry["name"] == but
        for entry in test.host
    )
