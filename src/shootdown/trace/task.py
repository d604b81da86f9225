"""Threads, as far as the recovery of operations needs to know them."""

from __future__ import annotations

from mypy_extensions import i64

from .op import Op


class Task:
    """A thread: the operations that it is in (innermost last), the VM that it works for, whether it runs the guest."""

    def __init__(self, pid: i64, vm: i64) -> None:
        self.pid: i64 = pid
        self.vm: i64 = vm
        self.handled: i64 = -1
        self.stack: list[Op] = []
        self.in_guest = False
