"""What all that compares a tree's C with our MMU says alike: which they are, how they come to differ, the exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..figures import number
from ..kernel.compare.differ import Difference
from ..kernel.library.build import NATIVE, build
from ..kernel.source.tree import Tree
from .progress import covering
from .report import wrap

DIFFERS, STOPPED = 2, 3


class Covered:
    """How far it is, for who interrupts it: how much is ``done``, and whether the two ``differ`` by what is known."""

    def __init__(self) -> None:
        self.done = 0
        self.differs = False

    def along(self, report: Callable[[int], None]) -> Callable[[int], None]:
        """Note how much is done, and report it."""

        def tell(done: int) -> None:
            self.done = done
            report(done)

        return tell

    def differ(self) -> None:
        """They do, and now the story is made short."""
        self.differs = True

    def text(self, rest: str) -> str:
        """In words; ``rest``: of how many, and on what."""
        return f"{number(self.done)} {rest}" + ("; the two differ, and how was not told yet" if self.differs else "")


def built(tree: Tree) -> Path:
    """The library of a tree that is driven here."""
    with covering(lambda: f"nothing done, {tree.name} is not built yet"):
        return build(tree, NATIVE).path


def heading(tree: Tree, behaviour: str, rest: str) -> list[str]:
    """The tree, our behaviour, and ``rest`` about what is done to both."""
    return [f"{tree.name}: Linux {tree.version}", *wrap(f"its C beside our {behaviour}{rest}", "  ")]


def document(tree: Tree, behaviour: str, **rest: object) -> dict[str, object]:
    """The same for JSON, with ``rest`` below."""
    return {"tree": tree.name, "version": tree.version, "behaviour": behaviour, **rest}


def story(difference: Difference) -> list[str]:
    """The operations that lead to a difference, and what it is."""
    made, *lines, last = difference.text().split("\n")
    return [*wrap(made, "      ", "  "), *(f"  {line}" for line in lines), *wrap(last, "    ", "  ")]


def code(differs: bool, stopped: bool) -> int:
    """The exit code; ``stopped``: nothing was compared, or not all, since both stop at an assertion."""
    return DIFFERS if differs else STOPPED if stopped else 0
