"""The tables of ``core`` that depend on words, values, nodes and held entries, made anew when one of these is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from librt.vecs import vec
from mypy_extensions import i64
from numpy.typing import NDArray

from ...machine import words
from ...mmu.spte import LARGE, PRESENT, spte_pfn
from ..program.access import is_buffer
from ..program.amiss import KINDS, amiss
from ..program.guest import DIRTIES, LACKING, MAY_WRITE, TOUCHES, WRITES, need_of
from ..program.steps import PROGRAMS_MAX
from . import layout

if TYPE_CHECKING:
    from .model import Model

Ints = NDArray[np.int64]
COUNTS = (words.ROOT_COUNT, words.ROOT_INVALID, words.ROOT_SCHEDULED)


def packed(array: Ints) -> vec[i64]:
    """A numpy array as a packed vector."""
    return vec[i64](memoryview(np.ascontiguousarray(array, np.int64)))  # type: ignore[arg-type]


def _references(model: Model, child: Ints) -> None:
    """Who has references to roots, and how many each root counts."""
    numbers, tables = model.word_numbers, range(model.setting.tables)
    counts = [numbers.get((kind, table), -1) for table in tables for kind in COUNTS]
    users = [n for name, n in numbers.items() if isinstance(name, tuple) and name[0] == words.VCPU_PREV_ROOT]
    for word in (*counts, *users):
        if word >= 0:
            # A previous root is kept as its number + 1.
            child[word, : len(model.values[word])] = np.array(model.values[word]) - (word in users)
    users += [model.spte_words + vcpu for vcpu in range(model.setting.vcpus)]
    model.t.counts, model.t.users = packed(np.array(counts, np.int64)), packed(np.array(users, np.int64))
    model.t.lent = packed(np.array([model.setting.lent.get(table, 0) for table in tables], np.int64))


def tabulate(model: Model) -> None:
    """Fill all of them."""
    _values(model)
    masks = _held(model)
    _programs(model)
    _acts(model, masks)
    setting, t, p = model.setting, model.t, model.t.p
    owners = [model.owner(name) for name in model.words[model.spte_words :]]
    t.word_table = packed(np.array(owners, np.int64))
    paths = np.zeros((model.entries**setting.levels, setting.levels + 1), np.int64)
    for gfn in range(len(paths)):
        for level in range(1, setting.levels + 1):
            paths[gfn, level] = gfn >> (setting.bits * (level - 1)) & (model.entries - 1)
    t.path = packed(paths.ravel())
    buffers = [n for name, n in model.word_numbers.items() if isinstance(name, tuple) and is_buffer(name)]
    t.buffers = packed(np.array(buffers, np.int64))
    for name, value in (
        (layout.WORDS, len(model.words)), (layout.TABLES, setting.tables), (layout.ENTRIES, model.entries),
        (layout.VCPUS, setting.vcpus), (layout.PROGRAMS, len(setting.programs)), (layout.LEVELS, setting.levels),
        (layout.PREFIXES, model.prefixes), (layout.SPTES, len(model.sptes)), (layout.ROOT_WORDS, model.spte_words),
        (layout.WORD_FIRST, model.spte_words), (layout.TABLE_WORDS, len(owners)), (layout.MOVERS, int(model.movers)),
        (layout.RANGED, int(setting.machine.ranged > 0)),
        (layout.ENDLESS, sum(1 << n for n, each in enumerate(setting.programs) if each.vcpu >= 0 or each.buffer)),
    ):  # fmt: skip
        p[name] = value


def _values(model: Model) -> None:
    """What each value of each word means."""
    setting, t, p = model.setting, model.t, model.t.p
    hardware = setting.hardware
    values = max(len(v) for v in model.values)
    count = len(model.words)
    what = np.zeros((count, values), np.int64)
    child = np.full((count, values), -1, np.int64)
    entry = np.zeros((count, values), np.int64)
    soiled = np.full((count, values), -1, np.int64)
    touched = np.full((count, values), -1, np.int64)
    volatile = np.zeros((count, values), np.int64)
    pfn = np.full((count, values), -1, np.int64)
    logged = np.zeros((count, values), np.int64)
    page = np.full((count, values), -1, np.int64)
    writes = np.zeros((count, values), np.int64)
    for word, raws in enumerate(model.values[: model.spte_words]):
        for n, raw in enumerate(raws):
            entry[word, n] = model.sptes.setdefault(raw, len(model.sptes))
            if hardware.rights(raw):
                # Leaves of the lowest level are leaves whatever bit 7 says; a table is never of level 0.
                leaf = bool(raw & LARGE) or not setting.is_table(raw)
                what[word, n] = 1 if leaf else 2
                if not leaf:
                    child[word, n] = spte_pfn(raw)
                else:
                    page[word, n], writes[word, n] = spte_pfn(raw), hardware.rights(raw) & MAY_WRITE
            elif hardware.is_reserved(raw):
                what[word, n] = -1
            if not setting.is_table(raw):
                volatile[word, n] = hardware.may_change(raw)
                pfn[word, n] = spte_pfn(raw) if raw & PRESENT else -1
                for table, kind in ((soiled, DIRTIES), (touched, TOUCHES)):
                    after = hardware.touched(raw, kind)
                    if after != raw and after in model.value_ids[word]:
                        table[word, n] = model.value_ids[word][after]
    for vcpu in range(setting.vcpus):
        word = model.spte_words + vcpu
        child[word, : len(model.values[word])] = model.values[word]
    _references(model, child)
    roots = model.word_numbers.get(("list", words.ROOTS), -1)
    if roots >= 0:
        child[roots, : len(model.values[roots])] = [sum(1 << t for t in raw) for raw in model.values[roots]]
    for name, bits in setting.logs.items():
        number = model.word_numbers[name]
        for n, raw in enumerate(model.values[number]):
            logged[number, n] = sum(1 << gfn for gfn, bit in bits.items() if raw & bit)
    for name in setting.ring_words():
        number = model.word_numbers[name]
        for n, raw in enumerate(model.values[number]):
            logged[number, n] = 1 << setting.rings[raw] if raw in setting.rings else 0
    p[layout.ROOTS_WORD], p[layout.VALUES] = roots, values
    t.what, t.child, t.entry = packed(what.ravel()), packed(child.ravel()), packed(entry.ravel())
    t.soiled, t.touched = packed(soiled.ravel()), packed(touched.ravel())
    t.volatile, t.logged, t.pfn = packed(volatile.ravel()), packed(logged.ravel()), packed(pfn.ravel())
    t.page, t.writes = packed(page.ravel()), packed(writes.ravel())


def _held(model: Model) -> dict[int, tuple[int, range, int]]:
    """Masks of the entries that hardware may hold; of each leaf's bit, its SPTE, gfns and rights."""
    setting, t = model.setting, model.t
    tables, entries, prefixes = setting.tables, model.entries, model.prefixes
    places = tables * prefixes * entries
    bit = np.full((places, len(model.sptes)), -1, np.int64)
    lead = np.zeros((tables * prefixes, tables), np.int64)
    into, under = np.zeros(tables, np.int64), np.zeros(tables, np.int64)
    writable = np.zeros(entries**setting.levels, np.int64)
    alike = np.zeros(len(model.sptes), np.int64)
    maps: dict[int, int] = {}
    wrong = dict.fromkeys((0, *KINDS), 0)
    ranges = [0] * max(1, len(setting.promises))
    found: dict[int, tuple[int, range, int]] = {}
    for n, (place, raw) in enumerate(model.held):
        bit[place, model.sptes[raw]] = n
        mask = 1 << n
        alike[model.sptes[raw]] |= mask
        tag, first, pages = model.span(place)
        under[tag] |= mask
        wrong[amiss(setting, raw, range(first, first + pages))] |= mask
        if setting.is_table(raw):
            at = place // entries
            below = (at % prefixes) * entries + place % entries + 1
            if below < prefixes:
                lead[at - at % prefixes + below, spte_pfn(raw)] |= mask
            into[spte_pfn(raw)] |= mask
            continue
        gfns = range(first, first + pages)
        found[n] = (raw, gfns, setting.hardware.rights(raw))
        if found[n][2] & need_of(2):
            writable[first : first + pages] |= mask
        for pfn in range(spte_pfn(raw), spte_pfn(raw) + pages):
            maps[pfn] = maps.get(pfn, 0) | mask
        for promise, (start, end) in enumerate(setting.promises):
            if first < end and start < first + pages:
                ranges[promise] |= mask
    t.bit, t.lead, t.into, t.under = packed(bit.ravel()), packed(lead.ravel()), packed(into), packed(under)
    t.gone = packed(np.array(model.revoked, np.int64))
    t.maps = packed(np.array([maps.get(pfn, 0) for pfn in model.revoked], np.int64))
    t.ranges, t.writable, t.alike = packed(np.array(ranges, np.int64)), packed(writable), packed(alike)
    t.amiss = packed(np.array([wrong[kind] for kind in KINDS], np.int64))
    t.p[layout.AMISS] = sum(wrong[kind] for kind in KINDS)
    _flushes(model)
    return found


def _flushes(model: Model) -> None:
    """What flushes of a range drop (flushes.py has the rule), and from which vCPUs."""
    drops = np.zeros(len(model.flushes), np.int64)
    targets = np.full((len(model.flushes), PROGRAMS_MAX), -1, np.int64)
    for number, (left, start, count) in enumerate(model.flushes):
        targets[number, : len(left)] = left
        for n, (place, raw) in enumerate(model.held):
            _, first, pages = model.span(place)
            inside = max(0, min(first + pages, start + count) - max(first, start))
            if inside == pages or (inside and not model.setting.is_table(raw)):
                drops[number] |= 1 << n
    model.t.drops, model.t.targets = packed(drops), packed(targets.ravel())


def node_bits(model: Model, program: int) -> int:
    """Bits that tell the nodes of a program apart."""
    return max(1, (max(len(model.by_program[program]), model.met[program]) - 1).bit_length())


def _programs(model: Model) -> None:
    """By program and local number, the node."""
    model.node_room = [1 << node_bits(model, program) for program in range(len(model.by_program))]
    most = max(model.node_room)
    nodes = np.zeros((len(model.by_program), most), np.int64)
    for program, mine in enumerate(model.by_program):
        nodes[program, : len(mine)] = mine
    model.t.nodes = packed(nodes.ravel())
    model.t.p[layout.NODES_MAX] = most


def _acts(model: Model, held: dict[int, tuple[int, range, int]]) -> None:
    """What guests can do, by program and choice; choice 0 is an interrupt."""
    setting, t = model.setting, model.t
    most = max((len(found) for found, _ in model.acts), default=0) + 1
    kind, gfns, spot, able = (np.zeros((len(model.acts), most), np.int64) for _ in range(4))
    for n, (found, faults) in enumerate(model.acts):
        gfns[n, 0], spot[n, 0] = faults, len(found)
        for choice, act in enumerate(found, 1):
            kind[n, choice], gfns[n, choice], spot[n, choice] = act.kind, act.gfn, act.table
            if act.kind == LACKING:
                need = need_of(act.code)
                able[n, choice] = sum(
                    1 << b for b, (_, g, rights) in held.items() if act.gfn in g and not rights & need
                )
            elif act.kind == WRITES:
                able[n, choice] = sum(
                    1 << b for b, (raw, g, _) in held.items() if act.gfn in g and setting.hardware.keeps_dirty(raw)
                )
    t.act, t.gfns, t.spot, t.able = (packed(table.ravel()) for table in (kind, gfns, spot, able))
    t.p[layout.GFNS_MAX] = most
    _pml(model)


def _pml(model: Model) -> None:
    """Where the CPU logs the pages that it writes, if it does."""
    setting, t, p = model.setting, model.t, model.t.p
    gfns, values = model.entries**setting.levels, int(p[layout.VALUES])
    where = np.full(gfns, -1, np.int64)
    after = np.zeros((gfns, values), np.int64)
    for name, bits in setting.logs.items() if setting.hardware.logs else ():
        number: Any = model.word_numbers[name]
        for gfn, bit in bits.items():
            where[gfn] = number
            for n, raw in enumerate(model.values[number]):
                after[gfn, n] = model.value_ids[number].get(raw | bit, n)
    t.pml, t.pml_word = packed(after.ravel()), packed(where)
