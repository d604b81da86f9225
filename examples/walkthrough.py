"""One fault or one zap, step by step: every access of the MMU to shared memory, and the page tables before and after.

    python examples/walkthrough.py fault
    python examples/walkthrough.py zap

Tables have 4 entries and 3 levels here, so that all of them fit on a screen: an entry of level 3 covers 16 pages, one
of level 2 covers 4. The MMU's code is the same for tables of any size.
"""

from __future__ import annotations

import sys
from typing import Any

from shootdown.machine import words
from shootdown.machine.interface import Machine
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.notifier import kvm_zap_gfn_range
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import NPT, describe, is_empty, is_frozen, is_leaf, is_table, spte_pfn
from shootdown.mmu.vcpu import serve_faults

BITS, LEVELS = 2, 3
ENTRIES = 1 << BITS
UNTOLD = ("inc_not_zero", "need_resched", "list_next", "irq_disable", "irq_enable", "count")


def name_of(sptep: int) -> str:
    """An entry, by its table and its index."""
    return f"T{sptep >> BITS}[{sptep & ENTRIES - 1}]"


def text_of(spte: int) -> str:
    """An entry's value, as short as a line of steps needs it."""
    if is_empty(spte) or is_frozen(spte):
        return "frozen" if is_frozen(spte) else "empty"
    return f"pfn {spte_pfn(spte):x}" if spte & NPT.dirty else f"T{spte_pfn(spte)}"


def step(name: str, given: tuple[int, ...], result: Any) -> str:
    """A step in words, "" if it is nothing to tell of."""
    match name, given:
        case "read", (sptep,):
            return f"read {name_of(sptep)}: {text_of(result)}"
        case (("write" | "xchg"), (sptep, value)):
            return f"{name} {name_of(sptep)} = {text_of(value)}"
        case "cmpxchg", (sptep, old, value):
            return f"cmpxchg {name_of(sptep)}: {text_of(old)} -> {text_of(value)}"
        case "alloc_table", _:
            return f"alloc_table: T{result}"
        case (("call_rcu" | "free_table"), (table,)):
            return f"{name}(T{table})"
        case "spte_changed", (gfn, level, old, new):
            return f"  trace: gfn {gfn:x} level {level} {text_of(old)} -> {text_of(new)}"
        case (("load" | "store" | "fetch_or" | "fetch_add" | "exchange" | "fetch_clear"), (kind, *_)):
            shown = kind in (words.HOST_PFN, words.INVALIDATE_SEQ, words.VCPU_REQUESTS, words.VCPU_MODE)
            return f"{name} {words.KIND_NAMES[kind]}" if shown else ""
    return name


def telling(name: str) -> Any:
    """A method of a machine that passes the call on to another machine, and notes it."""

    def method(self: Any, *given: int) -> Any:
        result = getattr(self.inner, name)(*given)
        if name not in UNTOLD:
            self.steps.append(step(name, given, result))
        return result

    return method


PASSED_ON = {name: telling(name) for name in vars(Machine) if not name.startswith("_") and name != "bits"}
Told: Any = type("Told", (Machine,), {**PASSED_ON, "inc_not_zero": Machine.inc_not_zero})
"""A machine that passes every call on to ``inner`` and notes it in ``steps``."""


def picture(machine: Machine, table: int, level: int, indent: str = "  ") -> list[str]:
    """The entries of a table, and below each those of the table that it leads to."""
    lines = []
    sptes = [machine.read(table << BITS | index) for index in range(ENTRIES)]
    for index, spte in enumerate(sptes):
        if is_table(spte, level):
            lines.append(f"{indent}[{index}] T{spte_pfn(spte)}")
            lines += picture(machine, int(spte_pfn(spte)), level - 1, indent + "    ")
        elif is_leaf(spte, level):
            lines.append(f"{indent}[{index}] {describe(spte, level, NPT)}")
        elif index == 0 or sptes[index - 1] != spte:
            alike = (
                sptes[index:].index(next((other for other in sptes[index:] if other != spte), spte)) or ENTRIES - index
            )
            lines.append(f"{indent}[{index}{f'-{index + alike - 1}' if alike > 1 else ''}] {text_of(spte)}")
    return lines


def show(title: str, machine: Any) -> None:
    """Print the page tables."""
    root = machine.inner.load(words.VCPU_ROOT, 0)
    print(f"{title}:", *([f"  T{root}, the root", *picture(machine.inner, root, LEVELS, "    ")]), sep="\n")


def main(what: str) -> None:
    """Map two pages, then do what was asked for and tell of it."""
    machine = Told(BITS)
    machine.inner, machine.steps = NativeMachine(1, BITS), []
    kvm = Kvm(machine, NPT, BEHAVIOURS["5.17" if what == "zap" else "6.12"], POLICIES["rcu"], LEVELS, 1)
    machine.inner.vcpus.set_faults(0, [1, 5, 6] if what == "zap" else [1])
    serve_faults(kvm, 0, 0)
    show("before", machine)
    machine.steps.clear()
    if what == "zap":
        kvm_zap_gfn_range(kvm, 4, 8)
    else:
        machine.inner.vcpus.set_faults(0, [5])
        serve_faults(kvm, 0, 0)
    print(f"\n{what}:")
    # Entering the guest again, after the fault, is no part of it.
    steps = [line for line in machine.steps if line]
    ends = [n for n, line in enumerate(steps) if line.endswith("_unlock")]
    print(*(f"  {line}" for line in steps[: ends[-1] + 1]), sep="\n")
    print()
    show("after", machine)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "fault")
