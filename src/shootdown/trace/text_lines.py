"""Traces as text: what the lines of each tool look like and which fields of an event they show.

Source: kernel/trace/trace_output.c (``trace_print_context``), builtin-script.c of perf, the ``TP_printk`` of
arch/x86/kvm/mmu/mmutrace.h, arch/x86/kvm/trace.h and include/trace/events/kvm.h (Linux 6.1 to 6.18), and plugin_kvm.c
of libtraceevent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .events import Array

HOPELESS = 200_000
"""Lines without an event after which a file is given up."""

# Heads: the task, its thread and process, the CPU, the time (seconds and their fraction, or ticks), the event and its
# text. perf shows "process/thread", the others the thread and perhaps "(process)".
_SECONDS = r"([0-8]?\d{1,9})\.(\d{1,9})"
_TASK = r"(\S.{0,99}?)-(\d{1,7})\s+(?:\(\s*(\d{1,7}|-+)\)\s+)?"
_FLAGS = r"(?:[.A-Za-z][.\w]{4}\s*|[.A-Za-z][.\w]{3}\s+)"
_EVENT = r":\s+(?:\(\+\d+\)\s+)?([A-Za-z_]\w*):\s*(.*)"
FTRACE = re.compile(rf"{_TASK}\[(\d{{1,4}})\]\s*{_FLAGS}?(?:{_SECONDS}|(\d{{1,18}})){_EVENT}", re.S)
LATENCY = re.compile(rf"{_TASK}(\d{{1,4}}){_FLAGS}(?:{_SECONDS}|(\d{{1,15}}us)).?{_EVENT}", re.S)
PERF = re.compile(
    r"(?:(\S.{0,99}?)\s+(-1|\d{1,7})(?:/(-1|\d{1,7}))?\s+)?(?:\[(\d{1,4})\]\s+)?(?:[A-Z.]{1,8}\s+)?"
    rf"{_SECONDS}(\0)?:\s+(?:\d+\s+)?(?!PERF_RECORD)((?:[\w-]+:)?[A-Za-z_][\w-]*):\s*(.*)",
    re.S,
)
HEADS = (FTRACE, PERF, LATENCY)
PERF_PLACE = re.compile(r"\s+[0-9a-f]{8,16}(?:\s+\S+)?(?:\s+\(\S.*\))?$")
"""What ``perf script -F +ip,+sym`` puts behind an event's text."""

LOST = re.compile(r"(?:CPU\s?:?\s?(\d{1,4})\s{0,4})?\[(?:LOST\s)?(?:(\d{1,18})\s)?EVENTS(?:\sDROPPED)?\]")
PERF_RECORD = re.compile(r"\[(\d{1,4})\]\s+[\d.]+:\s+PERF_RECORD_\w+(?:\s+lost\s+(\d{1,18}))?")
NO_EVENT = re.compile(
    r"(?:[^\s:]+: )?(?:#|cpus=\d+$|version = \d+$|CPU \d+ is empty|CPU:\d+ \[SUBBUFFER START\]|\[vmlinux|"
    r"=> |<stack trace ?>|[0-9a-f]{1,16} \S.* \([^() ]+\)$)"
)
"""Headers of the tools, and call chains below an event."""
CPUS = re.compile(r"(?:\bcpus=|#P:|# nrcpus (?:online|avail) : )(\d{1,4})\b")
KERNEL = re.compile(r"(?:# os release : |latency trace v\S+ on )(\S+)")
TOOL = re.compile(r"# tracer:|\bcpus=")
WRITTEN = re.compile(r"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})")

Read = Callable[[Sequence[str]], Array]
Match = Callable[[str], "re.Match[str] | None"]


@dataclass(slots=True, frozen=True)
class Form:
    """One way to write an event's text: ``match`` gives a group for each of ``fields``, which ``read`` as columns.

    names    all that a probe's line shows, also what is no number
    bare     places in ``fields`` of hexadecimal numbers that ``trace-cmd report -R`` of old printed as decimal ones
    """

    match: Match
    fields: tuple[tuple[str, Read], ...]
    names: tuple[str, ...] = ()
    bare: tuple[int, ...] = ()


def _hexadecimal(column: Sequence[str]) -> list[int]:
    return [int(v, 16) for v in column]


def _decimal(column: Sequence[str]) -> list[int]:
    return list(map(int, column))


def _words(values: dict[str, int]) -> tuple[str, Callable[[Sequence[str]], list[int]]]:
    longest_first = sorted(values, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)), lambda column: [values[v] for v in column]


def _each(read: Callable[[str], int]) -> Callable[[Sequence[str]], list[int]]:
    """Read each different text once: such columns hold few."""

    def column_of(column: Sequence[str]) -> list[int]:
        values = {v: read(v) for v in set(column)}
        return [values[v] for v in column]

    return column_of


_FAULT_BITS = {"P": 0, "W": 1, "U": 2, "RSVD": 3, "F": 4, "PK": 5, "SS": 6, "SGX": 15}


def _fault_flags(text: str) -> int:
    """The page-fault error code that "P|W|U|0x100000000" means."""
    flags = (part for part in text.split("|") if part)
    return sum(1 << _FAULT_BITS[f] if f in _FAULT_BITS else int(f, 16) for f in set(flags)) & (1 << 64) - 1


def _role(text: str) -> int:
    """``union kvm_mmu_page_role`` as far as the text shows it; bits that it does not show are 0.

    The kernel writes "l4 8-byte q0 direct wux invalid nxe !ad" (no cr0_wp, smm, guest_mode), the plugin
    "4 q0 direct wux invalid !pae nxe wp smep smap smm" (no ad_disabled, guest_mode).
    """
    words = text.split()
    access = next(w for w in words if len(w) == 3 and w[0] in "w-" and w[1] in "u-" and w[2] in "x-")
    quadrant = next(int(w[1:]) for w in words if w[0] == "q")
    bits = int(words[0].lstrip("l")) | quadrant << 5 | sum((access[i] != "-") << b for i, b in enumerate((9, 10, 8)))
    shown = {"4-byte": 4, "pae": 4, "direct": 7, "invalid": 11, "nxe": 12, "wp": 13, "smep": 14, "smap": 15, "!ad": 16}
    return bits | sum(1 << bit for word, bit in shown.items() if word in words) | ("smm" in words) << 24


# How a field is written: a regular expression of its text, which admits no number that its type cannot hold, and how a
# column of such texts is read.
_ROLE_END = r"(?: direct)? [w-][u-][x-](?: invalid)?"
READINGS: dict[str, tuple[str, Callable[[Sequence[str]], list[int]]]] = {
    "x64": (r"(?:0x)?[0-9a-f]{1,16}", _hexadecimal),
    "x32": (r"(?:0x)?[0-9a-f]{1,8}", _hexadecimal),
    "u64": (r"\d{1,19}", _decimal),
    "u32": (r"[0-3]?\d{1,9}|4[01]\d{8}|429496729[0-5]", _decimal),
    "s32": (r"-?[01]?\d{1,9}", _decimal),
    "u8": (r"[01]?\d?\d|2[0-4]\d|25[0-5]", _decimal),
    "s8": (r"-?\d?\d|-?1[01]\d", _decimal),
    "bool": ("[01]", _decimal),
    "pointer": (r"0x[0-9a-f]{1,16}|\(nil\)|\(null\)", _each(lambda v: 0 if v[0] == "(" else int(v, 16))),
    "negated": (r"[01]?\d{1,9}", _each(lambda v: -int(v))),
    "flags": (r"(?:(?:P|W|U|RSVD|F|PK|SS|SGX|0x[0-9a-f]{1,16}|0)(?:\||\b))*", _each(_fault_flags)),
    "role": (r"l(?:1[0-5]|\d) [48]-byte q[0-3]" + _ROLE_END + r" !?nxe !?ad", _each(_role)),
    "plugin_role": (
        r"(?:1[0-5]|\d) q[0-3]" + _ROLE_END + r" !?pae !?nxe !?wp(?: smep)?(?: smap)?(?: smm)?",
        _each(_role),
    ),
    "sync": _words({"sync": 0, "unsync": 1}),
    "created": _words({"existing": 0, "new": 1}),
    "r": _words({"-": 0, "r": 1}),
    "x": _words({"-": 0, "x": 1}),
    "u": _words({"": -1, "-": 0, "u": 1}),
    "mmio": _words({"unsatisfied-read": 0, "read": 1, "write": 2}),
    "entering": _words({"leaving": 0, "entering": 1}),
    "written": _words({"Read": 0, "Write": 1}),
    "matched": _words({"GVA": 0, "GPA": 1}),
}
DTYPES = {"x64": "u8", "u64": "u8", "x32": "u4", "u32": "u4", "s32": "i4", "u8": "u1", "bool": "u1", "s8": "i1"}

# The fields of each event in the order of its format description, as ``trace-cmd report -R`` writes them ("gfn=180";
# what stands behind ";" only other text has), then the other ways to write it. These are regular expressions: {field}
# is the field, {field:reading} the field in another spelling, a space any white space. A form lacks what is not shown.
_PAGE = "mmu_valid_gen u8, gfn u64, role u32, root_count u32, unsync bool"
_KERNEL_PAGE = "sp gen {mmu_valid_gen} gfn {gfn:x64} {role:role} root {root_count} {unsync:sync}"
_PLUGIN_PAGE = "{role:plugin_role} root {root_count} {unsync:sync}"
_FAST = (
    "vcpu {vcpu_id} gva {cr2_or_gpa} error_code {error_code:flags} ?sptep %s "
    "old {old_spte} new {new_spte} spurious {spurious} fixed {fixed}"
)
_EXIT = (
    "vcpu {vcpu_id} reason .{1,80}? rip {guest_rip} info1 {info1} info2 {info2} "
    "intr_info {intr_info} error_code {error_code}"
)
EVENTS: dict[str, tuple[str, ...]] = {
    "kvmmmu:kvm_tdp_mmu_spte_changed": (
        "gfn x64, old_spte x64, new_spte x64, level u8, as_id u8",
        "as id {as_id} gfn {gfn} level {level} old_spte {old_spte} new_spte {new_spte}",
    ),
    # The text of tracefs has sptep hashed, which is not the value. Of ``ret``, which differs by kernel, text shows two
    # facts.
    "kvmmmu:fast_page_fault": (
        "vcpu_id s32, cr2_or_gpa x64, error_code u64, sptep x64, old_spte x64, new_spte x64, ret s32; "
        "spurious bool, fixed bool",
        _FAST % "{sptep:pointer}",
        _FAST % r"(?:[0-9a-f]{8,16}|\(_+ptrval_+\))",
    ),
    "kvmmmu:kvm_mmu_get_page": (
        _PAGE + ", created bool",
        _KERNEL_PAGE + " {created:created}",
        "{created:created} sp gfn {gfn:x64} " + _PLUGIN_PAGE,
    ),
    "kvmmmu:kvm_mmu_prepare_zap_page": (_PAGE, _KERNEL_PAGE, _PLUGIN_PAGE),
    "kvmmmu:kvm_mmu_sync_page": (_PAGE, _KERNEL_PAGE, _PLUGIN_PAGE),
    "kvmmmu:kvm_mmu_unsync_page": (_PAGE, _KERNEL_PAGE, _PLUGIN_PAGE),
    "kvmmmu:kvm_mmu_spte_requested": ("gfn x64, pfn x64, level u8", "gfn {gfn} pfn {pfn} level {level}"),
    "kvmmmu:kvm_mmu_set_spte": (
        "gfn x64, spte x64, sptep x64, level u8, r bool, x bool, u s8",
        r"gfn {gfn} spte {spte} \({r:r}[w-]{x:x}{u:u}\) level {level} at {sptep}",
    ),
    "kvmmmu:kvm_mmu_split_huge_page": (
        "gfn x64, spte x64, level s32, errno s32",
        "gfn {gfn} spte {spte} level {level} errno {errno}",
    ),
    "kvmmmu:kvm_mmu_zap_all_fast": (
        "mmu_valid_gen u8, mmu_used_pages x32",
        "kvm-mmu-valid-gen {mmu_valid_gen} used_pages {mmu_used_pages}",
    ),
    "kvmmmu:mark_mmio_spte": (
        "sptep x64, gfn x64, access x32, gen x32",
        "sptep:{sptep:pointer} gfn {gfn} access {access} gen {gen}",
        r"sptep:(?:[0-9a-f]{8,16}|\(_+ptrval_+\)) gfn {gfn} access {access} gen {gen}",
    ),
    "kvmmmu:check_mmio_spte": (
        "kvm_gen x32, spte_gen x32, spte x64",
        "spte {spte} kvm_gen {kvm_gen} spte-gen {spte_gen} valid [01]",
    ),
    "kvmmmu:handle_mmio_page_fault": ("addr x64, gfn x64, access x32", "addr:{addr} gfn {gfn} access {access}"),
    "kvmmmu:kvm_mmu_pagetable_walk": ("addr x64, pferr x32", r"addr {addr} pferr {pferr}(?: [\w|]*)?"),
    "kvmmmu:kvm_mmu_paging_element": ("pte x64, level u32", "pte {pte} level {level}"),
    "kvmmmu:kvm_mmu_set_accessed_bit": ("gpa x64", "gpa {gpa}"),
    "kvmmmu:kvm_mmu_set_dirty_bit": ("gpa x64", "gpa {gpa}"),
    "kvmmmu:kvm_mmu_walker_error": ("pferr x32", r"pferr {pferr}(?: [\w|]*)?"),
    "kvm:kvm_page_fault": (
        "vcpu_id u32, guest_rip x64, fault_address x64, error_code x64",
        "vcpu {vcpu_id} rip {guest_rip} address {fault_address} error_code {error_code}",
    ),
    # kvm_entry without a comma and kvm_exit without a vCPU are the plugin's. Newer kernels have more fields.
    "kvm:kvm_entry": (
        "vcpu_id u32, rip x64, immediate_exit bool; intr_info x32, error_code x32",
        r"vcpu {vcpu_id},? rip {rip}(?: ?\[immediate exit\])?",
        r"vcpu {vcpu_id}, rip {rip} intr_info {intr_info} error_code {error_code}(?: ?\[immediate exit\])?",
        "vcpu_id={vcpu_id} rip={rip} intr_info={intr_info} error_code={error_code} immediate_exit={immediate_exit}",
    ),
    "kvm:kvm_exit": (
        "exit_reason u32, guest_rip x64, isa u32, info1 x64, info2 x64, intr_info x32, error_code x32, vcpu_id u32; "
        "requests x64",
        _EXIT,
        _EXIT + " requests {requests}",
        "reason .{1,80}? rip {guest_rip} info {info1} {info2}",
        "exit_reason={exit_reason} guest_rip={guest_rip} isa={isa} info1={info1} info2={info2} intr_info={intr_info} "
        "error_code={error_code} vcpu_id={vcpu_id} requests={requests}",
    ),
    "kvm:kvm_unmap_hva_range": ("start x64, end x64", "mmu notifier unmap range: {start} -- {end}"),
    "kvm:kvm_age_hva": ("start x64, end x64", "mmu notifier age hva: {start} -- {end}"),
    "kvm:kvm_set_spte_hva": ("hva x64", "mmu notifier set pte hva: {hva}"),
    "kvm:kvm_test_age_hva": ("hva x64", "mmu notifier test age hva: {hva}"),
    "kvm:kvm_dirty_ring_push": (
        "index s32, dirty_index x32, reset_index x32, slot u32, offset x64",
        r"ring {index}: dirty {dirty_index} reset {reset_index} slot {slot} offset {offset} \(used \d{1,10}\)",
    ),
    "kvm:kvm_dirty_ring_reset": (
        "index s32, dirty_index x32, reset_index x32",
        r"ring {index}: dirty {dirty_index} reset {reset_index} \(used \d{1,10}\)",
    ),
    "kvm:kvm_dirty_ring_exit": ("vcpu_id s32", "vcpu {vcpu_id}"),
    "kvm:kvm_smm_transition": (
        "vcpu_id u32, smbase x64, entering bool",
        "vcpu {vcpu_id}: {entering:entering} SMM, smbase {smbase}",
    ),
    "kvm:kvm_mmio": ("type u32, len u32, gpa x64, val x64", "mmio {type:mmio} len {len} gpa {gpa} val {val}"),
    # A reason is shown only without an error, and an error only where there is one.
    "kvm:kvm_userspace_exit": (
        "reason u32, errno s32",
        r"reason (?:KVM_EXIT_\w+|0x[0-9a-f]+|\d+) \({reason}\)",
        r"reason (?:restart|error) \({errno:negated}\)",
    ),
    "kvm:vcpu_match_mmio": (
        "gva x64, gpa x64, write bool, gpa_match bool",
        "gva {gva} gpa {gpa} {write:written} {gpa_match:matched}",
    ),
}
# Tracepoints of KVM whose text is not taken apart: ftrace's text does not show the system, the name alone tells it.
COUNTED = """
    ack_irq apic apic_accept_irq apic_ipi apicv_accept_irq apicv_inhibit_changed async_pf_completed
    async_pf_not_present async_pf_ready async_pf_repeated_fault avic_doorbell avic_ga_log avic_incomplete_ipi
    avic_kick_vcpu_slowpath avic_unaccelerated_access cpuid cr emulate_insn enter_smm eoi fast_mmio fpu halt_poll_ns
    hv_flush_tlb hv_flush_tlb_ex hv_hypercall hv_hypercall_done hv_notify_acked_sint hv_send_ipi hv_send_ipi_ex
    hv_synic_send_eoi hv_synic_set_irq hv_synic_set_msr hv_timer_state hypercall inj_exception inj_virq invlpga
    ioapic_delayed_eoi_inj ioapic_set_irq msi_set_irq msr nested_intercepts nested_intr_vmexit nested_vmenter
    nested_vmenter_failed nested_vmexit nested_vmexit_inject nested_vmrun pi_irte_update pic_set_irq pio
    ple_window_update pml_full pv_eoi pv_tlb_flush pvclock_update rmp_fault set_irq skinit track_tsc
    try_async_get_page update_master_clock vcpu_wakeup vmgexit_enter vmgexit_exit vmgexit_msr_protocol_enter
    vmgexit_msr_protocol_exit wait_lapic_expire write_tsc_offset xen_hypercall
""".split()
KINDS = {kind.partition(":")[2]: kind for kind in (*EVENTS, *(f"kvm:kvm_{name}" for name in COUNTED))}
"""System and name of a tracepoint by its name."""

# Probes, and events that no table knows: name=value, numbers as 0x180 or as decimals. Where the kernel knows symbols
# ("kvm_mmu_map+0x4/0x1d0 [kvm]") the place is not shown as a number.
_NUMBER = r"0x[0-9a-f]{1,16}|-?1?\d{1,19}"
_NAME = r"([A-Za-z_]\w*)"
_VALUE = r'("[^"]*"|\{[^{}]*\}|\([a-z]+\)|[^\s="{}]+(?: \[[\w-]+\])?)'
_PLACE = r"[^()<>\s]+(?: \[[\w-]+\])?"
_PROBE = re.compile(rf"\({_PLACE}(?: <- {_PLACE})?\)((?:\s+{_NAME}={_VALUE})*)\s*")
_PROBE_RAW = re.compile(rf"(?:\[FAILED TO PARSE\]\s+)?((?:{_NAME}={_VALUE}(?:\s+|$))+)")
_PAIR = re.compile(f"{_NAME}={_VALUE}")
_LOOSE = re.compile(rf"\b{_NAME}=({_NUMBER})(?![^\s,;)\]}}])")
_IP = r"([0-9a-f]{8,16})"
_PLACES = (
    (re.compile(rf"\({_IP}\)"), ("__probe_ip",)),
    (re.compile(rf"\({_IP} <- {_IP}\)"), ("__probe_func", "__probe_ret_ip")),
    (re.compile(rf"\({_PLACE}(?: <- {_PLACE})?\)"), ()),
)
_PAIRS_MAX = 64


def _read_u64(column: Sequence[str]) -> Array:
    return np.array([int(v, 16) for v in column], np.uint64)


def _read_number(column: Sequence[str]) -> Array:
    """uint64 if written as hexadecimal or too large, else int64."""
    values = [int(v, 16) if v[1:2] == "x" else int(v) for v in column]
    is_hexadecimal = any(v[1:2] == "x" for v in column)
    signed = min(values) < 0 or (not is_hexadecimal and max(values) < 1 << 63)
    return np.array([v & (1 << 64) - 1 for v in values], np.uint64).view(np.int64 if signed else np.uint64)


def _reader(reading: str, dtype: str) -> Read:
    read = READINGS[reading][1]
    return lambda column: np.array(read(column), dtype)


@lru_cache(256)
def forms(kind: str) -> tuple[Form, ...]:
    """The ways in which that event is written, the most usual one first; none if the table does not have it."""
    if kind not in EVENTS:
        return ()
    spec, *texts = EVENTS[kind]
    written, _, more = spec.partition(";")
    types = dict(one.split() for one in f"{written},{more}".split(",") if one.strip())
    raw = r"(?:\[FAILED TO PARSE\] )?" + " ".join(
        f"{{{n}:raw}}" for n in (one.split()[0] for one in written.split(","))
    )
    found = []
    for text in (*texts, raw):
        fields: list[tuple[str, Read]] = []
        bare: list[int] = []

        def put(place: re.Match[str], fields: list[tuple[str, Read]] = fields, bare: list[int] = bare) -> str:
            name, reading = place[1], place[2] or types[place[1]]
            prefix = ""
            if reading == "raw":
                reading, prefix = types[name], f"{name}="
                if reading.startswith("x"):
                    bare.append(len(fields))
            fields.append((name, _reader(reading, DTYPES[types[name]])))
            return f"{prefix}({READINGS[reading][0]})"

        pattern = re.sub(r"\{([a-z_]\w*)(?::(\w+))?\}", put, text)
        found.append(
            Form(
                re.compile(pattern.replace(" ?", r"\s*").replace(" ", r"\s+")).fullmatch, tuple(fields), (), tuple(bare)
            )
        )
    return tuple(found)


def learn_probe(text: str) -> Form | None:
    """The form of a probe's text, from the first one seen; None if it is not the whole text of a probe."""
    if whole := _PROBE.fullmatch(text):
        place, names = next((p, n) for p, n in _PLACES if p.match(text))
        pattern, fields = place.pattern, [(n, _read_u64) for n in names]
    elif text.startswith(("__probe_", "[")) and (whole := _PROBE_RAW.fullmatch(text)):
        pattern, fields = r"(?:\[FAILED TO PARSE\]\s+)?", []
    else:
        return None
    pairs = _PAIR.findall(whole[1])
    if len(pairs) > _PAIRS_MAX:
        return None
    between = r"\s+" if fields or pattern.startswith(r"\(") else ""
    for name, value in pairs:
        if name.startswith("__probe_"):
            pattern += rf"{between}{name}={_IP}"
            fields.append((name, _read_u64))
        elif re.fullmatch(_NUMBER, value):
            pattern += rf"{between}{name}=({_NUMBER})"
            fields.append((name, _read_number))
        else:
            pattern += rf"{between}{name}={_VALUE.replace('(', '(?:', 1)}"
        between = r"\s+"
    if len({n for n, _ in fields}) != len(fields):
        return None
    names = tuple(name for name, _ in pairs if not name.startswith("__probe_"))
    return Form(re.compile(rf"{pattern}\s*").fullmatch, tuple(fields), names)


def learn_loose(text: str) -> Form:
    """The form of an unknown event's text: the numbers in it that are written as name=value."""
    names = tuple(dict.fromkeys(name for name, _ in _LOOSE.findall(text)))[:_PAIRS_MAX]
    # Atomic groups: what a part has passed over is never tried again, so that matching takes linear time.
    pattern = "".join(rf"(?>.*?\b{name}=({_NUMBER})(?![^\s,;)\]}}]))" for name in names)
    return Form(re.compile(rf"{pattern}.*", re.S).fullmatch, tuple((n, _read_number) for n in names), names)
