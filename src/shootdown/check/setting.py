"""``Setting``: the start of a test: geometry, page tables, who runs what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Word = Any


@dataclass
class Program:
    """One task of a test.

    name    as schedules call it: "vCPU0", "notifier"
    run     the code, called with ``operands``
    again   call it again when it returns, for ever
    vcpu    number of the vCPU whose thread it is, -1 for a task of the host
    faults  what its guest may do: gfn and error code (mmu/access.py)
    """

    name: str
    run: Callable[..., object]
    operands: tuple[Any, ...]
    again: bool = False
    vcpu: int = -1
    faults: tuple[tuple[int, int], ...] = ()


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

    @property
    def vcpus(self) -> int:
        """How many vCPUs there are."""
        return sum(program.vcpu >= 0 for program in self.programs)
