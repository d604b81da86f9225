"""How schedules say things, of our MMU's accesses and of those of the kernel's C alike; short enough for a mail."""

from __future__ import annotations

from typing import Final

from ...machine import words
from ...mmu.access import FETCH, WRITE
from ...mmu.spte import (
    EPT,
    EPT_NO_AD,
    LARGE,
    NPT,
    SpteFormat,
    is_empty,
    is_frozen,
    is_mmio,
    is_present,
    spte_pfn,
    unsigned,
)
from ..program.guest import MAY_WRITE

NO_TABLE: Final = -1
PLAIN = {
    "read_lock": "read_lock({})", "read_unlock": "read_unlock({})", "write_wait": "write_lock({}) queues",
    "write_lock": "write_lock({}) got", "write_unlock": "write_unlock({})", "spin_lock": "spin_lock({})",
    "spin_unlock": "spin_unlock({})", "mutex_lock": "mutex_lock({})", "mutex_unlock": "mutex_unlock({})",
    "rcu_read_lock": "rcu_read_lock", "rcu_read_unlock": "rcu_read_unlock", "irq_disable": "interrupts off",
    "irq_enable": "interrupts on", "srcu_read_lock": "srcu_read_lock", "srcu_read_unlock": "srcu_read_unlock",
    "srcu_wait": "synchronize_srcu begins", "srcu_sync": "synchronize_srcu ends", "flush": "flush own TLB",
    "send_ipi": "IPI to {}", "wait_ipi": "wait for IPI of {}", "call_rcu": "call_rcu(free {})",
    "flush_range": "flush of {1} on {0}",
    "revoke": "PROMISE: {} is the host's", "forget": "PROMISE: {} forgotten",
    "watch": "PROMISE: writes of {} are logged", "unwatch": "log of {} given up",
    "harvest": "PROMISE: {} reported, writes from now on are logged", "protect": "PROMISE: nobody writes {}",
    "back": "PROMISE: {} is memory", "mmio": "{} passes for MMIO",
}  # fmt: skip
"""What a step did that is no access to a word; {}: the lock, vCPU, table or gfns."""
CHANGES = {
    "read": "read {0}: {1}", "write": "write {0} = {2}", "xchg": "xchg {0}: {1} -> {2}",
    "cmpxchg": "cmpxchg {0}: {1} -> {2}", "failed": "cmpxchg {0} fails: {1}", "and": "and {0}: {1} -> {2}",
    "or": "or {0}: {1} -> {2}", "get": "get {0}: {1} -> {2}", "put": "put {0}: {1} -> {2}",
    "drain": "{0} = {2} reaches memory",
}  # fmt: skip
"""What an access did to a word: {0} its name, {1} and {2} what was there and is."""
MODES = {words.OUTSIDE_GUEST_MODE: "OUTSIDE", words.IN_GUEST_MODE: "IN_GUEST", words.EXITING_GUEST_MODE: "EXITING"}
REQUESTS = (
    ("TLB_FLUSH", words.TLB_FLUSH), ("FREE_ROOTS", words.FREE_OBSOLETE_ROOTS),
    ("RING_SOFT_FULL", words.DIRTY_RING_SOFT_FULL), ("UPDATE_DIRTY_LOGGING", words.UPDATE_CPU_DIRTY_LOGGING),
)  # fmt: skip
RING = {0: "empty", 1: "dirty", 2: "given back"}
"""States of an entry of a dirty ring, by its flags."""
ABSENT, REFUSED, RESERVED = range(3)
"""Why a guest's access faults: nothing is mapped, the right is lacking, reserved bits are set."""
BREAKS = {
    "freed in reach": "runs the guest and can still walk into a page table that was freed",
    "revoked in reach": "runs the guest and reaches a page that the host has taken back",
    "writable in reach": "runs the guest and may write a page that nobody was to write any more",
    "stale": "runs the guest and may use a translation that was promised to be gone",
    "unknown in reach": "runs the guest and goes through an entry that KVM takes for none",
    "executable in reach": "runs the guest and may execute a huge page, though the NX mitigation is on",
    "other in reach": "runs the guest and reaches a page that the host never had there",
    "passes for mmio": "takes an access for one to MMIO, though the page has become memory",
    "use after free": "accesses a page table that was freed",
    "double free": "frees a page table that is free or queued for RCU",
    "still mapped": "lets a root map a page that was given back: the host would hear of it later",
    "overwritten": "overwrites, without looking, a leaf in which a CPU may set D, or a fault W, now",
}  # fmt: skip
"""The promise that a vCPU or a task broke."""
LEAKED = "Everything is at rest, and a page table is neither free nor linked: it leaked."


def change(verb: str, name: str, before: str, after: str) -> str:
    """What an access did to a word (``CHANGES``)."""
    return CHANGES[verb].format(name, before, after)


def plain(kind: str, *about: str) -> str:
    """What a step did that is no access to a word (``PLAIN``)."""
    return PLAIN[kind].format(*about)


def format_of(ept: bool, accessed: int) -> SpteFormat:
    """How CPUs read entries, those with a bit A or those without one."""
    return NPT if not ept else EPT if accessed else EPT_NO_AD


def entry(raw: int, table: int, rights: int, fmt: SpteFormat) -> str:
    """An SPTE in a few characters: ``T1`` (a table), ``pfn 40`` (a 4K leaf), ``pfn 40 huge``, ``frozen``, ``empty``.

    ``table``: the number of the table that it leads to, or NO_TABLE; ``rights``: bit 1 is that a CPU may write. In
    what is returned, ``clean``: D is clear in what may be written; ``old``: A is clear.
    """
    if not is_present(raw):
        if is_frozen(raw) or is_empty(raw):
            return "frozen" if is_frozen(raw) else "empty"
        return "mmio" if is_mmio(raw, fmt) else f"{unsigned(raw):#x}"
    old = " old" if fmt.accessed and not raw & fmt.accessed else ""
    if table != NO_TABLE:
        return f"T{table}{old}"
    marks = " huge" if raw & LARGE else ""
    marks += "" if rights & MAY_WRITE else " r/o" if rights else " aged"
    marks += " clean" if fmt.dirty and rights & MAY_WRITE and not raw & fmt.dirty else ""
    return f"pfn {int(spte_pfn(raw)):x}{marks}{old}"


def requests(mask: int) -> str:
    """What a vCPU is asked for."""
    return "+".join(text for text, bit in REQUESTS if mask & bit) or "0"


def value(name: str, raw: int) -> str:
    """The value of a word of that name; entries, lists and store buffers have words of their own."""
    if name.endswith(".mode"):
        return MODES.get(raw, str(raw))
    if name.endswith(".requests"):
        return requests(raw)
    if name.startswith("host pfn"):
        return "none" if raw < 0 or raw >> 63 else f"{raw:x}"
    if name.startswith("host may write"):
        return "yes" if raw else "no"
    if name.startswith("memslots generation"):
        return f"{raw & (1 << 63) - 1}" + (", in progress" if raw < 0 or raw >> 63 else "")
    if name.startswith("set of memslots"):
        return "a slot" if raw else "none"
    if ".ring[" in name:
        return RING.get(raw, str(raw))
    if name.endswith(".bitmap"):
        return f"{raw & (1 << 64) - 1:#x}"
    return str(raw)


def guest_faults(gfn: int, code: int, why: int) -> str:
    """A guest's access that ends in a fault."""
    what = guest_does(code)
    match why:
        case _ if why == REFUSED:
            return f"guest: {what} gfn {gfn}, is refused, exits"
        case _ if why == RESERVED:
            return f"guest: meets reserved bits at gfn {gfn}, exits"
    return f"guest: {'faults at' if what == 'reads' else what} gfn {gfn}, exits"


def guest_does(code: int) -> str:
    """What kind of access a guest's is."""
    return "writes" if code & WRITE else "runs code at" if code & FETCH else "reads"


def guest_writes(gfn: int) -> str:
    """A guest's write that faults nowhere."""
    return f"guest: writes gfn {gfn}"


def guest_marks(what: str, dirty: bool, table: int) -> str:
    """A CPU sets A, or D on a guest's write, in an entry of a table; ``what``: the gfns."""
    return f"guest: writes {what}; CPU sets D in T{table}" if dirty else f"guest: CPU sets A for {what} in T{table}"


GUEST_INTERRUPTED = "guest: interrupted, exits"


def gfns(mask: int) -> str:
    """The gfns of a mask."""
    found = [str(gfn) for gfn in range(mask.bit_length()) if mask >> gfn & 1]
    return f"gfn{'s' * (len(found) > 1)} {', '.join(found) or 'none'}"


def span(first: int, pages: int) -> str:
    """The gfns of a range."""
    return f"gfn {first}" if pages == 1 else f"gfns {first}-{first + pages - 1}"


def lost(written: int) -> str:
    """Writes that nobody logged."""
    return f"At rest: the guest wrote {gfns(written)} since the user was last told, and no log says so."
