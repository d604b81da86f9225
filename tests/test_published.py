"""Counts that were published of KVM's TDP MMU, where they follow from the rules: made small, on the native machine.

Each test names the figure and its source, checks the law at a small scale by running the MMU, and the law's value at
the published scale. Times are not reproduced here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import shootdown
from shootdown import build_info
from shootdown.machine import words
from shootdown.mmu.spte import PAGES

REGION = {"2M": 512, "1G": 512 * 512}
SMALL = [
    ("2M", "8M"),
    pytest.param("1G", "1G", marks=pytest.mark.slow),
    pytest.param("1G", "3G", marks=pytest.mark.slow),
]
"""Size of the host's pages, and memory; millions of SPTEs are for the compiled package."""


def logged(policy: str, page: str, memory: str, behaviour: str | None = None) -> shootdown.Vm:
    """A VM whose memory was mapped by huge pages, which were split when dirty logging began."""
    vm = shootdown.Vm(policy, behaviour, memory, page=page)
    vm.fault(range(0, vm.pages, REGION[page]))
    vm.log_dirty(True)
    assert vm.counters.pages_4k == vm.pages
    return vm


def disabling(vm: shootdown.Vm) -> int:
    """Flushes that the end of dirty logging asks for."""
    before = vm.counters
    vm.log_dirty(False)
    return (vm.counters - before).flush_requests


def unmapped(vm: shootdown.Vm, page: str) -> int:
    """Regions at which the guest will fault."""
    return sum(vm.walk(gfn)[-1].text == "empty" for gfn in range(0, vm.pages, REGION[page]))


LAWS: dict[str, Callable[[int, str], int]] = {
    "leaf-zap": lambda pages, page: pages,
    "promote-rfc": lambda pages, page: pages // 512 + (pages // PAGES[3] if page == "1G" else 0),
    "eager": lambda pages, page: LAWS["promote-rfc"](pages, page) + pages // REGION[page],
    "list": lambda pages, page: pages // REGION[page],
    "rcu": lambda pages, page: pages // REGION[page],
    "kernel-6.1": lambda pages, page: pages // REGION[page],
    "kernel-6.12": lambda pages, page: pages // REGION[page],
    "promote": lambda pages, page: 1,
}
"""Flushes of the end of dirty logging, by pages of 4K and the size of the host's."""


@pytest.mark.parametrize(("page", "memory"), SMALL)
@pytest.mark.parametrize("policy", LAWS)
def test_flushes_of_the_end_of_dirty_logging(policy: str, page: str, memory: str) -> None:
    """Leaf by leaf 262,144 flushes a GiB, 513 by RFC 19, one a region since 5ba7c4c6d1c7, one for all since 6.13.

    Source: list mails 20211110223010.1392399-1 and -20 (RFC), 20220525230904.1584480-1 (5ba7c4c6d1c7): 96 vCPUs and
    96 GiB, on pages of 1 GiB.
    """
    vm = logged(policy, page, memory)
    assert disabling(vm) == LAWS[policy](vm.pages, page)
    # No 4K page is left, whatever way the huge ones come back.
    assert vm.counters.pages_4k == 0


@pytest.mark.parametrize(
    ("policy", "page", "flushes"),
    [
        ("leaf-zap", "1G", 25_165_824),
        ("promote-rfc", "1G", 49_248),
        ("list", "1G", 96),
        ("rcu", "1G", 96),
        ("eager", "1G", 49_344),
        ("kernel-6.12", "2M", 49_152),
    ],
)
def test_the_seed_series_at_its_size(policy: str, page: str, flushes: int) -> None:
    """96 GiB: 25,165,824 flushes leaf by leaf, 49,248 for promotion with a flush a table, 96 for a flush a page."""
    assert LAWS[policy](96 * PAGES[3], page) == flushes


@pytest.mark.slow
@pytest.mark.skipif(not build_info.compiled(), reason="25 million SPTEs, and 67, are for the compiled package")
@pytest.mark.parametrize(
    ("policy", "page", "memory", "resched_every", "flushes"),
    [
        ("leaf-zap", "1G", "96G", 0, 25_165_824),
        ("promote-rfc", "1G", "96G", 0, 49_248),
        ("rcu", "1G", "96G", 0, 96),
        ("kernel-6.12", "2M", "256G", 0, 131_072),
        ("promote", "2M", "256G", 1747, 76),
    ],
)
def test_published_counts_at_their_size(policy: str, page: str, memory: str, resched_every: int, flushes: int) -> None:
    """The figures above, done: 96 GiB of the seed series, and the 256 GiB of 6.13's, which gave way 75 times."""
    vm = shootdown.Vm(policy, memory=memory, page=page, resched_every=resched_every)
    vm.fault(range(0, vm.pages, REGION[page]))
    before = vm.counters
    vm.log_dirty(True)
    assert (vm.counters - before).tables == {"96G": 49_248, "256G": 131_072}[memory]
    assert disabling(vm) == flushes


@pytest.mark.parametrize("memory", ["8M", "64M"])
def test_zapped_regions_fault_again_and_promoted_ones_do_not(memory: str) -> None:
    """One fault more for each region that is zapped: 131,024 of 131,072 were seen between 6.12 and 6.13.

    Source: list mail 20240823235648.3236880-1 (64 vCPUs of 4 GiB, pages of 2 MiB: 131,072 flushes, then 76).
    """
    zapped, promoted = logged("kernel-6.12", "2M", memory), logged("promote", "2M", memory)
    regions = zapped.pages // 512
    assert (disabling(zapped), disabling(promoted)) == (regions, 1)
    assert (unmapped(zapped, "2M"), unmapped(promoted, "2M")) == (regions, 0)
    assert LAWS["kernel-6.12"](64 * 4 * PAGES[3], "2M") == 131_072
    for vm in (zapped, promoted):
        vm.fault(range(0, vm.pages, 512))
        assert (vm.counters.pages_2m, vm.counters.pages_4k) == (regions, 0)


@pytest.mark.parametrize("resched_every", [2, 3, 5, 8])
def test_promotion_flushes_once_and_once_a_yield(resched_every: int) -> None:
    """Promotion in place asks for 1 flush and 1 for each time that it gives way: 76 were seen for 131,072 regions."""
    vm = shootdown.Vm("promote", memory="64M", page="2M", resched_every=resched_every)
    regions = vm.pages // 512
    vm.fault(range(0, vm.pages, 512))
    vm.log_dirty(True)
    before = vm.counters
    vm.log_dirty(False)
    asked = (vm.counters - before).flush_requests
    assert vm.counters.pages_2m == regions
    # Every region is looked at once, and the walk may give way before each but the first.
    yields = (regions - 1) // resched_every
    assert yields <= asked <= yields + 2


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["kernel-6.1", "kernel-6.12"])
def test_a_zap_a_gigabyte(policy: str) -> None:
    """416 GiB on pages of 1 GiB are 416 atomic zaps, each with one flush and 513 tables to tear down.

    Source: list mail 20240307194059.1357377-1, whose histograms count 416 before and after aca48556c592.
    """
    vm = logged(policy, "1G", "2G")
    before = vm.counters
    assert disabling(vm) == 2
    done = vm.counters - before
    assert (done.tables, done.pages_4k) == (-2 * 513, -2 * PAGES[3])
    assert LAWS[policy](416 * PAGES[3], "1G") == 416


@pytest.mark.parametrize("page", ["2M", pytest.param("1G", marks=pytest.mark.slow)])
def test_eager_splitting_takes_tables_and_no_flush(page: str) -> None:
    """96 GiB in pages of 1 GiB split into 96 + 49,152 tables, and the split itself flushes nothing.

    Beginning to log flushes once all the same, split or not, since entries lose their right to write.
    Source: list mail 20220119230739.2234394-1.
    """
    memory, split = ("1G", 513) if page == "1G" else ("16M", 8)
    vm = shootdown.Vm("kernel-6.12", memory=memory, page=page)
    vm.fault(range(0, vm.pages, REGION[page]))
    before = vm.counters
    vm.log_dirty(True)
    done = vm.counters - before
    assert (done.tables, done.flush_requests) == (split, 1)
    lazy = shootdown.Vm("kernel-6.12", memory=memory, page=page, eager_split=False)
    lazy.fault(range(0, lazy.pages, REGION[page]))
    before = lazy.counters
    lazy.log_dirty(True)
    done = lazy.counters - before
    assert (done.tables, done.flush_requests) == (0, 1)
    assert 96 * 513 == 49_248 == LAWS["promote-rfc"](96 * PAGES[3], "1G")


@pytest.mark.parametrize(("behaviour", "flushes"), [("6.1", 1), ("6.12", 1), ("6.13", 0)])
def test_ageing_flushes_up_to_612(behaviour: str, flushes: int) -> None:
    """Looking for young pages flushed the whole VM each time that one was found; 6.13 does not (b9883ee40d7e)."""
    vm = shootdown.Vm("rcu", behaviour, "8M")
    vm.fault(range(700))
    for young in (True, False):
        before = vm.counters
        assert vm.age() == young
        assert (vm.counters - before).flush_requests == (flushes if young else 0)


def test_leaves_below_an_entry_of_the_root() -> None:
    """An entry of a root of 4 levels covers 512 GiB, 134,217,728 pages of 4K, which is why roots go in passes.

    Source: 1b6043e8e584, "Zap roots in two passes": up to 7 s for one such entry.
    """
    assert PAGES[4] == 134_217_728
    vm = shootdown.Vm("kernel-6.12", memory="1024G")
    vm.fault([0, PAGES[4]])
    assert [table.level for table in vm.tables()] == [4, 3, 2, 1, 3, 2, 1]
    assert vm.tables()[0].tables == 2


@pytest.mark.slow
def test_a_root_goes_without_a_flush() -> None:
    """Zapping roots that no vCPU can use any more asks for no flush, however much they map (bb95dfb9e2df)."""
    vm = shootdown.Vm("kernel-6.12", memory="1G")
    vm.fault(range(vm.pages))
    before = vm.counters
    vm.zap_all()
    done = vm.counters - before
    assert (done.flush_requests, done.pages_4k, done.tables) == (0, -vm.pages, -514)
    assert vm.machine.load(words.VCPU_ROOT, 0) != words.NO_TABLE
