"""What a flush and a page-table change cost: the parameters, their units, and where each default comes from."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

Interval = tuple[float, float]


@dataclass(slots=True, frozen=True)
class Parameter:
    """One figure of the model: its option, its unit, its default as an interval, and the source of that."""

    name: str
    option: str
    unit: str
    default: Interval
    meaning: str
    source: str


PARAMETERS = (
    Parameter(
        "flush_base_us", "--flush-base-us", "microseconds", (2.7, 6.6),
        "a remote flush that interrupts at least one vCPU, before counting vCPUs",
        "LATR (ASPLOS 2018): an IPI on 16 cores in 2 sockets to 120 cores in 8",
    ),
    Parameter(
        "flush_vcpu_us", "--flush-vcpu-us", "microseconds", (1.1, 1.1),
        "each vCPU that a remote flush interrupts, on top of the base",
        "fit: (14.334 s - 4.795 s) / (131072 - 76) flushes with 64 running vCPUs, less the base (list mail "
        "20240823235648.3236880-1, 23 Aug 2024)",
    ),
    Parameter(
        "spte_us", "--spte-us", "microseconds", (0.052, 0.0715),
        "one SPTE change",
        "7 s for 512 GiB of 4K pages (1b6043e8e584, 5.18) to 36.6 us for a region of 512 (list mail of the fit above); "
        "4.67 were seen where 416 vCPUs contend (list mail 20240307194059.1357377-1, 7 Mar 2024)",
    ),
)  # fmt: skip


@dataclass(slots=True, frozen=True)
class CostModel:
    """Each parameter as (least, most), in microseconds."""

    flush_base_us: Interval = PARAMETERS[0].default
    flush_vcpu_us: Interval = PARAMETERS[1].default
    spte_us: Interval = PARAMETERS[2].default

    def flush_seconds(self, interrupting: Interval, vcpus: Interval) -> Interval:
        """Time of so many flushes that interrupt somebody, and of the vCPUs interrupted.

        A flush that interrupts nobody sets a bit for each vCPU and sends no interrupt: it counts as free.
        """
        low = interrupting[0] * self.flush_base_us[0] + vcpus[0] * self.flush_vcpu_us[0]
        high = interrupting[1] * self.flush_base_us[1] + vcpus[1] * self.flush_vcpu_us[1]
        return low * 1e-6, high * 1e-6

    def change_seconds(self, changes: float) -> Interval:
        """Time of so many SPTE changes."""
        return changes * self.spte_us[0] * 1e-6, changes * self.spte_us[1] * 1e-6


def parse_interval(text: str, option: str) -> Interval:
    """An interval of microseconds, none negative: NUMBER or LOW:HIGH; else InputError that names the option."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 <= n < 1e9 for n in numbers) or numbers[0] > numbers[-1]:
        raise InputError(f"{option} wants microseconds as NUMBER or LOW:HIGH, not '{text}'")
    return numbers[0], numbers[-1]
