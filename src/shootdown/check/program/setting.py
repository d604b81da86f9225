"""``Setting``: the start of a test: geometry, page tables, who runs what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...machine import words
from .guest import Act, Hardware, acts_of

Word = Any


@dataclass
class Program:
    """One task of a test.

    name    as schedules call it: "vCPU0", "notifier"
    run     the code, called with ``operands``
    again   call it again when it returns, for ever
    vcpu    number of the vCPU whose thread it is, -1 for a task of the host
    faults  what its guest does: gfn and kind of access, as an error code without PERMISSION (mmu/access.py)
    buffer  it is a store buffer (buffers.py), which never ends
    """

    name: str
    run: Callable[..., object]
    operands: tuple[Any, ...]
    again: bool = False
    vcpu: int = -1
    faults: tuple[tuple[int, int], ...] = ()
    buffer: bool = False


@dataclass
class Setting:
    """What the explorer needs to know of a test; vCPUs come first among the programs, in the order of their numbers.

    bits, levels   binary logarithm of the entries in a table, and levels of page tables
    tables         page tables that there are
    machine        the machine that the programs use
    handles        names of the objects that programs hold and that never change
    entry          code that starts a program (``run`` is called by it)
    empty          value of an entry that maps nothing
    is_table       does a present entry point to a table? Tests keep pfns of tables and of the host apart
    words          values at the start of words (SPTE addresses, (kind, owner) or ("list", number)), where not ``empty``
                   or 0
    used           tables in use at the start
    promises       ranges (first gfn, first after) of the promises that programs make, by number
    hardware       how CPUs read entries
    reserved       there may be entries with reserved bits
    watched        pages of the guest whose writes must be logged from the start on (mask of gfns)
    protected      pages that no vCPU may write from the start on (mask of gfns)
    logs           by word and gfn, the bit that says that the gfn was written: bitmaps of dirty pages
    rings          by value of an entry in a dirty ring, the gfn that it says was written
    ring_entries   how many entries the ring of each vCPU has
    lent           by root, references of users who are not told of and never put them
    """

    bits: int
    levels: int
    tables: int
    machine: Any
    handles: dict[int, str]
    programs: list[Program]
    empty: int
    is_table: Callable[[int], bool]
    words: dict[Word, Any] = field(default_factory=dict)
    used: frozenset[int] = frozenset()
    promises: list[tuple[int, int]] = field(default_factory=list)
    hardware: Hardware = field(default_factory=Hardware)
    reserved: bool = False
    watched: int = 0
    logs: dict[Word, dict[int, int]] = field(default_factory=dict)
    rings: dict[int, int] = field(default_factory=dict)
    ring_entries: int = 0
    lent: dict[int, int] = field(default_factory=dict)
    protected: int = 0

    def acts(self, program: int) -> tuple[list[Act], int]:
        """What the guest of a program can do, and how many of that are faults, which come first."""
        return acts_of(self.programs[program].faults, self.hardware, self.tables, self.reserved)

    def ring_words(self) -> list[Word]:
        """The entries of all dirty rings."""
        return [(words.RING_ENTRY, vcpu << 32 | n) for vcpu in range(self.vcpus) for n in range(self.ring_entries)]

    @property
    def vcpus(self) -> int:
        """How many vCPUs there are."""
        return sum(program.vcpu >= 0 for program in self.programs)
