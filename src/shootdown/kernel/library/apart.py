"""Work in a process of its own: code that nobody has checked may crash or never end, and that is an answer."""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Answer = TypeVar("Answer")
Step = Callable[[int], None]


@dataclass(frozen=True)
class Ended(Generic[Answer]):
    """How the work ended: with an ``answer``, or (``how``: in words) in the ``step`` that was told last."""

    answer: Answer | None
    how: str
    step: int


def apart(work: Callable[[Step], Answer], seconds: int) -> Ended[Answer]:
    """Do ``work`` in a child, with so many seconds of the processor's time; it tells each step before it takes it."""
    shared = mmap.mmap(-1, 8)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        _work(work, seconds, shared, writes)
    os.close(writes)
    try:
        with os.fdopen(reads, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    step = int.from_bytes(shared[:8], "little")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        how = "it does not end" if number == signal.SIGXCPU else f"it ends by {signal.Signals(number).name}"
        return Ended(None, how, step)
    answer, error = pickle.loads(said) if said else (None, RuntimeError("the child said nothing"))
    if error is not None:
        raise error
    return Ended(answer, "", step)


def _work(work: Callable[[Step], object], seconds: int, shared: mmap.mmap, writes: int) -> None:
    """The child's part; does not return."""
    code = 1
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))

        def step(number: int) -> None:
            shared[:8] = number.to_bytes(8, "little")

        try:
            said = pickle.dumps((work(step), None))
        except Exception as error:
            said = pickle.dumps((None, error))
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(said)
        code = 0
    finally:
        os._exit(code)
