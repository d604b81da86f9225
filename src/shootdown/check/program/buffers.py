"""x86-TSO: each CPU's plain stores wait in a buffer, of which only the CPU itself knows, on their way to memory.

The buffer of a program is one word, a tuple of (word, value) in their order. A program of its own (``store_buffer`` in
programs.py) brings the oldest to memory at any time. A load looks into its program's buffer first. Whatever is atomic,
takes or drops a lock, sends an interrupt, flushes, or enters the guest, waits until the buffer is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import InputError
from ...machine import words
from . import steps
from .access import BUFFERS, Access
from .held import Held
from .machine import CheckedMachine
from .programs import store_buffer
from .setting import Program
from .steps import PROGRAMS_MAX

BARRIERS = frozenset({words.VCPU_MODE})
"""Kinds of words after whose stores there is a full barrier: mmu/vcpu.py has the kernel's, but no step for it."""
UNORDERED = frozenset({steps.RCU_LOCK, steps.RCU_UNLOCK, steps.CHOOSE, steps.IRQ_DISABLE, steps.IRQ_ENABLE})
"""What x86 does with no barrier: RCU sections without preemption, and switching interrupts."""
PROMISES = steps.GLUED | {steps.REVOKE, steps.PROTECT}
"""What no CPU does."""


class BufferedMachine(CheckedMachine):
    """A checked machine with store buffers of ``depth`` entries; ``barriers``: as BARRIERS."""

    def __init__(
        self, bits: int, bug: type[Exception], settled: frozenset[int] = frozenset(), depth: int = 2,
        barriers: frozenset[int] = BARRIERS,
    ) -> None:  # fmt: skip
        super().__init__(bits, bug, settled)
        self.depth = depth
        self.barriers = barriers

    def _take(self, access: Access) -> Any:
        if access.step == steps.STORE and not access.hidden:
            self._store(access)
            return None
        if access.step == steps.UPDATE and access.verb in ("get", "next"):
            if access.verb == "get" and access.word in self.held.stored:
                found = super()._take(self._buffer("forward", access.word))
                if found is not None:
                    return found
        elif access.step not in UNORDERED and access.step not in PROMISES and access.step != steps.STORE:
            self._drain()
        return super()._take(access)

    def _store(self, access: Access) -> None:
        while not super()._take(self._buffer("push", access.word, access.operands[0], self.depth)):
            pass
        self.held.stored.add(access.word)
        if isinstance(access.word, tuple) and access.word[0] in self.barriers:
            self._drain()

    def _drain(self) -> None:
        """Wait until all that the program stored is in memory."""
        held: Held = self.held
        if held.stored:
            while not super()._take(self._buffer("empty")):
                pass
            held.stored.clear()

    def _buffer(self, verb: str, *operands: Any) -> Access:
        return Access(steps.UPDATE, ("list", BUFFERS + self.program), verb, operands)

    # For the buffer's own program

    def oldest(self, program: int) -> Any:
        """The oldest store in the buffer of a program, (word, value); None if it is empty."""
        return super()._take(Access(steps.UPDATE, ("list", BUFFERS + program), "head"))

    def commit(self, word: Any, value: Any) -> None:
        """Bring a store to memory."""
        super()._take(Access(steps.STORE, word, "put", (value,)))

    def drop(self, program: int) -> None:
        """The oldest store leaves the buffer: part of the step that brought it to memory."""
        super()._take(Access(steps.UPDATE, ("list", BUFFERS + program), "pop", hidden=True))


def with_buffers(machine: BufferedMachine, programs: Sequence[Program]) -> list[Program]:
    """The programs, and the buffer of each."""
    if 2 * len(programs) > PROGRAMS_MAX:
        raise InputError(f"more than {PROGRAMS_MAX // 2} vCPUs and tasks, which is too many with store buffers")
    buffers = [
        Program(f"{each.name} buffer", store_buffer, (machine, n), True, buffer=True) for n, each in enumerate(programs)
    ]
    return [*programs, *buffers]
