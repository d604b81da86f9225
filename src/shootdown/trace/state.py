"""Everything that is known at a moment of a recording: the VMs' tables, what was found, and what was counted."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ..mmu.spte import SpteFormat, table_index
from .findings import Finding
from .op import Op
from .tables import UNSEEN, Dying, Guest, Made, Root, Table

SAMPLES: Final = 64
"""Points in time at which the mapping sizes are kept."""
FINDINGS_MAX: Final = 100_000
"""Findings kept with their details; beyond, they are only counted."""


class State:
    """All VMs' page tables, and what was found while they were rebuilt.

    pages     leaves present by level, index 1 to 3; ``samples``: (time, 4K, 2M, 1G) over the recording
    pending   tables unlinked and not freed; ``pending_max`` their peak; ``freed``: when those freed were cut, and freed
    unseen    changes of entries of which nothing was known before
    sees_frees  the recording shows when tables are freed, so that each unlinked one is waited for
    spaces_told  bits of a role that tell address spaces apart and that the input shows
    sees_flushes, sees_invalidation  the recording has the probes on flushes, on the invalidation of roots
    by_value  no kvm pointer was recorded: a change belongs to the VM that holds its old value
    at        by thread, the root that its vCPU uses; ``working``: the one that it is zapping; ``before``:
              the one that it changed last; ``naming``: pointer and role of the one that it is zapping, while unknown
    unlinked  by thread, the table that it has made and not yet linked
    epoch     how often events were lost so far; ``gaps``: in how many gaps of the recording we are
    last      the entry changed last, and what it held before
    empty     what an entry of a fresh table holds
    stop      time at which to stop (the tables then show that moment); -1 runs to the end
    """

    def __init__(self, fmt: SpteFormat, empty: i64, first: i64, last: i64, stop: i64) -> None:
        self.fmt = fmt
        self.empty: i64 = empty
        self.sees_frees = False
        self.sees_flushes = False
        self.sees_invalidation = False
        self.by_value = False
        self.spaces_told: i64 = 0
        self.guests: dict[int, Guest] = {}
        self.dying: dict[int, Dying] = {}
        self.findings: list[Finding] = []
        self.finding_count: i64 = 0
        self.by_entry: dict[int, Finding] = {}
        self.pages: list[int] = [0, 0, 0, 0, 0, 0]
        self.samples: list[tuple[int, int, int, int]] = []
        self.step: i64 = max(1, (last - first) // SAMPLES)
        self.next_sample: i64 = first
        self.stop: i64 = stop
        self.changes: i64 = 0
        self.unseen: i64 = 0
        self.hardware: i64 = 0
        self.fast_faults: i64 = 0
        self.pending: i64 = 0
        self.pending_max: i64 = 0
        self.freed: list[tuple[int, int]] = []
        self.frees: i64 = 0
        self.roots_freed: i64 = 0
        self.epoch: i64 = 0
        self.gaps: i64 = 0
        self.at: dict[int, Root] = {}
        self.working: dict[int, Root] = {}
        self.before: dict[int, Root] = {}
        self.naming: dict[int, tuple[i64, i64]] = {}
        self.unlinked: dict[int, Made] = {}
        self.last: Table | None = None
        self.last_index: i64 = 0
        self.last_held: i64 = UNSEEN
        self.serial: i64 = 0
        self.root_level: i64 = 4
        self.time: i64 = first
        self.cpu: i64 = 0
        self.pid: i64 = 0

    def guest(self, vm: i64) -> Guest:
        """The VM, made on first sight."""
        found = self.guests.get(vm)
        if found is None:
            found = Guest()
            self.guests[vm] = found
        return found

    def new_table(self, level: i64, gfn: i64, fill: i64) -> Table:
        """A table that covers ``gfn``, all of whose entries are ``fill``."""
        self.serial += 1
        return Table(self.serial, level, gfn >> (9 * level) << (9 * level), -1, fill)

    def suspect(self, table: Table, index: i64) -> bool:
        """Were events lost since anything was told of the entry?"""
        if table.epoch != self.epoch:
            table.epoch = self.epoch
            table.known.clear()
        return self.epoch > 0 and (self.gaps > 0 or index not in table.known)

    def find(
        self, rule: str, vm: i64, op: Op | None, as_id: i64, gfn: i64, level: i64, held: i64, old: i64, new: i64,
        table: Table | None,
    ) -> Finding | None:  # fmt: skip
        """Keep a breach of a rule."""
        self.finding_count += 1
        if len(self.findings) >= FINDINGS_MAX:
            return None
        finding = Finding(rule, self.time, self.cpu, self.pid, vm, as_id, gfn, level)
        finding.held, finding.old, finding.new = held, old, new
        finding.op = op.kind if op is not None else -1
        if table is not None:
            finding.lost = 1 if self.suspect(table, table_index(gfn, level)) else 0
        elif self.epoch:
            finding.lost = 1
        self.findings.append(finding)
        return finding

    def sample(self) -> None:
        """Keep the mapping sizes of this moment."""
        self.samples.append((self.time, self.pages[1], self.pages[2], self.pages[3]))
        while self.next_sample <= self.time:
            self.next_sample += self.step
