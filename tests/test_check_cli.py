"""``shootdown check`` as its users meet it: exit codes, patches, schedules that can be followed again, clear errors."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import pytest
from click import UsageError
from click.testing import CliRunner

from shootdown.check.litmus.cases import Case
from shootdown.check.litmus.litmus import suite
from shootdown.check.search.search import Result
from shootdown.check.source import endless
from shootdown.check.source.patch import apply, read_patch
from shootdown.check.source.source import PACKAGE, Source
from shootdown.check.verdict.answer import answer
from shootdown.check.verdict.verdict import Budget, Verdict, check
from shootdown.cli.check import command
from shootdown.cli.verdicts import line
from shootdown.errors import InputError
from tests.structure import ROOT
from tests.test_cli import schemas

SEED = ROOT / "examples" / "seed"
RCU = PACKAGE / "mmu" / "policies" / "rcu.py"


def run(*words: str, stdin: str = "") -> tuple[int, str]:
    """Exit code and output; one process searches."""
    jobs = [] if "--schedule" in words else ["--jobs", "1"]
    result = CliRunner().invoke(command, [*words, *jobs], input=stdin, standalone_mode=False)
    if isinstance(result.exception, InputError | UsageError):
        return 1, str(result.exception)
    if result.exception:
        raise result.exception
    return result.return_value, result.output


def test_a_test_that_holds_exits_with_0() -> None:
    """By name, 0 says that nothing was refuted."""
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu")
    assert code == 0
    assert "all as expected" in text


def test_a_refuted_test_exits_with_2_and_prints_its_schedule() -> None:
    """By name, 2 says refuted, expected or not; the schedule fits a mail and names file and line."""
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu-literal")
    assert code == 2
    lines = text.splitlines()
    assert any(line.startswith("BROKEN: vCPU0 runs the guest") for line in lines)
    assert any(line.rstrip().endswith("rcu_literal.py:26") for line in lines)
    assert max(len(line) for line in lines) <= 80
    assert text.isascii()


def test_a_defect_of_the_kernel_is_not_held_against_the_policy() -> None:
    """The question is answered from what the policies do; a defect that every policy shares is named apart."""
    tests = {test.name: test for test in suite()}
    asked = [("unmap-tables", "rcu"), ("unmap-tables", "rcu-literal"), ("read-fault-upgrade", "rcu")]
    source = Source(PACKAGE)
    found = []
    for name, policy in asked:
        test = tests[name]
        found.append(check(Case(test, policy, test.behaviours[0], test.tiny), source, Budget()))
    text = answer(found)
    assert text[1].startswith("Yes: under every interleaving")
    assert text[1].endswith("rcu keeps the promise of 1 of 2 tests, all but those of a known defect, named below.")
    assert text[-1] == "Refuted whatever the policy, by a known defect of Linux 6.12 itself: read-fault-upgrade."


def test_no_row_is_wider_than_80_columns() -> None:
    """The longest name of a test, under any policy: all columns end where they do under a short name."""
    tests = sorted(suite(), key=lambda test: -len(test.name))
    widths = set()
    for test, policy in itertools.product((tests[0], tests[-1]), ("rcu", "list-as-posted")):
        case = Case(test, policy, "6.12", test.full)
        result = Result(0, 0, 0, 131_200, 265_619, 103, 1.0)
        row = line(Verdict(case, "holds", "", result, frozenset(), frozenset(), frozenset()), True)
        widths |= {len(text) for text in row.splitlines()}
    assert widths == {80}


def test_the_output_says_how_it_was_searched(tmp_path: Path) -> None:
    """Options that change what a verdict is worth stand below the table; rows of an earlier run are marked."""
    asked = ("unmap-leafs", "--tiny", "--policy", "rcu", "--livelocks", "--ranged", "--store-buffers", "1")
    resumed = ("--resume", str(tmp_path / "kept"))
    code, text = run(*asked, *resumed)
    assert code == 0
    assert "searched with --tiny, --ranged, --store-buffers 1, --livelocks\n" in text
    assert "kept" not in text
    code, text = run(*asked, *resumed)
    assert text.splitlines()[1].endswith(" kept")
    assert "kept: 1 of 1 verdict from" in text
    assert "searched with" not in run("unmap-leafs", "--policy", "rcu")[1]


def test_why_of_what_is_refuted_says_that_there_is_none() -> None:
    """--why explains what holds; of a refutation it says so, and prints the schedule."""
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu-literal", "--why")
    assert code == 2
    assert "no --why of unmap-tables under rcu-literal: it explains what holds" in text


def test_a_file_for_6_12_is_for_later_behaviours(tmp_path: Path) -> None:
    """What is for 6.12 is for all later ones, in a file of one's own as in the suite, unless it says until when."""
    file = tmp_path / "t.toml"
    file.write_text(LITMUS)
    asked = (str(file), "--policy", "rcu", "--behaviour", "6.18")
    assert run(*asked)[0] == 0
    file.write_text('until = "6.13"\n' + LITMUS)
    code, error = run(*asked)
    assert code == 1
    assert error.endswith("t.toml is for 6.12 until 6.13, not for 6.18")


SEED_VERDICTS = {
    "all": set(),
    "without-hunk-1": set(),
    "hunk-2-alone": set(),
    "literal": {"nx-recovery", "unmap-tables"},
    "literal-hunk-3": {"unmap-tables", "zap-range-tables"},
    "without-hunk-2": {"unmap-yield-tables", "nx-recovery-yield"},
    "without-hunk-4": {"fault-replaces-table"},
    "without-nx-recovery": {"nx-recovery", "nx-recovery-yield"},
    "hunk-1-alone": {"unmap-tables", "fault-replaces-table", "nx-recovery"},
}
SEED_TESTS = (
    "unmap-tables", "unmap-yield-tables", "zap-range-tables", "fault-replaces-table", "nx-recovery",
    "nx-recovery-yield",
)  # fmt: skip


@pytest.mark.parametrize("name", SEED_VERDICTS)
def test_the_mail_is_answered_hunk_by_hunk(name: str) -> None:
    """The mail's hunks together keep every promise; without one, or read literally, the tests that name it refute."""
    patch = ["--policy", "eager", "--behaviour", "5.17", "--patch", str(SEED / f"{name}.diff"), "--tiny", "--json"]
    code, text = run(*SEED_TESTS, *patch)
    document = json.loads(text)
    refuted = {test["name"] for test in document["tests"] if test["verdict"] == "refuted"}
    assert SEED_VERDICTS[name] <= refuted
    assert bool(refuted) == bool(SEED_VERDICTS[name])
    assert code == (2 if refuted else 0)
    assert document["not_exercised"] == []


def test_every_seed_patch_is_tried() -> None:
    """No example goes unchecked; the two that are for other policies are below."""
    assert {path.stem for path in SEED.glob("*.diff")} == {*SEED_VERDICTS, "freed-at-once", "flush-overwritten"}


@pytest.mark.parametrize(
    ("name", "test"), [("freed-at-once", "unmap-tables"), ("flush-overwritten", "two-roots-leafs")]
)
def test_other_ways_to_get_it_wrong_are_refuted(name: str, test: str) -> None:
    """Tables freed at once, and a flush forgotten between two roots, break promises."""
    code, text = run(test, "--policy", "rcu", "--tiny", "--patch", str(SEED / f"{name}.diff"))
    assert code == 2
    assert "BROKEN: " in text


def diff(path: str, old: str, new: str) -> str:
    """A diff of one line of a file of the MMU."""
    lines = (PACKAGE / path).read_text().splitlines()
    at = lines.index(old)
    body = [f" {lines[at - 1]}", f"-{old}", *(f"+{line}" for line in new.split("\n")), f" {lines[at + 1]}"]
    count = len(new.split("\n"))
    return "\n".join([f"--- a/src/shootdown/{path}", f"+++ b/src/shootdown/{path}",
                      f"@@ -{at},3 +{at},{2 + count} @@", *body]) + "\n"  # fmt: skip


def test_a_hunk_that_no_test_runs_is_named(tmp_path: Path) -> None:
    """A patch to code that was not executed cannot be said to be safe: exit code 3 and the place."""
    patch = tmp_path / "p.diff"
    patch.write_text(diff("mmu/huge_pages.py", "    batch = Batch()", "    batch = Batch(False)"))
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch))
    assert code == 3
    assert "not exercised: mmu/huge_pages.py:" in text


CALL = "        kvm.m.call_rcu(table)"
BAD_CODE = {
    "        kvm.m.call_rcuu(table)": "rcu.py:36: AttributeError",
    "        while True:\n            pass": "mmu/policies/rcu.py:37: a loop without an access",
    "        while True: pass": "mmu/policies/rcu.py:36: a loop without an access",
    "        self.n = getattr(self, 'n', 0) + 1\n        if self.n % 2:\n            kvm.m.read(0)\n" + CALL:
        "the code does not repeat itself",
}  # fmt: skip


@pytest.mark.parametrize("new", BAD_CODE)
def test_code_that_cannot_be_checked_is_refused(new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of a patch that fails, hangs, or keeps state where the checker cannot see it gets one line, no verdict."""
    monkeypatch.setattr(endless, "LOOP_SECONDS", 1.0)
    patch = tmp_path / "p.diff"
    patch.write_text(diff("mmu/policies/rcu.py", CALL, new))
    code, error = run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch))
    assert code == 1
    assert BAD_CODE[new] in error
    assert "\n" not in error


def test_a_task_that_never_ends_is_no_verdict(tmp_path: Path) -> None:
    """A task that goes on for ever has exercised nothing that comes after: it is not said to hold."""
    patch = tmp_path / "p.diff"
    patch.write_text(diff("mmu/policies/rcu.py", CALL, "        while True:\n            kvm.m.read(0)"))
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch))
    assert code == 3
    assert "notifier never comes to an end" in text


def test_a_deadlock_that_a_patch_brings_is_refuted(tmp_path: Path) -> None:
    """A patch that makes tasks wait for one another is refuted, and its schedule can be followed again to that end."""
    patch = tmp_path / "p.diff"
    old = "        m.send_ipi(kicked[i])"
    patch.write_text(diff("mmu/requests.py", old, old + "\n        m.read_lock()"))
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch))
    assert code == 2
    assert "taken twice" in text
    old = "    m.store(VCPU_MODE, vcpu, OUTSIDE_GUEST_MODE)"
    patch.write_text(
        diff("mmu/vcpu.py", old, "    if fault >= 0:\n        page_fault(kvm, vcpu, fault_gfn(fault), 0)\n" + old)
    )
    saved = tmp_path / "s.json"
    code, text = run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch), "--save", str(saved))
    assert code == 2
    end = text[text.index("BROKEN: ") :].split("\n\n")[0]
    assert end.startswith("BROKEN: vCPU0 and notifier can never go on: a deadlock.")
    assert "notifier waits for vCPU0 to take its interrupt." in end
    code, again = run("--schedule", str(saved))
    assert code == 2
    assert end in again


def test_several_patches_are_applied_one_after_the_other(tmp_path: Path) -> None:
    """The second fits what the first made, changes some of the same lines, and each is accounted for."""
    both = [tmp_path / "1.diff", tmp_path / "2.diff"]
    both[0].write_text(diff("mmu/policies/rcu.py", CALL, "        pass\n        kvm.m.free_table(table)"))
    lines = (PACKAGE / "mmu/policies/rcu.py").read_text().splitlines()
    at = lines.index(CALL) + 1
    both[1].write_text(
        f"--- a/mmu/policies/rcu.py\n+++ b/mmu/policies/rcu.py\n@@ -{at},2 +{at},2 @@\n"
        f"         pass\n-        kvm.m.free_table(table)\n+{CALL}\n"
    )
    words = ("unmap-tables", "--tiny", "--policy", "rcu")
    assert run(*words, "--patch", str(both[0]))[0] == 2
    code, text = run(*words, "--patch", str(both[0]), "--patch", str(both[1]))
    assert code == 0, text
    code, error = run(*words, "--patch", str(both[1]))
    assert code == 1
    assert "2.diff:3: the hunk does not fit mmu/policies/rcu.py" in error
    read = [hunk for path in both for hunk in read_patch(path.name, path.read_text())]
    apply(read, tmp_path / "copy")
    assert [hunk.lines for hunk in read] == [{at}, {at, at + 1}]
    assert (tmp_path / "copy/mmu/policies/rcu.py").read_text().splitlines()[at - 1 : at + 1] == ["        pass", CALL]


def test_a_patch_may_come_through_a_pipe() -> None:
    """--patch - reads standard input, and errors say so."""
    words = ("unmap-tables", "--tiny", "--policy", "eager", "--behaviour", "5.17", "--patch", "-")
    assert run(*words, stdin=(SEED / "hunk-1-alone.diff").read_text())[0] == 2
    code, error = run(*words, stdin="nothing")
    assert code == 1
    assert error.startswith("standard input: no hunk of a unified diff")


def test_a_schedule_that_cannot_be_saved_is_refused_before_the_search(tmp_path: Path) -> None:
    """--save into nowhere fails at once; the attempt leaves no file where nothing is refuted."""
    code, text = run("nested-collapses", "--save", str(tmp_path / "no" / "s.json"))
    assert code == 1
    assert "s.json: cannot write: no such file" in text
    assert "s.json: cannot write" in run("--tree", "none", "--save", str(tmp_path / "no" / "s.json"))[1]
    code, _ = run("huge-in-the-way", "--tiny", "--policy", "rcu", "--save", str(tmp_path / "s.json"))
    assert code == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "x"])
def test_a_budget_must_be_a_number_above_0(seconds: str) -> None:
    """What is no number of seconds is refused; nan would never run out."""
    assert run("unmap-tables", "--max-seconds", seconds)[0] == 1


def test_a_hunk_of_comments_needs_no_run(tmp_path: Path) -> None:
    """A hunk without statements changes nothing that a test could run."""
    patch = tmp_path / "p.diff"
    line = "from __future__ import annotations"
    patch.write_text(diff("mmu/huge_pages.py", line, "# Some words.\n" + line))
    assert run("unmap-tables", "--tiny", "--policy", "rcu", "--patch", str(patch))[0] == 0


def test_a_schedule_file_needs_no_other_words(tmp_path: Path) -> None:
    """--schedule with a test, a policy or a patch is refused: the file holds its own."""
    code, error = run("unmap-tables", "--schedule", str(tmp_path / "s.json"))
    assert code == 1
    assert "--json, --format or --step only" in error


def test_a_patch_may_come_in_a_mail(tmp_path: Path) -> None:
    """What surrounds the diff in a mail does not matter."""
    patch = tmp_path / "p.mbox"
    body = (SEED / "hunk-1-alone.diff").read_text()
    patch.write_text(
        f"From x Fri Nov 12\nSubject: [PATCH] mmu\n\nText.\n---\n mmu/policies/eager.py | 1 -\n\n{body}-- \n2.39\n"
    )
    code, _ = run("unmap-tables", "--tiny", "--policy", "eager", "--patch", str(patch))
    assert code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no hunk of a unified diff"),
        ("--- a/arch/x86/kvm/mmu/tdp_mmu.c\n+++ b/arch/x86/kvm/mmu/tdp_mmu.c\n@@ -1 +1 @@\n-a\n+b\n",
         "p.diff:2: this patch is for a kernel tree; add --tree"),
        ("--- a/setup.py\n+++ b/setup.py\n@@ -1 +1 @@\n-a\n+b\n", "setup.py is no file of this program's MMU"),
        ("--- a/mmu/../../x.py\n+++ b/mmu/../../x.py\n@@ -1 +1 @@\n-a\n+b\n", "is no file of this program's MMU"),
        ("--- a/mmu/zap.py\n+++ b/mmu/zap.py\n@@ -1 +1 @@\n-no such line\n+b\n",
         "p.diff:3: the hunk does not fit mmu/zap.py"),
        ("--- a/mmu/zap.py\n+++ b/mmu/zap.py\n@@ -1,9 +1 @@\n-a\n", "p.diff:3: the hunk is cut short"),
        (diff("mmu/zap.py", "from __future__ import annotations", "def ("), "is no Python"),
    ],
)  # fmt: skip
def test_bad_patches_are_refused_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    """A patch that is none, is not for these sources, or does not fit is refused in one line."""
    patch = tmp_path / "p.diff"
    patch.write_text(text)
    code, error = run("unmap-tables", "--tiny", "--patch", str(patch))
    assert code == 1
    assert message in error
    assert "\n" not in error


def test_hunks_are_found_where_lines_moved(tmp_path: Path) -> None:
    """A hunk whose line numbers are off is applied where its lines are."""
    text = (SEED / "all.diff").read_text().replace("@@ -22,28 +22,32 @@", "@@ -52,28 +52,32 @@")
    apply(read_patch("p", text), tmp_path)
    fresh = tmp_path / "fresh"
    apply(read_patch("p", (SEED / "all.diff").read_text()), fresh)
    name = "mmu/policies/eager.py"
    assert (tmp_path / name).read_text() == (fresh / name).read_text()


def test_a_saved_schedule_is_followed_to_the_same_end(tmp_path: Path) -> None:
    """--schedule takes the saved steps again, with the patch that they were found with, and prints the same table."""
    file = tmp_path / "s.json"
    patch = str(SEED / "without-hunk-4.diff")
    code, first = run("fault-replaces-table", "--tiny", "--policy", "eager", "--behaviour", "5.17", "--patch", patch,
                      "--save", str(file))  # fmt: skip
    assert code == 2
    code, again = run("--schedule", str(file))
    assert code == 2
    table = again[again.index("  # vCPU0") :].rstrip()
    assert table in first
    assert json.loads(run("--schedule", str(file), "--json")[1])["broken"] is True


def test_a_schedule_of_other_sources_says_where_they_part(tmp_path: Path) -> None:
    """A schedule that the sources do not follow any more is refused at the step where they differ."""
    file = tmp_path / "s.json"
    run("unmap-tables", "--tiny", "--policy", "rcu-literal", "--save", str(file))
    data = json.loads(file.read_text())
    data["policy"] = "eager"
    file.write_text(json.dumps(data))
    code, error = run("--schedule", str(file))
    assert code == 1
    assert ": step " in error
    assert "not those of the schedule" in error


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "shootdown schedule 1"}', "\x00"])
def test_what_is_no_schedule_is_refused(text: str, tmp_path: Path) -> None:
    """A file that --save did not write gets one line, not a traceback."""
    file = tmp_path / "s.json"
    file.write_text(text)
    code, error = run("--schedule", str(file))
    assert code == 1
    assert str(file) in error


LITMUS = """promise = "x"
behaviours = ["6.12"]
[geometry]
levels = 2
tables = 3
vcpus = 1
[start]
map = [[0, 1]]
[[vcpu]]
gfns = [0]
[[host]]
name = "notifier"
run = "unmap"
start = 0
end = 1
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ("levels = 2", "levels = 9", "t.toml:4: 'levels' must be 2 to 3"),
        ("[[host]]", "[[vcpu]]\ngfns = [0]\n[[host]]", "t.toml:6: 2 [[vcpu]], and 'vcpus' has 1 take part"),
        ("gfns = [0]", "gfns = [4]", "t.toml:10: 'gfns' and 'writes' must be gfns below 4"),
        ('run = "unmap"', 'run = "unmop"', "t.toml:13: 'run' must be one of unmap"),
        ("start = 0\n", "start = 0\nfoo = 1\n", "t.toml:15: unknown key 'foo'"),
        ("tables = 3", "tables = '3'", "t.toml:5: 'tables' must be a whole number"),
        ('"6.12"', '"7.0"', "t.toml:2: '7.0' in 'behaviours' is none of 5.17"),
        ("end = 1", "end = 9", "t.toml:15: the range must lie within 0 to 4"),
        ("map = [[0, 1]]", "map = [[0, 7]]", "t.toml:8: 'map' must hold pairs"),
        ("[start]", "[start", "t.toml:7: "),
        ("[start]", "[tiny]\nlevels = 2\n[start]", "t.toml:8: unknown key 'levels'; known are tables, vcpus"),
        ("tables = 3", "tables = 1", "the start takes 2 tables, and there are 1"),
        ("end = 1\n", "end = 1\nrefill = 0\n", "t.toml:16: 'refill' must be -1"),
        ('promise = "x"', "", "t.toml:1: 'promise' is missing"),
        ("map = [[0, 1]]", "map = [[1, 1], [0, 2]]", "t.toml:8: [0, 2] in 'map' overlaps [1, 1]"),
        ("map = [[0, 1]]", "map = [[0, 2], [1, 1]]", "t.toml:8: [1, 1] in 'map' overlaps [0, 2]"),
        ("map = [[0, 1]]", "map = [[0, 1]]\nmap_as1 = [[0, 1]]", "t.toml:9: [0, 1] in 'map_as1' overlaps [0, 1]"),
        ("map = [[0, 1]]", "host = [[0, 2], [1, 1]]", "t.toml:8: [1, 1] in 'host' overlaps [0, 2]"),
        ("map = [[0, 1]]", "map = [[1, 2]]", "t.toml:8: [1, 2] in 'map': the gfn must be a multiple"),
        (
            'promise = "x"',
            'promise = "x"\nguards = ["P9"]',
            "t.toml:2: 'P9' in 'guards' is none of P1, P2, P3, P4, P5, P6",
        ),
        ('promise = "x"', 'promise = "x"\npolicies = []', "t.toml:2: 'policies' is empty"),
        ('"notifier"', '"vCPU0"', "t.toml:12: 'name' is missing or taken"),
        ("end = 1\n", 'end = 1\n[[host]]\nname = "notifier"\nrun = "unmap"\n', "t.toml:17: 'name' is missing or taken"),
        ("[[vcpu]]", "[[slot]]\npages = 9\n[[vcpu]]", "t.toml:9: the slot must lie within 0 to 4"),
        ("[[vcpu]]", '[[slot]]\nflags = ["dirty"]\n[[vcpu]]', "t.toml:10: 'flags' must be some of log, readonly"),
        ("[[vcpu]]", "[[slot]]\n" * 3 + "[[vcpu]]", "more than 2 slots"),
        ("map = [[0, 1]]", 'format = "NTP"', "t.toml:8: 'format' must be one of NPT, EPT, EPT_NO_AD"),
        ("map = [[0, 1]]", "dirty = [4]", "t.toml:8: 'dirty' must hold gfns below 4"),
        ("map = [[0, 1]]", "ring = 5", "t.toml:8: 'ring' must be 0 to 4"),
        ('run = "unmap"\nstart = 0\nend = 1', 'run = "log_on"', "t.toml:13: 'log_on' needs a [[slot]]"),
        ('run = "unmap"\nstart = 0\nend = 1', 'run = "age"\nslot = 0', "t.toml:14: 'age' takes no 'slot'"),
        ('behaviours = ["6.12"]', 'behaviours = ["6.12"]\ndefects = ["6.1"]', "'6.1' in 'defects' is none of 6.12"),
    ],
)
def test_errors_in_litmus_files_name_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    """A litmus file of one's own is checked; a wrong one is refused in one line with its place."""
    file = tmp_path / "t.toml"
    file.write_text(LITMUS.replace(old, new) if old else LITMUS)
    code, text = run(str(file), "--policy", "rcu")
    assert (code == 0) == (not message)
    assert message in text


def test_an_unknown_name_is_refused() -> None:
    """A name that is no test gets advice."""
    code, error = run("no-such-test")
    assert code == 1
    assert "--list" in error


def test_a_budget_that_runs_out_is_no_verdict() -> None:
    """Too few states: undetermined, exit code 3, and never 'holds'."""
    code, text = run("unmap-tables", "--policy", "rcu", "--max-states", "2000", "--json")
    assert code == 3
    assert json.loads(text)["tests"][0]["verdict"] == "undetermined"


def test_a_test_that_exercises_nothing_is_no_verdict(tmp_path: Path) -> None:
    """A test whose functions never run is not said to hold."""
    file = tmp_path / "t.toml"
    file.write_text('exercises = ["zap_root"]\n' + LITMUS)
    code, text = run(str(file), "--policy", "rcu", "--json")
    assert code == 3
    assert json.loads(text)["tests"][0]["verdict"] == "not exercised"


def test_the_suite_can_be_listed() -> None:
    """--list names every test with its promise, and checks nothing."""
    code, text = run("--list")
    assert code == 0
    assert "unmap-tables\n    Once a notifier's start has returned" in text
    code, text = run("--list", "--json")
    assert code == 0
    document = json.loads(text)
    jsonschema.validate(document, schemas()["check-list"])
    assert "unmap-tables" in [test["name"] for test in document["tests"]]


@pytest.mark.parametrize(
    "words", [("/dev/zero",), ("--schedule", "/dev/zero"), ("--resume", "/dev/full")], ids=" ".join
)
def test_a_file_that_never_ends_is_refused(words: tuple[str, ...]) -> None:
    """With a line, before it has taken all memory."""
    code, text = run(*words)
    assert code == 1
    assert "longer than" in text or "no test is called" in text
