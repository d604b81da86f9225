"""``promote-rfc``: huge pages are rebuilt in place, with a flush for each table that goes (RFC 19 of November 2021)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from . import policy
from .eager import Eager


@mypyc_attr(allow_interpreted_subclasses=True)
class PromoteRfc(Eager):
    """Tables are flushed and freed as under ``eager``, on which the RFC was based. Source: RFC 19/19."""

    name = "promote-rfc"
    collapse: i64 = policy.PROMOTE


PROMOTE_RFC: Final = PromoteRfc()
