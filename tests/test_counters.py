"""Dumps of KVM's debugfs counters are read in every form in which people have them, and say no more than they can."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shootdown.cost.counters import COUNTERS, GAUGES, SIZE_MAX, Counters, compare_counters, read_counters
from shootdown.errors import InputError

NAMES = [*COUNTERS, *GAUGES]
FOLDER = "/sys/kernel/debug/kvm/"
values = st.integers(0, 2**63)
some = st.dictionaries(st.sampled_from(NAMES), values, min_size=1)
whole = st.fixed_dictionaries(dict.fromkeys(NAMES, values))
vms = st.dictionaries(st.from_regex(r"[1-9][0-9]{0,6}-[0-9]{1,3}", fullmatch=True), whole, min_size=1, max_size=4)
more = st.fixed_dictionaries({name: st.integers(0, 2**40) for name in NAMES})


def read(text: str | bytes) -> Counters:
    """What is read of a dump."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dump")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_counters(str(path))


def grep(found: dict[str, int], folder: str = FOLDER) -> str:
    """As grep prints it."""
    return "".join(f"{folder}{name}:{value}\n" for name, value in found.items())


def grep_vms(found: dict[str, dict[str, int]]) -> str:
    """As ``grep -r`` prints the folders of the VMs."""
    return "".join(grep(counters, f"{FOLDER}{vm}/") for vm, counters in found.items())


def added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    """Sums by name."""
    return {name: a[name] + b[name] for name in a}


@given(some)
def test_every_form_reads_the_same(found: dict[str, int]) -> None:
    """PATH:VALUE, NAME:VALUE, and NAME VALUE with rates beside it, quoted in a mail or not, are the same dump."""
    for text in (
        grep(found),
        grep(found, ""),
        grep(found, "kvm/"),
        "".join(f"{name:42}{value:20d} {value % 97:9d}\n" for name, value in found.items()),
        "".join(f" {name} {value} 12.5 3\n" for name, value in found.items()),
        "".join(f"> {name} = {value}\r\n" for name, value in found.items()),
    ):
        counters = read(text)
        assert counters.values == found
        assert counters.by_vm == {}
        assert counters.ignored == 0


@given(vms)
def test_vms_are_kept_apart_and_summed(found: dict[str, dict[str, int]]) -> None:
    """Counters of VMs are told by VM, and their sum stands for a total that is not there."""
    counters = read(grep_vms(found))
    assert counters.by_vm == found
    assert counters.values == {name: sum(vm[name] for vm in found.values()) for name in NAMES}
    assert read(grep(dict.fromkeys(NAMES, 7)) + grep_vms(found)).values == dict.fromkeys(NAMES, 7)


@given(
    some,
    st.lists(st.sampled_from(["grep: /sys/x: Is a directory", "$ date", "Total 1 2", "-" * 40, "exits: many", "é"])),
)
def test_garbage_is_ignored_and_counted(found: dict[str, int], garbage: list[str]) -> None:
    """Lines that are no counters change nothing but their count, which a comparison mentions."""
    counters = read("\n".join(garbage) + "\n\n" + grep(found))
    assert counters.values == found
    assert counters.ignored == len(garbage)
    warned = any("lines are no counters" in warning for warning in compare_counters(counters, counters).warnings)
    assert warned == bool(garbage)


@given(st.binary())
def test_bytes_are_read_or_refused(raw: bytes) -> None:
    """No input makes the reader fail otherwise than with InputError."""
    try:
        assert read(raw).values.keys() & set(NAMES)
    except InputError as error:
        assert str(error)


def test_other_files_of_debugfs_are_no_garbage() -> None:
    """What ``grep -r`` finds besides counters is neither counted as garbage nor taken for a counter."""
    text = grep({"tlb_flush": 3}, f"{FOLDER}7-8/")
    text += f"{FOLDER}7-8/vcpu0/tlb_flush:9\n{FOLDER}7-8/vcpu0/tsc-offset:-12\n"
    text += f"{FOLDER}7-8/mmu_rmaps_stat:Level=4K:\t0\t1\n"
    counters = read(text)
    assert counters.values == {"tlb_flush": 3}
    assert counters.ignored == 0


@given(whole, more)
def test_growth_is_exact(start: dict[str, int], growth: dict[str, int]) -> None:
    """Deltas are what was added, values now are the later ones, and without VMs that is said."""
    delta = compare_counters(read(grep(start)), read(grep(added(start, growth))))
    assert delta.deltas == growth
    assert delta.now == {name: start[name] + growth[name] for name in GAUGES}
    assert delta.by_vm == {}
    assert "not counted by VM" in delta.warnings[0]


@given(vms, more)
def test_growth_by_vm_adds_up(start: dict[str, dict[str, int]], growth: dict[str, int]) -> None:
    """With VMs told apart, each has its growth, and the total is their sum."""
    delta = compare_counters(read(grep_vms(start)), read(grep_vms({vm: added(c, growth) for vm, c in start.items()})))
    expected = {name: growth[name] for name in COUNTERS}
    assert delta.by_vm == dict.fromkeys(start, expected)
    assert delta.deltas == {name: growth[name] * len(start) for name in NAMES}
    assert delta.warnings == ()


def test_vms_that_come_and_go_are_named() -> None:
    """A VM that ended or began in between makes no counter go backwards, and is warned of."""
    before = read(grep_vms({"1-1": {"pf_taken": 100, "pages_4k": 5}, "2-1": {"pf_taken": 10, "pages_4k": 5}}))
    after = read(grep_vms({"2-1": {"pf_taken": 15, "pages_4k": 6}, "3-1": {"pf_taken": 7, "pages_4k": 1}}))
    delta = compare_counters(before, after)
    assert delta.deltas == {"pf_taken": 12, "pages_4k": -3}
    assert delta.by_vm == {"2-1": {"pf_taken": 5}, "3-1": {"pf_taken": 7}}
    assert [warning.rpartition(": ")[2] for warning in delta.warnings] == ["1-1", "3-1"]


@given(st.sampled_from(list(COUNTERS)), st.integers(1, 2**60))
def test_a_counter_that_fell_is_an_error(name: str, value: int) -> None:
    """Dumps in the wrong order, or a VM that ended unseen, are refused with the counter's name and advice."""
    now, then = read(grep({name: value})), read(grep({name: value - 1}))
    with pytest.raises(InputError, match=f"^{name} fell from {value} to {value - 1}; give the earlier dump first"):
        compare_counters(now, then)
    now, then = (read(grep_vms({"5-6": d.values, "7-8": d.values})) for d in (now, then))
    with pytest.raises(InputError, match=f"VM 5-6: {name} fell"):
        compare_counters(now, then)


@given(st.sampled_from(list(GAUGES)), st.integers(1, 2**60))
def test_a_gauge_may_fall(name: str, value: int) -> None:
    """Pages mapped now go up and down: that is no error."""
    delta = compare_counters(read(grep({name: value})), read(grep({name: 0})))
    assert delta.deltas == {name: -value}
    assert delta.now == {name: 0}


def told(**growth: int) -> str:
    """The sentences on such growth."""
    return "\n".join(
        compare_counters(
            read(grep(dict.fromkeys(growth, 5))), read(grep({n: v + 5 for n, v in growth.items()}))
        ).sentences
    )


def test_the_sentences_say_what_the_counters_can() -> None:
    """How many requests interrupted nobody, flushes a fault, and faults without the lock."""
    text = told(remote_tlb_flush=1_500, remote_tlb_flush_requests=6_000, pf_taken=1_000_000, pf_fast=250_000)
    assert "6,000 remote flushes were requested; 1,500 interrupted a CPU, 4,500 (75 %) interrupted nobody." in text
    assert "1,000,000 faults were taken: 1.5 interrupting flushes for a thousand of them." in text
    assert "250,000 faults were handled without mmu_lock (25 %)." in text
    assert "No remote flush was requested." in told(remote_tlb_flush=0, remote_tlb_flush_requests=0)
    assert "no rate" in told(remote_tlb_flush=3, remote_tlb_flush_requests=3, pf_taken=0)
    assert ": less than 0.001 interrupting" in told(remote_tlb_flush=1, remote_tlb_flush_requests=1, pf_taken=10**9)
    assert ": 4,000,000 interrupting" in told(remote_tlb_flush=8000, remote_tlb_flush_requests=8000, pf_taken=2)
    assert "3 faults were handled without mmu_lock." in told(pf_taken=2, pf_fast=3)


def test_the_sentences_say_what_the_counters_cannot() -> None:
    """By operation nothing is known, and the caveats are there whatever the figures."""
    text = told(remote_tlb_flush=1, remote_tlb_flush_requests=2, tlb_flush=9)
    for words in (
        "By operation: unknown",
        "its time: unknown",
        "Deleting a slot",
        "Hyper-V",
        "not atomic",
        "tlb_flush does not",
    ):
        assert words in text
    assert "interrupted nobody: unknown" in told(remote_tlb_flush=1)
    assert "lost to races" in told(remote_tlb_flush=3, remote_tlb_flush_requests=2)
    assert "shadow MMU" in told(mmu_shadow_zapped=1) and "shadow MMU" not in text


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2**40), min_size=1))
def test_the_sentences_never_contradict_arithmetic(growth: dict[str, int]) -> None:
    """Whatever grew, no sentence holds a negative number or a share above 100 percent."""
    text = told(**growth)
    assert "-" not in text.replace("Hyper-V", "").replace("--print", "")
    assert all(int(share) <= 100 for share in re.findall(r"(\d+) %", text))
    assert not re.search(r"\de[+-]?\d", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no counters of KVM's MMU; dump them with"),
        ("hello\n", "no counters of KVM's MMU"),
        ("kvm_exit 1 2\nkvm_entry 1 2\n", "no counters of KVM's MMU"),
        (" 123 456 78\n", "no counters of KVM's MMU"),
        ("pf_taken:1\npf_taken:2\n", "line 2: pf_taken is 1 and 2; give one dump a file"),
    ],
)
def test_what_is_no_dump_is_refused(text: str, message: str) -> None:
    """No counters, rates only, or two dumps in one file: one line says what to do."""
    with pytest.raises(InputError, match=message.replace("'", ".")):
        read(text)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder, and a file that is far too big for a dump."""
    with pytest.raises(InputError, match="no such file"):
        read_counters(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="is a directory"):
        read_counters(str(tmp_path))
    with (tmp_path / "big").open("wb") as stream:
        stream.truncate(SIZE_MAX + 1)
    with pytest.raises(InputError, match="too big"):
        read_counters(str(tmp_path / "big"))


def test_dumps_without_a_common_counter_are_refused() -> None:
    """There is nothing to compare between dumps of different counters."""
    with pytest.raises(InputError, match="no counter in common"):
        compare_counters(read("pf_taken 1"), read("tlb_flush 1"))


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads standard input, whatever its encoding."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\npf_taken 4\n"), "ascii"))
    counters = read_counters("-")
    assert (counters.path, counters.values, counters.ignored) == ("standard input", {"pf_taken": 4}, 1)


def test_every_counter_says_what_counts_it() -> None:
    """Each known name comes with the path in the kernel that changes it."""
    assert all(len(text) > 10 for text in (*COUNTERS.values(), *GAUGES.values()))
    assert not COUNTERS.keys() & GAUGES.keys()
