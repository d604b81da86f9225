"""Everybody gets on (P8): who goes on alone, while all others are at rest, does not go round for ever.

Looked for in all states that the slow explorer finds. A task of the host must come to its end; a vCPU must come to stay
in the guest, as long as the host has its pages, and leave it for no fault that was served. Left out are guests that
write: here a CPU may go on with an entry that it has cached and that lacks the right, and fault by it for ever.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import suite
from shootdown.check.program import steps
from shootdown.check.reference.explorer import Reference
from shootdown.check.reference.state import State
from shootdown.check.source.source import Source
from shootdown.machine.words import HOST_PFN
from shootdown.mmu.access import WRITE
from tests.mutations import Mutation
from tests.test_check_suite import mutated

TESTS = {test.name: test for test in suite()}
STATES_MAX = 20_000
INTERRUPT = ".0"
"""How the reference names a step by which the guest is left without a fault, behind the program's number."""

Graph = dict[State, list[State]]


def alone(reference: Reference) -> list[Graph]:
    """By program, its steps from states in which all others are at rest; interrupts of a guest are left out."""
    outcome = reference.explore(STATES_MAX)
    assert not outcome.broken and not outcome.stopped
    programs = reference.setting.programs
    found: list[Graph] = [{} for _ in programs]
    for state in outcome.parents:
        busy = [n for n in range(len(programs)) if not at_rest(reference, state, n)]
        lacks = any(isinstance(word, tuple) and word[0] == HOST_PFN and raw < 0 for word, raw in state.words)
        for what, world in reference.successors(state):
            program, _, _ = what.partition(".")
            n = int(program) if program.isdecimal() else -1
            if n < 0 or any(other != n for other in busy):
                continue
            if programs[n].vcpu >= 0 and (lacks or any(code & WRITE for _, code in programs[n].faults)):
                continue
            in_guest = reference.places[state.places[n]].access.step == steps.GUEST
            if not (in_guest and what == f"{n}{INTERRUPT}"):
                found[n].setdefault(state, []).append(reference.settle(world))
    return found


def at_rest(reference: Reference, state: State, program: int) -> bool:
    """Has a program not begun, or is it over, or in the guest?"""
    place = state.places[program]
    step = reference.places[place].access.step
    return place == reference.first[program] or step in (steps.END, steps.GUEST)


def goes_round(graph: Graph) -> bool:
    """Is there a circle?"""
    done: set[State] = set()
    for start in graph:
        path, stack = {start}, [(start, iter(graph[start]))]
        while stack:
            state, rest = stack[-1]
            following = next((s for s in rest if s not in done), None)
            if following in path:
                return True
            if following is None or following not in graph:
                done.add(state if following is None else following)
                if following is None:
                    path.discard(state)
                    stack.pop()
                continue
            path.add(following)
            stack.append((following, iter(graph[following])))
        done.add(start)
    return False


def stuck(test: str, behaviour: str, source: Source) -> list[str]:
    """The programs of a test that may go round for ever."""
    setting = build(Case(TESTS[test], "rcu", behaviour, TESTS[test].tiny), source)
    graphs = alone(Reference(setting))
    return [program.name for program, graph in zip(setting.programs, graphs, strict=True) if goes_round(graph)]


@pytest.mark.parametrize(
    ("test", "behaviour"),
    [("unmap-leafs", "6.12"), ("unmap-yield-huge", "6.12"), ("nx-recovery", "6.1"), ("write-protect-logged", "6.12"),
     ("nx-recovery-fault", "6.12")]
    + [
        pytest.param(test, behaviour, marks=pytest.mark.slow)
        for test, behaviour in (
            ("unmap-leafs", "6.1"), ("zap-all-fast", "6.12"), ("collapse-zap", "6.1"), ("log-get", "6.12"),
            ("log-on", "6.1"), ("fast-fault-collapse", "6.12"), ("nx-split-collapse", "6.12"), ("age", "6.12"),
        )
    ],
)  # fmt: skip
def test_who_goes_on_alone_gets_on(test: str, behaviour: str) -> None:
    """Retries and yields end when nobody interferes."""
    source = Source()
    try:
        assert stuck(test, behaviour, source) == []
    finally:
        source.close()


BUGS = (
    (Mutation(
        "B26: a walk gives way though it did not get on",
        (("mmu/resched.py", "    if it.next_last_level_gfn == it.yielded_gfn:\n        return False\n", ""),),
        "unmap-yield-huge", 0,
    ), "notifier"),
    (Mutation(
        "B42: the sequence of invalidations that a fault keeps is too narrow, and one has been",
        (("mmu/fault.py", "    seq = m.load(INVALIDATE_SEQ, 0)\n    result = faultin",
          "    seq = m.load(INVALIDATE_SEQ, 0)\n    seq = 0\n    result = faultin"),),
        "unmap-leafs", 0,
    ), "vCPU0"),
    (Mutation(
        "B64: nobody takes back a request that was served",
        (("mmu/vcpu.py", "        m.fetch_clear(VCPU_REQUESTS, vcpu, TLB_FLUSH)\n", ""),),
        "unmap-leafs", 0,
    ), "vCPU0"),
    (Mutation(
        "b8e8c8303ff2: a fetch is served by a huge page, which the NX mitigation lets nobody execute",
        (("mmu/fault.py", "    if disallowed:\n        goal = 1\n", ""),),
        "nx-recovery-fault", 0,
    ), "vCPU0"),
    (Mutation(
        "a fetch is served by a small page that may not be executed either",
        (("mmu/make_spte.py", "executable = level == 1 or not kvm.nx_huge", "executable = not kvm.nx_huge"),),
        "nx-recovery-fault", 0,
    ), "vCPU0"),
)  # fmt: skip


@pytest.mark.parametrize(("mutation", "who"), BUGS, ids=lambda value: getattr(value, "site", value))
def test_who_does_not_get_on_is_found(mutation: Mutation, who: str, tmp_path: Path) -> None:
    """Walks that yield for ever, faults that retry for ever, and vCPUs that never enter the guest."""
    with mutated(mutation, tmp_path) as source:
        assert who in stuck(mutation.test, TESTS[mutation.test].behaviours[0], source)
