"""``frames`` on every CPython that is supported and here: what it takes for the whole of a program's state is that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from librt.vecs import append, vec
from mypy_extensions import i64

from shootdown.check.program.frames import frozen
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


def test_vectors_are_compared_by_content() -> None:
    """Two vectors of words are equal exactly if their words are, and none equals a list."""
    one, two = vec[i64]([1, 2]), append(vec[i64]([1]), 2)
    assert frozen(one, {}, {}) == frozen(two, {}, {})
    assert frozen(one, {}, {}) != frozen(vec[i64]([2, 1]), {}, {})
    assert frozen(one, {}, {}) != frozen(vec[i64](), {}, {})
    assert frozen(one, {}, {}) != frozen([1, 2], {}, {})


def test_a_vector_that_two_variables_share_is_told_from_two_vectors() -> None:
    """A change through one variable shows in the other only where they share the vector."""
    shared, other = vec[i64]([1]), vec[i64]([1])
    assert frozen([shared, shared], {}, {}) != frozen([shared, other], {}, {})
