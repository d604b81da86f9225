"""The Linux trees that tests of the kernel's C need: those in the folder that SHOOTDOWN_LINUX names."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from shootdown.kernel.build import EXPLORE, Library, build
from shootdown.kernel.tree import Tree, find_tree

VERSIONS = ("6.1", "6.12")


def tree(version: str) -> Tree:
    """``linux-source-VERSION`` in that folder, or the test is skipped."""
    folder = os.environ.get("SHOOTDOWN_LINUX")
    if not folder:
        pytest.skip("no Linux trees: SHOOTDOWN_LINUX names no folder with linux-source-6.1 and linux-source-6.12")
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    path = Path(folder, f"linux-source-{version}")
    if not path.is_dir():
        pytest.skip(f"no {path.name} in {folder}")
    return find_tree(str(path))


@cache
def library(version: str) -> Library:
    """The library that explores a tree as it is."""
    return build(tree(version), EXPLORE)
