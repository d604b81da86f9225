"""Exploring C: on a toy MMU of ours, right variants hold and each wrong one is refuted by a shortest schedule."""

from __future__ import annotations

import ctypes
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from shootdown.errors import InputError
from shootdown.kernel.explore import abi
from shootdown.kernel.explore.run import explore, replay, steps
from shootdown.kernel.explore.scenario import (
    BROKEN,
    Budget,
    Guest,
    Hardware,
    Options,
    Outcome,
    Scenario,
    Schedule,
    Task,
)
from shootdown.kernel.explore.schedule import table
from shootdown.kernel.library.build import EXPLORE, build
from shootdown.kernel.library.variables import variables
from shootdown.kernel.source.tree import find_tree
from tests.edits import REPLACE, Edit
from tests.toy_library import DIRTY, PLAIN, Player, guests, tasks, toy, without_movers, wrong_explorer
from tests.trees import tree

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")

UNMAP, ZAP = "unmap", "zap_table"
READ, WRITE, EXECUTE = 1, 2, 4


def becomes_memory(wrong: int) -> Scenario:
    """Two gfns of MMIO become memory while a guest runs; ``wrong``: what is done wrong (toy.c)."""
    about = guests(Task("back", (wrong,)), mapped=(), hardware=Hardware(mmio=True))
    return replace(about, start=(Task("mmio"),))


def huge_page(page: int, rights: int, nx: bool = False, pages: dict[int, set[int]] | None = None) -> Scenario:
    """A huge page comes for gfns 2 and 3; ``pages``: those that the host has, by gfn."""
    about = guests(Task("huge", (page, rights)))
    return replace(about, nx=nx, pages={gfn: frozenset(known) for gfn, known in (pages or {}).items()})


def hidden(what: int, again: bool) -> Scenario:
    """For a moment there is an entry without KVM's bit (0), or one that leads to no table (1); may a guest run?"""
    about = guests(Task("hides", (what,)))
    return replace(about, tasks=(replace(about.tasks[0], op="vcpu_tells", again=again), *about.tasks[1:]))


HOLDING = {
    "unmap": guests(Task(UNMAP, (0, 2, 0))),
    "zap a table": guests(Task(ZAP, (0, 0)), mapped=(0,)),
    "two locks in one order": tasks(Task("locks", (0,)), Task("locks", (0,))),
    "logging": guests(Task("log_on", (0,)), writes=(0,), hardware=DIRTY),
    "a range flushed at its word": guests(Task(UNMAP, (0, 2, 0)), options=Options(ranged=True)),
    "too narrow a range, where every flush is whole": guests(Task(UNMAP, (0, 2, 2))),
    "stores that are seen at once": tasks(Task("store_load", (0,)), Task("store_load", (1,))),
    "an allocation that does not fail": tasks(Task("fails", (1,))),
    "entries beyond those that take part": tasks(Task("fills", (0,)), Task("fills", (1,))),
    "freed at once, nobody looks": guests(Task(ZAP, (0, 2)), mapped=(0, 1)),
    "giving way": tasks(Task("sleeps_at_will", (1,))),
    "MMIO becomes memory": becomes_memory(0),
    "a huge page that nobody may execute": huge_page(2, READ | WRITE, nx=True),
    "one that may be executed, without the mitigation": huge_page(2, READ | WRITE | EXECUTE),
    "a huge page that the host has there": huge_page(2, READ, pages={2: {2}, 3: {3}}),
    "one that it has there at some time": huge_page(4, READ, pages={2: {2, 4}, 3: {3, 5}}),
    "one of which only some pages are known": huge_page(4, READ, pages={1: {1}, 3: {3, 5}}),
    "a promise while an entry that KVM takes for none is there, and no guest": hidden(0, False),
    "a promise while an entry that leads to no table is there, and no guest": hidden(1, False),
}
REFUTED = {
    "no flush": (guests(Task(UNMAP, (0, 1, 1))), "revoked in reach"),
    "promised before the flush": (guests(Task(UNMAP, (0, 1, 3))), "revoked in reach"),
    "no flush of a table": (guests(Task(ZAP, (0, 1))), "freed in reach"),
    "freed too early": (guests(Task(ZAP, (0, 2)), mapped=(0,)), "use after free"),
    "flushed after RCU": (guests(Task(ZAP, (0, 3))), "freed in reach"),
    "freed twice": (tasks(Task(ZAP, (0, 4)), mapped=(0,)), "double free"),
    "a table used after free": (tasks(Task(ZAP, (0, 5)), mapped=(0,)), "use after free"),
    "a struct written after free": (tasks(Task(ZAP, (0, 6)), mapped=(0,)), "use after free"),
    "a walk outside of RCU": (guests(Task(ZAP, (0, 0)), mapped=(0,), fault=1), "use after free"),
    "deadlock": (tasks(Task("locks", (0,)), Task("locks", (1,))), "deadlock"),
    "null": (tasks(Task("wrong", (2,))), "memory fault"),
    "bug": (tasks(Task("wrong", (3,))), "bug"),
    "warn": (tasks(Task("wrong", (4,))), "warn"),
    "stack overflow": (tasks(Task("wrong", (5,))), "stack overflow"),
    "lock not held": (tasks(Task("wrong", (6,))), "lockdep"),
    "lock kept": (tasks(Task("wrong", (7,))), "lockdep"),
    "a freed pointer followed": (tasks(Task("wrong", (8,))), "memory fault"),
    "too narrow a range": (guests(Task(UNMAP, (0, 2, 2)), options=Options(ranged=True)), "revoked in reach"),
    "no retry": (guests(Task(UNMAP, (0, 1, 0)), mapped=(), fault=2), "still mapped"),
    "requests not looked at again": (guests(Task(UNMAP, (0, 1, 0)), early=True), "revoked in reach"),
    "logging without protection": (guests(Task("log_on", (1,)), writes=(0,), hardware=DIRTY), "lost write"),
    "logging without a flush": (guests(Task("log_on", (2,)), writes=(0,), hardware=DIRTY), "lost write"),
    "a fault that logs nothing": (guests(Task("log_on", (0,)), fault=5, writes=(0,), hardware=DIRTY), "lost write"),
    "a plain store to a volatile entry": (
        guests(Task("log_on", (0,)), fault=3, writes=(0,), hardware=DIRTY), "overwritten"),
    "stores that wait": (
        tasks(Task("store_load", (0,)), Task("store_load", (1,)), options=Options(tso=True)), "warn"),
    "an allocation that fails": (tasks(Task("fails", (1,)), options=Options(failures=1)), "warn"),
    "giving way where the caller may not sleep": (tasks(Task("sleeps_at_will", (0,))), "lockdep"),
    "MMIO that stays": (becomes_memory(1), "passes for mmio"),
    "MMIO that somebody has just met": (becomes_memory(2), "passes for mmio"),
    "a huge page that may be executed": (huge_page(2, READ | WRITE | EXECUTE, nx=True), "executable in reach"),
    "a huge page of another place": (huge_page(4, READ, pages={2: {2}, 3: {3}}), "other in reach"),
    "one whose second half is another page": (huge_page(4, READ, pages={2: {2, 4}, 3: {3, 4}}), "other in reach"),
    "an entry that KVM takes for none": (hidden(0, True), "unknown in reach"),
    "a page given back that is mapped": (tasks(Task(UNMAP, (0, 1, 4)), mapped=(0, 1)), "still mapped"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDING)
def test_the_right_ones_hold(name: str) -> None:
    """What is right in all orders holds, with movers and without, and all tasks of the host come to their end."""
    for scenario in (HOLDING[name], without_movers(HOLDING[name])):
        outcome = explore(toy(), scenario)
        assert outcome.word == "holds", outcome.message
        assert {n for n, task in enumerate(scenario.tasks) if task.vcpu < 0} <= set(outcome.ended)


@pytest.mark.parametrize("name", REFUTED)
def test_the_wrong_ones_are_refuted(name: str) -> None:
    """Each defect is found, with movers and without; its schedule breaks the same when played again, and is told."""
    scenario, broken = REFUTED[name]
    for tried in (scenario, without_movers(scenario)):
        outcome = explore(toy(), tried)
        assert outcome.broken == broken, outcome.message
        again = replay(toy(), tried, outcome.schedule)
        assert (again.broken, again.message, again.events) == (broken, outcome.message, outcome.events)
        if outcome.depth:
            assert steps(outcome)[-1][-1].step <= outcome.depth
        assert table(outcome, tried).lines()


SHORT = (
    "no flush of a table", "flushed after RCU", "freed twice", "a table used after free", "deadlock", "null", "bug",
    "a struct written after free", "warn", "lock not held", "lock kept", "an allocation that fails",
)  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("movers", [True, False])
def test_schedules_are_the_shortest(name: str, movers: bool) -> None:
    """Trying all schedules from the start, with no states kept, finds none that is shorter than the explorer's."""
    scenario, broken = REFUTED[name]
    scenario = scenario if movers else without_movers(scenario)
    outcome = explore(toy(), scenario)
    if outcome.depth > (7 if len(scenario.tasks) < 3 else 5):
        pytest.skip(f"{outcome.depth} steps are too many to try all")
    player = Player(toy(), scenario, outcome.schedule.written)
    assert outcome.broken == broken and player.shortest(outcome.depth, (0, 1, 2)) == outcome.depth


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REFUTED if name not in SHORT and name != "stores that wait"])
def test_a_shorter_prefix_breaks_nothing(name: str) -> None:
    """A schedule is not broken before its last step, when each step is played from the start."""
    scenario, broken = REFUTED[name]
    outcome = explore(toy(), scenario)
    player = Player(toy(), scenario, outcome.schedule.written)
    choices = outcome.schedule.choices
    assert [player.play(choices[:n])[0] for n in range(1, len(choices))] == [0] * (len(choices) - 1)
    assert BROKEN[player.play(choices)[0]] == broken


def states_of_counting(times: int) -> int:
    """States of two tasks that count up by a load and a store, each a step: the word, steps left, what each loaded."""
    start: tuple[Any, ...] = (0, (2 * times, 0), (2 * times, 0))
    seen, todo = {start}, [start]
    while todo:
        word, *both = todo.pop()
        for who in (0, 1):
            left, loaded = both[who]
            if left == 0:
                continue
            mine = (left - 1, word) if left % 2 == 0 else (left - 1, 0)
            after = (word if left % 2 == 0 else loaded + 1, *(mine if n == who else both[n] for n in (0, 1)))
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return len(seen)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_states_are_those_of_all_orders(times: int) -> None:
    """Two simple tasks have at least the states of a model in a few lines; what is dead on a stack may split some."""
    outcome = explore(toy(), tasks(Task("counts", (times,)), Task("counts", (times,))))
    assert states_of_counting(times) <= outcome.states < 2 * states_of_counting(times)
    assert outcome.depth == 4 * times


def test_counts_are_the_same_each_time() -> None:
    """States, transitions and depth of a search are a function of library and scenario."""
    found = [explore(toy(), HOLDING["unmap"]) for _ in range(2)]
    assert len({(o.states, o.transitions, o.depth, o.restarts) for o in found}) == 1


def test_budget_of_yields() -> None:
    """A task gives way at most so often, any number of times if there is no budget, and not twice in one place."""
    counts = [explore(toy(), tasks(Task("yields"), options=Options(yields=n))).states for n in (0, 1, 2, 4, -1)]
    assert counts == sorted(counts)
    assert counts[0] < counts[1] < counts[2] < counts[3] == counts[4]


@pytest.mark.parametrize(("late", "reuse", "tso"), list(product([False, True], repeat=3)))
def test_options_do_not_change_what_is_right(late: bool, reuse: bool, tso: bool) -> None:
    """Late callbacks, re-use of tables and store buffers leave verdicts on the right and on a wrong program alone."""
    options = Options(late=late, reuse=reuse, tso=tso)
    for scenario, broken in ((HOLDING["zap a table"], ""), REFUTED["freed too early"]):
        assert explore(toy(), replace(scenario, options=options)).broken == broken


@pytest.mark.parametrize("vcpu", [0, 1])
def test_interrupts_are_taken_in_any_order(vcpu: int) -> None:
    """Who waits for one vCPU alone to take its interrupt is refuted, whichever that is: another may take its later."""
    scenario = guests(Task(UNMAP, (0, 1, 0)), vcpus=2, mapped=(0,))
    waits = Edit("request_all", REPLACE, r"kicked & BIT\(v\)", f"kicked & BIT({vcpu}) & BIT(v)", 1)
    outcome = explore(wrong_explorer("vcpu.c", waits), scenario)
    assert (outcome.broken, outcome.vcpu) == ("revoked in reach", 1 - vcpu)
    assert explore(toy(), scenario).word == "holds"


def test_a_task_may_give_way_in_two_places_with_no_step_between() -> None:
    """Where it did not in the one it may in the other: what it does there need not be the same."""
    outcome = explore(toy(), tasks(Task("gives_way"), options=Options(yields=1)))
    assert outcome.broken == "warn"


def test_places_are_the_source_s_own() -> None:
    """Each access of a schedule is told with its line, the name of its lock, its entry and its values."""
    outcome = explore(toy(), REFUTED["no flush"][0])
    lines = (Path(__file__).parent / "toy" / "toy.c").read_text(encoding="utf-8").splitlines()
    for event in outcome.events:
        if event.kind == "exchange" and event.table >= 0:
            assert "xchg" in lines[event.frames[0].line - 1] and event.after == 0 and event.before & 7 == 7
        if event.kind in ("write_lock", "write_unlock"):
            assert event.name == "mmu_lock" and event.kind in lines[event.frames[0].line - 1]
    assert {frame.function for event in outcome.events for frame in event.frames} >= {"unmap", "vcpu"}
    held = [cached for event in outcome.events for cached in event.cached if cached.in_guest]
    assert any(entry.leaf and entry.target == 1 << 22 for cached in held for entry in cached.held)
    assert outcome.vcpu == 0 and "took back" in outcome.message


def test_who_waits_for_whom() -> None:
    """A deadlock names the tasks that are in it."""
    outcome = explore(toy(), tasks(Task("counts", (1,)), Task("locks", (0,)), Task("locks", (1,))))
    assert outcome.broken == "deadlock" and outcome.deadlocked == (1, 2)


@pytest.mark.slow
def test_an_endless_loop_is_a_verdict() -> None:
    """Code that runs for ever without a step is stopped, and the place is told."""
    outcome = explore(toy(), tasks(Task("wrong", (1,))))
    assert outcome.broken == "endless loop" and outcome.place[0].function == "wrong"


@pytest.mark.parametrize(
    ("budget", "text"),
    [(Budget(states=1000), "states"), (Budget(bytes=4 << 20), "bytes"), (Budget(seconds=0.01), "s are over")],
)  # fmt: skip
def test_a_search_that_is_cut_short_says_so(budget: Budget, text: str) -> None:
    """Beyond its budget a search is undetermined, and says which budget it was."""
    scenario = guests(Task(UNMAP, (0, 2, 0)), vcpus=3)
    outcome = explore(toy(), scenario, budget)
    assert outcome.word == "undetermined" and text in outcome.stopped and not outcome.broken


def test_more_tables_than_there_are() -> None:
    """Where code needs more tables than the scenario has, the search says so and does not hold."""
    outcome = explore(toy(), replace(HOLDING["zap a table"], tables=1))
    assert outcome.word == "undetermined" and "tables" in outcome.stopped


def test_a_schedule_that_does_not_fit() -> None:
    """A schedule whose step cannot be taken is refused with the step's number."""
    outcome = replay(toy(), HOLDING["unmap"], Schedule((0, 7 << 16), ()))
    assert outcome.word == "undetermined" and "step 2 of the schedule cannot be taken" in outcome.stopped


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        (tasks(Task("nothing")), "no operation 'nothing'"),
        (tasks(*[Task("counts", (1,))] * 9), "9 tasks"),
        (Scenario(7, (Task("counts"),)), "128 gfns"),
        (Scenario(2, (Task("counts"),), (Guest(),)), "vCPUs"),
        (Scenario(2, (Task("counts"),), entries=3), "2 or 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_explored_is_refused(scenario: Scenario, text: str) -> None:
    """A scenario that is too large or names nothing is told in one line."""
    with pytest.raises(InputError, match=text):
        explore(toy(), scenario)


def test_structs_are_the_same_on_both_sides() -> None:
    """Python's structs have the sizes of the C compiler's."""
    sizes = (ctypes.c_ulonglong * 8)()
    ctypes.CDLL(str(toy())).sd_layout(sizes)
    structs = (abi.ScenarioStruct, abi.ResultStruct, abi.EventStruct, abi.HeldStruct, abi.RaceStruct)
    assert list(sizes[:5]) == [ctypes.sizeof(struct) for struct in structs]
    assert sizes[7] == abi.ScenarioStruct.replay.offset


def test_variables_of_the_code_are_found() -> None:
    """All that the toy's code may change is part of a state, and nothing of the explorer's is."""
    names = {name for name, _, _ in variables(toy())}
    assert {"mmu_lock", "root", "seq", "word"} <= names
    assert not {"sd_engine", "sd_mem_map", "sd_ops"} & names


def races(*host: Task) -> Outcome:
    """Tasks on a toy whose plain accesses are seen, with a look for races."""
    return explore(toy(*PLAIN), tasks(*host, options=Options(races=True)))


def test_plain_accesses_race_without_a_lock() -> None:
    """Plain writes of two tasks are told as a race, apart from the verdict; under one lock they are not."""
    raced = races(Task("plainly", (0,)), Task("plainly", (0,)))
    assert raced.word == "holds" and raced.races
    assert {frame.function for race in raced.races for frames in race.frames for frame in frames[:1]} == {"plainly"}
    assert not races(Task("plainly", (1,)), Task("plainly", (1,))).races


def test_plain_use_of_freed_memory_is_seen() -> None:
    """A plain read of a freed struct is refuted where the library is built to see it."""
    scenario = tasks(Task(ZAP, (0, 7)), mapped=(0,))
    assert explore(toy(*PLAIN), scenario).broken == "use after free"
    for name in ("unmap", "zap a table"):
        assert explore(toy(*PLAIN), HOLDING[name]).word == "holds"


def exec_and_collapse() -> Scenario:
    """A fault builds a table of small executable pages while dirty logging ends and huge pages are to come back."""
    start = (Task("vm", (1, 1, 0, 1, 0)), Task("slot", (0, 0, 0, 4, 0)), Task("load", (0, 0)))
    return Scenario(
        2, (Task("vcpu", (0,), 0, True), Task("collapse", (0, 4))), (Guest(((0, 16),)),), start,
        host={0: (0, 2, True), 1: (1, 2, True)}, hardware=DIRTY,
    )  # fmt: skip


@pytest.mark.parametrize(("version", "broken"), [("6.1", "memory fault"), ("6.12", "")])
def test_a_table_that_is_seen_before_it_is_listed(version: str, broken: str) -> None:
    """6.1 removes a table from a list on which it is not yet; 6.12 has no such list."""
    outcome = explore(build(find_tree(tree(version)), EXPLORE).path, exec_and_collapse())
    assert outcome.broken == broken and outcome.stopped == ""
    if broken:
        assert outcome.place[0].function == "tdp_mmu_unlink_sp" and outcome.depth < 30
        assert outcome.place[0].file.endswith("arch/x86/kvm/mmu/tdp_mmu.c")
