"""``check --ranged``: a flush of a range takes no more than it must, from one vCPU after the other, in any order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shootdown.check.program import steps
from shootdown.check.program.machine import CheckedMachine
from shootdown.check.program.setting import Program
from shootdown.check.search import layout
from shootdown.check.search.model import Model
from shootdown.check.search.search import path, search
from shootdown.machine.words import VCPU_ROOT

from .small import PFN, leaf, link, small, verdicts
from .test_check_cli import run
from .test_check_defects import guest

PATCH = """--- a/mmu/notifier.py
+++ b/mmu/notifier.py
@@ -276,1 +276,1 @@
-        flush_remote_tlbs_range(kvm, start, end - start)
+        flush_remote_tlbs_range(kvm, start + 1, end - start)
"""


def test_a_flush_beside_the_page_is_refuted_by_every_explorer() -> None:
    """And the flush of the page itself is not."""

    def make(first: int) -> dict[str, int]:
        def task(m: CheckedMachine) -> None:
            m.write(2, 0)
            m.flush_range(first, 1)
            m.revoke(PFN)

        return verdicts(lambda: small(guest, task, used=2, words={0: link(1), 2: leaf(PFN)}, ranged=True))

    assert set(make(1).values()) == {steps.REVOKED_IN_REACH}
    assert set(make(0).values()) == {0}


def test_vcpus_are_flushed_in_any_order() -> None:
    """Of two vCPUs either may be the first."""

    def task(m: CheckedMachine) -> None:
        m.flush_range(0, 4)

    setting = small(guest, task, words={0: leaf(PFN)}, ranged=True)
    machine = setting.machine
    machine.ranged = 2
    setting.programs.insert(1, Program("vCPU1", lambda m: None, (machine,), False, 1, ()))
    setting.words[(VCPU_ROOT, 1)] = 0
    model = Model(setting, movers=False)
    result = search(model)
    assert not result.broken
    found = set()
    for state in range(result.states):
        taken = [choice for _, program, choice, _ in path(model, state) if program == 2]
        found.add(tuple(taken))
    assert {(0,), (1,), (0, 0)} <= found
    assert int(model.t.p[layout.RANGED]) == 1


@pytest.fixture
def schedule(tmp_path: Path) -> Path:
    """The schedule that refutes a flush which begins too late."""
    patch, saved = tmp_path / "late.diff", tmp_path / "late.json"
    patch.write_text(PATCH)
    words = ("zap-range-leafs", "--policy", "rcu", "--tiny", "--patch", str(patch))
    assert run(*words)[0] == 0
    code, text = run(*words, "--ranged", "--save", str(saved))
    assert code == 2
    assert "flush of gfn 1 on vCPU0" in text
    return saved


def test_a_schedule_with_a_flush_of_a_range_is_followed_again(schedule: Path) -> None:
    """The file says that it is one."""
    assert json.loads(schedule.read_text())["ranged"] is True
    code, text = run("--schedule", str(schedule))
    assert code == 2
    assert "flush of gfn 1 on vCPU0" in text


def test_why_names_the_flush_of_a_range() -> None:
    """What covered a promise is who flushed the range."""
    _, text = run("zap-range-leafs", "--policy", "rcu", "--tiny", "--ranged", "--why", "--json")
    (found,) = json.loads(text)["tests"]
    assert found["ranged"] is True
    assert any("by zapper in kvm_zap_gfn_range" in how for cover in found["why"]["covers"] for _, how in cover["vcpus"])
    assert any("kvm_zap_gfn_range" in each for each in found["exercised"]["flushes"])
