"""Running the program as a process of its own: on a pseudo-terminal, and to see what it leaves when it is ended."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 120


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """``shootdown check WORDS`` in a session of its own, with its temporary files in ``folder``."""
    with interrupts_heeded():
        return subprocess.Popen(
            [sys.executable, "-m", "shootdown", "check", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, "TMPDIR": str(folder)}, start_new_session=True,
        )  # fmt: skip


@contextmanager
def interrupts_heeded() -> Iterator[None]:
    """Processes that are started meanwhile heed SIGINT, even if this one was started by a shell in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail if it never is."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def in_session(session: int) -> list[int]:
    """Processes of a session that live, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def cpu_seconds(process: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def workers(session: int) -> list[int]:
    """Worker processes among them."""
    found = []
    for process in in_session(session):
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(process)
    return found


class Terminal:
    """``shootdown check WORDS`` on a terminal of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.text = ""
        self.process, self.file = pty.fork()
        if not self.process:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"}
            os.execve(sys.executable, [sys.executable, "-m", "shootdown", "check", *words], environment)

    def read_until(self, pattern: str) -> re.Match[str]:
        """Wait until what was shown since the last match holds a match, and take it off."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end, self.text
            self._read()
        self.text = self.text[found.end() :]
        return found

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.file, keys.encode())

    def exit_code(self) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self._read():
            assert time.monotonic() < end, self.text
        os.close(self.file)
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        if not select.select([self.file], [], [], 0.2)[0]:
            return True
        try:
            raw = os.read(self.file, 1 << 16)
        except OSError:  # nobody has the other end open any more
            return False
        self.text += raw.decode()
        return bool(raw)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal sends it: to all processes of the group."""
    os.killpg(process.pid, signal.SIGINT)
