"""What a search takes of memory, it gives back."""

from __future__ import annotations

import gc
from pathlib import Path

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import suite
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source

AGAIN = 4


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_searches_in_a_row_take_the_memory_of_one() -> None:
    """A search's states are freed with it: repeated, it grows by less than their size each time."""
    test = next(test for test in suite() if test.name == "unmap-leafs")
    source, before, size = Source(), 0, 0
    for n in range(AGAIN + 1):
        model = Model(build(Case(test, "rcu", "6.12", test.full), source))
        assert search(model, 10**6, 600).states > 50_000
        size = 8 * (len(model.t.rows) + len(model.t.parents) + len(model.t.index))
        del model
        gc.collect()
        before = before if n else resident()
    assert resident() - before < AGAIN * size
