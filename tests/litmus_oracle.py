"""All final states of a litmus test by brute force, sequentially consistent or x86-TSO; nothing of the checker is used.

States are plain tuples. Under TSO a store goes into its CPU's buffer, and from there to memory at any time; a load sees
its own CPU's buffer first; a fence, an atomic access, a lock and an unlock wait until the buffer is empty, and so do
both ends of a section for which somebody waits: what was stored there is in memory when the grace period is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.litmus_c import Op, Test

Final = tuple[tuple[tuple[int, int], ...], tuple[tuple[tuple[str, int], ...], ...]]

FREE = ("load", "store", "set", "if")
"""What a CPU does whatever is in its buffer."""


def outcomes(test: Test, tso: bool) -> set[Final]:
    """Memory and registers of every final state."""
    empty = tuple(dict.fromkeys(names, 0) for names in test.registers)
    memory = {number: test.start.get(number, 0) for number in test.variables.values()}
    start = (
        _key(memory),
        tuple(_key(each) for each in empty),
        tuple(test.threads),
        ((),) * len(test.threads),
        (),
        (),
        (),
    )
    sleeps = any(op.kind == "sync" for thread in test.threads for op in thread)
    free = FREE if sleeps else (*FREE, "enter", "leave")
    seen, todo, found = {start}, [start], set()
    while todo:
        state = todo.pop()
        after = list(_successors(state, tso, free))
        if not any(state[2]) and not any(state[3]):
            found.add((state[0], state[1]))
        todo += [each for each in after if each not in seen]
        seen.update(after)
    return found


def _key(values: dict[Any, int]) -> Any:
    return tuple(sorted(values.items()))


def _successors(state: Any, tso: bool, free: tuple[str, ...]) -> Iterator[Any]:
    """States after one step; operations that are ``free`` wait for no buffer.

    ``held``: (lock, task); ``inside``: tasks in a section; ``waits``: (task, for task).
    """
    memory, registers, threads, buffers, held, inside, waits = state
    for n, rest in enumerate(threads):
        if buffers[n]:
            (address, value), *others = buffers[n]
            drained = (*buffers[:n], tuple(others), *buffers[n + 1 :])
            yield (_key({**dict(memory), address: value}), registers, threads, drained, held, inside, waits)
        if not rest:
            continue
        op: Op = rest[0]
        mine, values = dict(registers[n]), dict(memory)
        after, buffer, locks, sections, awaited = rest[1:], buffers[n], held, inside, waits
        address = mine[op.address] if op.address in mine else int(op.address or 0)
        value = int(eval(op.value, {}, mine)) if op.value else 0
        if op.kind not in free and buffer:
            continue
        match op.kind:
            case "set":
                mine[op.register] = value
                mine.pop("_", None)
            case "if":
                after = (*(op.body if value else op.other), *after)
            case "load":
                own = [each for where, each in buffer if where == address]
                mine[op.register] = own[-1] if own else values[address]
            case "store":
                if tso:
                    buffer = (*buffer, (address, value))
                else:
                    values[address] = value
            case "xchg" | "cmpxchg":
                old = values[address]
                if op.kind == "xchg" or old == int(eval(op.old, {}, mine)):
                    values[address] = value
                if op.register:
                    mine[op.register] = old
            case "lock":
                if any(lock == address for lock, _ in held):
                    continue
                locks = tuple(sorted({*held, (address, n)}))
            case "unlock":
                locks = tuple(each for each in held if each != (address, n))
            case "enter":
                sections = tuple(sorted({*inside, n}))
            case "leave":
                sections = tuple(each for each in inside if each != n)
                awaited = tuple(each for each in waits if each[1] != n)
            case "sync":
                mark = (n, -1)
                if mark not in waits:
                    awaited, after = tuple(sorted({*waits, mark, *((n, other) for other in inside)})), rest
                elif any(each == n and other >= 0 for each, other in waits):
                    continue
                else:
                    awaited = tuple(each for each in waits if each != mark)
        yield (
            _key(values), (*registers[:n], _key(mine), *registers[n + 1 :]), (*threads[:n], after, *threads[n + 1 :]),
            (*buffers[:n], buffer, *buffers[n + 1 :]), locks, sections, awaited,
        )  # fmt: skip
