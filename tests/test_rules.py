"""The policies' counting rules, against the table of counts that follows from how each policy is defined."""

import pytest

from shootdown.cost.rules import HISTORY, KERNEL_61, KERNEL_612, PROMOTE, Policy, kernel_policy
from shootdown.trace.op import (
    AGE,
    CLEAR_DIRTY,
    COLLAPSE,
    MAP,
    NOTIFIER,
    NX_RECOVERY,
    SLOT_DELETE,
    WRITE_PROTECT,
    ZAP_ROOT,
    Op,
)

EAGER, LIST, RCU, LEAF_ZAP, PROMOTE_RFC = HISTORY
ALL: list[Policy] = [EAGER, LIST, RCU, LEAF_ZAP, PROMOTE, KERNEL_61, KERNEL_612]


def op(kind: int, **did: int) -> Op:
    """An operation that did this."""
    made = Op(kind, 0, 1, 0, False)
    for name, value in did.items():
        setattr(made, name, value)
    return made


def collapse(regions: int, tables: int, leafs: int) -> Op:
    """Dirty logging ends: ``regions`` become huge again."""
    return op(COLLAPSE, cuts=regions, tables=tables, mapped=leafs, changes=leafs + regions)


@pytest.mark.parametrize(
    ("policy", "flushes"),
    [(EAGER, (2, 2)), (LIST, (1, 1)), (RCU, (1, 1)), (PROMOTE, (1, 1)), (LEAF_ZAP, (512, 513)), (KERNEL_61, (1, 1))],
    ids=lambda x: getattr(x, "name", ""),
)
def test_collapse_of_one_2m_region(policy: Policy, flushes: tuple[int, int]) -> None:
    """One table: eager needs its own flush and the caller's, the others one, leaf-zap one a leaf."""
    assert policy.flushes(collapse(1, 1, 512), True) == flushes


@pytest.mark.parametrize(
    ("policy", "flushes"),
    [(EAGER, (514, 514)), (LIST, (1, 1)), (RCU, (1, 1)), (PROMOTE, (1, 1)), (KERNEL_612, (1, 1))],
    ids=lambda x: getattr(x, "name", ""),
)
def test_collapse_of_one_1g_subtree(policy: Policy, flushes: tuple[int, int]) -> None:
    """513 tables: eager 513 and the caller's 1, all later policies 1."""
    assert policy.flushes(collapse(1, 513, 512 * 512), True) == flushes


@pytest.mark.parametrize("regions", [1, 2, 96, 131_072])
def test_collapse_of_many_regions(regions: int) -> None:
    """n regions under the lock for read: tables + n, n, n, and 1 + yields when promoted in place.

    131,072 is the published count of 6.12 for 64 vCPUs of 4 GiB; 6.13 was seen with 76 = 1 + 75 yields.
    """
    did = collapse(regions, regions, 512 * regions)
    assert EAGER.flushes(did, True) == (2 * regions, 2 * regions)
    assert LIST.flushes(did, True) == RCU.flushes(did, True) == KERNEL_612.flushes(did, True) == (regions, regions)
    assert PROMOTE.flushes(did, True) == (1, regions)
    assert regions < 76 or PROMOTE.flushes(did, True)[0] <= 76 <= PROMOTE.flushes(did, True)[1]


def test_published_counts_of_the_seed_series() -> None:
    """96 GiB of 1 GiB pages: 25,165,824 flushes leaf by leaf, 96 once the parent entry is zapped, 49,344 if eager."""
    did = collapse(96, 96 * 513, 96 * 512 * 512)
    assert LEAF_ZAP.flushes(did, True)[0] == 25_165_824
    assert RCU.flushes(did, True) == (96, 96)
    assert EAGER.flushes(did, True) == (49_344, 49_344)


def test_leaves_cost_the_same_under_every_policy() -> None:
    """Two roots in one notifier unmap, leaves only: one flush, whoever counts."""
    did = op(NOTIFIER, leafs=2, tail=2, changes=2)
    assert {p.flushes(did, True) for p in ALL} == {(1, 1)}


def test_a_yield_costs_a_flush_if_zaps_are_pending() -> None:
    """k yields with zaps pending: k flushes, and one more at the end if anything was zapped since."""
    assert KERNEL_612.flushes(op(NOTIFIER, leafs=9, tail=4, yields=3), True) == (4, 4)
    assert KERNEL_612.flushes(op(NOTIFIER, leafs=9, tail=0, yields=3), True) == (3, 3)
    assert KERNEL_612.flushes(op(NOTIFIER, leafs=9, tail=9), False) == (1, 9)
    assert KERNEL_612.flushes(op(NOTIFIER), False) == (0, 0)


def test_zaps_in_invalid_roots_owe_a_flush_only_in_6_1() -> None:
    """6.12 does not flush for leaves of roots that no vCPU may use."""
    did = op(NOTIFIER, leafs=3, leafs_invalid=3, tail=3, tail_invalid=3)
    assert KERNEL_61.flushes(did, True) == (1, 1)
    assert KERNEL_612.flushes(did, True) == (0, 0)


def test_a_fault_that_meets_a_huge_page_flushes_only_in_6_1() -> None:
    """6.1 zaps it with a flush, 6.12 splits it in place; a table replaced by a huge page flushes in both."""
    assert [k.flushes(op(MAP, huge=1), True)[0] for k in (KERNEL_61, KERNEL_612)] == [1, 0]
    assert {k.flushes(op(MAP, replaced=1, cuts=1, tables=1), True) for k in ALL} == {(1, 1)}


def test_dying_roots_need_a_flush_only_while_tables_were_freed_by_flushes() -> None:
    """A slot's deletion invalidates roots and kicks the vCPUs: no flush since 5.18, one a table and one more before."""
    for kind, fast in ((SLOT_DELETE, True), (ZAP_ROOT, False)):
        did = op(kind, cuts=3, top_cuts=1, tables=7, changes=3000, fast=fast)
        assert EAGER.flushes(did, True) == (8, 8)
        assert LIST.flushes(did, True) == (1, 1)
        assert {p.flushes(did, True) for p in (RCU, PROMOTE, KERNEL_61, KERNEL_612)} == {(0, 0)}


def test_the_dirty_log_flushes_for_what_was_harvested() -> None:
    """A flush if a dirty bit was reaped, whether or not an SPTE changed; where that is unseen, if one changed."""
    assert KERNEL_612.flushes(op(CLEAR_DIRTY, reaped=1), True) == (1, 1)
    assert KERNEL_612.flushes(op(CLEAR_DIRTY, reaped=0), True) == (0, 0)
    assert KERNEL_612.flushes(op(CLEAR_DIRTY, reaped=-1, changes=5), True) == (1, 1)
    assert KERNEL_612.flushes(op(WRITE_PROTECT, protects=1), True) == (1, 1)


def test_aging_flushes_by_the_notifier_that_asked() -> None:
    """clear_flush_young flushes for a young page, clear_young never; where the recording does not tell, a range."""
    assert KERNEL_612.flushes(op(AGE, changes=1, young=1), True) == (1, 1)
    assert KERNEL_612.flushes(op(AGE, changes=1, young=0), True) == (0, 0)
    assert KERNEL_612.flushes(op(AGE, changes=1, young=-1), True) == (0, 1)
    assert KERNEL_612.flushes(op(AGE, changes=0, young=1), True) == (0, 0)


def test_nx_recovery_is_one_batch() -> None:
    """Many single-table zaps under one RCU section share a flush, except where each table or list flushes by itself."""
    did = op(NX_RECOVERY, cuts=4, tables=4)
    assert RCU.flushes(did, True) == (1, 1)
    assert LIST.flushes(did, True) == (4, 4)
    assert EAGER.flushes(did, True) == (5, 5)


def test_the_rules_are_chosen_by_the_recorded_kernel() -> None:
    """6.1 and 6.12 have their own rules; others get the nearest with a remark, an unknown one by its empty SPTEs."""
    assert kernel_policy("6.1.0-56-amd64", True) == (KERNEL_61, "")
    assert kernel_policy("6.12.117+deb12-amd64", False) == (KERNEL_612, "")
    assert kernel_policy("5.15.0-91-generic", True)[0] is KERNEL_61 and kernel_policy("5.15.0-91-generic", True)[1]
    assert kernel_policy("6.17.3", False)[0] is KERNEL_612 and kernel_policy("6.17.3", False)[1]
    assert kernel_policy("", True)[0] is KERNEL_61 and kernel_policy("", False)[0] is KERNEL_612
