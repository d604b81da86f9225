"""Patches to the MMU's sources: applied in a private copy, and accounted for hunk by hunk."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from .diff import Hunk, Line, fit, read_hunks
from .source import PACKAGE, PARTS

PATCH_MAX = 4 << 20
"""Bytes; a patch to these sources is shorter than the sources."""


def read_patch(path: str, text: str) -> list[Hunk]:
    """The hunks of a diff or of a mail (or mailbox) that holds some. Raises InputError if it is no patch to the MMU."""
    hunks = read_hunks(path, text, lambda line, new, old: _file(path, line, new, old))
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
        raise InputError(f"{path}:{line}: this patch is for a kernel tree; add --tree")
    raise InputError(f"{path}:{line}: {name} is no file of this program's MMU (machine/ or mmu/)")


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
        lines = [Line(text) for text in (folder / name).read_text(encoding="utf-8").splitlines()]
        unfit = fit(lines, mine)
        if unfit is not None:
            raise InputError(f"{mine[unfit].where}: the hunk does not fit {name}; is it made for this version?")
        text = "\n".join(line.text for line in lines) + "\n"
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            path = mine[-1].where.rpartition(":")[0]
            raise InputError(f"{path}: with it, {name}:{error.lineno} is no Python: {error.msg}") from None
        (folder / name).write_text(text, encoding="utf-8")
        for hunk in mine:
            _account(hunk, {n for n, line in enumerate(lines, 1) if hunk in line.hunks}, tree)


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
