"""What was false in schedules that were followed by hand (docs/checking.md) stays mended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shootdown.check.litmus.litmus import read_litmus
from shootdown.check.schedule import phrases
from shootdown.check.schedule.columns import fold
from shootdown.errors import InputError
from shootdown.kernel.explore.scenario import Event, Options, Scenario
from shootdown.kernel.explore.schedule import table
from shootdown.kernel.explore.verdict import cases, judge
from shootdown.kernel.explore.wording import FAULT, PERMISSION, RESERVED, WROTE, Words, access
from shootdown.machine import words
from tests.edits import REPLACE, Edit

from . import kernel_planted, trees
from .structure import ROOT
from .walk import TESTS, planted

WRITE, FETCH = 2, 16
RING = "planted: F9: flush when a ring was reset"
TWO_SPACES = "planted: a notifier zaps the roots of address space 0 only"
NX = "planted: wait for interrupts to be taken"


def schedule(name: str) -> str:
    """A planted bug's schedule."""
    return "\n".join(next(each for each in planted() if each.name == name).lines())


def guest(after: int, table: int = -1, before: int = 1) -> str:
    """What a guest of the C did, in words."""
    event = Event(1, 0, "guest", table, 0 if table >= 0 else -1, "", before, after, 0, (), ())
    about = Words(Scenario(2, ()))
    about.places[1] = (2, 1)
    return access(event, about)


# Our MMU


def test_a_ring_says_whose_turn_an_entry_is_and_which_page() -> None:
    """No flags and page in one number; no reference is taken by a walk over roots that never yields."""
    text = schedule(RING)
    assert "dirty, slot0 page 0" in text and "given back, slot0" in text
    assert "root_count" not in text


def test_a_walk_that_may_yield_takes_a_reference_of_every_root() -> None:
    """Also of those of another address space, which it passes over, as the kernel's does."""
    text = schedule(TWO_SPACES)
    assert re.search(r"get T1\.root_count: \d -> \d", text) and re.search(r"put T1\.root_count: \d -> \d", text)
    assert "mn_active_invalidate_count" in text


def test_nx_recovery_takes_a_table_off_its_list_when_it_is_cut_off() -> None:
    """First goes the entry that leads to it, and then, in its own removal, the table leaves the list."""
    text = schedule(NX)
    assert text.index("write gfn 0 L2 = empty") < text.index("write T1.nx_refused = 0")


def test_a_vm_has_one_nx_worker(tmp_path: Path) -> None:
    """Two tasks of NX recovery are refused; the one does several rounds."""
    text = Path(TESTS["age-nx-recovery-reuse"].path).read_text()
    assert text.count('run = "recover_nx"') == 1 and "rounds = 2" in text
    twice = tmp_path / "twice.toml"
    twice.write_text(text + '[[host]]\nname = "later"\nrun = "recover_nx"\n')
    with pytest.raises(InputError, match="one such worker"):
        read_litmus(twice)
    twice.write_text(text.replace("rounds = 2", "rounds = 0"))
    with pytest.raises(InputError, match="'rounds' must be 1 to 3"):
        read_litmus(twice)


def test_every_request_has_a_name() -> None:
    """None is told as 0."""
    asked = (
        words.TLB_FLUSH, words.FREE_OBSOLETE_ROOTS, words.DIRTY_RING_SOFT_FULL, words.UPDATE_CPU_DIRTY_LOGGING,
    )  # fmt: skip
    assert len({phrases.requests(bit) for bit in asked} - {"0"}) == len(asked)


def test_long_words_break_where_they_can() -> None:
    """A name that is wider than its column goes on after an underscore, a bracket or a point."""
    assert fold("read invalidate_in_progress: 0", 12, "_.(") == ["read", "invalidate_", "in_progress:", "0"]
    assert fold("collect_as_posted.py:25", 18, "_") == ["collect_as_", "posted.py:25"]
    assert fold("", 5, "_") == [""]
    for width in range(1, 30):
        lines = fold("spin_unlock(tdp_mmu_pages_lock) 0x80000000000005a0", width, "_.(")
        assert max(map(len, lines)) <= width
        assert "".join("".join(lines).split()) == "spin_unlock(tdp_mmu_pages_lock)0x80000000000005a0"


def test_the_walk_through_a_schedule_names_each_of_its_rows_once() -> None:
    """docs/checking.md: the paragraphs below the first schedule are about its rows, in order, and none is left out."""
    text = (ROOT / "docs" / "checking.md").read_text().partition("## A schedule, step by step")[2]
    shown = text.partition("```\n\n**The table.**")[0]
    last = max(int(number) for number in re.findall(r"^ *(\d+) +\S", shown.partition("--- ---")[2], re.M))
    found: list[int] = []
    for first, _, end in re.findall(r"^\*\*(\d+)(?:(,| to) (\d+))?\.\*\*", text, re.M):
        found += range(int(first), int(end or first) + 1)
    assert found == list(range(1, last + 1))


# The C


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (0, "guest: interrupted, exits"),
        (WROTE | 3 << 16, "guest: writes gfn 3"),
        (FAULT | 3 << 16, "guest: faults at gfn 3, exits"),
        (FAULT | 2 << 16 | WRITE | PERMISSION, "guest: writes gfn 2, is refused, exits"),
        (FAULT | 2 << 16 | FETCH, "guest: runs code at gfn 2, exits"),
        (FAULT | RESERVED, "guest: meets reserved bits at gfn 0, exits"),
    ],
)
def test_a_guest_of_the_c_is_told_with_its_own_gfn_and_end(after: int, text: str) -> None:
    """Not with the number of its vCPU, and a write is no interrupt."""
    assert guest(after) == text


def test_a_bit_that_a_cpu_sets_is_told_with_its_entry() -> None:
    """In an entry of T1, whose first gfn is 2."""
    assert guest(0x21, table=1, before=1) == "guest: CPU sets A for gfn 2 in T1"


@pytest.mark.parametrize(("version", "name"), [("6.1", "link-and-collapse"), ("6.12", "mmio-write-protect")])
def test_schedules_of_the_c_have_words_for_all(version: str, name: str) -> None:
    """No row is about a word with no name or holds an address of ours; counts change; calls name their own lines."""
    (case,) = cases([TESTS[name]], version, tiny=True)
    judged_ = judge(case, trees.explored(version), Options(), kernel_planted.BUDGET)
    lines = table(judged_.outcome, judged_.scenario).lines()
    text = "\n".join(lines)
    rows = text.partition("BROKEN")[0]
    assert "a word" not in rows and "0x" not in rows and "coroutine.c" not in text
    assert max(map(len, lines)) <= 72
    assert "guest: " in rows and "exits" in rows
    if version == "6.1":
        assert re.search(r"get T0\.root_count: 2 ->\s+tdp_mmu", rows) and "call_rcu(free" not in rows
    else:
        assert "-> mmio" in rows and "publish memslots" in rows and "meets reserved" in rows


@pytest.mark.parametrize(
    ("function", "what", "told"),
    [
        ("sd_start_load", "sd_reset_context", "Before any task runs, while the VM is made: memory fault at"),
        ("kvm_mmu_init_tdp_mmu", "INIT_LIST_HEAD", "in kvm_mmu_init_tdp_mmu"),
        ("sd_listed_roots", "sd_u64 found = 0;", "ended by SIGSEGV in sd_listed_roots (storage.c:"),
    ],
)
def test_a_crash_before_the_first_step_says_where(function: str, what: str, told: str) -> None:
    """Which function, of a driver or of the tree, and what to do; one of what the explorer asks says nothing of it."""
    by = "*(volatile int *)8 = 1; sd_reset_context" if what == "sd_reset_context" else f"{what} *(volatile int *)8 = 1;"
    if what == "INIT_LIST_HEAD":
        by = "*(volatile int *)8 = 1; INIT_LIST_HEAD"
    library = kernel_planted.library(trees.linux("6.1"), (Edit(function, REPLACE, re.escape(what), by),))
    (case,) = cases([TESTS["link-and-collapse"]], "6.1", tiny=True)
    judged_ = judge(case, library, Options(), kernel_planted.BUDGET)
    text = " ".join(" ".join(table(judged_.outcome, judged_.scenario).lines()).split())
    assert told in (judged_.outcome.stopped or text)
    assert bool(judged_.outcome.stopped) == (function == "sd_listed_roots")
