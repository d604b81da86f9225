"""The user's cache folder: what is extracted and built there, each under a name that its content gives."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ...errors import InputError, reason

KEPT: Final = 64
"""Entries of a kind; those that were not used for the longest time go first."""
ABANDONED_S: Final = 86_400
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the system says of a folder that takes no more."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/shootdown``; by default ``~/.cache/shootdown``."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named.startswith("/") else Path.home() / ".cache") / "shootdown"


def place(kind: str, key: str) -> Path:
    """Where an entry is, or will be."""
    return cache_folder() / kind / key[:24]


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of an entry; if there is none yet, ``make`` fills one, which takes that place when it is complete.

    Two processes may make the same entry at the same time: the first one's stays.
    """
    folder = place(kind, key)
    if folder.is_dir():
        with suppress(OSError):
            os.utime(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        made.chmod(0o755)
        make(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _prune(folder.parent, folder)
    return folder


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"{folder.parent}: cannot write: {reason(error)}", advice="set XDG_CACHE_HOME")


def _prune(parent: Path, keep: Path) -> None:
    """Let the entries go that were not used for the longest time, and what a killed process left."""
    used = {}
    for path in parent.iterdir():
        with suppress(OSError):
            used[path] = path.stat().st_mtime
    used.pop(keep, None)
    partly = [path for path in used if path.name.startswith(".new-")]
    whole = sorted(used.keys() - partly, key=lambda path: used[path])
    old = [path for path in partly if used[path] < time.time() - ABANDONED_S]
    for path in [*old, *whole[: -KEPT + 1]]:
        shutil.rmtree(path, ignore_errors=True)
