"""``shootdown doctor``: what this host has and lacks, and what that means."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import click

from ..build_info import compiled, describe
from ..errors import InputError
from ..kernel.library.build import compiler
from ..kernel.source.cache import cache_folder
from .options import JSON
from .report import dump, wrap

MISSING = 3
ROOM_MB = 500


@dataclass(frozen=True)
class Check:
    """One thing that is looked for: ``look`` gives what was found, or "" if it is missing."""

    name: str
    look: Callable[[], str]
    without: str


def _compiled() -> str:
    return describe() if compiled() else ""


def _gcc() -> str:
    try:
        return compiler()[1]
    except InputError:
        return ""


def _program(name: str) -> Callable[[], str]:
    def look() -> str:
        path = shutil.which(name)
        if path is None:
            return ""
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, errors="replace")
        said = (done.stdout or done.stderr).strip().partition("\n")[0].strip()
        return said[:60] if done.returncode == 0 and said else path

    return look


def _room() -> str:
    folder = cache_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    return f"{free} MB free for {cache_folder()}" if free >= ROOM_MB and os.access(folder, os.W_OK) else ""


CHECKS = (
    Check("python", platform.python_version, ""),
    Check(
        "compiled", _compiled, "everything works, 20 to 50 times slower: install gcc and python3-dev, then reinstall"
    ),
    Check("gcc", _gcc, "no kernel build, diff, bench or check --tree: install gcc, on x86-64 Linux"),
    Check("objdump", _program("objdump"), "whether a patch to a kernel ran cannot be told: install binutils"),
    Check("addr2line", _program("addr2line"), "schedules of the kernel's C have no file and line: install binutils"),
    Check("gdb", _program("gdb"), "a schedule of the kernel's C cannot be stepped through: install gdb"),
    Check("apt-get", _program("apt-get"), "no --debian: give a Linux tree or a tarball instead"),
    Check("trace-cmd", _program("trace-cmd"), "traces cannot be recorded here; recordings can be read"),
    Check(
        "room",
        _room,
        f"there is no room for {ROOM_MB} MB in {cache_folder()}, or it is read-only: set XDG_CACHE_HOME",
    ),
)


@click.command("doctor")
@JSON
def command(as_json: bool) -> int:
    """What is missing on this host, and for what.

    \b
    Example: shootdown doctor
    Exit codes: 0 nothing is missing, 3 something is.
    """
    found = [(check, check.look()) for check in CHECKS]
    missing = [check for check, what in found if not what]
    if as_json:
        listed = [{"name": c.name, "found": what or None, "without": c.without or None} for c, what in found]
        print(dump("doctor", {"checks": listed}))
        return MISSING if missing else 0
    for check, what in found:
        print("\n".join(wrap(what or f"MISSING: {check.without}", " " * 11, f"{check.name:11}")))
    return MISSING if missing else 0
