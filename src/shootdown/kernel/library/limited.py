"""Runs of the compiler, several at once, each with limits: what is compiled comes from others.

A source can make a compiler take all memory, never end, write without end, or wait for a file that nobody writes to.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, NamedTuple


class Limits(NamedTuple):
    """Of one run: seconds of a processor's time, and by the clock; MiB of memory, and of each file that it writes."""

    seconds: int = 60
    clock_s: int = 600
    memory_mib: int = 2048
    file_mib: int = 256


LIMITS: Final = Limits()
SAID_MAX: Final = 1 << 20
"""Bytes of what a run says."""
OVER: Final = ("CPU time limit exceeded", "out of memory", "memory exhausted", "File size limit exceeded", "Killed")
"""What gcc says of one of its programs that came up against a limit."""


class Ran(NamedTuple):
    """What a run that failed said, "" of one that did not fail; ``over``: it came up against a limit."""

    said: str = ""
    over: bool = False


def run_all(commands: Sequence[Sequence[str]], folder: Path, limits: Limits = LIMITS) -> list[Ran]:
    """Run commands in a folder, as many at a time as there are CPUs; after one that came up against a limit no more."""
    running: set[subprocess.Popen[bytes]] = set()
    found = [Ran() for _ in commands]
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    todo: dict[Future[Ran], int] = {}
    try:
        for n, command in enumerate(commands):
            todo[pool.submit(_run, command, folder, limits, running)] = n
        for done in as_completed(todo):
            found[todo[done]] = done.result()
            if done.result().over:
                break
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(each.done() for each in todo):
            for process in tuple(running):
                _kill(process)
            time.sleep(0.01)
        pool.shutdown()
    return found


def _run(command: Sequence[str], folder: Path, limits: Limits, running: set[subprocess.Popen[bytes]]) -> Ran:
    clean = {name: value for name, value in os.environ.items() if name not in ("CPATH", "C_INCLUDE_PATH")}
    # What is left of a run that is killed goes with the folder.
    clean |= {"LC_ALL": "C", "TMPDIR": str(folder)}
    with TemporaryFile() as said:
        # In a session of its own: no terminal can be read, and what it started ends with it.
        process = subprocess.Popen(
            ["sh", "-c", f'{_shell(limits)} && exec "$@"', "sh", *command], cwd=folder, env=clean,
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        running.add(process)
        try:
            process.wait(limits.clock_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Ran(f"no end after {limits.clock_s} s", True)
        finally:
            running.discard(process)
        if process.returncode == 0:
            return Ran()
        text = _ends(said) or f"{command[0]} ended with {process.returncode}"
        return Ran(text, any(word in text for word in OVER) or process.returncode < 0)


def _ends(said: IO[bytes]) -> str:
    """The beginning of what was said, and the end of it if it is long."""
    size = said.seek(0, os.SEEK_END)
    said.seek(0)
    text = said.read(SAID_MAX)
    if size > SAID_MAX:
        said.seek(max(SAID_MAX, size - SAID_MAX))
        text += b"\n" + said.read()
    return text.decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a run with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _shell(limits: Limits) -> str:
    """The shell's words for limits, which may be lower already; one call each: dash refuses several at once."""
    asked = (
        ("t", resource.RLIMIT_CPU, limits.seconds, 1),
        ("v", resource.RLIMIT_AS, limits.memory_mib << 20, 1024),
        ("f", resource.RLIMIT_FSIZE, limits.file_mib << 20, 512),
    )
    words = []
    for letter, which, number, unit in asked:
        hard = resource.getrlimit(which)[1]
        words.append(f"ulimit -{letter} {(number if hard == resource.RLIM_INFINITY else min(number, hard)) // unit}")
    return " && ".join(words)
