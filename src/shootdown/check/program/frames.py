"""Where a program stands, as a value: its frames, by what of them still matters.

A program that stopped at an access is told from another one by its stack of frames: code, instruction, and the local
variables that may still be read after it. Two runs that stopped before equal accesses with equal keys go on alike,
whatever led there.

What waits on a frame's evaluation stack is in no variable, so a frame may stand for itself only where that stack is
empty below the call; the key of any other is its whole history of results, which is always sound.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Hashable, Mapping
from functools import cache
from types import CodeType, FrameType
from typing import Any

ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
SEQUENCES = ("tuple", "list", "vec[i64]")
"""Names of the types that are compared item by item; librt's vectors need not be installed for that."""
JUMPS_ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE")


GENERATORS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Unkeyed(Exception):  # noqa: N818 - not an error: the caller falls back
    """A frame holds something that this module cannot compare."""


class Shape:
    """What the bytecode of a function says: per call, is the stack below it empty, and which locals are read later."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.instructions = list(dis.get_instructions(code))
        self.at = {ins.offset: n for n, ins in enumerate(self.instructions)}
        self.depth = self._depths()
        self.live = self._live()

    def _argument(self, n: int) -> int | None:
        ins = self.instructions[n]
        return ins.arg if ins.opcode >= dis.HAVE_ARGUMENT else None

    def _next(self, n: int) -> list[tuple[int, bool]]:
        """Instructions that may follow the n-th, and whether by a jump."""
        ins = self.instructions[n]
        found = []
        if ins.opname not in ENDS and ins.opname not in JUMPS_ALWAYS and n + 1 < len(self.instructions):
            found.append((n + 1, False))
        if ins.opcode in dis.hasjrel or ins.opcode in dis.hasjabs:
            found.append((self.at[ins.argval], True))
        return found

    def _depths(self) -> dict[int, int]:
        depth = {0: 0}
        todo = [0]
        while todo:
            n = todo.pop()
            for m, jump in self._next(n):
                if m not in depth:
                    effect = dis.stack_effect(self.instructions[n].opcode, self._argument(n), jump=jump)
                    depth[m] = depth[n] + effect
                    todo.append(m)
        return depth

    def _live(self) -> list[set[str]]:
        """By instruction: variables that may be read after it before they are set."""
        count = len(self.instructions)
        before: list[set[str]] = [set() for _ in range(count)]
        after: list[set[str]] = [set() for _ in range(count)]
        changed = True
        while changed:
            changed = False
            for n in range(count - 1, -1, -1):
                out: set[str] = set()
                for m, _ in self._next(n):
                    out |= before[m]
                read, written = self._uses(n)
                new = (out - written) | read
                if out != after[n] or new != before[n]:
                    after[n], before[n], changed = out, new, True
        return after

    def _uses(self, n: int) -> tuple[set[str], set[str]]:
        ins = self.instructions[n]
        name = ins.opname
        if "FAST" not in name:
            return set(), set()
        names = ins.argval if isinstance(ins.argval, tuple) else (ins.argval,)
        if len(names) == 1:
            if name.startswith(("STORE_FAST", "DELETE_FAST")):
                return set(), set(names)
            return set(names), set()
        if name == "STORE_FAST_STORE_FAST":
            return set(), set(names)
        if name == "STORE_FAST_LOAD_FAST":
            return ({names[1]} if names[1] != names[0] else set()), {names[0]}
        return set(names), set()

    def stop(self, lasti: int) -> tuple[bool, set[str]]:
        """For a frame stopped in the call at ``lasti``: is nothing hidden on its stack, and which locals matter?"""
        while lasti not in self.at and lasti > 0:
            lasti -= 2  # an inline cache of the call
        n = self.at[lasti]
        effect = dis.stack_effect(self.instructions[n].opcode, self._argument(n), jump=False)
        # The call takes its operands and leaves one result. Handlers of exceptions have no depth here.
        clean = n in self.depth and self.depth[n] + effect - 1 == 0 and not self.code.co_exceptiontable
        clean = clean and not self.code.co_cellvars and not self.code.co_freevars
        # CPython 3.11 counts one too few on a generator's stack, and who runs a generator may be C code.
        return clean and not self.code.co_flags & GENERATORS, self.live[n]


@cache
def shape_of(code: CodeType) -> Shape:
    """The shape of a function, worked out once."""
    return Shape(code)


@cache
def stop_of(code: CodeType, lasti: int) -> tuple[bool, tuple[str, ...]]:
    """``Shape.stop``, with the variables in a fixed order."""
    clean, live = shape_of(code).stop(lasti)
    return clean, tuple(sorted(live))


def key_of(frame: FrameType, entry: CodeType, handles: Mapping[int, str]) -> Hashable:
    """The key of the stack from ``frame`` out to the one that runs ``entry``.

    ``handles`` names, by ``id``, the objects that never change. Raises Unkeyed where a stack hides something or a
    variable holds what cannot be compared; its text names the function.
    """
    memo: dict[int, int] = {}
    found: list[Hashable] = []
    at: FrameType | None = frame
    while at is not None:
        code = at.f_code
        clean, live = stop_of(code, at.f_lasti)
        if not clean:
            raise Unkeyed(code.co_qualname)
        values = at.f_locals
        found.append((code, at.f_lasti, tuple(frozen(values.get(name), handles, memo) for name in live)))
        if code is entry:
            return tuple(found)
        at = at.f_back
    raise Unkeyed(entry.co_qualname)


def frozen(value: Any, handles: Mapping[int, str], memo: dict[int, int]) -> Hashable:
    """A value that equals another's exactly if both would behave alike; objects by their fields, shared ones once."""
    if value is None or isinstance(value, int | str | float):
        return value
    name = handles.get(id(value))
    if name is not None:
        return ("handle", name)
    if id(value) in memo:
        return ("same", memo[id(value)])
    memo[id(value)] = len(memo)
    if type(value).__name__ in SEQUENCES:
        return (type(value).__name__, tuple(frozen(item, handles, memo) for item in value))
    fields = getattr(value, "__dict__", None)
    if fields is None or callable(value):
        raise Unkeyed(f"a {type(value).__name__}")
    return (type(value).__name__, tuple((k, frozen(v, handles, memo)) for k, v in fields.items()))
