"""The rules that ``test_structure.py`` holds the repository to: each takes a file's name and text, gives messages.

A message is ``file:line: what``, so that an editor can jump to it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "shootdown"

LINE_MAX = 120
FILE_LINES_MAX = 450

MACHINE = ("machine", "errors")
MMU = ("mmu", *MACHINE)
TRACE = ("trace", *MMU)
COST = ("cost", "figures", *TRACE)
CHECK = ("check", "figures", *MMU)
KERNEL = ("kernel", *CHECK, *TRACE)
# What each part of the package may import, itself aside. Anybody may import the package itself ("") for its version.
LAYERS: dict[str, tuple[str, ...]] = {
    "": ("errors", "vm"),
    "errors": (),
    "figures": (),
    "build_info": (),
    "machine": ("errors",),
    "mmu": MACHINE,
    "vm": MMU,
    "trace": MMU,
    "cost": ("figures", *TRACE),
    "check": ("figures", *MMU),
    "kernel": (*CHECK, *TRACE),
    "reproduce": (*COST, *KERNEL),
    "audit": (*COST, *KERNEL),
    "cli": ("build_info", "reproduce", "audit", *COST, *KERNEL),
    "__main__": ("cli",),
}

# What each room of a part may import of the part's other rooms.
ROOMS: dict[str, dict[str, tuple[str, ...]]] = {
    "check": {
        "source": (),
        "program": ("source",),
        "litmus": ("program", "source"),
        "search": ("program", "source"),
        "reference": ("program",),
        "schedule": ("search", "litmus", "program", "source"),
        "verdict": ("schedule", "search", "litmus", "program", "source"),
    },
    "kernel": {
        "source": (),
        "library": ("source",),
        "explore": ("library", "source"),
        "compare": ("explore", "library", "source"),
        "cost": ("compare", "library", "source"),
    },
}

# Parts that the checker loads a second time, uncompiled, under another name.
LOADED_TWICE = ("machine", "mmu")

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


# Files


def repository_files() -> Iterator[tuple[str, str]]:
    """Name and text of every text file that belongs to the repository: no build results, environments or data."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not _foreign(Path(folder, name)))
        for name in sorted(files):
            path = Path(folder, name)
            raw = path.read_bytes() if path.is_file() and name != ".git" else b"\0"
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                yield path.relative_to(ROOT).as_posix(), text


def _foreign(folder: Path) -> bool:
    name = folder.name
    return (
        name in (".git", ".hypothesis", "__pycache__", "build", "dist", "data", "samples")
        or name.startswith(".venv")
        or name.endswith(("_cache", ".egg-info"))
        or (folder / "pyvenv.cfg").exists()
    )


def package_files() -> Iterator[tuple[str, str]]:
    """Name and text of the package's Python sources."""
    return ((name, text) for name, text in repository_files() if name.startswith("src/") and name.endswith(".py"))


def compiled_files(setup: str) -> list[str]:
    """The list COMPILED in the text of ``setup.py``, read without running it."""
    for node in ast.parse(setup).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["COMPILED"]:
            return [str(name) for name in ast.literal_eval(node.value)]
    raise ValueError("setup.py: no assignment to COMPILED")


# Imports


def module_of(name: str) -> list[str]:
    """``src/shootdown/mmu/spte.py`` is ``["shootdown", "mmu", "spte"]``; a package ends with ``__init__``."""
    return list(Path(name).relative_to("src").with_suffix("").parts)


def imports_of(name: str, text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Line, relative level and full dotted name of everything of the package that a source imports."""
    package = module_of(name)[:-1]
    for node in ast.walk(ast.parse(text)):
        found: list[tuple[int, list[str]]] = []
        if isinstance(node, ast.Import):
            found = [(0, alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found = [(node.level, [*base, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found = [(0, str(arg.value).split(".")) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for level, parts in found:
            if parts[:1] == [PACKAGE]:
                assert isinstance(node, ast.stmt | ast.expr)
                yield node.lineno, level, parts


def layer_of(parts: list[str]) -> str:
    """The part of the package that a dotted name belongs to; a name of ``shootdown/__init__.py`` belongs to ""."""
    if len(parts) > 2 or (len(parts) == 2 and parts[1] in LAYERS):
        return "" if parts[1] == "__init__" else parts[1]
    return ""


def wrong_direction(name: str, text: str) -> list[str]:
    """Imports that LAYERS or ROOMS does not allow."""
    module = module_of(name)
    layer = "" if module[1] == "__init__" else module[1]
    if layer not in LAYERS:
        return [f"{name}:1: '{layer}' is not in LAYERS of tests/structure.py: say there what it may import"]
    allowed = ("", layer, *LAYERS[layer])
    rooms = ROOMS.get(layer, {})
    room = module[2] if len(module) > 3 else ""
    closed = {*rooms} - {room, *rooms.get(room, ())}
    return [
        f"{name}:{line}: {'.'.join(filter(None, (layer, room))) or PACKAGE} must not import {'.'.join(parts)}"
        for line, _, parts in imports_of(name, text)
        if layer_of(parts) not in allowed or (parts[1:2] == [layer] and {*parts[2:3]} & closed)
    ]


def absolute_imports(name: str, text: str) -> list[str]:
    """Imports of the package by its name, in a part that is loaded twice."""
    if module_of(name)[1] not in LOADED_TWICE:
        return []
    return [
        f"{name}:{line}: import {'.'.join(parts)} relatively: an uncompiled copy of this file would get compiled code"
        for line, level, parts in imports_of(name, text)
        if level == 0
    ]


# Shifts: mypyc folds a constant left operand to a C int, so that 1 << n is wrong from n = 31 and 1 >> n from n = 32.


def bad_shifts(name: str, text: str) -> list[str]:
    """Shifts of a constant by something that is none, except ``>>`` of a literal too wide for a C int."""
    tree = ast.parse(text)
    outer = _constants(tree, set())
    found = []
    scopes: list[Scope] = [tree]
    scopes += [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for scope in scopes:
        names = outer if scope is tree else _constants(scope, outer)
        for node in _own(scope):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift | ast.RShift)):
                continue
            wide = isinstance(node.op, ast.RShift) and not -(2**31) <= _literal(node.left) < 2**31
            if _constant(node.left, names) and not _constant(node.right, set()) and not wide:
                found.append((node.lineno, f"{name}:{node.lineno}: constant shifted: {ast.unparse(node)}"))
    return [message for _, message in sorted(found)]


def _own(scope: Scope) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions in it."""
    todo: list[ast.AST] = list(scope.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo.extend(ast.iter_child_nodes(node))


def _constants(scope: Scope, outer: set[str]) -> set[str]:
    """The names that hold constants in a scope: the outer ones, and those never bound to anything else."""
    bound: dict[str, list[ast.expr | None]] = {}
    direct: set[ast.AST] = set()
    for node in _own(scope):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                direct.add(target)
                bound.setdefault(target.id, []).append(node.value)  # type: ignore[attr-defined]
    for node in _own(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in direct:
            bound.setdefault(node.id, []).append(None)
    if not isinstance(scope, ast.Module):
        for arg in [n for n in ast.walk(scope.args) if isinstance(n, ast.arg)]:
            bound.setdefault(arg.arg, []).append(None)
    names = outer - bound.keys()
    while True:
        more = {
            name
            for name, values in bound.items()
            if name not in names and all(value is not None and _constant(value, names) for value in values)
        }
        if not more:
            return names
        names |= more


def _constant(node: ast.expr, names: set[str]) -> bool:
    """Whether mypyc may fold an expression; names in capitals count as constants wherever they come from."""
    match node:
        case ast.Constant():
            return isinstance(node.value, int)
        case ast.Name():
            return node.id in names or _is_capital(node.id)
        case ast.Attribute():
            return _is_capital(node.attr)
        case ast.UnaryOp():
            return _constant(node.operand, names)
        case ast.BinOp():
            return _constant(node.left, names) and _constant(node.right, names)
        case ast.IfExp():
            return _constant(node.body, names) or _constant(node.orelse, names)
        case ast.NamedExpr():
            return _constant(node.value, names)
        case ast.Call(func=ast.Name(id="i64" | "i32" | "i16" | "u8" | "int")):
            return all(_constant(arg, names) for arg in node.args)
    return False


def _is_capital(name: str) -> bool:
    return re.fullmatch(r"_*[A-Z][A-Z0-9_]*", name) is not None


def _literal(node: ast.expr) -> int:
    """The value of an expression of literals only, else 0."""
    if any(isinstance(part, ast.Name | ast.Attribute | ast.Call) for part in ast.walk(node)):
        return 0
    try:
        return int(eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}}))
    except (ArithmeticError, TypeError, ValueError):
        return 0


# Docstrings


def missing_docstrings(name: str, text: str) -> list[str]:
    """Public modules, classes, functions and methods without a docstring whose first line stands alone."""
    if Path(name).name.startswith("_") and not Path(name).name.startswith("__"):
        return []
    tree = ast.parse(text)
    return _undocumented(name, "module", tree) + _undocumented_below(name, tree)


def _undocumented_below(name: str, parent: ast.Module | ast.ClassDef) -> list[str]:
    found = []
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        roles = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
        if not roles & {"overload", "override", "setter", "deleter"}:
            found += _undocumented(name, node.name, node)
        if isinstance(node, ast.ClassDef):
            found += _undocumented_below(name, node)
    return found


def _undocumented(
    name: str, what: str, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> list[str]:
    line = getattr(node, "lineno", 1)
    docstring = ast.get_docstring(node, clean=False)
    if not docstring or not docstring.strip():
        return [f"{name}:{line}: {what} has no docstring"]
    first, _, rest = docstring.partition("\n")
    if not first.strip() or rest.partition("\n")[0].strip():
        return [f"{name}:{line}: the docstring of {what} must begin with one line that stands alone"]
    return []


# Plain text


def too_long(name: str, text: str) -> list[str]:
    """A source file that no longer fits one sitting."""
    lines = len(text.splitlines())
    return [f"{name}:{FILE_LINES_MAX}: {lines} lines, at most {FILE_LINES_MAX}"] if lines > FILE_LINES_MAX else []


def long_lines(name: str, text: str) -> list[str]:
    """Source lines that are too long."""
    return [
        f"{name}:{number}: {len(line)} characters, at most {LINE_MAX}"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > LINE_MAX
    ]


# Written so that the patterns do not match themselves.
BANNED = {
    "a path of one machine": re.compile(r"(?:^|[^0-9A-Za-z])/(?:work|farm|root)/"),
    "the host of a package registry": re.compile(
        r"pypi[.]org|pythonhosted[.]org|npmjs[.]|crates[.]io|debian[.]org/debian|proxy[.]golang|anaconda[.]org"
    ),
    "unfinished work": re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b"),
}


def banned_words(name: str, text: str) -> list[str]:
    """What must not be in any file of the repository."""
    return [
        f"{name}:{number}: {what}: {match.group().strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in BANNED.items()
        for match in pattern.finditer(line)
    ]


def missing_init(names: set[str]) -> list[str]:
    """Folders with sources that are no packages: mypy and mypyc would name their modules wrongly."""
    folders = {Path(name).parent.as_posix() for name in names}
    return [
        f"{folder}/__init__.py:1: missing, so its modules would be misnamed"
        for folder in sorted(folders)
        if folder != "src" and f"{folder}/__init__.py" not in names
    ]
