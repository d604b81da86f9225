"""Accesses, entries and broken promises in words, short enough for a mail."""

from __future__ import annotations

from typing import Any

from ...machine import words
from ...mmu.dirty_ring import HARVESTED, PLACE, PUSHED
from ...mmu.spte import EPT, LARGE, NPT, describe, is_present, spte_pfn, unsigned
from ..program import steps
from ..program.access import BUFFERS
from ..program.amiss import KINDS, amiss
from ..program.guest import ABSENT, DIRTIES, LACKING, MAY_WRITE, UNKNOWN, WRITES, Act
from ..search import layout
from ..search.model import Model
from ..search.replay import Event
from . import phrases

NAMES = {
    words.ROOT_COUNT: "T{}.root_count", words.ROOT_INVALID: "T{}.invalid", words.ROOT_SCHEDULED: "T{}.scheduled",
    words.INVALIDATE_SEQ: "invalidate_seq", words.INVALIDATE_IN_PROGRESS: "invalidate_in_progress",
    words.INVALIDATE_START: "invalidate_start", words.INVALIDATE_END: "invalidate_end",
    words.HOST_PFN: "host pfn of gfn {}", words.HOST_LEVEL: "host level of gfn {}",
    words.VCPU_MODE: "vCPU{}.mode", words.VCPU_REQUESTS: "vCPU{}.requests", words.VCPU_ROOT: "vCPU{}.root",
    words.SP_NX: "T{}.nx", words.SP_GFN: "T{}.gfn", words.SP_LEVEL: "T{}.level", words.SP_PARENT: "T{}.parent",
    words.SP_ROLE: "T{}.role", words.HOST_WRITABLE: "host may write gfn {}",
    words.SLOT_BASE: "slot{}.base", words.SLOT_PAGES: "slot{}.pages", words.SLOT_FLAGS: "slot{}.flags",
    words.SLOT_AS: "slot{}.as_id", words.SLOT_ORDER: "slot order {}", words.SLOTS_GENERATION: "memslots generation",
    words.SP_NX_REFUSED: "T{}.nx_refused", words.SP_LISTED: "T{}.listed",
    words.INVALIDATIONS: "mn_active_invalidate_count",
    words.VCPU_CPU: "vCPU{}.cpu", words.VCPU_PREV_ROOT: "previous root {}",
    words.RING_PUSHED: "vCPU{}.pushed", words.RING_RESET: "vCPU{}.reset",
}  # fmt: skip
LISTS = {words.ROOTS: "roots", words.NX_TABLES: "NX list"}
MMU_LOCK, PAGES_LOCK, SLOTS_LOCK = "mmu_lock", "pages_lock", "slots_lock"
PLAIN = {
    steps.READ_LOCK: ("read_lock", MMU_LOCK), steps.READ_UNLOCK: ("read_unlock", MMU_LOCK),
    steps.WRITE_WAIT: ("write_wait", MMU_LOCK), steps.WRITE_LOCK: ("write_lock", MMU_LOCK),
    steps.WRITE_UNLOCK: ("write_unlock", MMU_LOCK), steps.PAGES_LOCK: ("spin_lock", PAGES_LOCK),
    steps.PAGES_UNLOCK: ("spin_unlock", PAGES_LOCK), steps.SLOTS_LOCK: ("mutex_lock", SLOTS_LOCK),
    steps.SLOTS_UNLOCK: ("mutex_unlock", SLOTS_LOCK), steps.RCU_LOCK: ("rcu_read_lock", ""),
    steps.RCU_UNLOCK: ("rcu_read_unlock", ""), steps.IRQ_DISABLE: ("irq_disable", ""),
    steps.IRQ_ENABLE: ("irq_enable", ""), steps.FLUSH: ("flush", ""), steps.SRCU_LOCK: ("srcu_read_lock", ""),
    steps.SRCU_UNLOCK: ("srcu_read_unlock", ""), steps.SRCU_WAIT: ("srcu_wait", ""), steps.SRCU_SYNC: ("srcu_sync", ""),
}  # fmt: skip
PROMISES = {steps.WATCH: "watch", steps.UNWATCH: "unwatch", steps.HARVEST: "harvest", steps.PROTECT: "protect",
            steps.BACK: "back"}  # fmt: skip
FREED = object()
"""What an access finds that uses a table after it was freed."""
FAULTS = {ABSENT: phrases.ABSENT, LACKING: phrases.REFUSED, UNKNOWN: phrases.RESERVED}
VERBS = {"get": "read", "put": "write", "xchg": "xchg", "and": "and", "clear": "and", "or": "or", "inc": "get"}


def entry(model: Model, raw: int) -> str:
    """An SPTE in a few characters (phrases.py)."""
    table = int(spte_pfn(raw)) if is_present(raw) and model.setting.is_table(raw) else phrases.NO_TABLE
    hardware = model.setting.hardware
    return phrases.entry(raw, table, hardware.rights(raw), phrases.format_of(hardware.ept, hardware.accessed))


def legend(model: Model, raws: list[int]) -> list[str]:
    """What the short forms stand for, bit by bit, in the order in which they occurred."""
    found = []
    fmt = EPT if model.setting.hardware.ept else NPT
    for raw in dict.fromkeys(raws):
        if is_present(raw):
            table = model.setting.is_table(raw)
            level = 2 if table or raw & LARGE else 1
            found.append(f"{entry(model, raw)} = 0x{unsigned(raw):x} ({describe(raw, level, fmt)})")
    return found


def value(name: Any, raw: Any, model: Model) -> str:
    """A word's value; "?" of one that nobody reads, so that nobody kept it."""
    if raw is None:
        return "?"
    if raw is FREED:
        return "freed memory"
    if isinstance(name, int):
        return entry(model, raw)
    if name[0] == "list":
        return f"{len(raw)} stores" if name[1] >= BUFFERS else ",".join(f"T{table}" for table in raw) or "empty"
    if name[0] == words.VCPU_ROOT:
        return "none" if raw == words.NO_TABLE else f"T{raw}"
    if name[0] == words.RING_ENTRY:
        return ring_entry(raw)
    return phrases.value(word(name, model, {}), raw)


def ring_entry(raw: int) -> str:
    """An entry of a dirty ring: whose turn it is, and the page."""
    state = phrases.RING[(1 if raw & PUSHED else 0) | (2 if raw & HARVESTED else 0)]
    place = raw & PLACE
    return f"{state}, slot{place >> 32} page {place & 0xFFFF_FFFF}" if raw else state


def word(name: Any, model: Model, places: dict[int, tuple[int, int]]) -> str:
    """A word's name; of an SPTE its gfn and level, where its table has ever been linked, and its table and index."""
    if isinstance(name, int):
        table, index = divmod(name, model.entries)
        place = places.get(table)
        if place is None:
            return f"T{table}[{index}]"
        gfn, level = place
        return f"gfn {gfn + index * model.entries ** (level - 1)} L{level}"
    if name[0] == "list" and name[1] >= BUFFERS:
        return f"store buffer of {model.setting.programs[name[1] - BUFFERS].name}"
    if name[0] == "list":
        return LISTS[name[1]]
    if name[0] == words.DIRTY:
        return f"slot{name[1] >> 32}.bitmap"
    if name[0] == words.WRITE_TRACKED:
        return f"track count of gfn {name[1] & 0xFFFF_FFFF_FFFF} L{name[1] >> 48}"
    if name[0] == words.RING_ENTRY:
        return f"vCPU{name[1] >> 32}.ring[{name[1] & 0xFFFF_FFFF}]"
    return NAMES[name[0]].format(name[1])


def access(event: Event, model: Model, places: dict[int, tuple[int, int]]) -> str:
    """What an access did."""
    at = event.node.access
    if at.step in PLAIN:
        return phrases.plain(*PLAIN[at.step])
    if at.step in PROMISES:
        return phrases.plain(PROMISES[at.step], phrases.gfns(at.number))
    match at.step:
        case steps.UPDATE | steps.STORE:
            return _change(event, model, places)
        case steps.ALLOC:
            return f"alloc {_table(event.result)}"
        case steps.FREE:
            return f"free T{at.number}"
        case steps.CALL_RCU:
            return phrases.plain("call_rcu", f"T{at.number}")
        case steps.GUEST:
            if event.result == 0:
                return phrases.GUEST_INTERRUPTED
            return guest(model.acts[event.program][0][event.result - 1])
        case steps.MMIO:
            return phrases.plain("mmio", f"gfn {at.number}")
        case steps.SEND_IPI:
            return phrases.plain("send_ipi", f"vCPU{at.number}")
        case steps.WAIT_IPI:
            return phrases.plain("wait_ipi", f"vCPU{at.number}")
        case steps.FLUSH_RANGE:
            left, first, pages = at.operands
            return phrases.plain("flush_range", f"vCPU{left[event.result]}", phrases.span(first, pages))
        case steps.CHOOSE:
            return "need_resched: " + ("yes" if event.result else "no")
        case steps.REVOKE:
            return phrases.plain("revoke", f"pfn {at.number:x}")
        case steps.FORGET:
            start, end = model.setting.promises[at.number]
            return phrases.plain("forget", phrases.span(start, end - start))
    return steps.NAMES[at.step]


def _change(event: Event, model: Model, places: dict[int, tuple[int, int]]) -> str:
    """What an access did to a word."""
    at = event.node.access
    name = word(at.word, model, places)
    old, new = value(at.word, event.before, model), value(at.word, event.after, model)
    match at.verb:
        case "next":
            return f"next of {name}: {_table(event.result)}"
        case "push" | "forward" | "empty" | "head":
            return _buffered(event, model, places, name)
        case "cmpxchg" | "exchange":
            return phrases.change("cmpxchg" if event.before == at.operands[0] else "failed", name, old, new)
        case "prepend" | "append":
            return f"add T{at.operands[0]} to {name}"
        case "remove":
            return f"take T{at.operands[0]} off {name}"
        case "or" if isinstance(at.word, tuple) and at.word[0] == words.VCPU_REQUESTS:
            return f"request vCPU{at.word[1]}: {value(at.word, at.operands[0], model)}"
        case "add" if isinstance(at.word, tuple) and at.word[0] == words.ROOT_COUNT:
            return phrases.change("put" if at.operands[0] < 0 else "get", name, old, new)
    return phrases.change(VERBS[at.verb], name, old, new) if at.verb in VERBS else f"{name}: {old} -> {new}"


def _buffered(event: Event, model: Model, places: dict[int, tuple[int, int]], buffer: str) -> str:
    """What an access to a store buffer did."""
    at = event.node.access
    about = word(at.operands[0], model, places) if at.operands else ""
    match at.verb:
        case "push":
            text = f"write {about} = {value(at.operands[0], at.operands[1], model)}"
            return f"{text}, buffered" if event.result else f"{text} waits: buffer full"
        case "forward":
            if event.result is None:
                return f"{about} is not buffered"
            return f"read {about}: {value(at.operands[0], event.result, model)}, buffered"
        case "empty":
            return f"barrier: {buffer} {'empty' if event.result else 'not empty'}"
    return f"oldest of {buffer}" if event.result else f"{buffer} empty"


def guest(act: Act) -> str:
    """What a guest did, other than being interrupted."""
    match act.kind:
        case _ if act.kind in FAULTS:
            return phrases.guest_faults(act.gfn, act.code, FAULTS[act.kind])
        case _ if act.kind == WRITES:
            return phrases.guest_writes(act.gfn)
    return phrases.guest_marks(f"gfn {act.gfn}", act.kind == DIRTIES, act.table)


def _table(number: int) -> str:
    return "none" if number < 0 else f"T{number}"


def entries_held(model: Model, state: int, vcpu: int) -> list[tuple[int, int]]:
    """(place, SPTE) of all that a vCPU may have cached in a state."""
    mask = model.field(state, int(model.t.p[layout.F_TLB]) + vcpu)
    return [each for bit, each in enumerate(model.held) if mask >> bit & 1]


def cached(model: Model, place: int, raw: int) -> str:
    """A cached entry, as ``gfns 0-1 -> T1``; the root is named where there are several."""
    tag, gfn, pages = model.span(place)
    root = f"root T{tag}: " if len({model.span(place)[0] for place, _ in model.held}) > 1 else ""
    return f"{root}{phrases.span(gfn, pages)} -> {entry(model, raw)}"


def held(model: Model, state: int, vcpu: int) -> list[str]:
    """What a vCPU may have cached in a state, in words."""
    return [cached(model, *each) for each in entries_held(model, state, vcpu)]


def broken(model: Model, kind: int, state: int, program: int) -> list[str]:
    """The broken promise in words, and what of the state proves it."""
    names = [each.name for each in model.setting.programs]
    match kind:
        case steps.ASSERTION:
            return [f"{names[program]}: {model.automata.nodes[model.node_of(state, program)].bug}."]
        case _ if kind in OF_A_TASK:
            return [f"{names[program]} {phrases.BREAKS[OF_A_TASK[kind]]}."]
        case steps.DEADLOCK:
            *some, last = [n for n in range(len(names)) if program >> n & 1]
            who = f"{', '.join(names[n] for n in some)} and {names[last]}" if some else names[last]
            return [f"{who} can never go on: a deadlock.", *(_waits(model, state, n) for n in (*some, last))]
        case steps.LIVELOCK:
            who = " and ".join(name for n, name in enumerate(names) if program >> n & 1)
            return [f"From here {who} may go round for ever and never end, though all tasks take their turns."]
        case steps.LEAK:
            return [phrases.LEAKED]
        case steps.MISCOUNT:
            return ["Everything is at rest, and a root counts other references than those of its users."]
        case steps.LOST_WRITE:
            return [phrases.lost(model.field(state, int(model.t.p[layout.F_WRITTEN])))]
    found = []
    for v in range(model.setting.vcpus):
        if model.automata.nodes[model.node_of(state, v)].access.step != steps.GUEST:
            continue
        proof = [
            cached(model, *each) for each in entries_held(model, state, v) if _breaks(model, kind, state, v, *each)
        ]
        if proof:
            found.append(f"{names[v]} {phrases.BREAKS[OF_A_VCPU[kind]]}.")
            found.append(f"It may have cached {'; '.join(proof)}.")
    return found


def _waits(model: Model, state: int, program: int) -> str:
    """What a program in a deadlock waits for."""
    at = model.automata.nodes[model.node_of(state, program)].access
    what = f"vCPU{at.number} to take its interrupt" if at.step == steps.WAIT_IPI else WAITS.get(at.step, "a lock")
    return f"{model.setting.programs[program].name} waits for {what}."


WAITS = {
    steps.READ_LOCK: "mmu_lock, to read", steps.WRITE_LOCK: "mmu_lock, to write", steps.PAGES_LOCK: "the pages lock",
    steps.SLOTS_LOCK: "slots_lock", steps.SRCU_SYNC: "SRCU sections to end",
}  # fmt: skip
OF_A_TASK = {
    steps.USE_AFTER_FREE: "use after free", steps.DOUBLE_FREE: "double free", steps.STILL_MAPPED: "still mapped",
    steps.OVERWRITTEN: "overwritten", steps.PASSES_FOR_MMIO: "passes for mmio",
}  # fmt: skip
OF_A_VCPU = {
    steps.FREED_IN_REACH: "freed in reach", steps.REVOKED_IN_REACH: "revoked in reach",
    steps.WRITABLE_IN_REACH: "writable in reach", steps.STALE: "stale", steps.UNKNOWN_IN_REACH: "unknown in reach",
    steps.EXECUTABLE_IN_REACH: "executable in reach", steps.OTHER_IN_REACH: "other in reach",
}  # fmt: skip


def _breaks(model: Model, kind: int, state: int, vcpu: int, place: int, raw: int) -> bool:
    """Is this cached entry what breaks the promise?"""
    p = model.t.p
    first = int(spte_pfn(raw))
    flags = model.field(state, int(p[layout.F_FLAGS]) + vcpu)
    if kind == steps.FREED_IN_REACH:
        # The frame may have been given out again since: any table may be the one, once the vCPU is marked.
        return bool(flags & steps.HOLDS_FREED) and model.setting.is_table(raw)
    _, gfn, pages = model.span(place)
    if kind in KINDS:
        return amiss(model.setting, raw, range(gfn, gfn + pages)) == kind
    if kind == steps.REVOKED_IN_REACH:
        revoked = model.field(state, int(p[layout.F_REVOKED]))
        return not model.setting.is_table(raw) and any(
            first <= pfn < first + pages for n, pfn in enumerate(model.revoked) if revoked >> n & 1
        )
    if kind == steps.WRITABLE_IN_REACH:
        protected = model.field(state, int(p[layout.F_PROTECTED])) >> gfn & (1 << pages) - 1
        return protected != 0 and bool(model.setting.hardware.rights(raw) & MAY_WRITE)
    promised = model.setting.promises
    return (
        bool(flags & steps.HOLDS_STALE)
        and not model.setting.is_table(raw)
        and any(gfn < end and start < gfn + pages for start, end in promised)
    )
