"""The operations of a recording as those of a pair (acts.py, guest_acts.py, told.py), one after the other.

What a recording tells of the host, of vCPUs and of users is taken from it; what became of SPTEs is not, but for the
bits that the CPU set. Operations that ran beside one another come one by one here, in the order of their first events,
and each vCPU runs one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ...errors import InputError
from ...machine.words import LOG_DIRTY_PAGES, ROLE_SMM
from ...mmu.access import FETCH
from ...mmu.spte import PAGES, PFN, WRITABLE, SpteFormat, is_leaf
from ...trace import codes as s
from ...trace.events import Trace
from ...trace.replay import operation as kinds
from ...trace.replay.config import FLAGS, ID_BITS, PFN_BITS
from ...trace.replay.config import Config as Told
from ...trace.replay.levels import HostLevels
from ...trace.replay.operation import Op
from ...trace.replay.replay import Script, script_of
from ...trace.replay.shape import COLLAPSE
from ..library.native import RING, SLOTS, VCPUS, WORDS, Config
from .operations import Operation

LEVEL_MAX: Final = 3
Steps = Iterator[Operation]


@dataclass(frozen=True)
class Recorded:
    """What is done to the VM that stands for a recorded one.

    times     of each operation: when that of which it comes began, as the recording's clock has it
    left_out  how many operations of a kind are not done
    """

    config: Config
    operations: list[Operation]
    times: list[int]
    left_out: dict[str, int]


def recorded(trace: Trace, fmt: SpteFormat | None = None) -> list[Recorded]:
    """The VMs of a recording that was read with ``trace.replay.record.WANTED``."""
    script = script_of(trace, fmt)
    levels = HostLevels(script.ops, script.configs)
    by_vm: dict[int, list[Op]] = {}
    for op in sorted(script.ops, key=lambda op: op.begin):
        by_vm.setdefault(op.vm, []).append(op)
    found = []
    for vm, ops in by_vm.items():
        about = _Vm(script, vm, script.configs.get(vm, Told()), levels)
        operations: list[Operation] = []
        for number, slot in about.told.before.items():
            operations += about.slot(number, slot.as_id, slot.base, slot.pages, slot.flags)
        times = [ops[0].first.time] * len(operations)
        for op in ops:
            operations += about.steps(op)
            times += [op.first.time] * (len(operations) - len(times))
        if any(each.name in CHANGES for each in operations):
            found.append(Recorded(about.config, operations, times, dict(about.left_out)))
    return found


CHANGES: Final = frozenset(("fault", "prefetch", "region"))


class _Vm:
    """One recorded VM while its operations are told."""

    def __init__(self, script: Script, vm: int, told: Told, levels: HostLevels) -> None:
        self.script, self.vm, self.told, self.levels = script, vm, told, levels
        self.numbers: dict[int, int] = {}
        self.spaces = [0] * VCPUS
        self.taken: dict[int, int] = {}
        self.left_out: Counter[str] = Counter()
        if told.vcpus > VCPUS:
            self.left_out[f"vCPU beyond {VCPUS} (runs as one of those)"] += told.vcpus - VCPUS
        self.config: Final = Config(
            format=script.fmt.name,
            levels=script.levels,
            vcpus=min(VCPUS, max(1, told.vcpus)),
            nx_huge_pages=told.nx_huge_pages,
            pml=told.pml,
            eager_split=told.eager_split,
            initially_set=told.initially_set,
            slot_zap_all=told.slot_zap_all,
            ring_size=RING if told.ring else 0,
            ring_soft_limit=RING - 64 if told.ring else 0,
        )

    def steps(self, op: Op) -> Steps:
        """An operation."""
        call = CALLS.get(op.kind)
        if call is None:
            if op.kind not in NOT_OURS:
                self.left_out[op.kind] += 1
            return
        yield from self.touches(op)
        yield from call(self, op)

    def vcpu(self, number: int) -> int:
        """Ours for a recorded vCPU: there are few."""
        return max(number, 0) % self.config.vcpus

    def space(self, vcpu: int, as_id: int) -> Steps:
        """The vCPU is in system management mode, or no more."""
        if self.spaces[vcpu] != as_id:
            self.spaces[vcpu] = as_id
            yield Operation("new_pgd", (vcpu, ROLE_SMM if as_id else 0))

    def touches(self, op: Op) -> Steps:
        """What the CPU set in entries before they changed."""
        fmt = self.script.fmt
        for e in op.expected if fmt.ad else ():
            if e.code == s.CHANGED and is_leaf(e.c, e.b) and e.c & fmt.accessed:
                yield Operation("used", (max(e.e, 0), e.a, 1 if e.c & fmt.dirty and e.c & WRITABLE else 0))

    # vCPUs

    def fault(self, op: Op) -> Steps:
        """A fault that got as far as to map, or a page mapped ahead of one."""
        vcpu = self.vcpu(op.vcpu)
        if op.requested is None:
            self.left_out[f"{op.kind} of which nothing tells what the host had"] += 1
            return
        first = next((e for e in op.expected if e.code == s.CHANGED and e.e >= 0), None)
        if first is not None:
            yield from self.space(vcpu, first.e)
        gfn, code = op.requested.a, op.fault.c & 0xFF if op.fault is not None else 0
        yield Operation("enter", (vcpu,))
        yield Operation("host_maps", (vcpu, gfn, *self.host(op, code)))
        ahead = op.kind == kinds.PREFETCH
        yield Operation("prefetch", (vcpu, gfn)) if ahead else Operation("fault", (vcpu, gfn, code))

    def host(self, op: Op, code: int) -> tuple[int, int, int]:
        """The host's page: frame, level, and whether it may be written."""
        assert op.requested is not None
        gfn, pfn, level = op.requested.a, op.requested.b, op.requested.c
        if pfn >> PFN_BITS:
            return -1, 1, 1
        if self.config.nx_huge_pages and code & FETCH:
            level = max(level, self.levels.at(self.vm, op.requested.at, gfn))
        level = min(max(level, 1), LEVEL_MAX)
        while (pfn ^ gfn) % PAGES[level]:
            level -= 1
        leafs = (e.d for e in reversed(op.expected) if e.code == s.CHANGED and is_leaf(e.d, e.b))
        leaf = next(leafs, self.script.fmt.host_writable)
        return pfn, level, int(leaf & self.script.fmt.host_writable != 0)

    def fast(self, op: Op) -> Steps:
        """A fault that only wanted a right."""
        e = op.first
        yield Operation("fault", (self.vcpu(e.a), e.b >> 12, e.c & 0xFF))

    def load_root(self, op: Op) -> Steps:
        """A vCPU gets a root."""
        vcpu = self.vcpu(op.vcpu)
        if op.as_id >= 0:
            yield from self.space(vcpu, op.as_id)
        yield Operation("enter", (vcpu,))

    def smm(self, op: Op) -> Steps:
        """System management mode begins or ends."""
        yield from self.space(self.vcpu(op.first.a), 1 if op.first.b else 0)

    # The host

    def invalidate(self, op: Op) -> Steps:
        """Each range that a notifier unmaps."""
        for e in op.calls:
            if e.code == s.UNMAP:
                yield Operation("range_start", (e.b, e.c, 1))
                yield Operation("range_end", (e.b, e.c))

    def age(self, op: Op) -> Steps:
        """Were pages used?"""
        name = "clear_young" if op.first.code == s.CLEAR_YOUNG else "age"
        for e in op.calls:
            if e.code == s.AGE:
                yield Operation(name, (e.b, e.c))

    def change_pte(self, op: Op) -> Steps:
        """The host maps another page: which gfn that is, the first change tells."""
        e = next((e for e in op.expected if e.code == s.CHANGED), None)
        pte = op.first.c
        if e is not None and pte != s.MISSING:
            pfn, writable = (pte & PFN) >> 12, 1 if pte & WRITABLE else 0
            yield Operation("range_start", (e.a, e.a + 1, 1))
            yield Operation("host_page", (e.a, pfn, writable))
            yield Operation("change_page", (e.a, pfn, writable))
            yield Operation("range_end", (e.a, e.a + 1))

    def zap_range(self, op: Op) -> Steps:
        """A range is to be mapped anew."""
        for e in [op.first, *op.calls]:
            if e.code in (s.ZAP_GFN_RANGE, s.ZAP_LEAFS_CALL):
                yield Operation("zap_range", (e.b, e.c))
                return

    def release(self, op: Op) -> Steps:
        """The VM dies."""
        yield Operation("release")

    def uninit(self, op: Op) -> Steps:
        """What is left of the roots goes."""
        yield Operation("zap_all_fast")

    def recover(self, op: Op) -> Steps:
        """NX recovery zaps tables: how many, the record tells."""
        yield Operation("recover_nx", (sum(e.code == s.ZAP_SP for e in op.calls),))

    # Slots

    def number(self, ours: int) -> int:
        """The pair's number of a slot."""
        if ours not in self.numbers and len(self.numbers) == SLOTS:
            raise InputError(
                f"{self.script.trace.path}: a VM has more than {SLOTS} memory slots, and there is room for no more",
                advice="raise SD_SLOTS in kernel/c/drivers/driver.h and SLOTS in kernel/library/native.py",
            )
        return self.numbers.setdefault(ours, len(self.numbers))

    def log(self, pages: int) -> None:
        """A slot of so many pages is logged: is there room for its bitmap?"""
        if pages > 64 * WORDS:
            raise InputError(
                f"{self.script.trace.path}: a slot of {pages} pages is logged, and bitmaps of no more than "
                f"{64 * WORDS} can be read",
                advice="raise WORDS in kernel/library/native.py",
            )

    def slot(self, ours: int, as_id: int, base: int, pages: int, flags: int) -> Steps:
        """A slot is made or changed."""
        if flags & LOG_DIRTY_PAGES:
            self.log(pages)
        yield Operation("region", (self.number(ours), as_id, base, pages, flags))

    def region(self, op: Op) -> Steps:
        """A change of a slot; without its probe, what it leads to."""
        e = op.first
        if e.code == s.SET_REGION:
            if op.ret in (0, s.MISSING):
                yield from self.slot(self.told.numbers[e.b], e.b >> ID_BITS & 1, e.d >> 12, e.e >> 12, e.c & FLAGS)
        elif op.slot >= 0:
            if op.guess != COLLAPSE:
                self.log(self.told.before[op.slot].pages)
            yield Operation("reflag_told", (self.number(op.slot), 0 if op.guess == COLLAPSE else LOG_DIRTY_PAGES))
        elif any(call.code == s.ZAP_ALL_FAST for call in [e, *op.calls]):
            yield Operation("zap_all_fast")

    def logged(self, op: Op) -> int:
        """The pair's number of the slot that an operation of a log is about, -1 if nothing tells."""
        ours = op.slot if op.guess else self.told.numbers.get(op.first.b, -1)
        return self.number(ours) if ours >= 0 else -1

    def get_log(self, op: Op) -> Steps:
        """A log is read."""
        if (slot := self.logged(op)) >= 0:
            yield Operation("get_log", (slot, int(self.told.manual and not op.guess)))

    def clear_log(self, op: Op) -> Steps:
        """A part of one begins anew."""
        if (slot := self.logged(op)) >= 0:
            yield Operation("clear_told", (slot, max(op.first.d, 0), max(op.first.c, 0)))

    def reset(self, op: Op) -> Steps:
        """Entries of rings are given back: as many as the record tells, all if it does not."""
        if self.config.ring_size:
            for e in op.calls:
                if e.code == s.RING_RESET:
                    number = (e.c - self.taken.get(e.a, e.c - RING)) & 0xFFFF_FFFF
                    self.taken[e.a] = e.c
                    yield Operation("harvest", (self.vcpu(e.a), min(RING, number)))
            yield Operation("reset")


CALLS: Final[dict[str, Callable[[_Vm, Op], Steps]]] = {
    kinds.FAULT: _Vm.fault, kinds.PREFETCH: _Vm.fault, kinds.FAST_FAULT: _Vm.fast, kinds.INVALIDATE: _Vm.invalidate,
    kinds.AGE: _Vm.age, kinds.CHANGE_PTE: _Vm.change_pte, kinds.REGION: _Vm.region, kinds.GET_LOG: _Vm.get_log,
    kinds.CLEAR_LOG: _Vm.clear_log, kinds.RING: _Vm.reset, kinds.NX_RECOVERY: _Vm.recover,
    kinds.ZAP_RANGE: _Vm.zap_range, kinds.ZAP_ALL: _Vm.release, kinds.UNINIT: _Vm.uninit,
    kinds.LOAD_ROOT: _Vm.load_root, kinds.SMM_SWITCH: _Vm.smm,
}  # fmt: skip
NOT_OURS: Final = frozenset((kinds.FREE, kinds.PUT_ROOT))
"""What others lead to."""
