"""The shape of a C file, as far as accounting for changed lines needs it: statements, functions, directives."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from .c_text import masked

CODE, DECLARATION, HEAD, NOTHING = "code", "declaration", "head", "nothing"
_HEADS: Final = re.compile(r"(?:(?:else|do)\b\s*)?[A-Za-z_]\w*\s*$")
_DECLARES: Final = re.compile(
    r"(?:(?:const|static|struct|enum|union|unsigned|signed|volatile)\s+)*\w+[\s*]+\w+[^()]*;$"
)
_ASSERTS: Final = re.compile(
    r"(?:else )?if \((?:KVM_|KVM_MMU_)?(?:WARN|BUG)\w*\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)"
)
"""The head of what runs only if an assertion fails."""
_EMPTY: Final = re.compile(r"(?:else|do|[{};\s]|\w+\s*:(?!:))*")
_DEFINE: Final = re.compile(r"\s*#\s*define\s+(\w+)")


@dataclass(frozen=True)
class Piece:
    """A statement, or the head of one with a body: its first and last line, its kind, and its text without comments."""

    first: int
    last: int
    kind: str
    text: str
    function: str


@dataclass(frozen=True)
class Function:
    """A function: the first and last line, from its head on."""

    name: str
    first: int
    last: int


class Shape:
    """The statements and functions of a file's text; lines are numbered from 1.

    asserted  lines that run only behind an assertion that failed
    """

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.functions: list[Function] = []
        self.pieces: list[Piece] = []
        self.by_line: dict[int, list[Piece]] = {}
        self.directives = _directives(text)
        self.asserted: set[int] = set()
        self._read(masked(text))
        for piece in self.pieces:
            for line in range(piece.first, piece.last + 1):
                self.by_line.setdefault(line, []).append(piece)

    def function_at(self, line: int) -> Function | None:
        """The function that a line is in."""
        return next((f for f in self.functions if f.first <= line <= f.last), None)

    def depends(self, function: Function, line: int) -> bool:
        """Does the preprocessor decide, within a function, whether a line of it is compiled?"""
        inside = [self.lines[n - 1] for n in self.directives if function.first <= n < line]
        begun = sum(re.match(r"\s*#\s*if", text) is not None for text in inside)
        return begun > sum(re.match(r"\s*#\s*endif", text) is not None for text in inside)

    def _read(self, bare: str) -> None:
        starts = [0, *(match.end() for match in re.finditer("\n", bare))]
        depth, begin, opened = 0, -1, -1
        blocks: list[str] = []
        head: tuple[str, int] | None = None

        def line(at: int) -> int:
            return bisect_right(starts, at)

        def end(at: int, kind: str = "") -> None:
            nonlocal begin
            if begin >= 0 and at > begin:
                words = " ".join(bare[begin:at].split())
                inside = head[0] if blocks and head else ""
                kind = kind or _kind(words, bool(inside))
                self.pieces.append(Piece(line(begin), line(at - 1), kind, words, inside))
                if kind == CODE and _ASSERTS.fullmatch(words):
                    self.asserted |= set(range(line(at - 1) + 1, line(_end_of_body(bare, at)) + 1))
            begin = -1

        for at, c in enumerate(bare):
            if begin < 0 and not c.isspace() and c not in "{}":
                begin = at
            if c in "([":
                if depth == 0:
                    opened = at
                depth += 1
            elif c in ")]":
                depth = max(0, depth - 1)
                if depth == 0 and c == ")" and begin >= 0 and _HEADS.fullmatch(bare[begin:opened].lstrip()):
                    if re.match(r"\s*(?:[A-Za-z_{]|\*|\+\+|--|;)", bare[at + 1 :]) and blocks:
                        if not re.match(r"\s*;", bare[at + 1 :]) or bare[begin:opened].split()[-1] in ("for", "while"):
                            end(at + 1)
            elif depth == 0 and c == ";":
                end(at + 1)
            elif depth == 0 and c == "{":
                before = bare[begin:at].rstrip() if begin >= 0 else ""
                function = re.search(r"(\w+)\s*\((?:[^()]|\([^()]*\))*\)$", before) if not blocks else None
                if function:
                    head = (function[1], line(begin))
                    end(at, HEAD)
                    blocks.append("function")
                elif before.endswith("=") or (blocks and blocks[-1] == "values"):
                    blocks.append("values")
                else:
                    end(at)
                    word = re.search(r"\b(enum|struct|union)\b", before)
                    blocks.append(word[1] if word and not before.endswith(")") else "block")
            elif depth == 0 and c == "}":
                if blocks and blocks[-1] != "values":
                    end(at)
                block = blocks.pop() if blocks else ""
                if block == "function" and head:
                    self.functions.append(Function(head[0], head[1], line(at)))
                    head = None
        end(len(bare))


def _end_of_body(bare: str, at: int) -> int:
    """Where what hangs on an "if" ends; ``at``: behind its condition."""
    opened = re.compile(r"\s*\{").match(bare, at)
    if opened is None:
        return max(at, bare.find(";", at))
    depth = 0
    for end in range(opened.end() - 1, len(bare)):
        depth += (bare[end] == "{") - (bare[end] == "}")
        if depth == 0:
            return end
    return at


def _kind(words: str, inside: bool) -> str:
    if _EMPTY.fullmatch(words):
        return NOTHING
    if not inside:
        return DECLARATION
    first = words.split(" ")[0]
    if first not in ("return", "goto", "else", "case") and _DECLARES.fullmatch(words) and "=" not in words:
        return DECLARATION
    return CODE


def _directives(text: str) -> dict[int, str]:
    """Line numbers of preprocessor lines, continuations included; the name of the macro where one is defined."""
    found: dict[int, str] = {}
    continued, name = False, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not continued:
            match = _DEFINE.match(line)
            name = match[1] if match else ""
        if continued or re.match(r"\s*#", line):
            found[number] = name
            continued = line.endswith("\\")
        else:
            continued = False
    return found
