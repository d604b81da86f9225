"""Debian's source package of a kernel: downloaded when asked for, and only then."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...errors import InputError
from .cache import entry, place
from .tarball import extract
from .tree import Tree, find_tree

VERSIONS: Final = ("6.1", "6.12")
"""Kernels that Debian packages and that are known to build."""


def debian_tree(version: str) -> Tree:
    """The tree of Debian's linux-source-VERSION: from the cache, else apt-get downloads it (140 to 150 MB).

    Raises InputError if that fails.
    """

    def make(folder: Path) -> None:
        extract(_download(f"linux-source-{version}", folder), folder)
        for package in folder.glob("*.deb"):
            package.unlink()

    entry("debian", version, make)
    return replace(find_tree(str(place("debian", version))), name=f"Debian's {version}", partial=True)


def is_cached(version: str) -> bool:
    """Has that been downloaded before?"""
    return place("debian", version).is_dir()


def _download(package: str, folder: Path) -> Path:
    apt = shutil.which("apt-get")
    if apt is None:
        raise InputError(f"no apt-get to get {package} with", advice="give a Linux tree or a tarball instead")
    done = subprocess.run(
        [apt, "download", "-q", package],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    found = sorted(folder.glob("*.deb"))
    if done.returncode or not found:
        said = next((line for line in done.stderr.splitlines() if line.startswith("E:")), done.stderr.strip()[:200])
        raise InputError(
            f"apt-get download {package}: {said or f'ended with {done.returncode}'}",
            advice="run apt-get update; on Debian 12, 6.12 is in bookworm-backports; or give a tree",
        )
    return found[0]
