"""Where the time of one operation goes, by function of the compiled package, as ``perf`` samples it.

    python -m benchmarks.profile "zap leafs, 6.12" [SPTES]

does the operation ten times to 1,000,000 SPTEs and prints the functions that took more than 1 % of its time, as shares
and as nanoseconds for each SPTE. Only the operation is sampled, not what makes it ready. Needs Linux's ``perf``, and
that this user may use it (``/proc/sys/kernel/perf_event_paranoid``).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.operations import OPERATIONS
from shootdown.kernel.cost.bench import seconds
from shootdown.kernel.cost.workloads import HUGE

REPEATED = 10
LEAST_PERCENT = 1.0
SYMBOL = re.compile(r"^ *([\d.]+)% +\S+ +\S+ +\[.\] (\S+)", re.M)


def operate(name: str, number: int, control: int) -> None:
    """Do an operation, with ``perf`` told when it begins and ends; print the seconds that it took."""
    operation = next(op for op in OPERATIONS if op.name == name)
    taken = 0.0
    for _ in range(REPEATED):
        work = operation.ready(number)
        os.write(control, b"enable\n")
        taken += seconds(work)
        os.write(control, b"disable\n")
    print(taken)


def profile(name: str, number: int) -> None:
    """Print the functions that took the time."""
    if name not in [op.name for op in OPERATIONS]:
        sys.exit(f"no operation is called {name!r}; there are: {'; '.join(op.name for op in OPERATIONS)}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        told, tell = os.pipe()
        work = [sys.executable, "-m", "benchmarks.profile", "operate", name, str(number), str(tell)]
        command = ["perf", "record", "-q", "-D", "-1", "--control", f"fd:{told}", "-F", "5000", "-o", str(data), "--"]
        done = subprocess.run([*command, *work], pass_fds=(told, tell), capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"perf record failed: {done.stderr.strip()}")
        report = subprocess.run(
            ["perf", "report", "-i", str(data), "--stdio"], capture_output=True, text=True, check=True
        ).stdout
    each = float(done.stdout) / REPEATED / number * 1e9
    print(f"{name}: {each:.1f} ns an SPTE, of {number:,}")
    for percent, symbol in SYMBOL.findall(report):
        if float(percent) >= LEAST_PERCENT:
            print(f"{float(percent):5.1f} % {each * float(percent) / 100:6.2f} ns  {plain(symbol)}")


def plain(symbol: str) -> str:
    """A C function of mypyc's by its Python name."""
    return re.sub(r"^CPy(?:Def|Py)_", "", symbol).replace("___", ".")


if __name__ == "__main__":
    if sys.argv[1:2] == ["operate"]:
        operate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:]:
        profile(sys.argv[1], int(sys.argv[2]) // HUGE * HUGE if sys.argv[2:] else 1_000_000 // HUGE * HUGE)
    else:
        sys.exit(__doc__)
