"""The kernel's own counters of flushes and faults (debugfs ``kvm``): two dumps compared, and what they can tell.

The counters say how often, never why: flushes by operation need a recording. They are plain increments that CPUs race
on, so a few may be lost; and on a Hyper-V host, flushes of a range that the hypervisor serves are in none of them.

Source: virt/kvm/kvm_main.c (``kvm_flush_remote_tlbs``, ``vm_stat_get``), arch/x86/kvm/x86.c, mmu/mmu.c,
mmu/mmu_internal.h and mmu/tdp_mmu.c of 6.1.192 and 6.12.117; tools/kvm/kvm_stat of 6.12.117 for its output.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import InputError, reason

COUNTERS: Final = {
    "remote_tlb_flush_requests": "kvm_flush_remote_tlbs, first of all: a flush of all vCPUs was asked for",
    "remote_tlb_flush": "kvm_flush_remote_tlbs, if an interrupt was sent to a CPU, or Hyper-V's hook did the flush",
    "tlb_flush": "a vCPU's own flushes (kvm_vcpu_flush_tlb_all, _current, _guest): for requests, new roots, moves to "
    "another CPU and the guest's own sake",
    "pf_taken": "a vCPU's fault that reaches kvm_mmu_do_page_fault: no prefetch, no cached MMIO",
    "pf_fixed": "a fault that mapped its page, those of async page faults too",
    "pf_fast": "fast_page_fault: fixed or found done without mmu_lock (counted as fixed or spurious besides)",
    "pf_spurious": "a fault whose access was allowed already",
    "pf_emulate": "a fault that ends in emulation: MMIO, or a write to a protected page",
    "pf_mmio_spte_created": "a fault that put in an entry for MMIO",
    "mmu_shadow_zapped": "shadow MMU only: kvm_mmu_prepare_zap_page",
    "mmu_pte_write": "shadow MMU only: a guest wrote to its page table",
    "mmu_pde_zapped": "shadow MMU only",
    "mmu_flooded": "shadow MMU only: a page is written too often to be a page table",
    "mmu_recycled": "shadow MMU only: tables zapped to make room",
    "mmu_cache_miss": "shadow MMU only: a table had to be made",
}
"""Counters that only grow while a VM lives, and the path in the kernel that counts."""

GAUGES: Final = {
    "pages_4k": "4 KiB leaves now (kvm_update_page_stats; exact, atomic)",
    "pages_2m": "2 MiB leaves now",
    "pages_1g": "1 GiB leaves now",
    "nx_lpage_splits": "huge pages now withheld because of executable pages (NX)",
    "mmu_unsync": "shadow MMU only: tables now out of step with the guest's",
}
"""Counters that go up and down."""

SIZE_MAX: Final = 64 << 20
"""Bytes read: a thousand VMs take a tenth of it."""

_PATH = re.compile(r"(?P<path>\S*/)?(?P<name>[a-z][a-z0-9_]*)\s*[:=]\s*(?P<value>\d{1,20})", re.ASCII)
_PASTED = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\s+(?P<value>\d{1,20})(?:\s+[-+\d.%]+)*", re.ASCII)
_VM = re.compile(r"\d+-\d+", re.ASCII)
_OTHER = re.compile(r"\S*/(?:vcpu\d+/|mmu_rmaps_stat:)")
"""Files of debugfs that hold no counters."""


@dataclass(slots=True, frozen=True)
class Counters:
    """One dump.

    values   every counter by name: KVM's total over all VMs, or the sum of the VMs where no total is given
    by_vm    the same by VM ("1234-11": process and file descriptor), empty where the dump does not tell
    ignored  lines that are no counters
    """

    path: str
    values: dict[str, int]
    by_vm: dict[str, dict[str, int]]
    ignored: int


@dataclass(slots=True, frozen=True)
class CountersDelta:
    """What happened between two dumps.

    deltas     growth of each of ``COUNTERS`` that both dumps have; change, perhaps negative, of each of ``GAUGES``
    now        values of ``GAUGES`` in the second dump
    by_vm      growth of ``COUNTERS`` by VM, for the VMs of the second dump; empty unless both dumps tell VMs apart
    warnings   what makes the figures doubtful
    sentences  what the figures say, then what they cannot
    """

    deltas: dict[str, int]
    now: dict[str, int]
    by_vm: dict[str, dict[str, int]]
    warnings: tuple[str, ...]
    sentences: tuple[str, ...]


def read_counters(path: str) -> Counters:
    """A dump from a file, or from standard input for "-".

    Understood are PATH:VALUE, with or without a folder for each VM (``grep -r . /sys/kernel/debug/kvm``), and NAME
    VALUE, further columns being rates (``kvm_stat -1``, its screen, mails). The log of ``kvm_stat -l`` is not, since it
    has rates only. Raises InputError if there are no counters, or a counter has two values.
    """
    try:
        if path == "-":
            return _parse("standard input", sys.stdin.buffer.read(SIZE_MAX + 1))
        with Path(path).open("rb") as stream:
            return _parse(path, stream.read(SIZE_MAX + 1))
    except OSError as error:
        raise InputError(reason(error), path=path, advice="give a readable file") from None


def _parse(path: str, dump: bytes) -> Counters:
    if len(dump) > SIZE_MAX:
        raise InputError("is too big for a dump of counters", path=path, advice="give one dump a file")
    totals: dict[str, int] = {}
    by_vm: dict[str, dict[str, int]] = {}
    ignored = 0
    for number, line in enumerate(dump.decode(errors="replace").splitlines(), 1):
        text = line.strip().lstrip("> ")
        if not text or _OTHER.match(text):
            continue
        match = _PATH.fullmatch(text) or _PASTED.fullmatch(text)
        if not match:
            ignored += 1
            continue
        folder = (match.groupdict().get("path") or "").rstrip("/").rpartition("/")[2]
        into = by_vm.setdefault(folder, {}) if _VM.fullmatch(folder) else totals
        name, value = match["name"], int(match["value"])
        if into.setdefault(name, value) == value:
            continue
        if name in COUNTERS or name in GAUGES:
            raise InputError(
                f"{name} is {into[name]} and {value}", path=path, line=number, advice="give one dump a file"
            )
        ignored += 1
    values = {name: sum(vm.get(name, 0) for vm in by_vm.values()) for vm in by_vm.values() for name in vm} | totals
    if not values.keys() & (COUNTERS.keys() | GAUGES.keys()):
        advice = "dump them with: grep -r . /sys/kernel/debug/kvm (as root)"
        raise InputError("no counters of KVM's MMU", path=path, advice=advice)
    return Counters(path, values, by_vm, ignored)


def compare_counters(before: Counters, after: Counters) -> CountersDelta:
    """Growth between two dumps of one host; by VM where both tell, so that VMs that come and go are noticed.

    Raises InputError if a counter went backwards that only grows, or if the dumps have no counter in common.
    """
    warnings = [f"{d.path}: {d.ignored} lines are no counters" for d in (before, after) if d.ignored]
    deltas = {
        name: after.values[name] - before.values[name]
        for name in GAUGES
        if name in before.values and name in after.values
    }
    by_vm: dict[str, dict[str, int]] = {}
    if before.by_vm and after.by_vm:
        for vm, values in after.by_vm.items():
            by_vm[vm] = _growth(before.by_vm.get(vm) or dict.fromkeys(values, 0), values, f"VM {vm}: ")
        ended = ", ".join(sorted(before.by_vm.keys() - after.by_vm.keys()))
        began = ", ".join(sorted(after.by_vm.keys() - before.by_vm.keys()))
        if ended:
            warnings.append(f"what VMs did that ended in between is not counted: {ended}")
        if began:
            warnings.append(f"VMs that began in between count from their beginning: {began}")
        everywhere = [name for name in COUNTERS if all(name in growth for growth in by_vm.values())]
        deltas = {name: sum(growth[name] for growth in by_vm.values()) for name in everywhere} | deltas
    else:
        warnings.append("not counted by VM: that VMs ended or began in between would not be noticed")
        deltas = _growth(before.values, after.values, "") | deltas
    if not deltas:
        raise InputError("the dumps have no counter in common", path=after.path, advice="dump both in the same way")
    now = {name: after.values[name] for name in GAUGES if name in after.values}
    return CountersDelta(deltas, now, by_vm, tuple(warnings), (*_told(deltas), *_untold(deltas)))


def _growth(before: dict[str, int], after: dict[str, int], where: str) -> dict[str, int]:
    grown = {name: after[name] - before[name] for name in COUNTERS if name in before and name in after}
    for name, growth in grown.items():
        if growth < 0:
            raise InputError(
                f"{where}{name} fell from {before[name]} to {after[name]}",
                advice="give the earlier dump first; VMs must not end, nor counters be cleared, in between",
            )
    return grown


def _told(deltas: dict[str, int]) -> Iterator[str]:
    requests, flushes = deltas.get("remote_tlb_flush_requests"), deltas.get("remote_tlb_flush")
    faults, fast = deltas.get("pf_taken"), deltas.get("pf_fast")
    if requests is None or flushes is None:
        yield "How many flushes interrupted nobody: unknown, without remote_tlb_flush and ..._requests in both dumps."
    elif flushes > requests:
        yield f"{flushes:,} flushes and {requests:,} requests: a few increments were lost to races."
    elif requests == 0:
        yield "No remote flush was requested."
    else:
        quiet = requests - flushes
        yield (
            f"{requests:,} remote flushes were requested; {flushes:,} interrupted a CPU, {quiet:,} "
            f"({100 * quiet / requests:.0f} %) interrupted nobody."
        )
    if faults is not None and flushes is not None:
        rate = (
            f"{_number(1000 * flushes / faults)} interrupting flushes for a thousand of them" if faults else "no rate"
        )
        yield f"{faults:,} faults were taken: {rate}."
    if faults and fast is not None:
        # Prefetches are not among the faults taken, but may be fixed fast.
        share = f" ({100 * fast / faults:.0f} %)" if fast <= faults else ""
        yield f"{fast:,} faults were handled without mmu_lock{share}."
    shadow = [name for name in COUNTERS if name.startswith("mmu_") and deltas.get(name)]
    if shadow:
        yield f"The shadow MMU, which has flushes of its own, was at work too: {', '.join(shadow)}."


def _number(value: float) -> str:
    """Three digits, no exponent."""
    if 0 < value < 0.001:
        return "less than 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _untold(deltas: dict[str, int]) -> Iterator[str]:
    yield "By operation: unknown. The counters do not tell who asked; a recording does (shootdown record --print)."
    yield "How many vCPUs a flush interrupted, and its time: unknown."
    yield "Deleting a slot interrupts vCPUs without a remote flush: that is in none of these counters."
    if "tlb_flush" in deltas:
        yield "tlb_flush does not tell served requests from new roots, moves between CPUs and the guest's own flushes."
    yield (
        "On a Hyper-V host remote_tlb_flush also counts flushes by hypercall, which interrupt nobody, and flushes of a "
        "range that the hypervisor served are not counted at all. Increments are not atomic: figures may be a bit low."
    )
