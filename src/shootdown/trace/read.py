"""Read a recording, whatever its form: trace.dat by its first bytes, else text; "-" is standard input."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, reason
from .container import is_trace_dat
from .decode import read_trace_dat
from .events import Trace
from .text import looks_like_text, read_text

HEAD = 4096
COPY = 1 << 20
PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}


def read_trace(
    path: str, wanted: Collection[str] | None = None, progress: Callable[[int], None] | None = None
) -> Trace:
    """The recording at ``path``; ``wanted`` limits the kinds of events whose columns are kept.

    Raises InputError if there is nothing to be read.
    """
    try:
        if path == "-":
            return _read_pipe(sys.stdin.buffer, wanted, progress)
        with Path(path).open("rb") as stream:
            return _read(stream, path, wanted, progress)
    except OSError as error:
        raise InputError(reason(error), path=path, advice="give a readable file") from None


def _read(stream: BinaryIO, path: str, wanted: Collection[str] | None, progress: Callable[[int], None] | None) -> Trace:
    head = stream.read(HEAD)
    stream.seek(0)
    if is_trace_dat(head):
        return read_trace_dat(path, stream.fileno(), wanted, progress)
    if not head:
        raise InputError("is empty", path=path, advice="give a trace.dat or the text of a trace")
    _refuse_packed(head, path)
    if not looks_like_text(head):
        raise InputError(
            "neither a trace.dat nor text",
            path=path,
            offset=0,
            advice="give a file that trace-cmd record wrote, or its report",
        )
    return read_text(stream, path, wanted, progress)


def _read_pipe(stream: BinaryIO, wanted: Collection[str] | None, progress: Callable[[int], None] | None) -> Trace:
    """A pipe cannot seek: binary data goes through a temporary file, text is read as it comes."""
    head = stream.read(HEAD)
    if not is_trace_dat(head):
        whole = io.BufferedReader(_Prefixed(head, stream))
        if not head:
            raise InputError("is empty", path="standard input", advice="pipe in a trace.dat or the text of a trace")
        _refuse_packed(head, "standard input")
        if not looks_like_text(head):
            raise InputError("neither a trace.dat nor text", path="standard input", advice="pipe in one of them")
        return read_text(whole, "standard input", wanted, progress)
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        while piece := stream.read(COPY):
            copy.write(piece)
        copy.flush()
        os.lseek(copy.fileno(), 0, os.SEEK_SET)
        return read_trace_dat("standard input", copy.fileno(), wanted, progress)


def _refuse_packed(head: bytes, path: str) -> None:
    for magic, name in PACKED.items():
        if head.startswith(magic):
            raise InputError(
                f"is compressed by {name}", path=path, advice=f"pipe it in: {name} -dc FILE | shootdown ... -"
            )


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were already taken."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._head or self._rest.read(len(buffer))
        self._head = data[len(buffer) :]
        data = data[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)
