"""How to record such a trace on one's own host: which events and kprobes, why each, and the shell lines that do it.

Source: arch/x86/kvm/mmu/tdp_mmu.c, mmu.c, mmutrace.h, svm/svm.c, vmx/vmx.c and virt/kvm/kvm_main.c of 6.1.192 and
6.12.117; which probes these kernels refused or left silent was seen when recording on Debian's builds of them. What
later kernels renamed: tdp_mmu.h of 6.13.7, 6.14.0 and 6.18.2.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import InputError

Vendor = Literal["amd", "intel"] | None
Need = Literal["must", "adds"]

CLOCK: Final = "local"
"""Cheapest, and what is recorded of one CPU is in order by it whatever the host's TSC does."""
BUFFER_KB: Final = 4096
"""Ring buffer of each CPU, in KiB: held every workload that was tried, with 2 to 4 busy CPUs."""
TRACEFS: Final = "/sys/kernel/tracing"
TRIED: Final = {"6.1": "6.1.192", "6.12": "6.12.117"}
"""Kernels on which the probes were tried, and Debian's build of each that the offsets are of."""
FIRST: Final = (5, 10)
"""The first release with a TDP MMU."""


@dataclass(slots=True, frozen=True)
class Event:
    """A tracepoint that the analysis uses.

    need      "must": without it there is no answer; "adds": without it an answer is inferred, or less is told
    kernels   the tried kernels that have it
    per_exit  comes with every exit of a vCPU, so that it costs the most by far
    """

    name: str
    reason: str
    need: Need = "adds"
    kernels: tuple[str, ...] = ("6.1", "6.12")
    per_exit: bool = False


@dataclass(slots=True, frozen=True)
class Probe:
    """A kprobe on a function's entry, and on its return if ``returns`` is not None.

    args     arguments that every kernel has which has the function, as far as known: its registers, fields of structs
             that user space shares, and the first field of a vCPU, which is its VM
    tried    arguments known for the tried kernels only, mostly offsets into kernel structs; a pair where 6.1 and 6.12
             differ
    returns  arguments of the return probe
    refused  tried kernels that refuse it: inlined away there, or a function of other releases
    quiet    why a recording may show no hit though the probe is in place
    whole    a hit says nothing, or something wrong, without the arguments in ``tried``
    """

    name: str
    reason: str
    args: str = ""
    tried: str | tuple[str, str] = ""
    returns: str | None = None
    need: Need = "adds"
    refused: tuple[str, ...] = ()
    quiet: str = ""
    vendor: Vendor = None
    whole: bool = False


# fmt: off
EVENTS: Final = (
    Event("kvmmmu:kvm_tdp_mmu_spte_changed", "changes of SPTEs: the page tables are rebuilt from them", "must"),
    Event("kvmmmu:fast_page_fault", "faults fixed without a lock change an SPTE and have no other event"),
    Event("kvmmmu:kvm_mmu_spte_requested", "begins a fault where kvm_tdp_mmu_map has no probe"),
    Event("kvmmmu:kvm_mmu_set_spte", "ends that fault, and checks what the rebuilt table holds"),
    Event("kvmmmu:kvm_mmu_get_page", "a table was made; the only event of a new root"),
    Event("kvmmmu:kvm_mmu_prepare_zap_page", "a table was unlinked"),
    Event("kvmmmu:kvm_mmu_split_huge_page", "a huge page was split: its 512 children have no events"),
    Event("kvmmmu:kvm_mmu_zap_all_fast", "all roots are given up at once, without a flush"),
    Event("kvm:kvm_unmap_hva_range", "the host takes memory back, where the notifier has no probe"),
    Event("kvm:kvm_age_hva", "the host asks which pages are young, where the notifier has no probe"),
    Event("kvm:kvm_set_spte_hva", "the host replaces a page, where the notifier has no probe", kernels=("6.1",)),
    Event("kvm:kvm_dirty_ring_reset", "dirty rings were harvested, which protects pages and flushes"),
    Event("kvm:kvm_entry", "which vCPUs run: how many a flush interrupts", per_exit=True),
    Event("kvm:kvm_exit", "the same; its field isa tells EPT from NPT", per_exit=True),
)
"""Tracepoints; ``-e kvmmmu`` takes the rest of that group along."""

KVM: Final = "kvm=$arg1:x64"
NOTIFIER: Final = "mn=$arg1:x64"
VCPU: Final = "kvm=+0($arg1):x64"
VCPU_ID: Final = "vcpu_id=+36($arg1):s32"
RANGE: Final = "start=+8($arg2):x64 end=+16($arg2):x64 as_id=+262(+0($arg2)):u16"
ROOT: Final = "root=$arg2:x64"
ROLE: Final = "role=+36($arg2):x32"
RET_BOOL: Final = "ret=$retval:u8"
RET_INT: Final = "ret=$retval:s32"

PROBES: Final = (
    # Flushes, and which VM a vCPU thread works for.
    Probe("kvm_flush_remote_tlbs", "every remote flush passes here, and no event tells of it", KVM, need="must"),
    Probe("svm_flush_tlb_current", "a vCPU flushes for a new root: tells the thread's VM", VCPU, VCPU_ID, vendor="amd"),
    Probe("svm_flush_tlb_all", "a vCPU serves a flush request: tells the thread's VM", VCPU, VCPU_ID, vendor="amd"),
    Probe("svm_flush_tlb_asid", "either of them, and others: tells the thread's VM", VCPU, VCPU_ID, vendor="amd"),
    Probe("vmx_flush_tlb_current", "a vCPU flushes for a new root: tells the thread's VM", VCPU, VCPU_ID,
          vendor="intel", quiet="never tried: read in the sources, no Intel host was at hand"),
    Probe("vmx_flush_tlb_all", "a vCPU serves a flush request: tells the thread's VM", VCPU, VCPU_ID,
          vendor="intel", quiet="never tried: read in the sources, no Intel host was at hand"),
    Probe("kvm_tdp_mmu_get_vcpu_root_hpa", "a vCPU loads a root: tells the thread's VM", VCPU, VCPU_ID,
          refused=("6.12",)),
    Probe("kvm_tdp_mmu_alloc_root", "a vCPU loads a root: tells the thread's VM", VCPU, VCPU_ID, refused=("6.1",)),
    # Faults.
    Probe("kvm_tdp_mmu_map", "a fault that takes the lock, from here to its return", VCPU,
          (f"{VCPU_ID} gfn=+24($arg2):x64", f"{VCPU_ID} gfn=+32($arg2):x64"), RET_INT),
    # Roots and tables that go away.
    Probe("kvm_tdp_mmu_put_root", "a reference to a root is dropped, perhaps the last one", f"{KVM} {ROOT}",
          f"{ROLE} refs=+64($arg2):s32"),
    Probe("kvm_tdp_mmu_invalidate_all_roots", "from here on no vCPU may enter with an old root", KVM),
    Probe("kvm_tdp_mmu_zap_invalidated_roots", "the given up roots are emptied", KVM, returns=""),
    Probe("kvm_tdp_mmu_zap_all", "all roots of a dying VM are emptied", KVM, returns=""),
    Probe("__tdp_mmu_zap_root", "names the root that is being emptied, and each pass", f"{KVM} {ROOT} level=$arg4:s32",
          ROLE),
    Probe("tdp_mmu_free_sp_rcu_callback", "the memory of a removed table goes back: may anything still use it?",
          "head=$arg1:x64", "gfn=-128($arg1):x64 role=-132($arg1):x32 spt=-120($arg1):x64", whole=True),
    # Zapping of ranges.
    Probe("kvm_tdp_mmu_unmap_gfn_range", "the host takes memory back: its share in one VM", KVM, RANGE, RET_BOOL),
    Probe("tdp_mmu_zap_leafs", "names the root whose leaves go; a flush inside is one before giving way",
          f"{KVM} {ROOT} start=$arg3:x64 end=$arg4:x64", ROLE, RET_BOOL),
    Probe("kvm_tdp_mmu_zap_leafs", "a range is zapped for KVM's own purposes", KVM,
          "start=$arg2:x64 end=$arg3:x64", RET_BOOL, quiet="as kvm_zap_gfn_range, which calls it"),
    Probe("kvm_zap_gfn_range", "a range is zapped for KVM's own purposes", f"{KVM} start=$arg2:x64 end=$arg3:x64",
          quiet="only for APICv, non-coherent DMA and the like"),
    Probe("kvm_tdp_mmu_zap_sp", "a table goes so that its huge page may come back (NX)", KVM,
          f"gfn=+40($arg2):x64 {ROLE}", RET_BOOL, quiet="only with nx_huge_pages on, when the worker runs"),
    # Notifiers of the host's memory management.
    Probe("kvm_mmu_notifier_invalidate_range_start", "the host takes memory back, from here to the return", NOTIFIER,
          returns=RET_INT),
    Probe("kvm_mmu_notifier_clear_flush_young", "ageing that flushes for a young page", NOTIFIER,
          quiet="only when the host reclaims memory"),
    Probe("kvm_mmu_notifier_clear_young", "ageing that leaves the flush out", NOTIFIER,
          quiet="only with idle page tracking or DAMON"),
    Probe("kvm_mmu_notifier_change_pte", "the host replaces a page: copy on write, KSM", NOTIFIER, refused=("6.12",)),
    Probe("kvm_tdp_mmu_age_gfn_range", "ageing: its share in one VM", KVM, RANGE, RET_BOOL,
          quiet="only when the host reclaims or watches memory"),
    # Dirty logging and huge pages.
    Probe("kvm_get_dirty_log_protect", "the dirty log is read; one flush at most until it returns",
          f"{KVM} slot=+0($arg2):x32", returns=RET_INT),
    Probe("kvm_clear_dirty_log_protect", "the dirty log is cleared; one flush at most until it returns",
          f"{KVM} slot=+0($arg2):x32 num=+4($arg2):u32 first=+8($arg2):x64", returns=RET_INT),
    Probe("kvm_tdp_mmu_clear_dirty_pt_masked", "up to 64 pages were found dirty, which is what decides on the flush",
          f"{KVM} gfn=$arg3:x64 mask=$arg4:x64", "as_id=+262($arg2):u16"),
    Probe("kvm_tdp_mmu_wrprot_slot", "a slot is write-protected: dirty logging begins", KVM, returns=RET_BOOL),
    Probe("kvm_tdp_mmu_clear_dirty_slot", "D bits of a slot are cleared: dirty logging begins", KVM,
          quiet="only with Intel's PML"),
    Probe("kvm_tdp_mmu_write_protect_gfn", "one page is write-protected", f"{KVM} gfn=$arg3:x64"),
    Probe("kvm_tdp_mmu_try_split_huge_pages", "huge pages are split before a fault needs it", KVM, returns=""),
    Probe("kvm_tdp_mmu_zap_collapsible_sptes", "dirty logging ended: huge pages may come back", KVM, returns=""),
    Probe("kvm_tdp_mmu_recover_huge_pages", "the same from 6.13 on", KVM, refused=("6.1", "6.12")),
    # Memory slots and VMs.
    Probe("__kvm_set_memory_region", "a memory slot is made, changed or deleted, from here to the return",
          f"{KVM} slot=+0($arg2):x32 flags=+4($arg2):x32 gpa=+8($arg2):x64 size=+16($arg2):x64", returns=RET_INT),
    Probe("kvm_arch_flush_shadow_memslot", "the slot is deleted or moved", KVM),
    Probe("kvm_arch_flush_shadow_all", "the VM's memory is going away", KVM),
    Probe("kvm_arch_init_vm", "a VM begins", KVM),
    Probe("kvm_destroy_vm", "a VM ends", KVM),
)
"""Kprobes, by what they tell."""

NOT_RECORDED: Final = {
    "kprobes:handle_changed_spte": "doubles the changes' events; the other probes tell the VM as well (6.12)",
    "kprobes:__handle_changed_spte": "doubles the changes' events; the other probes tell the VM as well (6.1)",
    "kprobes:kvm_mmu_invalidate_begin": "silent on 6.1 and 6.12: all calls are inlined copies",
    "kprobes:kvm_mmu_invalidate_end": "silent on 6.1: all calls are inlined copies",
    "kprobes:kvm_mmu_invalidate_range_add": "silent on 6.12: all calls are inlined copies",
    "kprobes:kvm_set_memory_region": "silent on both: use __kvm_set_memory_region",
    "kprobes:kvm_vm_ioctl_get_dirty_log": "refused by both: use kvm_get_dirty_log_protect",
    "kprobes:kvm_vm_ioctl_clear_dirty_log": "refused by both: use kvm_clear_dirty_log_protect",
    "kprobes:kvm_recover_nx_lpages": "refused by both: use kvm_tdp_mmu_zap_sp",
    "kprobes:kvm_recover_nx_huge_pages": "refused by both: use kvm_tdp_mmu_zap_sp",
}
"""What one might miss in the tables above, and why it is not there."""

REMARKS: Final = (
    ((5, 10), (5, 14), "Before 5.15 the TDP MMU is off unless kvm is loaded with tdp_mmu=1."),
    ((6, 13), (999, 0), "From 6.13 on kvm_tdp_mmu_recover_huge_pages stands for kvm_tdp_mmu_zap_collapsible_sptes."),
    ((6, 14), (999, 0), "From 6.14 on there is no kvm_tdp_mmu_invalidate_all_roots; kvm_mmu_zap_all_fast has to do."),
    ((6, 18), (999, 0), "From 6.18 on there is no kvm_tdp_mmu_zap_sp, so NX recovery is told by its changes alone."),
)
"""What is known of releases that were not tried: first, last, sentence."""
# fmt: on


@dataclass(slots=True, frozen=True)
class Definition:
    """One line for ``kprobe_events``; ``left_out`` names the arguments that are unknown for the kernel."""

    name: str
    text: str
    probe: Probe
    left_out: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Recipe:
    """All that is needed to record on one kernel; ``tried`` is "6.1", "6.12", or "" for any other."""

    kernel: str
    vendor: Vendor
    tried: str
    events: tuple[Event, ...]
    probes: tuple[Definition, ...]
    notes: tuple[str, ...]

    def define(self) -> list[str]:
        """Shell lines that define the kprobes, one command an element."""
        return [_echo(definition.text) for definition in self.probes]

    def record(self) -> str:
        """The shell line that records; COMMAND stands for the workload."""
        named = [f"-e {event.name}" for event in self.events if not event.name.startswith("kvmmmu:")]
        options = [f"-C {CLOCK}", f"-b {BUFFER_KB}", "-e kvmmmu", *named, "-e kprobes"]
        return _pack("trace-cmd record", [*options, "COMMAND"])

    def finish(self) -> list[str]:
        """Shell lines that keep the counts of missed hits and remove these probes, and no others."""
        loop = _pack("for probe in", [definition.name for definition in self.probes])
        remove = f'    echo "-:kprobes/$probe" >> {TRACEFS}/kprobe_events'
        return [f"cat {TRACEFS}/kprobe_profile > kprobe_profile.txt", f"{loop}\ndo\n{remove}\ndone"]


def recipe(kernel: str, vendor: Vendor) -> Recipe:
    """What to record on a host with this kernel release; without a vendor, the probes of both.

    Raises InputError if ``kernel`` is no release, or has no TDP MMU.
    """
    version = _version(kernel)
    if version < FIRST:
        raise InputError(f"Linux {kernel} has no TDP MMU: it came with 5.10", advice="record on a newer kernel")
    tried = f"{version[0]}.{version[1]}"
    if tried not in TRIED:
        tried = ""
    probes = tuple(
        definition
        for probe in PROBES
        if tried not in probe.refused and (not vendor or probe.vendor in (None, vendor))
        if tried or not probe.whole
        for definition in _definitions(probe, tried)
    )
    events = tuple(event for event in EVENTS if set(TRIED) == set(event.kernels) or tried in event.kernels)
    return Recipe(kernel, vendor, tried, events, probes, tuple(_notes(kernel, version, vendor, tried)))


def _version(kernel: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})(?:[-.+~_][-\w.+~]*)?", kernel, re.ASCII)
    if not match:
        advice = "give one as uname -r prints it, such as 6.12 or 6.1.0-56-amd64"
        raise InputError(f"{kernel[:40]!r} is not a kernel release", advice=advice)
    return int(match[1]), int(match[2])


def _definitions(probe: Probe, tried: str) -> Iterator[Definition]:
    inside = probe.tried if isinstance(probe.tried, str) else probe.tried[list(TRIED).index(tried) if tried else 0]
    left_out = () if tried else tuple(word.partition("=")[0] for word in inside.split())
    words = ["p:kprobes/" + probe.name, probe.name, *probe.args.split(), *(inside.split() if tried else ())]
    yield Definition(probe.name, " ".join(words), probe, left_out)
    if probe.returns is not None:
        name = probe.name + "__ret"
        words = ["r:kprobes/" + name, probe.name, *probe.returns.split()]
        yield Definition(name, " ".join(words), probe, ())


def _notes(kernel: str, version: tuple[int, int], vendor: Vendor, tried: str) -> Iterator[str]:
    if tried:
        yield (
            f"The probes were tried on Debian's {TRIED[tried]} (AMD). Their offsets into kernel structs are of that "
            "build; another configuration or a much older update may lay the structs out otherwise."
        )
    else:
        place = "lies between the kernels" if (6, 1) < version < (6, 12) else "is not among the kernels"
        yield (
            f"Not tried: {kernel} {place} on which the probes were tried (6.1 and 6.12). Names and argument registers "
            "are those of both. A probe that this kernel lacks is refused: what it tells is then inferred or missing."
        )
        yield (
            "Arguments inside kernel structs are left out, since their offsets are not verified for this kernel; the "
            "probes still count."
        )
        whole = ", ".join(probe.name for probe in PROBES if probe.whole)
        yield f"Left out altogether, since a hit without such arguments would mislead: {whole}."
        for event in EVENTS:
            if set(TRIED) != set(event.kernels):
                path = f"{TRACEFS}/events/{event.name.replace(':', '/')}"
                yield f"trace-cmd stops at an unknown event: add -e {event.name} only if {path} exists."
    if vendor is None:
        yield "The CPU's vendor is not known: probes of AMD (svm_) and Intel (vmx_) are here, one set will be refused."
    if vendor != "amd":
        yield "The vmx_ probes were never tried; they were read in the sources of 6.1 and 6.12."
    for first, last, sentence in REMARKS:
        if first <= version <= last:
            yield sentence


def script(found: Recipe) -> str:
    """The recipe as a shell script whose comments give each event's reason; at most 80 columns where words permit."""
    vendor = {"amd": "AMD", "intel": "Intel", None: "unknown vendor"}[found.vendor]
    out = [f"# Linux {found.kernel}, {vendor}. As root, with kvm loaded."]
    out += [line for note in found.notes for line in _comment(note)]
    out += ["", "# 1. Define the probes."]
    last = None
    for definition, line in zip(found.probes, found.define(), strict=True):
        probe = definition.probe
        if probe is not last:
            quiet = f" ({probe.quiet})" if probe.quiet else ""
            left_out = f"; left out: {', '.join(definition.left_out)}" if definition.left_out else ""
            out += _comment(f"{probe.need}: {probe.reason}{quiet}{left_out}")
        out.append(line)
        last = probe
    out += ["", "# 2. Record; COMMAND is the workload, or sleep 10. Of the events is used:"]
    for event in found.events:
        cost = " (with every exit: the costly ones)" if event.per_exit else ""
        out += _comment(f"{event.need}: {event.name.partition(':')[2]}: {event.reason}{cost}")
    out += [found.record(), "", "# 3. Keep the counts of missed hits, remove the probes.", *found.finish()]
    return "\n".join(out) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 80, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def _pack(first: str, words: list[str]) -> str:
    """A command broken with backslashes."""
    lines = [first]
    for word in words:
        if len(lines[-1]) + len(word) > 76:
            lines.append("   ")
        lines[-1] += " " + word
    return " \\\n".join(lines)


def _echo(text: str) -> str:
    """Append a probe's definition; echo joins the quoted parts with single spaces."""
    parts = [""]
    for word in text.split():
        if parts[-1] and len(parts[-1]) + len(word) > 68:
            parts.append("")
        parts[-1] += (" " if parts[-1] else "") + word
    return _pack("echo", [*(f"'{part}'" for part in parts), f">> {TRACEFS}/kprobe_events"])
