"""The protocol that Spin checks too: ours is what Spin's figures are of, and so is the Promela."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from benchmarks.spin.__main__ import SOURCE, Found, build_spin, ours, spin
from benchmarks.spin.twin import LEAF, POLICIES, PRESENT, REFUTED, setting
from shootdown.mmu.spte import spte_pfn

SPIN: dict[str, tuple[int, ...]] = {
    "eager": (244513, 726390),
    "rcu": (1019443, 2966402),
    "broken": (15,),
    "noyieldflush": (14,),
}
"""What Spin 6.5.2 found in twin.pml: states and transitions, or steps to the defect."""
EACH = pytest.mark.parametrize(
    "policy", [pytest.param(policy, marks=[pytest.mark.slow] * (policy not in REFUTED)) for policy in POLICIES]
)


def figures(policy: str, found: Found) -> tuple[int, ...]:
    """Those of a search that are the same for all who search."""
    assert found.refuted == (policy in REFUTED)
    return (found.depth,) if found.refuted else (found.states, found.transitions)


@EACH
def test_our_twin_has_the_states_that_spin_found(policy: str) -> None:
    """Where Spin is not installed too: the checker finds in twin.py what Spin found in twin.pml."""
    assert figures(policy, ours(policy, movers=False)) == SPIN[policy]


@EACH
def test_spin_still_finds_them(policy: str, tmp_path: Path) -> None:
    """Where Spin is installed, it finds in twin.pml what it found before."""
    missing = [program for program in ("spin", "gcc") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    build_spin(tmp_path, policy, "-DNOREDUCE", *["-DBFS"] * (policy in REFUTED))
    assert figures(policy, spin(tmp_path, policy)) == SPIN[policy]


def test_both_begin_alike() -> None:
    """Numbers of policies, how many tables there are, and what their entries hold at first."""
    text = SOURCE.read_text()
    constants = {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)\b", text, re.M)}
    order = re.search(r"/\* ((?:\d \w+(?:, )?)+): twin.py", text)
    assert order and order[1] == ", ".join(f"{n} {policy}" for n, policy in enumerate(POLICIES))
    entries = re.search(r"^byte w\[(\d+)\] = \{ ([\d, ]+) \}", text, re.M)
    assert entries
    link = re.search(r"^#define LINK\(p\) \((\d+) \+ \(p\)\)", text, re.M)
    assert link
    theirs = [int(value) for value in entries[2].split(",")]
    for policy in POLICIES:
        of_ours = setting(policy)
        assert of_ours.tables == constants["TABLES"] == int(entries[1]) // 2 == len(theirs) // 2
        for place, value in enumerate(theirs):
            spte = of_ours.words.get(place, of_ours.empty)
            named = spte_pfn(spte) + int(link[1]) if spte & PRESENT and spte != LEAF else 0
            assert value == (constants["LEAF"] if spte == LEAF else named)
