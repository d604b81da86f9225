"""What a replay found: figures, and differences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .operation import Op
from .record import Event


@dataclass(slots=True)
class Difference:
    """Where our MMU and the record part.

    event      what was recorded, None if nothing
    predicted  gfn, level, old and new value of what our MMU did, None if nothing
    cause      the predicate that explains it, "" if none does
    """

    op: Op
    event: Event | None
    predicted: tuple[int, int, int, int] | None
    what: str
    cause: str = ""


@dataclass(slots=True)
class Result:
    """Figures of one recording."""

    changes: int = 0
    matched: int = 0
    undetermined: int = 0
    fast_faults: int = 0
    fast_matched: int = 0
    flushes_recorded: int = 0
    flushes_predicted: int = 0
    flushes_matched: int = 0
    flushes_undetermined: int = 0
    frees_recorded: int = 0
    frees_undetermined: int = 0
    frees_predicted: int = 0
    frees_matched: int = 0
    inputs: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)

    behaviour: str = ""
    sees_flushes: bool = True
    sees_frees: bool = True
    sees_puts: bool = True

    @property
    def determined(self) -> int:
        """Changes that the recording determines."""
        return self.changes - self.undetermined

    @property
    def unexplained(self) -> list[Difference]:
        """Differences without a cause."""
        return [d for d in self.differences if not d.cause]

    def differ(self, difference: Difference) -> None:
        """Keep a difference."""
        self.differences.append(difference)
        if difference.cause:
            self.explained[difference.cause] += 1
