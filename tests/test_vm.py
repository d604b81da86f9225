"""``import shootdown``: the library does what its page says, refuses the rest, and costs nothing until it is used."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shootdown
from shootdown.machine import words
from shootdown.mmu.behaviour import BEHAVIOURS
from shootdown.mmu.policies.registry import POLICIES
from shootdown.mmu.spte import PAGES
from shootdown.vm import LEVELS
from tests.structure import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text()


def test_the_examples_of_its_page_run() -> None:
    """Every session in docs/library.md prints what stands there, one after the other."""
    sessions = re.findall(r"```pycon\n(.*?)```", PAGE, re.S)
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "library.md", None, 0)
    assert len(test.examples) > 10
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines in README print what stands beside them."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    exec(code, {})
    assert capsys.readouterr().out == "514\n"
    exec(code.replace('"eager"', '"rcu"'), {})
    assert capsys.readouterr().out == "1\n"


def test_its_page_names_every_method_and_policy() -> None:
    """No method, policy or behaviour of the library is missing from its page."""
    public = [name for name, _ in inspect.getmembers(shootdown.Vm) if not name.startswith("_")]
    assert {name for name in public if f"`{name}" not in PAGE} == set()
    assert re.findall(r"^\| `([\w.-]+)` \| .* \| (?:any|\d)", PAGE, re.M) == shootdown.policies() == [*POLICIES]
    assert shootdown.behaviours() == [*BEHAVIOURS]


def test_importing_it_loads_nothing_of_the_mmu() -> None:
    """``import shootdown`` loads its errors only, and the names that it promises are there when asked for."""
    code = "import sys, shootdown; print(sorted(n for n in sys.modules if n.startswith('shootdown')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(out) == ["shootdown", "shootdown.errors"]
    assert set(shootdown.__all__) <= set(dir(shootdown))
    assert all(getattr(shootdown, name) for name in shootdown.__all__)
    with pytest.raises(AttributeError):
        _ = shootdown.nothing


def state(vm: shootdown.Vm) -> tuple[Any, ...]:
    """All that can be seen of a VM."""
    return vm.picture(), vm.counters, vm.machine.tables.used


WRONG = [
    (lambda vm: vm.fault(-1), "use 0 to"),
    (lambda vm: vm.fault([3, 5, 1 << 30]), "use 0 to"),
    (lambda vm: vm.fault(range(5, 1 << 40)), "use 0 to"),
    (lambda vm: vm.fault(["0"]), "use 0 to"),
    (lambda vm: vm.fault(True), "use 0 to"),
    (lambda vm: vm.fault(0, vcpu=2), "0 to 1"),
    (lambda vm: vm.zap(5, 5), "start below an end"),
    (lambda vm: vm.zap(0, 1 << 30), "start below an end"),
    (lambda vm: vm.unmap(-1, 5), "start below an end"),
    (lambda vm: vm.age(0.0, 5), "start below an end"),
    (lambda vm: vm.log_dirty(1), "True or False"),
    (lambda vm: vm.dirty_log(), "log_dirty(True) first"),
    (lambda vm: vm.recover_nx(-1), "whole number"),
    (lambda vm: vm.walk(1 << 18), "use 0 to"),
    (lambda vm: vm.entries(99, 1, 0), "tables()"),
    (lambda vm: shootdown.Vm("rcuu"), "did you mean rcu?"),
    (lambda vm: shootdown.Vm(behaviour="7.0"), "6.12"),
    (lambda vm: shootdown.Vm("kernel-6.12", "6.1"), "leave behaviour out"),
    (lambda vm: shootdown.Vm(page="3M"), "2M"),
    (lambda vm: shootdown.Vm(format="EPTX"), "EPT"),
    (lambda vm: shootdown.Vm(memory="1M", page="2M"), "whole pages of 2M"),
    (lambda vm: shootdown.Vm(memory=0), "whole pages"),
    (lambda vm: shootdown.Vm(memory="512T"), "256T"),
    (lambda vm: shootdown.Vm(vcpus=0), "from 1 to"),
    (lambda vm: shootdown.Vm(resched_every=-1), "from 0"),
    (lambda vm: shootdown.Vm(tables_max=0), "from 1"),
    (lambda vm: vm.fault(range(0, 1 << 18, 512)), "raise tables_max"),
]


@pytest.mark.parametrize(("ask", "advice"), WRONG)
def test_what_cannot_be_asked_for_changes_nothing(ask: Any, advice: str) -> None:
    """Misuse raises the one error, with what to do about it in one line, and leaves the VM as it was."""
    vm = shootdown.Vm(memory="1G", vcpus=2, tables_max=100)
    vm.fault(range(700))
    before = state(vm)
    with pytest.raises(shootdown.InputError) as error:
        ask(vm)
    assert advice in str(error.value)
    assert "\n" not in str(error.value)
    assert state(vm) == before


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(sorted(POLICIES)),
    page=st.sampled_from(sorted(LEVELS)),
    format=st.sampled_from(["NPT", "EPT"]),
    gfns=st.lists(st.integers(0, 2**20 - 1), max_size=30),
    zapped=st.tuples(st.integers(0, 2**20 - 1), st.integers(1, 2**19)),
)
def test_what_it_tells_is_what_the_machine_holds(
    policy: str, page: str, format: str, gfns: list[int], zapped: tuple[int, int]
) -> None:
    """A touched page is found by a walk that ends in a leaf of the host's size, a zapped one no more; sums agree."""
    vm = shootdown.Vm(policy, memory="4G", page=page, format=format)
    assert vm.fault(gfns) == len(gfns)
    start, end = zapped[0], min(vm.pages, zapped[0] + zapped[1])
    vm.zap(start, end)
    level = LEVELS[page]
    size = PAGES[level]
    mapped = set()
    for gfn in gfns:
        last = vm.walk(gfn)[-1]
        gone = start < gfn // size * size + size and gfn // size * size < end
        assert gone == last.text.startswith("empty")
        if not gone:
            assert (last.level, last.gfn) == (level, gfn // size * size)
            assert f"pfn {last.gfn:x} " in last.text
            mapped.add(last.gfn)
    tables = vm.tables()
    now = vm.counters
    assert sum(table.leaves for table in tables) == len(mapped)
    assert (now.pages_4k, now.pages_2m, now.pages_1g)[level - 1] == len(mapped)
    assert len(tables) == (now.tables + 1 if gfns else 0)
    assert vm.machine.load(words.TABLES, 0) == now.tables


def test_unmapped_pages_stay_away() -> None:
    """What the host took back has nothing to be mapped to, until the VM ends."""
    vm = shootdown.Vm(memory="4M")
    vm.fault(range(10))
    vm.unmap(2, 5)
    vm.fault(range(10))
    assert [vm.walk(gfn)[-1].text == "empty" for gfn in range(6)] == [False, False, True, True, True, False]


def test_a_fast_zap_leaves_new_roots() -> None:
    """After all roots were zapped each vCPU has one again, and it is empty."""
    vm = shootdown.Vm(memory="4M", vcpus=2)
    vm.fault(range(10))
    vm.fault(range(10), vcpu=1)
    vm.zap_all()
    assert (vm.counters.pages_4k, vm.counters.tables, vm.machine.tables.used) == (0, 0, 1)
    assert vm.picture().endswith("empty")


@pytest.mark.parametrize(("policy", "huge"), [("promote", 3), ("promote-rfc", 3), ("rcu", 0), ("leaf-zap", 0)])
def test_logging_splits_and_its_end_brings_huge_pages_back(policy: str, huge: int) -> None:
    """Logged pages are mapped by 4K; when logging ends they are huge again, in place or by the next fault."""
    vm = shootdown.Vm(policy, memory="8M", page="2M")
    vm.fault([0, 600, 1100])
    assert (vm.counters.pages_2m, vm.counters.pages_4k) == (3, 0)
    vm.log_dirty(True)
    assert (vm.counters.pages_2m, vm.counters.pages_4k) == (0, 3 * 512)
    vm.log_dirty(True)
    assert vm.dirty_log() == []
    vm.log_dirty(False)
    assert (vm.counters.pages_2m, vm.counters.pages_4k) == (huge, 0)
    vm.fault([0, 600, 1100])
    assert (vm.counters.pages_2m, vm.counters.pages_4k) == (3, 0)


def test_ageing_tells_what_was_used() -> None:
    """Pages are young once after they were touched."""
    vm = shootdown.Vm(memory="8M")
    vm.fault(range(5))
    assert [vm.age(0, 3), vm.age(0, 3), vm.age(), vm.age()] == [True, False, True, False]


@settings(max_examples=40, deadline=None)
@given(
    page=st.sampled_from(["4K", "2M"]),
    format=st.sampled_from(["NPT", "EPT"]),
    behaviour=st.sampled_from(sorted(BEHAVIOURS)),
    eager_split=st.booleans(),
    mapped=st.lists(st.integers(0, 2047), max_size=9),
    rounds=st.lists(st.lists(st.integers(0, 2047), max_size=9), max_size=4),
)
def test_the_log_holds_what_was_written(
    page: str, format: str, behaviour: str, eager_split: bool, mapped: list[int], rounds: list[list[int]]
) -> None:
    """Each question for the log gives the pages written since the last, and no more; none is mapped by a huge page."""
    vm = shootdown.Vm("rcu", behaviour, "8M", page=page, format=format, eager_split=eager_split)
    vm.fault(mapped)
    vm.log_dirty(True)
    for written in rounds:
        vm.fault(written, write=True)
        assert vm.dirty_log() == sorted(set(written))
        assert all(vm.walk(gfn)[-1].level == 1 for gfn in written)
    vm.log_dirty(False)


@pytest.mark.parametrize(("page", "regions", "tables"), [("4K", 5, 8), ("2M", 5, 3), ("1G", 1, 2)])
def test_as_many_tables_as_there_is_memory_for_can_be_used(page: str, regions: int, tables: int) -> None:
    """A fault for which all tables fit is served; with one table less nothing is done, and the error says so."""
    gfns = range(0, 512 * regions, 512)
    vm = shootdown.Vm(memory="1G", page=page, tables_max=tables)
    assert vm.fault(gfns) == regions and vm.machine.tables.used == tables
    assert vm.fault(gfns) == regions
    tight = shootdown.Vm(memory="1G", page=page, tables_max=tables - 1)
    with pytest.raises(shootdown.InputError, match=rf"^{tables} more page tables are needed, but the host has "):
        tight.fault(gfns)
    assert tight.machine.tables.used == 0
