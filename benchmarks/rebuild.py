"""How fast a recording is followed: operations recovered and page tables rebuilt, from 10^4 to 10^7 events.

    python -m benchmarks.rebuild [EVENTS_MAX]

Prints for each size the medians of three runs: events/s of the whole, SPTE changes/s of the rebuild alone, and both in
ns, which stay flat if cost is linear. The recording is a real one, repeated.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from shootdown.build_info import describe
from shootdown.trace import rebuild
from shootdown.trace.history import WANTED, follow
from shootdown.trace.read import read_trace
from tests.corpus import get
from tests.grow import grow

SOURCE = "6.12-splitting"
RUNS = 3


def measure(path: Path) -> tuple[int, int, float, float]:
    """(events followed, SPTE changes, seconds of the whole, seconds of the rebuild alone)."""
    trace = read_trace(str(path), WANTED)
    wholes, alones = [], []
    feed = rebuild.feed
    for _ in range(RUNS):
        spent = 0.0

        def timed(*arguments: object) -> bool:
            nonlocal spent
            begun = time.perf_counter()
            went_on: bool = feed(*arguments)  # type: ignore[arg-type]
            spent += time.perf_counter() - begun
            return went_on

        rebuild.feed = timed
        begun = time.perf_counter()
        history = follow(trace)
        wholes.append(time.perf_counter() - begun)
        rebuild.feed = feed
        alones.append(spent)
    events = sum(len(e) for e in trace.events.values())
    return events, int(history.state.changes), statistics.median(wholes), statistics.median(alones)


def main() -> None:
    """Measure and print."""
    most = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10**7
    print(f"{SOURCE}, {describe()}, median of {RUNS}")
    print(f"{'events':>10} {'followed':>10} {'changes':>9} {'whole':>18} {'rebuild alone':>22}")
    with tempfile.TemporaryDirectory() as folder:
        size = 10**4
        while size <= most:
            path = Path(folder, "grown.dat")
            grow(get(SOURCE), path, size)
            events, changes, whole, alone = measure(path)
            followed = f"{events / whole / 1e6:>6.2f} M/s {whole / events * 1e9:>5.0f} ns"
            rebuilt = f"{changes / alone / 1e6:>10.2f} M/s {alone / changes * 1e9:>5.0f} ns"
            print(f"{size:>10,} {events:>10,} {changes:>9,} {followed} {rebuilt}")
            size *= 10


if __name__ == "__main__":
    main()
