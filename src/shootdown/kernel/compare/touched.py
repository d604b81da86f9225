"""Which entries one operation may have changed: those of tables that map some of its gfns.

Where it did more all the same, that is seen when everything is compared.
"""

from __future__ import annotations

from typing import Final

from .acts import place_of
from .operations import Operation
from .pair import EVERYWHERE, Gfns, Pair

NOWHERE: Final = (0, 0)
"""What is compared of roots, of vCPUs and of the VM as a whole always is."""

OF_A_PAGE: Final = {"fault": 1, "prefetch": 1, "used": 1, "host_maps": 1, "host_page": 0, "change_page": 0}
"""Where such an operation's numbers have the gfn."""
OF_A_RANGE: Final = frozenset(("range_start", "range_end", "zap_range", "age", "clear_young"))
OF_A_VCPU: Final = frozenset(("enter", "new_pgd", "harvest"))


def touched(pair: Pair, operation: Operation) -> Gfns:
    """The gfns that an operation, which was done, is about."""
    name, numbers = operation.name, operation.numbers
    if not pair.acted or name in OF_A_VCPU:
        return NOWHERE
    if name in OF_A_PAGE:
        gfn = numbers[OF_A_PAGE[name]]
        return gfn, gfn + 1
    if name in OF_A_RANGE:
        return numbers[0], numbers[1]
    if name == "get_log":
        return place_of(pair, numbers[0])[1:]
    if name == "clear_told":
        _, base, end = place_of(pair, numbers[0])
        first = base + numbers[1] // 64 * 64
        return first, min(end, first + numbers[2] + 127)
    return EVERYWHERE
