"""``Access``: what a program does next on the checked machine, and ``Held``: what it holds when it does."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from ...machine import words

BUFFERS = 1000
"""Store buffers are lists from this number on, by program (buffers.py)."""


def is_buffer(name: tuple[Any, ...]) -> bool:
    """Is a word that is no SPTE a store buffer?"""
    return bool(name[0] == "list" and name[1] >= BUFFERS)


@dataclass(frozen=True)
class Access:
    """What a program does next.

    step     kind of step (steps.py)
    word     the word it is about, if any: an SPTE's address or (kind, owner), ("list", number)
    verb     what is done to the word: "get", "put", "xchg", "cmpxchg", "and", "add", ...
    operands  what the verb takes
    number   table, vCPU, pfn, promise or count of choices, where the step is about one
    hidden   nobody can see or disturb it: no step of its own
    """

    step: int
    word: Hashable = None
    verb: str = ""
    operands: tuple[Any, ...] = ()
    number: int = 0
    hidden: bool = False

    def result(self, raw: Any) -> Any:
        """What the program gets, if the word holds ``raw``."""
        if self.verb == "inc":
            return raw != 0
        if self.verb == "next":
            return _after(raw, self.operands[0])
        if self.verb in ("push", "forward", "empty", "head"):
            return self._from_buffer(raw)
        return raw

    def written(self, raw: Any) -> Any:
        """What the word holds afterwards."""
        verb, operands = self.verb, self.operands
        match verb:
            case "put" | "xchg":
                return operands[0]
            case "cmpxchg" | "exchange":
                return operands[1] if raw == operands[0] else raw
            case "and":
                return raw & operands[0]
            case "clear":
                return raw & ~operands[0]
            case "or":
                return raw | operands[0]
            case "add":
                return raw + operands[0]
            case "inc":
                return raw + 1 if raw else raw
            case "prepend":
                return (operands[0], *raw)
            case "append":
                return (*raw, operands[0])
            case "remove":
                return tuple(table for table in raw if table != operands[0])
            case "push" if len(raw) < operands[2]:
                return (*raw, (operands[0], operands[1]))
            case "pop":
                return raw[1:]
        return raw

    def _from_buffer(self, raw: Any) -> Any:
        match self.verb:
            case "push":
                return len(raw) < self.operands[2]
            case "forward":
                return next((value for word, value in reversed(raw) if word == self.operands[0]), None)
            case "empty":
                return not raw
        return raw[0] if raw else None


def _after(tables: tuple[int, ...], table: int) -> int:
    at = tables.index(table) + 1 if table in tables else 0
    return tables[at] if at < len(tables) else words.NO_TABLE


class Stop(BaseException):
    """The program reached an access that has no result yet."""


class Astray(BaseException):
    """The program does not repeat itself: with the same results it makes another access than it did."""
