"""The functions of the kernel that the MMU has, and where: read from the ``Source:`` lines of its docstrings.

``python -m tests.functions`` prints the table that docs/mmu.md shows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.structure import ROOT

MMU = ROOT / "src" / "shootdown" / "mmu"
NAME = re.compile(r"``([a-z_][a-z_0-9]*)``")
NO_FUNCTIONS = {"xchg"}
"""Names in such lines that are instructions."""


def sources(path: Path) -> Iterator[tuple[str, str]]:
    """Function or method of a file ("" for the file itself), and the text after ``Source:`` in its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            _, found, text = (ast.get_docstring(node) or "").partition("Source:")
            if found:
                yield "" if isinstance(node, ast.Module) else node.name, text


def functions() -> list[tuple[str, str, str]]:
    """Kernel's function, file, function there, sorted."""
    found = set()
    for path in sorted(MMU.rglob("*.py")):
        for here, text in sources(path):
            names = {*NAME.findall(text)} - NO_FUNCTIONS
            found |= {(name, str(path.relative_to(MMU)), here) for name in names}
    return sorted(found, key=lambda row: (row[0].lstrip("_"), row))


def main() -> None:
    """Print the table, a kernel's function once."""
    last = ""
    print(f"{'in the kernel':39} {'file':30} here")
    for name, file, here in functions():
        print(f"{'' if name == last else name:39} {file:30} {here}".rstrip())
        last = name


if __name__ == "__main__":
    main()
