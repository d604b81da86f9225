"""``Task``: an operation that runs, and how far it has come."""

from __future__ import annotations

import threading

from .. import codes as s
from .operation import Op
from .record import Event
from .vm import ReplayVm


class Task:
    """An operation that runs.

    k       how much of what was recorded of it has come
    over    its share of time is over: it must wait for its next event before it changes anything
    writer  it holds mmu_lock for write
    since   position of the event up to which it has run
    vm, root  what it works on
    collapses  the slot whose huge pages come back with its first change; -1: none
    """

    def __init__(self, op: Op, vm: ReplayVm) -> None:
        self.op = op
        self.vm = vm
        self.expected = op.expected
        self.k = 0
        self.over = False
        self.writer = False
        self.marked = False
        self.since = op.begin
        self.done = False
        self.final = False
        self.refused = 0
        self.collapses = -1
        self.go: threading.Lock | None = None
        self.error: BaseException | None = None

    def head(self) -> Event | None:
        """The next recorded change or flush of the operation."""
        return self.expected[self.k] if self.k < len(self.expected) else None

    def next_change(self) -> Event | None:
        """The next recorded change."""
        for k in range(self.k, min(self.k + 3, len(self.expected))):
            if self.expected[k].code == s.CHANGED:
                return self.expected[k]
        return None
