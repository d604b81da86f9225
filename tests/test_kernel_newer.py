"""The C of kernels from 6.13 on: what they changed keeps its promises, but for ageing without a lock (6.15).

Trees are those of tests/trees.py; only Debian's are at hand where nobody brings others.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from shootdown.check.litmus.litmus import suite
from shootdown.check.verdict.verdict import HOLDS, REFUTED
from shootdown.kernel.compare.differ import diff
from shootdown.kernel.explore.scenario import Budget, Options
from shootdown.kernel.explore.verdict import Judged, cases, judge, judged
from shootdown.kernel.library.build import EXPLORE, C, build
from shootdown.kernel.source.probes import SPTE_C, TDP_C
from tests.edits import AFTER, DROP, REPLACE, Edit, edited
from tests.trees import VERSIONS as DEBIAN
from tests.trees import explored, linux, native

pytestmark = pytest.mark.slow
SUITE = {test.name: test for test in suite()}
BUDGET = Budget(states=10_000_000, seconds=120.0)
LIKE = {"6.1": "6.1", "6.12": "6.12", "6.13": "6.13", "6.14": "6.13", "6.18": "6.18", "6.19": "6.18"}
"""Which of our behaviours a tree has."""
IN_PLACE, LOCKLESS = ("6.13", "6.14", "6.18", "6.19"), ("6.18", "6.19")
"""Kernels that rebuild huge pages in place; that age without a lock and recover under the lock for read."""


def found(
    name: str, version: str, edits: Sequence[Edit] = (), drivers: Path | None = None, options: Options | None = None
) -> Judged:
    """What a test gives on a tree in its tiny geometry, with edits made to its C, or other drivers around it."""
    library, tree = explored(version), linux(version)
    if edits or drivers:
        text = tree.read(TDP_C)
        for edit in edits:
            text = edited(text, edit)
        library = build(tree.with_changes({TDP_C: text}), EXPLORE, drivers or C / "drivers")
    case = cases([SUITE[name]], LIKE[version], tiny=True)[0]
    return judge(case, library, options or Options(), BUDGET)


def around(folder: Path, file: str, old: str, new: str) -> Path:
    """Our drivers with a change to one of them."""
    shutil.copytree(C / "drivers", folder / "drivers")
    path = folder / "drivers" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return folder / "drivers"


# What holds


@pytest.mark.parametrize("version", IN_PLACE)
def test_the_suite_gives_what_it_gives_on_ours(version: str) -> None:
    """Every test that is for a later kernel has on its C the verdict that it has on our MMU of that behaviour."""
    wanted = cases([*SUITE.values()], LIKE[version], tiny=True)
    assert len(wanted) > 85
    for each in judged(wanted, explored(version), Options(), BUDGET, 2, lambda: None):
        assert (each.verdict.word, each.verdict.reason) == (each.verdict.case.expected, ""), each.verdict.case


@pytest.mark.parametrize("version", IN_PLACE)
def test_later_kernels_do_what_ours_does(version: str) -> None:
    """10,000 random operations differ nowhere."""
    outcome = diff(native(version), LIKE[version], 10_000, 7, every=4)
    assert outcome.difference is None, outcome.difference and outcome.difference.text()


# Ageing without a lock


FOUND = {
    "age-nx-recovery": ("warn", "kvm_tdp_mmu_zap_possible_nx_huge_page"),
    "age-frozen": ("leak", "sd_collapse"),
    "age-nx-recovery-reuse": ("use after free", "kvm_tdp_mmu_read_spte"),
}


@pytest.mark.parametrize("version", (*DEBIAN[1:], *IN_PLACE))
@pytest.mark.parametrize("name", FOUND)
def test_ageing_without_a_lock_undoes_a_freeze(name: str, version: str) -> None:
    """It clears A in whatever the entry is by then: in what is frozen, and in what points to a table."""
    if not cases([SUITE[name]], LIKE[version], tiny=True):
        pytest.skip(f"{name} is not about {version}")
    judged_ = found(name, version)
    if version in LOCKLESS:
        assert judged_.verdict.word == REFUTED == judged_.verdict.case.expected
        assert (judged_.outcome.broken, judged_.outcome.place[0].function) == FOUND[name]
    else:
        assert judged_.verdict.word == HOLDS == judged_.verdict.case.expected


BY_COMPARISON = Edit("kvm_tdp_mmu_age_spte", REPLACE, r"spte_ad_enabled\(iter->old_spte\)", "false")
"""Ageing changes the entry by the compare-exchange that it has for entries without A."""


@pytest.mark.parametrize("version", LOCKLESS)
def test_what_is_linked_below_a_removed_table_is_used_after_that_is_freed(version: str) -> None:
    """The next round of NX recovery reads an entry of a freed table, on a way that trips no assertion."""
    judged_ = found("age-nx-recovery-reuse", version)
    assert judged_.outcome.broken == "use after free"
    assert judged_.outcome.place[-1].function == "kvm_tdp_mmu_zap_possible_nx_huge_page"


@pytest.mark.parametrize("version", LOCKLESS)
def test_ageing_by_comparison_leaves_alone_what_changed(version: str) -> None:
    """It is the AND on what was not looked at: with a compare-exchange there, the assertion holds to the end."""
    assert found("age-nx-recovery", version, [BY_COMPARISON]).verdict.word == HOLDS


@pytest.mark.parametrize(("form", "breaks"), [("NPT", "warn"), ("EPT", "warn"), ("EPT_NO_AD", "")])
def test_it_takes_entries_with_a_bits(form: str, breaks: str) -> None:
    """A of AMD's tables and of Intel's is set in a frozen entry; where there is none, ageing compares first."""
    test = SUITE["age-nx-recovery"]
    test = replace(test, memory=replace(test.memory, form=form))
    (case,) = cases([test], "6.18", tiny=True)
    assert judge(case, explored("6.18"), Options(), BUDGET).outcome.broken == breaks


# Flushes that are owed under the lock for read


YIELD = Edit("tdp_mmu_iter_cond_resched", AFTER, r"if \(flush\)", r"rcu_read_unlock")
"""The flush before giving way comes when the RCU section is over."""


@pytest.mark.parametrize("version", IN_PLACE)
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("recover-faults", Edit("recover_huge_pages_range", DROP, r"kvm_flush_remote_tlbs_memslot")),
        ("recover-age", Edit("recover_huge_pages_range", REPLACE, r"flush = true", "flush = false")),
        ("recover-faults", Edit("tdp_mmu_iter_cond_resched", DROP, r"kvm_flush_remote_tlbs")),
        ("recover-faults", YIELD),
    ],
    ids=["no flush at the end", "nothing owed", "no flush before giving way", "flush after RCU"],
)
def test_in_place_recovery_flushes_before_its_tables_are_freed(name: str, edit: Edit, version: str) -> None:
    """Without the flush at its end, or before it gives way, or with that after the RCU section, a table is in reach."""
    assert found(name, version, [edit]).outcome.broken == "freed in reach"


def test_until_in_place_recovery_a_flush_after_rcu_did_no_harm() -> None:
    """In 6.12 nobody who owes a flush where he gives way has removed a table: that order matters from 6.13 on."""
    for name in ("unmap-yield-leafs", "zap-range-leafs"):
        assert found(name, "6.12", [YIELD]).verdict.word == HOLDS


@pytest.mark.parametrize("version", LOCKLESS)
@pytest.mark.parametrize("name", ["nx-recovery", "nx-recovery-notifier", "nx-recovery-write-protect"])
def test_nx_recovery_flushes_before_it_leaves_rcu(name: str, version: str, tmp_path: Path) -> None:
    """Without the flush at its end the table is freed while a vCPU may walk it."""
    old = "\tif (flush)\n\t\tkvm_flush_remote_tlbs(sd_kvm);\n\trcu_read_unlock();\n\tUNLOCK"
    drivers = around(tmp_path, "nx.c", old, "\trcu_read_unlock();\n\tUNLOCK")
    assert found(name, version, drivers=drivers).outcome.broken in ("freed in reach", "writable in reach")


# What invalid roots rely on


@dataclass(frozen=True)
class Control:
    """A change to one of our drivers, the test that it refutes, and what breaks."""

    name: str
    file: str
    old: str
    new: str
    test: str
    breaks: str


REQUEST = "\tsd_request_all(SD_REQ_FREE_OBSOLETE_ROOTS);\n"
CONTROLS = (
    Control("nobody has to leave an invalid root", "zap.c", REQUEST, "", "notifier-and-fast-zap", "revoked in reach"),
    Control("roots are invalid before vCPUs are told", "zap.c", REQUEST,
            "\twrite_unlock(&sd_kvm->mmu_lock);\n\twrite_lock(&sd_kvm->mmu_lock);\n" + REQUEST,
            "notifier-and-fast-zap", "revoked in reach"),
    Control("requests are not looked at when the mode is set", "vcpu.c", " && !sd_requests(id))", ")",
            "fast-zap-fault", "freed in reach"),
)  # fmt: skip


@pytest.mark.parametrize("version", IN_PLACE)
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_invalid_roots_owe_no_flush_only_because_vcpus_leave_them(
    control: Control, version: str, tmp_path: Path
) -> None:
    """Leaves of an invalid root are zapped with no flush: sound only as long as every vCPU was told, in one section."""
    drivers = around(tmp_path, control.file, control.old, control.new)
    assert found(control.test, version, drivers=drivers).outcome.broken == control.breaks


@pytest.mark.parametrize("version", (*DEBIAN, *IN_PLACE))
def test_all_is_zapped_without_a_flush_only_where_no_vcpu_runs(version: str) -> None:
    """With a vCPU that may still run, the end of a VM's owner leaves freed tables in reach."""
    (case,) = cases([SUITE["release"]], LIKE[version], tiny=True)
    assert judge(case, explored(version), Options(), BUDGET).verdict.word == HOLDS
    running = tuple({key: value for key, value in each.items() if key != "parked"} for each in case.test.vcpus)
    runs = replace(case, test=replace(case.test, vcpus=running))
    assert judge(runs, explored(version), Options(), BUDGET).verdict.word == REFUTED


# A slot that is gone

DELETES = ("6.12", *IN_PLACE)
"""Kernels in which a deleted slot's leaves may be zapped alone."""


@pytest.mark.parametrize("version", (*DEBIAN, *IN_PLACE))
def test_nx_recovery_warns_of_a_table_whose_slot_was_deleted_alone(version: str) -> None:
    """It looks for the slot while another one is logged, and there is none; 6.1 does not look."""
    judged_ = found("nx-recovery-lost-slot", version)
    assert judged_.verdict.word == (REFUTED if version in DELETES else HOLDS) == judged_.verdict.case.expected
    if version in DELETES:
        assert (judged_.outcome.broken, judged_.outcome.place[0].function) == ("warn", "is_logged")


@pytest.mark.parametrize("version", DELETES)
def test_it_warns_only_of_that(version: str) -> None:
    """The test holds where no slot is logged, and where all is zapped with the slot before recovery takes its lock.

    From 6.18 on recovery and the zap hold it for read: a table that recovery took before may be gone with its slot.
    """
    (case,) = cases([SUITE["nx-recovery-lost-slot"]], LIKE[version], tiny=True)
    start = case.test.memory
    unlogged = tuple(replace(slot, flags=0) for slot in start.slots)
    for memory, breaks in (
        (replace(start, slots=unlogged), ""),
        (replace(start, slot_zap_all=True), "warn" if version in LOCKLESS else ""),
    ):
        without = replace(case, test=replace(case.test, memory=memory))
        assert judge(without, explored(version), Options(), BUDGET).outcome.broken == breaks


# A stale entry of MMIO


@pytest.mark.parametrize("version", (*DEBIAN, *IN_PLACE))
def test_a_page_that_was_mmio_is_made_writable_though_writes_are_tracked(version: str) -> None:
    """The entry of MMIO looks like one that is writable already, so that nobody asks who tracks the page."""
    judged_ = found("mmio-write-protect", version)
    assert judged_.verdict.word == REFUTED == judged_.verdict.case.expected
    assert judged_.outcome.broken == "writable in reach"


@pytest.mark.parametrize("version", IN_PLACE)
def test_it_is_write_protected_where_its_entry_is_not_taken_for_a_leaf(version: str) -> None:
    """The test holds if ``make_spte`` asks whether the old entry maps something, before it asks for W."""
    asked = Edit(
        "make_spte", REPLACE, r"is_writable_pte\(old_spte\)", "(is_writable_pte(old_spte) && old_spte & 1ull << 11)"
    )
    tree = linux(version)
    mended = build(tree.with_changes({SPTE_C: edited(tree.read(SPTE_C), asked)}), EXPLORE)
    (case,) = cases([SUITE["mmio-write-protect"]], LIKE[version], tiny=True)
    assert judge(case, mended, Options(), BUDGET).verdict.word == HOLDS
