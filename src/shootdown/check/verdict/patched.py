"""The MMU's sources with patches applied: a private copy, which goes in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..source.diff import Hunk
from ..source.patch import apply, read_patch
from ..source.source import PACKAGE
from .verdict import Verdict


@dataclass(frozen=True)
class Patched:
    """Sources in ``folder``, with ``hunks`` of the patches ``text``; without any, those of the package."""

    folder: Path = PACKAGE
    hunks: tuple[Hunk, ...] = ()
    text: str = ""

    @property
    def files(self) -> frozenset[str]:
        """The files that are changed."""
        return frozenset(str(self.folder / hunk.file) for hunk in self.hunks)

    def idle(self, verdicts: Sequence[Verdict]) -> list[Hunk]:
        """Hunks that change code which no case ran."""
        ran = {line for verdict in verdicts for line in verdict.lines}
        # A hunk without statements changes comments only, or what a later one changed again.
        return [
            hunk
            for hunk in self.hunks
            if hunk.lines and not any((str(self.folder / hunk.file), line) in ran for line in hunk.lines)
        ]


@contextmanager
def patched(patches: Sequence[tuple[str, str]]) -> Iterator[Patched]:
    """The sources with patches (name and text of each) applied in their order."""
    if not patches:
        yield Patched()
        return
    hunks = [hunk for path, text in patches for hunk in read_patch(path, text)]
    with tempfile.TemporaryDirectory(prefix="shootdown-") as folder:
        apply(hunks, Path(folder))
        yield Patched(Path(folder), tuple(hunks), "\n".join(text for _, text in patches))
