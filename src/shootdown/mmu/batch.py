"""``Batch``: what one operation still owes while it runs."""

from __future__ import annotations

from librt.vecs import vec
from mypy_extensions import i64, mypyc_attr


@mypyc_attr(acyclic=True, free_list_len=1)
class Batch:
    """Local to one operation.

    flush    a remote flush is owed: something was unmapped since the last one
    collect  the operation ends with a flush, so removed tables may wait for it
    tables   removed tables that were not handed to RCU yet
    first, pages  the gfns that the operation flushes, if it replaced a table
    """

    def __init__(self, collect: bool = False) -> None:
        self.flush = False
        self.collect = collect
        self.tables = vec[i64]()
        self.first: i64 = 0
        self.pages: i64 = 0
