"""What a random VM does: how it is made, and operations, each a name and numbers that a report can show.

Numbers are drawn from few gfns, which lie where something changes: ends of slots, of huge pages, of a table's part of
guest memory. Whether an operation can be is for the pair (pair.py) to see: one that cannot does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from ...machine.words import LOG_DIRTY_PAGES, READONLY, ROLE_GUEST_MODE, ROLE_LEVEL_SHIFT, ROLE_SMM
from ...mmu.access import FETCH, PERMISSION, RESERVED, USER, WRITE
from ..library.native import Config

HUGE: Final = 512
GIB: Final = HUGE * HUGE


@dataclass(frozen=True)
class Operation:
    """``name`` of told.EVERY_ACT, and its numbers."""

    name: str
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.name, *(f"{number:#x}" if number > 9 else str(number) for number in self.numbers)))


@dataclass(frozen=True)
class Layout:
    """Slots that may be made (number: address space, first gfn, pages), gfns to use, and pages of the largest range."""

    slots: dict[int, tuple[int, int, int]]
    gfns: tuple[int, ...]
    logs: bool


# A gfn that is a multiple of 512 begins a huge page; slots 1 and 4 begin in the middle of one, and of a bitmap's word.
SMALL: Final = Layout(
    {
        0: (0, 0, 3 * HUGE), 1: (0, 0x801, 1200), 2: (1, 0, 2 * HUGE), 3: (0, GIB - 0x100, 0x300),
        4: (1, 0x801, 600), 5: (0, 0x1000, 64),
    },
    (
        0, 1, 63, 64, 511, 512, 513, 1023, 1024, 1535, 0x801, 0x802, 0x83F, 0x9FF, 0xA00, 0xA01, 0xA40, 0xBFF, 0xC00,
        0xCB0, 0x1000, 0x103F, GIB - 0x100, GIB - 1, GIB, GIB + 1, GIB + 0x1FF, 0x1800, GIB + 0x200,
    ),
    True,
)  # fmt: skip
LARGE: Final = Layout(
    {0: (0, 0, 2 * GIB), 1: (0, 2 * GIB + 1, 2 * HUGE), 2: (1, 0, GIB), 5: (0, 3 * GIB, 64)},
    (
        0, 1, 511, 512, 513, 1024, GIB - 1, GIB, GIB + 1, GIB + 512, 2 * GIB - 1, 2 * GIB, 2 * GIB + 1, 2 * GIB + 511,
        2 * GIB + 512, 2 * GIB + 513, 3 * GIB, 3 * GIB + 63, 3 * GIB + 64,
    ),
    False,
)  # fmt: skip

CODES: Final = (
    *(0, USER, WRITE, WRITE, FETCH, FETCH, PERMISSION | WRITE, PERMISSION | WRITE, PERMISSION | WRITE | USER),
    *(PERMISSION | FETCH, PERMISSION, RESERVED, RESERVED | PERMISSION | WRITE),
)
ROLES: Final = (0, 0, 0, ROLE_SMM, ROLE_SMM, ROLE_GUEST_MODE, ROLE_GUEST_MODE | ROLE_SMM)
LENGTHS: Final = (1, 1, 1, 2, 3, 64, HUGE - 1, HUGE, HUGE + 1, 2000, GIB)

WEIGHTS: Final = {
    "fault": 60, "stale_fault": 4, "prefetch": 6, "enter": 4, "touch": 14, "unmap": 7, "begin": 2, "end": 4,
    "zap_range": 3, "zap_all_fast": 2, "release": 0.3, "age": 4, "clear_young": 4, "test_young": 2, "change_pte": 3,
    "recover_nx": 3, "create": 5, "delete": 1, "move": 1, "log_on": 6, "log_off": 3, "get_log": 6, "clear_log": 8,
    "harvest": 5, "reset": 2, "track": 4, "untrack": 4, "new_pgd": 3, "reset_context": 1, "host_level": 3,
    "host_writable": 2, "split": 1, "collapse": 2, "protect": 1, "clear_dirty": 1,
}  # fmt: skip
"""How often each operation is drawn."""
NAMES: Final = list(WEIGHTS)
SHARES: Final = list(WEIGHTS.values())


def draw_config(random: Random) -> tuple[Config, Layout]:
    """How a VM is made."""
    fmt = random.choice(("NPT", "EPT", "EPT_NO_AD"))
    layout = LARGE if random.random() < 0.2 else SMALL
    ring = random.choice((0, 0, 0, 16)) if layout.logs else 0
    config = Config(
        format=fmt,
        levels=random.choice((4, 4, 5)),
        vcpus=2,
        nx_huge_pages=random.random() < 0.4,
        pml=fmt == "EPT" and random.random() < 0.5,
        eager_split=random.random() < 0.6,
        initially_set=random.random() < 0.4,
        slot_zap_all=random.random() < 0.6,
        ring_size=ring,
        ring_soft_limit=ring and 10,
        host_level=random.choice((1, 2, 3)) if layout.logs else random.choice((2, 3)),
        resched_every=random.choice((0, 0, 1, 3, 40)),
    )
    return config, layout


def draw_operations(random: Random, layout: Layout, number: int) -> list[Operation]:
    """So many operations, of which the first make slots."""
    found = [Operation("create", (slot, *where, 0)) for slot, where in layout.slots.items() if slot != 5]
    while len(found) < number:
        for name in random.choices(NAMES, SHARES, k=64):
            found.append(Operation(name, _numbers(random, layout, name)))
    return found[:number]


def _range(random: Random, layout: Layout) -> tuple[int, int]:
    start = random.choice(layout.gfns)
    return start, start + random.choice(LENGTHS)


def _numbers(random: Random, layout: Layout, name: str) -> tuple[int, ...]:
    """What an operation of a name takes."""
    gfn, vcpu, slot = random.choice(layout.gfns), random.randrange(2), random.choice(tuple(layout.slots))
    match name:
        case "fault" | "stale_fault":
            return vcpu, gfn, random.choice(CODES)
        case "prefetch":
            return vcpu, gfn
        case "enter":
            return (vcpu,)
        case "touch":
            return vcpu, gfn, random.randrange(2)
        case "unmap":
            return (*_range(random, layout), random.randrange(2), random.choice((-1, 0, 0, 0x100000)))
        case "age" | "clear_young" | "zap_range" | "begin":
            return _range(random, layout)
        case "test_young" | "end":
            return (gfn,)
        case "change_pte":
            return gfn, random.choice((0x200000, 0x200001)), random.randrange(2)
        case "recover_nx":
            return (random.choice((0, 1, 2, 50)),)
        case "create":
            flags = READONLY if slot == 5 else random.choice((0, 0, LOG_DIRTY_PAGES if layout.logs else 0))
            return slot, *layout.slots[slot], flags
        case "move":
            return slot, layout.slots[slot][1] + random.choice((0, 0, 0x10000, 0x10001))
        case "get_log":
            return slot, random.randrange(2)
        case "clear_log":
            few = 1 << random.randrange(64) | random.choice((1, 1 << 63))
            return slot, random.choice((random.getrandbits(64), few)), random.choice((-1, 0, 7, 8, 15))
        case "harvest":
            return vcpu, random.choice((1, 3, 20))
        case "track" | "untrack":
            return slot, gfn
        case "new_pgd" | "reset_context":
            return vcpu, random.choice(ROLES) | random.choice((0, 0, 0, 5 << ROLE_LEVEL_SHIFT))
        case "host_level":
            return gfn, random.choice((1, 2, 2, 3))
        case "host_writable":
            return gfn, random.randrange(2)
        case "protect":
            return slot, random.choice((1, 2))
        case "delete" | "log_on" | "log_off" | "split" | "collapse" | "clear_dirty":
            return (slot,)
    return ()
