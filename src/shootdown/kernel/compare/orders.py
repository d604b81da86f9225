"""A litmus test as operations on a pair (pair.py), one after the other, and the orders in which they can come.

The test is first what it is for the explorer of the kernel's C (litmus.py): its start, tasks and guests. Tables have
512 entries here, so bit i of a test's gfn is the lowest bit of the index at level i+1, and a root is at level 4, as
KVM's are: above the test's levels are tables of which one entry is used.
What a task does at once here is what the kernel does under one lock, or one call of it: in between others may come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, permutations
from math import factorial
from random import Random
from typing import Final

from ...check.litmus.litmus import Geometry, Litmus
from ...errors import InputError
from ...machine.words import ROLE_GUEST_MODE
from ..explore.litmus import scenario
from ..explore.scenario import Options, Scenario, Task
from ..library.native import Config
from .operations import Operation

BITS: Final = 9
ROOT_LEVEL: Final = 4
OTHER_PFN: Final = 1 << 22
"""Frames that a task has the host give in the place of others begin at multiples of this."""
TAKEN_MOST: Final = 64
WAIT: Final = frozenset(("create", "delete", "move", "log_on", "log_off"))
"""Who changes slots waits until no notifier is between its start and its end."""


@dataclass(frozen=True)
class Thread:
    """What one CPU does, in order; of a vCPU each pass, ``rounds`` are what it may do in any order."""

    name: str
    operations: tuple[Operation, ...]
    rounds: tuple[tuple[Operation, ...], ...] = ()


@dataclass(frozen=True)
class Situation:
    """A test: how the VM is made, what makes its start, and who then does what; ``tables`` that the test has."""

    test: Litmus
    config: Config
    start: tuple[Operation, ...]
    threads: tuple[Thread, ...]
    tables: int


@dataclass(frozen=True)
class Order:
    """Operations after the start; ``resched_every``: of the VM's config."""

    operations: tuple[Operation, ...]
    resched_every: int = 0


def situation(test: Litmus, geometry: Geometry) -> Situation:
    """What a test is on a pair."""
    about = scenario(test, geometry, Options(), ROOT_LEVEL, spare=0)
    memory = test.memory
    config = Config(
        format=memory.form, levels=about.root_level, vcpus=about.vcpus, nx_huge_pages=test.nx, pml=memory.pml,
        eager_split=memory.eager_split, initially_set=memory.initially_set, slot_zap_all=memory.slot_zap_all,
        ring_size=memory.ring, ring_soft_limit=memory.ring,
    )  # fmt: skip
    start = [operation for task in about.start for operation in _start(task, about.levels)]
    threads = [_thread(n, task, about) for n, task in enumerate(about.tasks)]
    return Situation(test, config, tuple(start), tuple(each for each in threads if each.operations), about.tables)


def real_gfn(gfn: int, levels: int) -> int:
    """Where a test's gfn lies; the first beyond the test's is the first beyond the two entries of its top table."""
    if gfn >> levels:
        return 2 << BITS * (levels - 1)
    return sum((gfn >> i & 1) << BITS * i for i in range(levels))


def serial(situation: Situation, most: int, random: Random) -> tuple[list[Order], bool]:
    """Orders in which a thread ends before the next begins, and each vCPU comes again at the end; are they all?"""
    threads = situation.threads
    last = [operation for each in threads if each.rounds for operation in each.operations]
    found = permutations(threads)
    chosen = list(islice(found, most))
    complete = factorial(len(threads)) <= most
    if not complete:
        chosen = [tuple(random.sample(threads, len(threads))) for _ in range(most)]
    return [
        Order((*(operation for each in order for operation in each.operations), *last)) for order in chosen
    ], complete


def woven(situation: Situation, random: Random, yields: tuple[int, ...]) -> Order:
    """One order of operations in which threads take turns as they like; vCPUs go through what they do twice."""
    left = [[*_drawn(each, random)] for each in situation.threads]
    found: list[Operation] = []
    running = 0
    while any(left):
        able = [each for each in left if each and not (running and each[0].name in WAIT)]
        operation = random.choice(able).pop(0)
        running += {"range_start": 1, "range_end": -1}.get(operation.name, 0)
        found.append(operation)
    return Order(tuple(found), random.choice(yields))


def _drawn(thread: Thread, random: Random) -> Iterator[Operation]:
    if not thread.rounds:
        yield from thread.operations
        return
    for _ in range(2):
        for turn in random.sample(thread.rounds, len(thread.rounds)):
            yield from turn


def _start(task: Task, levels: int) -> Iterator[Operation]:
    """An operation of the start."""

    def at(gfn: int) -> int:
        return real_gfn(gfn, levels)

    args = task.args
    match task.op:
        case "vm" | "promises":
            pass
        case "slot":
            slot, as_id, base, pages, flags = args
            yield Operation("create", (slot, as_id, at(base), at(base + pages) - at(base), flags))
        case "load":
            yield Operation("reset_context", args)
            yield Operation("enter", args[:1])
        case "host":
            yield Operation("host", (at(args[0]), *args[1:]))
        case "prefault":
            yield Operation("stale_fault", (args[0], at(args[1]), args[2]))
        case "collapse":
            yield Operation("collapse_range", (at(args[0]), at(args[1])))
        case "leaf" | "dirty":
            yield Operation(task.op, (args[0], at(args[1]), *args[2:]))
        case "flags":
            yield Operation("flags", args)
        case other:
            raise InputError(f"'{other}' of a start is no operation of kernel diff")


def _thread(number: int, task: Task, about: Scenario) -> Thread:
    """A task of the test."""
    if task.vcpu >= 0:
        rounds = tuple(_rounds(task, about))
        return Thread(task.name, tuple(operation for each in rounds for operation in each), rounds)
    return Thread(task.name, tuple(_of_host(number, task, about.levels)))


def _rounds(task: Task, about: Scenario) -> Iterator[tuple[Operation, ...]]:
    """What a vCPU's thread does: the guest touches a page, and its fault is served if it has one."""
    vcpu, levels = task.vcpu, about.levels
    if task.op == "parked":
        return
    roles: tuple[tuple[Operation, ...], ...] = ((),)
    if task.op == "switching":
        roles = tuple((Operation("new_pgd", (vcpu, role)),) for role in (task.args[1] | ROLE_GUEST_MODE, task.args[1]))
    for first in roles:
        for gfn, code in about.guests[vcpu].accesses:
            yield (*first, Operation("access", (vcpu, real_gfn(gfn, levels), code)), Operation("serve", (vcpu,)))
    if task.op == "ahead":
        yield (Operation("stale_prefetch", (vcpu, real_gfn(task.args[1], levels))),)


def _of_host(number: int, task: Task, levels: int) -> Iterator[Operation]:
    """What a program of check/program/programs.py does."""

    def at(gfn: int) -> int:
        return real_gfn(gfn, levels)

    args = task.args
    other = number * OTHER_PFN
    match task.op:
        case "unmap":
            start, end, refill, may_block, read_only = args
            yield Operation("range_start", (at(start), at(end), may_block))
            for gfn in range(start, end):
                yield Operation("host_page", (at(gfn), -1 if refill < 0 else other + at(gfn), 0 if read_only else -1))
            yield Operation("range_end", (at(start), at(end)))
        case "migrate":
            start, end, gfn, _ = args
            yield Operation("range_start", (at(start), at(end), 1))
            for page in range(start, end):
                yield Operation("host_level", (at(page), 1))
            yield Operation("range_end", (at(start), at(end)))
            yield Operation("range_start", (at(gfn), at(gfn) + 1, 1))
            yield Operation("host_page", (at(gfn), other + at(gfn), -1))
            yield Operation("range_end", (at(gfn), at(gfn) + 1))
        case "change_pte":
            gfn = at(args[0])
            yield Operation("range_start", (gfn, gfn + 1, 1))
            yield Operation("host_page", (gfn, other + gfn, 0))
            yield Operation("change_page", (gfn, other + gfn, 0))
            yield Operation("range_end", (gfn, gfn + 1))
        case "zap_range" | "age" | "clear_young":
            yield Operation(task.op, (at(args[0]), at(args[1])))
        case "collapse":
            yield Operation("collapse_range", (at(args[0]), at(args[1])))
        case "zap_all_fast":
            yield Operation("zap_all_fast")
        case "test_young":
            yield Operation("test_young", (at(args[0]),))
        case "prefault":
            yield Operation("stale_fault", (args[0], at(args[1]), args[2]))
        case "prefetch":
            yield Operation("stale_prefetch", (args[0], at(args[1])))
        case "recover_nx":
            tables, rounds = args
            yield from [Operation("recover_nx", (tables,))] * rounds
        case "log_on" | "log_off" | "release":
            yield Operation(task.op, args)
        case "get_log":
            yield Operation("get_log", (args[0], 0))
        case "clear_log":
            yield Operation("read_log", args)
            yield Operation("clear_read", args)
        case "reset_ring":
            yield Operation("harvest", (args[0], TAKEN_MOST))
            yield Operation("reset")
        case "write_protect":
            yield Operation("track", (args[0], at(args[1])))
        case "host_writable":
            yield Operation("host_writable", (at(args[0]), 1))
        case "delete_slot":
            yield Operation("delete", args)
        case "move_slot":
            yield Operation("move", (args[0], at(args[1])))
        case "create_slot" | "create_shadowed":
            as_id, flags = (0, 0) if task.op == "create_shadowed" else args[4:6]
            yield Operation("create", (args[0], as_id, at(args[1]), at(args[1] + args[2]) - at(args[1]), flags))
            if task.op == "create_shadowed":
                yield Operation("track", (args[0], at(args[4])))
        case op:
            raise InputError(f"'{op}' is no operation of kernel diff", advice="leave the test out")
