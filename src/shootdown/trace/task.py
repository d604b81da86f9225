"""Threads: which operations they are in, which VM each works for, and which vCPUs run the guest."""

from __future__ import annotations

from mypy_extensions import i64

from .codes import MISSING
from .op import Op


class Task:
    """A thread: the operations that it is in (innermost last), the VM that it works for, whether it runs the guest."""

    def __init__(self, pid: i64, vm: i64) -> None:
        self.pid: i64 = pid
        self.vm: i64 = vm
        self.handled: i64 = -1
        self.stack: list[Op] = []
        self.in_guest = False
        self.losses: i64 = 0


class Threads:
    """All threads of a recording, and the VMs that they are seen to work for.

    kvm_of, vm_of  which kvm pointer a thread was first seen with, or which process it is of, for the time before a
                   probe tells (``vms.py``)
    kvms           kvm pointer of each VM, 0 where no pointer was recorded; the index is the VM's number
    running        vCPUs in the guest, by VM; ``used``: did anything change there?
    """

    def __init__(self, kvm_of: dict[int, int], vm_of: dict[int, int]) -> None:
        self.kvm_of = kvm_of
        self.vm_of = vm_of
        self.kvms: list[int] = []
        self.index: dict[int, int] = {}
        self.running: list[int] = []
        self.used: list[bool] = []
        self.tasks: dict[int, Task] = {}
        if not kvm_of:
            vms = max([0, *vm_of.values()]) + 1
            self.kvms, self.running, self.used = [0] * vms, [0] * vms, [False] * vms
        elif len(set(kvm_of.values())) == 1:
            self.vm_index(next(iter(kvm_of.values())))

    def vm_index(self, kvm: i64) -> i64:
        """Number of the VM with this kvm pointer, from now on."""
        found = self.index.get(kvm)
        if found is None:
            found = len(self.kvms)
            self.index[kvm] = found
            self.kvms.append(kvm)
            self.running.append(0)
            self.used.append(False)
        return found

    def vm_told(self, task: Task, kvm: i64) -> i64:
        """The VM that an event names; where its probe was recorded without the pointer, that of the thread."""
        return self.vm_index(kvm) if kvm != MISSING else task.vm

    def leave_guest(self, task: Task) -> None:
        """The thread's vCPU does not run the guest any more."""
        if task.in_guest:
            task.in_guest = False
            if task.vm >= 0:
                self.running[task.vm] -= 1

    def task(self, pid: i64) -> Task:
        """The thread, made on first sight."""
        found = self.tasks.get(pid)
        if found is None:
            vm: i64 = -1
            kvm = self.kvm_of.get(pid)
            if kvm is not None:
                vm = self.vm_index(kvm)
            elif not self.kvm_of:
                vm = self.vm_of.get(pid, 0)
            elif len(self.kvms) == 1:
                vm = 0
            found = Task(pid, vm)
            self.tasks[pid] = found
        return found

    def adopt(self, task: Task, vm: i64) -> None:
        """From now on the thread works for this VM."""
        if task.vm != vm:
            if task.in_guest:
                if task.vm >= 0:
                    self.running[task.vm] -= 1
                self.running[vm] += 1
            task.vm = vm

    def enter_guest(self, task: Task) -> None:
        """The thread's vCPU runs the guest from now on."""
        if not task.in_guest:
            task.in_guest = True
            if task.vm >= 0:
                self.running[task.vm] += 1

    def vm_begins(self, task: Task, kvm: i64) -> None:
        """A VM is made: its pointer may have served another one before, whose end is past."""
        known = self.index.get(kvm)
        if known is not None and self.used[known]:
            del self.index[kvm]
        self.adopt(task, self.vm_index(kvm))
