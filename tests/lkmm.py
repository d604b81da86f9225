"""The checker's machine against the litmus tests of the Linux memory model.

    SHOOTDOWN_LINUX=FOLDER python -m tests.lkmm

writes the table of docs/model.md; FOLDER holds a kernel's sources, such as linux-source-6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shootdown.check.program import steps
from shootdown.check.program.access import BUFFERS
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.machine.words import RING_ENTRY
from tests.litmus_c import BITS, REGISTERS, OutOfScope, Test, folder, read, tasks
from tests.litmus_oracle import Final
from tests.small import small
from tests.structure import ROOT

PAGE = ROOT / "docs" / "model.md"
BEGIN, END = "<!-- python -m tests.lkmm -->\n", "<!-- end -->\n"


def finals(test: Test, movers: bool = True, buffers: int = 0) -> set[Final]:
    """Memory and registers of every final state that the checker finds; ``buffers``: entries of store buffers."""
    words = {(RING_ENTRY, number): test.start.get(number, 0) for number in test.variables.values()}
    model = Model(small(None, *tasks(test), used=0, tables=1, words=words, buffers=buffers), movers)
    result = search(model, 1_000_000)
    assert not result.broken and not result.stopped, (test.name, result)
    found = set()
    for state in range(result.states):
        nodes = [model.automata.nodes[model.node_of(state, n)] for n in range(len(test.threads))]
        if any(node.access.step != steps.END for node in nodes):
            continue
        if any(_list(model, state, BUFFERS + n) for n in range(len(test.threads))):
            continue
        memory = tuple(sorted((number, _word(model, state, number)) for number in test.variables.values()))
        registers = []
        for n, names in enumerate(test.registers):
            packed = _word(model, state, REGISTERS + n)
            registers.append(
                tuple(sorted((name, packed >> k * BITS & (1 << BITS) - 1) for k, name in enumerate(names)))
            )
        found.add((memory, tuple(registers)))
    return found


def _word(model: Model, state: int, owner: int) -> int:
    number = model.word_numbers.get((RING_ENTRY, owner))
    start = model.setting.words.get((RING_ENTRY, owner), 0)
    return int(start if number is None else model.values[number][model.field(state, number)])


def _list(model: Model, state: int, which: int) -> tuple[object, ...]:
    number = model.word_numbers.get(("list", which))
    return () if number is None else tuple(model.values[number][model.field(state, number)])


def occurs(test: Test, found: set[Final]) -> bool:
    """Is there a final state of which the test's ``exists`` is true?"""
    return any(test.holds(dict(memory), [dict(each) for each in registers]) for memory, registers in found)


@dataclass(frozen=True)
class Row:
    """A file: the ``Result`` of its comment, what the checker says without and with store buffers, why they differ."""

    name: str
    result: str
    ours: str
    tso: str
    note: str


def word(sometimes: bool) -> str:
    """As the comments say it."""
    return "Sometimes" if sometimes else "Never"


def row(path: Path) -> Row:
    """What becomes of a file."""
    text = path.read_text(encoding="utf-8")
    try:
        test = read(text)
    except OutOfScope as reason:
        result = re.search(r"Result:\s*(\w+)", text)
        return Row(path.stem, result[1] if result else "", "-", "-", f"out of scope: {reason}")
    ours, tso = word(occurs(test, finals(test))), word(occurs(test, finals(test, buffers=2)))
    note = "takes store buffers" if tso != ours else ""
    if tso != test.result:
        note = "no x86 does that; weaker CPUs may"
    return Row(path.stem, test.result, ours, tso, note)


def table(rows: list[Row]) -> str:
    """In Markdown."""
    lines = ["| file | `Result:` | checker | with `--store-buffers 2` | |", "|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.result} | {r.ours} | {r.tso} | {r.note} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Bring the table up to date."""
    where = folder()
    if where is None:
        raise SystemExit("set SHOOTDOWN_LINUX to a folder with linux-source-6.1 in it")
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(
        before + BEGIN + table([row(path) for path in sorted(where.glob("*.litmus"))]) + rest[rest.index(END) :]
    )


if __name__ == "__main__":
    main()
