"""The text of a C file: what of it is code, and where the body of a function is."""

from __future__ import annotations

import re

from ...errors import InputError


def masked(text: str) -> str:
    """The same with comments, strings and preprocessor lines as blanks: every place stays where it is."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:\\\n|[^\n])*"
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL | re.MULTILINE)


def uncommented(text: str) -> str:
    """The same with comments and strings as blanks, and what the preprocessor reads as it is."""
    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)


def body(bare: str, function: str) -> tuple[int, int]:
    """Where the body of a function begins, after its brace, and ends, before it; the text is masked."""
    for found in re.finditer(rf"^[^\s#}}][^;{{}}]*?\b{re.escape(function)}\s*\([^;{{}}]*\)\s*{{", bare, re.MULTILINE):
        return found.end(), closing(bare, found.end())
    raise InputError(f"no function {function} in this file; name one that it defines")


def closing(bare: str, inside: int) -> int:
    """The brace that closes the block in which a place is."""
    depth = 1
    for at in range(inside, len(bare)):
        depth += (bare[at] == "{") - (bare[at] == "}")
        if depth == 0:
            return at
    raise InputError(f"a brace is missing after offset {inside}; is this a whole C file?")
