"""Accesses, entries and broken promises in words, short enough for a mail."""

from __future__ import annotations

from typing import Any

from ..machine import words
from ..mmu.access import FETCH, WRITE
from ..mmu.spte import EPT, NPT, describe, is_empty, is_frozen, is_present, spte_pfn, unsigned
from . import layout, steps
from .access import BUFFERS
from .guest import ABSENT, DIRTIES, LACKING, MAY_WRITE, TOUCHES, WRITES, Act
from .model import Model
from .replay import Event

MODES = {words.OUTSIDE_GUEST_MODE: "OUTSIDE", words.IN_GUEST_MODE: "IN_GUEST", words.EXITING_GUEST_MODE: "EXITING"}
NAMES = {
    words.ROOT_COUNT: "T{}.root_count", words.ROOT_INVALID: "T{}.invalid", words.ROOT_SCHEDULED: "T{}.scheduled",
    words.INVALIDATE_SEQ: "invalidate_seq", words.INVALIDATE_IN_PROGRESS: "invalidate_in_progress",
    words.INVALIDATE_START: "invalidate_start", words.INVALIDATE_END: "invalidate_end",
    words.HOST_PFN: "host pfn of gfn {}", words.HOST_LEVEL: "host level of gfn {}",
    words.VCPU_MODE: "vCPU{}.mode", words.VCPU_REQUESTS: "vCPU{}.requests", words.VCPU_ROOT: "vCPU{}.root",
    words.SP_NX: "T{}.nx", words.SP_GFN: "T{}.gfn", words.SP_LEVEL: "T{}.level", words.SP_PARENT: "T{}.parent",
    words.SP_ROLE: "T{}.role", words.HOST_WRITABLE: "host may write gfn {}",
    words.SLOT_BASE: "slot{}.base", words.SLOT_PAGES: "slot{}.pages", words.SLOT_FLAGS: "slot{}.flags",
    words.SLOT_AS: "slot{}.as_id", words.SLOT_ORDER: "slot order {}", words.SLOTS_GENERATION: "slots generation",
    words.SP_NX_REFUSED: "T{}.nx_refused", words.SP_LISTED: "T{}.listed", words.INVALIDATIONS: "notifiers that run",
    words.VCPU_CPU: "vCPU{}.cpu", words.VCPU_PREV_ROOT: "previous root {}",
    words.RING_PUSHED: "vCPU{}.pushed", words.RING_RESET: "vCPU{}.reset",
}  # fmt: skip
LISTS = {words.ROOTS: "roots", words.NX_TABLES: "NX list"}
PLAIN = {
    steps.READ_LOCK: "read_lock(mmu_lock)",
    steps.READ_UNLOCK: "read_unlock(mmu_lock)",
    steps.WRITE_WAIT: "write_lock(mmu_lock) queues",
    steps.WRITE_LOCK: "write_lock(mmu_lock) got",
    steps.WRITE_UNLOCK: "write_unlock(mmu_lock)",
    steps.PAGES_LOCK: "spin_lock(pages_lock)",
    steps.PAGES_UNLOCK: "spin_unlock(pages_lock)",
    steps.RCU_LOCK: "rcu_read_lock",
    steps.RCU_UNLOCK: "rcu_read_unlock",
    steps.IRQ_DISABLE: "interrupts off",
    steps.IRQ_ENABLE: "interrupts on",
    steps.FLUSH: "flush own TLB",
    steps.SLOTS_LOCK: "mutex_lock(slots_lock)",
    steps.SLOTS_UNLOCK: "mutex_unlock(slots_lock)",
    steps.SRCU_LOCK: "srcu_read_lock",
    steps.SRCU_UNLOCK: "srcu_read_unlock",
    steps.SRCU_WAIT: "synchronize_srcu begins",
    steps.SRCU_SYNC: "synchronize_srcu ends",
}


def entry(model: Model, raw: int) -> str:
    """An SPTE in a few characters: ``T1`` (a table), ``pfn 40`` (a 4K leaf), ``pfn 40 2M``, ``frozen``, ``empty``."""
    if not is_present(raw):
        return "frozen" if is_frozen(raw) else "empty" if is_empty(raw) else f"{unsigned(raw):#x}"
    pfn = int(spte_pfn(raw))
    if model.setting.is_table(raw):
        return f"T{pfn}"
    hardware = model.setting.hardware
    marks = [" huge"] if raw & 0x80 else []
    marks += [] if hardware.rights(raw) & MAY_WRITE else [" r/o" if hardware.rights(raw) else " aged"]
    marks += [" clean"] if hardware.dirty and hardware.rights(raw) & MAY_WRITE and not raw & hardware.dirty else []
    return f"pfn {pfn:x}{''.join(marks)}"


def legend(model: Model, raws: list[int]) -> list[str]:
    """What the short forms stand for, bit by bit, in the order in which they occurred."""
    found = []
    fmt = EPT if model.setting.hardware.ept else NPT
    for raw in dict.fromkeys(raws):
        if is_present(raw):
            table = model.setting.is_table(raw)
            level = 2 if table or raw & 0x80 else 1
            found.append(f"{entry(model, raw)} = 0x{unsigned(raw):x} ({describe(raw, level, fmt)})")
    return found


def value(name: Any, raw: Any, model: Model) -> str:
    """A word's value; "?" of one that nobody reads, so that nobody kept it."""
    if raw is None:
        return "?"
    if isinstance(name, int):
        return entry(model, raw)
    kind = name[0]
    if kind == "list" and name[1] >= BUFFERS:
        return f"{len(raw)} stores"
    if kind == "list":
        return ",".join(f"T{table}" for table in raw) or "empty"
    if kind == words.VCPU_MODE:
        return MODES[raw]
    if kind == words.VCPU_REQUESTS:
        names = [("TLB_FLUSH", words.TLB_FLUSH), ("FREE_ROOTS", words.FREE_OBSOLETE_ROOTS)]
        return "+".join(text for text, bit in names if raw & bit) or "0"
    if kind == words.HOST_PFN:
        return "none" if raw < 0 else f"{raw:x}"
    if kind == words.VCPU_ROOT:
        return "none" if raw == words.NO_TABLE else f"T{raw}"
    return str(raw)


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
        return f"writes tracked at gfn {name[1] & 0xFFFF_FFFF_FFFF} L{name[1] >> 48}"
    if name[0] == words.RING_ENTRY:
        return f"vCPU{name[1] >> 32}.ring[{name[1] & 0xFFFF_FFFF}]"
    return NAMES[name[0]].format(name[1])


def access(event: Event, model: Model, places: dict[int, tuple[int, int]]) -> str:
    """What an access did."""
    at = event.node.access
    if at.step in PLAIN:
        return PLAIN[at.step]
    match at.step:
        case steps.UPDATE | steps.STORE:
            name = word(at.word, model, places)
            old, new = value(at.word, event.before, model), value(at.word, event.after, model)
            match at.verb:
                case "get":
                    return f"read {name}: {old}"
                case "next":
                    return f"next of {name}: {_table(event.result)}"
                case "put":
                    return f"write {name} = {new}"
                case "push" | "forward" | "empty" | "head":
                    return _buffered(event, model, places, name)
                case "cmpxchg" | "exchange":
                    if event.before != at.operands[0]:
                        return f"cmpxchg {name} fails: {old}"
                    return f"cmpxchg {name}: {old} -> {new}"
                case "inc":
                    return f"get {name}: {old} -> {new}"
                case "prepend" | "append":
                    return f"add T{at.operands[0]} to {name}"
                case "remove":
                    return f"take T{at.operands[0]} off {name}"
                case "or" if isinstance(at.word, tuple) and at.word[0] == words.VCPU_REQUESTS:
                    return f"request vCPU{at.word[1]}: {value(at.word, at.operands[0], model)}"
                case "xchg":
                    return f"xchg {name}: {old} -> {new}"
            return f"{name}: {old} -> {new}"
        case steps.ALLOC:
            return f"alloc {_table(event.result)}"
        case steps.FREE:
            return f"free T{at.number}"
        case steps.CALL_RCU:
            return f"call_rcu(free T{at.number})"
        case steps.GUEST:
            if event.result == 0:
                return "guest: interrupted, exits"
            return guest(model.acts[event.program][0][event.result - 1])
        case steps.SEND_IPI:
            return f"IPI to vCPU{at.number}"
        case steps.WAIT_IPI:
            return f"wait for IPI of vCPU{at.number}"
        case steps.CHOOSE:
            return "need_resched: " + ("yes" if event.result else "no")
        case steps.REVOKE:
            return f"PROMISE: pfn {at.number:x} is the host's"
        case steps.FORGET:
            start, end = model.setting.promises[at.number]
            return f"PROMISE: gfns {start} to {end - 1} forgotten"
        case steps.WATCH:
            return f"PROMISE: writes of {_gfns(at.number)} are logged"
        case steps.UNWATCH:
            return f"log of {_gfns(at.number)} given up"
        case steps.HARVEST:
            return f"PROMISE: {_gfns(at.number)} reported, writes from now on are logged"
        case steps.PROTECT:
            return f"PROMISE: nobody writes {_gfns(at.number)}"
    return steps.NAMES[at.step]


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
    what = "writes" if act.code & WRITE else "runs code at" if act.code & FETCH else "reads"
    match act.kind:
        case _ if act.kind == ABSENT:
            return f"guest: {'faults at' if what == 'reads' else what} gfn {act.gfn}, exits"
        case _ if act.kind == LACKING:
            return f"guest: {what} gfn {act.gfn}, is refused, exits"
        case _ if act.kind == WRITES:
            return f"guest: writes gfn {act.gfn}"
        case _ if act.kind == DIRTIES:
            return f"guest: writes gfn {act.gfn}; CPU sets D in T{act.table}"
        case _ if act.kind == TOUCHES:
            return f"guest: CPU sets A for gfn {act.gfn} in T{act.table}"
    return f"guest: meets reserved bits at gfn {act.gfn}, exits"


def _gfns(mask: int) -> str:
    gfns = [str(gfn) for gfn in range(mask.bit_length()) if mask >> gfn & 1]
    return f"gfn{'s' * (len(gfns) > 1)} {', '.join(gfns) or 'none'}"


def _table(number: int) -> str:
    return "none" if number < 0 else f"T{number}"


def entries_held(model: Model, state: int, vcpu: int) -> list[tuple[int, int]]:
    """(place, SPTE) of all that a vCPU may have cached in a state."""
    mask = model.field(state, int(model.t.p[layout.F_TLB]) + vcpu)
    return [each for bit, each in enumerate(model.held) if mask >> bit & 1]


def cached(model: Model, place: int, raw: int) -> str:
    """A cached entry, as ``gfns 0-1 -> T1``; the root is named where there are several."""
    tag, gfn, pages = model.span(place)
    gfns = f"gfn {gfn}" if pages == 1 else f"gfns {gfn}-{gfn + pages - 1}"
    root = f"root T{tag}: " if len({model.span(place)[0] for place, _ in model.held}) > 1 else ""
    return f"{root}{gfns} -> {entry(model, raw)}"


def held(model: Model, state: int, vcpu: int) -> list[str]:
    """What a vCPU may have cached in a state, in words."""
    return [cached(model, *each) for each in entries_held(model, state, vcpu)]


def broken(model: Model, kind: int, state: int, program: int) -> list[str]:
    """The broken promise in words, and what of the state proves it."""
    names = [each.name for each in model.setting.programs]
    match kind:
        case steps.ASSERTION:
            return [f"{names[program]}: {model.automata.nodes[model.node_of(state, program)].bug}."]
        case steps.USE_AFTER_FREE:
            return [f"{names[program]} accesses a page table that was freed."]
        case steps.DOUBLE_FREE:
            return [f"{names[program]} frees a page table that is free or queued for RCU."]
        case steps.DEADLOCK:
            stuck = [n for n in range(len(names)) if program >> n & 1]
            many = " and ".join([", ".join(names[n] for n in stuck[:-1]), names[stuck[-1]]][len(stuck) == 1 :])
            return [f"{many} can never go on: a deadlock.", *(_waits(model, state, n) for n in stuck)]
        case steps.LIVELOCK:
            rounds = " and ".join(name for n, name in enumerate(names) if program >> n & 1)
            return [f"From here {rounds} may go round for ever and never end, though all tasks take their turns."]
        case steps.LEAK:
            return ["Everything is at rest, and a page table is neither free nor linked: it leaked."]
        case steps.MISCOUNT:
            return ["Everything is at rest, and a root counts other references than those of its users."]
        case steps.LOST_WRITE:
            written = _gfns(model.field(state, int(model.t.p[layout.F_WRITTEN])))
            return [f"At rest: the guest wrote {written} since the user was last told, and no log says so."]
        case steps.STILL_MAPPED:
            return ["A root maps a page that was given back: the host would hear of it later."]
        case steps.OVERWRITTEN:
            return [
                f"{names[program]} overwrites, without looking, a leaf in which a CPU may set D, or a fault W, now."
            ]
    found = []
    for v in range(model.setting.vcpus):
        if model.automata.nodes[model.node_of(state, v)].access.step != steps.GUEST:
            continue
        proof = [
            cached(model, *each) for each in entries_held(model, state, v) if _breaks(model, kind, state, v, *each)
        ]
        if proof:
            found.append(f"{names[v]} runs the guest and {BREAKS[kind]}.")
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
BREAKS = {
    steps.FREED_IN_REACH: "can still walk into a page table that was freed",
    steps.REVOKED_IN_REACH: "reaches a page that the host has taken back",
    steps.WRITABLE_IN_REACH: "may write a page that nobody was to write any more",
    steps.STALE: "may use a translation that was promised to be gone",
}


def _breaks(model: Model, kind: int, state: int, vcpu: int, place: int, raw: int) -> bool:
    """Is this cached entry what breaks the promise?"""
    p = model.t.p
    first = int(spte_pfn(raw))
    flags = model.field(state, int(p[layout.F_FLAGS]) + vcpu)
    if kind == steps.FREED_IN_REACH:
        # The frame may have been given out again since: any table may be the one, once the vCPU is marked.
        return bool(flags & steps.HOLDS_FREED) and model.setting.is_table(raw)
    _, gfn, pages = model.span(place)
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
