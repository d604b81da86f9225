"""``replay``: drive our MMU with a recording's operations, and compare; ``run``: the same under a flush policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...mmu.behaviour import BEHAVIOURS, Behaviour
from ...mmu.kvm import Kvm
from ...mmu.policies.policy import ZAP_TABLES, Policy
from ...mmu.policies.registry import POLICIES
from ...mmu.spte import EMPTY_61, SpteFormat
from .. import codes as s
from ..events import Trace
from ..history import empty_value, root_level
from ..vendor import vendor
from ..vms import kvm_of_threads, vm_of_threads
from .calls import perform
from .config import RING_SIZE, Config, configure
from .follow import Follower
from .infer import infer
from .levels import HostLevels
from .machine import ReplayMachine
from .operation import Op
from .plan import Planner
from .record import KINDS, Event, events_of, is_usable
from .result import Result
from .unseen import Gaps, told_later
from .vm import ReplayVm
from .watch import Watcher


@dataclass(slots=True)
class Script:
    """What a recording has our MMU do, whatever the policy: made once, run as often as wanted."""

    trace: Trace
    fmt: SpteFormat
    behaviour: Behaviour
    recorded: frozenset[int]
    levels: int
    events: list[Event]
    ops: list[Op]
    configs: dict[int, Config]


def script_of(trace: Trace, fmt: SpteFormat | None = None) -> Script:
    """The operations of a recording that was read with ``record.WANTED``."""
    fmt = fmt or vendor(trace)[0]
    behaviour = BEHAVIOURS["6.1" if empty_value(trace) == EMPTY_61 else "6.12"]
    recorded = frozenset(code for name, (code, _) in KINDS.items() if is_usable(trace, name))
    levels = root_level(trace)
    kvm_of = kvm_of_threads(trace)
    planner = Planner({} if kvm_of else vm_of_threads(trace), kvm_of, recorded, levels)
    events = events_of(trace)
    ops = infer(planner.feed(events), recorded)
    return Script(
        trace, fmt, behaviour, recorded, levels, events, ops, configure(ops, events, planner.vms_born, recorded, fmt)
    )


def replay(trace: Trace, fmt: SpteFormat | None = None, progress: Callable[[int], None] | None = None) -> Result:
    """Replay a recording that was read with ``record.WANTED``."""
    script = script_of(trace, fmt)
    return run(script, POLICIES[f"kernel-{script.behaviour.name}"], None, progress)


def run(
    script: Script,
    policy: Policy,
    watcher: Watcher | None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Drive our MMU under a policy; with a ``watcher``, that is told of each flush and none is compared.

    A collapse has the recorded kernel's form under every policy, since what it changes is in the record; ``watch`` does
    it in others.
    """
    configs = script.configs

    def make_vm(follower: Follower, name: int) -> ReplayVm:
        c = configs.get(name) or Config()
        m = ReplayMachine(follower)
        kvm = Kvm(
            *(m, script.fmt, script.behaviour, policy, script.levels, c.vcpus),
            nx_huge_pages=c.nx_huge_pages,
            slots=c.slots,
            pml=c.pml,
            eager_split=c.eager_split,
            initially_set=c.initially_set,
            ring_size=RING_SIZE if c.ring else 0,
            ring_soft_limit=RING_SIZE,
            slot_zap_all=c.slot_zap_all,
        )
        kvm.collapse = ZAP_TABLES
        return ReplayVm(name, m, kvm, c)

    result = Result()
    events = script.events
    follower = Follower(result, make_vm, perform, watcher)
    result.behaviour = script.behaviour.name
    result.sees_flushes = follower.sees_flushes = s.FLUSH in script.recorded
    follower.sees_masks = s.CLEAR_PT in script.recorded
    result.sees_puts = s.PUT_ROOT in script.recorded
    result.sees_frees = s.FREE in script.recorded
    follower.progress = progress
    result.changes = sum(e.code == s.CHANGED for e in events)
    result.fast_faults = sum(e.code == s.FAST_FAULT for e in events)
    result.flushes_recorded = sum(e.code == s.FLUSH for e in events)
    if result.changes == 0:
        return result
    gaps = Gaps(events)
    follower.gaps = gaps
    follower.host_levels = HostLevels(script.ops, configs)
    follower.run(script.ops, told_later(script.ops, gaps, script.fmt, script.behaviour.empty))
    return result
