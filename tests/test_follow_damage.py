"""Whatever stands in a recording's fields, following it ends with findings, never with an exception."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shootdown.cli.compare import document, text
from shootdown.cli.show import _document, event_lines, summary, tables
from shootdown.cost.compare import compare
from shootdown.cost.model import CostModel
from shootdown.trace.events import Lost, Trace
from shootdown.trace.history import WANTED, follow
from shootdown.trace.read import read_trace
from tests.corpus import get

NAMES = ("6.12-smm", "6.1-nxhuge", "6.12-text")
ANY = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, 6, 15, 255, 0x5A0, 0x800, 0x827, 0xEE7, 2**63 - 1, -(2**63)]),
)


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, int, int]], list[int], list[tuple[int, int]]]:
    """A recording, cells to overwrite (kind, field, row, value), kinds to drop, gaps."""
    cells = draw(st.lists(st.tuples(*[st.integers(0, 2**31)] * 3, ANY), max_size=40))
    dropped = draw(st.lists(st.integers(0, 60), max_size=6))
    gaps = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**9)), max_size=3))
    return draw(st.sampled_from(NAMES)), cells, dropped, gaps


def spoilt(name: str, cells: list[tuple[int, int, int, int]], dropped: list[int], gaps: list[tuple[int, int]]) -> Trace:
    """The recording with this damage."""
    trace = read_trace(str(get(name)), WANTED)
    kinds = list(trace.events.values())
    for kind, field, row, value in cells:
        events = kinds[kind % len(kinds)]
        numbers = [c for c in events.fields.values() if c.dtype.kind in "iu"]
        if numbers and len(events):
            column = numbers[field % len(numbers)]
            column[row % len(events)] = np.array(value, np.int64).astype(column.dtype)
    for kind in dropped:
        trace.events.pop(kinds[kind % len(kinds)].name, None)
    trace.lost += [Lost(cpu, trace.first + after, None) for cpu, after in gaps]
    return trace


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damage())
def test_any_value_in_any_field_is_survived(
    case: tuple[str, list[tuple[int, int, int, int]], list[int], list[tuple[int, int]]],
) -> None:
    """Overwritten fields, missing kinds and gaps: all commands still print, in 80 columns where they promise it."""
    trace = spoilt(*case)
    history = follow(trace)
    comparison = compare(history, CostModel(), True)
    document(comparison)
    _document(history)
    lines = [*text(comparison, CostModel()), *summary(history)]
    assert [line for line in lines if len(line) > 80] == []
    halfway = follow(trace, stop=(trace.first + trace.last) // 2)
    tables(halfway, "+1", 0, 2**40)
    assert sum(1 for _ in event_lines(trace, history.fmt)) == sum(len(e) for e in trace.events.values())
