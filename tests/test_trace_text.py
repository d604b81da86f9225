"""Traces as text: every tool's text gives the same columns, and damaged text costs no more than its damaged lines."""

import contextlib
import io
import lzma
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shootdown.errors import InputError
from shootdown.trace import text_lines
from shootdown.trace.events import Array, Lost, Trace
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


def read(text: str | bytes, **options: Any) -> Trace:
    """The trace in a text."""
    return read_text(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "a.txt", **options)


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

REPORT = (DATA / "short.txt").read_text()
PERF = (DATA / "perf.txt").read_text()


# One buffer, many texts


@pytest.mark.parametrize("form", ["noplugin", "raw", "tracefs", "perf"])
def test_every_text_of_one_buffer_gives_the_same_events(form: str) -> None:
    """The report with and without plugins, raw, tracefs and perf: same counts, same columns wherever they are shown."""
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
    """The whole texts of the corpus: counts, order, tasks and all fields that are shown equal the trace.dat's."""
    text, binary = read(lzma.decompress(path.read_bytes())), read_trace(str(path.parent / "trace.dat"))
    assert not text.warnings
    assert_same(text, binary, microseconds=1)
    assert text.comms == {pid: binary.comms[pid] for pid in text.comms}
    assert [(x.cpu, x.count) for x in text.lost] == [(x.cpu, x.count) for x in binary.lost]


# One line of each event


EVENT_LINES = (DATA / "events.txt").read_text().splitlines()[1:]


@pytest.mark.parametrize(("event", "fields"), list(zip(EVENT_LINES[::2], EVENT_LINES[1::2], strict=True)))
def test_an_event_gives_the_fields_that_its_text_shows(event: str, fields: str) -> None:
    """Each way to write each event, as ftrace and as perf write the rest of the line: these fields and no others."""
    expected = {name: int(value, 0) for name, value in (pair.split("=") for pair in fields.split())}
    system, name, text = event.split(":", 2)
    kind = f"{system}:{name}"
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
    assert trace.warnings == ["a.txt: 5 of 308 lines are not events, first: line 1: 'Hi,'"]


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
    """Old libraries print decimal numbers where newer ones print hexadecimal ones: these are left out, and said."""
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
        b"\r\n".join(
            [some[0], b"\x00\xff\xfe\x80garbage\x01", some[1], some[2].replace(b"tdp", b"\xff\xc3", 1), some[3]]
        )
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
    """Lines made to slow a reader down: one of 64 KiB takes tens of milliseconds at most."""
    begin = time.perf_counter()
    trace = read(REPORT + (line + "\n") * 20)
    assert time.perf_counter() - begin < 4
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
        columns: list[Array] = [events.time, events.cpu, events.pid, *events.fields.values()]
        assert all(len(column) == len(events) for column in columns)
        assert (np.diff(events.order) > 0).all() and (np.diff(events.time) >= 0).all()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_never_break_the_reader(text: bytes) -> None:
    """It gives a trace or an InputError, never anything else."""
    with contextlib.suppress(InputError):
        assert read(text).total > 0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.integers(0, 59))
def test_paragraphs_between_events_change_nothing(prose: str, at: int) -> None:
    """Other text, apart by blank lines, leaves every event as it was."""
    base = lines("6.12-text-report")[1:60]
    assert_same(read("\n".join([*base[:at], "", prose, "", *base[at:]])), BASE)


BASE = read("\n".join(lines("6.12-text-report")[1:60]))
