"""Progress on a terminal: how much is done, and how fast; nothing where standard error is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def reporter(what: str) -> Callable[[int], None]:
    """A function to be called with the number of ``what`` done so far; it writes one line over and over."""
    if not sys.stderr.isatty():
        return lambda done: None
    start = shown = time.monotonic()

    def report(done: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > 0.2:
            shown = now
            sys.stderr.write(f"\r{what}: {done:,} ({done / (now - start) / 1e6:.2f} M/s)\033[K")
            sys.stderr.flush()

    return report


def clear() -> None:
    """Wipe the line of progress, so that output begins on a clean one."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
