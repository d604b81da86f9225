"""A library of a tree's page table code, our shims and drivers, and a machine to run them on; built with gcc, cached.

What is built holds code of the kernel: it is under GPL-2.0 and stays in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from ...errors import InputError
from ..source.cache import entry, place
from ..source.probes import X86, switches
from ..source.tree import BUILT, Tree, sources
from .build_errors import explain, gave_up
from .limited import LIMITS, run_all

C: Final = Path(__file__).resolve().parents[1] / "c"
"""Our own C: shims, drivers, machines."""

LIBRARY: Final = "kvm.so"
LICENCE: Final = "holds code of the kernel: under GPL-2.0, it stays in your cache"

COMMON: Final = (
    "-std=gnu11",
    "-O2",
    # objdump and addr2line of binutils 2.40 take the first file that version 5 numbers for another.
    "-gdwarf-4",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-fno-stack-protector",
)
INSIDE: Final = (
    "-ffreestanding", "-nostdinc", "-fms-extensions", "-Werror=implicit-function-declaration",
    "-Werror=int-conversion", "-Werror=incompatible-pointer-types", "-ftrack-macro-expansion=0",
)  # fmt: skip
"""For what is compiled against the shims."""


@dataclass(frozen=True)
class Machine:
    """What the code runs on.

    inside   our files that are compiled against the shims, as patterns below ``c``
    outside  our files that are ordinary programs
    flags    for what is compiled against the shims
    tree     more of them, for the tree's own files and the drivers
    """

    name: str
    inside: tuple[str, ...]
    outside: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    tree: tuple[str, ...] = ()


NATIVE: Final = Machine("native", ("native/*.c",))
"""One CPU, where each operation is done whole."""
EXPLORE: Final = Machine(
    "explore", (), ("explore/*.c",), ("-DSD_EXPLORE", "-mgeneral-regs-only", "-fno-optimize-sibling-calls")
)
"""Every interleaving of several; a call returns to the line that made it, so that a schedule names that line."""
PLAIN: Final = replace(
    EXPLORE,
    name="plain",
    tree=(
        "-fsanitize=thread",
        "--param",
        "tsan-instrument-func-entry-exit=0",
        "--param",
        "tsan-distinguish-volatile=0",
    ),
)
"""The same, and it sees accesses that are not marked."""
STEPPED: Final = replace(EXPLORE, name="stepped", tree=("-Og",))
"""The same for a debugger; unlike at -O0, variables lie where they did, so that a schedule fits."""
COVERAGE: Final = replace(
    EXPLORE,
    name="coverage",
    outside=(*EXPLORE.outside, "coverage/*.c"),
    tree=("-O0", "-fsanitize-coverage=trace-pc"),
)
"""The same, and it remembers which code ran."""


@dataclass(frozen=True)
class Library:
    """A built library: ``folder`` has the sources that it was made of, in ``tree``."""

    path: Path
    folder: Path
    tree: Tree
    machine: Machine
    switches: tuple[str, ...]


@cache
def compiler() -> tuple[str, str, str]:
    """gcc, its version, and its own headers. Raises InputError if there is none that builds this."""
    asked = os.environ.get("CC", "")
    gcc = shutil.which(asked or "gcc")
    if gcc is None and asked:
        raise InputError(f"CC says '{asked}', and there is no such program", advice="name gcc alone, or unset CC")
    if gcc is None:
        raise InputError("gcc is not found, and the kernel's C is built with it", advice="install gcc (see doctor)")
    said = subprocess.run([gcc, "--version"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    where = subprocess.run([gcc, "-print-file-name=include"], capture_output=True, text=True, check=False)
    target = subprocess.run([gcc, "-dumpmachine"], capture_output=True, text=True, check=False).stdout.strip()
    if "clang" in said:
        raise InputError(f"{gcc} is clang, and the kernel's C is built with gcc here", advice="unset CC, or name gcc")
    if not target.startswith("x86_64") or "linux" not in target:
        raise InputError(f"{gcc} builds for {target or 'nobody knows what'}: the kernel's C runs on x86-64 Linux only")
    return gcc, f"{said} {target}", where.stdout.strip()


def build(tree: Tree, machine: Machine, drivers: Path = C / "drivers") -> Library:
    """The library of a tree for a machine; from the cache, if it was built before.

    Raises InputError, naming what the shims or drivers lack, where it cannot be built.
    """
    files = sources(tree)
    on = switches(tree.read)
    ours = sorted(path for path in C.rglob("*") if path.is_file() and drivers != path.parent)
    digest = hashlib.sha256()
    for part in (compiler()[1], repr(machine), repr((COMMON, INSIDE)), str(C), str(drivers), *on):
        digest.update(part.encode() + b"\0")
    for name, text in sorted(files.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text.encode("utf-8", "surrogateescape"))
    for path in [*ours, *sorted(drivers.glob("*"))]:
        digest.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    key = digest.hexdigest()

    def make(folder: Path) -> None:
        for name, text in files.items():
            path = folder / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        _compile(tree, folder, place("kernel", key), machine, on, drivers)
        about = {
            "tree": tree.name,
            "version": tree.version,
            "machine": machine.name,
            "switches": on,
            "licence": LICENCE,
        }
        (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    folder = entry("kernel", key, make)
    return Library(folder / LIBRARY, folder, tree, machine, on)


def preprocessed(library: Library) -> list[str]:
    """What the preprocessor leaves of each of the tree's files that are compiled, with macros as they are."""
    flags = _flags(library.machine, library.switches)
    with tempfile.TemporaryDirectory(prefix="shootdown-") as folder:
        results = [Path(folder) / f"{number}.i" for number in range(len(BUILT))]
        commands = [
            [compiler()[0], *COMMON, *flags, "-E", "-fdirectives-only", file, "-o", str(result)]
            for file, result in zip(BUILT, results, strict=True)
        ]
        for ran in run_all(commands, library.folder / "tree", LIMITS):
            if ran.said:
                raise explain(library.tree, ran.said, C)
        return [result.read_text(encoding="utf-8", errors="replace") for result in results]


def _flags(machine: Machine, on: Iterable[str]) -> list[str]:
    """For what is compiled against the shims."""
    return [
        *INSIDE, "-isystem", compiler()[2], f"-I{C / 'shims'}", f"-I{X86.rstrip('/')}", f"-I{X86}mmu",
        *(f"-D{name}" for name in on), *machine.flags,
    ]  # fmt: skip


def _compile(tree: Tree, folder: Path, final: Path, machine: Machine, on: Iterable[str], drivers: Path) -> None:
    """Compile all files below ``folder``, which will be ``final``, and link them."""
    gcc, inside = compiler()[0], _flags(machine, on)
    common = [*COMMON, f"-ffile-prefix-map={folder}={final}", f"-fmacro-prefix-map={C}/="]
    warn = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-sign-compare"]
    jobs: list[tuple[str, list[str]]] = [(file, [*inside, *machine.tree]) for file in BUILT]
    jobs += [(str(path), [*inside, *warn, *machine.tree]) for path in sorted(drivers.glob("*.c"))]
    mine = [C / "shims" / "sd_facts.c", *(path for pattern in machine.inside for path in sorted(C.glob(pattern)))]
    jobs += [(str(path), [*inside, *warn]) for path in mine]
    jobs += [(str(path), warn) for pattern in machine.outside for path in sorted(C.glob(pattern))]

    objects = [f"../{number}.o" for number in range(len(jobs))]
    link = [gcc, "-shared", "-Wl,-z,defs", "-Wl,-Bsymbolic", "-g", *objects, "-o", f"../{LIBRARY}"]
    compile_all = [
        [gcc, *common, *flags, "-c", file, "-o", where] for (file, flags), where in zip(jobs, objects, strict=True)
    ]
    for commands, about in ((compile_all, [file for file, _ in jobs]), ([link], [LIBRARY])):
        ran = run_all(commands, folder / "tree", LIMITS)
        over = next((n for n, each in enumerate(ran) if each.over), None)
        if over is not None:
            raise gave_up(tree, about[over], ran[over].said, LIMITS)
        if any(each.said for each in ran):
            raise explain(tree, "".join(each.said for each in ran), C)
    for number in range(len(jobs)):
        (folder / f"{number}.o").unlink()
