"""``frames`` on every CPython that is supported and here: what it takes for the whole of a program's state is that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure import ROOT

VERSIONS = ("3.11", "3.12", "3.13")


def interpreter(version: str) -> str | None:
    """A CPython of this version: the one that runs, one of pyenv, or one on the path."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    found = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{version}")


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_tell_what_is_hidden(version: str) -> None:
    """A frame stands for itself only if its stack is empty below the call, and dead variables do not count."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} here")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, str(ROOT / "tests" / "frame_shapes.py")], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) > 30
    assert {line.split()[1] for line in lines} == {"True", "False"}
