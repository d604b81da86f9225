"""Which variables of a built library its code may change: what a snapshot of it must hold besides tables and stacks."""

from __future__ import annotations

import struct
from pathlib import Path

from ...errors import InputError

WRITABLE = (".data", ".bss", ".tdata", ".tbss")
OURS = ("sd_engine", "sd_mem_map", "completed.0", "__dso_handle")
"""The explorer's own, and the linker's."""
COVERAGE = "sd_coverage"
"""Which code ran: no part of a state."""
SYMBOLS, OBJECT = 2, 1
"""Numbers of ELF: the kind of a section that is a table of symbols, and of a symbol that is a variable."""


def _sections(data: bytes) -> list[tuple[str, int, int, int, int]]:
    """(name, type, offset, size, link) of an ELF file's sections."""
    start, entry, count, names = struct.unpack_from("<Q10xHHH", data, 0x28)
    raw = [struct.unpack_from("<IIQQQQII", data, start + n * entry) for n in range(count)]
    text = raw[names][4]

    def name(at: int) -> str:
        return data[text + at : data.index(0, text + at)].decode()

    return [(name(found[0]), found[1], found[4], found[5], found[6]) for found in raw]


def variables(library: Path) -> list[tuple[str, int, int]]:
    """(name, offset, bytes) of each variable that code of the library may change, the explorer's own left out."""
    data = library.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise InputError("not a library for 64-bit x86", path=str(library))
    sections = _sections(data)
    found = []
    for _, kind, offset, size, link in sections:
        if kind != SYMBOLS:
            continue
        strings = sections[link][2]
        for at in range(offset, offset + size, 24):
            name, info, _, section, value, length = struct.unpack_from("<IBBHQQ", data, at)
            if info & 15 != OBJECT or length == 0 or not 0 < section < len(sections):
                continue
            if not any(sections[section][0] == w or sections[section][0].startswith(w + ".") for w in WRITABLE):
                continue
            if sections[section][0].startswith(".data.rel.ro"):
                continue
            text = data[strings + name : data.index(0, strings + name)].decode()
            if text not in OURS and not text.startswith(COVERAGE):
                found.append((text, value, length))
    return sorted(found, key=lambda item: item[1])


def ranges(library: Path) -> list[tuple[int, int]]:
    """Their places (offset, bytes), as few as can be, in whole words of eight bytes."""
    merged: list[list[int]] = []
    for _, offset, length in variables(library):
        first, end = offset & ~7, (offset + length + 7) & ~7
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([first, end])
    return [(first, end - first) for first, end in merged]
