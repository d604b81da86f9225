"""What a litmus file says of memory slots, logs, and how the hardware reads entries.

[start]
format = "EPT"                   # of entries: "NPT" (if it is missing), "EPT", "EPT_NO_AD" (no A and D bits)
hardware_ad = true               # CPUs set A in steps of their own; D they set wherever a guest writes
pml = true                       # CPUs log the pages that they set D for
initially_set = true             # a log begins all ones, and nothing is protected before it is cleared
eager_split = false              # huge pages are split when they are written, not when logging begins
dirty = [0]                      # gfns that a bitmap says were written
protected = [0]                  # mapped gfns that logging has made read-only: a fault may make them writable
clean = [0]                      # mapped gfns whose D is clear
aged = [0]                       # mapped gfns that were not accessed since they were aged
read_only = [0]                  # gfns that the host may only read
mmio = [0]                       # gfns where every root has an entry of MMIO from before the slots were made
slot_zap_all = false             # a deleted slot's own leaves are zapped, and nothing else (6.12)
ring = 2                         # entries of each vCPU's dirty ring; there are no bitmaps then

[[slot]]                         # by number; without any, all memory is one slot that never changes
base = 0
pages = 4                        # 0: there is no slot of that number yet
as_id = 0
flags = ["log"]                  # "log", "readonly"

[[vcpu]]
writes = [0]                     # gfns that its guest writes
parked = true                    # it holds a root, and never runs
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...machine.words import LOG_DIRTY_PAGES, READONLY

if TYPE_CHECKING:
    from .litmus import File

FORMATS = ("NPT", "EPT", "EPT_NO_AD")
FLAGS = {"log": LOG_DIRTY_PAGES, "readonly": READONLY}
SLOTS_MAX = 2

START: dict[str, type] = {
    "format": str, "hardware_ad": bool, "pml": bool, "eager_split": bool, "dirty": list, "protected": list,
    "clean": list, "aged": list, "read_only": list, "mmio": list, "ring": int, "initially_set": bool,
    "slot_zap_all": bool,
}  # fmt: skip
SLOT: dict[str, type] = {"base": int, "pages": int, "as_id": int, "flags": list}


@dataclass(frozen=True)
class Slot:
    """A memory slot at the start."""

    base: int
    pages: int
    as_id: int
    flags: int

    def gfns(self) -> range:
        """The gfns in it."""
        return range(self.base, self.base + self.pages)

    def watched(self) -> int:
        """The gfns in it whose writes are logged, as a mask."""
        return mask_of(self.gfns()) if self.flags & LOG_DIRTY_PAGES else 0


@dataclass(frozen=True)
class Memory:
    """See the module's text for the fields."""

    slots: tuple[Slot, ...] = ()
    form: str = "NPT"
    hardware_ad: bool = False
    pml: bool = False
    eager_split: bool = True
    initially_set: bool = False
    slot_zap_all: bool = True
    dirty: tuple[int, ...] = ()
    protected: tuple[int, ...] = ()
    clean: tuple[int, ...] = ()
    aged: tuple[int, ...] = ()
    read_only: tuple[int, ...] = ()
    mmio: tuple[int, ...] = ()
    ring: int = 0

    def watched(self) -> int:
        """The gfns whose writes are logged from the start on, as a mask."""
        return mask_of(gfn for slot in self.slots if slot.flags & LOG_DIRTY_PAGES for gfn in slot.gfns())

    def unwritten(self) -> int:
        """The gfns that lie in read-only slots alone, as a mask: no vCPU may write them."""
        writable = {gfn for slot in self.slots if slot.flags & READONLY == 0 for gfn in slot.gfns()}
        return mask_of({gfn for slot in self.slots for gfn in slot.gfns()} - writable)


def mask_of(gfns: Iterable[int]) -> int:
    """Gfns as a mask."""
    return sum(1 << gfn for gfn in set(gfns))


def read_memory(file: File, data: dict[str, Any], span: int) -> Memory:
    """What a file says, or InputError."""
    start = data.get("start", {})
    slots = []
    for n, entry in enumerate(data.get("slot", [])):
        base, pages, as_id = entry.get("base", 0), entry.get("pages", span), entry.get("as_id", 0)
        if base < 0 or pages < 0 or base + pages > span:
            raise file.wrong("slot", "base", f"the slot must lie within 0 to {span}", n)
        if as_id not in (0, 1):
            raise file.wrong("slot", "as_id", "'as_id' must be 0 or 1", n)
        flags = entry.get("flags", [])
        if not all(isinstance(flag, str) and flag in FLAGS for flag in flags):
            raise file.wrong("slot", "flags", f"'flags' must be some of {', '.join(FLAGS)}", n)
        slots.append(Slot(base, pages, as_id, sum(FLAGS[flag] for flag in set(flags))))
    if len(slots) > SLOTS_MAX:
        raise file.wrong("slot", "base", f"more than {SLOTS_MAX} slots", SLOTS_MAX)
    form = start.get("format", "NPT")
    if form not in FORMATS:
        raise file.wrong("start", "format", f"'format' must be one of {', '.join(FORMATS)}")
    if not 0 <= start.get("ring", 0) <= 4:
        raise file.wrong("start", "ring", "'ring' must be 0 to 4")
    lists: dict[str, Any] = {}
    for key in ("dirty", "protected", "clean", "aged", "read_only", "mmio"):
        found = start.get(key, [])
        if not all(type(gfn) is int and 0 <= gfn < span for gfn in found):
            raise file.wrong("start", key, f"'{key}' must hold gfns below {span}")
        lists[key] = tuple(found)
    if lists["mmio"] and not slots:
        raise file.wrong("start", "mmio", "'mmio' needs a [[slot]]")
    plain = ("hardware_ad", "pml", "eager_split", "initially_set", "slot_zap_all", "ring")
    return Memory(slots=tuple(slots), form=form, **{key: start[key] for key in plain if key in start}, **lists)
