"""The kernel's own C on one CPU: a native library, loaded, with its calls typed.

c/native/calls.c has the same list. One library holds one VM at a time; a VM that is made ends the one before.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_int64, c_long, c_uint, c_uint64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

BUGGED: Final = -1000
FORMATS: Final = ("NPT", "EPT", "EPT_NO_AD")
TABLES: Final = 1 << 17
ROWS_FIRST: Final = 1 << 16
NOTES: Final = 4096
WORDS: Final = 1 << 16
"""Words of a bitmap that can be read at once."""
SLOTS: Final = 32
VCPUS: Final = 4
RING: Final = 1024
"""Most that a VM has: slots, vCPUs, entries of a ring (c/drivers/driver.h)."""
COUNTERS: Final = (
    *("pages_4k", "pages_2m", "pages_1g", "nx_splits", "flush_requests", "tables", "dirty", "accessed"),
    *("local_flushes", "fast_faults", "mmio_sptes", "resched_calls"),
    *("range_flushes", "range_pages", "freed", "requests"),
)
FLUSHES, FREED, PROBLEMS = 0, 1, 2
TRACK, UNTRACK, COLLAPSE, SPLIT, PROTECT, CLEAR_DIRTY = range(6)
GFNS: Final = 1 << 52
"""Every gfn is below."""
NO_CHANGE: Final = -2
"""Of a host's page: leave its frame as it is."""

_CALLS: Final[dict[str, list[Any]]] = {
    "create": [ctypes.c_void_p, c_uint64, c_uint, c_long],
    "host": [c_uint64, c_uint64, c_int64, c_int, c_int],
    "host_level": [c_uint],
    "fault": [c_int, c_uint64, c_uint64, c_uint64, c_uint64],
    "prefetch": [c_int, c_uint64],
    "enter": [c_int],
    "new_pgd": [c_int, c_uint],
    "reset_context": [c_int, c_uint],
    "range_start": [c_uint64, c_uint64, c_int],
    "range_end": [c_uint64, c_uint64],
    "zap_range": [c_uint64, c_uint64],
    "zap_all_fast": [],
    "release": [],
    "age": [c_uint64, c_uint64, c_int],
    "test_age": [c_uint64],
    "change_pte": [c_uint64, c_uint64, c_int],
    "recover_nx": [c_uint64],
    "set_region": [c_int, c_int, c_uint64, c_uint64, c_uint],
    "slot": [c_int, c_int, c_uint64],
    "get_log": [c_int, c_int, ctypes.c_void_p, c_int],
    "clear_log": [c_int, ctypes.c_void_p, c_int],
    "harvest": [c_int, c_uint],
    "reset_rings": [],
    "operation": [ctypes.c_char_p, ctypes.c_void_p],
    "drain": [],
    "counters": [ctypes.c_void_p],
    "notes": [c_int, c_uint64, ctypes.c_void_p, c_int],
    "forget_notes": [],
    "rows": [ctypes.c_void_p, c_uint64, c_uint64, c_uint64],
    "digest": [c_uint64, c_uint64],
    "poke": [c_int, c_uint64, c_uint64],
}


@cache
def calls(library: Path) -> dict[str, Any]:
    """The calls of a library by name; who has them no longer needs its file."""
    loaded = ctypes.CDLL(str(library))
    found = {}
    for name, kinds in _CALLS.items():
        found[name] = getattr(loaded, f"sd_native_{name}")
        found[name].argtypes = kinds
        found[name].restype = c_int64
    return found


class KernelBug(Exception):  # noqa: N818 - the kernel's word
    """The C ended in BUG; the text says where."""


@dataclass(frozen=True)
class Config:
    """How a VM is made; what the names mean is in mmu/kvm.py.

    format         one of FORMATS
    host_level     of the host's pages, where it is not told otherwise
    resched_every  ``need_resched`` says yes at every so manieth call, 0: never
    """

    format: str = "NPT"
    levels: int = 4
    vcpus: int = 1
    nx_huge_pages: bool = False
    pml: bool = False
    eager_split: bool = True
    initially_set: bool = False
    slot_zap_all: bool = True
    ring_size: int = 0
    ring_soft_limit: int = 0
    host_level: int = 1
    resched_every: int = 0


@dataclass(frozen=True)
class Problem:
    """A WARN or BUG: the tree's file and line, and what did not hold."""

    kind: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.what}"


class NativeVm:
    """A VM in a native library; each method is one operation, done whole before it returns.

    The host maps gfn n to frame n in writable pages until ``host`` says otherwise. Raises KernelBug.
    """

    def __init__(self, library: Path, config: Config, tables: int = TABLES) -> None:
        self._call: Final = calls(library)
        self._rows = (c_uint64 * ROWS_FIRST)()
        self._words = (c_uint64 * (2 * WORDS))()
        self._notes = (c_uint64 * (4 * NOTES))()
        self._counters = (c_uint64 * len(COUNTERS))()
        self.config: Final = config
        numbers = (c_int * 10)(
            FORMATS.index(config.format), config.levels, config.vcpus, config.nx_huge_pages, config.pml,
            config.eager_split, config.initially_set, config.slot_zap_all, config.ring_size, config.ring_soft_limit,
        )  # fmt: skip
        if self._call["create"](numbers, tables, config.host_level, config.resched_every) != 0:
            raise MemoryError("the host has no memory for a VM's tables")

    def _do(self, name: str, *arguments: Any) -> int:
        answer = int(self._call[name](*arguments))
        if answer == BUGGED:
            last = self.problems()[-1]
            raise KernelBug(str(last))
        return answer

    # vCPUs

    def fault(self, vcpu: int, gfn: int, code: int) -> int:
        """A vCPU that has a root faults; the result as mmu/page_fault.py numbers it."""
        return self._do("fault", vcpu, gfn, gfn + 1, 1, code)

    def faults(self, vcpu: int, first: int, end: int, step: int = 1, code: int = 0) -> None:
        """It faults at every ``step``-th gfn of a range."""
        self._do("fault", vcpu, first, end, step, code)

    def prefetch(self, vcpu: int, gfn: int) -> int:
        """A page is mapped ahead of its fault."""
        return self._do("prefetch", vcpu, gfn)

    def enter(self, vcpu: int) -> None:
        """A vCPU serves its requests, gets a root if it has none, enters the guest and leaves it."""
        self._do("enter", vcpu)

    def new_pgd(self, vcpu: int, role: int) -> bool:
        """Its next root is one of another role (machine/words.py); did it have that?"""
        return self._do("new_pgd", vcpu, role) != 0

    def reset_context(self, vcpu: int, role: int) -> None:
        """It lets go of all roots; the next is of this role."""
        self._do("reset_context", vcpu, role)

    # The host

    def host(self, gfn: int, count: int = 1, pfn: int = NO_CHANGE, level: int = 0, writable: int = -1) -> None:
        """The host maps pages to frames from ``pfn`` on (-1: to nothing), at a level (0: as before), writable or not.

        Callers tell notifiers.
        """
        self._do("host", gfn, count, pfn, level, writable)

    def host_level(self, level: int) -> None:
        """Pages whose level was not told are of this one from here on."""
        self._call["host_level"](level)

    def invalidate_range_start(self, start: int, end: int, may_block: bool) -> None:
        """The host is about to change its pages of a range."""
        self._do("range_start", start, end, may_block)

    def invalidate_range_end(self, start: int, end: int) -> None:
        """It has."""
        self._do("range_end", start, end)

    def zap_range(self, start: int, end: int) -> None:
        """``kvm_zap_gfn_range``."""
        self._do("zap_range", start, end)

    def zap_all_fast(self) -> None:
        """``kvm_mmu_zap_all_fast``."""
        self._do("zap_all_fast")

    def release(self) -> None:
        """The process of the VM ends."""
        self._do("release")

    def age(self, start: int, end: int, flush: bool) -> bool:
        """``clear_flush_young`` or ``clear_young``."""
        return self._do("age", start, end, flush) != 0

    def test_age(self, gfn: int) -> bool:
        """``test_young``."""
        return self._do("test_age", gfn) != 0

    def change_pte(self, gfn: int, pfn: int, writable: bool) -> None:
        """``change_pte``, of kernels that have it."""
        self._do("change_pte", gfn, pfn, writable)

    def recover_nx(self, tables: int) -> None:
        """NX recovery of up to so many tables."""
        self._do("recover_nx", tables)

    # Slots

    def set_memory_region(self, slot: int, as_id: int, base: int, pages: int, flags: int) -> None:
        """Make, delete (0 pages), move or reflag a slot; whoever calls has made sure that it can be."""
        self._do("set_region", slot, as_id, base, pages, flags)

    def slot(self, slot: int, what: int, gfn: int = 0) -> None:
        """TRACK, UNTRACK writes to a gfn of a slot, COLLAPSE, SPLIT, PROTECT it from level ``gfn`` up, CLEAR_DIRTY."""
        self._do("slot", slot, what, gfn)

    def get_dirty_log(self, slot: int, manual: bool) -> dict[int, int]:
        """The words of a logged slot's bitmap that are not 0, by number; unless ``manual``, they begin anew."""
        count = self._do("get_log", slot, manual, ctypes.addressof(self._words), WORDS)
        return {self._words[2 * n]: self._words[2 * n + 1] for n in range(count)}

    def clear_dirty_log(self, slot: int, words: dict[int, int]) -> None:
        """Bits of it are cleared."""
        numbers = [number for item in sorted(words.items()) for number in item]
        array = (c_uint64 * len(numbers))(*numbers)
        self._do("clear_log", slot, ctypes.addressof(array), len(words))

    def harvest(self, vcpu: int, index: int) -> int:
        """User space takes the ``index``-th entry that was ever in a ring: ``slot << 32 | offset``, -1 if none is."""
        return self._do("harvest", vcpu, index)

    def reset_rings(self) -> int:
        """Entries that were harvested are free again: how many."""
        return self._do("reset_rings")

    def operation(self, name: str, *arguments: int) -> None:
        """An operation of c/drivers/ops.c that has no method of its own."""
        self._do("operation", name.encode(), (c_uint64 * len(arguments))(*arguments))

    # What there is, and what happened

    def drain(self) -> None:
        """Have RCU free what waits."""
        self._do("drain")

    def counters(self) -> dict[str, int]:
        """By the names of COUNTERS."""
        self._call["counters"](self._counters)
        return dict(zip(COUNTERS, self._counters, strict=True))

    def rows(self, first: int = 0, end: int = GFNS) -> list[int]:
        """What kernel/compare/state.py calls rows, one after the other."""
        count = int(self._call["rows"](self._rows, len(self._rows), first, end))
        if count > len(self._rows):
            self._rows = (c_uint64 * (2 * count))()
            count = int(self._call["rows"](self._rows, len(self._rows), first, end))
        return list(self._rows[:count])

    def digest(self, first: int = 0, end: int = GFNS) -> int:
        """The digest of the rows."""
        return int(self._call["digest"](first, end))

    def notes(self, which: int, first: int = 0) -> list[tuple[int, int, int, int]]:
        """Entries of FLUSHES or FREED since ``forget_notes``, from the ``first`` on; native.h says what is in one."""
        count = min(int(self._call["notes"](which, first, self._notes, NOTES)), NOTES - first)
        flat = self._notes[: 4 * count]
        return [(flat[n], flat[n + 1], flat[n + 2], flat[n + 3]) for n in range(0, 4 * count, 4)]

    def forget_notes(self) -> None:
        """Empty the lists."""
        self._call["forget_notes"]()

    def problems(self) -> list[Problem]:
        """WARNs and BUGs since ``forget_notes``."""

        def text(address: int) -> str:
            return ctypes.string_at(address).decode()

        return [
            Problem("BUG" if kind else "WARN", f"{Path(text(file)).name}:{line}", text(what))
            for kind, file, line, what in self.notes(PROBLEMS)
        ]

    def poke(self, vcpu: int, gfn: int, flip: int) -> None:
        """Change bits of the entry that maps a gfn behind the kernel's back."""
        self._do("poke", vcpu, gfn, flip)
