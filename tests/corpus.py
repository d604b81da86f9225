"""Where the recordings are that tests run over: those carried in the repository, and a larger collection beside it.

``SHOOTDOWN_TRACES`` names the folder of the collection, one folder a trace with a ``trace.dat`` in it; by default it is
``../shared/traces`` beside the repository. Without it the tests of the whole corpus are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from .structure import ROOT

TRACES = ROOT / "tests" / "data" / "traces"
SAMPLE = ROOT / "src" / "shootdown" / "samples" / "6.12-dirty-logging.dat"


def carried() -> list[Path]:
    """The recordings in the repository, the package's sample among them."""
    return sorted([*TRACES.glob("*.dat"), SAMPLE], key=name)


def shared() -> list[Path]:
    """The recordings of the collection, none if it is not there."""
    folder = Path(os.environ.get("SHOOTDOWN_TRACES") or ROOT.parent / "shared" / "traces")
    return sorted(folder.glob("*/trace.dat"))


def name(path: Path) -> str:
    """What a recording is called: ``6.12-smm`` of ``6.12-smm.dat`` and of ``6.12-smm/trace.dat``."""
    return path.stem if path.name != "trace.dat" else path.parent.name


def get(which: str) -> Path:
    """The carried recording of that name."""
    return next(path for path in carried() if name(path) == which)


def each(paths: Sequence[Path], reason: str = "no recordings") -> pytest.MarkDecorator:
    """Runs a test for every recording, as its argument ``path``; skipped with the reason where there is none."""
    if not paths:
        return pytest.mark.parametrize("path", [pytest.param(Path(), marks=pytest.mark.skip(reason=reason), id="none")])
    return pytest.mark.parametrize("path", paths, ids=[name(path) for path in paths])


def each_carried() -> pytest.MarkDecorator:
    """Runs a test for every recording in the repository."""
    return each(carried())


def each_shared() -> pytest.MarkDecorator:
    """Runs a test for every recording of the collection that is not carried too."""
    known = {name(path) for path in carried()}
    rest = [path for path in shared() if name(path) not in known]
    return each(rest, "the collection of recordings is not here: SHOOTDOWN_TRACES names its folder")
