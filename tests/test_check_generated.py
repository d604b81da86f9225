"""Soundness over litmus files by chance: whatever a file says, every way to search it gives the same verdict.

SHOOTDOWN_GENERATED asks for so many examples of each task in place of a few; a search that takes too many states for
the slow ways is left out there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, given, settings

from shootdown import build_info
from shootdown.check.litmus.litmus import Litmus
from shootdown.check.program.programs import HOST
from shootdown.check.program.setting import Setting
from shootdown.check.reference.explorer import Reference
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source
from tests import generated
from tests.generated import FIXED, RUNS, Example, drawn, examples, read, setting_of
from tests.structure import ROOT
from tests.test_check_processes import printed
from tests.test_check_sound import agree, everything

ASKED = int(os.environ.get("SHOOTDOWN_GENERATED", "0"))
EACH = ASKED or 1
QUICK = (
    ("pages", "zap_range"),
    ("huge", "recover_nx"),
    ("slots", "delete_slot"),
    ("logs", "get_log"),
    ("roots", "unmap"),
)
"""Those of which examples are searched on the plain sources, too."""
STATES_MAX = 20_000 if ASKED else 3_000
"""Of a search: what takes more says nothing."""
REFERENCE_MAX = 6_000 if ASKED else 1_000
"""States of a search that is held against the slow explorer."""
WORKED = 6
"""Files for the workers."""


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """One copy of the MMU's sources for all."""
    copy = Source()
    yield copy
    copy.close()


def of(example: Example, source: Source, folder: str) -> Setting | None:
    """The setting of an example, None if it is no test."""
    test = read(example[0], Path(folder))
    return setting_of(test, example[1], example[2], source) if test else None


def agreed(example: Example, source: Source) -> int:
    """Search an example in every way; how many of them came to an end. Fails where two of them differ."""
    with tempfile.TemporaryDirectory() as folder:
        if of(example, source, folder) is None:
            return 0

        def setting() -> Setting:
            found = of(example, source, folder)
            assert found
            return found

        merged = search(Model(setting()), STATES_MAX)
        if merged.stopped:
            return 0
        model = Model(setting(), movers=False)
        plain = search(model, STATES_MAX)
        unmerged = search(Model(setting(), merge=False), STATES_MAX)
        if not unmerged.stopped:
            assert unmerged.broken == merged.broken
            assert unmerged.states >= merged.states
            assert not merged.broken or unmerged.depth == merged.depth
        if plain.stopped:
            return 1 + (not unmerged.stopped)
        assert (plain.broken != 0) == (merged.broken != 0)
        assert merged.depth <= plain.depth
        if merged.broken:
            glued, single = (everything(setting(), movers, STATES_MAX) for movers in (True, False))
            assert glued == single or None in (glued, single)
            assert glued is None or {merged.broken, plain.broken} <= glued
        if plain.states > REFERENCE_MAX:
            return 2 + (not unmerged.stopped)
        slow = Reference(setting())
        outcome = slow.explore(4 * REFERENCE_MAX)
        assert not outcome.stopped
        agree(model, plain, slow, outcome)
        return 3 + (not unmerged.stopped)


@pytest.mark.parametrize(
    ("kind", "run"),
    [pytest.param(*each, marks=[] if each in QUICK else [pytest.mark.slow], id="-".join(each)) for each in RUNS],
)
def test_every_way_to_search_gives_the_same_verdict(kind: str, run: str, source: Source) -> None:
    """Merged and by histories, with movers and without, by the fast explorer and the slow one, state by state."""

    @settings(FIXED, max_examples=EACH)
    @given(drawn(kind, run))
    def hold(example: Example) -> None:
        assume(agreed(example, source))

    hold()


def test_every_task_and_most_examples_are_compared() -> None:
    """The files run everything that a file can, and few of them are none."""
    assert {run for _, run in RUNS} == HOST.keys()
    with tempfile.TemporaryDirectory() as folder:
        read_ = [read(text, Path(folder)) for text, _, _ in examples(1)]
    assert sum(test is None for test in read_) <= len(read_) // 10


def test_compiled_and_interpreted_searches_of_generated_tests_are_equal() -> None:
    """The same states in the same order, and the same parents."""
    if not build_info.compiled():
        pytest.skip("the package is not compiled")
    env = dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    words = (str(EACH), "20000" if ASKED else "500", "1" if ASKED else "5")
    done = subprocess.run(
        [sys.executable, str(generated.__file__), *words], env=env, capture_output=True, text=True, check=True
    )
    kind, *lines = done.stdout.splitlines()
    assert kind == "plain"
    assert lines == generated.digests(*map(int, words))


def small(folder: Path, source: Source) -> list[Litmus]:
    """Some generated tests that are searched soon."""
    found = []
    for text, policy, behaviour in examples(1):
        test = read(text, folder)
        setting = setting_of(test, policy, behaviour, source) if test else None
        if test and setting and behaviour == "6.12" and not search(Model(setting), 1_000).stopped:
            found.append(test)
        if len(found) == WORKED:
            break
    return found


@pytest.mark.slow
def test_many_workers_find_what_one_finds_of_generated_tests(tmp_path: Path, source: Source) -> None:
    """Verdicts, counts, schedules, order and exit code."""
    files = [test.path for test in small(tmp_path, source)]
    assert len(files) == WORKED
    one, three = (printed(*files, "--behaviour", "6.12", "--jobs", jobs, "--json") for jobs in ("1", "3"))
    assert one == three
