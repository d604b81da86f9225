"""Prints what the fast explorer made of some tests, row by row, as digests; for comparing two builds of it."""

from __future__ import annotations

import hashlib

from librt.vecs import vec
from mypy_extensions import i64

from shootdown import build_info
from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import suite
from shootdown.check.search import layout
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source

CASES = (
    ("collapse-zap", "rcu"),
    ("huge-in-the-way", "eager"),
    ("nx-recovery", "rcu-literal"),
    ("unmap-tables", "list"),
    ("zap-range-leafs", "rcu"),
)


def digest(array: vec[i64], words: int) -> str:
    """Of the first words of an array."""
    return hashlib.sha256(memoryview(array)[:words]).hexdigest()


def digests() -> list[str]:
    """Of each case and granularity: states, transitions, verdict, and digests of rows and parents."""
    source, tests, lines = Source(), {test.name: test for test in suite()}, []
    for name, policy in CASES:
        test = tests[name]
        for movers in (True, False):
            model = Model(build(Case(test, policy, test.behaviours[0], test.tiny), source), movers)
            result = search(model)
            count = int(model.t.p[layout.STATES])
            found = [digest(array, count * each) for array, each in ((model.t.rows, model.width), (model.t.parents, 1))]
            lines.append(f"{name} {policy} {movers} {count} {result.transitions} {result.broken} {' '.join(found)}")
    source.close()
    return lines


if __name__ == "__main__":
    print("compiled" if build_info.compiled() else "plain")
    print("\n".join(digests()))
