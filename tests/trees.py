"""Real Linux trees for tests: folders named ``linux-source-6.1`` and so on, below the one SHOOTDOWN_LINUX names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = os.environ.get("SHOOTDOWN_LINUX", "")


def tree(version: str) -> str:
    """The folder of a kernel's source; without one, the test is skipped."""
    for name in (f"linux-source-{version}", f"linux-{version}"):
        if FOLDER and (Path(FOLDER) / name).is_dir():
            return str(Path(FOLDER) / name)
    pytest.skip(f"no linux-source-{version} in SHOOTDOWN_LINUX={FOLDER or '(unset)'}: install Debian's package of it")
