"""Progress on a terminal: how much is done, and how fast; nothing where standard error is no terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def line() -> Callable[[Callable[[], str]], None]:
    """A function that writes one line over and over, not more than five times a second, made by what it is given."""
    if not sys.stderr.isatty():
        return lambda text: None
    shown = time.monotonic()

    def write(text: Callable[[], str]) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown > 0.2:
            shown = now
            # A line that is too long could not be written over.
            sys.stderr.write(f"\r{text()[: shutil.get_terminal_size().columns - 1]}\033[K")
            sys.stderr.flush()

    return write


def reporter(what: str) -> Callable[[int], None]:
    """A function to be called with the number of ``what`` done so far."""
    write, start = line(), time.monotonic()

    def report(done: int) -> None:
        write(lambda: f"{what}: {done:,} ({done / (time.monotonic() - start) / 1e6:.2f} M/s)")

    return report


def clear() -> None:
    """Wipe the line of progress, so that output begins on a clean one."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()


@contextmanager
def covering(covered: Callable[[], str]) -> Iterator[None]:
    """Say at Ctrl-C, in a line, what was done by then."""
    try:
        yield
    except KeyboardInterrupt:
        clear()
        print(f"shootdown: interrupted: {covered()}", file=sys.stderr)
        raise
