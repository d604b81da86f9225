"""Accesses of the kernel's C in the phrases that those of our MMU have."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ...check.program.guest import MAY_EXECUTE, MAY_WRITE
from ...check.program.guest import Hardware as Rights
from ...check.schedule import phrases
from ...mmu.spte import LARGE, SpteFormat, describe, is_present, signed, spte_pfn
from .abi import TABLES_MAX
from .scenario import Cached, Event, Held, Scenario

TABLES_FIRST = 0x10_0000
"""The pfn of the first page table (c/explore/hooks.h, SD_PHYSICAL)."""
POISON = 0x6B6B_6B6B_6B6B_6B6B
"""What freed memory holds (c/explore/memory.c)."""
NAMELESS = ("", "a word")
FAULT, WROTE = 1 << 63, 1 << 62
"""What a guest did (c/explore/hooks.h, SD_FAULT and SD_WROTE), with its gfn and, of a fault, PFERR bits below."""
PERMISSION, RESERVED = 1, 8
OWN = {
    "rcu_wait": "synchronize_rcu begins", "rcu_sync": "synchronize_rcu ends", "rcu_barrier": "rcu_barrier",
    "relax": "cpu_relax",
}  # fmt: skip
"""What a step did that no step of our MMU does."""
OF_GFNS = ("forget", "protect", "watch", "unwatch", "harvest", "back")
CHANGES = {"load": "read", "store": "write", "exchange": "xchg", "and": "and", "or": "or", "drain": "drain"}
MEMSLOTS = "memslots of"
SELDOM = ("memslots", "set of memslots", "slot", "track count", "nr_memslots", "NX list", "tdp_mmu_roots")
"""Words, by the beginning of their names, whose loads are told only where a schedule changes them."""


@dataclass
class Words:
    """What is known of a scenario while a schedule is told.

    places  by table, the first gfn that it covers and its level
    raws    entries that were told, in the order in which they occurred
    published  how often the slots of an address space were replaced
    """

    scenario: Scenario
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    raws: list[int] = field(default_factory=list)
    published: dict[str, int] = field(default_factory=dict)

    @property
    def format(self) -> SpteFormat:
        """How CPUs read entries."""
        return phrases.format_of(self.scenario.hardware.ept, self.scenario.hardware.accessed)

    def rights(self, raw: int) -> int:
        """What a CPU may do by an entry."""
        return Rights(self.scenario.hardware.ept).rights(raw)

    def learn_roots(self, events: Iterable[Event]) -> None:
        """A table is a root, or linked to nothing yet, whose count of references or role is looked at."""
        for event in events:
            name, dot, what = event.name.partition(".")
            if dot and what in ("root_count", "role") and name[:1] == "T":
                self.places.setdefault(int(name[1:]), (0, self.scenario.top))

    def learn(self, cached: Cached) -> None:
        """Learn from what a vCPU holds where tables are."""
        for held in cached.held:
            self.places.setdefault(held.root, (0, self.scenario.top))
            if not held.leaf:
                self.places.setdefault(held.target, (held.gfn, held.level - 1))

    def follow(self, event: Event) -> None:
        """Learn from a write what it changes: where a table is, which slots there are."""
        if event.name.startswith(MEMSLOTS) and event.kind == "store":
            self.published[event.name] = self.published.get(event.name, 0) + 1
        if event.table < 0 or event.table not in self.places:
            return
        gfn, level = self.places[event.table]
        after = signed(event.after)
        if level > 1 and is_table(after):
            self.places[table_of(after)] = (gfn + event.index * self.scenario.entries ** (level - 1), level - 1)

    def place(self, event: Event) -> str:
        """The name of an entry, by gfn and level where its table has been linked."""
        if event.table not in self.places or event.index >= self.scenario.entries:
            return f"T{event.table}[{event.index}]"
        gfn, level = self.places[event.table]
        return f"gfn {gfn + event.index * self.scenario.entries ** (level - 1)} L{level}"

    def entry(self, raw: int) -> str:
        """An entry in a few characters."""
        if raw == POISON:
            return "freed memory"
        spte = signed(raw)
        if is_present(spte):
            self.raws.append(raw)
        table = table_of(spte) if is_table(spte) else phrases.NO_TABLE
        return phrases.entry(spte, table, self.rights(spte), self.format)

    def legend(self) -> list[str]:
        """What the short forms stand for, bit by bit."""
        found = []
        for raw in dict.fromkeys(self.raws):
            spte = signed(raw)
            level = 2 if is_table(spte) or spte & LARGE else 1
            found.append(f"{self.entry(raw)} = 0x{raw:x} ({describe(spte, level, self.format)})")
        return found


def is_table(spte: int) -> bool:
    """Does a present entry point to a page table?"""
    return bool(is_present(spte)) and not spte & LARGE and 0 <= spte_pfn(spte) - TABLES_FIRST < TABLES_MAX


def table_of(spte: int) -> int:
    """The number of the table that an entry points to."""
    return int(spte_pfn(spte)) - TABLES_FIRST


def is_told(event: Event, changed: Collection[str]) -> bool:
    """Is an access worth a row? Loads of words are not that have no name, or seldom matter and are not ``changed``."""
    if event.table >= 0 or event.kind != "load":
        return True
    return event.name in changed or not (event.name in NAMELESS or event.name.startswith(SELDOM))


def changed_by(events: Iterable[Event]) -> set[str]:
    """The names of words that a schedule changes."""
    return {event.name for event in events if event.table < 0 and event.kind != "load" and event.before != event.after}


def access(event: Event, words: Words, more: int = 0) -> str:
    """What an access did; it stands for ``more`` entries that come after its own."""
    name = event.name if event.name else "a word"
    if event.kind in OF_GFNS:
        return phrases.plain(event.kind, phrases.gfns(event.before))
    if event.kind in phrases.PLAIN and event.kind not in ("flush_range", "revoke", "mmio"):
        return phrases.plain(event.kind, name)
    if event.kind in OWN:
        return OWN[event.kind]
    if event.kind == "guest":
        return _guest(event, words)
    if event.kind in CHANGES or event.kind == "compare-exchange":
        return _change(event, words, more)
    match event.kind:
        case "need_resched":
            return f"need_resched: {'yes' if event.after else 'no'}"
        case "allocation":
            return "an allocation fails" if event.after else "an allocation works"
        case "choose":
            return f"chooses {event.after}"
        case "alloc" | "free":
            return f"{event.kind} T{event.table}" if event.table >= 0 else f"{event.kind} {name}"
        case "callback":
            return f"grace period of {name} is over"
        case "flush_range":
            return phrases.plain("flush_range", name, phrases.gfns(event.before))
        case "mmio":
            return phrases.plain("mmio", f"gfn {event.before}")
        case "revoke":
            return phrases.plain("revoke", f"pfn {event.before:x}")
        case "refcount":
            return phrases.change("put" if event.after < event.before else "get", name, *_both(event))
    return f"{event.kind} {name}: {event.before:#x} -> {event.after:#x}"


def _both(event: Event) -> tuple[str, str]:
    """The values of a word before and after."""
    return phrases.value(event.name, event.before), phrases.value(event.name, event.after)


def word(event: Event, words: Words, more: int = 0) -> tuple[str, str, str]:
    """The word that an access is about, and its values before and after, in words; empty for none."""
    if event.kind not in CHANGES and event.kind not in ("compare-exchange", "refcount", "guest"):
        return "", "", ""
    if event.table >= 0:
        return _entries(event, words, more), words.entry(event.before), words.entry(event.after)
    return ("", "", "") if event.kind == "guest" else (event.name or "a word", *_both(event))


def _entries(event: Event, words: Words, more: int) -> str:
    """The name of an entry, or of several."""
    return f"T{event.table}[{event.index}-{event.index + more}]" if more else words.place(event)


def _change(event: Event, words: Words, more: int) -> str:
    name = event.name or "a word"
    if name.startswith(MEMSLOTS):
        state = f"{name}: state {words.published.get(name, 0)}"
        return f"read {state}" if event.kind == "load" else f"publish {name}: state {words.published.get(name, 0) + 1}"
    if event.table >= 0:
        name = _entries(event, words, more)
        old, new = words.entry(event.before), words.entry(event.after)
    else:
        old, new = _both(event)
    if event.kind == "compare-exchange":
        return phrases.change("failed" if event.before == event.after else "cmpxchg", name, old, new)
    if event.kind == "or" and name.endswith(".requests"):
        asked = phrases.requests(event.after & ~event.before or event.after)
        return f"request {name.partition('.')[0]}: {asked}"
    return phrases.change(CHANGES[event.kind], name, old, new)


def _guest(event: Event, words: Words) -> str:
    gfn, code = event.after >> 16 & 63, event.after & 0xFFFF
    if event.table >= 0:
        first, level = words.places.get(event.table, (0, 0))
        pages = words.scenario.entries ** max(0, level - 1)
        dirty = bool((event.before ^ event.after) & words.scenario.hardware.dirty)
        return phrases.guest_marks(phrases.span(first + event.index * pages, pages), dirty, event.table)
    if event.after & WROTE:
        return phrases.guest_writes(gfn)
    if not event.after & FAULT:
        return phrases.GUEST_INTERRUPTED
    why = phrases.RESERVED if code & RESERVED else phrases.REFUSED if code & PERMISSION else phrases.ABSENT
    return phrases.guest_faults(gfn, code, why)


def cached(held: Held, words: Words) -> str:
    """A cached entry, as ``gfns 0-1 -> T1``."""
    pages = words.scenario.entries ** (held.level - 1)
    last = min(held.gfn + pages, words.scenario.entries**words.scenario.levels)
    where = phrases.span(held.gfn, last - held.gfn)
    if not held.leaf:
        return f"{where} -> T{held.target}"
    marks = " huge" if held.level > 1 else ""
    marks += "" if held.rights & MAY_WRITE else " r/o"
    clean = words.scenario.hardware.dirty and held.rights & MAY_WRITE and not held.dirty
    return f"{where} -> pfn {held.target:x}{marks}{' clean' if clean else ''}"


def proves(held: Held, broken: str) -> bool:
    """May a cached entry be what breaks a promise of that kind?"""
    if broken == "freed in reach":
        return not held.leaf
    if broken == "executable in reach":
        return held.leaf and held.level > 1 and bool(held.rights & MAY_EXECUTE)
    return held.leaf and (broken != "writable in reach" or bool(held.rights & MAY_WRITE))
