"""How states are laid out: no field is lost, and none comes upon another, when rows are brought into another layout."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shootdown.check.search import layout, states
from shootdown.check.search.fields import ROW_BITS, moves, placed
from shootdown.check.search.layout import Tables
from shootdown.check.search.tabulate import packed


@st.composite
def grown(draw: st.DrawFn) -> tuple[list[int], list[int], range]:
    """Widths of fields, others that are none smaller, and the fields that get what is spare."""
    widths = draw(st.lists(st.integers(0, 20), min_size=1, max_size=40))
    more = [min(width + draw(st.integers(0, 3)), ROW_BITS) for width in widths]
    first = draw(st.integers(0, len(widths) - 1))
    return widths, more, range(first, draw(st.integers(first, len(widths))))


@given(grown())
def test_a_row_in_another_layout_has_the_same_fields(shape: tuple[list[int], list[int], range]) -> None:
    """Every value of every field of every state is there after the layout has changed, whatever the rest holds."""
    widths, more, growing = shape
    random = np.random.default_rng(sum(widths))
    old, fresh = placed(widths, growing), placed(more, growing)
    count, old_width, width = 3, 1 + int(old[0].max()), 1 + int(fresh[0].max())
    values = [[int(random.integers(0, 1 << size)) for size in widths] for _ in range(count)]
    rows = np.zeros((count, old_width), np.int64)
    for n, row in enumerate(values):
        for f, value in enumerate(row):
            rows[n, old[0, f]] |= value << int(old[1, f])
    t = Tables()
    t.p[layout.STATES], t.p[layout.CAPACITY], t.p[layout.WIDTH] = count, count, width
    t.rows = packed(rows.ravel())
    states.move_rows(t, old_width, moves(old, fresh))
    found = [[t.rows[n * width + int(w)] >> int(s) & int(m) for w, s, m in fresh.T] for n in range(count)]
    assert found == values


@given(grown())
def test_fields_do_not_overlap(shape: tuple[list[int], list[int], range]) -> None:
    """Each bit of a row is of one field at most, each field has what it needs, and no word more than it may."""
    widths, _, growing = shape
    used: dict[int, int] = {}
    for (word, shift, mask), width in zip(placed(widths, growing).T.tolist(), widths, strict=True):
        assert mask >= (1 << width) - 1
        assert used.get(word, 0) & mask << shift == 0
        used[word] = used.get(word, 0) | mask << shift
    assert all(mask < 1 << ROW_BITS for mask in used.values())
