"""Patches to the MMU's sources: applied in a private copy, and accounted for hunk by hunk."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .source import PACKAGE, PARTS

PATCH_MAX = 4 << 20
"""Bytes; a patch to these sources is shorter than the sources."""


@dataclass
class Hunk:
    """One hunk of a patch.

    file    as ``mmu/zap.py``
    old, new   lines without and with the change, context included
    start   line of the old file where it should be, from 1
    changed  offsets in ``new`` of lines that were added, or next to lines that were removed
    where   line in the patch
    lines   lines of the changed file that stand for it, once it is applied
    function  the function around them
    """

    file: str
    start: int
    where: int
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    lines: frozenset[int] = frozenset()
    function: str = ""

    def __str__(self) -> str:
        line = min(self.lines, default=self.start)
        return f"{self.file}:{line}" + (f" {self.function}" if self.function else "")


def read_patch(path: str, text: str) -> list[Hunk]:
    """The hunks of a diff or of a mail (or mailbox) that holds some. Raises InputError if it is no patch to the MMU."""
    lines = text.splitlines()
    hunks: list[Hunk] = []
    file = ""
    n = 0
    while n < len(lines):
        line = lines[n]
        if line.startswith("+++ ") and n and lines[n - 1].startswith("--- "):
            file = _file(path, n + 1, line[4:].split("\t")[0].strip(), lines[n - 1][4:].split("\t")[0].strip())
        match = re.match(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
        if match and file:
            hunk = Hunk(file, int(match[1]), n + 1)
            n = _body(path, lines, n + 1, hunk, int(match[2] or 1), int(match[3] or 1))
            hunks.append(hunk)
            continue
        n += 1
    if not hunks:
        raise InputError(f"{path}: no hunk of a unified diff in it; give a diff or a mail with one")
    return hunks


def _file(path: str, line: int, new: str, old: str) -> str:
    name = old if new == "/dev/null" else new
    parts = name.split("/")
    for n, part in enumerate(parts):
        if part in PARTS and parts[-1].endswith(".py"):
            found = "/".join(parts[n:])
            if not (PACKAGE / found).resolve().is_relative_to(PACKAGE) or not (PACKAGE / found).is_file():
                raise InputError(f"{path}:{line}: {name} is no file of this program's MMU")
            return found
    if re.search(r"\.[chS]$|Kconfig|Makefile|Documentation/", name):
        raise InputError(f"{path}:{line}: this patch is for a kernel tree: add --tree (not in this version)")
    raise InputError(f"{path}:{line}: {name} is no file of this program's MMU (machine/ or mmu/)")


def _body(path: str, lines: list[str], n: int, hunk: Hunk, old: int, new: int) -> int:
    """Read the lines of a hunk from the n-th line on; where it ends."""
    while old > 0 or new > 0:
        if n >= len(lines):
            raise InputError(f"{path}:{hunk.where}: the hunk is cut short")
        line = lines[n] or " "
        sign, text = line[0], line[1:]
        if sign == "\\":
            n += 1
            continue
        if sign not in " +-":
            raise InputError(f"{path}:{n + 1}: a line of a hunk begins with none of ' ', '+', '-'")
        if sign != "+":
            hunk.old.append(text)
            old -= 1
        if sign != "-":
            if sign == "+":
                hunk.changed.append(len(hunk.new))
            hunk.new.append(text)
            new -= 1
        else:
            # What was removed shows in what now stands around it.
            hunk.changed += [len(hunk.new) - 1, len(hunk.new)]
        n += 1
    return n


def apply(path: str, hunks: list[Hunk], folder: Path) -> None:
    """Copy the MMU's sources to ``folder`` and apply the hunks there. Raises InputError for one that does not fit."""
    for part in PARTS:
        shutil.copytree(PACKAGE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    by_file: dict[str, list[Hunk]] = {}
    for hunk in hunks:
        by_file.setdefault(hunk.file, []).append(hunk)
    for name, mine in by_file.items():
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        shift, placed = 0, []
        for hunk in mine:
            at = _find(lines, hunk.old, hunk.start - 1 + shift)
            if at is None:
                raise InputError(f"{path}:{hunk.where}: the hunk does not fit {name}; is it made for this version?")
            lines[at : at + len(hunk.old)] = hunk.new
            shift += len(hunk.new) - len(hunk.old)
            placed.append((hunk, at))
        text = "\n".join(lines) + "\n"
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            raise InputError(f"{path}: with it, {name}:{error.lineno} is no Python: {error.msg}") from None
        (folder / name).write_text(text, encoding="utf-8")
        for hunk, at in placed:
            _account(hunk, at, tree, lines)


def _find(lines: list[str], old: list[str], near: int) -> int | None:
    """Where ``old`` stands in ``lines``, as near to ``near`` as can be."""
    places = [n for n in range(len(lines) - len(old) + 1) if lines[n : n + len(old)] == old]
    return min(places, key=lambda n: abs(n - near), default=None)


def _account(hunk: Hunk, at: int, tree: ast.Module, lines: list[str]) -> None:
    """Find the statements that stand for a hunk: the changed ones, or the nearest to what was removed."""
    wanted = {at + 1 + n for n in hunk.changed if 0 <= n < len(hunk.new)}
    found = {node.lineno for node in _statements(tree) if wanted & set(range(node.lineno, _end(node) + 1))}
    if not found:
        return
    hunk.lines = frozenset(found)
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= min(found) <= (node.end_lineno or 0)
    ]
    hunk.function = max(around, key=lambda node: node.lineno).name if around else ""


def _end(node: ast.stmt) -> int:
    """Last line of a statement; of one with a body, the last of its head."""
    body = getattr(node, "body", None)
    return body[0].lineno - 1 if body else node.end_lineno or node.lineno


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements inside functions, docstrings left out."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if not isinstance(node, ast.stmt) or node is function:
                    continue
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    continue
                yield node
