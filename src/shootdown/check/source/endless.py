"""Stops code of the MMU that runs on and comes to no access to shared memory, where a search could look at the time."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

from ...errors import InputError
from .source import place_in

LOOP_SECONDS: Final = 10.0
"""Of CPU time; a run from one access to the next takes microseconds, and seconds if garbage is collected meanwhile."""


def ready() -> bool:
    """Have a timer that runs out raise InputError; False where that cannot be, outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return False
    signal.signal(signal.SIGVTALRM, _stop)
    return True


def begin() -> None:
    """A run begins: it must ``end`` in time."""
    signal.setitimer(signal.ITIMER_VIRTUAL, LOOP_SECONDS)


def end() -> None:
    """The run is over."""
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop(number: int, frame: FrameType | None) -> None:
    place = ""
    while frame is not None and not place:
        place = place_in(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    raise InputError(f"{place or 'mmu'}: a loop without an access to shared memory")
