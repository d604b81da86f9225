"""How fast trace.dat becomes typed columns, beside ``trace-cmd report`` on the same file.

    python -m benchmarks.decode [EVENTS [MOST]]

grows the package's sample to EVENTS events (2,000,000) and reads all fields of all kinds, in turns with
``trace-cmd report`` whose text is thrown away; then the same recording at 10,000 events and ten times as many up to
MOST (10,000,000), where the time an event takes should stay the same. Medians of five runs, in one process.

Wall time, and beside it the processor's time in user mode: where a virtual machine gives freed memory back to its host,
wall time also holds what the kernel needs to get it again.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shootdown.trace.decode import read_trace_dat
from tests.corpus import SAMPLE
from tests.grow import grow

RUNS = 5


def decode(path: Path, wanted: tuple[str, ...] | None = None) -> None:
    """Read a recording: all its columns, or those of some kinds."""
    file = os.open(path, os.O_RDONLY)
    try:
        read_trace_dat(str(path), file, wanted)
    finally:
        os.close(file)


def report(path: Path) -> None:
    """Have trace-cmd print a recording to nowhere."""
    subprocess.run(["trace-cmd", "report", "-i", str(path)], stdout=subprocess.DEVNULL, check=True)


def user_seconds() -> float:
    """Time that this process and its ended children spent in user mode."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def medians(*works: Callable[[], None]) -> list[tuple[float, float]]:
    """Median (wall, user) seconds of each, all run in turns."""
    taken: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(RUNS):
        for work, times in zip(works, taken, strict=True):
            begin = time.perf_counter(), user_seconds()
            work()
            times.append((time.perf_counter() - begin[0], user_seconds() - begin[1]))
    return [(statistics.median(w for w, _ in times), statistics.median(u for _, u in times)) for times in taken]


def compare(folder: Path, events: int) -> None:
    """Print the speed of decoding and of trace-cmd, and their ratio."""
    path = folder / "large.dat"
    count = grow(SAMPLE, path, events)
    print(f"{count} events, {path.stat().st_size >> 20} MiB, not compressed; medians of {RUNS} runs")
    works = {
        "all columns": lambda: decode(path),
        "one small kind": lambda: decode(path, ("kvmmmu:kvm_mmu_split_huge_page",)),
    }
    if shutil.which("trace-cmd"):
        works["trace-cmd report"] = lambda: report(path)
    found = dict(zip(works, medians(*works.values()), strict=True))
    print(f"{'':18} {'wall s':>8} {'M events/s':>11} {'user s':>8}  times trace-cmd (wall, user)")
    for name, (wall, user) in found.items():
        times = ""
        if "trace-cmd report" in found:
            times = "  ".join(
                f"{theirs / ours:6.1f}" for theirs, ours in zip(found["trace-cmd report"], (wall, user), strict=True)
            )
        print(f"{name:18} {wall:8.3f} {count / wall / 1e6:11.2f} {user:8.3f}  {times}")


def scale(folder: Path, most: int) -> None:
    """Print what an event costs in recordings of growing length."""
    print(f"\n{'events':>10} {'wall s':>9} {'ns an event':>12} {'user ns':>12}")
    events = 10_000
    while events <= most:
        path = folder / f"{events}.dat"
        count = grow(SAMPLE, path, events)
        ((wall, user),) = medians(lambda path=path: decode(path))  # type: ignore[misc]
        print(f"{count:10} {wall:9.3f} {wall / count * 1e9:12.0f} {user / count * 1e9:12.0f}")
        path.unlink()
        events *= 10


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as scratch:
        compare(Path(scratch), sizes[0] if sizes else 2_000_000)
        scale(Path(scratch), sizes[1] if sizes[1:] else 10_000_000)
