"""Of a tarball of a Linux tree: the files that concern KVM, in the user's cache folder."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zstandard

from ..errors import InputError
from .cache import entry

WANTED: Final = ("Makefile", "arch/x86/kvm/", "virt/kvm/")
ZST: Final = b"\x28\xb5\x2f\xfd"
FILE_MAX: Final = 4 << 20
"""Bytes; KVM's sources are shorter."""


def extracted(path: Path) -> Path:
    """The folder with the files of a tarball that concern KVM; extracted once. Raises InputError if it is no tarball."""
    stat = path.stat()
    key = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n{WANTED}"

    def make(folder: Path) -> None:
        try:
            with _opened(path) as tar:
                _extract(tar, folder)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError) as error:
            raise InputError(
                f"{path}: no tarball that can be read: {error}", advice="give .tar, .xz, .gz, .zst"
            ) from None

    return entry("tree", hashlib.sha256(key.encode()).hexdigest(), make)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        is_zst = file.read(4) == ZST
        file.seek(0)
        source = zstandard.ZstdDecompressor().stream_reader(file) if is_zst else file
        with tarfile.open(fileobj=source, mode="r|" if is_zst else "r|*") as tar:
            yield tar


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Write the wanted files without the name of the folder that all are in."""
    for member in tar:
        name = member.name.removeprefix("./").partition("/")[2]
        wanted = name == WANTED[0] or name.startswith(WANTED[1:])
        if not wanted or not member.isreg() or member.size > FILE_MAX or ".." in Path(name).parts:
            continue
        data = tar.extractfile(member)
        assert data is not None
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.read())
