"""Traces as text: every tool's text gives the same columns, and damaged text costs no more than its damaged lines."""

import io
import lzma
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown.errors import InputError
from shootdown.trace import text_lines
from shootdown.trace.events import Lost, Trace
from shootdown.trace.read import read_trace
from shootdown.trace.text import LINE_MAX, looks_like_text, read_text

DATA = Path(__file__).parent / "data" / "text"
CORPUS = Path(os.environ.get("SHOOTDOWN_TRACES") or Path(__file__).parents[2] / "shared" / "traces")
CORPUS_TEXTS = sorted(CORPUS.glob("*/*.txt.xz"))

SPTE = "kvmmmu:kvm_tdp_mmu_spte_changed"
FAST = "kvmmmu:fast_page_fault"
GET = "kvmmmu:kvm_mmu_get_page"
TEXT_ONLY = ("spurious", "fixed")


def sample(name: str) -> bytes:
    """A part of a real trace's text."""
    return lzma.decompress((DATA / f"{name}.txt.xz").read_bytes())


def read(text: str | bytes, **options: object) -> Trace:
    """The trace in a text."""
    return read_text(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "a.txt", **options)  # type: ignore[arg-type]


def lines(name: str) -> list[str]:
    """The lines of a part of a real trace's text."""
    return sample(name).decode().splitlines()


def as_perf(line: str) -> str:
    """What perf script prints for an event in the text of tracefs, whose system it shows."""
    comm, pid, cpu, seconds, name, text = re.match(  # type: ignore[union-attr]
        r"\s*(\S.*?)-(\d+)\s+\[(\d+)\] \S+\s+([\d.]+): (\w+): (.*)", line
    ).groups()
    kind = f"kprobes:{name}" if text.startswith("(") else text_lines.KINDS[name]
    return f"{comm:>16} {pid:>5} [{cpu}] {seconds:>12}: {kind:>48}: {text}"


def assert_same(left: Trace, right: Trace, microseconds: int = 0) -> None:
    """Equal counts, and equal columns as far as both show them; times may differ in rounding."""
    assert left.counts == right.counts
    for kind, mine in left.events.items():
        other = right.events[kind]
        np.testing.assert_array_equal(mine.order, other.order, kind)
        np.testing.assert_array_equal(mine.cpu, other.cpu, kind)
        np.testing.assert_array_equal(mine.pid, other.pid, kind)
        assert np.abs(mine.time - other.time).max() <= microseconds * 1000, kind
        for name in mine.fields.keys() & other.fields.keys():
            if (kind, name) in SHOWN_IN_PART:
                continue
            np.testing.assert_array_equal(mine.fields[name], other.fields[name], f"{kind} {name}")
            if not kind.startswith("kprobes:") and (kind, name) != (FAST, "error_code"):
                assert mine.fields[name].dtype == other.fields[name].dtype, f"{kind} {name}"


# Of the role of a table no text shows every bit; tests of it are below.
SHOWN_IN_PART = {(GET, "role"), ("kvmmmu:kvm_mmu_prepare_zap_page", "role")}

REPORT = """cpus=2
           tdpload-243   [000]    24.336782: kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 4 old_spte 8000000000000000 new_spte 4e00827
           tdpload-243   [000]    24.336948: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 3 old_spte 0 new_spte 4dff827
           tdpload-244   [001]    24.337000: kvm_tdp_mmu_spte_changed: as id 1 gfn 2 level 2 old_spte 5a0 new_spte 4dfe827
"""


# One buffer, many texts


@pytest.mark.parametrize("form", ["noplugin", "raw", "tracefs", "perf"])
def test_every_text_of_one_buffer_gives_the_same_events(form: str) -> None:
    """The report, with and without plugins, raw, tracefs and perf: same counts, same columns wherever they are shown."""
    report = read(sample("6.12-text-report"))
    if form == "perf":
        other = read("\n".join(as_perf(x) for x in lines("6.12-text-tracefs") if not x.startswith("#")))
    else:
        other = read(sample(f"6.12-text-{form}"))
    assert not report.warnings and not other.warnings
    # tracefs cuts the nanoseconds, trace-cmd rounds them.
    assert_same(report, other, microseconds=form in ("tracefs", "perf"))
    for trace in (report, other):
        assert set(trace.events[SPTE].fields) == {"gfn", "old_spte", "new_spte", "level", "as_id"}
    assert report.total == 3822 and report.events[SPTE].fields["gfn"].dtype == np.uint64


@pytest.mark.parametrize("name", ["6.1-dlp-4k", "6.12-smm"])
def test_a_report_gives_what_the_raw_fields_say(name: str) -> None:
    """Columns read out of sentences equal those that trace-cmd report -R prints as names and values."""
    report, raw = read(sample(f"{name}-report")), read(sample(f"{name}-raw"))
    assert not report.warnings and not raw.warnings
    assert_same(report, raw)


@pytest.mark.parametrize(
    ("name", "form", "clock", "cpus"),
    [
        ("6.12-text-report", "trace-cmd report", "", 2),
        ("6.12-text-raw", "trace-cmd report", "", 2),
        ("6.12-text-tracefs", "tracefs trace", "", 2),
        ("6.12-dlp-tsc-report", "trace-cmd report", "x86-tsc", 2),
    ],
)
def test_a_text_tells_its_tool_and_clock(name: str, form: str, clock: str, cpus: int) -> None:
    """The trace says what was read; without headers, as trace_pipe writes it, too."""
    bare = "\n".join(x for x in lines(name) if "[" in x)
    for trace in (read(sample(name)), read(bare)):
        assert (trace.form, trace.clock, trace.cpus) == (form, clock, cpus)
        assert trace.hertz == (None if clock else 1e9)


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS_TEXTS, reason="no corpus of traces: set SHOOTDOWN_TRACES to its folder")
@pytest.mark.parametrize("path", CORPUS_TEXTS, ids=lambda path: f"{path.parent.name}-{path.name.partition('.')[0]}")
def test_every_recorded_text_gives_what_its_trace_dat_gives(path: Path) -> None:
    """All texts of the corpus, whole: counts, order, tasks and every field that is shown equal the binary recording's."""
    text, binary = read(lzma.decompress(path.read_bytes())), read_trace(str(path.parent / "trace.dat"))
    assert not text.warnings
    assert_same(text, binary, microseconds=1)
    assert text.comms == {pid: binary.comms[pid] for pid in text.comms}
    assert [(x.cpu, x.count) for x in text.lost] == [(x.cpu, x.count) for x in binary.lost]


# One line of each event


EVENT_LINES = [
    (SPTE, "as id 1 gfn fc level 2 old_spte 8000000000000000 new_spte 4e00827", "gfn=252 old_spte=0x8000000000000000 new_spte=0x4e00827 level=2 as_id=1"),
    (FAST, "vcpu 1 gva 400ff000 error_code P|W|U|0x100000000 sptep 0xffff8c4cdbc23ff0 old 0x27eae65 new 27eae67 spurious 0 fixed 1", "vcpu_id=1 cr2_or_gpa=0x400ff000 error_code=0x100000007 sptep=0xffff8c4cdbc23ff0 old_spte=0x27eae65 new_spte=0x27eae67 spurious=0 fixed=1"),
    (FAST, "vcpu 1 gva 0 error_code  sptep 0000000007a68290 old 0 new 5a0 spurious 1 fixed 0", "vcpu_id=1 cr2_or_gpa=0 error_code=0 old_spte=0 new_spte=0x5a0 spurious=1 fixed=0"),
    (FAST, "vcpu 0 gva 1000 error_code RSVD|F|PK sptep (nil) old 0 new 0 spurious 0 fixed 0", "vcpu_id=0 cr2_or_gpa=0x1000 error_code=0x38 sptep=0 old_spte=0 new_spte=0 spurious=0 fixed=0"),
    (GET, "sp gen 1 gfn 40000 l2 8-byte q0 direct w-x invalid !nxe !ad root 3 unsync existing", "mmu_valid_gen=1 gfn=0x40000 role=0x10b82 root_count=3 unsync=1 created=0"),
    (GET, "new sp gfn fc0 1 q2 -ux pae nxe !wp smep smap smm root 0 sync", "gfn=0xfc0 role=0x100d551 root_count=0 unsync=0 created=1"),
    (GET, "[FAILED TO PARSE] mmu_valid_gen=0 gfn=134217728 role=14211 root_count=0 unsync=0 created=1", "mmu_valid_gen=0 gfn=134217728 role=14211 root_count=0 unsync=0 created=1"),
    ("kvmmmu:kvm_mmu_prepare_zap_page", "2 q0 direct wux !pae nxe wp root 0 sync", "role=14210 root_count=0 unsync=0"),
    ("kvmmmu:kvm_mmu_unsync_page", "sp gen 0 gfn 1 l1 4-byte q3 --- nxe ad root 0 unsync", "mmu_valid_gen=0 gfn=1 role=0x1071 root_count=0 unsync=1"),
    ("kvmmmu:kvm_mmu_spte_requested", "gfn 40000 pfn 2c48 level 1", "gfn=0x40000 pfn=0x2c48 level=1"),
    ("kvmmmu:kvm_mmu_set_spte", "gfn 1 spte 2c48e67 (r-x-) level 1 at 4dfe008", "gfn=1 spte=0x2c48e67 sptep=0x4dfe008 level=1 r=1 x=1 u=0"),
    ("kvmmmu:kvm_mmu_set_spte", "gfn 1 spte 2c48e67 (-w-) level 3 at 4dfe008", "gfn=1 spte=0x2c48e67 sptep=0x4dfe008 level=3 r=0 x=0 u=-1"),
    ("kvmmmu:kvm_mmu_split_huge_page", "gfn 40000 spte 100000ee7 level 3 errno -16", "gfn=0x40000 spte=0x100000ee7 level=3 errno=-16"),
    ("kvmmmu:kvm_mmu_zap_all_fast", "kvm-mmu-valid-gen 1 used_pages 1f", "mmu_valid_gen=1 mmu_used_pages=31"),
    ("kvmmmu:mark_mmio_spte", "sptep:0xffff88e78404a000 gfn 80000 access 7 gen 8", "sptep=0xffff88e78404a000 gfn=0x80000 access=7 gen=8"),
    ("kvmmmu:mark_mmio_spte", "sptep:000000008734b260 gfn 80000 access 7 gen 1a", "gfn=0x80000 access=7 gen=26"),
    ("kvmmmu:check_mmio_spte", "spte 80000c0000067 kvm_gen e spte-gen c valid 0", "kvm_gen=14 spte_gen=12 spte=0x80000c0000067"),
    ("kvmmmu:handle_mmio_page_fault", "addr:0 gfn fee00 access 6", "addr=0 gfn=0xfee00 access=6"),
    ("kvmmmu:kvm_mmu_pagetable_walk", "addr 41037f pferr 14 U|F", "addr=0x41037f pferr=0x14"),
    ("kvm:kvm_page_fault", "vcpu 0 rip 0x4063b0 address 0x0000000000180000 error_code 0x200000006", "vcpu_id=0 guest_rip=0x4063b0 fault_address=0x180000 error_code=0x200000006"),
    ("kvm:kvm_entry", "vcpu 1, rip 0x1000", "vcpu_id=1 rip=0x1000"),
    ("kvm:kvm_entry", "vcpu 1 rip 0x1000", "vcpu_id=1 rip=0x1000"),
    ("kvm:kvm_entry", "vcpu 1, rip 0x1000[immediate exit]", "vcpu_id=1 rip=0x1000"),
    ("kvm:kvm_entry", "vcpu 1, rip 0x1000 intr_info 0x80000030 error_code 0x00000000", "vcpu_id=1 rip=0x1000 intr_info=0x80000030 error_code=0"),
    ("kvm:kvm_exit", "reason EXIT_NPF rip 0x1000 info 100000014 1000", "guest_rip=0x1000 info1=0x100000014 info2=0x1000"),
    ("kvm:kvm_exit", "vcpu 0 reason UD excp rip 0x10 info1 0x0000000000000001 info2 0x0000000000000002 intr_info 0x00000003 error_code 0x00000004", "guest_rip=16 info1=1 info2=2 intr_info=3 error_code=4 vcpu_id=0"),
    ("kvm:kvm_exit", "vcpu 0 reason npf rip 0x10 info1 0x01 info2 0x02 intr_info 0x03 error_code 0x04 requests 0x0000000000000300", "guest_rip=16 info1=1 info2=2 intr_info=3 error_code=4 vcpu_id=0 requests=0x300"),
    ("kvm:kvm_unmap_hva_range", "mmu notifier unmap range: 0x007f6a57e00000 -- 0x007f6a58000000", "start=0x7f6a57e00000 end=0x7f6a58000000"),
    ("kvm:kvm_age_hva", "mmu notifier age hva: 0x007f6a57e00000 -- 0x007f6a57e01000", "start=0x7f6a57e00000 end=0x7f6a57e01000"),
    ("kvm:kvm_set_spte_hva", "mmu notifier set pte hva: 0x007f7e7e75e000", "hva=0x7f7e7e75e000"),
    ("kvm:kvm_test_age_hva", "mmu notifier test age hva: 0x007f7e7e75e000", "hva=0x7f7e7e75e000"),
    ("kvm:kvm_dirty_ring_push", "ring 1: dirty 0x2d reset 0x0 slot 65537 offset 0x22c (used 45)", "index=1 dirty_index=45 reset_index=0 slot=65537 offset=0x22c"),
    ("kvm:kvm_dirty_ring_reset", "ring 0: dirty 0x200 reset 0x100 (used 256)", "index=0 dirty_index=0x200 reset_index=0x100"),
    ("kvm:kvm_dirty_ring_exit", "vcpu 3", "vcpu_id=3"),
    ("kvm:kvm_smm_transition", "vcpu 0: leaving SMM, smbase 0x30000", "vcpu_id=0 smbase=0x30000 entering=0"),
    ("kvm:kvm_mmio", "mmio unsatisfied-read len 4 gpa 0x80000000 val 0x0", "type=0 len=4 gpa=0x80000000 val=0"),
    ("kvm:kvm_mmio", "mmio write len 8 gpa 0xfee00000 val 0xffffffffffffffff", "type=2 len=8 gpa=0xfee00000 val=0xffffffffffffffff"),
    ("kvm:kvm_userspace_exit", "reason KVM_EXIT_IO (2)", "reason=2"),
    ("kvm:kvm_userspace_exit", "reason restart (4)", "errno=-4"),
    ("kvm:vcpu_match_mmio", "gva 0x80000000 gpa 0x80000000 Read GPA", "gva=0x80000000 gpa=0x80000000 write=0 gpa_match=1"),
    ("kprobes:tdp_mmu_zap_leafs", "(ffffffffc04f6884) kvm=0xffffcc9640189000 can_yield=1 slot=-2", "__probe_ip=0xffffffffc04f6884 kvm=0xffffcc9640189000 can_yield=1 slot=-2"),
    ("kprobes:tdp_mmu_zap_leafs", "(tdp_mmu_zap_leafs+0x4/0x1c0 [kvm]) kvm=0xffffcc9640189000", "kvm=0xffffcc9640189000"),
    ("kprobes:kvm_tdp_mmu_map__ret", "(ffffffffc052dfb4 <- ffffffffc0310d4c) ret=-22", "__probe_func=0xffffffffc052dfb4 __probe_ret_ip=0xffffffffc0310d4c ret=-22"),
    ("kprobes:kvm_tdp_mmu_map__ret", "(kvm_vm_ioctl+0xa85/0x18b0 [kvm] <- kvm_tdp_mmu_map) ret=4", "ret=4"),
    ("kprobes:kvm_tdp_mmu_map__ret", " __probe_func=ffffffffc052dfb4 __probe_ret_ip=ffffffffc0310d4c ret=4", "__probe_func=0xffffffffc052dfb4 __probe_ret_ip=0xffffffffc0310d4c ret=4"),
    ("kprobes:named", '(named+0x4/0x10) name="a b" list={0x1,0x2} at=0x10', "at=16"),
    ("kprobes:all_ones", "(all_ones+0x4/0x10) mask=18446744073709551615", "mask=0xffffffffffffffff"),
    ("unknown:sched_wakeup", "comm=a b pid=18 prio=0 [0] target_cpu=000", "pid=18 prio=0 target_cpu=0"),
    ("kvm:kvm_pio", "pio_write at 0x70 size 1 count 1 val 0x8f", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "fields"), EVENT_LINES)
def test_an_event_gives_the_fields_that_its_text_shows(kind: str, text: str, fields: str) -> None:
    """Each way to write each event, as ftrace and as perf write the rest of the line: these fields and no others."""
    expected = {name: int(value, 0) for name, value in (pair.split("=") for pair in fields.split())}
    name = kind.partition(":")[2]
    written = [f"CPU 0/KVM-1234 [007] d..1. 1.000001: {name}: {text}"]
    if not kind.startswith("unknown:"):
        written.append(f"CPU 0/KVM  1234 [007] 1.000001: {kind}: {text}")
    for line in written:
        trace = read(line)
        assert trace.counts == {kind: 1} and not trace.warnings
        assert {n: c.tolist() for n, c in trace.events[kind].fields.items()} == {n: [v] for n, v in expected.items()}
        assert trace.comms == {1234: "CPU 0/KVM"} and trace.events[kind].cpu.tolist() == [7]


def test_every_event_of_the_table_is_read_from_its_raw_fields() -> None:
    """What trace-cmd report -R prints of an event, names and values, gives all its fields."""
    for kind, (spec, *_) in text_lines.EVENTS.items():
        names = [part.split()[0] for part in spec.partition(";")[0].split(",")]
        text = " ".join(f"{name}=1" for name in names)
        trace = read(f" a-1 [000] 1.000001: {kind.partition(':')[2]}:  {text}")
        assert list(trace.events[kind].fields) == names and trace.counts == {kind: 1}


# Lines of perf


PERF = """\
# ========
# hostname : h
# os release : 6.1.0-56-amd64
# nrcpus online : 4
# ========
#
     CPU 0/KVM  1234 [001]    24.216839:             kvmmmu:kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 0 new_spte 2c48e67
     CPU 1/KVM  1230/1235  [002]    24.216840:             kvmmmu:kvm_tdp_mmu_spte_changed: as id 0 gfn 2 level 1 old_spte 0 new_spte 2c49e67
\tffffffffc052dfb4 __handle_changed_spte+0x54 ([kvm])
\t           d4ad7 __GI___ioctl+0x7 (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t               1 [unknown] ([unknown])

 kworker/0:1-mm   61 [000] K  24.216841123:       1 kvmmmu:kvm_tdp_mmu_spte_changed: as id 0 gfn 3 level 1 old_spte 0 new_spte 2c50e67  ffffffffc052dfb4 __handle_changed_spte+0x54 ([kvm])
         swapper     0 [003]    24.216842: PERF_RECORD_COMM: swapper:0/0
         swapper     0 [003]    24.216843: PERF_RECORD_LOST lost 12
         swapper     0 [003]    24.216844: probe:kvm_flush_remote_tlbs: (ffffffffc02bb740) kvm=0xffffd019803fd000
         swapper     0 [003]    24.216845: kprobes:kvm_flush_remote_tlbs__ret: (ffffffffc02bb740 <- ffffffffc03176aa)
         swapper     0 [003]    24.216846: sched:sched_switch: prev_comm=a prev_pid=61 prev_prio=120 prev_state=D ==> next_pid=18 next_prio=0
"""  # noqa: E501


def test_perf_lines_of_all_kinds_are_read() -> None:
    """Spaces and slashes in a task's name, process/thread, flags, periods, nanoseconds, symbols, chains, losses."""
    trace = read(PERF)
    spte = trace.events[SPTE]
    assert not trace.warnings
    assert (trace.form, trace.kernel, trace.cpus) == ("perf script", "6.1.0-56-amd64", 4)
    assert spte.fields["gfn"].tolist() == [1, 2, 3] and spte.fields["new_spte"].tolist()[2] == 0x2C50E67
    assert spte.pid.tolist() == [1234, 1235, 61] and spte.cpu.tolist() == [1, 2, 0]
    assert spte.time.tolist() == [24216839000, 24216840000, 24216841123]
    assert trace.comms == {1234: "CPU 0/KVM", 1235: "CPU 1/KVM", 61: "kworker/0:1-mm", 0: "swapper"}
    assert trace.tgids == {1235: 1230}
    assert trace.lost == [Lost(3, 24216844000, 12)]
    assert trace.counts == {
        SPTE: 3,
        "kprobes:kvm_flush_remote_tlbs": 1,
        "kprobes:kvm_flush_remote_tlbs__ret": 1,
        "sched:sched_switch": 1,
    }
    assert list(trace.events["kprobes:kvm_flush_remote_tlbs__ret"].fields) == ["__probe_func", "__probe_ret_ip"]


def test_perf_lines_without_a_task_or_cpu_are_read_and_said() -> None:
    """Without these columns (perf script -F) the events are there, with -1 and a warning."""
    text = "as id 0 gfn 1 level 1 old_spte 0 new_spte 2c48e67"
    trace = read(f"1.000001: {SPTE}: {text}\n[002] 1.000002: {SPTE}: {text}\n a 5 1.000003: {SPTE}: {text}\n")
    assert trace.events[SPTE].cpu.tolist() == [-1, 2, -1] and trace.events[SPTE].pid.tolist() == [-1, -1, 5]
    assert trace.warnings == ["a.txt: 3 events do not show their CPU or task, which are given as -1"]


# Times, tasks, losses


def test_times_are_exact() -> None:
    """Digits become nanoseconds one by one; integers without a dot are ticks of the TSC."""
    line = " a-1 [000] {}: kvm_dirty_ring_exit: vcpu 0"
    for written, expected in [
        ("24.216839", 24216839000),
        ("1700000000.000001", 1700000000000001000),
        ("24.216839439", 24216839439),
        ("8999999999.999999999", 8999999999999999999),
        ("0.5", 500000000),
    ]:
        assert read(line.format(written)).first == expected
    tsc = read(sample("6.12-dlp-tsc-report"))
    assert tsc.first == 261012108245 and tsc.hertz is None


def test_lines_of_another_clock_are_left_out() -> None:
    """Ticks and seconds cannot be sorted into one order."""
    trace = read(
        " a-1 [000] 1.000001: kvm_dirty_ring_exit: vcpu 0\n a-1 [000] 261012108245: kvm_dirty_ring_exit: vcpu 0\n"
    )
    assert trace.total == 1 and "1 of 2 lines are not events" in trace.warnings[0]


def test_other_columns_of_ftrace_are_understood() -> None:
    """Process ids, flags of older and newer kernels, no flags, time differences, latency format, file names."""
    text = ": kvm_dirty_ring_exit: vcpu 0"
    trace = read(
        "\n".join(
            [
                f"            bash-6548    (   6548) [000] d..2.  1.000001{text}",
                f"           sleep-6551    (-------) [001] d..2   1.000002{text}",
                f" memfd:sealed-91-2374    (   2374) [001]   1.000003{text}",
                f"         tdpload-240   [001]     1.000004: (+1)   {text[2:]}",
                f" tdpload-240     1.....     1.000005{text}",
                f"    bash-6548      0d..2.    1000006us!{text}",
                f"trace.dat:          tdpload-240   [001]    1.000007{text}",
                f"           <...>-77    [001] ..... 1.000008{text}",
                f"          <idle>-0     [001] dNh5. 1.000009{text}",
            ]
        )
    )
    assert not trace.warnings
    events = trace.events["kvm:kvm_dirty_ring_exit"]
    assert events.time.tolist() == [1000001000 + 1000 * i for i in range(9)]
    assert events.cpu.tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1]
    assert trace.tgids == {6548: 6548, 2374: 2374}
    assert trace.comms == {6548: "bash", 6551: "sleep", 2374: "memfd:sealed-91", 240: "tdpload", 0: "<idle>"}


def test_losses_are_kept_with_the_next_event_of_their_cpu() -> None:
    """However the tool words it; the count is None if it does not tell."""
    marks = [
        ("CPU:1 [LOST 12 EVENTS]", 1, 12),
        ("CPU 1 [LOST 123 EVENTS]", 1, 123),
        ("CPU:1 [377 EVENTS DROPPED]", 1, 377),
        ("> CPU:1 [EVENTS DROPPED]", 1, None),
        ("CPU:1 [LOST EVENTS]", 1, None),
        ("[5 EVENTS DROPPED]", 0, 5),
    ]
    for mark, cpu, count in marks:
        trace = read(
            f" a-1 [001] 1.000001: kvm_dirty_ring_exit: vcpu 0\n{mark}\n"
            " a-1 [000] 1.000002: kvm_dirty_ring_exit: vcpu 0\n a-1 [001] 1.000003: kvm_dirty_ring_exit: vcpu 0\n"
        )
        assert trace.lost == [Lost(cpu, 1000003000 if cpu else 1000002000, count)] and not trace.warnings
    real = read(sample("6.1-smallring-report"))
    assert [(x.cpu, x.count) for x in real.lost] == [(0, n) for n in (377, 94, 470, 282, 282, None, 282)]
    assert read("CPU:3 [LOST 1 EVENTS]\n" + REPORT).lost == [Lost(3, 24337000000, 1)]


def test_what_the_ring_overwrote_is_known_from_the_header() -> None:
    """tracefs says how many events were written and how many are left."""
    assert read("# tracer: nop\n# entries-in-buffer/entries-written: 10/130   #P:8\n" + REPORT).lost_total == 120
    assert read("# tracer: nop\n# entries-in-buffer/entries-written: 10/130   #P:8\n" + REPORT).cpus == 8
    assert read(REPORT).lost_total is None


# Parts, mails, damage


def test_lines_in_any_order_are_sorted_by_time() -> None:
    """The order of the file only decides between events of the same time."""
    some = lines("6.12-text-report")[1:400]
    shuffled = [line for i in range(7) for line in some[i::7]]
    assert_same(read("\n".join(shuffled)), read("\n".join(sorted(shuffled, key=lambda x: float(x.split()[2][:-1])))))
    line = " a-1 [00{}] 1.000001: kvm_dirty_ring_exit: vcpu {}\n"
    assert read(line.format(3, 1) + line.format(2, 0)).events["kvm:kvm_dirty_ring_exit"].cpu.tolist() == [3, 2]


def test_a_quoted_mail_gives_what_the_trace_gives() -> None:
    """Quotation marks, greetings and a signature around it change nothing but the warning."""
    some = lines("6.12-text-tracefs")[:300]
    mail = [
        "Hi,",
        "",
        "> On Monday somebody wrote:",
        *(f"> > {line}" for line in some),
        ">",
        "",
        "Thanks",
        "--",
        "N. N.",
    ]
    trace, plain = read("\n".join(mail)), read("\n".join(some))
    assert_same(trace, plain)
    assert trace.warnings == ["a.txt: 5 of 309 lines are not events, first: line 1: 'Hi,'"]


@pytest.mark.parametrize("width", [60, 72, 78, 100])
@pytest.mark.parametrize("mark", ["", "> "])
def test_wrapped_lines_are_put_together(width: int, mark: str) -> None:
    """A mail program that breaks lines at spaces loses nothing."""
    some = [line.strip() for line in lines("6.12-text-tracefs") if not line.startswith("#")][:700]
    wrapped: list[str] = []
    for line in some:
        first, *words = re.findall(r"\S+\s*", line)
        for word in words:
            if len(first + word.rstrip()) > width:
                wrapped.append(mark + first.rstrip())
                first = ""
            first += word
        wrapped.append(mark + first)
    assert len(wrapped) > 1.5 * len(some) or width == 100
    trace = read("\n".join(wrapped))
    assert_same(trace, read("\n".join(some)))
    assert not trace.warnings


def test_a_cut_event_is_left_out_and_said() -> None:
    """Half a line is no event, and its damage stays its own."""
    cut = REPORT.splitlines()
    cut[2] = cut[2][:-24]
    trace = read("\n".join(cut))
    assert trace.events[SPTE].fields["gfn"].tolist() == [0, 2]
    assert trace.warnings == [
        f"a.txt: 1 of 4 lines are not events (1 of them damaged events), first: line 3: {cut[2].strip()[:57] + '...'!r}"
    ]


def test_a_cut_probe_does_not_cost_its_kind_a_field() -> None:
    """Lines of a probe that show less than its others are the damaged ones; nothing else is given up."""
    probe = " a-1 [000] 1.{:06}: kvm_tdp_mmu_map: (ffffffffc052dfb4) kvm=0xffffcc9640189000 vcpu_id=0 gfn=0x{:x}"
    text = [probe.format(i, i) for i in range(50)]
    text[7] = text[7].rpartition(" ")[0]
    text[9] = text[9].replace("gfn=", "gfo=")
    trace = read("\n".join(text))
    events = trace.events["kprobes:kvm_tdp_mmu_map"]
    assert list(events.fields) == ["__probe_ip", "kvm", "vcpu_id", "gfn"]
    assert events.fields["gfn"].tolist() == [i for i in range(50) if i not in (7, 9)]
    assert trace.counts == {"kprobes:kvm_tdp_mmu_map": 48} and events.order.tolist() == list(range(48))
    assert trace.warnings[0].startswith(
        "a.txt: 2 of 50 lines are not events (2 of them damaged events), first: line 8:"
    )


def test_fields_that_only_some_lines_show_are_left_out_and_said_once() -> None:
    """A paste of two reports, one with the plugin and one without: the common fields, nothing made up."""
    text = "\n".join(lines("6.12-text-report")[:300] + lines("6.12-text-noplugin")[300:600])
    trace = read(text)
    assert list(trace.events["kvm:kvm_exit"].fields) == ["guest_rip", "info1", "info2"]
    assert [w for w in trace.warnings if "kvm_exit" in w] == [
        "a.txt: not every line of kvm:kvm_exit shows error_code, intr_info, vcpu_id; left out"
    ]
    alone = read(sample("6.12-text-noplugin"))
    assert "vcpu_id" in alone.events["kvm:kvm_exit"].fields and not alone.warnings


def test_raw_numbers_that_look_decimal_are_not_misread() -> None:
    """Older libraries print decimal numbers where newer ones print hexadecimal ones: such fields are left out, and said."""
    old = re.sub(
        r"(gfn|old_spte|new_spte|spte|pfn)=([0-9a-f]+)\b",
        lambda m: f"{m[1]}={int(m[2], 16)}",
        sample("6.12-text-raw").decode(),
    )
    trace = read("\n".join(line for line in old.splitlines() if "spte_changed" in line and "9223" not in line))
    assert list(trace.events[SPTE].fields) == ["level", "as_id"]
    assert "look decimal" in trace.warnings[0] and "old_spte" in trace.warnings[0]


def test_the_role_is_rebuilt_as_far_as_it_is_shown() -> None:
    """tracefs shows all but cr0_wp, the plugin all of a plain role: the raw field says so."""
    raw, tracefs, plugin = (
        read(sample(f"6.12-text-{x}")).events[GET].fields["role"] for x in ("raw", "tracefs", "report")
    )
    assert set((raw ^ tracefs).tolist()) == {1 << 13}
    np.testing.assert_array_equal(raw, plugin)
    raw, plugin = (read(sample(f"6.12-smm-{x}")).events[GET].fields["role"] for x in ("raw", "report"))
    assert set((raw ^ plugin).tolist()) <= {0, 1 << 17}


def test_only_the_wanted_kinds_have_columns() -> None:
    """The others are counted; damaged lines are left out all the same."""
    text = sample("6.12-text-report")
    trace, whole = read(text, wanted={GET}), read(text)
    assert list(trace.events) == [GET] and trace.counts == whole.counts
    assert (trace.first, trace.last) == (whole.first, whole.last)
    assert trace.events[GET].order.tolist() == list(range(len(trace.events[GET])))
    np.testing.assert_array_equal(trace.events[GET].time, whole.events[GET].time)


def test_orders_of_all_kinds_make_one_sequence() -> None:
    """Kinds can be merged again: every position is there once, and time never goes back along it."""
    trace = read(sample("6.12-text-report"))
    order = np.concatenate([e.order for e in trace.events.values()])
    times = np.concatenate([e.time for e in trace.events.values()])
    assert sorted(order.tolist()) == list(range(trace.total))
    assert (np.diff(times[np.argsort(order)]) >= 0).all()


def test_progress_is_reported() -> None:
    """Long texts tell from time to time how many events were read."""
    told: list[int] = []
    read(" a-1 [000] 1.000001: kvm_dirty_ring_exit: vcpu 0\n" * 140_000, progress=told.append)
    assert told == [1 << 16, 2 << 16]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (b"", 1, "empty"),
        (b"\n \n", 1, "empty"),
        (b"\n\nSubject: [PATCH]\n\nHello\n", 3, "no event in 5 lines, this one reads 'Subject: [PATCH]'"),
        (b"# tracer: nop\n#\n", 1, "no event in 2 lines, this one reads '# tracer: nop'"),
        (b"a-1 [000] 1.000001: kvm_entry: vcpu\n", 1, "no event in 1 lines"),
        (b"\xff\xfe\x00\x80 \x01\n\x00", 1, "no event in 2 lines"),
    ],
)
def test_a_text_without_events_is_an_error_that_says_where_and_what_to_do(text: bytes, line: int, what: str) -> None:
    """The first line that is none is shown."""
    with pytest.raises(InputError) as error:
        read(text)
    assert str(error.value).startswith(f"a.txt: line {line}: {what}") and "perf script" in error.value.advice
    assert (error.value.path, error.value.line) == ("a.txt", line)


def test_an_overlong_line_is_skipped_and_said() -> None:
    """Lines before and after it are read, and memory stays small however long it is."""
    for length in (LINE_MAX + 1, 5 << 20):
        trace = read(REPORT.encode() + b"x" * length + b"\n" + REPORT.encode())
        assert trace.total == 6
        assert trace.warnings == ["a.txt: 1 lines over 64 KiB are left out, first: line 5"]
    assert read(REPORT.encode() + b"\0" * (3 << 20)).total == 3


def test_bytes_that_are_no_text_cost_only_their_lines() -> None:
    """NULs, broken UTF-8, carriage returns and control characters between the lines and in names."""
    some = REPORT.encode().splitlines()
    trace = read(
        b"\r\n".join([some[0], b"\x00\xff\xfe\x80garbage\x01", some[1], some[2].replace(b"tdp", b"\xff\xc3", 1), some[3]])
    )
    assert trace.total == 3 and "1 of 5 lines are not events, first: line 2" in trace.warnings[0]


def test_text_is_told_from_other_files() -> None:
    """By its beginning."""
    assert (
        looks_like_text(b"")
        and looks_like_text(sample("6.12-text-tracefs")[:4096])
        and looks_like_text("> Grüße".encode())
    )
    for head in (b"\x17\x08\x44tracing6\0", b"PERFILE2h", b"\x1f\x8b\x08\x00abc", b"\xfd7zXZ\0", bytes(range(256))):
        assert not looks_like_text(head)


HOSTILE = [
    " " * LINE_MAX,
    "a-1" + " " * (LINE_MAX - 10),
    "a 1" * 20000,
    "CPU" + " " * (LINE_MAX - 10),
    "[" * LINE_MAX,
    "-1 " * 20000,
    " a-1 [000] 1.000001: kvm_tdp_mmu_map: (" + "f" * 60000,
    " a-1 [000] 1.000001: kvm_tdp_mmu_map: (f)" + " a=1" * 15000,
    " a-1 [000] 1.000001: kvm_exit: vcpu 0 reason " + "a rip 0x1 " * 6000,
    " a-1 [000] 1.000001: odd: " + "x=1 " * 15000,
    " a-1 [000] 1.000001: odd: " + " ".join(f"x{i}={i}" for i in range(6000)) + " x0=",
    " a-1 [000] 1.000001: fast_page_fault: vcpu 1 gva 1 error_code " + "P|" * 30000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_no_line_takes_long(line: str) -> None:
    """Made to slow a reader down: a long line takes milliseconds, a hundred of them under ten seconds."""
    begin = time.perf_counter()
    trace = read(REPORT + (line + "\n") * 100)
    assert time.perf_counter() - begin < 10
    assert trace.counts[SPTE] == 3


REAL = [
    line
    for name in ("6.12-text-report", "6.12-text-noplugin", "6.12-text-tracefs", "6.12-text-raw", "6.1-smallring-report")
    for line in lines(name)[::37]
] + PERF.splitlines()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Some lines of real texts, then cut, doubled, swapped, with bytes changed and lines put in."""
    text = bytearray("\n".join(draw(st.lists(st.sampled_from(REAL), min_size=1, max_size=30))).encode())
    for _ in range(draw(st.integers(0, 12))):
        if not text:
            break
        at = draw(st.integers(0, len(text) - 1))
        match draw(st.sampled_from("flip cut insert double newline".split())):
            case "flip":
                text[at] = draw(st.integers(0, 255))
            case "cut":
                del text[at : at + draw(st.integers(1, 40))]
            case "insert":
                text[at:at] = draw(st.binary(max_size=20))
            case "double":
                text[at:at] = text[at : at + draw(st.integers(1, 80))]
            case _:
                text[at:at] = b"\n"
    return bytes(text)


@settings(max_examples=400, deadline=None)
@given(damaged())
def test_damaged_text_never_breaks_the_reader(text: bytes) -> None:
    """It gives a sound trace or an InputError, never anything else."""
    try:
        trace = read(text)
    except InputError as error:
        assert error.path == "a.txt" and error.line
        return
    assert trace.total == sum(map(len, trace.events.values())) and trace.first <= trace.last
    for kind, events in trace.events.items():
        assert len(events) == trace.counts[kind] > 0
        assert all(
            len(column) == len(events) for column in (events.time, events.cpu, events.pid, *events.fields.values())
        )
        assert (np.diff(events.order) > 0).all() and (np.diff(events.time) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_never_break_the_reader(text: bytes) -> None:
    """It gives a trace or an InputError, never anything else."""
    try:
        assert read(text).total > 0
    except InputError:
        pass


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(REAL), max_size=20), st.integers(0, 19))
def test_lines_between_events_change_nothing(some: list[str], at: int) -> None:
    """Whole lines of other text, apart by blank lines, leave every event as it was."""
    base = [line for line in lines("6.12-text-report")[1:60] if line.strip()]
    mixed = [*base[:at], "", "and then it went wrong:", "", *base[at:]]
    assert_same(read("\n".join(mixed)), read("\n".join(base)))
