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


@dataclass(eq=False)
class Hunk:
    """One hunk of a patch.

    file    as ``mmu/zap.py``
    start   line of the old file where it should be, from 1
    where   file and line of the patch
    diff    which diff of the patch it is from: line numbers count from the file before that diff
    body    its lines: the sign, and the text
    lines   lines of the changed file that stand for it, once all is applied
    function  the function around them
    """

    file: str
    start: int
    where: str
    diff: str
    body: list[tuple[str, str]] = field(default_factory=list)
    lines: frozenset[int] = frozenset()
    function: str = ""

    @property
    def old(self) -> list[str]:
        """Lines without the change, context included."""
        return [text for sign, text in self.body if sign != "+"]

    def __str__(self) -> str:
        line = min(self.lines, default=self.start)
        return f"{self.file}:{line}" + (f" {self.function}" if self.function else "")


def read_patch(path: str, text: str) -> list[Hunk]:
    """The hunks of a diff or of a mail (or mailbox) that holds some. Raises InputError if it is no patch to the MMU."""
    lines = text.splitlines()
    hunks: list[Hunk] = []
    file = diff = ""
    n = 0
    while n < len(lines):
        line = lines[n]
        if line.startswith("+++ ") and n and lines[n - 1].startswith("--- "):
            diff = f"{path}:{n}"
            file = _file(path, n + 1, line[4:].split("\t")[0].strip(), lines[n - 1][4:].split("\t")[0].strip())
        match = re.match(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)
        if match and file:
            hunk = Hunk(file, int(match[1]), f"{path}:{n + 1}", diff)
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
            raise InputError(f"{hunk.where}: the hunk is cut short")
        line = lines[n] or " "
        sign, text = line[0], line[1:]
        if sign == "\\":
            n += 1
            continue
        if sign not in " +-":
            raise InputError(f"{path}:{n + 1}: a line of a hunk begins with none of ' ', '+', '-'")
        hunk.body.append((sign, text))
        old -= sign != "+"
        new -= sign != "-"
        n += 1
    return n


@dataclass
class _Line:
    """A line of a file, and the hunks that changed it or what stood next to it."""

    text: str
    hunks: set[Hunk] = field(default_factory=set)


def apply(hunks: list[Hunk], folder: Path) -> None:
    """Copy the MMU's sources to ``folder`` and apply the hunks there, one after the other.

    Raises InputError for one that does not fit.
    """
    for part in PARTS:
        shutil.copytree(PACKAGE / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    by_file: dict[str, list[Hunk]] = {}
    for hunk in hunks:
        by_file.setdefault(hunk.file, []).append(hunk)
    for name, mine in by_file.items():
        lines = [_Line(text) for text in (folder / name).read_text(encoding="utf-8").splitlines()]
        shift, diff = 0, ""
        for hunk in mine:
            shift = shift if hunk.diff == diff else 0
            diff = hunk.diff
            at = _find([line.text for line in lines], hunk.old, hunk.start - 1 + shift)
            if at is None:
                raise InputError(f"{hunk.where}: the hunk does not fit {name}; is it made for this version?")
            before = lines[at : at + len(hunk.old)]
            after = _changed(before, hunk)
            lines[at : at + len(before)] = after
            shift += len(after) - len(before)
        text = "\n".join(line.text for line in lines) + "\n"
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            path = mine[-1].where.rpartition(":")[0]
            raise InputError(f"{path}: with it, {name}:{error.lineno} is no Python: {error.msg}") from None
        (folder / name).write_text(text, encoding="utf-8")
        for hunk in mine:
            _account(hunk, {n for n, line in enumerate(lines, 1) if hunk in line.hunks}, tree)


def _changed(before: list[_Line], hunk: Hunk) -> list[_Line]:
    """The lines of a hunk when it is applied. What was removed shows in what now stands around it."""
    left, after, removed = iter(before), list[_Line](), False
    for sign, text in hunk.body:
        if sign == "-":
            next(left)
            removed = True
            if after:
                after[-1].hunks.add(hunk)
            continue
        line = _Line(text) if sign == "+" else next(left)
        if sign == "+" or removed:
            line.hunks.add(hunk)
        removed = False
        after.append(line)
    return after


def _find(lines: list[str], old: list[str], near: int) -> int | None:
    """Where ``old`` stands in ``lines``, as near to ``near`` as can be."""
    places = [n for n in range(len(lines) - len(old) + 1) if lines[n : n + len(old)] == old]
    return min(places, key=lambda n: abs(n - near), default=None)


def _account(hunk: Hunk, wanted: set[int], tree: ast.Module) -> None:
    """Find the statements that stand for a hunk: the changed ones, or the nearest to what was removed."""
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
