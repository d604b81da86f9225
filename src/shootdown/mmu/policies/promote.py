"""``promote``: huge pages are rebuilt in place, with one batched flush (6.13); all else as ``rcu``."""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from .rcu import Rcu


@mypyc_attr(allow_interpreted_subclasses=True)
class Promote(Rcu):
    """Needs no freezing: the old small and the new huge translation agree. Source: 13e2e4f62a4b."""

    name = "promote"
    behaviour = "6.13"


PROMOTE: Final = Promote()
