"""``shootdown check`` as a process: workers change nothing, and nothing outlives it, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PATIENCE_SECONDS, Terminal, cpu_seconds, in_session, interrupt, start, until, workers
from tests.shown import without_times
from tests.structure import ROOT
from tests.test_check_output import junit

PATCH = str(ROOT / "examples" / "seed" / "all.diff")
SOME = ("unmap-tables", "nx-recovery", "huge-in-the-way")

ENDLESS = """promise = "x"
behaviours = ["5.17"]
[geometry]
levels = 3
tables = 10
vcpus = 3
""" + "".join(f"[[vcpu]]\ngfns = [{n}]\n" for n in range(3)) + "".join(
    f'[[host]]\nname = "{name}"\nrun = "unmap"\n' for name in ("a", "b", "c")
)  # fmt: skip
"""More states than any test waits for."""


@pytest.fixture
def endless(tmp_path: Path) -> str:
    """The path of a litmus test that takes for ever."""
    file = tmp_path / "endless.toml"
    file.write_text(ENDLESS)
    return str(file)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def printed(*words: str) -> str:
    """What ``shootdown check WORDS`` prints, times left out."""
    done = subprocess.run(
        [sys.executable, "-m", "shootdown", "check", *words], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    if "--json" in words:
        document = json.loads(done.stdout)
        for test in document["tests"]:
            del test["seconds"]
        return f"{done.returncode} {document}"
    return f"{done.returncode} {without_times(done.stdout)}"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--policy", "rcu"), marks=pytest.mark.slow, id="suite"),
        *((*SOME, *form) for form in ((), ("--json",))),
        *(("unmap-tables", "--patch", PATCH, "--behaviour", "5.17", *form) for form in ((), ("--json",))),
    ],
)
def test_many_workers_print_what_one_process_prints(words: tuple[str, ...]) -> None:
    """Verdicts, counts, schedules, order and exit code do not depend on how many processes search."""
    one, three = (printed(*words, "--tiny", "--jobs", jobs) for jobs in ("1", "3"))
    assert one == three


def busy(session: int, jobs: str) -> bool:
    """Does every process that searches do so? Each has taken a second of CPU time, which is more than to start."""
    searching = workers(session) if jobs == "2" else [session]
    return len(searching) == int(jobs) and all(cpu_seconds(process) > 1 for process in searching)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_says_what_was_covered_and_leaves_nothing(jobs: str, endless: str, temporary: Path) -> None:
    """Ctrl-C: exit code 130, a line, no traceback, no worker and no temporary file."""
    process = start(temporary, endless, "--jobs", jobs, "--patch", PATCH, "--policy", "eager", "--policy", "rcu")
    until(lambda: busy(process.pid, jobs))
    assert list(temporary.iterdir())
    interrupt(process)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert errors.strip().startswith("shootdown: interrupted: 0 of 2 verdicts, ")
    assert len(errors.strip().splitlines()) == 1
    until(lambda: not in_session(process.pid))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_request_to_end_leaves_nothing(jobs: str, endless: str, temporary: Path) -> None:
    """SIGTERM to the one process that a supervisor knows: no worker and no temporary file is left."""
    process = start(temporary, endless, "--jobs", jobs, "--patch", PATCH, "--policy", "eager", "--policy", "rcu")
    until(lambda: busy(process.pid, jobs))
    assert list(temporary.iterdir())
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    until(lambda: not in_session(process.pid))
    assert not list(temporary.iterdir())


def left(file: Path) -> list[tuple[str, str]]:
    """Of a JUnit file, the test and what became of it: "" for a pass."""
    return [(case.attrib["classname"].split(".")[-1], case[0].tag if len(case) else "") for case in junit(file)]


@pytest.mark.parametrize(
    ("end", "jobs"), [(signal.SIGINT, "1"), (signal.SIGINT, "2"), (signal.SIGTERM, "2"), (signal.SIGKILL, "1")]
)
def test_a_run_that_is_cut_short_leaves_a_junit_file(
    end: signal.Signals, jobs: str, endless: str, temporary: Path
) -> None:
    """However it ends: the verdicts that were found, and the tests that were not checked as skipped."""
    file = temporary / "j.xml"
    words = ("unmap-tables", "unmap-leafs", endless, "two-notifiers", "--tiny", "--policy", "rcu")
    process = start(temporary, *words, "--jobs", jobs, "--junit", str(file))
    checked = [("unmap-tables", ""), ("unmap-leafs", "")] if end != signal.SIGKILL else []
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    until(lambda: file.exists())
    if end == signal.SIGKILL:
        process.kill()
    elif end == signal.SIGTERM:
        process.terminate()
    else:
        interrupt(process)
    process.communicate(timeout=PATIENCE_SECONDS)
    found = left(file)
    assert found[: len(checked)] == checked
    assert [name for name, _ in found] == ["unmap-tables", "unmap-leafs", "endless", "two-notifiers"]
    assert found[2:] == [("endless", "skipped"), ("two-notifiers", "skipped")]
    assert not [name for name in temporary.iterdir() if name != file]


def test_workers_end_with_a_process_that_is_killed(endless: str, temporary: Path) -> None:
    """Even if the process that started them has no chance to end them."""
    process = start(temporary, endless, "--jobs", "2", "--policy", "eager", "--policy", "rcu")
    until(lambda: len(workers(process.pid)) == 2)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    until(lambda: not workers(process.pid))


def test_a_worker_that_is_killed_is_an_error_of_one_line(endless: str, temporary: Path) -> None:
    """As by the kernel when memory is short: exit code 1, and advice."""
    process = start(temporary, endless, "--jobs", "2", "--policy", "eager", "--policy", "rcu")
    until(lambda: len(workers(process.pid)) == 2)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert errors.strip() == "shootdown: a worker was killed, perhaps for lack of memory; try fewer --jobs"
    until(lambda: not in_session(process.pid))


def test_a_closed_pipe_ends_the_search_quietly() -> None:
    """``shootdown check | head`` ends as other programs do in a pipe that is closed."""
    shell = f"{{ {sys.executable} -m shootdown check --tiny {' '.join(SOME)}; echo $? >&2; }} | head -1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.startswith("test ")
    assert done.stderr.strip() == str(128 + signal.SIGPIPE)


# On a terminal


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_terminal_shows_progress_and_takes_an_interrupt(jobs: str, endless: str, temporary: Path) -> None:
    """States, frontier, rate and memory are shown while it searches; Ctrl-C ends it on a clean line."""
    terminal = Terminal(temporary, endless, "--jobs", jobs, "--policy", "eager", "--policy", "rcu", "--patch", PATCH)
    terminal.read_until(r"0 of 2 done: [1-9][\d,]* states, [1-9][\d,]* waiting, \d+\.\d\d M/s, [1-9][\d,]* MB")
    terminal.type("\x03")
    terminal.read_until(r"\r\x1b\[Kshootdown: interrupted: 0 of 2 verdicts, [\d,]+ states? seen\r\n")
    assert terminal.exit_code() == 130
    assert "Traceback" not in terminal.text
    assert not list(temporary.iterdir())


def saved(folder: Path) -> tuple[str, list[str]]:
    """A schedule file, and what --schedule prints of it."""
    file = str(folder / "s.json")
    printed("unmap-tables", "--tiny", "--policy", "rcu-literal", "--save", file)
    done = subprocess.run(
        [sys.executable, "-m", "shootdown", "check", "--schedule", file], capture_output=True, text=True, check=False
    )
    return file, done.stdout.splitlines()


def test_a_schedule_is_shown_step_by_step(tmp_path: Path, temporary: Path) -> None:
    """--step: a row at each Enter, the same as without, and the end behind the last."""
    file, whole = saved(tmp_path)
    rows = [line for line in whole if line[:3].strip().isdigit()]
    terminal = Terminal(temporary, "--schedule", file, "--step")
    terminal.read_until("--- ---")
    for row in rows:
        terminal.read_until(f"{row[:3]} ")
        assert "BROKEN" not in terminal.text
        terminal.type("\n")
    terminal.read_until("BROKEN: ")
    assert terminal.exit_code() == 2


def test_stepping_ends_at_q(tmp_path: Path, temporary: Path) -> None:
    """q ends a walk through a schedule; the exit code is that of its end."""
    file, _ = saved(tmp_path)
    terminal = Terminal(temporary, "--schedule", file, "--step")
    terminal.read_until("\n  1 ")
    terminal.type("q\n")
    assert terminal.exit_code() == 2
    assert "BROKEN" not in terminal.text
    assert "\n  2 " not in terminal.text
