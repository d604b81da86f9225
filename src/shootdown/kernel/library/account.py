"""What became of each hunk of a patch: did what it changes run? Nothing is to hold that was not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ...check.source.diff import Hunk
from ..source.series import Patched
from ..source.statements import CODE, DECLARATION, NOTHING, Function, Piece, Shape
from ..source.tree import sources
from .coverage import Code, Place

EXECUTED: Final = "executed"
NEVER: Final = "never executed"
FOLDED: Final = "folded away"
NOT_COMPILED: Final = "not compiled"
NO_CODE: Final = "no code"
ORDER: Final = (EXECUTED, NEVER, FOLDED, NOT_COMPILED, NO_CODE)
"""What a part of a hunk is, if one of its lines is that and none is one before it."""

OTHER: Final = re.compile(
    r"(?:Documentation|tools|samples|scripts|LICENSES)/|MAINTAINERS$|CREDITS$|.*\.(?:rst|txt|yaml)$"
)
"""Files that are no part of a kernel."""
_LEAVES: Final = re.compile(r"\}|^\s*(?:\w+|case\b.*):")
"""A line by which a block ends, or to which something else jumps."""
_C_COMMENT: Final = re.compile(r"\s*(?:/\*|\*|//|$)")
_HASH_COMMENT: Final = re.compile(r"\s*(?:#|$)")
"""Lines without code of C, and of what is neither C nor assembly: Kconfig, Makefiles."""
_CHECKED: Final = re.compile(r"(?:static_assert|_Static_assert)\b")
"""What has done its work once the file is compiled."""
DEPTH: Final = 4
"""How many macros may stand between a name and the code that uses it."""


@dataclass(frozen=True)
class Part:
    """What a hunk changes in one function, or outside of any.

    line    the first changed line, in the changed file
    state   EXECUTED, NEVER, FOLDED, NOT_COMPILED or NO_CODE
    why     of what is folded away or not compiled
    unrun   changed lines of a part that was executed which themselves never ran
    """

    hunk: Hunk
    file: str
    line: int
    function: str
    state: str
    why: str = ""
    unrun: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" {self.function}" if self.function else "")


def account(patched: Patched, code: Code, ran: frozenset[Place]) -> list[Part]:
    """The parts of all hunks, in their order. A hunk whose lines a later one changed again has none."""
    use = _Use(patched, code, ran)
    return [part for hunk in patched.hunks for part in _parts(patched, use, hunk)]


def idle(parts: Iterable[Part]) -> list[Part]:
    """Those that change code which nothing ran."""
    return [part for part in parts if part.state in (NEVER, FOLDED, NOT_COMPILED)]


class _Use:
    """What is known about the lines of all files that are compiled."""

    def __init__(self, patched: Patched, code: Code, ran: frozenset[Place]) -> None:
        self.tree = patched.tree
        self.code, self.ran = code, ran
        self.files = {file for file, _ in code.compiled if not file.startswith("c/")}
        self.read = self.files | set(sources(patched.tree))
        self.shapes: dict[str, Shape] = {}
        self.words: dict[str, dict[str, list[int]]] = {}
        self.states: dict[tuple[str, int, int], str] = {}

    def shape(self, file: str) -> Shape:
        """The shape of a file of the tree."""
        if file not in self.shapes:
            self.shapes[file] = Shape(self.tree.text(file) or "")
        return self.shapes[file]

    def recorded(self, file: str, lines: Iterable[int]) -> str:
        """EXECUTED, NEVER, or NOT_COMPILED if none of the lines is in the library."""
        known = [(file, line) in self.ran for line in lines if (file, line) in self.code.compiled]
        return EXECUTED if any(known) else NEVER if known else NOT_COMPILED

    def line(self, file: str, number: int, depth: int = 0) -> str:
        """The state of one line."""
        key = file, number, depth
        if key not in self.states:
            self.states[key] = self._line(file, number, depth)
        return self.states[key]

    def _line(self, file: str, number: int, depth: int) -> str:
        shape = self.shape(file)
        if number in shape.directives:
            return self.directive(file, number, depth)
        pieces = shape.by_line.get(number, [])
        if file not in self.read:
            return NO_CODE if all(piece.kind == NOTHING for piece in pieces) else NOT_COMPILED
        if pieces and (file, number) in self.code.compiled:
            return self.recorded(file, [number])
        states = [self.piece(file, piece, number, depth) for piece in pieces]
        return min(states, key=ORDER.index, default=NO_CODE)

    def piece(self, file: str, piece: Piece, number: int, depth: int) -> str:
        """The state of a statement, or of a declaration by the use of what it declares."""
        if piece.kind == NOTHING:
            return NO_CODE
        function = self.shape(file).function_at(number)
        if piece.kind == CODE:
            return self.statement(file, piece, function)
        if piece.kind == DECLARATION:
            inside = (function.first, function.last) if function else None
            return self.used(_declared(piece, self.shape(file).lines[number - 1]), file, piece, depth, inside)
        return self.recorded(file, range(function.first, function.last + 1)) if function else NOT_COMPILED

    def statement(self, file: str, piece: Piece, function: Function | None) -> str:
        """The state of a statement; gcc may have made no code of one, though it has read it."""
        state = self.recorded(file, range(piece.first, piece.last + 1))
        if state != NOT_COMPILED or function is None or self.shape(file).depends(function, piece.first):
            return state
        if _CHECKED.match(piece.text):
            return NO_CODE
        return state if self.recorded(file, range(function.first, function.last + 1)) == NOT_COMPILED else FOLDED

    def directive(self, file: str, number: int, depth: int) -> str:
        """The state of a preprocessor line: that of the users of what it defines."""
        shape = self.shape(file)
        name = shape.directives[number]
        if name and file in self.read:
            own = Piece(number, number, DECLARATION, "", "")
            while shape.directives.get(own.first - 1) == name:
                own = Piece(own.first - 1, own.last, DECLARATION, "", "")
            while shape.directives.get(own.last + 1) == name:
                own = Piece(own.first, own.last + 1, DECLARATION, "", "")
            return self.used([name], file, own, depth, None)
        return NO_CODE if re.match(r"\s*#\s*include\b", shape.lines[number - 1]) else NOT_COMPILED

    def places(self, file: str) -> dict[str, list[int]]:
        """The lines of a file by the words in them."""
        if file not in self.words:
            found = self.words[file] = dict[str, list[int]]()
            for number, text in enumerate(self.shape(file).lines, 1):
                for word in set(re.findall(r"\w+", text)):
                    found.setdefault(word, []).append(number)
        return self.words[file]

    def used(self, names: list[str], file: str, by: Piece, depth: int, inside: tuple[int, int] | None) -> str:
        """The best state of a line that names one of these, apart from the declaration itself."""
        if depth >= DEPTH or not names:
            return NOT_COMPILED
        best = NOT_COMPILED
        for other in [file] if inside else sorted(self.files | {file}):
            places = self.places(other)
            for number in sorted({number for name in names for number in places.get(name, ())}):
                if other == file and (
                    by.first <= number <= by.last or (inside and not inside[0] <= number <= inside[1])
                ):
                    continue
                best = min(best, self.line(other, number, depth + 1), key=ORDER.index)
                if best == EXECUTED:
                    return best
        return best


def _declared(piece: Piece, line: str) -> list[str]:
    """The names that a declaration makes; of an enum, those on the line."""
    if not piece.text.endswith(";"):
        return re.findall(r"^\s*([A-Za-z_]\w*)", line)
    function = re.search(r"(\w+)\s*\(", re.sub(r"\b__\w+\s*\(", " ", piece.text))
    if function:
        return [function[1]]
    return re.findall(r"(\w+)\s*(?:\[[^]]*\]\s*)*(?::\s*\d+\s*)?(?=[,;=])", piece.text)


def _parts(patched: Patched, use: _Use, hunk: Hunk) -> list[Part]:
    """A part for each function that a hunk changes."""
    lines = patched.lines.get(hunk.file)
    if lines is None or OTHER.match(hunk.file) or not hunk.file.endswith((".c", ".h")):
        return [_unknown(hunk)]
    found: dict[str, list[tuple[int, str]]] = {}
    shape = use.shape(hunk.file)
    built = hunk.file in use.read
    for number, line in enumerate(lines, 1):
        state = ""
        if line.by is hunk:
            state = use.line(hunk.file, number)
        elif hunk in line.after:
            below = number < len(lines) and hunk in lines[number].before
            state = _cut(use, hunk, number, number + 1 if below else None)
        elif hunk in line.before and number == 1:
            state = _cut(use, hunk, None, number)
        if state:
            function = shape.function_at(number)
            found.setdefault(function.name if function else "", []).append((number, state))
    return [_part(hunk, function, states, built) for function, states in found.items()]


def _part(hunk: Hunk, function: str, states: list[tuple[int, str]], built: bool) -> Part:
    state = min((state for _, state in states), key=ORDER.index)
    line = next(number for number, each in states if each == state)
    why = ""
    if state == FOLDED:
        why = "gcc makes no code of it: what it hangs on is constant, or nothing comes of it"
    elif state == NOT_COMPILED:
        why = "left out by the preprocessor, or nothing that is built uses it" if built else "a file that is not built"
    unrun = tuple(number for number, each in states if each == NEVER) if state == EXECUTED else ()
    return Part(hunk, hunk.file, line, function, state, why, unrun)


def _unknown(hunk: Hunk) -> Part:
    """Of a file that is no C, or that the tree does not have, or that has no lines: a name, a mode, a binary file."""
    function = re.search(r"(\w+)\s*\(", hunk.heading)
    comment = _C_COMMENT if hunk.file.endswith((".c", ".h", ".S")) else _HASH_COMMENT
    changes = [n for n, (sign, _) in enumerate(hunk.body) if sign != " "]
    comments = bool(changes) and all(comment.match(hunk.body[n][1]) for n in changes)
    state = NO_CODE if OTHER.match(hunk.file) or comments else NOT_COMPILED
    name = function[1] if function else ""
    why = "a file that is not built" if state == NOT_COMPILED else ""
    return Part(hunk, hunk.file, hunk.start + min(changes, default=0), name, state, why)


def _cut(use: _Use, hunk: Hunk, above: int | None, below: int | None) -> str:
    """The state of a place where lines were removed: it ran if what stands around it in its function did."""
    removed = "\n".join(text for sign, text in hunk.body if sign == "-")
    shape = Shape(removed)
    if not shape.pieces and not shape.directives:
        return NO_CODE
    if hunk.file not in use.read:
        return NOT_COMPILED
    whole = use.shape(hunk.file)
    function = whole.function_at(above or below or 0)
    if below is not None and (function is None or not function.first <= below <= function.last):
        function = None
    if function is None or (function.last == above):
        # Outside of functions: what was declared there is gone, and nothing misses it.
        return NOT_COMPILED if any(not name for name in shape.directives.values()) else NO_CODE
    # What comes next in the same block runs when the place is passed, and not else.
    number = below or 0
    while below is not None and number <= function.last and not _LEAVES.search(whole.lines[number - 1]):
        if (hunk.file, number) in use.code.compiled:
            return use.recorded(hunk.file, [number])
        number += 1
    around = []
    for start, step in ((above, -1), (below, 1)):
        number = start or 0
        while start is not None and function.first <= number <= function.last:
            if (hunk.file, number) in use.code.compiled:
                around.append(use.recorded(hunk.file, [number]))
                break
            number += step
    return max(around, key=ORDER.index, default=NOT_COMPILED)
