"""docs/bugs.md: which bugs, dropped flushes and rules of KVM the suite knows, and what shows it.

``python -m tests.bug_table`` writes it anew from bug_rows.py, properties.py and the planted bugs.
"""

from __future__ import annotations

from collections.abc import Iterator

from shootdown.check.program import steps

from .audit import Audited
from .audit_bugs import AUDITED, AUDITS
from .bug_rows import BUGS, FLUSHES, RIGHT, Row
from .deep_bugs import DEEP
from .entry_bugs import ENTRIES
from .further_bugs import FURTHER
from .gap_bugs import GAPS
from .kernel_bugs import ABSENT, Planted
from .kernel_bugs import PLANTED as IN_C
from .kernel_planted import is_driver
from .known_bugs import BUGS as PLANTED
from .known_bugs import PAIRS
from .level_bugs import LEVELS
from .mutations import MUTATIONS, OPERATIONS, Mutation
from .order_bugs import HARMLESS, ORDERS
from .place_bugs import PLACES
from .properties import RULES
from .range_bugs import RANGES
from .structure import ROOT

FILE = ROOT / "docs" / "bugs.md"
ALL: tuple[Mutation, ...] = (
    *(*MUTATIONS, *OPERATIONS, *PLANTED, *PAIRS),
    *(*FURTHER, *PLACES, *ORDERS, *ENTRIES, *GAPS, *LEVELS, *DEEP, *RANGES),
)
BREAKS = {
    0: "holds", steps.USE_AFTER_FREE: "P2", steps.FREED_IN_REACH: "P2", steps.REVOKED_IN_REACH: "P1",
    steps.STALE: "P1", steps.STILL_MAPPED: "P1", steps.LOST_WRITE: "P3", steps.OVERWRITTEN: "P3",
    steps.WRITABLE_IN_REACH: "P4", steps.ASSERTION: "P6", steps.LEAK: "P6", steps.DEADLOCK: "P6",
    steps.DOUBLE_FREE: "P6", steps.MISCOUNT: "P7", steps.PASSES_FOR_MMIO: "P5", steps.UNKNOWN_IN_REACH: "P5",
    steps.EXECUTABLE_IN_REACH: "P5", steps.OTHER_IN_REACH: "P5",
}  # fmt: skip
"""The property that a planted bug breaks (docs/model.md)."""

TOP = """# Bugs that the suite knows

Each line tells of a bug that KVM's MMU had, or nearly had, and what shows that the suite would have found it: the bug
is planted in this project's MMU, and a test is refuted. `test`: P1 means that this test is refuted then, and what
breaks ([model.md](model.md)); *holds* that the change is harmless there. What is planted is in `tests/mutations.py`,
`tests/known_bugs.py`, `tests/further_bugs.py`, `tests/place_bugs.py`, `tests/order_bugs.py`, `tests/entry_bugs.py`,
`tests/gap_bugs.py`, `tests/level_bugs.py`, `tests/deep_bugs.py` and `tests/range_bugs.py` (*ranges*: with
`--ranged`); `python -m tests.bug_table` writes this page.
A test marked *audited* is one in which somebody looks at tables, counters and answers besides
(`tests/audit_bugs.py`, `tests/test_audit.py`).
"""
C_TOP = """## On the kernel's own C
The same in the tree's own files, or in the driver that stands for the kernel's function (*), by edits that name
functions and what is done there (`tests/kernel_bugs.py`). Each test, in its smallest geometry, holds without the edit
on that kernel. *ranges*: a flush of a range flushes no more; *W1 mended*: on 6.1 with its [known defect](findings.md)
mended, since the test is refuted there by that. `SHOOTDOWN_LINUX=FOLDER python -m tests.kernel_planted` tries them all.
"""
EVENTS = {
    steps.USE_AFTER_FREE: "use after free", steps.FREED_IN_REACH: "freed in reach",
    steps.REVOKED_IN_REACH: "revoked in reach", steps.STALE: "stale", steps.STILL_MAPPED: "still mapped",
    steps.LOST_WRITE: "lost write", steps.OVERWRITTEN: "overwritten", steps.WRITABLE_IN_REACH: "writable in reach",
    steps.UNKNOWN_IN_REACH: "unknown in reach", steps.EXECUTABLE_IN_REACH: "executable in reach",
    steps.OTHER_IN_REACH: "other in reach", steps.PASSES_FOR_MMIO: "passes for mmio",
}  # fmt: skip
"""What the explorer of the C calls them; what it has besides breaks P6."""
PARTS = (
    ("Bugs", "Commits fixed them, or mails proposed them.", "bug", BUGS),
    ("Flushes that KVM dropped or moved", "The MMU has them dropped as the behaviour has it, and the suite holds. "
     "Planted is the twin: a flush beside it that must stay, or a form that was not dropped.", "flush", FLUSHES),
    ("Right, although it looks wrong", "A checker that is too strict would refute these.", "code", RIGHT),
)  # fmt: skip


def named(site: str) -> list[Mutation | Audited]:
    """The planted bugs whose site begins so."""
    every: tuple[Mutation | Audited, ...] = (*ALL, *AUDITED)
    found = [planted for planted in every if planted.site.startswith(site)]
    assert found, f"nothing is planted for {site}"
    return found


def shown(what: tuple[str, ...] | str) -> str:
    """What shows a row: tests with what breaks, or why there is none."""
    if isinstance(what, str):
        return what.removeprefix("*")
    cells: dict[str, None] = {}
    for site in what:
        for mutation in named(site):
            how = [mutation.behaviour, "ranges" * (isinstance(mutation, Mutation) and mutation.ranged)]
            behaviour = f" ({', '.join(filter(None, how))})" if any(how) else ""
            if isinstance(mutation, Audited):
                cells[f"`{mutation.test}`{behaviour}, audited: {mutation.property or 'holds'}"] = None
            else:
                cells[f"`{mutation.test}`{behaviour}: {BREAKS[mutation.breaks]}"] = None
    return ", ".join(cells)


def rows(title: str, part: tuple[Row, ...]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| | {title} | commit | shown by |"
    yield "|---|---|---|---|"
    for name, commit, text, what in part:
        yield f"| {name} | {text} | {commit} | {shown(what)} |"


def further() -> Iterator[str]:
    """The lines of the table of further bugs, by their sites."""
    yield "| bug | commit | shown by |"
    yield "|---|---|---|"
    for mutation in (*FURTHER, *PLACES, *ORDERS, *ENTRIES, *GAPS, *LEVELS, *DEEP, *RANGES):
        commit, _, text = mutation.site.rpartition(": ")
        yield f"| {text} | {commit} | {shown((mutation.site,))} |"


def breaks(bug: Planted) -> str:
    """The property that a bug in the C breaks."""
    kind = next((number for number, name in EVENTS.items() if name == bug.breaks and number), 0)
    return BREAKS[kind] if kind or not bug.breaks else "P6"


def on_the_c() -> Iterator[str]:
    """The lines about the kernel's own C."""
    yield "| | planted | in | shown by |"
    yield "|---|---|---|---|"
    bugs: dict[tuple[str, str], list[Planted]] = {}
    for bug in IN_C:
        bugs.setdefault((bug.row, bug.name), []).append(bug)
    for (row, name), same in bugs.items():
        where = dict.fromkeys(
            f"`{edit.function}`" + (" *" if is_driver(edit.function) else "") for bug in same for edit in bug.edits
        )
        yield f"| {row} | {name} | {', '.join(where)} | {', '.join(map(told, same))} |"


def told(bug: Planted) -> str:
    """A test on some kernels, and what it gives."""
    more = ", ranges" * bug.ranged + ", an allocation fails" * (bug.failures > 0) + ", W1 mended" * bool(bug.upon)
    return f"`{bug.test}` ({', '.join(bug.versions)}{more}): {breaks(bug)}"


def page() -> str:
    """The whole page."""
    lines = [TOP]
    for title, text, head, part in PARTS:
        lines += [f"## {title}", text, "", *rows(head, part), ""]
    lines += ["## Further bugs", "Of the same families; KVM had those with a commit.", "", *further(), ""]
    lines += ["## Harmless, although it looks wrong", "Planted as well, and the whole suite holds.", ""]
    lines += ["| change | looked at first in |", "|---|---|", *(f"| {m.site} | `{m.test}` |" for m in HARMLESS), ""]
    lines += [
        "## Rules", "What KVM relies on, the tests that hold, and what breaks them.", "",
        "| | rule | source | tests | broken by |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, text, source, tests, what in RULES:
        known = ", ".join(
            f"`{test}`" if " " not in test or test in AUDITS else test for test in tests.split(", ") if test
        )
        lines.append(f"| {name} | {text} | {source} | {known} | {shown(what)} |")
    lines += ["", C_TOP, *on_the_c(), ""]
    lines += ["Not planted there: " + "; ".join(f"{row}: {why}" for row, why in ABSENT.items()) + "."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(page())
