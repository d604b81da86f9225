"""Which lines of a tree's C are in a library, and which of them ran.

The library is one for the machine COVERAGE: not optimised, and each block of code tells that it runs. objdump says
which lines a block is of.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from ...errors import InputError
from .build import C, Library, preprocessed

Place = tuple[str, int]
"""A file of the tree, or of our own C below ``c/``, and a line."""

TELLS: Final = "<__sanitizer_cov_trace_pc"
_INSN: Final = re.compile(r"^ +([0-9a-f]+):\t(\S+)(.*)$")
_MARKER: Final = re.compile(r'# (\d+) "((?:\\.|[^"\\])*)"')
_LINE: Final = re.compile(r"^(/\S.*):(\d+)(?: \(discriminator \d+\))?$")


@dataclass(frozen=True)
class Code:
    """The code of a library: of each block, by where its call returns to, the lines.

    kept  of each file of the tree that the preprocessor reads, the lines that it leaves, comments included; of several
          lines that end in a backslash the first
    """

    blocks: dict[int, frozenset[Place]]
    compiled: frozenset[Place]
    kept: dict[str, frozenset[int]] = field(default_factory=dict)

    def ran(self, places: Iterable[int]) -> frozenset[Place]:
        """The lines that ran, by what the library told."""
        return frozenset(line for place in places for line in self.blocks.get(place, ()))


def code_of(library: Library) -> Code:
    """What objdump says about a library that was built for COVERAGE."""
    command = ["objdump", "-d", "-l", "--no-show-raw-insn", "-j", ".text", str(library.path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace")
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"objdump does not run: {error}", advice="install binutils (see shootdown doctor)") from None
    code = read_code(done.stdout, {f"{library.folder / 'tree'}/": "", f"{C}/": "c/"})
    return replace(code, kept=read_kept(preprocessed(library)))


def read_kept(texts: Iterable[str]) -> dict[str, frozenset[int]]:
    """The lines that a preprocessor left, by file, of those that it names as the tree does."""
    kept: dict[str, set[int]] = {}
    for text in texts:
        file, number = "", 0
        for line in text.split("\n"):
            marker = _MARKER.match(line)
            if marker:
                file, number = marker[2], int(marker[1])
                continue
            if line.strip() and not file.startswith(("/", "<")):
                kept.setdefault(file, set()).add(number)
            number += 1
    return {file: frozenset(lines) for file, lines in kept.items()}


def read_code(listing: str, roots: dict[str, str]) -> Code:
    """The blocks of a listing; ``roots``: folders whose files count, and what stands for them.

    A block begins where a call that tells returns to and ends at a jump: what follows that without such a call may not
    run when the block does. What stands before the first call of a function belongs to its block.
    """
    blocks: dict[int, set[Place]] = {}
    compiled: set[Place] = set()
    block: set[Place] | None = None
    before: set[Place] = set()
    begun = tells = False
    at: Place | None = None
    for text in listing.split("\n"):
        insn = _INSN.match(text)
        if insn is None:
            line = _LINE.match(text)
            if line:
                root = next((root for root in roots if line[1].startswith(root)), None)
                at = None if root is None else (roots[root] + line[1][len(root) :], int(line[2]))
            elif text.endswith(">:"):
                block, before, begun = None, set(), False
            continue
        address = int(insn[1], 16)
        if tells:
            block, tells = blocks.setdefault(address, set()), False
            block |= before
            before, begun = set(), True
        if insn[2].startswith("call") and TELLS in insn[3]:
            tells = True
            continue
        if at is not None:
            compiled.add(at)
            (block if block is not None else before if not begun else set()).add(at)
        if insn[2].startswith(("j", "ret")):
            block = None
    return Code({place: frozenset(lines) for place, lines in blocks.items()}, frozenset(compiled))
