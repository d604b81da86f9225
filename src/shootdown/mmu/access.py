"""What a guest tried when it faulted, bits of the error code of a page fault; and whether an entry allows it.

Source: arch/x86/include/asm/kvm_host.h, ``PFERR_*_MASK``; VMX translates its exit qualification into these.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from .spte import EPT_EXEC, NX, WRITABLE, SpteFormat

PERMISSION: Final = 1
"""The translation was present, and did not allow it (``PFERR_PRESENT_MASK``)."""
WRITE: Final = 2
USER: Final = 4
RESERVED: Final = 8
"""A reserved bit was set in an entry, as in those of MMIO (``PFERR_RSVD_MASK``)."""
FETCH: Final = 16
"""An instruction fetch."""

READABLE: Final[i64] = 1
"""Of an entry: R of EPT, P of NPT."""

NO_FAULT: Final = -1


def fault_of(gfn: i64, code: i64) -> i64:
    """A fault as ``Machine.enter_guest`` returns it."""
    return gfn << 8 | code


def fault_gfn(fault: i64) -> i64:
    """The gfn of a fault."""
    return fault >> 8


def fault_code(fault: i64) -> i64:
    """The error code of a fault."""
    return fault & 0xFF


def is_allowed(spte: i64, code: i64, fmt: SpteFormat) -> bool:
    """Does a present leaf allow what the guest tried? Source: ``is_access_allowed``."""
    if code & FETCH != 0:
        return spte & EPT_EXEC != 0 if fmt.ept else spte & NX == 0
    if code & WRITE != 0:
        return spte & WRITABLE != 0
    return spte & READABLE != 0
