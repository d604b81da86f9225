"""Patches to a Linux tree: diffs, mails, mailboxes and folders of them, in their order, applied to its text."""

from __future__ import annotations

import email
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from ...check.source.diff import NONE, Hunk, Line, fit, read_hunks
from ...errors import InputError
from .tree import Tree

PATCH_MAX: Final = 16 << 20
"""Bytes of a file of patches."""
SUFFIXES: Final = (".patch", ".diff", ".mbox", ".eml")
_MAIL: Final = re.compile(r"^From \S+.* \d\d:\d\d:\d\d .*\d{4}.*$", re.MULTILINE)
_BARE: Final = re.compile(
    r"^(?:rename to|copy to|new mode \S+|Binary files a/\S+ and b/(?=\S+)|GIT binary patch) ?(\S*)", re.MULTILINE
)
_NUMBER: Final = re.compile(r"\[[^]]*\bPATCH\b[^]]*?\b(\d+)/(\d+)\s*\]", re.IGNORECASE)


@dataclass(frozen=True)
class Patch:
    """One patch: where it was, its title, and its hunks, each with the name of its file in a tree."""

    where: str
    title: str
    hunks: tuple[Hunk, ...]
    number: int = 0

    def __str__(self) -> str:
        return f"{self.where}: {self.title}" if self.title else self.where


def read_series(names: Sequence[str], standard_input: bytes = b"") -> list[Patch]:
    """The patches of diffs, mails, mailboxes and folders, in their order. Raises InputError if there are none."""
    found: list[Patch] = []
    for name in names:
        mine = [patch for file, raw in _files(name, standard_input) for patch in read_patches(file, _text(file, raw))]
        if not mine:
            raise InputError(
                f"{name}: no hunk of a unified diff in it", advice="give a diff, a mail or a mailbox with one"
            )
        found += mine
    return found


def _files(name: str, standard_input: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files that a name stands for: of a folder, as its ``series`` says, else by name."""
    path = Path(name)
    if name == "-":
        yield "standard input", standard_input
        return
    files = [path]
    try:
        if path.is_dir():
            order = path / "series"
            if order.is_file():
                lines = [line.partition("#")[0].split() for line in order.read_text(encoding="utf-8").splitlines()]
                files = [path / words[0] for words in lines if words]
            else:
                files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
        for file in files:
            with file.open("rb") as opened:
                raw = opened.read(PATCH_MAX + 1)
            if len(raw) > PATCH_MAX:
                raise InputError(f"{file}: longer than {PATCH_MAX >> 20} MB: no patch")
            yield str(file), raw
    except OSError as error:
        raise InputError(f"{error.filename or name}: {(error.strerror or str(error)).lower()}") from None


def _text(file: str, raw: bytes) -> str:
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, PATCH_MAX)
        except (zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{file}: cannot be unpacked: {error}") from None
    return raw.decode("utf-8", "replace")


def read_patches(file: str, text: str) -> list[Patch]:
    """The patches of one file: a diff, or one for each mail that has one.

    Replies, and mails without a diff, are left out. Mails are put in the order that their subjects say.
    """
    starts = [match.start() for match in _MAIL.finditer(text)]
    if not starts or text[: starts[0]].strip():
        return _of_mail(file, text, 1, alone=True)
    found = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        found += _of_mail(file, text[start:end], text.count("\n", 0, start) + 1, alone=len(starts) == 1)
    numbers = [patch.number for patch in found]
    twice = sorted({number for number in numbers if number and numbers.count(number) > 1})
    if twice:
        raise InputError(f"{file}: two patches have the number {twice[0]}", advice="keep one version of the series")
    return sorted(found, key=lambda patch: patch.number) if all(numbers) else found


def _of_mail(file: str, text: str, first: int, *, alone: bool) -> list[Patch]:
    """The patch of a mail whose first line is the file's line ``first``; none if it is no patch."""
    rest = text.partition("\n")[2] if text.startswith("From ") else text
    mail = email.message_from_string(rest)
    subject = re.sub(r"\s+", " ", str(mail.get("subject", ""))).strip()
    if not alone and re.match(r"(?:re|aw|antw)\s*:", subject, re.IGNORECASE):
        return []
    encoded = mail.is_multipart() or str(mail.get("content-transfer-encoding", "")).lower() in (
        "quoted-printable",
        "base64",
    )
    number = _NUMBER.search(subject)
    where = f"{file}:{first}"
    # Decoded, lines have no place in the file any more.
    hunks = read_hunks(f"{where}: mail", _decoded(mail), _name) if encoded else read_hunks(file, text, _name, first)
    hunks += _without_hunks(file, text, first)
    title = re.sub(r"^(?:\[[^]]*\]\s*)+", "", subject)
    return [Patch(where, title, tuple(hunks), int(number[1]) if number else 0)] if hunks else []


def _decoded(mail: Message) -> str:
    parts = [part for part in mail.walk() if not part.is_multipart()]
    raw = [part.get_payload(decode=True) for part in parts]
    return "\n".join(data.decode("utf-8", "replace") for data in raw if isinstance(data, bytes))


def _name(line: int, new: str, old: str) -> str:
    """A file's name without the a/ or b/ that stands before it."""
    name = old if new == NONE else new
    return name.partition("/")[2] if name.startswith(("a/", "b/")) else name


def _without_hunks(file: str, text: str, first: int) -> list[Hunk]:
    """What git changes without a hunk: names, modes, binary files. A hunk without lines stands for it."""
    found = []
    for match in _BARE.finditer(text):
        where = f"{file}:{text.count(chr(10), 0, match.start()) + first}"
        before = re.findall(r"^diff --git a/(\S+)", text[: match.start()], re.MULTILINE)
        found.append(Hunk(match[1] or (before[-1] if before else "?"), 0, where, where))
    return found


@dataclass
class Patched:
    """A tree with patches applied; ``lines`` of the changed files know their hunks."""

    tree: Tree
    hunks: tuple[Hunk, ...]
    lines: dict[str, list[Line]]


def apply(tree: Tree, patches: Sequence[Patch]) -> Patched:
    """The tree with patches applied in their order. Raises InputError for a hunk that does not fit.

    A file that was not extracted with KVM's is left alone; its hunks have no lines.
    """
    lines: dict[str, list[Line]] = {}
    changed: dict[str, str | None] = {}
    for patch in patches:
        by_file: dict[str, list[Hunk]] = {}
        for hunk in patch.hunks:
            if hunk.body:
                by_file.setdefault(hunk.file, []).append(hunk)
        for file, mine in by_file.items():
            if file not in lines:
                text = tree.text(file)
                made = text is None and mine[0].start == 0 and not mine[0].old
                if text is None and not made:
                    if tree.lacks(file):
                        raise InputError(
                            f"{mine[0].where}: {file} is not in {tree.name} ({tree.version})", advice=_ADVICE
                        )
                    continue
                lines[file] = [Line(line) for line in (text or "").removesuffix("\n").split("\n")] if text else []
            unfit = fit(lines[file], mine)
            if unfit is not None:
                raise InputError(
                    f"{patch}: does not apply at hunk {unfit + 1} of {file} ({mine[unfit].where})",
                    advice=f"the tree is {tree.version}; {_ADVICE}",
                )
            text = "\n".join(line.text for line in lines[file])
            changed[file] = text + "\n" if lines[file] else None
    return Patched(tree.with_changes(changed), tuple(hunk for patch in patches for hunk in patch.hunks), lines)


_ADVICE: Final = "take a tree that it is made for, and the patches before it"
