"""How each operation calls our MMU, and with which inputs of the record."""

from __future__ import annotations

from typing import Final

from ...machine.words import (
    HOST_LEVEL,
    HOST_PFN,
    HOST_WRITABLE,
    INVALIDATE_SEQ,
    LOG_DIRTY_PAGES,
    ROLE_GUEST_MODE,
    ROLE_SMM,
    SLOT_BASE,
    SLOT_FLAGS,
    SLOT_PAGES,
    SLOTS_GENERATION,
)
from ...mmu.access import FETCH, WRITE
from ...mmu.aging import age_gfn_range
from ...mmu.change_pte import set_spte_gfn
from ...mmu.fault import faultin_pfn, map_gfn
from ...mmu.huge_pages import recover_nx_huge_pages
from ...mmu.memory_region import set_memory_region
from ...mmu.notifier import kvm_zap_gfn_range
from ...mmu.page_fault import CONTINUE, NO_MEMORY, new_fault
from ...mmu.requests import flush_remote_tlbs
from ...mmu.roots import invalidate_all_roots
from ...mmu.spte import PFN, WRITABLE, is_leaf
from ...mmu.zap import zap_all, zap_all_fast, zap_invalidated_roots, zap_range
from .. import codes as s
from ..tables import ROLE_INVALID
from . import operation
from .adopt import freed
from .config import FLAGS, ID_BITS
from .fast import fast
from .follow import Follower
from .logs import clear_log, get_log, reset
from .operation import Op
from .shape import COLLAPSE
from .task import Task
from .vm import ReplayVm, our_role


def perform(follower: Follower, task: Task) -> None:
    """Do the operation."""
    call = CALLS.get(task.op.kind)
    if call is not None:
        call(follower, task)


def fault(follower: Follower, task: Task) -> None:
    """A fault that got as far as to map: the host's answer comes from the record."""
    op, vm = task.op, task.vm
    if op.requested is None:
        return
    vcpu, gfn, pfn, level = max(op.vcpu, 0), op.requested.a, op.requested.b, op.requested.c
    root = vm.root_for(vcpu, task.next_change())
    m = vm.m
    if op.marked >= 0 and not vm.config.born and not vm.generation_told:
        # How often slots changed before the record began.
        follower.result.inputs["the generation of slots that are older than the recording"] += 1
        vm.generation_told = True
        m.words[SLOTS_GENERATION][0] = op.marked
    m.words[HOST_PFN][gfn] = pfn if pfn >= 0 else NO_MEMORY
    m.words[HOST_LEVEL][gfn] = level
    code = op.fault.c & 0xFF if op.fault is not None else 0
    if vm.kvm.nx_huge_pages and code & FETCH:
        # The mitigation forced it to 4 KiB, but remembers whether a huge page was refused.
        m.words[HOST_LEVEL][gfn] = max(level, follower.host_levels.at(vm.vm, op.requested.at, gfn))
    if not code & WRITE:
        told = host_writable(vm, op)
        if told >= 0:
            follower.result.inputs["that the host's page is writable, of read faults"] += 1
            m.words[HOST_WRITABLE][gfn] = told
    # The record shows that the fault got as far as this: the fast path failed, and nobody made it retry.
    serving = new_fault(vm.kvm, root, gfn, code, op.kind == operation.PREFETCH)
    result = faultin_pfn(vm.kvm, serving, m.load(INVALIDATE_SEQ, 0))
    if result == CONTINUE:
        m.read_lock()
        map_gfn(vm.kvm, vcpu, serving)
        m.read_unlock()
    m.words[HOST_PFN].pop(gfn, None)
    m.words[HOST_LEVEL].pop(gfn, None)
    m.words[HOST_WRITABLE].pop(gfn, None)


def host_writable(vm: ReplayVm, op: Op) -> int:
    """One bit of the recorded leaf: what nothing else tells of a fault that only reads; -1 where there is no leaf."""
    for e in reversed(op.expected):
        if e.code == s.CHANGED and is_leaf(e.d, e.b):
            return 1 if e.d & vm.kvm.fmt.host_writable else 0
    return -1


def invalidate(follower: Follower, task: Task) -> None:
    """An MMU notifier: each range that it unmaps, and one flush."""
    kvm = task.vm.kvm
    m = task.vm.m
    ranges = [e for e in task.op.calls if e.code == s.UNMAP]
    if not ranges:
        return
    m.write_lock()
    flush = False
    for e in ranges:
        if zap_range(kvm, max(e.d, 0), e.b, e.c, False, True):
            flush = True
    if flush:
        flush_remote_tlbs(kvm)
    m.write_unlock()


def region(follower: Follower, task: Task) -> None:
    """A change of a memory slot; without its probe, what it leads to."""
    op, vm = task.op, task.vm
    e = op.first
    if e.code == s.SET_REGION:
        if op.ret == 0 or op.ret == s.MISSING:
            number = vm.config.numbers[e.b]
            if vm.m.words[SLOT_FLAGS].get(number, 0) & LOG_DIRTY_PAGES and not e.c & LOG_DIRTY_PAGES and e.e:
                task.collapses = number
            set_memory_region(vm.kvm, number, e.b >> ID_BITS, e.d >> 12, e.e >> 12, e.c & FLAGS)
    elif op.slot >= 0:
        if op.guess != COLLAPSE and vm.m.words[SLOT_FLAGS].get(op.slot, 0) & LOG_DIRTY_PAGES:
            # It was logged when the record began, so this starts the log over.
            get_log(follower, task)
            return
        if op.guess == COLLAPSE:
            task.collapses = op.slot
        base, pages = vm.m.words[SLOT_BASE][op.slot], vm.m.words[SLOT_PAGES][op.slot]
        set_memory_region(vm.kvm, op.slot, 0, base, pages, 0 if op.guess == COLLAPSE else LOG_DIRTY_PAGES)
    elif any(call.code == s.ZAP_ALL_FAST for call in [e, *op.calls]):
        zap_all_fast(vm.kvm)


def zap_everything(follower: Follower, task: Task) -> None:
    """The VM dies."""
    if task.op.guess != "" or any(e.code == s.ZAP_ALL for e in [task.op.first, *task.op.calls]):
        zap_all(task.vm.kvm)


def age(follower: Follower, task: Task) -> None:
    """The host asks whether pages were used."""
    kvm = task.vm.kvm
    young = False
    kvm.m.write_lock()
    for e in task.op.calls:
        if e.code == s.AGE and age_gfn_range(kvm, max(e.d, 0), e.b, e.c):
            young = True
    if young and task.op.first.code != s.CLEAR_YOUNG and kvm.behaviour.flush_young:
        flush_remote_tlbs(kvm)
    kvm.m.write_unlock()


def change_pte(follower: Follower, task: Task) -> None:
    """The host maps another page: which gfn that is, the first change tells."""
    e, pte = task.next_change(), task.op.first.c
    if e is None or pte == s.MISSING:
        return
    kvm = task.vm.kvm
    kvm.m.write_lock()
    if set_spte_gfn(kvm, max(e.e, 0), e.a, (pte & PFN) >> 12, pte & WRITABLE != 0):
        flush_remote_tlbs(kvm)
    kvm.m.write_unlock()


def zap_range_call(follower: Follower, task: Task) -> None:
    """A range is to be mapped anew."""
    e = next((e for e in [task.op.first, *task.op.calls] if e.code in (s.ZAP_GFN_RANGE, s.ZAP_LEAFS_CALL)), None)
    if e is not None:
        kvm_zap_gfn_range(task.vm.kvm, e.b, e.c)


def uninit(follower: Follower, task: Task) -> None:
    """What is left of the roots goes."""
    kvm = task.vm.kvm
    kvm.m.write_lock()
    invalidate_all_roots(kvm)
    kvm.m.write_unlock()
    zap_invalidated_roots(kvm)


def recover(follower: Follower, task: Task) -> None:
    """NX recovery zaps the oldest tables that hold up a huge page: how many, the record tells."""
    tables = sum(e.code == s.ZAP_SP for e in task.op.calls)
    recover_nx_huge_pages(task.vm.kvm, tables)


def load_root(follower: Follower, task: Task) -> None:
    """A vCPU gets a root."""
    op, vm = task.op, task.vm
    vcpu = max(op.vcpu, 0)
    if op.role == s.MISSING:
        vm.use_root(vcpu, vm.role(vcpu))
        return
    role = our_role(op.role)
    if op.as_id >= 0:
        role = role & ~ROLE_SMM | op.as_id
    if vm.has_root(role):
        # A new root was made: it differs in what the text of a role leaves out.
        role ^= ROLE_GUEST_MODE
    vm.use_root(vcpu, role)


def put(follower: Follower, task: Task) -> None:
    """A vCPU lets go of its root."""
    op, vm = task.op, task.vm
    e = op.first
    vm.put(op.vcpu, our_role(max(e.c, 0)), e.c & ROLE_INVALID != 0)


def free(follower: Follower, task: Task) -> None:
    """A table's memory goes back."""
    freed(task.op, follower.vms.values(), follower.result)


def smm(follower: Follower, task: Task) -> None:
    """A vCPU enters or leaves system management mode."""
    e = task.op.first
    if e.b:
        task.vm.smm.add(e.a)
    else:
        task.vm.smm.discard(e.a)


CALLS: Final = {
    operation.FAULT: fault,
    operation.PREFETCH: fault,
    operation.FAST_FAULT: fast,
    operation.INVALIDATE: invalidate,
    operation.REGION: region,
    operation.ZAP_ALL: zap_everything,
    operation.AGE: age,
    operation.CHANGE_PTE: change_pte,
    operation.ZAP_RANGE: zap_range_call,
    operation.GET_LOG: get_log,
    operation.CLEAR_LOG: clear_log,
    operation.RING: reset,
    operation.UNINIT: uninit,
    operation.NX_RECOVERY: recover,
    operation.LOAD_ROOT: load_root,
    operation.PUT_ROOT: put,
    operation.FREE: free,
    operation.SMM_SWITCH: smm,
}
