"""Look into rebuilt page tables: which entries a range of gfns meets, runs of alike ones folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..mmu.spte import PAGES, PFN, is_leaf, is_table
from .state import State
from .tables import UNSEEN, Root, Table, key


@dataclass(slots=True)
class Run:
    """``count`` neighbouring entries of a level that say the same, leaves with frames that follow one another.

    spte  the first one's value (signed), ``UNSEEN`` where nothing was recorded
    """

    level: int
    gfn: int
    spte: int
    count: int


def runs(state: State, root: Root, first: int, last: int) -> Iterator[Run]:
    """Entries that ``first`` to ``last`` meet, table by table, parents before children."""
    top = root.tables.get(key(root.level, 0))
    if top is not None:
        yield from _table(root, top, first, last)


def _table(root: Root, table: Table, first: int, last: int) -> Iterator[Run]:
    level, size = int(table.level), PAGES[int(table.level)]
    start = max(0, (first - int(table.gfn)) // size)
    end = min(511, (last - int(table.gfn)) // size)
    run: Run | None = None
    for index in range(start, end + 1):
        spte, gfn = int(table.entries[index]), int(table.gfn) + index * size
        if run is not None and _continues(run, spte, size):
            run.count += 1
            continue
        if run is not None:
            yield run
        run = Run(level, gfn, spte, 1)
        child = root.tables.get(key(level - 1, gfn)) if level > 1 else None
        if child is not None and (spte == UNSEEN or is_table(spte, level)):
            yield run
            run = None
            yield from _table(root, child, first, last)
    if run is not None:
        yield run


def _continues(run: Run, spte: int, size: int) -> bool:
    if is_leaf(run.spte, run.level) and run.spte != UNSEEN:
        frame = (run.spte & PFN) + run.count * size * 4096
        return spte != UNSEEN and spte & PFN == frame and spte & ~PFN == run.spte & ~PFN
    return spte == run.spte and (spte == UNSEEN or not is_table(spte, run.level))
