"""Accesses, entries and broken promises in words, short enough for a mail."""

from __future__ import annotations

from typing import Any

from ..machine import words
from ..mmu.spte import NPT, describe, is_empty, is_frozen, is_present, spte_pfn, unsigned
from . import layout, steps
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
    words.SP_NX_REFUSED: "T{}.nx_refused", words.INVALIDATIONS: "notifiers that run",
    words.VCPU_CPU: "vCPU{}.cpu", words.VCPU_PREV_ROOT: "previous root {}", words.WRITE_TRACKED: "tracked {:x}",
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
}


def entry(model: Model, raw: int) -> str:
    """An SPTE in a few characters: ``T1`` (a table), ``pfn 40`` (a 4K leaf), ``pfn 40 2M``, ``frozen``, ``empty``."""
    if not is_present(raw):
        return "frozen" if is_frozen(raw) else "empty" if is_empty(raw) else f"{unsigned(raw):#x}"
    pfn = int(spte_pfn(raw))
    if model.setting.is_table(raw):
        return f"T{pfn}"
    return f"pfn {pfn:x}" + (" huge" if raw & 0x80 else "")


def legend(model: Model, raws: list[int]) -> list[str]:
    """What the short forms stand for, bit by bit, in the order in which they occurred."""
    found = []
    for raw in dict.fromkeys(raws):
        if is_present(raw):
            table = model.setting.is_table(raw)
            level = 2 if table or raw & 0x80 else 1
            found.append(f"{entry(model, raw)} = 0x{unsigned(raw):x} ({describe(raw, level, NPT)})")
    return found


def value(name: Any, raw: Any, model: Model) -> str:
    """A word's value; "?" of one that nobody reads, so that nobody kept it."""
    if raw is None:
        return "?"
    if isinstance(name, int):
        return entry(model, raw)
    kind = name[0]
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
    if name[0] == "list":
        return LISTS[name[1]]
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
                case "cmpxchg" | "exchange":
                    if event.before != at.operands[0]:
                        return f"cmpxchg {name} fails: {old}"
                    return f"cmpxchg {name}: {old} -> {new}"
                case "inc":
                    return f"get {name}: {old} -> {new}"
                case "append":
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
            gfn, _ = model.setting.programs[event.program].faults[event.result - 1]
            return f"guest: faults at gfn {gfn}, exits"
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
    return steps.NAMES[at.step]


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


def broken(model: Model, kind: int, state: int, program: int, bug: str) -> list[str]:
    """The broken promise in words, and what of the state proves it."""
    names = [each.name for each in model.setting.programs]
    match kind:
        case steps.ASSERTION:
            return [f"{names[program]}: {bug}."]
        case steps.USE_AFTER_FREE:
            return [f"{names[program]} accesses a page table that was freed."]
        case steps.DOUBLE_FREE:
            return [f"{names[program]} frees a page table that is free or queued for RCU."]
        case steps.DEADLOCK:
            return ["No task can go on: a deadlock."]
        case steps.LEAK:
            return ["Everything is at rest, and a page table is neither free nor linked: it leaked."]
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


BREAKS = {
    steps.FREED_IN_REACH: "can still walk into a page table that was freed",
    steps.REVOKED_IN_REACH: "reaches a page that the host has taken back",
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
    promised = model.setting.promises
    return (
        bool(flags & steps.HOLDS_STALE)
        and not model.setting.is_table(raw)
        and any(gfn < end and start < gfn + pages for start, end in promised)
    )
