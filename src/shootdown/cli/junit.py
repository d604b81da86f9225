"""Verdicts as a JUnit file, for CI: a test case each, which passes if the verdict is the expected one.

The file is whole at every moment: a run that is interrupted or killed leaves what it covered, and names the rest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..check.litmus.cases import Case
from ..check.schedule.drawing import table
from ..check.schedule.schedule_file import write
from ..check.source.diff import Hunk
from ..check.verdict.run import Answer

UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, however it is escaped."""

PAUSE_SECONDS = 1.0
"""Between two writings of a file that is not complete."""


class Journal:
    """A JUnit file at ``path`` (None: none at all) that grows with the answers of a run; ``asked``: all its cases."""

    def __init__(self, path: str | None, asked: Sequence[Case]) -> None:
        self.path = Path(path) if path else None
        self.asked = asked
        self.due = 0.0

    def note(self, found: Sequence[Answer], now: bool = False) -> None:
        """Write what was found so far, and what was not, unless it was written a moment ago and not all is to be kept.

        Only a file can be written again and again; what else stands there, as a pipe, gets the end.
        """
        if self.path is None or (self.path.exists() and not self.path.is_file()):
            return
        if now or time.monotonic() >= self.due:
            self._replace(self.path.resolve(), junit(found, (), self.asked[len(found) :]))
            self.due = time.monotonic() + PAUSE_SECONDS

    def end(self, found: Sequence[Answer], idle: Sequence[Hunk]) -> None:
        """Write all."""
        if self.path is not None:
            write(self.path, junit(found, idle))

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        """Put a file in the place of one, so that there is a whole one at every moment."""
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            write(path, text)


def junit(found: Sequence[Answer], idle: Sequence[Hunk], rest: Sequence[Case] = ()) -> str:
    """The document. What is refuted against expectation has its schedule in the failure; so has a hunk that never ran.

    A refutation that a test expects passes, whatever the exit code is. ``rest`` was not checked, and is skipped.
    """
    suite = ElementTree.Element("testsuite", name="shootdown check")
    failures, seconds = 0, 0.0
    for answer in found:
        verdict = answer.verdict
        case = _testcase(suite, verdict.case, verdict.result.seconds)
        seconds += verdict.result.seconds
        if not verdict.as_expected:
            reason = verdict.reason or f"{verdict.word}, and the test expects: {verdict.case.expected}"
            lines = [verdict.case.test.promise]
            if answer.story:
                lines += ["", *table(answer.story).lines()]
            failures += _fail(case, verdict.word, reason, lines)
    for hunk in idle:
        name = _safe(str(hunk))
        case = ElementTree.SubElement(suite, "testcase", name=name, classname="shootdown.patch", time="0.000")
        failures += _fail(case, "not exercised", "no test ran this hunk", [hunk.where])
    for asked in rest:
        ElementTree.SubElement(
            _testcase(suite, asked, 0.0), "skipped", message="not checked: the run did not get there"
        )
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", str(len(rest)))
    suite.set("time", f"{seconds:.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _testcase(suite: ElementTree.Element, case: Case, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", name=_safe(f"{case} as of {case.behaviour}"),
        classname=_safe(f"shootdown.check.{case.test.name}"), time=f"{seconds:.3f}",
    )  # fmt: skip


def _fail(case: ElementTree.Element, word: str, reason: str, lines: Sequence[str]) -> int:
    failure = ElementTree.SubElement(case, "failure", type=word, message=_safe(reason))
    failure.text = _safe("\n".join(lines))
    return 1


def _safe(text: str) -> str:
    return UNWRITABLE.sub("?", text)
