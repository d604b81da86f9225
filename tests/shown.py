"""The output that README and docs show, and whether the program still prints it.

    python -m tests.shown

writes what the program prints now into every such block. A block is fenced as ``console`` and begins with ``$`` and the
command. A line ``...`` in it stands for lines left out; what comes after the first and before the last begins at the
line with the same number of a step. Seconds of CPU time are not compared.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.structure import ROOT

BLOCK = re.compile(r"```console\n\$ ((?:shootdown|python) [^\n]*)\n(.*?)```", re.S)
TIMES = re.compile(r"^(\S+ .* (?:holds|refuted|unknown|idle)!? .*?) +\d+\.\d$", re.M)
LEFT_OUT = "...\n"


def files() -> list[Path]:
    """README and all documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def blocks() -> Iterator[tuple[Path, str, str]]:
    """File, command and text of every block."""
    for path in files():
        for command, text in BLOCK.findall(path.read_text()):
            yield path, command, text


def printed(command: str) -> str:
    """What a command prints, run in the repository's folder."""
    words = command.split()
    done = subprocess.run(
        [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.stdout


def without_times(text: str) -> str:
    """Verdict lines without their last column."""
    return TIMES.sub(r"\1", text)


def shown(text: str, output: str) -> str:
    """``output`` with as many lines left out as ``text`` leaves out, where it does."""
    parts, lines = text.split(LEFT_OUT), output.splitlines(keepends=True)
    found = []
    for n, part in enumerate(parts):
        count = part.count("\n")
        if n == 0:
            at = 0
        elif n == len(parts) - 1:
            at = len(lines) - count
        else:
            at = next((k for k, line in enumerate(lines) if line[:4] == part[:4]), 0)
        found.append("".join(lines[at : at + count] if len(parts) > 1 else lines))
    return LEFT_OUT.join(found)


def main() -> None:
    """Bring all blocks up to date."""
    for path in files():
        old = path.read_text()
        new = BLOCK.sub(lambda m: m[0].replace(m[2], shown(m[2], printed(m[1]))), old)
        if without_times(new) != without_times(old):
            path.write_text(new)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
