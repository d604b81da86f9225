"""``Vcpus``: what the native machine knows of each vCPU besides its words.

Nothing runs beside the caller, so a guest runs for no time: it leaves with the fault that it was told to have, or
without one. Its TLB is a counter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from librt.vecs import append, vec
from mypy_extensions import i64

from .interface import Bug


@final
class Vcpus:
    """vCPUs by number, from 0 up to ``number`` exclusively."""

    def __init__(self, number: i64) -> None:
        self.number = number
        self._irqs_off: Final = vec[i64]([0] * number)
        self._ipi_waits: Final = vec[i64]([0] * number)
        self._interrupts: Final = vec[i64]([0] * number)
        self._flushes: Final = vec[i64]([0] * number)
        self._taken: Final = vec[i64]([0] * number)
        faults = vec[vec[i64]]()
        for _ in range(number):
            faults = append(faults, vec[i64]())
        self._faults: Final = faults

    # For tests and users

    def set_faults(self, vcpu: i64, gfns: Iterable[int], code: i64 = 0) -> None:
        """Say at which gfns the guest will fault, one each time it is entered; faults set before are forgotten.

        ``code`` is the error code of them all (mmu/access.py).
        """
        self._check(vcpu)
        faults = vec[i64]()
        for gfn in gfns:
            fault: i64 = gfn
            faults = append(faults, fault << 8 | code)
        self._faults[vcpu] = faults
        self._taken[vcpu] = 0

    def interrupts(self, vcpu: i64) -> i64:
        """How often an IPI made the vCPU leave its guest."""
        self._check(vcpu)
        return self._interrupts[vcpu]

    def flushes(self, vcpu: i64) -> i64:
        """How often the vCPU's TLB was flushed."""
        self._check(vcpu)
        return self._flushes[vcpu]

    # For the machine

    def interrupt(self, vcpu: i64, in_guest: bool) -> None:
        """An IPI arrives: in the guest it is taken, out of it only with interrupts on."""
        self._check(vcpu)
        if in_guest:
            self._interrupts[vcpu] += 1
        elif self._irqs_off[vcpu] != 0:
            self._ipi_waits[vcpu] = 1

    def wait(self, vcpu: i64) -> None:
        """Nobody has to be waited for, unless the IPI can never be taken."""
        self._check(vcpu)
        if self._ipi_waits[vcpu] != 0:
            raise Bug(f"an IPI to vCPU {vcpu} is waited for for ever: interrupts are off there")

    def irqs(self, vcpu: i64, on: bool) -> None:
        """Switch interrupts on, which takes an IPI that waits, or off."""
        self._check(vcpu)
        if on:
            self._irqs_off[vcpu] = 0
            self._ipi_waits[vcpu] = 0
        else:
            self._irqs_off[vcpu] = 1

    def flush(self, vcpu: i64) -> None:
        """Count a flush."""
        self._check(vcpu)
        self._flushes[vcpu] += 1

    def enter(self, vcpu: i64) -> i64:
        """The next fault, with its code; -1 if there is none left, or if an IPI waits, which is taken."""
        self._check(vcpu)
        if self._ipi_waits[vcpu] != 0:
            self._ipi_waits[vcpu] = 0
            self._interrupts[vcpu] += 1
            return -1
        taken = self._taken[vcpu]
        if taken >= len(self._faults[vcpu]):
            return -1
        self._taken[vcpu] = taken + 1
        return self._faults[vcpu][taken]

    def _check(self, vcpu: i64) -> None:
        if vcpu < 0 or vcpu >= self.number:
            raise Bug(f"there is no vCPU {vcpu}, only {self.number} from 0 on")
