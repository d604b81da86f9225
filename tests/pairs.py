"""What tests do to a pair of VMs, the kernel's C and ours."""

from __future__ import annotations

from shootdown.kernel.compare.pair import Pair
from shootdown.kernel.library.native import KernelBug
from shootdown.machine.interface import Bug


def both_stop(pair: Pair, *numbers: int) -> None:
    """An operation at which both stop, each at an assertion of its own."""

    def theirs() -> None:
        raise KernelBug("here")

    def ours() -> None:
        raise Bug("there")

    pair.both(theirs, ours)
