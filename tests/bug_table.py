"""docs/bugs.md: which bugs, dropped flushes and rules of KVM the suite knows, and what shows it.

``python -m tests.bug_table`` writes it anew from bug_rows.py, properties.py and the planted bugs.
"""

from __future__ import annotations

from collections.abc import Iterator

from shootdown.check import steps

from .bug_rows import BUGS, FLUSHES, RIGHT, Row
from .further_bugs import FURTHER
from .known_bugs import BUGS as PLANTED
from .known_bugs import PAIRS
from .mutations import MUTATIONS, OPERATIONS, Mutation
from .properties import RULES
from .structure import ROOT

FILE = ROOT / "docs" / "bugs.md"
ALL = (*MUTATIONS, *OPERATIONS, *PLANTED, *PAIRS, *FURTHER)
BREAKS = {
    0: "holds", steps.USE_AFTER_FREE: "P2", steps.FREED_IN_REACH: "P2", steps.REVOKED_IN_REACH: "P1",
    steps.STALE: "P1", steps.STILL_MAPPED: "P1", steps.LOST_WRITE: "P3", steps.OVERWRITTEN: "P3",
    steps.WRITABLE_IN_REACH: "P4", steps.ASSERTION: "P6", steps.LEAK: "P6", steps.DEADLOCK: "P6",
    steps.DOUBLE_FREE: "P6", steps.MISCOUNT: "P7",
}  # fmt: skip
"""The property that a planted bug breaks (docs/model.md)."""

TOP = """# Bugs that the suite knows

Each line tells of a bug that KVM's MMU had, or nearly had, and what shows that the suite would have found it: the bug
is planted in this project's MMU, and a test is refuted. `test`: P1 means that this test is refuted then, and what
breaks ([model.md](model.md)); *holds* that the change is harmless there. What is planted is in `tests/mutations.py`,
`tests/known_bugs.py` and `tests/further_bugs.py`; `python -m tests.bug_table` writes this page.
"""
PARTS = (
    ("Bugs", "Commits fixed them, or mails proposed them.", "bug", BUGS),
    ("Flushes that KVM dropped or moved", "The MMU has them dropped as the behaviour has it, and the suite holds. "
     "Planted is the twin: a flush beside it that must stay, or a form that was not dropped.", "flush", FLUSHES),
    ("Right, although it looks wrong", "A checker that is too strict would refute these.", "code", RIGHT),
)  # fmt: skip


def named(site: str) -> list[Mutation]:
    """The planted bugs whose site begins so."""
    found = [mutation for mutation in ALL if mutation.site.startswith(site)]
    assert found, f"nothing is planted for {site}"
    return found


def shown(what: tuple[str, ...] | str) -> str:
    """What shows a row: tests with what breaks, or why there is none."""
    if isinstance(what, str):
        return what.removeprefix("*")
    cells: dict[str, None] = {}
    for site in what:
        for mutation in named(site):
            behaviour = f" ({mutation.behaviour})" if mutation.behaviour else ""
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
    for mutation in FURTHER:
        commit, _, text = mutation.site.rpartition(": ")
        yield f"| {text} | {commit} | {shown((mutation.site,))} |"


def page() -> str:
    """The whole page."""
    lines = [TOP]
    for title, text, head, part in PARTS:
        lines += [f"## {title}", text, "", *rows(head, part), ""]
    lines += ["## Further bugs", "Of the same families; KVM had those with a commit.", "", *further(), ""]
    lines += [
        "## Rules", "What KVM relies on, the tests that hold, and what breaks them.", "",
        "| | rule | source | tests | broken by |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, text, source, tests, what in RULES:
        known = ", ".join(f"`{test}`" if " " not in test else test for test in tests.split(", ") if test)
        lines.append(f"| {name} | {text} | {source} | {known} | {shown(what)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(page())
