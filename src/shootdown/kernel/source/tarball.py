"""The files of a tarball of Linux, or of a Debian package with one in it, that concern KVM."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import zstandard

from ...errors import InputError, reason
from .cache import FULL, entry

WANTED: Final = ("Makefile", "arch/x86/kvm/", "virt/kvm/")
FILE_MAX: Final = 4 << 20
"""Bytes; KVM's sources are shorter."""

ZST: Final = b"\x28\xb5\x2f\xfd"
DEB: Final = b"!<arch>\n"


def extracted(path: Path) -> Path:
    """The folder with the files of a tarball that concern KVM; made once. Raises InputError if it is no tarball."""
    stat = path.stat()
    key = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}\n{WANTED}"
    return entry("tree", hashlib.sha256(os.fsencode(key)).hexdigest(), lambda folder: extract(path, folder))


def extract(path: Path, folder: Path) -> None:
    """Write what concerns KVM to a folder. Raises InputError if this is no tarball."""
    try:
        with path.open("rb") as file:
            start = file.read(len(DEB))
            file.seek(0)
            if start == DEB:
                _package(path, file, folder)
            else:
                with _opened(file, start) as tar:
                    _extract(tar, folder)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InputError(f"{path}: no tarball that can be read: {error}", advice="give .tar, .xz, .gz, .zst") from None
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(f"{path}: {reason(error)}") from None


@contextmanager
def _opened(file: IO[bytes], start: bytes) -> Iterator[tarfile.TarFile]:
    is_zst = start.startswith(ZST)
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


def _package(path: Path, file: IO[bytes], folder: Path) -> None:
    """Of a Debian package: an ar archive, whose member data.tar.* has the tarball below usr/src."""
    file.seek(len(DEB))
    while len(header := file.read(60)) == 60:
        name, size = header[:16].decode("latin-1").strip().rstrip("/"), int(header[48:58])
        if not name.startswith("data.tar"):
            file.seek(size + size % 2, 1)
            continue
        at = file.tell()
        start = file.read(len(ZST))
        file.seek(at)
        with _opened(file, start) as tar:
            for member in tar:
                if member.isreg() and "linux-source-" in member.name and ".tar" in member.name:
                    inner = tar.extractfile(member)
                    assert inner is not None
                    with tarfile.open(fileobj=inner, mode="r|*") as kernel:
                        _extract(kernel, folder)
                    return
        break
    raise InputError(f"{path}: no linux-source package", advice="give Debian's linux-source-VERSION, or a tarball")
