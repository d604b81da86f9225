"""Ctrl-C ends what runs the kernel's own C at once, says in a line what was covered, and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shootdown.kernel.library.limited import run_all
from tests.processes import PATIENCE_SECONDS, cpu_seconds, in_session, interrupt, interrupts_heeded, until
from tests.trees import explored, native, tree

TREE = "6.12"


def interrupted(busy: Callable[[int], bool], *words: str, **environment: str) -> str:
    """What a command says on standard error when it is interrupted; its processes are gone by then, soon after."""
    with interrupts_heeded():
        process = subprocess.Popen(
            [sys.executable, "-m", "shootdown", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
    until(lambda: busy(process.pid))
    interrupt(process)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert time.monotonic() - begun < PATIENCE_SECONDS / 4
    assert not in_session(process.pid)
    return errors


def has_child(session: int) -> bool:
    """Does it run something?"""
    return len(in_session(session)) > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "--tree", "TREE", "nested-collapses"), "0 of 1 verdict on "),
        (("kernel", "diff", "TREE", "--operations", "9000000"), r"[\d,]+ of 9,000,000 operations on "),
        (("kernel", "bench", "TREE"), r"\d+ of 11 operations timed on "),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_an_interrupt_says_what_was_covered(words: tuple[str, ...], said: str) -> None:
    """With exit code 130, and within moments, however long a search would yet take."""
    name = tree(TREE)
    _ = explored(TREE) if "check" in words else native(TREE)
    busy = (lambda session: cpu_seconds(session) > 1) if "bench" in words else has_child
    errors = interrupted(busy, *(word.replace("TREE", name) for word in words))
    assert re.fullmatch(f"shootdown: interrupted: {said}{re.escape(name)}", errors.strip())


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    """Neither a folder nor a compiler, which is in a session of its own."""
    name, cache = tree(TREE), tmp_path / "shootdown" / "kernel"
    errors = interrupted(
        lambda session: any(cache.glob(".new-*/tree/arch")), "kernel", "build", name, XDG_CACHE_HOME=str(tmp_path)
    )
    assert errors.strip() == f"shootdown: interrupted: 0 of 2 libraries of {name} built"
    assert not list(cache.iterdir())
    assert str(tmp_path).encode() not in b"".join(path.read_bytes() for path in _commands())


def _commands() -> list[Path]:
    return [path / "cmdline" for path in Path("/proc").glob("[0-9]*") if os.access(path / "cmdline", os.R_OK)]


def test_compilers_that_just_start_are_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment the interrupt comes at."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shootdown.kernel.library.limited.as_completed", stopped)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all([["sleep", "100"]] * 3, tmp_path)
    assert time.monotonic() - begun < 50
