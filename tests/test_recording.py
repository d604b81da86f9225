"""What ``shootdown record`` prints defines what the analysis reads, and only what was verified for the kernel."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from shootdown.cli import record
from shootdown.errors import InputError
from shootdown.trace.codes import KINDS
from shootdown.trace.recording import (
    EVENTS,
    NOT_RECORDED,
    PROBES,
    TRACEFS,
    TRIED,
    Definition,
    Recipe,
    Vendor,
    recipe,
    script,
)
from shootdown.trace.replay.record import NEEDED
from tests.structure import ROOT

TRACES = Path(os.environ.get("SHOOTDOWN_TRACES") or ROOT.parent / "shared" / "traces")
DOCUMENT = ROOT / "docs" / "recording.md"
HOSTS: list[tuple[str, Vendor]] = [(kernel, vendor) for kernel in TRIED for vendor in ("amd", "intel", None)]
SHARED_WITH_USERS = {"__kvm_set_memory_region", "kvm_get_dirty_log_protect", "kvm_clear_dirty_log_protect"}


def arguments(text: str) -> dict[str, str]:
    """Fetch arguments of a kprobe definition by name."""
    return dict(word.split("=", 1) for word in text.split()[2:])


def fields(definition: Definition) -> set[str]:
    """What the analysis reads of a kprobe, and what the replay cannot do without."""
    name = "kprobes:" + definition.name
    return {*KINDS[name][1], *NEEDED.get(name, ())}


def recordings() -> list[tuple[str, dict[str, Any]]]:
    """Name and about.json of every shared recording with kprobes; skips the test if there are none."""
    found = [(path.parent.name, json.loads(path.read_text())) for path in sorted(TRACES.glob("*/about.json"))]
    if not found:
        pytest.skip(f"no recordings in {TRACES}; set SHOOTDOWN_TRACES")
    return [(name, about) for name, about in found if about["kprobes"]]


def generation(about: dict[str, Any]) -> str:
    """6.1 or 6.12."""
    return ".".join(about["kernel"].split(".")[:2])


def test_every_kind_of_the_analysis_is_recorded_or_left_out_for_a_reason() -> None:
    """No event that the analysis reads is forgotten by the recipe."""
    recorded = {event.name for event in EVENTS}
    for kernel in (*TRIED, "6.13"):
        recorded |= {"kprobes:" + definition.name for definition in recipe(kernel, None).probes}
    assert set(KINDS) <= recorded | set(NOT_RECORDED)
    assert not recorded & set(NOT_RECORDED)
    assert recorded <= set(KINDS)


@pytest.mark.parametrize(("kernel", "vendor"), HOSTS)
def test_every_argument_of_the_analysis_is_fetched_under_its_name(kernel: str, vendor: Vendor) -> None:
    """On a tried kernel each probe fetches exactly what the analysis reads of it."""
    for definition in recipe(kernel, vendor).probes:
        assert set(arguments(definition.text)) == fields(definition), definition.name
        assert definition.left_out == ()


@given(st.tuples(st.just(5), st.integers(10, 30)) | st.tuples(st.integers(6, 9), st.integers(0, 40)))
def test_other_kernels_get_no_unverified_offset(version: tuple[int, int]) -> None:
    """Off the tried kernels no argument lies inside a kernel struct, and what is left out is named."""
    kernel = f"{version[0]}.{version[1]}"
    found = recipe(kernel, None)
    if kernel in TRIED:
        return
    assert found.tried == ""
    assert "Not tried" in found.notes[0]
    assert "left out" in found.notes[1]
    for definition in found.probes:
        fetched = arguments(definition.text)
        assert set(fetched) | set(definition.left_out) == fields(definition)
        for name, fetch in fetched.items():
            inside = "(" in fetch and definition.probe.name not in SHARED_WITH_USERS
            assert not inside or (name, fetch) == ("kvm", "+0($arg1):x64"), definition.text


@given(st.integers(5, 9), st.integers(10, 40))
def test_a_hit_never_lacks_what_makes_it_right(major: int, minor: int) -> None:
    """A freed table without its place looks like an error, so on other kernels that probe is left out and named."""
    found = recipe(f"{major}.{minor}", "amd")
    names = {definition.name for definition in found.probes}
    assert ("tdp_mmu_free_sp_rcu_callback" in names) == bool(found.tried)
    assert found.tried or any("tdp_mmu_free_sp_rcu_callback" in note for note in found.notes)


def test_every_reason_is_given() -> None:
    """Each event, probe and omission says in a short sentence why."""
    reasons = [*(event.reason for event in EVENTS), *(probe.reason for probe in PROBES), *NOT_RECORDED.values()]
    for reason in reasons:
        assert 8 <= len(reason) <= 100, reason
        assert "'" not in reason.replace("'s ", "").replace("s' ", ""), reason


def test_musts_are_in_every_recipe() -> None:
    """Changes and flushes, without which there is no answer, are recorded on every kernel."""
    musts = {event.name for event in EVENTS if event.need == "must"}
    musts |= {probe.name for probe in PROBES if probe.need == "must"}
    assert musts == {"kvmmmu:kvm_tdp_mmu_spte_changed", "kvm_flush_remote_tlbs"}
    for kernel in (*TRIED, "5.10", "5.15", "6.6.1", "6.13", "7.0"):
        found = recipe(kernel, "intel")
        assert musts <= {event.name for event in found.events} | {definition.name for definition in found.probes}


def test_recipes_equal_what_the_recordings_were_made_with() -> None:
    """Probe by probe and argument by argument, the recipe is what 6.1 and 6.12 accepted and recorded."""
    compared = 0
    for name, about in recordings():
        made = {text.split()[0].partition("/")[2]: text for text in about["kprobes"]}
        if "kvm_flush_remote_tlbs" not in made:
            continue
        for definition in recipe(about["kernel"], "amd").probes:
            assert definition.name in made, (name, definition.name)
            assert made[definition.name].split()[:2] == definition.text.split()[:2]
            before = arguments(made[definition.name])
            assert arguments(definition.text).items() <= before.items(), (name, definition.text)
            compared += 1
        for event in recipe(about["kernel"], "amd").events:
            system, _, _ = event.name.partition(":")
            words = about["record_command"].split()
            lean = event.per_exit and event.name not in words
            assert system == "kvmmmu" or event.name in words or lean, (name, event.name)
    assert compared


def test_refused_probes_are_those_that_were_refused() -> None:
    """A probe is left out on a tried kernel only if that kernel refused it, or has no such function."""
    for name, about in recordings():
        made = {text.split()[0].partition("/")[2] for text in about["kprobes"]}
        for probe in PROBES:
            if probe.vendor != "intel":
                assert (probe.name in made) == (generation(about) not in probe.refused), (name, probe.name)
            assert probe.name not in about["kprobes_refused"] or generation(about) in probe.refused


def test_probes_without_a_hit_say_why() -> None:
    """Whatever fired in no recording of a kernel has a sentence on when it does."""
    hits: dict[str, set[str]] = {kernel: set() for kernel in TRIED}
    for _, about in recordings():
        hits[generation(about)] |= set(about["events"])
    for kernel, fired in hits.items():
        silent = {definition.probe for definition in recipe(kernel, None).probes if definition.name not in fired}
        assert [probe.name for probe in silent if not probe.quiet] == []


@pytest.mark.parametrize(
    "kernel",
    [
        "",
        "6",
        "6.",
        "x",
        "6.x",
        "linux-6.1",
        "6.1 ",
        "6.1\n",
        "6.1; reboot",
        "6.1-$(x)",
        "\u0666.\u0661",
        "6.1x",
        "-1.2",
    ],
)
def test_garbage_is_no_kernel(kernel: str) -> None:
    """What is no release, or could mean something to a shell, is refused with advice."""
    with pytest.raises(InputError, match="is not a kernel release; give one as uname -r"):
        recipe(kernel, "amd")


@pytest.mark.parametrize("kernel", ["5.9", "5.9.16-generic", "4.19.0", "3.10.0-1160.el7.x86_64", "0.1"])
def test_kernels_without_the_tdp_mmu_are_refused(kernel: str) -> None:
    """Before 5.10 there is nothing to record."""
    with pytest.raises(InputError, match="no TDP MMU"):
        recipe(kernel, "amd")


@pytest.mark.parametrize(
    ("kernel", "tried"),
    [
        *((kernel, "6.1") for kernel in ("6.1", "6.1.0-56-amd64", "6.1.192", "6.1-rc1")),
        *((kernel, "6.12") for kernel in ("6.12", "6.12.x", "6.12.117+deb12-amd64", "6.12~rc3")),
        *((kernel, "") for kernel in ("6.10.1", "6.2", "6.11.0-26-generic", "5.15.0-91-generic", "6.13", "7.1.0-rc1")),
    ],
)
def test_releases_are_told_apart(kernel: str, tried: str) -> None:
    """Only 6.1 and 6.12, however they are spelled, count as tried."""
    assert recipe(kernel, None).tried == tried


def test_vendors_get_their_own_probes() -> None:
    """AMD gets svm_ probes, Intel vmx_ ones that are said to be untried, an unknown CPU both."""
    names = {
        vendor: " ".join(d.name for d in recipe("6.12", vendor).probes) for kernel, vendor in HOSTS if kernel == "6.12"
    }
    assert "svm_" in names["amd"] and "vmx_" not in names["amd"]
    assert "vmx_" in names["intel"] and "svm_" not in names["intel"]
    assert "vmx_" in names[None] and "svm_" in names[None]
    assert "never tried" in script(recipe("6.12", "intel"))


def run(text: str, folder: Path) -> None:
    """Run a printed script on a folder that stands for tracefs, with a trace-cmd that notes its arguments."""
    tracefs, programs = folder / "tracing", folder / "programs"
    tracefs.mkdir()
    programs.mkdir()
    (tracefs / "kprobe_profile").write_text("  kvm_flush_remote_tlbs  3  1\n")
    stub = programs / "trace-cmd"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    stub.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    text = text.replace(TRACEFS, str(tracefs))
    subprocess.run(["sh", "-eu"], input=text, text=True, cwd=folder, env={"PATH": path}, check=True)


@pytest.mark.parametrize(("kernel", "vendor"), [*HOSTS, ("6.18.2", None)])
def test_the_printed_script_does_what_the_recipe_says(kernel: str, vendor: Vendor, tmp_path: Path) -> None:
    """Run as printed, the lines define these probes and no others, record, and remove just them."""
    found = recipe(kernel, vendor)
    run(script(found), tmp_path)
    lines = (tmp_path / "tracing" / "kprobe_events").read_text().splitlines()
    assert lines[: len(found.probes)] == [definition.text for definition in found.probes]
    assert lines[len(found.probes) :] == ["-:kprobes/" + definition.name for definition in found.probes]
    given_ = (tmp_path / "arguments").read_text().split()
    assert given_[:7] == ["record", "-C", "local", "-b", "4096", "-e", "kvmmmu"]
    assert given_[-3:] == ["-e", "kprobes", "COMMAND"]
    assert {word for word in given_ if word.startswith("kvm:")} == {e.name for e in found.events if e.name[3] == ":"}
    assert (tmp_path / "kprobe_profile.txt").read_text() == "  kvm_flush_remote_tlbs  3  1\n"


@pytest.mark.parametrize("found", [*(recipe(*host) for host in HOSTS), recipe("6.18.2", None)])
def test_the_output_fits_80_columns(found: Recipe) -> None:
    """Every line of the printed script fits a terminal."""
    assert [line for line in script(found).splitlines() if len(line) > 80] == []


def test_print_is_the_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By default the command prints the script for this host's kernel and vendor."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: AuthenticAMD\n")
    monkeypatch.setattr(record, "CPUINFO", cpuinfo)
    result = CliRunner().invoke(record.command, ["--print", "--kernel", "6.12"])
    assert result.output == script(recipe("6.12", "intel"))
    result = CliRunner().invoke(record.command, ["--print", "--kernel", "6.12", "--vendor", "amd"])
    assert result.output == script(recipe("6.12", "amd"))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1.0-56-amd64", "#1", "x86_64")))
    result = CliRunner().invoke(record.command, ["--print"])
    assert result.output == script(recipe("6.1.0-56-amd64", "intel"))


@pytest.mark.parametrize(
    ("text", "vendor"),
    [("vendor_id\t: AuthenticAMD\n", "amd"), ("vendor_id: HygonGenuine\n", "amd"), ("CPU implementer : 0x41\n", None),
     ("vendor_id\t: CentaurHauls\n", None), (None, None)],
)  # fmt: skip
def test_the_vendor_is_read_or_unknown(
    text: str | None, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A CPU that is neither AMD's nor Intel's, or a host without /proc/cpuinfo, has no vendor."""
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(record, "CPUINFO", tmp_path / "cpuinfo")
    assert record.this_vendor() == vendor


def test_without_print_the_command_says_what_to_do() -> None:
    """Nothing is run by accident: without --print there is one line of advice."""
    with pytest.raises(InputError, match="use --print"):
        record.command.main([], standalone_mode=False)


def test_json_holds_the_same() -> None:
    """With --json, events, probes with what is left out, notes and commands are there for programs."""
    result = CliRunner().invoke(record.command, ["--print", "--json", "--kernel", "6.18.2", "--vendor", "amd"])
    found, body = recipe("6.18.2", "amd"), json.loads(result.output)
    assert body["tried"] is None
    assert body["notes"] == list(found.notes)
    assert [probe["definition"] for probe in body["probes"]] == [definition.text for definition in found.probes]
    assert [event["name"] for event in body["events"]] == [event.name for event in found.events]
    assert body["commands"]["record"] == found.record()
    mapped = next(probe for probe in body["probes"] if probe["name"] == "kvm_tdp_mmu_map")
    assert mapped["left_out"] == ["vcpu_id", "gfn"]


def test_the_document_shows_what_is_printed() -> None:
    """docs/recording.md holds, to the letter, the script for 6.12 on AMD."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert script(recipe("6.12", "amd")) in blocks


def test_the_document_names_every_silent_or_refused_probe() -> None:
    """Whoever misses a probe, or its hits, finds it in docs/recording.md."""
    text = DOCUMENT.read_text()
    names = [probe.name for probe in PROBES if probe.quiet or probe.refused]
    names += [name.partition(":")[2] for name in NOT_RECORDED]
    assert [name for name in names if f"`{name}`" not in text] == []
