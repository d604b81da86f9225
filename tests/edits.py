"""Edits of C by description, to try what a line is good for: a function, a statement in it, what to do with that.

A description names identifiers only, so that it fits every tree that has them, and holds nothing of the tree's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shootdown.errors import InputError
from shootdown.kernel.source.c_text import body, closing, masked

DROP, FIRST, LAST, BEFORE, AFTER, REPLACE = "drop", "first", "last", "before", "after", "replace"


@dataclass(frozen=True)
class Edit:
    """What to do with a statement, or an expression, of a function.

    function   in whose body
    kind       DROP: take the statement out; FIRST, LAST: make it the first or last of its block; BEFORE, AFTER: move it
               there from another statement; REPLACE: put ``by`` in the place of ``what``
    what       regular expression that the statement, or the expression, begins with
    by         of BEFORE and AFTER, such an expression for the other statement; of REPLACE, the text
    nth        which of several that begin so, from 0; -1 is the last
    """

    function: str
    kind: str
    what: str
    by: str = ""
    nth: int = 0

    def __str__(self) -> str:
        where = f" {self.by}" if self.kind in (BEFORE, AFTER) else f" by {self.by}" if self.kind == REPLACE else ""
        return f"{self.function}: {self.kind} {self.what}{where}"


def edited(text: str, edit: Edit) -> str:
    """The file's text with the edit made. Raises InputError if it does not fit."""
    bare = masked(text)
    start, end = body(bare, edit.function)
    if edit.kind == REPLACE:
        at = _found(bare, start, end, edit.what, edit.nth, edit)
        return text[: at.start()] + edit.by + text[at.end() :]
    first, last = _statement(bare, _found(bare, start, end, edit.what, edit.nth, edit).start(), start, end)
    moved = text[first:last]
    # A statement may be all that an "if" has: something must stay.
    rest = text[:first] + ";" + text[last:]
    if edit.kind == DROP:
        return rest
    bare = masked(rest)
    start, end = body(bare, edit.function)
    if edit.kind in (FIRST, LAST):
        opened, closed = _block(bare, first, start, end)
        place = opened if edit.kind == FIRST else closed
    else:
        other = _statement(bare, _found(bare, start, end, edit.by, 0, edit).start(), start, end)
        place = other[0] if edit.kind == BEFORE else other[1]
    return f"{rest[:place]} {moved} {rest[place:]}"


def _found(bare: str, start: int, end: int, what: str, nth: int, edit: Edit) -> re.Match[str]:
    matches = list(re.compile(what).finditer(bare, start, end))
    if not -len(matches) <= nth < len(matches):
        raise InputError(f"{edit}: '{what}' is found {len(matches)} times in {edit.function}")
    return matches[nth]


def _statement(bare: str, at: int, start: int, end: int) -> tuple[int, int]:
    """Where the simple statement that holds a place begins and ends."""
    first, depth = at, 0
    while first > start:
        c = bare[first - 1]
        if c in ";{}" or (c == ")" and depth == 0 and re.match(r"\s*\w", bare[first : at + 1])):
            break
        depth += (c == ")") - (c == "(")
        first -= 1
    first += len(re.match(r"\s*(?:else\b\s*)?", bare[first:])[0])  # type: ignore[index]
    last = bare.find(";", at, end)
    if last < 0:
        raise InputError(f"no statement ends after offset {at}")
    return first, last + 1


def _block(bare: str, at: int, start: int, end: int) -> tuple[int, int]:
    """Where the innermost block around a place begins, after its declarations' brace, and ends."""
    opened, depth = at, 0
    while opened > start and depth <= 0:
        opened -= 1
        depth += (bare[opened] == "{") - (bare[opened] == "}")
    opened = opened + 1 if depth == 1 else start
    return opened, min(closing(bare, opened), end)
