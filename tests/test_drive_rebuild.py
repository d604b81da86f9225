"""Drive and rebuild agree: page tables rebuilt from what our MMU traces are those that it made."""

from __future__ import annotations

import io
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown.machine import words
from shootdown.machine.interface import Machine
from shootdown.machine.native import NativeMachine
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.kvm import Kvm
from shootdown.mmu.memory_region import set_memory_region
from shootdown.mmu.notifier import clear_flush_young, invalidate_range_end, invalidate_range_start, kvm_zap_gfn_range
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import EPT, NPT, PAGES, PRESENT, SpteFormat, is_leaf, unsigned
from shootdown.mmu.vcpu import serve_faults
from shootdown.mmu.zap import zap_all_fast
from shootdown.trace.history import follow
from shootdown.trace.text import read_text
from shootdown.trace.walk import runs
from tests.vms import entries

GFNS = 2048


def passed(name: str) -> Callable[..., object]:
    """A method that another machine's does."""

    def method(self: Telling, *arguments: int) -> object:
        return getattr(self.native, name)(*arguments)

    return method


class Telling(Machine):
    """A machine that notes what is traced as lines of tracefs, and leaves all else to another."""

    def __init__(self, native: NativeMachine) -> None:
        super().__init__(native.bits)
        self.native = native
        self.lines = ["# tracer: nop"]

    def tell(self, name: str, text: str) -> None:
        """An event, a microsecond after the one before."""
        seconds = f"{100 + len(self.lines) / 1e6:.6f}"
        self.lines.append(f"             vm-77      [000] ..... {seconds:>12}: {name}: {text}")

    def spte_changed(self, gfn: int, level: int, old: int, new: int) -> None:
        """The tracepoint of the kernel's name."""
        values = f"old_spte {unsigned(old):x} new_spte {unsigned(new):x}"
        self.tell("kvm_tdp_mmu_spte_changed", f"as id 0 gfn {gfn:x} level {level} {values}")


for method in vars(Machine):
    if not method.startswith("_") and method not in vars(Telling) and callable(getattr(Machine, method)):
        setattr(Telling, method, passed(method))

STEPS = st.lists(
    st.tuples(st.sampled_from(["fault", "log", "unmap", "zap", "all", "age"]), st.integers(0, GFNS - 1)), max_size=14
)


def do(machine: NativeMachine, telling: Telling, kvm: Kvm, step: str, gfn: int) -> None:
    """One operation."""
    end = min(gfn + 700, GFNS)
    match step:
        case "fault":
            machine.vcpus.set_faults(0, [gfn, gfn * 7 % GFNS])
            serve_faults(kvm, 0, 0)
        case "log":
            logged = machine.load(words.SLOT_FLAGS, 0)
            set_memory_region(kvm, 0, 0, 0, GFNS, logged ^ words.LOG_DIRTY_PAGES)
        case "unmap":
            invalidate_range_start(kvm, gfn, end, True)
            invalidate_range_end(kvm, gfn, end)
        case "zap":
            kvm_zap_gfn_range(kvm, gfn, end)
        case "age":
            clear_flush_young(kvm, gfn, end)
        case "all":
            telling.tell("kvm_mmu_zap_all_fast", "kvm-mmu-valid-gen 1 used_pages 0")
            zap_all_fast(kvm)
            machine.vcpus.set_faults(0, [])
            serve_faults(kvm, 0, 0)


@given(st.sampled_from(sorted(BEHAVIOURS)), st.sampled_from([NPT, EPT]), st.sampled_from([1, 2]), STEPS)
@settings(max_examples=30, deadline=None)
def test_what_is_rebuilt_is_what_was_driven(
    behaviour: str, fmt: SpteFormat, host_level: int, steps: list[tuple[str, int]]
) -> None:
    """Operations in any order: no finding, and at the end the same present entries, bit for bit."""
    machine = NativeMachine(slots=1, host_level=host_level)
    telling = Telling(machine)
    kvm = Kvm(telling, fmt, BEHAVIOURS[behaviour], POLICIES["rcu"], 4, 1, slots=1)
    set_memory_region(kvm, 0, 0, 0, GFNS, 0)
    for step, gfn in [("fault", 0), *steps, ("fault", 1)]:
        do(machine, telling, kvm, step, gfn)
    history = follow(read_text(io.BytesIO("\n".join([*telling.lines, ""]).encode()), "ours"), fmt)
    assert history.state.findings == []
    top = machine.load(words.VCPU_ROOT, 0)
    driven = {place: spte for place, spte in entries(machine, kvm, top, 4, 0) if spte & PRESENT}
    rebuilt = {}
    for guest in history.state.guests.values():
        for root in guest.roots:
            for run in runs(history.state, root, 0, GFNS - 1):
                apart = PAGES[run.level] if is_leaf(run.spte, run.level) else 0
                for n in range(run.count if run.spte & PRESENT else 0):
                    rebuilt[run.level, run.gfn + n * PAGES[run.level]] = run.spte + (n * apart << 12)
    assert rebuilt == driven
