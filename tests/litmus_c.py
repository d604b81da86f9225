"""Litmus tests of the Linux memory model: reads C-flavoured ``.litmus`` files, and makes tasks of the checker of them.

Each variable is a shared word of the machine, a spinlock one of its locks, a register a local variable. At its end a
task stores its registers, so that a final state shows them. Files are read in place, from a kernel's sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shootdown.check.program.machine import CheckedMachine
from shootdown.machine.words import RING_ENTRY

FOLDER = "linux-source-6.1/tools/memory-model/litmus-tests"
VARIABLES, REGISTERS = 100, 200
"""First owner of the words that are variables, and of those that keep the registers of each task at its end."""
FENCE = 300
"""Owner of the word whose atomic accesses stand for full barriers."""
BITS = 8
"""Of a register in its task's word; a pointer is the owner of the word that it points to."""
LOCKS = (("write_lock", "write_unlock"), ("pages_lock", "pages_unlock"), ("slots_lock", "slots_unlock"))
LOADS, STORES = ("READ_ONCE", "smp_load_acquire", "rcu_dereference"), (
    "WRITE_ONCE", "smp_store_release", "rcu_assign_pointer"
)  # fmt: skip
FENCES = ("smp_mb", "smp_mb__after_spinlock", "smp_mb__before_atomic", "smp_mb__after_atomic")
ORDERED = ("smp_rmb", "smp_wmb", "smp_read_barrier_depends", "barrier")
"""Fences that forbid nothing that x86 or a sequentially consistent machine would do."""
SECTIONS = {
    "rcu_read_lock": "rcu_read_lock", "rcu_read_unlock": "rcu_read_unlock",
    "srcu_read_lock": "srcu_read_lock", "srcu_read_unlock": "srcu_read_unlock",
}  # fmt: skip
GRACE = ("synchronize_rcu", "synchronize_srcu")


class OutOfScope(Exception):  # noqa: N818 - it is a result
    """A file uses what the machine does not have; the text says what."""


@dataclass(frozen=True)
class Op:
    """One statement: ``kind`` (load, store, xchg, cmpxchg, fence, lock, unlock, enter, leave, sync, if).

    register  that gets the result
    address   of a variable: a register's name, or an owner as text; of a lock, its number
    value     an expression over registers, as Python
    old       of a cmpxchg
    body, other   of an if on ``value``
    """

    kind: str
    register: str = ""
    address: str = ""
    value: str = ""
    old: str = ""
    body: tuple[Op, ...] = ()
    other: tuple[Op, ...] = ()


@dataclass
class Test:
    """A file: what its comment says of ``exists``, the tasks, values at the start, and the condition as Python."""

    name: str
    result: str
    threads: list[tuple[Op, ...]]
    registers: list[list[str]]
    start: dict[int, int]
    variables: dict[str, int]
    exists: str
    locks: dict[str, int] = field(default_factory=dict)

    __test__ = False

    def owner(self, variable: str) -> int:
        """Of the word that is a variable."""
        return self.variables.setdefault(variable, len(self.variables) + VARIABLES)

    def holds(self, memory: dict[int, int], registers: list[dict[str, int]]) -> bool:
        """Is the condition of ``exists`` true of a final state?"""
        return bool(eval(self.exists, {"m": memory, "r": registers}))


def folder() -> Path | None:
    """Where the files are: below the folder in SHOOTDOWN_LINUX, which holds kernel sources; None if they are not."""
    found = Path(os.environ.get("SHOOTDOWN_LINUX", "/nowhere")) / FOLDER
    return found if found.is_dir() else None


def read(text: str) -> Test:
    """Read a file. Raises OutOfScope."""
    name = re.match(r"C\s+(\S+)", text)
    result = re.search(r"Result:\s*(\w+)", text)
    assert name and result, "no litmus file"
    body = re.sub(r"\(\*\s.*?\*\)|//[^\n]*|/\*.*?\*/", "", text[name.end() :], flags=re.S)
    heads = list(re.finditer(r"^P(\d+)\s*\((.*?)\)\s*\{(.*?)^\}", body, re.S | re.M))
    found = Test(name[1], result[1], [], [], {}, {}, "")
    begin = re.search(r"\{(.*?)\}", body, re.S)
    declared = begin[1] if begin and begin.start() < heads[0].start() else ""
    for head in heads:
        for parameter in head[2].split(","):
            parts = re.fullmatch(r"\s*(.*?)\s*\**\s*(\w+)\s*", parameter, re.S)
            assert parts, parameter
            kind, variable = parts.groups()
            names = found.locks if kind.startswith("spinlock_t") else found.variables
            names.setdefault(variable, len(names) + (0 if names is found.locks else VARIABLES))
    if len(found.locks) > len(LOCKS):
        raise OutOfScope(f"more than {len(LOCKS)} locks")
    for entry in filter(str.strip, declared.split(";")):
        match = re.fullmatch(r"\s*(?:int\s+|atomic_t\s+)?\**(\w+)\s*=\s*&?(\w+)\s*", entry)
        if not match:
            raise OutOfScope(f"start '{entry.strip()}'")
        owner = found.owner(match[1])
        found.start[owner] = int(match[2]) if match[2].isdigit() else found.owner(match[2])
    for head in heads:
        registers = re.findall(r"^\s*int\s+\**(\w+)\s*;", head[3], re.M)
        code = re.sub(r"^\s*int\s+\**\w+\s*;", "", head[3], flags=re.M)
        found.registers.append(registers)
        found.threads.append(tuple(_Body(found, registers, code).block("")))
    condition = re.search(r"^(~?)exists\s*\((.*)\)\s*$", body, re.S | re.M)
    if not condition or condition[1]:
        raise OutOfScope("no plain 'exists'")
    found.exists = _condition(found, condition[2])
    return found


def _condition(test: Test, text: str) -> str:
    text = text.replace("/\\", " and ").replace("\\/", " or ").replace("=", "==")
    text = re.sub(r"(\d+):(\w+)", r"r[\1]['\2']", text)
    for name, number in test.variables.items():
        text = re.sub(rf"(?<!['\w])\[?{name}\]?(?=\s*==)", f"m[{number}]", text)
        text = re.sub(rf"(?<===){name}\b", str(number), text)
    return text


class _Body:
    """Statements of one task, from C."""

    def __init__(self, test: Test, registers: list[str], text: str) -> None:
        self.test = test
        self.registers = registers
        self.tokens = re.findall(r"\w+|==|!=|&&|\|\||->|[^\s\w]", text)
        self.at = 0

    def block(self, end: str) -> Iterator[Op]:
        while self.at < len(self.tokens) and self.tokens[self.at] != end:
            yield from self.statement()

    def statement(self) -> Iterator[Op]:
        if self.tokens[self.at] == "{":
            self.at += 1
            yield from self.block("}")
            self.at += 1
        elif self.tokens[self.at] == "if":
            condition = self.until_closed(self.at + 1)
            body = tuple(self.statement())
            other: tuple[Op, ...] = ()
            if self.at < len(self.tokens) and self.tokens[self.at] == "else":
                self.at += 1
                other = tuple(self.statement())
            yield Op("if", value=self.value(condition), body=body, other=other)
        else:
            end = self.tokens.index(";", self.at)
            words, self.at = self.tokens[self.at : end], end + 1
            yield self.simple(words)

    def until_closed(self, at: int) -> list[str]:
        """What is in the parentheses that open at a token; behind them it goes on."""
        depth, first = 0, at + 1
        while True:
            depth += {"(": 1, ")": -1}.get(self.tokens[at], 0)
            at += 1
            if depth == 0:
                self.at = at
                return self.tokens[first : at - 1]

    def simple(self, words: list[str]) -> Op:
        register = ""
        if len(words) > 2 and words[1] == "=":
            register, words = words[0], words[2:]
            if register not in self.registers:
                raise OutOfScope(f"plain access to {register}")
            if len(words) < 2 or words[1] != "(":
                return Op("set", register, value=self.value(words))
        called, operands = words[0], self.split(words[2:-1])
        if called in LOADS:
            return Op("load", register, self.address(operands[0]))
        if called in STORES:
            return Op("store", "", self.address(operands[0]), self.value(operands[1]))
        if called in ("xchg", "atomic_xchg"):
            return Op("xchg", register, self.address(operands[0]), self.value(operands[1]))
        if called in ("cmpxchg", "atomic_cmpxchg"):
            return Op("cmpxchg", register, self.address(operands[0]), self.value(operands[2]), self.value(operands[1]))
        if called in FENCES:
            return Op("fence")
        if called in ORDERED:
            return Op("set", "_", value="0")
        if called in ("spin_lock", "spin_unlock"):
            return Op(called[5:], address=str(self.test.locks[operands[0][-1]]))
        if called in SECTIONS:
            return Op("enter" if called.endswith("read_lock") else "leave")
        if called in GRACE:
            return Op("sync")
        raise OutOfScope(f"{called}()")

    @staticmethod
    def split(words: list[str]) -> list[list[str]]:
        parts: list[list[str]] = [[]]
        for word in words:
            if word == ",":
                parts.append([])
            else:
                parts[-1].append(word)
        return parts

    def address(self, words: list[str]) -> str:
        name = words[-1]
        return name if name in self.registers else str(self.test.variables[name])

    def value(self, words: list[str]) -> str:
        python = {"&&": "and", "||": "or", "!": "not"}
        variables = self.test.variables
        return " ".join(str(variables[word]) if word in variables else python.get(word, word) for word in words)


# Tasks of the checker


def tasks(test: Test) -> list[Callable[[CheckedMachine], None]]:
    """The code of each task, as a function over the machine: written as source, so that its frames can be compared."""
    sleeps = any(op.kind == "sync" for thread in test.threads for op in thread)
    found = []
    for number, thread in enumerate(test.threads):
        names = test.registers[number]
        lines = [f"def task{number}(m):", *(f"    {name} = 0" for name in names)]
        for op in thread:
            lines += _source(op, sleeps, "    ")
        packed = " | ".join(f"{name} << {n * BITS}" for n, name in enumerate(names)) or "0"
        lines.append(f"    m.store({RING_ENTRY}, {REGISTERS + number}, {packed})")
        scope: dict[str, Callable[[CheckedMachine], None]] = {}
        exec(compile("\n".join(lines), f"<{test.name}>", "exec"), scope)
        found.append(scope[f"task{number}"])
    return found


def _source(op: Op, sleeps: bool, indent: str) -> list[str]:
    word = f"{RING_ENTRY}, {op.address}"
    result = f"{op.register} = " if op.register else ""
    match op.kind:
        case "set":
            return [f"{indent}{op.register} = {op.value}"] if op.register != "_" else []
        case "load":
            return [f"{indent}{result}m.load({word})"]
        case "store":
            return [f"{indent}m.store({word}, {op.value})"]
        case "cmpxchg":
            return [f"{indent}{result}m.exchange({word}, {op.old}, {op.value})"]
        case "lock" | "unlock":
            return [f"{indent}m.{LOCKS[int(op.address)][op.kind == 'unlock']}()"]
        case "enter" | "leave":
            # The machine waits for sections of SRCU; for those of RCU only its callbacks do.
            kind = "srcu" if sleeps else "rcu"
            return [f"{indent}m.{kind}_read_{'lock' if op.kind == 'enter' else 'unlock'}()"]
        case "sync":
            return [f"{indent}m.synchronize_srcu()"]
        case "fence":
            # The machine has no barrier of its own; every atomic access is one.
            return [f"{indent}m.fetch_add({RING_ENTRY}, {FENCE}, 0)"]
        case "if":
            lines = [f"{indent}if {op.value}:", f"{indent}    pass"]
            lines += [line for each in op.body for line in _source(each, sleeps, indent + "    ")]
            if op.other:
                lines.append(f"{indent}else:")
            lines += [line for each in op.other for line in _source(each, sleeps, indent + "    ")]
            return lines
    raise OutOfScope(f"{op.kind} of a variable")
