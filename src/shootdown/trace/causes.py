"""What may explain a breach of a rule in a recording: causes, each a predicate over a finding; the first fit wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..mmu.spte import WRITABLE, SpteFormat, differs_beyond_hardware, is_leaf
from .findings import FREE_UNKNOWN, FROZEN, NEVER_FREED, NEVER_LINKED, OLD_VALUE, SET_DIFFERS, Finding


@dataclass(slots=True, frozen=True)
class Recording:
    """What a cause may need to know of the recording as a whole.

    fmt      of the SPTEs; ``fast_faults``: fast_page_fault was recorded
    first, last  when it began and ended; ``grace``: what an RCU grace period lasts at most there, in ticks of its clock
    """

    fmt: SpteFormat
    first: int
    last: int
    grace: int
    fast_faults: bool


def other_way_round(finding: Finding, recording: Recording) -> bool:
    """Two CPUs changed the entry in turn and traced it in the other order: a later event supplied the missing link."""
    return finding.rule in (OLD_VALUE, FROZEN, SET_DIFFERS) and finding.late_at >= finding.time


def events_lost(finding: Finding, recording: Recording) -> bool:
    """The kernel dropped events since anything was last known of the entry."""
    return finding.lost == 1


def began_late(finding: Finding, recording: Recording) -> bool:
    """A table was freed that had been unlinked before the recording began, a grace period ago."""
    return finding.rule == FREE_UNKNOWN and finding.time - recording.first <= recording.grace


def ended_early(finding: Finding, recording: Recording) -> bool:
    """A table was unlinked so late that the recording ended before the grace period did."""
    return finding.rule == NEVER_FREED and recording.last - finding.time <= recording.grace


def free_not_reported(finding: Finding, recording: Recording) -> bool:
    """The probe missed the free: a table removed later was freed, and the recording went on for a grace period more.

    The grace period of the later one covers this one, too. A kprobe misses hits in an interrupt taken within another
    probe's handler; tracefs's ``kprobe_profile`` counts them.
    """
    later = finding.late_at > finding.time
    return finding.rule == NEVER_FREED and later and recording.last - finding.late_at > recording.grace


def lost_the_race(finding: Finding, recording: Recording) -> bool:
    """Another CPU linked its own table in that place first; the one made in vain is freed at once, without RCU."""
    return finding.rule == NEVER_LINKED and finding.late_at >= finding.time


def fast_fault_not_recorded(finding: Finding, recording: Recording) -> bool:
    """Nothing but W differs, where the MMU may write: a fast fault set it, and fast_page_fault was not recorded."""
    if (
        recording.fast_faults
        or finding.rule not in (OLD_VALUE, SET_DIFFERS)
        or not is_leaf(finding.held, finding.level)
    ):
        return False
    may = finding.held & recording.fmt.mmu_writable != 0 and finding.held & WRITABLE == 0
    fixed = finding.held | WRITABLE
    return bool(may and not differs_beyond_hardware(fixed, finding.old, finding.level, recording.fmt))


CAUSES: Sequence[tuple[str, Callable[[Finding, Recording], bool]]] = (
    ("traced the other way round", other_way_round),
    ("another CPU was faster", lost_the_race),
    ("fast faults not recorded", fast_fault_not_recorded),
    ("events were lost", events_lost),
    ("recording began late", began_late),
    ("free not reported by its probe", free_not_reported),
    ("recording ended early", ended_early),
)
"""Name and predicate of each cause, in the order in which they are tried."""


def explain(findings: list[Finding], recording: Recording) -> dict[str, int]:
    """Give each finding its cause (or leave it ""); the number of findings by cause."""
    counts: dict[str, int] = {}
    for finding in findings:
        finding.cause = next((name for name, fits in CAUSES if fits(finding, recording)), "")
        counts[finding.cause] = counts.get(finding.cause, 0) + 1
    return counts
