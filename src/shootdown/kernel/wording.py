"""Accesses of the kernel's C in words, as the checker tells those of our MMU."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..mmu.access import FETCH, WRITE
from ..mmu.spte import EPT, LARGE, NPT, SpteFormat, describe, is_empty, is_frozen, is_present, spte_pfn, unsigned
from .scenario import Cached, Event, Held, Scenario

TABLES_FIRST = 0x10_0000
"""The pfn of the first page table (c/explore/hooks.h, SD_PHYSICAL)."""
TABLES_MAX = 64
NAMELESS = "a word"
LOCKS = {
    "read_lock": "read_lock({})", "read_unlock": "read_unlock({})", "write_wait": "write_lock({}) queues",
    "write_lock": "write_lock({}) got", "write_unlock": "write_unlock({})", "spin_lock": "spin_lock({})",
    "spin_unlock": "spin_unlock({})", "mutex_lock": "mutex_lock({})", "mutex_unlock": "mutex_unlock({})",
}  # fmt: skip
PLAIN = {
    "rcu_read_lock": "rcu_read_lock", "rcu_read_unlock": "rcu_read_unlock", "irq_disable": "interrupts off",
    "irq_enable": "interrupts on", "srcu_read_lock": "srcu_read_lock", "srcu_read_unlock": "srcu_read_unlock",
    "srcu_wait": "synchronize_srcu begins", "srcu_sync": "synchronize_srcu ends", "rcu_wait": "synchronize_rcu begins",
    "rcu_sync": "synchronize_rcu ends", "rcu_barrier": "rcu_barrier", "flush": "flush own TLB", "call_rcu": "call_rcu",
    "callback": "grace period over: callback", "drain": "store buffer drains", "relax": "cpu_relax",
}  # fmt: skip
PROMISES = {
    "forget": "PROMISE: translations of the range forgotten", "protect": "PROMISE: nobody writes {}",
    "watch": "PROMISE: writes of {} are logged", "unwatch": "log of {} given up",
    "harvest": "PROMISE: {} reported, writes from now on are logged",
}  # fmt: skip


@dataclass
class Words:
    """What is known of a scenario while a schedule is told.

    places  by table, the first gfn that it covers and its level
    raws    entries that were told, in the order in which they occurred
    """

    scenario: Scenario
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    raws: list[int] = field(default_factory=list)

    @property
    def format(self) -> SpteFormat:
        """How CPUs read entries."""
        return EPT if self.scenario.hardware.ept else NPT

    def learn(self, cached: Cached) -> None:
        """Learn from what a vCPU holds where tables are."""
        for held in cached.held:
            self.places.setdefault(held.root, (0, self.scenario.root_level))
            if not held.leaf:
                self.places.setdefault(held.target, (held.gfn, held.level - 1))

    def follow(self, event: Event) -> None:
        """Learn from a write to an entry where the table is that it points to."""
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
        spte = signed(raw)
        if not is_present(spte):
            return "frozen" if is_frozen(spte) else "empty" if is_empty(spte) else f"{unsigned(spte):#x}"
        self.raws.append(raw)
        if is_table(spte):
            return f"T{table_of(spte)}"
        rights = spte & 7 if self.format.ept else spte & 3
        marks = " huge" if spte & LARGE else ""
        marks += "" if rights & 2 else " r/o" if rights else " aged"
        marks += " clean" if rights & 2 and self.format.ad and not spte & self.format.dirty else ""
        return f"pfn {int(spte_pfn(spte)):x}{marks}"

    def legend(self) -> list[str]:
        """What the short forms stand for, bit by bit."""
        found = []
        for raw in dict.fromkeys(self.raws):
            spte = signed(raw)
            level = 2 if is_table(spte) or spte & LARGE else 1
            found.append(f"{self.entry(raw)} = 0x{raw:x} ({describe(spte, level, self.format)})")
        return found


def signed(raw: int) -> int:
    """An SPTE as the MMU's own code has it."""
    return raw - (1 << 64) if raw >> 63 else raw


def is_table(spte: int) -> bool:
    """Does a present entry point to a page table?"""
    return bool(is_present(spte)) and not spte & LARGE and 0 <= spte_pfn(spte) - TABLES_FIRST < TABLES_MAX


def table_of(spte: int) -> int:
    """The number of the table that an entry points to."""
    return int(spte_pfn(spte)) - TABLES_FIRST


def is_told(event: Event) -> bool:
    """Is an access worth a row? Loads of words without a name that do not change are not."""
    return event.table >= 0 or event.kind != "load" or event.name not in ("", NAMELESS)


def access(event: Event, words: Words, more: int = 0) -> str:
    """What an access did; it stands for ``more`` entries that come after its own."""
    if event.kind in PLAIN:
        return PLAIN[event.kind]
    if event.kind in LOCKS:
        return LOCKS[event.kind].format(event.name or "a lock")
    if event.kind in PROMISES:
        return PROMISES[event.kind].format(gfns(event.before))
    if event.table >= 0 and event.kind in ("load", "store", "exchange", "compare-exchange", "and", "or"):
        return _entry(event, words, more)
    name = event.name or NAMELESS
    match event.kind:
        case "guest":
            return _guest(event)
        case "need_resched":
            return f"need_resched: {'yes' if event.after else 'no'}"
        case "allocation":
            return "an allocation fails" if event.after else "an allocation works"
        case "choose":
            return f"chooses {event.after}"
        case "alloc":
            return f"alloc T{event.table}" if event.table >= 0 else "alloc of a header"
        case "free":
            return f"free T{event.table}" if event.table >= 0 else "free of a header"
        case "send_ipi":
            return f"IPI to {name}"
        case "wait_ipi":
            return f"wait for IPI of {name}"
        case "flush_range":
            return f"flush of {name}"
        case "revoke":
            return f"PROMISE: pfn {event.before:x} is the host's"
        case "load":
            return f"read {name}: {event.before:#x}"
        case "refcount":
            return f"{name}: {event.before} -> {event.after}"
    return f"{event.kind} {name}: {event.before:#x} -> {event.after:#x}"


def _entry(event: Event, words: Words, more: int) -> str:
    name = words.place(event)
    if more:
        name = f"T{event.table}[{event.index}-{event.index + more}]"
    old, new = words.entry(event.before), words.entry(event.after)
    match event.kind:
        case "load":
            return f"read {name}: {old}"
        case "store":
            return f"write {name}: {old} -> {new}"
        case "exchange":
            return f"xchg {name}: {old} -> {new}"
        case "compare-exchange":
            return f"cmpxchg {name}: {old} -> {new}" if event.before != event.after else f"cmpxchg {name} fails: {old}"
    return f"{event.kind} {name}: {old} -> {new}"


def _guest(event: Event) -> str:
    if not event.before and not event.after:
        return "guest: interrupted, exits"
    gfn, code = event.before, event.after
    what = "writes" if code & WRITE else "runs code at" if code & FETCH else "reads"
    return f"guest: {what} gfn {gfn}"


def gfns(mask: int) -> str:
    """The gfns of a mask."""
    found = [str(gfn) for gfn in range(mask.bit_length()) if mask >> gfn & 1]
    return f"gfn{'s' * (len(found) > 1)} {', '.join(found) or 'none'}"


def cached(held: Held, words: Words) -> str:
    """A cached entry, as ``gfns 0-1 -> T1``."""
    pages = words.scenario.entries ** (held.level - 1)
    last = min(held.gfn + pages, words.scenario.entries**words.scenario.levels) - 1
    where = f"gfn {held.gfn}" if held.gfn == last else f"gfns {held.gfn}-{last}"
    if not held.leaf:
        return f"{where} -> T{held.target}"
    rights = "" if held.rights & 2 else " r/o"
    return f"{where} -> pfn {held.target:x}{rights}"
