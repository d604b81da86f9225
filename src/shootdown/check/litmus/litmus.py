"""Litmus tests: small situations with a promise, in TOML files, one a test.

promise = "what must hold, in a sentence"
guards = ["P1"]                  # properties that it is about (docs/model.md)
behaviours = ["6.12"]            # behaviours that it is for, the default first; with 6.12 also all later ones
until = "6.12"                   # but none after this one
exercises = ["zap_leafs"]        # functions that must run, or the test says nothing
policies = ["eager", "rcu"]      # policies that it can tell apart or must pass; all, if missing
refuted = ["rcu-literal"]        # those that must be refuted; all others must hold
defects = ["6.1"]                # behaviours that have the defect: all policies must be refuted
ranged = true                    # a flush of a range leaves what is outside of it

[geometry]                       # of the full test; [tiny] changes some of it
levels = 2                       # of page tables with 2 entries each
tables = 4                       # that there are
vcpus = 2                        # as many as there are [[vcpu]]; [tiny] may leave the last out

[start]
map = [[0, 1]]                   # gfn and level of what is mapped at first, in every root
map_nested = [[2, 1]]            # the same in the root of nested guests only; map_as1: of address space 1
host = [[0, 2]]                  # gfn and level of what the host maps larger than 4K
nx = false                       # the NX mitigation is on: tables count as split by it

[[vcpu]]
gfns = [0, 1]                    # that its guest touches
as_id = 0                        # 1: it runs in system management mode, on a root of its own
execute = false                  # its faults are instruction fetches
nested = false                   # it runs a nested guest, on a root of that kind
switches = false                 # its guest enters and leaves a nested guest
ahead = 0                        # gfn that its thread maps ahead of the guest's faults

[[host]]
name = "notifier"
run = "unmap"                    # programs.HOST, with its keys
start = 0
end = 2

What it says of memory slots, logs and hardware is in memory.py.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError, text_of
from ...mmu.behaviour import BEHAVIOURS
from ...mmu.policies.registry import POLICIES
from ..program.programs import HOST
from .memory import FLAGS, SLOT, START, Memory, read_memory

SUITE = Path(__file__).resolve().parents[1] / "suite"
DEFAULT_POLICIES = ("eager", "list", "list-as-posted", "rcu", "rcu-literal", "promote")
LONG = "6.12"
"""Who keeps a promise under this behaviour keeps it under all that came later."""
PROPERTIES = ("P1", "P2", "P3", "P4", "P5", "P6")
"""What a test can be about; docs/model.md says what they are."""
LEVELS_MAX, TABLES_MAX, VCPUS_MAX, HOST_MAX, ROUNDS_MAX = 3, 10, 3, 3, 3

KEYS: dict[str, dict[str, type]] = {
    "": {
        "promise": str, "guards": list, "behaviours": list, "until": str, "exercises": list, "policies": list,
        "refuted": list, "defects": list, "geometry": dict, "tiny": dict, "start": dict,
        "slot": list, "vcpu": list, "host": list, "ranged": bool,
    },
    "geometry": {"levels": int, "tables": int, "vcpus": int},
    "tiny": {"tables": int, "vcpus": int},
    "start": {"map": list, "map_as1": list, "map_nested": list, "host": list, "nx": bool, **START},
    "slot": SLOT,
    "vcpu": {
        "gfns": list, "writes": list, "as_id": int, "execute": bool, "parked": bool,
        "nested": bool, "switches": bool, "ahead": int,
    },
    "host": {
        "name": str, "run": str, "start": int, "end": int, "refill": int, "may_block": bool, "tables": int,
        "rounds": int, "vcpu": int, "gfn": int, "execute": bool, "slot": int, "base": int, "pages": int,
        "read_only": bool, "flags": list,
    },
}  # fmt: skip
"""Keys of each table of a file and the types of their values."""


@dataclass(frozen=True)
class Geometry:
    """Levels of page tables (of 2 entries each), page tables that there are, vCPUs that take part."""

    levels: int
    tables: int
    vcpus: int


@dataclass(frozen=True)
class Litmus:
    """One test; see the module's text for the fields of the file."""

    name: str
    path: str
    promise: str
    guards: tuple[str, ...]
    behaviours: tuple[str, ...]
    exercises: tuple[str, ...]
    policies: tuple[str, ...]
    refuted: frozenset[str]
    full: Geometry
    tiny: Geometry
    mapped: tuple[tuple[int, int], ...]
    mapped_as1: tuple[tuple[int, int], ...]
    mapped_nested: tuple[tuple[int, int], ...]
    host_levels: tuple[tuple[int, int], ...]
    nx: bool
    vcpus: tuple[dict[str, Any], ...] = field(hash=False)
    host: tuple[dict[str, Any], ...] = field(hash=False)
    defects: frozenset[str] = frozenset()
    until: str = ""
    ranged: bool = False
    memory: Memory = field(default_factory=Memory)

    def is_for(self, behaviour: str) -> bool:
        """Is it for a behaviour? What is for ``LONG`` is for later ones too, unless it says until when."""
        if behaviour in self.behaviours:
            return True
        order = [*BEHAVIOURS]
        last = order.index(self.until) if self.until else len(order)
        return LONG in self.behaviours and order.index(LONG) < order.index(behaviour) <= last

    def expected(self, policy: str, behaviour: str) -> str:
        """The verdict that this test must give for a policy under a behaviour."""
        return "refuted" if policy in self.refuted or behaviour in self.defects else "holds"


class File:
    """A litmus file while it is read: knows lines, so that errors can name them."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        try:
            self.data = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            found = re.search(r"line (\d+)", str(error))
            line = found[1] if found else "1"
            what = re.sub(r" \(at .*\)", "", str(error))
            raise InputError(f"{path}:{line}: {what[:1].lower()}{what[1:]}") from None

    def wrong(self, table: str, key: str, text: str, number: int = 0) -> InputError:
        """An error about a key of a table (the ``number``-th of that name)."""
        return InputError(f"{self.path}:{self._line(table, key, number)}: {text}")

    def _line(self, table: str, key: str, number: int) -> int:
        inside, seen, best = table == "", -1, 1
        for n, line in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line)
            if header:
                seen += header[1] == table
                inside = header[1] == table and seen == number
                best = n if inside else best
            elif inside and re.match(rf"\s*{re.escape(key)}\s*=", line):
                return n
        return best

    def check(self, table: str, found: dict[str, Any], number: int = 0) -> None:
        """Refuse unknown keys and values of a wrong type."""
        allowed = KEYS[table]
        for key, value in found.items():
            if key not in allowed:
                known = ", ".join(allowed)
                raise self.wrong(table, key, f"unknown key '{key}'; known are {known}", number)
            kind = allowed[key]
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise self.wrong(table, key, f"'{key}' must be a {_TYPES[kind]}", number)


_TYPES = {str: "text", list: "list", dict: "table", int: "whole number", bool: "true or false"}


def read_litmus(path: Path) -> Litmus:
    """Read one file. Raises InputError, which names file and line."""
    try:
        return litmus_of(path, text_of(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a litmus test: no UTF-8 at byte {error.start}") from None


def embedded(name: str, text: str, where: str) -> Litmus:
    """The test of that name whose text another file holds. Raises InputError, which names that file."""
    try:
        return litmus_of(Path(f"{Path(name).name or 'test'}.toml"), text)
    except InputError as error:
        raise InputError(f"{where}: damaged: its text is no litmus test: {error}") from None


def litmus_of(path: Path, text: str) -> Litmus:
    """The test that the text of a file is. Raises InputError, which names file and line."""
    file = File(path, text)
    data = file.data
    file.check("", data)
    for key in ("promise", "geometry", "vcpu", "host"):
        if key not in data:
            raise file.wrong("", key, f"'{key}' is missing")
    for key in ("geometry", "tiny", "start"):
        file.check(key, data.get(key, {}))
    for key in ("slot", "vcpu", "host"):
        for n, entry in enumerate(data.get(key, [])):
            if not isinstance(entry, dict):
                raise file.wrong("", key, f"'{key}' must be tables: [[{key}]]")
            file.check(key, entry, n)
    full = _geometry(file, "geometry", data["geometry"])
    tiny = _geometry(file, "tiny", {**data["geometry"], **data.get("tiny", {})})
    start = data.get("start", {})
    behaviours = _names(file, "behaviours", data.get("behaviours", ["6.12"]), tuple(BEHAVIOURS))
    policies = _names(file, "policies", data.get("policies", list(DEFAULT_POLICIES)), tuple(POLICIES))
    refuted = _names(file, "refuted", data.get("refuted", []), policies)
    until = _names(file, "until", [data["until"]], tuple(BEHAVIOURS))[0] if "until" in data else ""
    for key, found in (("behaviours", behaviours), ("policies", policies)):
        if not found:
            raise file.wrong("", key, f"'{key}' is empty; name at least one")
    span = 2**full.levels
    memory = read_memory(file, data, span)
    mapped = _pairs(file, "map", start.get("map", []), span, full.levels)
    mapped_as1, mapped_nested = (
        _pairs(file, key, start.get(key, []), span, full.levels, mapped) for key in ("map_as1", "map_nested")
    )
    return Litmus(
        name=path.stem,
        path=str(path),
        promise=data["promise"],
        guards=_names(file, "guards", data.get("guards", []), PROPERTIES),
        behaviours=behaviours,
        until=until,
        ranged=data.get("ranged", False),
        exercises=_texts(file, "exercises", data.get("exercises", [])),
        policies=policies,
        refuted=frozenset(refuted),
        full=full,
        tiny=tiny,
        mapped=mapped,
        mapped_as1=mapped_as1,
        mapped_nested=mapped_nested,
        host_levels=_pairs(file, "host", start.get("host", []), span, full.levels),
        nx=start.get("nx", False),
        vcpus=_vcpus(file, data["vcpu"], full, span),
        defects=frozenset(_names(file, "defects", data.get("defects", []), behaviours)),
        memory=memory,
        host=_host(file, data["host"], min(full.vcpus, tiny.vcpus), span, memory),
    )


def _geometry(file: File, table: str, data: dict[str, Any]) -> Geometry:
    for key, low, high in (("levels", 2, LEVELS_MAX), ("tables", 1, TABLES_MAX), ("vcpus", 1, VCPUS_MAX)):
        if key not in data:
            raise file.wrong(table, key, f"'{key}' is missing in [{table}]")
        if not low <= data[key] <= high:
            raise file.wrong(table, key, f"'{key}' must be {low} to {high}")
    return Geometry(data["levels"], data["tables"], data["vcpus"])


def _texts(file: File, key: str, found: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in found):
        raise file.wrong("", key, f"'{key}' must be a list of texts")
    return tuple(found)


def _names(file: File, key: str, found: list[Any], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in _texts(file, key, found):
        if name not in known:
            raise file.wrong("", key, f"'{name}' in '{key}' is none of {', '.join(known)}")
    return tuple(found)


def _pairs(
    file: File, key: str, found: list[Any], span: int, levels: int, others: tuple[tuple[int, int], ...] = ()
) -> tuple[tuple[int, int], ...]:
    """Pairs of gfn and level that overlap neither one another nor ``others``, as one table holds them."""
    taken = {gfn + n: (gfn, level) for gfn, level in others for n in range(2 ** (level - 1))}
    for item in found:
        whole = isinstance(item, list) and len(item) == 2 and all(type(n) is int for n in item)
        if not whole or not (0 <= item[0] < span and 1 <= item[1] <= levels):
            raise file.wrong(
                "start", key, f"'{key}' must hold pairs of a gfn (below {span}) and a level (1 to {levels})"
            )
        gfn, level = item
        if gfn % 2 ** (level - 1):
            raise file.wrong("start", key, f"{item} in '{key}': the gfn must be a multiple of 2**(level-1)")
        for covered in range(gfn, gfn + 2 ** (level - 1)):
            if covered in taken:
                raise file.wrong("start", key, f"{item} in '{key}' overlaps {list(taken[covered])}")
            taken[covered] = gfn, level
    return tuple((gfn, level) for gfn, level in found)


def _vcpus(file: File, found: list[dict[str, Any]], full: Geometry, span: int) -> tuple[dict[str, Any], ...]:
    for n, entry in enumerate(found):
        gfns = [*entry.get("gfns", []), *entry.get("writes", [])]
        if not gfns or not all(type(gfn) is int and 0 <= gfn < span for gfn in gfns):
            raise file.wrong("vcpu", "gfns", f"'gfns' and 'writes' must be gfns below {span}", n)
        if not 0 <= entry.get("ahead", 0) < span:
            raise file.wrong("vcpu", "ahead", f"'ahead' must be a gfn below {span}", n)
        if sum(key in entry for key in ("parked", "switches", "ahead")) > 1:
            raise file.wrong("vcpu", "switches", "only one of 'parked', 'switches' and 'ahead'", n)
        if entry.get("as_id", 0) not in (0, 1):
            raise file.wrong("vcpu", "as_id", "'as_id' must be 0 or 1", n)
    if len(found) < full.vcpus:
        raise file.wrong("geometry", "vcpus", f"there are only {len(found)} [[vcpu]]")
    if len(found) > full.vcpus:
        few = f"{len(found)} [[vcpu]], and 'vcpus' has {full.vcpus} take part; only [tiny] may leave some out"
        raise file.wrong("geometry", "vcpus", few)
    return tuple(found)


def _host(file: File, found: list[dict[str, Any]], vcpus: int, span: int, memory: Memory) -> tuple[dict[str, Any], ...]:
    if len(found) > HOST_MAX:
        raise file.wrong("host", "name", f"more than {HOST_MAX} tasks of the host", HOST_MAX)
    names = set()
    if sum(entry.get("run") == "zap_all_fast" for entry in found) > 1:
        raise file.wrong("host", "run", "'zap_all_fast' twice: slots_lock, which it does not take, excludes that", 1)
    if sum(entry.get("run") == "recover_nx" for entry in found) > 1:
        raise file.wrong("host", "run", "'recover_nx' twice: a VM has one such worker; give it more 'rounds'", 1)
    for n, entry in enumerate(found):
        run = entry.get("run")
        if run not in HOST:
            raise file.wrong("host", "run", f"'run' must be one of {', '.join(HOST)}", n)
        name = entry.get("name", "")
        if not name or name in names or re.fullmatch(r"vCPU\d+", name):
            raise file.wrong("host", "name", "'name' is missing or taken (vCPUs are called vCPU0, vCPU1, ...)", n)
        names.add(name)
        for key in entry:
            if key not in ("name", "run", *HOST[run][1]):
                raise file.wrong("host", key, f"'{run}' takes no '{key}'", n)
        start, end = entry.get("start", 0), entry.get("end", span)
        if not -1 <= entry.get("refill", -1) <= 1 << 20 or entry.get("refill", -1) in range(span):
            raise file.wrong("host", "refill", f"'refill' must be -1, or {span} to {1 << 20}", n)
        if not all(isinstance(flag, str) and flag in FLAGS for flag in entry.get("flags", [])):
            raise file.wrong("host", "flags", f"'flags' must be some of {', '.join(FLAGS)}", n)
        if not 0 <= entry.get("slot", 0) < max(1, len(memory.slots)):
            raise file.wrong("host", "slot", "no such slot", n)
        if not memory.slots and "slot" in HOST[run][1]:
            raise file.wrong("host", "run", f"'{run}' needs a [[slot]]", n)
        if not 0 <= start < end <= span:
            raise file.wrong("host", "end", f"the range must lie within 0 to {span}", n)
        for key, most in (("tables", TABLES_MAX), ("rounds", ROUNDS_MAX)):
            if not 1 <= entry.get(key, 1) <= most:
                raise file.wrong("host", key, f"'{key}' must be 1 to {most}", n)
        if not 0 <= entry.get("vcpu", 0) < vcpus or not 0 <= entry.get("gfn", 0) < span:
            raise file.wrong("host", "vcpu", "no such vCPU or gfn", n)
    return tuple(found)


def suite() -> list[Litmus]:
    """All tests that come with the program, by name."""
    return [read_litmus(path) for path in sorted(SUITE.glob("*.toml"))]
