"""Real Linux trees for tests: ``linux-source-6.1`` and so on in the folder that SHOOTDOWN_LINUX names, or Debian's."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from shootdown.kernel.library.build import EXPLORE, NATIVE, Library, build
from shootdown.kernel.source.debian import VERSIONS as DEBIAN
from shootdown.kernel.source.debian import debian_tree, is_cached
from shootdown.kernel.source.probes import TDP_C
from shootdown.kernel.source.tree import Tree, find_tree
from tests.edits import Edit, edited

FOLDER = os.environ.get("SHOOTDOWN_LINUX", "")
VERSIONS = ("6.1", "6.12")
CACHED = {version: debian_tree(version).folder for version in DEBIAN if is_cached(version)}
"""Asked before any test has a cache of its own."""


def tree(version: str) -> str:
    """The folder of a kernel's source, there or as ``--debian`` has cached it; without one, the test is skipped."""
    for name in (f"linux-source-{version}", f"linux-{version}"):
        if FOLDER and (Path(FOLDER) / name).is_dir():
            return str(Path(FOLDER) / name)
    if version in CACHED:
        return str(CACHED[version])
    where = f"in SHOOTDOWN_LINUX={FOLDER}" if FOLDER else "at hand"
    pytest.skip(f"no linux-source-{version} {where}: run shootdown kernel build --debian {version}, or set that")


def linux(version: str) -> Tree:
    """The same as a tree."""
    return find_tree(tree(version))


def changed(version: str, *edits: Edit) -> Tree:
    """A tree with edits made in tdp_mmu.c."""
    text = linux(version).read(TDP_C)
    for edit in edits:
        text = edited(text, edit)
    return linux(version).with_changes({TDP_C: text})


def native(version: str, *edits: Edit) -> Path:
    """The native library of a tree with edits made."""
    return build(changed(version, *edits), NATIVE).path


@cache
def explored(version: str) -> Library:
    """The library that explores a tree as it is."""
    return build(linux(version), EXPLORE)
