"""What differs between kernel versions, one named flag a difference."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from .spte import EMPTY_61, EMPTY_612, FROZEN_61, FROZEN_612


class Behaviour:
    """The flags of one kernel version; ``name`` is that version.

    empty, frozen         the values of an entry that maps nothing and of one that is owned (spte.h)
    range_zap_tables      a range zap also cuts every table that lies wholly in the range: ``zap_gfn_range`` of 5.15 to
                          5.17; else it zaps leaves only (cf3e26427c08 and f47e5bbbc92f, in 5.18)
    flush_then_remove     the atomic zap flushes and releases the entry before it tears the table down (aca48556c592,
                          in 6.10); else it tears down first
    flush_invalid_roots   zaps of leaves treat an invalid root as any other: ``kvm_zap_gfn_range`` visits it, and owes
                          a flush for it (6.1); else neither, since no vCPU can use that root any more (6.12)
    split_in_fault        a fault splits a huge page that is in its way (read in 6.12), else it zaps it (read in 6.1)
    promote               huge pages are rebuilt in place (13e2e4f62a4b, in 6.13); else the table is zapped and a fault
                          maps the huge page
    passes                the levels at which ``zap_root`` stops, from the lowest; 0 stands for the root's own level
    ring_full_by_request  whether a dirty ring is full is looked at only where a request says so (read in 6.12), else at
                          every entry (read in 6.1)
    """

    def __init__(
        self,
        name: str,
        *,
        range_zap_tables: bool,
        flush_then_remove: bool,
        flush_invalid_roots: bool,
        split_in_fault: bool,
        promote: bool,
        passes: tuple[int, ...],
        empty: i64,
        frozen: i64,
        ring_full_by_request: bool,
    ) -> None:
        self.name = name
        self.range_zap_tables = range_zap_tables
        self.flush_then_remove = flush_then_remove
        self.flush_invalid_roots = flush_invalid_roots
        self.split_in_fault = split_in_fault
        self.promote = promote
        self.passes = passes
        self.empty = empty
        self.frozen = frozen
        self.ring_full_by_request = ring_full_by_request


def _behaviour(name: str) -> Behaviour:
    late = name in ("6.12", "6.13")
    return Behaviour(
        name,
        range_zap_tables=name == "5.17",
        flush_then_remove=late,
        flush_invalid_roots=not late,
        split_in_fault=late,
        promote=name == "6.13",
        passes=(1, 2, 3, 0) if late else (3, 0),
        empty=EMPTY_612 if late else EMPTY_61,
        frozen=FROZEN_612 if late else FROZEN_61,
        ring_full_by_request=late,
    )


BEHAVIOURS: Final = {name: _behaviour(name) for name in ("5.17", "6.1", "6.12", "6.13")}
"""All behaviours by name."""
