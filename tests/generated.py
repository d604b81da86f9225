"""Litmus files by chance: small ones of every task that a file can name, on starts of every kind.

    python -m tests.generated [EACH STATES EVERY]

prints what the explorer makes, within STATES (500), of EACH (1) of them for each task, or of one in EVERY of these; for
comparing two builds of it.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shootdown import build_info
from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import Litmus, read_litmus
from shootdown.check.litmus.memory import FORMATS
from shootdown.check.program.setting import Setting
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source
from shootdown.errors import InputError
from shootdown.mmu.policies.registry import POLICIES
from tests.rows import digest

Table = dict[str, Any]

ANY = (
    {"run": "unmap", "start": 0, "end": 1}, {"run": "unmap", "start": 0, "end": 2, "refill": 8},
    {"run": "unmap", "start": 0, "end": 4, "may_block": False}, {"run": "zap_range", "start": 0, "end": 2},
    {"run": "zap_range", "start": 1, "end": 4}, {"run": "zap_all_fast"},
)  # fmt: skip
TASKS: dict[str, tuple[Table, ...]] = {
    "pages": (
        *ANY, {"run": "prefault", "gfn": 0, "execute": True}, {"run": "prefetch", "gfn": 1}, {"run": "age"},
        {"run": "clear_young", "start": 0, "end": 1}, {"run": "test_young", "gfn": 0},
        {"run": "change_pte", "gfn": 0}, {"run": "host_writable", "gfn": 0},
    ),
    "huge": (
        *ANY, {"run": "collapse", "start": 0, "end": 2}, {"run": "collapse"}, {"run": "recover_nx"},
        {"run": "recover_nx", "tables": 2}, {"run": "prefault", "gfn": 1},
        {"run": "migrate", "start": 0, "end": 2, "gfn": 0},
    ),
    "slots": (
        *ANY[:2], {"run": "log_on"}, {"run": "delete_slot"}, {"run": "move_slot", "base": 2},
        {"run": "create_slot", "slot": 1, "base": 2, "pages": 1}, {"run": "write_protect", "gfn": 0},
        {"run": "create_shadowed", "slot": 1, "base": 2, "pages": 1, "gfn": 2},
    ),
    "logs": (
        ANY[0], {"run": "get_log"}, {"run": "clear_log"}, {"run": "log_off"}, {"run": "write_protect", "gfn": 0},
        {"run": "age", "start": 0, "end": 1},
    ),
    "ring": (ANY[0], {"run": "reset_ring"}, {"run": "unmap", "start": 1, "end": 2}),
    "roots": (*ANY, {"run": "collapse"}, {"run": "prefault", "gfn": 0}),
    "parked": ({"run": "release"}, ANY[0], ANY[3]),
}  # fmt: skip
"""By kind of a test, what its tasks may run."""
RUNS = sorted({(kind, task["run"]) for kind, tasks in TASKS.items() for task in tasks})
VCPUS: dict[str, tuple[tuple[Table, ...], ...]] = {
    "roots": (
        ({"gfns": [0], "nested": True},), ({"gfns": [0], "switches": True},), ({"gfns": [0], "ahead": 1},),
        ({"gfns": [1], "as_id": 1},),
    ),
    "parked": (({"gfns": [0], "parked": True},), ({"gfns": [0], "parked": True}, {"gfns": [0], "nested": True,
               "parked": True})),
    "ring": (({"writes": [0]},), ({"writes": [0], "gfns": [1]},)),
    "logs": (({"writes": [0]},), ({"writes": [0], "gfns": [1]},), ({"writes": [1]},)),
}  # fmt: skip
"""By kind of a test, its vCPUs, where it takes special ones."""
PLAIN = (
    ({"gfns": [0]},), ({"gfns": [1]},), ({"gfns": [0, 2]},), ({"gfns": [0], "execute": True},), ({"writes": [0]},),
    ({"gfns": [0]}, {"gfns": [0]}),
)  # fmt: skip
"""The last one is two equal vCPUs."""
MAPPED: tuple[list[list[int]], ...] = ([], [[0, 1]], [[0, 1], [1, 1]], [[0, 1], [2, 1]], [[0, 2]], [[0, 2], [2, 1]])


@st.composite
def files(draw: st.DrawFn, kind: str, run: str) -> str:
    """The text of a litmus file of a kind, one of whose tasks runs ``run``."""
    vcpus = draw(st.sampled_from(VCPUS.get(kind, PLAIN)))
    runs = [run]
    if draw(st.integers(0, 2)) == 2 and (len(vcpus) == 1 or kind == "parked"):
        runs.append(draw(st.sampled_from(sorted({task["run"] for task in TASKS[kind]}))))
    tasks = [draw(st.sampled_from([task for task in TASKS[kind] if task["run"] == run])) for run in runs]
    some = st.sampled_from([[], [], [0]])
    start: Table = {
        "map": draw(st.sampled_from(MAPPED)), "host": draw(st.sampled_from([[], [[0, 2]], [[0, 2], [2, 2]]])),
        "format": draw(st.sampled_from(FORMATS)), "aged": draw(some), "read_only": draw(some),
        "protected": draw(some), "hardware_ad": draw(st.booleans()),
    }  # fmt: skip
    if kind in ("huge", "slots"):
        start["nx"] = draw(st.booleans())
    slots: list[Table] = []
    if kind in ("slots", "logs", "ring"):
        slots = [{"base": 0, "pages": 2, "flags": [] if kind == "slots" else ["log"]}]
        start["eager_split"] = draw(st.booleans())
    if kind == "slots":
        slots.append({"base": 2, "pages": 0})
        start["slot_zap_all"] = draw(st.booleans())
    if kind == "logs":
        start["dirty"], start["pml"] = draw(some), draw(st.booleans())
        start["initially_set"], start["clean"] = draw(st.booleans()), draw(some)
    if kind == "ring":
        start["ring"] = 2
    host = [{"name": f"t{n}", **task} for n, task in enumerate(tasks)]
    geometry = {"levels": 2, "tables": draw(st.integers(3, 5)), "vcpus": len(vcpus)}
    parts = [
        'promise = "generated"',
        section("", {"ranged": draw(st.booleans())}),
        section("[geometry]", geometry),
        section("[start]", start),
    ]
    for name, tables in (("[[slot]]", slots), ("[[vcpu]]", vcpus), ("[[host]]", host)):
        parts += [section(name, table) for table in tables]
    return "\n".join(parts) + "\n"


def section(name: str, table: Table) -> str:
    """A table of a TOML file; what Python writes of lists, numbers and texts is TOML, but for true and false."""
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in table.items()
    ]
    return "\n".join([name, *lines])


Example = tuple[str, str, str]
"""A file's text, a policy and a behaviour."""


def drawn(kind: str, run: str) -> st.SearchStrategy[Example]:
    """Examples of a kind with that task; ``change_pte`` is of kernels up to 6.1."""
    behaviours = ["5.17", "6.1"] if run == "change_pte" else ["6.12", "6.13", "6.1", "5.17"]
    return st.tuples(files(kind, run), st.sampled_from(sorted(POLICIES)), st.sampled_from(behaviours))


FIXED = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
"""The same examples each time."""


def read(text: str, folder: Path) -> Litmus | None:
    """The test in a text; None if it is none: its start takes more tables than there are, or two tasks do not go."""
    path = folder / f"g{hashlib.sha256(text.encode()).hexdigest()[:12]}.toml"
    path.write_text(text)
    try:
        return read_litmus(path)
    except InputError:
        return None


def setting_of(test: Litmus, policy: str, behaviour: str, source: Source) -> Setting | None:
    """The setting of a generated test, None if its start takes too many tables."""
    try:
        return build(Case(test, policy, behaviour, test.tiny), source)
    except InputError:
        return None


@cache
def examples(each: int) -> tuple[Example, ...]:
    """So many of each kind with each task, the same ones each time."""
    found: dict[Example, None] = {}
    for kind, run in RUNS:

        @settings(FIXED, max_examples=each)
        @given(drawn(kind, run))
        def collect(example: Example) -> None:
            found[example] = None

        collect()
    return tuple(found)


def digests(each: int, states_max: int, every: int) -> list[str]:
    """Of ``every``-th example, if it is one: states, transitions, verdict, and digests of rows and parents."""
    source, lines = Source(), []
    with tempfile.TemporaryDirectory() as folder:
        for text, policy, behaviour in examples(each)[::every]:
            test = read(text, Path(folder))
            for movers in (True, False) if test else ():
                assert test
                setting = setting_of(test, policy, behaviour, source)
                if setting is None:
                    continue
                model = Model(setting, movers)
                result = search(model, states_max)
                rows = [
                    digest(array, result.states * each)
                    for array, each in ((model.t.rows, model.width), (model.t.parents, 1))
                ]
                figures = f"{result.states} {result.transitions} {result.broken} {result.stopped}"
                lines.append(f"{test.name} {policy} {movers} {figures} {' '.join(rows)}")
    source.close()
    return lines


if __name__ == "__main__":
    print("compiled" if build_info.compiled() else "plain")
    print("\n".join(digests(*map(int, sys.argv[1:] or ("1", "500", "1")))))
