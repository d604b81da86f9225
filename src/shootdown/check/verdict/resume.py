"""Files of verdicts, so that a long run that was interrupted can go on: a line of JSON each, written when it is found.

The first line says of what: the version and a digest of all sources that decide a verdict. What ran out of a budget is
not written, so that it is tried again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ... import __version__
from ...errors import InputError, reason
from ..litmus.cases import Case
from ..schedule.story import Move, Note, Story
from ..search.search import Result
from ..source.source import PACKAGE, PARTS
from .exercised import Exercised
from .run import Answer, Job
from .verdict import UNDETERMINED, Verdict
from .why import Cover, Why

FORMAT = "shootdown verdicts 1"
RESUMED_MAX = 64 << 20
"""Characters of a file of verdicts at most: what never ends must not take all memory."""


class Done:
    """The verdicts of a file, and those that come to it; ``file``: where they are written, None for nowhere."""

    def __init__(self, job: Job, file: IO[str] | None, found: dict[str, dict[str, Any]]) -> None:
        self.job = job
        self.file = file
        self.found = found

    def known(self, cases: Sequence[Case]) -> dict[int, Answer]:
        """The answers to those cases that are in the file, by their place."""
        keys = {n: self._key(case) for n, case in enumerate(cases)}
        return {n: _answer(cases[n], self.found[key], self.job) for n, key in keys.items() if key in self.found}

    def add(self, answer: Answer) -> None:
        """Write an answer, unless it only says that a budget ran out."""
        key = self._key(answer.verdict.case)
        if self.file is None or answer.verdict.word == UNDETERMINED or key in self.found:
            return
        self.found[key] = _document(answer, self.job)
        self.file.write(json.dumps({"case": key, **self.found[key]}) + "\n")
        self.file.flush()

    def _key(self, case: Case) -> str:
        """What a verdict is about: the test's text, not its name; what is asked of it besides, too."""
        text = Path(case.test.path).read_text(encoding="utf-8")
        job = self.job
        parts = [text, case.policy, case.behaviour, vars(case.geometry), case.buffers, case.ranged, job.why,
                 sorted(job.draw), job.budget.compact, job.budget.livelocks, bool(job.watch)]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def resumed(path: str | None, job: Job) -> Iterator[Done]:
    """The verdicts of a file, which is made if there is none. Raises InputError if they are of other sources."""
    if path is None:
        yield Done(job, None, {})
        return
    head = {"format": FORMAT, "version": __version__, "sources": digest(job.folder)}
    with _open(path) as file:
        yield Done(job, file, _begin(file, path, head))


def _open(path: str) -> IO[str]:
    try:
        return Path(path).open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None


def _begin(file: IO[str], path: str, head: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The verdicts in a file, which is ready for more afterwards."""
    file.seek(0)
    try:
        text = file.read(RESUMED_MAX + 1)
        if len(text) > RESUMED_MAX:
            raise InputError(f"{path}: longer than {RESUMED_MAX >> 20} MB: not a file of verdicts")
        found, end = _read(path, text, head)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a file of verdicts; give one that check --resume wrote") from None
    file.truncate(end)
    if end == 0:
        file.write(json.dumps(head) + "\n")
        file.flush()
    return found


def digest(folder: Path) -> str:
    """Of the checker's sources, and of the MMU's in ``folder``, which may be patched."""
    found = hashlib.sha256()
    for base, parts in ((PACKAGE, ("check",)), (folder, PARTS)):
        for part in parts:
            for path in sorted((base / part).rglob("*.py")):
                found.update(f"{path.relative_to(base)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def _read(path: str, text: str, head: dict[str, str]) -> tuple[dict[str, dict[str, Any]], int]:
    """The verdicts by case, and where the last whole line ends: who was killed may have written a part of one."""
    whole, lines = text[: text.rfind("\n") + 1], []
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
        if text and (not lines or lines[0].get("format") != FORMAT):
            raise ValueError
        found = {str(line.pop("case")): line for line in lines[1:]}
    except (ValueError, AttributeError, KeyError, RecursionError):
        raise InputError(f"{path}: not a file of verdicts; give one that check --resume wrote") from None
    if lines and lines[0] != head:
        raise InputError(f"{path}: its verdicts are of other sources or another version", advice="give a new file")
    return found, len(whole.encode())


def _document(answer: Answer, job: Job) -> dict[str, Any]:
    verdict = answer.verdict
    # The sources may lie elsewhere next time: a patched copy is temporary.
    lines = sorted((str(Path(file).relative_to(job.folder)), line) for file, line in verdict.lines)
    return {
        "word": verdict.word, "reason": verdict.reason, "result": asdict(verdict.result),
        "functions": sorted(verdict.functions), "histories": sorted(verdict.histories), "lines": lines,
        "exercised": asdict(verdict.exercised), "story": asdict(answer.story) if answer.story else None,
        "document": answer.document, "why": asdict(answer.why) if answer.why else None,
    }  # fmt: skip


def _answer(case: Case, data: dict[str, Any], job: Job) -> Answer:
    try:
        lines = frozenset((str(job.folder / file), line) for file, line in data["lines"])
        seen = Exercised(**{name: tuple(texts) for name, texts in data["exercised"].items()})
        verdict = Verdict(
            case, data["word"], data["reason"], Result(**data["result"]), frozenset(data["functions"]),
            frozenset(data["histories"]), lines, seen,
        )  # fmt: skip
        return Answer(verdict, _story(data["story"]), data["document"], _why(data["why"]))
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError(
            f"the verdict of {case} in the file of --resume is damaged", advice="give a new file"
        ) from None


def _story(data: dict[str, Any] | None) -> Story | None:
    if data is None:
        return None
    moves = tuple(Move(**{**move, "notes": tuple(Note(**note) for note in move["notes"])}) for move in data["moves"])
    tasks, broken, standing, legend = (tuple(data[name]) for name in ("tasks", "broken", "standing", "legend"))
    return Story(tasks, moves, broken, standing, legend)


def _why(data: dict[str, Any] | None) -> Why | None:
    if data is None:
        return None
    covers = tuple(
        Cover(each["what"], each["since"], tuple((name, how) for name, how in each["vcpus"]))
        for each in data["covers"]
    )  # fmt: skip
    return Why(_story(data["witness"]), covers, data["reason"])
