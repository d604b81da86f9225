"""How many states the litmus suite takes, what merging and movers save, what a state weighs, how fast states are made.

    python -m benchmarks.states [--tiny] [--nodes] [--budget STATES] [--policy NAME]... [NAME...]

Of each test NAME (all) under its first behaviour and each policy NAME (eager, rcu, and those that it refutes), the
full geometry or the tiny one, a line:

    nodes      of the automata, all programs together
    fell       share of the nodes whose key is their whole history; ``--nodes`` names the functions that made it so
    states     until the verdict, with movers ("!": refuted; the figure is of states until then)
    unglued    the same without movers, so that every access is a step
    history    the same as states, where nodes are whole histories of results; ">n": a budget ran out, of states (2^20)
               or of CPU time (60 s)
    bits       of a row of fields, before packing
    used       bytes a state: row, parent and one entry of the index
    got        bytes a state as allocated, with the free room of all three
    core, all  million transitions a second of CPU time: of ``core.explore`` alone, and of the whole, from the litmus
               file to the verdict. Median of three; searches of less than 5 ms say nothing and leave them out

The last lines give totals: share of fallbacks over all lines; transitions a second and bytes a state over those that
were timed. They name the tests whose verdicts differ with and without movers or merging, which must be none.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from librt.vecs import vec
from mypy_extensions import i64

from shootdown.build_info import describe
from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import Litmus, suite
from shootdown.check.program.setting import Setting
from shootdown.check.search import core, layout
from shootdown.check.search.model import Model, TooLarge
from shootdown.check.search.search import Result, search
from shootdown.check.source.source import Source

RUNS = 3
SECONDS_MAX = 60.0
SHORTEST = 0.005
"""Searches that take less CPU time are not timed."""

_explore = core.explore


@dataclass
class Watch:
    """CPU time that was spent in ``core.explore``; stops a search that takes too long."""

    seconds: float = 0.0
    limit: float = 1e9
    begun: float = field(default_factory=time.process_time)

    def explore(self, t: layout.Tables) -> int:
        """``core.explore``, timed."""
        begun = time.process_time()
        if begun - self.begun > self.limit:
            raise TooLarge(f"more than {self.limit:g} s")
        found = _explore(t)
        self.seconds += time.process_time() - begun
        return int(found)


@dataclass
class Searched:
    """A search that ended: what it gave, its model, and CPU seconds of the core and of all."""

    result: Result
    model: Model
    core: float
    whole: float


def explored(setting: Setting, movers: bool = True, merge: bool = True, states: int = 1 << 40) -> Searched:
    """Explore a setting."""
    gc.collect()
    watch = Watch(limit=1e9 if merge else SECONDS_MAX)
    core.explore = watch.explore
    try:
        begun = time.process_time()
        model = Model(setting, movers, merge)
        result = search(model, states)
        return Searched(result, model, watch.seconds, time.process_time() - begun)
    finally:
        core.explore = _explore


def bytes_of(*arrays: vec[i64]) -> int:
    """Bytes of packed vectors of 64-bit words."""
    return sum(8 * len(array) for array in arrays)


def count_of(found: Searched) -> str:
    """States, "!" if refuted, ">" if the budget ran out."""
    sign = ">" if found.result.stopped else "!" if found.result.broken else ""
    return f"{sign}{found.result.states}"


@dataclass
class Total:
    """Sums over the lines."""

    nodes: int = 0
    histories: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    states: int = 0
    used: int = 0
    got: int = 0
    transitions: int = 0
    core: float = 0.0
    whole: float = 0.0
    differ: list[str] = field(default_factory=list)


def line(test: Litmus, policy: str, tiny: bool, budget: int, source: Source, total: Total) -> str:
    """Measure a test under a policy, add it to the total, and say it in a line."""
    geometry = test.tiny if tiny else test.full

    def setting() -> Setting:
        return build(Case(test, policy, test.behaviours[0], geometry), source)

    runs = [explored(setting()) for _ in range(RUNS)]
    unglued = explored(setting(), movers=False)
    plain = explored(setting(), merge=False, states=budget)
    if len({one.result.broken != 0 for one in (runs[0], unglued, plain) if not one.result.stopped}) > 1:
        total.differ.append(f"{test.name} under {policy}")
    first, result, model = runs[0], runs[0].result, runs[0].model
    t, states = model.t, result.states
    histories = sum(isinstance(key, tuple) and key[1] == "history" for key in model.automata.numbers)
    used = (bytes_of(t.rows, t.parents) // int(t.p[layout.CAPACITY]) + 8) * states
    got = bytes_of(t.rows, t.parents, t.index)
    nodes = len(model.automata.nodes)
    total.nodes, total.histories = total.nodes + nodes, total.histories + histories
    total.reasons.update(model.automata.histories.keys())
    inside, whole = (statistics.median(times) for times in ([r.core for r in runs], [r.whole for r in runs]))
    speed = f"{'':12}"
    if inside >= SHORTEST:
        total.transitions, total.core, total.whole = (
            total.transitions + result.transitions, total.core + inside, total.whole + whole,
        )  # fmt: skip
        speed = f"{result.transitions / inside / 1e6:6.2f}{result.transitions / whole / 1e6:6.2f}"
        total.states, total.used, total.got = total.states + states, total.used + used, total.got + got
    return (
        f"  {policy:14}{nodes:5}{histories / nodes:5.0%}{count_of(first):>9}{count_of(unglued):>9}{count_of(plain):>9}"
        f"{model.bits:5}{used / states:5.0f}{got / states:5.0f}{speed}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.states")
    parser.add_argument("--tiny", action="store_true", help="the tiny geometry")
    parser.add_argument("--nodes", action="store_true", help="name the functions whose frames cannot be compared")
    parser.add_argument("--budget", type=int, default=1 << 20, help="states of a search by histories")
    parser.add_argument("--policy", action="append", default=[], help="only these policies")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these tests")
    asked = parser.parse_args()
    source = Source()
    total = Total()
    print(f"{describe()}; {'tiny' if asked.tiny else 'full'} geometry; CPU time, median of {RUNS}")
    print(f"{'':15}{'nodes':>6}{'fell':>5}{'states':>9}{'unglued':>9}{'history':>9}{'bits':>5}"
          f"{'used':>5}{'got':>5}{'core':>6}{'all':>6}")  # fmt: skip
    for test in suite():
        if asked.names and test.name not in asked.names:
            continue
        geometry = test.tiny if asked.tiny else test.full
        print(f"{test.name}: {geometry.levels} levels, {geometry.tables} tables, {geometry.vcpus} vCPUs")
        for policy in test.policies:
            if policy in (asked.policy or ("eager", "rcu", *test.refuted)):
                print(line(test, policy, asked.tiny, asked.budget, source, total), flush=True)
    print(f"\nfell back to histories: {total.histories} of {total.nodes} nodes"
          f" ({total.histories / max(1, total.nodes):.1%}; aim: none)")  # fmt: skip
    if asked.nodes:
        for name, lines in total.reasons.most_common():
            print(f"  {name}, in {lines} lines")
    print(f"verdicts that differ: {', '.join(total.differ) or 'none'}")
    if total.core:
        print(f"core: {total.transitions / total.core / 1e6:.2f} M transitions/s (aim: at least 3);"
              f" all: {total.transitions / total.whole / 1e6:.2f}")  # fmt: skip
        print(f"bytes a state: {total.used / total.states:.0f} used (aim: at most 60),"
              f" {total.got / total.states:.0f} allocated")  # fmt: skip


if __name__ == "__main__":
    main()
