"""The program as a user meets it: text that fits a mail, JSON that keeps its schema, errors of one line, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import shootdown
from tests.corpus import SAMPLE, carried, get, name

ROOT = Path(__file__).parent.parent


def run(*arguments: str, stdin: bytes | None = None, encoding: str = "") -> subprocess.CompletedProcess[bytes]:
    """``shootdown ARGUMENTS``, as installed here."""
    return subprocess.run(
        [sys.executable, "-m", "shootdown", *arguments], input=stdin, capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip


def schemas() -> dict[str, dict[str, object]]:
    """The JSON Schemas that docs/json.md states, by command."""
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "json.md").read_text(), re.S)
    return {schema["$id"]: schema for schema in map(json.loads, blocks)}


def document(*arguments: str) -> dict[str, object]:
    """What a command prints with --json."""
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr.decode()
    loaded: dict[str, object] = json.loads(result.stdout)
    return loaded


@pytest.mark.parametrize("path", carried(), ids=name)
def test_compare_fits_80_columns_and_its_json_keeps_its_schema(path: Path) -> None:
    """For every recording, ``compare --all`` prints plain lines of at most 80 columns, and JSON as documented."""
    result = run("compare", "--all", str(path))
    assert result.returncode == 0 and result.stderr == b""
    text = result.stdout.decode("ascii")
    assert [line for line in text.splitlines() if len(line) > 80] == []
    jsonschema.validate(document("compare", "--all", str(path)), schemas()["compare"])


@pytest.mark.parametrize("path", carried(), ids=name)
def test_show_fits_80_columns_and_its_json_keeps_its_schema(path: Path) -> None:
    """For every recording, ``show`` prints plain lines of at most 80 columns, and JSON as documented."""
    result = run("show", str(path))
    assert result.returncode == 0 and result.stderr == b""
    assert [line for line in result.stdout.decode("ascii").splitlines() if len(line) > 80] == []
    jsonschema.validate(document("show", str(path)), schemas()["show"])


def test_compare_without_arguments_takes_the_sample() -> None:
    """The main job runs on the recording that ships with the package, under all policies of the first screen."""
    found = document("compare")["traces"][0]  # type: ignore[index]
    assert [p["name"] for p in found["policies"]] == ["observed", "kernel-6.12", "promote"]
    assert found["flush_source"] == "seen"
    assert found["policies"][0]["flushes"] == found["policies"][1]["flushes"] == 18
    assert found["policies"][2]["flushes"] == [3, 18]
    assert SAMPLE.stat().st_size <= 1 << 20


def test_the_history_of_policies_comes_with_all() -> None:
    """--all adds eager, list, rcu, leaf-zap and promote-rfc."""
    found = document("compare", "--all")["traces"][0]  # type: ignore[index]
    assert [p["name"] for p in found["policies"]][3:] == ["eager", "list", "rcu", "leaf-zap", "promote-rfc"]


def test_a_trace_through_a_pipe_gives_the_same_answer() -> None:
    """Standard input is as good as a file, for trace.dat too."""
    piped = run("compare", "-", "--json", stdin=SAMPLE.read_bytes())
    whole, named = json.loads(piped.stdout), document("compare", str(SAMPLE))
    whole["traces"][0]["path"] = named["traces"][0]["path"] = ""  # type: ignore[index]
    assert whole == named


def test_csv_has_a_row_a_policy() -> None:
    """--csv prints a header and one row for each trace and policy."""
    lines = run("compare", "--csv", str(SAMPLE), str(SAMPLE)).stdout.decode().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[1].split(",")[1:5] == ["seen", "observed", "18", "18"]


def test_the_cost_model_is_the_users_to_set() -> None:
    """Time follows the options: twice the price of an SPTE change doubles what only changes cost."""
    model = ("--flush-base-us", "0", "--flush-vcpu-us", "0", "--spte-us")
    priced = [document("compare", *model, price)["traces"][0] for price in ("1", "2")]  # type: ignore[index]
    one, two = (trace["policies"][0]["seconds"] for trace in priced)
    changes = priced[0]["changes"]
    assert one == pytest.approx([changes * 1e-6] * 2) and two == pytest.approx([2 * x for x in one])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "no-such-file"], "no-such-file: no such file or directory"),
        (["compare", "."], ".: is a directory"),
        (["show", os.devnull], "is empty"),
        (["show", str(SAMPLE), "--at", "noon"], "--at wants a time"),
        (["show", str(SAMPLE), "--at", "+99"], "is outside the recording"),
        (["show", str(SAMPLE), "--gfn", "40000"], "--gfn needs --at"),
        (["show", str(SAMPLE), "--at", "+1", "--gfn", "5-4"], "the last comes before the first"),
        (["compare", "--spte-us", "cheap"], "--spte-us wants microseconds"),
        (["compare", "--spte-us", "3:2"], "--spte-us wants microseconds"),
        (["compare", "--counters", "one"], "BEFORE AFTER"),
        (["record", "--print", "--kernel", "4.19"], "4.19"),
        (["check", "--tree", ""], "an argument is empty"),
        (["kernel", "diff", "--litmus", "--debian="], "an argument is empty"),
    ],
)
def test_bad_usage_is_one_line_and_exit_1(arguments: list[str], says: str) -> None:
    """What is wrong is said in one line on standard error, with exit code 1 and never a traceback."""
    result = run(*arguments)
    error = result.stderr.decode()
    assert result.returncode == 1 and says in error, error
    assert error.count("\n") == 1 and "Traceback" not in error


def test_the_name_of_a_file_need_not_be_text(tmp_path: Path) -> None:
    """It is read, and told with what no text can hold escaped, whatever the output can hold."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(path).write_bytes(SAMPLE.read_bytes())
    for encoding in ("utf-8:strict", "ascii:strict", "utf-8:surrogateescape"):
        result = run("compare", path, encoding=encoding)
        assert (
            result.returncode == 0 and result.stderr == b"" and (b"/\\udcff" in result.stdout) == ("strict" in encoding)
        )
    refused = run("kernel", "build", path)
    assert refused.returncode == 1 and b"/\\udcff: no tarball" in refused.stderr


def test_one_bad_file_does_not_lose_the_others() -> None:
    """The readable recordings are still compared; the exit code tells of the unreadable one."""
    result = run("compare", "no-such-file", str(SAMPLE))
    assert result.returncode == 1
    assert b"89 % of 18 flushes" in result.stdout and b"no-such-file" in result.stderr


def test_a_recording_without_events_is_not_an_error() -> None:
    """A recording that began after its workload had ended says so, and that there is nothing to price."""
    path = str(ROOT / "tests" / "data" / "empty.dat")
    for command in ("compare", "show"):
        result = run(command, path)
        assert result.returncode == 0 and b"no VM seen" in result.stdout
    assert b"nothing to price" in run("compare", path).stdout
    assert run("show", path, "--events").stdout == b""


def test_options_are_text_or_hexadecimal() -> None:
    """What a trace.dat says of itself is given as it is: readable text, else every byte."""
    options = document("show", str(SAMPLE))["trace"]["options"]  # type: ignore[index]
    found = {option["name"]: option for option in options}
    assert found["UNAME"]["text"].startswith("Linux ")
    assert found["CPUSTAT"]["text"].startswith("CPU: ")
    assert found["CPUCOUNT"] == {"name": "CPUCOUNT", "hex": "04000000"}
    for binary in ("HEADER_INFO", "FTRACE_EVENTS", "TRACEID", "BUFFER"):
        assert len(bytes.fromhex(found[binary]["hex"])) >= 8


def test_a_closed_pipe_ends_quietly() -> None:
    """``shootdown show --events | head`` leaves no complaint."""
    shell = f"{sys.executable} -m shootdown show {SAMPLE} --events | head -2"
    result = subprocess.run(["sh", "-c", shell], capture_output=True, timeout=300, check=True)
    assert result.stdout.count(b"\n") == 2 and result.stderr == b""


@pytest.mark.parametrize("arguments", [("--help",), ("kernel", "--help"), ("check", "--list")])
def test_a_pipe_that_nobody_reads_is_told_by_the_exit_code(arguments: tuple[str, ...]) -> None:
    """As the shell shows it of other programs, whatever was to be printed."""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "shootdown", *arguments]
    with os.fdopen(writes, "wb") as pipe:
        result = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, timeout=300, check=False)
    assert result.returncode == 141 and result.stderr == b""


@pytest.mark.parametrize(
    ("closed", "arguments", "code"),
    [(">&-", "record --print --kernel 6.12", 0), (">&- 2>&-", "show no-such-file", 1), ("<&-", "compare -", 1),
     ("<&-", "check --patch - unmap-tables", 1)],
)  # fmt: skip
def test_streams_that_the_shell_has_closed_are_empty(closed: str, arguments: str, code: int) -> None:
    """Output goes nowhere, input has nothing; the exit code is as ever, and nothing is a traceback."""
    command = [sys.executable, "-m", "shootdown", *arguments.split()]
    result = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, check=False)
    assert result.returncode == code and b"Traceback" not in result.stderr
    assert result.stderr.count(b"\n") == (code == 1 and "2" not in closed)


def test_show_prints_the_page_tables_of_a_moment() -> None:
    """--at and --gfn print the tables then: huge before dirty logging, split after, with every SPTE decoded."""
    path = str(get("6.12-splitting"))
    before = run("show", path, "--at", "13.96", "--gfn", "fcff000-fcff3ff").stdout.decode()
    after = run("show", path, "--at", "14.2", "--gfn", "fcff000-fcff3ff").stdout.decode()
    assert "2: fcff000-fcff3ff x2 from 3600ea7 2M pfn 3600-39ff rwx A host-w mmu-w" in before
    assert "1: fcff000-fcff1ff x512 from 3600e6" in after and "table pfn 4b4ec rwx A" in after
    assert [line for line in (before + after).splitlines() if len(line) > 80] == []
    found = document("show", path, "--at", "14.2", "--gfn", "fcff000")
    jsonschema.validate(found, schemas()["show"])


def test_show_events_prints_every_event_in_order() -> None:
    """--events prints as many lines as there are events, in the order of time, SPTEs decoded."""
    lines = run("show", str(SAMPLE), "--events").stdout.decode().splitlines()
    assert len(lines) == 74_420
    times = [float(line.split(" ", 1)[0]) for line in lines]
    assert times == sorted(times)
    changed = next(line for line in lines if "kvm_tdp_mmu_spte_changed" in line)
    assert "old_spte=8000000000000000 [empty]" in changed and "[table pfn" in changed


def test_version_says_whether_it_is_compiled() -> None:
    """--version names the version and the build."""
    text = run("--version").stdout.decode()
    assert text.startswith(f"shootdown {shootdown.__version__}, ")
    assert "compiled (mypyc)" in text or "plain Python" in text


def test_help_has_an_example_for_every_command() -> None:
    """Each command's --help shows how it is used, in 80 columns."""
    for command in ("compare", "show", "record"):
        text = run(command, "--help").stdout.decode()
        assert "Example" in text
        assert [line for line in text.splitlines() if len(line) > 80] == []


def test_compiled_and_plain_give_identical_output(tmp_path: Path) -> None:
    """The installed package and the plain sources print the same, to the byte."""
    plain = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for path in (SAMPLE, *carried()[:4]):
        for arguments in (["compare", "--all", "--json", str(path)], ["show", "--json", str(path)]):
            other = subprocess.run(
                [sys.executable, "-m", "shootdown", *arguments],
                capture_output=True,
                env=plain,
                cwd=tmp_path,
                check=True,
            )
            assert run(*arguments).stdout == other.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("no-such-test",), 129), (("--no-such-option",), 129), (("--patch", "none"), 129), (("unmap-leafs",), 125)],
    ids=lambda value: str(value),
)
def test_git_bisect_takes_no_mistake_for_a_bad_commit(arguments: tuple[str, ...], code: int, tmp_path: Path) -> None:
    """Where the command line is wrong ``git bisect run`` stops; a commit that has no TDP MMU is skipped."""
    result = run("check", "--tree", str(tmp_path), *arguments, "--bisect")
    assert result.returncode == code
    assert result.stderr.startswith((b"shootdown: ", b"Usage: "))
