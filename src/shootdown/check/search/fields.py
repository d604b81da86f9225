"""Where the fields of a state stand in the words of its row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

ROW_BITS = 62
"""Bits of a word that are used: it is signed."""


def placed(widths: Sequence[int], growing: Sequence[int]) -> NDArray[np.int64]:
    """The word, the shift and the mask (rows) of each field (columns), in as few words as the widest first take.

    What is spare in a word goes to its ``growing`` fields, so that rows are brought into another layout less often.
    """
    allotted, word = list(widths), [0] * len(widths)
    filled: list[int] = []
    for f in sorted(range(len(widths)), key=lambda f: (-widths[f], f)):
        word[f] = next((n for n, used in enumerate(filled) if used + widths[f] <= ROW_BITS), len(filled))
        if word[f] == len(filled):
            filled.append(0)
        filled[word[f]] += widths[f]
    for n, used in enumerate(filled):
        mine = [f for f in growing if word[f] == n]
        for k, f in enumerate(mine):
            allotted[f] += (ROW_BITS - used + k) // len(mine)
    shift, filled = [], [0] * len(filled)
    for f, width in enumerate(allotted):
        shift.append(filled[word[f]])
        filled[word[f]] += width
    return np.array([word, shift, [(1 << width) - 1 for width in allotted]], np.int64)


def moves(old: NDArray[np.int64], fresh: NDArray[np.int64]) -> Iterator[int]:
    """What brings rows from one layout to another, as ``states.move_rows`` takes it: the same fields, none smaller."""
    together: dict[tuple[int, int, int], int] = {}
    for (word, shift, mask), (to, place, _) in zip(old.T.tolist(), fresh.T.tolist(), strict=True):
        run = word, to, place - shift
        together[run] = together.get(run, 0) | mask << shift
    for (word, to, by), mask in together.items():
        yield from (word, mask, to, by)
