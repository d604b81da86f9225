"""Programs as automata: each unrolled when it is first needed, node by node, by running it again.

A node is a place where a program can stand before an access; its key is in ``frames``. Running a program again costs
microseconds and happens once a node and result; from then on the explorer only follows numbers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ...errors import InputError
from ..source import endless
from ..source.source import place_in, place_of
from . import steps
from .access import Access, Astray, Stop
from .frames import Unkeyed, key_of
from .setting import Program, Setting

LINES_MAX = 200_000
"""Lines of a watched file that one run may take; a run from one access to the next takes some hundred."""


@dataclass
class Node:
    """A place of a program.

    program   its number
    record    results that lead there from the program's (last) start, one way of many
    trail     the accesses that gave them
    access    what comes next
    irq_off   interrupts are off at that moment
    stack     (file, function, line) of the MMU's frames, innermost first
    bug       the assertion that failed, if ``access`` is a BUG
    """

    program: int
    record: tuple[Any, ...]
    trail: tuple[Access, ...]
    access: Access
    irq_off: bool
    stack: tuple[tuple[str, str, int], ...]
    bug: str = ""


class Automata:
    """The automata of all programs of a setting.

    ``merge``: key nodes by frames; else by their whole histories. ``watch``: files whose executed lines are noted.
    """

    def __init__(self, setting: Setting, merge: bool = True, watch: frozenset[str] = frozenset()) -> None:
        self.setting = setting
        self.merge = merge
        self.watch = watch
        self.lines: set[tuple[str, int]] = set()
        """(file, line) that ran, in the files that are watched."""
        self.nodes: list[Node] = []
        self.numbers: dict[Hashable, int] = {}
        self.histories: Counter[str] = Counter()
        """Nodes that fell back to their history, by the function that made it necessary."""
        self.runs = 0
        self.lines_left = 0
        self.timed = endless.ready()

    def start(self, program: int) -> int:
        """The first node of a program."""
        return self._node(program, [])

    def after(self, node: int, result: Any) -> int:
        """The node that follows when the access of ``node`` gave ``result``."""
        at = self.nodes[node]
        return self._node(at.program, [*at.record, result], (*at.trail, at.access))

    def _node(self, number: int, record: list[Any], expected: tuple[Access, ...] | None = None) -> int:
        program, machine = self.setting.programs[number], self.setting.machine
        bug = ""
        while True:
            self.runs += 1
            machine.start(record, expected)
            machine.program = number
            self.lines_left = LINES_MAX
            if self.watch:
                sys.settrace(self._trace)
            if self.timed:
                endless.begin()
            try:
                _enter(program)
                machine.end()
            except Stop:
                access = machine.next
                break
            except machine.bug as error:
                access, bug = Access(steps.BUG), f"{error}"
                machine.frame = _deepest(error.__traceback__)
                break
            except Astray:
                raise InputError(
                    f"{program.name}: the code does not repeat itself; shared state belongs into the machine's words"
                ) from None
            except InputError:
                raise
            except RecursionError:
                access, bug = Access(steps.BUG), "endless recursion"
                break
            except Exception as error:
                raise InputError(f"{place_of(error)}: {type(error).__name__}: {error}") from None
            finally:
                if self.timed:
                    endless.end()
                if self.watch:
                    sys.settrace(None)
            if not program.again:
                access = Access(steps.END)
                machine.frame = None
                break
            record, expected = [], None
        key = self._key(number, record, access, bug)
        found = self.numbers.get(key)
        if found is not None:
            return found
        self.numbers[key] = len(self.nodes)
        trail, irq_off = tuple(machine.trail), machine.held.irq_off
        self.nodes.append(Node(number, tuple(record), trail, access, irq_off, _stack(machine.frame), bug))
        machine.frame = None
        return len(self.nodes) - 1

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in self.watch:
            return None
        self.lines_left -= 1
        if self.lines_left < 0:
            place = place_in(frame.f_code.co_filename, frame.f_lineno)
            raise InputError(f"{place}: a loop without an access to shared memory")
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self._trace

    def _key(self, number: int, record: list[Any], access: Access, bug: str) -> Hashable:
        machine = self.setting.machine
        if access.step in (steps.END, steps.BUG):
            return (number, access.step, bug)
        if self.merge:
            try:
                frames = key_of(machine.frame, _enter.__code__, self.setting.handles)
            except Unkeyed as error:
                self.histories[str(error)] += 1
            else:
                return (number, access, machine.held.key(), frames)
        return (number, "history", tuple(record))


def _enter(program: Program) -> None:
    program.run(*program.operands)


def _deepest(trace: Any) -> Any:
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame


def _stack(frame: Any) -> tuple[tuple[str, str, int], ...]:
    found = []
    while frame is not None and frame.f_code is not _enter.__code__:
        found.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)
