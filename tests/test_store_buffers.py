"""x86-TSO in the checker: what a store buffer can break, and what it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shootdown.check.litmus.build import build
from shootdown.check.litmus.cases import Case, pairs
from shootdown.check.litmus.litmus import suite
from shootdown.check.program import steps
from shootdown.check.program.buffers import BufferedMachine
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.steps import PROGRAMS_MAX
from shootdown.check.search.model import Model
from shootdown.check.search.search import search
from shootdown.check.source.source import Source
from shootdown.check.verdict.verdict import Budget, check
from shootdown.machine.words import RING_ENTRY
from tests.small import small
from tests.suite_counts import recorded
from tests.test_check_cli import LITMUS, run

TESTS, COUNTS = {test.name: test for test in suite()}, recorded()
QUICK_MAX = 800
"""States, without buffers, of a test that runs interpreted."""

WITHOUT_BARRIER = {
    ("unmap-leafs", "eager"): steps.REVOKED_IN_REACH, ("unmap-tables", "rcu"): steps.FREED_IN_REACH,
    ("log-get", "rcu"): steps.LOST_WRITE, ("write-protect", "rcu"): steps.WRITABLE_IN_REACH,
}  # fmt: skip


@pytest.mark.parametrize(("name", "policy"), WITHOUT_BARRIER)
@pytest.mark.parametrize("movers", [True, False])
def test_the_barrier_after_the_mode_is_needed(name: str, policy: str, movers: bool) -> None:
    """Without the barrier between ``mode = IN_GUEST`` and the look at requests, P1 to P4 break; with it none does."""
    test, source = TESTS[name], Source()
    for barrier, expected in ((True, 0), (False, WITHOUT_BARRIER[name, policy])):
        setting = build(Case(test, policy, test.behaviours[0], test.tiny, buffers=1), source)
        if not barrier:
            setting.machine.barriers = frozenset()
        result = search(Model(setting, movers))
        assert (result.broken, result.stopped) == (expected, "")
    source.close()


def cases() -> list[Any]:
    """Every test that fits, with a buffer of one store; the large ones are slow."""
    found = []
    for test in suite():
        policy, behaviour = pairs(test)[0]
        if 2 * (test.tiny.vcpus + len(test.host)) > PROGRAMS_MAX:
            continue
        slow = COUNTS[f"{test.name} {policy} {behaviour}"][0] > QUICK_MAX
        case = Case(test, policy, behaviour, test.tiny, 1)
        found.append(pytest.param(case, id=test.name, marks=[pytest.mark.slow] * slow))
    return found


@pytest.mark.parametrize("case", cases())
def test_verdicts_are_the_same_with_store_buffers(case: Case) -> None:
    """The kernel's barriers are enough: what holds without buffers holds with them, and what is refuted is."""
    source = Source()
    verdict = check(case, source, Budget(states=3_000_000))
    source.close()
    assert verdict.word == case.expected, verdict.reason
    assert not verdict.histories


def stores(machine: CheckedMachine) -> None:
    """Two stores, and what the task itself reads between."""
    machine.store(RING_ENTRY, 1, 1)
    first = machine.load(RING_ENTRY, 1)
    machine.store(RING_ENTRY, 1, 2)
    second = machine.load(RING_ENTRY, 1)
    if first != 1 or second < 2:
        raise machine.bug("a task does not see its own stores")


def overwrites(machine: CheckedMachine) -> None:
    """A store of another task."""
    machine.store(RING_ENTRY, 1, 3)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_task_sees_its_own_stores(depth: int) -> None:
    """A load finds the newest store of its own CPU, in the buffer or in memory."""
    assert not search(Model(small(None, stores, tables=1, used=0, buffers=depth))).broken
    assert search(Model(small(None, stores, overwrites, tables=1, used=0, buffers=depth))).broken == steps.ASSERTION


def test_a_full_buffer_waits() -> None:
    """No more stores than the buffer holds are ever under way."""
    model = Model(small(None, stores, tables=1, used=0, buffers=1))
    search(model)
    assert isinstance(model.setting.machine, BufferedMachine)
    (buffer,) = (values for name, values in zip(model.words, model.values, strict=True) if name == ("list", 1000))
    assert max(map(len, buffer)) == 1


def test_a_schedule_tells_of_buffers_and_can_be_followed(tmp_path: Path) -> None:
    """What waits in a buffer is told as such; the saved schedule leads to the same end."""
    file = tmp_path / "s.json"
    words = ("unmap-tables", "--tiny", "--policy", "rcu-literal", "--store-buffers", "1")
    code, text = run(*words, "--save", str(file))
    assert code == 2
    assert "buffered" in text
    assert "notifier buffer" in text
    assert max(len(line) for line in text.splitlines() if str(file) not in line) <= 80
    code, again = run("--schedule", str(file))
    assert code == 2
    assert again[again.index("BROKEN") :].split("\n\n")[0] in text
    document = json.loads(run(*words, "--json")[1])
    assert document["tests"][0]["store_buffers"] == 1


def test_too_many_tasks_are_refused(tmp_path: Path) -> None:
    """Each task takes a program for its buffer, and there is room for eight."""
    file = tmp_path / "t.toml"
    more = "".join(f'[[host]]\nname = "n{n}"\nrun = "unmap"\n' for n in range(2))
    file.write_text(LITMUS.replace("vcpus = 1", "vcpus = 2") + "[[vcpu]]\ngfns = [0]\n" + more)
    code, text = run(str(file), "--policy", "rcu", "--store-buffers", "1")
    assert code == 1
    assert "too many with store buffers" in text
