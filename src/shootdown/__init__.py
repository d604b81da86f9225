"""Remote TLB flushes of KVM's TDP MMU: are they needed, are they enough, and what do they cost?

``Vm`` is a virtual machine to try things with (docs/library.md). It is loaded when it is asked for, so that importing
the package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .vm import PAGES_1G, PAGES_2M, Counters, Entry, Table, Vm, behaviours, policies

__version__ = "0.1.0"

__all__ = ["PAGES_1G", "PAGES_2M", "Counters", "Entry", "InputError", "Table", "Vm", "behaviours", "policies"]


def __getattr__(name: str) -> object:
    """What ``vm`` has of the names above."""
    if name not in __all__:
        raise AttributeError(f"module 'shootdown' has no attribute {name!r}")
    from . import vm

    return getattr(vm, name)


def __dir__() -> list[str]:
    """The names above, loaded or not."""
    return [*globals(), *__all__]
