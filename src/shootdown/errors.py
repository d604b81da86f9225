"""The one error that bad input or usage raises; the command line prints it as a line and exits with 1."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TEXT_MAX: Final = 16 << 20
"""Bytes of a text file that a user names, at most: one that never ends must not take all memory."""


class InputError(Exception):
    """What is wrong, where (file; byte offset or line), and what to do about it.

    ``str()`` is the single line that a user sees: ``FILE: offset 123: WHAT; DO THIS``.
    """

    def __init__(
        self, what: str, *, path: str = "", offset: int | None = None, line: int | None = None, advice: str = ""
    ) -> None:
        self.what = what
        self.path = path
        self.offset = offset
        self.line = line
        self.advice = advice
        place = [path] if path else []
        if offset is not None:
            place.append(f"offset {offset}")
        if line is not None:
            place.append(f"line {line}")
        text = ": ".join([*place, what])
        super().__init__(f"{text}; {advice}" if advice else text)


def reason(error: OSError) -> str:
    """What the system says of a file, as it stands in a line of ours."""
    return (error.strerror or str(error)).lower()


def text_of(path: Path) -> str:
    """The text of a file. Raises InputError if it cannot be read or never ends, UnicodeDecodeError if it is no text."""
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_MAX + 1)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if len(raw) > TEXT_MAX:
        raise InputError(f"{path}: longer than {TEXT_MAX >> 20} MB")
    return raw.decode()
