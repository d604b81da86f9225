"""Nothing of the kernel is in the repository or in what is installed: its files are under another licence."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import shootdown
from shootdown.kernel.library.build import C
from shootdown.kernel.source.tree import BUILT, HEADERS
from tests.structure import ROOT, repository_files
from tests.trees import VERSIONS, tree

PACKAGE = Path(shootdown.__file__).parent
OURS = "/* SPDX-License-Identifier: MIT */"
THEIRS = re.compile("SPDX-License-" + "Identifier:(?! MIT )|GNU General " + "Public|MODULE_" + "LICENSE")
RUN = 30
"""So many words and signs in a row are no declaration and no chance."""


def installed() -> list[Path]:
    """The files of the package: as they were installed, else those that pyproject.toml would have installed."""
    if not PACKAGE.is_relative_to(ROOT / "src"):
        files = importlib.metadata.files("shootdown") or []
        return [Path(str(file.locate())) for file in files if "__pycache__" not in file.parts]
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = about["tool"]["setuptools"]["package-data"].items()
    found = list(PACKAGE.rglob("*.py"))
    for package, patterns in data:
        folder = PACKAGE.joinpath(*package.split(".")[1:])
        found += [path for pattern in patterns for path in folder.glob(pattern)]
    return found


def test_what_is_installed_is_ours() -> None:
    """Of C only what lies below kernel/c, no file of it named as one that is built, and no library but our modules."""
    files = installed()
    assert len([path for path in files if path.suffix in (".c", ".h")]) == len(list(C.rglob("*.[ch]"))) > 50
    modules = {path.with_suffix("").name for path in files if path.suffix == ".py"}
    theirs = {Path(file).name for file in (*BUILT, *HEADERS)}
    for path in files:
        assert path.name not in theirs and path.suffix not in (".o", ".a", ".patch", ".diff", ".ko", ".xz"), path
        if path.suffix in (".c", ".h"):
            assert "kernel/c/" in path.as_posix() and path.read_text(encoding="utf-8").startswith(OURS), path
        if path.suffix == ".so":
            name = path.name.partition(".")[0]
            assert name in modules or name.endswith("__mypyc"), path


def test_no_file_is_under_the_kernels_licence() -> None:
    """None in the repository says so of itself, or carries its text; each of C says that it is under ours."""
    for name, text in repository_files():
        assert not THEIRS.search(text), name
        if name.endswith((".c", ".h")):
            assert text.startswith(OURS), name


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_copied_from_a_tree(version: str) -> None:
    """No file of ours has as many words and signs in a row, comments left out, as one of the tree's KVM has."""
    folder = Path(tree(version))
    seen = set()
    for path in sorted({*folder.glob("arch/x86/kvm/**/*.[ch]"), *folder.glob("virt/kvm/*.[ch]")}):
        seen |= set(runs(path.read_text(encoding="utf-8", errors="replace")))
    assert len(seen) > 100_000
    copied = [f"{name}: {run}" for name, text in repository_files() for run in runs(text) if run in seen]
    assert not copied


def runs(text: str) -> Iterator[str]:
    """All runs of words and signs."""
    words = re.findall(r"\w+|[^\w\s]", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    return (" ".join(words[n : n + RUN]) for n in range(len(words) - RUN + 1))
