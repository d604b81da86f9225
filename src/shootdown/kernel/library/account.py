"""What became of each hunk of a patch: did what it changes run? Nothing is to hold that was not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ...check.source.diff import Hunk, Line
from ..source.c_text import uncommented
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
UNBUILT: Final = "a file that is not built"
_C_PROSE: Final = re.compile(r"\s*(?:\*(?:\s|/|$)|/\*|$|(?:trace_|pr_)\w*\([^;]*\);\s*$)")
"""A line of a comment that begins or ends elsewhere, a blank one, or one that only tells."""
_C_COMMENT: Final = re.compile(r"\s*(?:/\*|\*|//|$)")
_HASH_COMMENT: Final = re.compile(r"\s*(?:#|$)")
"""Lines without code of C, and of what is neither C nor assembly: Kconfig, Makefiles."""
_SAYS: Final = re.compile(r"(?:trace_|pr_|BUILD_BUG)\w*\(")
"""Statements without effect on page tables, whatever becomes of them."""
_HEAD: Final = re.compile(r"(?:else )?if \(")
_CHECKED: Final = re.compile(r"(?:static_assert|_Static_assert)\b")
"""What has done its work once the file is compiled."""
CONDITIONS: Final = ("if", "ifdef", "ifndef", "elif", "else", "endif")
DEPTH: Final = 4
"""How many macros may stand between a name and the code that uses it."""


@dataclass(frozen=True)
class Part:
    """What a hunk changes in one function, or outside of any.

    line    the first changed line, in the changed file
    state   EXECUTED, NEVER, FOLDED, NOT_COMPILED or NO_CODE
    why     of what is folded away or not compiled
    """

    hunk: Hunk
    file: str
    line: int
    function: str
    state: str
    why: str = ""

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
        self.texts: dict[str, list[str]] = {}
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
        if self.left_out(file, number):
            return NOT_COMPILED
        if number in shape.directives:
            return self.directive(file, number, depth)
        pieces = shape.by_line.get(number, [])
        if file not in self.read:
            return NO_CODE if all(piece.kind == NOTHING for piece in pieces) else NOT_COMPILED
        if pieces and (file, number) in self.code.compiled:
            return self.recorded(file, [number])
        states = [self.piece(file, piece, number, depth) for piece in pieces]
        return min(states, key=ORDER.index, default=NO_CODE)

    def left_out(self, file: str, number: int) -> bool:
        """Is it sure that the preprocessor drops a line? Not of lines that only say what it is to keep."""
        kept, shape = self.code.kept.get(file), self.shape(file)
        if kept is None or not self.text(file)[number - 1].strip():
            return False
        name = shape.directives.get(number)
        while name and shape.directives.get(number - 1) == name:
            number -= 1
        return name != "" and number not in kept

    def text(self, file: str) -> list[str]:
        """The lines of a file without comments and strings."""
        if file not in self.texts:
            self.texts[file] = uncommented("\n".join(self.shape(file).lines)).split("\n")
        return self.texts[file]

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
        word = re.match(r"\s*#\s*(\w*)", shape.lines[number - 1])
        if word and (word[1] == "include" or (word[1] in CONDITIONS and self.keeps(file, number))):
            return NO_CODE
        return NOT_COMPILED

    def keeps(self, file: str, number: int) -> bool:
        """Does the preprocessor leave all lines that hang on a condition of its own?"""
        if file not in self.code.kept:
            return False
        shape, depth = self.shape(file), 0
        step = -1 if re.match(r"\s*#\s*endif\b", shape.lines[number - 1]) else 1
        number += step
        while 0 < number <= len(shape.lines):
            word = re.match(r"\s*#\s*(if|endif|elif|else)", shape.lines[number - 1])
            if word and depth == 0 and word[1] != ("endif" if step < 0 else "if"):
                return True
            if word and word[1] in ("if", "endif"):
                depth += step if word[1] == "if" else -step
            elif self.left_out(file, number):
                return False
            number += step
        return False

    def places(self, file: str) -> dict[str, list[int]]:
        """The lines of a file by the words in them."""
        if file not in self.words:
            found = self.words[file] = dict[str, list[int]]()
            for number, text in enumerate(self.text(file), 1):
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
    """The parts of a hunk: of each function that it changes one, and others for what of it did not run."""
    lines = patched.lines.get(hunk.file)
    if not lines or OTHER.match(hunk.file) or not hunk.file.endswith((".c", ".h")):
        return [_unknown(hunk)]
    found: dict[str, list[tuple[int, str]]] = {}
    shape = use.shape(hunk.file)
    removed = "\n".join(text for sign, text in hunk.body if sign == "-")

    def add(number: int, state: str) -> None:
        function = shape.function_at(number)
        found.setdefault(function.name if function else "", []).append((number, state))

    for run, instead in _runs(lines, hunk):
        states = [(number, use.line(hunk.file, number)) for number in run]
        bare = [
            n for n in run if n not in shape.directives and all(p.kind == NOTHING for p in shape.by_line.get(n, []))
        ]
        here = "\n".join(lines[number - 1].text for number in bare)
        if all(state == NO_CODE for _, state in states) and (_is_code(instead) or _is_code(here)):
            # A brace, an "else", or nothing in the place of code: what is around it tells.
            states = [(run[0], _place(use, hunk.file, run[0], run[0] - 1 or None, run[-1] + 1))]
        for number, state in states:
            add(number, state)
    for number, line in enumerate(lines, 1):
        if line.by is hunk:
            continue
        if hunk in line.after:
            below = number < len(lines) and hunk in lines[number].before
            add(number, _cut(use, hunk.file, removed, number, number + 1 if below else None))
        elif hunk in line.before and (number == 1 or hunk not in lines[number - 2].after):
            add(number, _cut(use, hunk.file, removed, number - 1 or None, number))
    return [part for function, states in found.items() for part in _of_function(use, hunk, function, states)]


def _runs(lines: list[Line], hunk: Hunk) -> list[tuple[list[int], str]]:
    """The numbers of lines that a hunk added, those in a row together, each with what it removed there."""
    removed, of_added = [""], list[int]()
    for sign, text in hunk.body:
        if sign == " " and removed[-1]:
            removed.append("")
        elif sign == "-":
            removed[-1] += text + "\n"
        elif sign == "+":
            of_added.append(len(removed) - 1)
    mine = [number for number, line in enumerate(lines, 1) if line.by is hunk]
    known = len(mine) == len(of_added)
    runs: list[tuple[list[int], str]] = []
    for n, number in enumerate(mine):
        instead = removed[of_added[n]] if known else "".join(removed)
        if runs and runs[-1][0][-1] == number - 1:
            runs[-1][0].append(number)
            if instead != runs[-1][1]:
                runs[-1] = (runs[-1][0], runs[-1][1] + instead)
        else:
            runs.append(([number], instead))
    return runs


def _is_code(text: str) -> bool:
    """Is there something but comments and blanks? It may begin and end in a comment, in the kernel's style."""
    return any(not _C_PROSE.match(line) for line in uncommented(text).split("\n"))


def _of_function(use: _Use, hunk: Hunk, function: str, states: list[tuple[int, str]]) -> list[Part]:
    """What a hunk changes in a function; where some of that ran, what did not is told apart."""
    best = min((state for _, state in states), key=ORDER.index)
    found = [_part(use, hunk, function, best, states)]
    if best != EXECUTED:
        return found
    shape = use.shape(hunk.file)
    for state in (NEVER, FOLDED, NOT_COMPILED):
        left = [(n, each) for n, each in states if each == state and not _is_idle(use, hunk.file, shape, n)]
        found += [_part(use, hunk, function, state, left)] if left else []
    return found


def _is_idle(use: _Use, file: str, shape: Shape, number: int) -> bool:
    """Is it nothing that a line did not run?

    Before what an assertion guards the assertion is refuted; what only tells has no effect; a condition that is always
    true needs no code.
    """
    pieces = shape.by_line.get(number, [])
    if number in shape.asserted or (pieces and all(_SAYS.match(piece.text) for piece in pieces)):
        return True
    behind = max((piece.last for piece in pieces), default=number) + 1
    return bool(pieces) and all(_HEAD.match(piece.text) for piece in pieces) and use.line(file, behind) == EXECUTED


def _part(use: _Use, hunk: Hunk, function: str, state: str, states: list[tuple[int, str]]) -> Part:
    line = next(number for number, each in states if each == state)
    why = ""
    if state == FOLDED:
        why = "gcc makes no code of it: what it hangs on is constant, or nothing comes of it"
    elif state == NOT_COMPILED:
        built = hunk.file in use.read
        why = "left out by the preprocessor, or nothing that is built uses it" if built else UNBUILT
    return Part(hunk, hunk.file, line, function, state, why)


def _unknown(hunk: Hunk) -> Part:
    """Of a file that is no C, or that the tree does not have, or that has no lines: a name, a mode, a binary file."""
    function = re.search(r"(\w+)\s*\(", hunk.heading)
    comment = _C_COMMENT if hunk.file.endswith((".c", ".h", ".S")) else _HASH_COMMENT
    changes = [n for n, (sign, _) in enumerate(hunk.body) if sign != " "]
    comments = bool(changes) and all(comment.match(hunk.body[n][1]) for n in changes)
    state = NO_CODE if OTHER.match(hunk.file) or comments else NOT_COMPILED
    name = function[1] if function else ""
    why = UNBUILT if state == NOT_COMPILED else ""
    return Part(hunk, hunk.file, hunk.start + min(changes, default=0), name, state, why)


def _cut(use: _Use, file: str, removed: str, above: int | None, below: int | None) -> str:
    """The state of a place where lines were removed."""
    if not _is_code(removed):
        return NO_CODE
    shape = use.shape(file)
    if above and shape.directives.get(above) and shape.lines[above - 1].endswith("\\"):
        return use.line(file, above)
    function = shape.function_at(above or below or 0)
    inside = function is not None and function.last != above
    if inside and function is not None and (below is None or function.first <= below <= function.last):
        return _place(use, file, above or below or 0, above, below)
    return _undeclared(use, file, removed, above) if file in use.read else NOT_COMPILED


def _undeclared(use: _Use, file: str, removed: str, above: int | None) -> str:
    """The state of what was declared outside of functions, and is gone: what still names it has another meaning now."""
    gone, shape = Shape(removed), use.shape(file)
    if any(not name for name in gone.directives.values()):
        return NOT_COMPILED
    own = Piece(0, 0, DECLARATION, "", "")
    names = [*gone.directives.values()]
    for piece in shape.by_line.get(above or 0, []):
        if piece.kind == DECLARATION and above and above < piece.last:
            # Of an enum, or of values in braces: what comes behind is another one now.
            own = piece
            names += re.findall(
                r"^\s*([A-Za-z_]\w*)", "\n".join(shape.lines[piece.first - 1 : piece.last]), re.MULTILINE
            )
    state = use.used(names, file, own, 0, None)
    return NO_CODE if state == NOT_COMPILED else state


def _place(use: _Use, file: str, at: int, above: int | None, below: int | None) -> str:
    """The state of a place in a function between two lines: it ran if what stands around it did."""
    if file not in use.read:
        return NOT_COMPILED
    whole = use.shape(file)
    function = whole.function_at(at)
    if function is None:
        return NO_CODE
    # What comes next in the same block runs when the place is passed, and not else.
    number = below or 0
    while below is not None and number <= function.last and not _LEAVES.search(whole.lines[number - 1]):
        if (file, number) in use.code.compiled:
            return use.recorded(file, [number])
        number += 1
    around = []
    for start, step in ((above, -1), (below, 1)):
        number = start or 0
        while start is not None and function.first <= number <= function.last:
            if (file, number) in use.code.compiled:
                around.append(use.recorded(file, [number]))
                break
            number += step
    return max(around, key=ORDER.index, default=NOT_COMPILED)
