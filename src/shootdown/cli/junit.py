"""Verdicts as a JUnit file, for CI: a test case each, which passes if the verdict is the expected one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from ..check.diff import Hunk
from ..check.drawing import table
from ..check.run import Answer

UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, however it is escaped."""


def junit(found: Sequence[Answer], idle: Sequence[Hunk]) -> str:
    """The document. What is refuted against expectation has its schedule in the failure; so has a hunk that never ran.

    A refutation that a test expects passes, whatever the exit code is.
    """
    suite = ElementTree.Element("testsuite", name="shootdown check")
    failures, seconds = 0, 0.0
    for answer in found:
        verdict = answer.verdict
        case = ElementTree.SubElement(
            suite, "testcase", name=_safe(f"{verdict.case} as of {verdict.case.behaviour}"),
            classname=_safe(f"shootdown.check.{verdict.case.test.name}"), time=f"{verdict.result.seconds:.3f}",
        )  # fmt: skip
        seconds += verdict.result.seconds
        if verdict.word != verdict.case.expected:
            reason = verdict.reason or f"{verdict.word}, and the test expects: {verdict.case.expected}"
            lines = [verdict.case.test.promise]
            if answer.story:
                lines += ["", *table(answer.story).lines()]
            failures += _fail(case, verdict.word, reason, lines)
    for hunk in idle:
        name = _safe(str(hunk))
        case = ElementTree.SubElement(suite, "testcase", name=name, classname="shootdown.patch", time="0.000")
        failures += _fail(case, "not exercised", "no test ran this hunk", [hunk.where])
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", "0")
    suite.set("time", f"{seconds:.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _fail(case: ElementTree.Element, word: str, reason: str, lines: Sequence[str]) -> int:
    failure = ElementTree.SubElement(case, "failure", type=word, message=_safe(reason))
    failure.text = _safe("\n".join(lines))
    return 1


def _safe(text: str) -> str:
    return UNWRITABLE.sub("?", text)
