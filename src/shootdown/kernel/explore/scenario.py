"""Scenarios for the explorer of the kernel's C, and what exploring one gives."""

from __future__ import annotations

from dataclasses import dataclass, field

NO_PFN = (1 << 64) - 1
ROOT_LEVEL_MIN = 3
"""``tdp_mmu_zap_root`` begins at 1G."""


@dataclass(frozen=True)
class Task:
    """What one CPU does: an operation of the library (``sd_ops``) with its arguments.

    vcpu    the vCPU whose thread it is; -1 for a task of the host. Those of vCPUs must be the first
    again   it is run again for ever
    name    as schedules call it
    """

    op: str
    args: tuple[int, ...] = ()
    vcpu: int = -1
    again: bool = False
    name: str = ""


@dataclass(frozen=True)
class Guest:
    """What a vCPU's guest does: (gfn, PFERR bits) with which it may fault, gfns that it writes where it can."""

    accesses: tuple[tuple[int, int], ...] = ()
    writes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hardware:
    """How CPUs read entries: EPT or NPT, the bits that they set (0: none), and what they do with them.

    mmu_writable    KVM's own bit: a fault may set W without a lock
    sets_accessed   A is set in steps of its own, else only D is
    logs            the first write to a page since its D was cleared is logged (PML)
    mmio            entries with reserved bits give a fault of their own
    """

    ept: bool = True
    accessed: int = 0
    dirty: int = 0
    mmu_writable: int = 0
    sets_accessed: bool = False
    logs: bool = False
    mmio: bool = False


@dataclass(frozen=True)
class Options:
    """How to explore.

    yields     how often a task may give way in one run; -1: always
    failures   how often an allocation that may fail does
    movers     glue what cannot be told apart (docs/model.md); without it every access is a step
    reuse      a freed table is given out again, the lowest first
    late       an RCU callback runs at any moment after its grace period, not just at the first
    ranged     a flush of a range flushes no more than that
    tso        plain stores to entries wait in a buffer
    races      look for plain accesses that nothing orders
    """

    yields: int = 2
    failures: int = 0
    movers: bool = True
    reuse: bool = True
    late: bool = False
    ranged: bool = False
    tso: bool = False
    races: bool = False


@dataclass(frozen=True)
class Scenario:
    """A small situation; gfns are the test's, 0 to ``entries ** levels - 1``.

    host        by gfn: page (pfn_base + its real gfn; -1: none), level, writable; what is missing is 4K, writable
    start       operations that run before exploring
    root_level  0: the lowest that the kernel's own code can have
    nx          the NX mitigation is on: no huge page may be executed
    pages       by gfn, all pages that the host ever has there; of one that is missing, any
    """

    levels: int
    tasks: tuple[Task, ...]
    guests: tuple[Guest, ...] = ()
    start: tuple[Task, ...] = ()
    entries: int = 2
    root_level: int = 0
    tables: int = 16
    pfn_base: int = 1 << 22
    host: dict[int, tuple[int, int, bool]] = field(default_factory=dict, hash=False)
    hardware: Hardware = Hardware()
    options: Options = Options()
    nx: bool = False
    pages: dict[int, frozenset[int]] = field(default_factory=dict, hash=False)

    @property
    def vcpus(self) -> int:
        """How many vCPUs take part."""
        return len(self.guests)

    @property
    def top(self) -> int:
        """The level of the entries in a root."""
        return self.root_level or max(ROOT_LEVEL_MIN, self.levels)


@dataclass(frozen=True)
class Budget:
    """When to give up: states, bytes of memory for them, seconds of CPU time (0: no end)."""

    states: int = 20_000_000
    bytes: int = 4 << 30
    seconds: float = 600.0


@dataclass(frozen=True)
class Frame:
    """A place in the source: the innermost is the access itself, then who it was inlined into."""

    function: str
    file: str
    line: int


@dataclass(frozen=True)
class Held:
    """Something that a vCPU may have cached: a leaf (``target``: its pfn) or a step to a table (its number)."""

    root: int
    level: int
    gfn: int
    leaf: bool
    rights: int
    dirty: bool
    target: int


@dataclass(frozen=True)
class Cached:
    """All that a vCPU may have cached from here on."""

    vcpu: int
    in_guest: bool
    held: tuple[Held, ...]


@dataclass(frozen=True)
class Event:
    """One access or other action of a schedule.

    step     the number of its step, from 1; movers may put several events in one
    cpu      the task's number; -1: something that happens by itself
    kind     as in hooks.h: "load", "compare-exchange", "read_lock", ...
    table, index   of an entry; -1 for what is none
    name     of a lock or another word, as far as it has one
    before, after  the word's values
    pc       where the access returns to, from the library's base; 0: nowhere
    frames   where in the source
    cached   of vCPUs whose set is another one after this step
    """

    step: int
    cpu: int
    kind: str
    table: int
    index: int
    name: str
    before: int
    after: int
    pc: int
    frames: tuple[Frame, ...]
    cached: tuple[Cached, ...]


@dataclass(frozen=True)
class Schedule:
    """Choices, from the start: ``cpu << 16 | choice``; and the words that must be known to be written (hooks.h)."""

    choices: tuple[int, ...]
    written: tuple[int, ...]


@dataclass(frozen=True)
class Race:
    """Two accesses to the same bytes that two CPUs can do at once: one is a write, one is plain, no lock orders them.

    marked    which of them is READ_ONCE, WRITE_ONCE or atomic
    """

    name: str
    frames: tuple[tuple[Frame, ...], tuple[Frame, ...]]
    writes: tuple[bool, bool]
    marked: tuple[bool, bool]


@dataclass(frozen=True)
class Outcome:
    """What exploring a scenario gave.

    broken       what broke (``BROKEN``), "" if nothing did
    stopped      why the search did not finish, "" if it did
    message      what broke or stopped it, in words
    place        where in the source it broke, if it did at one place
    cpu, vcpu    whose step broke it; whose set was concerned (-1: none)
    deadlocked   the tasks that wait for one another
    depth        steps of the schedule, or of the longest path
    bytes_a_state  all memory that the search took, by state
    restarts     how often it began anew with what it had learnt
    ended        the tasks that came to an end in some order
    reached      the vCPUs that could reach a page in some order
    bounds       what the verdict holds within, in words
    ran          of a library that tells: which blocks of code ran (coverage.py)
    """

    bounds: tuple[str, ...]
    broken: str = ""
    stopped: str = ""
    message: str = ""
    place: tuple[Frame, ...] = ()
    cpu: int = -1
    vcpu: int = -1
    deadlocked: tuple[int, ...] = ()
    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    bytes_a_state: float = 0.0
    restarts: int = 0
    ended: tuple[int, ...] = ()
    reached: tuple[int, ...] = ()
    schedule: Schedule = Schedule((), ())
    events: tuple[Event, ...] = ()
    races: tuple[Race, ...] = ()
    ran: frozenset[int] = frozenset()

    @property
    def word(self) -> str:
        """``holds``, ``refuted`` or ``undetermined``."""
        return "refuted" if self.broken else "undetermined" if self.stopped else "holds"


BROKEN = (
    "", "stopped", "use after free", "freed in reach", "revoked in reach", "warn", "double free", "stale", "deadlock",
    "leak", "lost write", "writable in reach", "overwritten", "bug", "lockdep", "memory fault", "stack overflow",
    "endless loop", "still mapped", "broken", "unknown in reach",
    "executable in reach", "other in reach", "passes for mmio",
)  # fmt: skip
"""By number of ``enum sd_verdict``."""


def bounds_of(scenario: Scenario) -> tuple[str, ...]:
    """What a verdict about a scenario holds within."""
    options = scenario.options
    count = "any number of" if options.yields < 0 else f"at most {options.yields}"
    found = [
        f"{scenario.entries} entries of each table, {scenario.levels} levels, at most {scenario.tables} tables",
        f"{scenario.vcpus} vCPUs, {len(scenario.tasks)} tasks",
        f"{count} yields a run of a task",
        f"{options.failures} failures of allocation",
        "x86-TSO for stores to entries" if options.tso else "sequential consistency",
    ]
    if not options.reuse:
        found.append("a freed table is never used again")
    if not options.late:
        found.append("RCU callbacks run at the first moment")
    if not options.ranged:
        found.append("a flush of a range flushes all")
    return tuple(found)
