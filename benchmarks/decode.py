"""How fast trace.dat becomes typed columns, beside ``trace-cmd report`` on the same file.

    python -m benchmarks.decode [EVENTS [MOST]]

grows the package's sample to EVENTS events (2,000,000) and reads all fields of all kinds, in turns with
``trace-cmd report`` whose text is thrown away; then the same recording at 10,000 events and ten times as many up to
MOST (10,000,000), where the time an event takes should stay the same. Medians of five runs, in one process.
"""

from __future__ import annotations

import os
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


def medians(*works: Callable[[], None]) -> list[float]:
    """Median seconds of each, all run in turns."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(RUNS):
        for work, taken in zip(works, seconds, strict=True):
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) for taken in seconds]


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
    for name, seconds in found.items():
        times = f"  {found['trace-cmd report'] / seconds:6.1f} x trace-cmd" if "trace-cmd report" in found else ""
        print(f"{name:18} {seconds:8.3f} s  {count / seconds / 1e6:7.2f} M events/s{times}")


def scale(folder: Path, most: int) -> None:
    """Print what an event costs in recordings of growing length."""
    print(f"\n{'events':>10} {'seconds':>9} {'ns an event':>12}")
    events = 10_000
    while events <= most:
        path = folder / f"{events}.dat"
        count = grow(SAMPLE, path, events)
        (seconds,) = medians(lambda path=path: decode(path))  # type: ignore[misc]
        print(f"{count:10} {seconds:9.3f} {seconds / count * 1e9:12.0f}")
        path.unlink()
        events *= 10


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as scratch:
        compare(Path(scratch), sizes[0] if sizes else 2_000_000)
        scale(Path(scratch), sizes[1] if sizes[1:] else 10_000_000)
