"""Layouts of events and of ring-buffer pages, taken from the format descriptions that the recording carries.

Source: the files ``events/*/*/format`` and ``events/header_page`` of tracefs, as stored in a trace.dat.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError

FIELD = re.compile(
    r"field:(?P<decl>[^;:\n]{1,256});[ \t]*offset:(?P<offset>\d{1,9});[ \t]*size:(?P<size>\d{1,9});"
    r"(?:[ \t]*signed:(?P<signed>\d);)?"
)
NAME, NUMBER = re.compile(r"^name: (\S{1,256})$", re.M), re.compile(r"^ID: (\d{1,9})$", re.M)
ARRAY, LOCATED = re.compile(r"(\w+)\[[^\]]*\]$"), re.compile(r"__(data|rel)_loc\b")
RECORD_MAX = 1 << 16
"""No event is longer than 16 bits can say; offsets beyond are lies."""
FIELDS_MAX = 1024
"""Fields of one event; kprobes have at most 128."""
SLICED = ("dynamic", "relative", "rest")
"""Kinds of fields that have a place or length of their own in every event."""


@dataclass(slots=True, frozen=True)
class Field:
    """One field: ``size`` bytes at ``offset`` of the event's data.

    dtype   numpy's name of a whole number ("<u8"), "" for anything else
    kind    "number", "bytes" (an array inside the event), "dynamic" (a ``__data_loc``: u32, offset | length << 16),
            "relative" (a ``__rel_loc``: the same, but the offset counts from the field's end),
            "rest" (all from the offset to the event's end)
    """

    name: str
    offset: int
    size: int
    dtype: str
    kind: str


@dataclass(slots=True, frozen=True)
class Layout:
    """One event: its number in the records (``common_type``), and its own fields without the common ones."""

    name: str
    number: int
    fields: tuple[Field, ...]


@dataclass(slots=True, frozen=True)
class PageLayout:
    """A ring-buffer page: where its time, the count of its bytes in use (``commit``), and its events are."""

    timestamp: int
    commit: int
    commit_size: int
    data: int


def _field(text: re.Match[str]) -> Field:
    declared = text["decl"].strip()
    offset, size = int(text["offset"]), int(text["size"])
    array, located = ARRAY.search(declared), LOCATED.match(declared)
    name = array[1] if array else (declared.split() or ["?"])[-1].lstrip("*")
    if located and size == 4:
        return Field(name, offset, size, "<u4", "dynamic" if located[1] == "data" else "relative")
    if array and size == 0:
        return Field(name, offset, 0, "", "rest")
    if not array and size in (1, 2, 4, 8):
        return Field(name, offset, size, f"<{'i' if text['signed'] == '1' else 'u'}{size}", "number")
    return Field(name, offset, size, "", "bytes")


def shown(text: str) -> str:
    """A name out of a file, as it may stand in a message: short, in one line and printable."""
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def parse_name(system: str, text: str, path: str) -> tuple[int, str]:
    """Number and full name ("kvm:kvm_exit") of the event in a format file; raises InputError if it has none."""
    name, number = NAME.search(text), NUMBER.search(text)
    if not name or not number:
        raise InputError(f"an event format of system {shown(system)} has no name or ID", path=path)
    if int(number[1]) >= 1 << 16:
        raise InputError(f"event {shown(name[1])} has the number {number[1]}, which does not fit in 16 bits", path=path)
    return int(number[1]), f"{system}:{name[1]}"


def parse_layout(system: str, text: str, path: str) -> Layout:
    """The layout in an event's format file; raises InputError if it has no name or number or cannot be true."""
    number, name = parse_name(system, text, path)
    fields: dict[str, Field] = {}
    for match in FIELD.finditer(text):
        field = _field(match)
        if field.offset + field.size > RECORD_MAX:
            raise InputError(f"format of {shown(name)}: field {shown(field.name)} lies outside any event", path=path)
        if field.name in fields or len(fields) == FIELDS_MAX:
            raise InputError(f"format of {shown(name)}: field {shown(field.name)} is one too many", path=path)
        if not field.size and field.kind != "rest":
            raise InputError(f"format of {shown(name)}: field {shown(field.name)} has no size", path=path)
        fields[field.name] = field
    return Layout(name, number, tuple(f for f in fields.values() if not f.name.startswith("common_")))


def common_places(formats: list[str], path: str, offset: int | None = None) -> tuple[int, int]:
    """Where in an event's data its number and its task are, from the first format file that says it."""
    for text in formats:
        found = {f.name: f for f in map(_field, FIELD.finditer(text))}
        number, task = found.get("common_type"), found.get("common_pid")
        if number and task and number.size == 2 and task.size == 4:
            if number.offset <= 64 and task.offset <= 64 and not number.offset % 2 and not task.offset % 4:
                return number.offset, task.offset
    raise InputError("the event formats do not say where an event's type and task are", path=path, offset=offset)


def parse_page_layout(text: str, path: str, offset: int | None = None) -> PageLayout:
    """The layout in tracefs's ``header_page``."""
    fields = {f.name: f for f in map(_field, FIELD.finditer(text))}
    try:
        timestamp, commit, data = fields["timestamp"], fields["commit"], fields["data"]
    except KeyError as missing:
        raise InputError(f"header_page has no field {missing}", path=path, offset=offset) from None
    if timestamp.size != 8 or commit.size not in (4, 8) or commit.offset % 4:
        raise InputError("header_page describes no ring buffer that is known", path=path, offset=offset)
    if data.offset % 4 or not max(timestamp.offset + 8, commit.offset + commit.size) <= data.offset <= 64:
        raise InputError("header_page puts its header behind the events", path=path, offset=offset)
    return PageLayout(timestamp.offset, commit.offset, commit.size, data.offset)
