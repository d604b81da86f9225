"""Which VM a thread works for: by the kvm pointer that probes show, else by what vCPU threads tell of processes."""

from __future__ import annotations

import numpy as np

from .events import Trace

VCPU_EVENTS = ("kvm:kvm_entry", "kvm:kvm_exit", "kvm:kvm_page_fault", "kvmmmu:fast_page_fault")


def kvm_of_threads(trace: Trace) -> dict[int, int]:
    """The kvm pointer with which each thread was first seen (signed); empty if no probe recorded one."""
    found: dict[int, tuple[int, int]] = {}
    for name, events in trace.events.items():
        if not name.startswith("kprobes:") or "kvm" not in events.fields or not len(events):
            continue
        pids, at = np.unique(events.pid, return_index=True)
        kvm = events.fields["kvm"].view(np.int64)
        for pid, i in zip(pids.tolist(), at.tolist(), strict=True):
            place = (int(events.order[i]), int(kvm[i]))
            if pid not in found or place < found[pid]:
                found[pid] = place
    return {pid: kvm for pid, (_, kvm) in found.items()}


def vm_of_threads(trace: Trace) -> dict[int, int]:
    """VM numbers for threads where no kvm pointer was recorded, a process being taken for a VM.

    Processes come from recorded process ids; without those, from vCPU threads: two threads with the same vCPU number
    cannot be of one VM, and the threads of a process have neighbouring ids. Threads that run no vCPU go with the
    nearest vCPU thread above them, since a process makes its vCPU threads after its first one.
    """
    vcpus: dict[int, int] = {}
    seen: set[int] = set()
    for name, events in trace.events.items():
        seen.update(np.unique(events.pid).tolist())
        if name in VCPU_EVENTS and "vcpu_id" in events.fields:
            pids, at = np.unique(events.pid, return_index=True)
            for pid, number in zip(pids.tolist(), events.fields["vcpu_id"][at].tolist(), strict=True):
                vcpus.setdefault(pid, number)
    if trace.tgids:
        groups: dict[int, int] = {}
        for pid in sorted(vcpus):
            groups.setdefault(trace.tgids.get(pid, pid), len(groups))
        return {pid: groups.get(trace.tgids.get(pid, pid), 0) for pid in seen}
    vm_of: dict[int, int] = {}
    vm, used = -1, set[int]()
    for pid in sorted(vcpus):
        if vm < 0 or vcpus[pid] in used:
            vm, used = vm + 1, set()
        used.add(vcpus[pid])
        vm_of[pid] = vm
    threads = sorted(vm_of)
    for pid in seen - vm_of.keys():
        above = [t for t in threads if t > pid]
        vm_of[pid] = vm_of[above[0]] if above else vm_of[threads[-1]] if threads else 0
    return vm_of


def vcpus_of_vms(trace: Trace) -> dict[int, int]:
    """How many vCPUs each VM was seen with, by kvm pointer (signed; 0 for all VMs together where none was recorded)."""
    found: dict[int, set[int]] = {}
    for name, events in trace.events.items():
        if "vcpu_id" not in events.fields or not len(events):
            continue
        ids = events.fields["vcpu_id"].astype(np.int64)
        if "kvm" in events.fields:
            pairs = np.unique(np.stack([events.fields["kvm"].view(np.int64), ids]), axis=1).T
        elif name in VCPU_EVENTS:
            pairs = np.array([(0, i) for i in np.unique(ids)], np.int64)
        else:
            continue
        for kvm, vcpu in pairs.tolist():
            found.setdefault(kvm, set()).add(vcpu)
    if len(found) > 1:
        found.pop(0, None)
    return {kvm: len(ids) for kvm, ids in found.items()}


def recovery_threads(trace: Trace) -> set[int]:
    """The workers that recover NX huge pages, by their name, which is cut to 15 characters."""
    return {pid for pid, comm in trace.comms.items() if comm.startswith("kvm-nx-lpage")}
