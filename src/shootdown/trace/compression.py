"""Decompress the pieces of a trace.dat within bounds: a piece never grows past the size that its header declares."""

from __future__ import annotations

import zlib

import zstandard

from ..errors import InputError

ALGORITHMS = ("none", "zlib", "zstd")
"""What the file header may name; "none" compresses nothing."""
PIECE_MAX = 16 << 20
"""Bytes that one compressed piece (a section, or a chunk of ring-buffer pages) may declare; trace-cmd writes chunks of
a few pages and sections of at most some MiB."""

_zstd = zstandard.ZstdDecompressor(max_window_size=PIECE_MAX)


def decompress(algorithm: str, data: bytes, size: int, path: str, offset: int) -> bytes:
    """The ``size`` bytes that ``data`` holds, compressed by "zlib" or "zstd" as the file header names it.

    Raises InputError where the declared size is absurd, the data is broken, or it does not give exactly ``size`` bytes.
    """
    if size > PIECE_MAX:
        raise InputError(f"a compressed piece claims {size} bytes (at most {PIECE_MAX})", path=path, offset=offset)
    try:
        plain = _unzstd(data, size) if algorithm == "zstd" else _unzlib(data, size)
    except (zlib.error, zstandard.ZstdError) as error:
        raise InputError(f"{algorithm} data is broken ({error})", path=path, offset=offset) from None
    if len(plain) != size:
        raise InputError(f"{algorithm} data does not hold the {size} bytes it claims", path=path, offset=offset)
    return plain


def _unzlib(data: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(data, size + 1)


def _unzstd(data: bytes, size: int) -> bytes:
    # The frame's own header may lie: what it declares is allocated before anything is decompressed.
    declared = zstandard.get_frame_parameters(data).content_size
    if declared not in (size, zstandard.CONTENTSIZE_UNKNOWN):
        raise zstandard.ZstdError(f"it declares {declared} bytes instead of {size}")
    return _zstd.decompress(data, max_output_size=size)
