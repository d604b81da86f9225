"""The rows of a model's states: how wide each field is, room for more rows, and all of them in another layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import layout, states
from .fields import moves, placed
from .tabulate import node_bits, packed, tabulate

if TYPE_CHECKING:
    from .model import Model

HELD_BITS = 61
"""Entries that a vCPU may hold at most: a field lies in one word."""


class Restart(Exception):  # noqa: N818 - never leaves the checker
    """What was explored so far left something out."""


def lay_out(model: Model) -> None:
    """Give every field its place in a row; what is spare in a word goes to those that grow, to move less often."""
    p = model.t.p
    widths, first = _widths(model)
    for name, number in first.items():
        p[name] = number
    if model.compact:
        widths = _slack(widths, first)
    model.bits = sum(widths)
    model.fields = placed(widths, range(first[layout.F_TLB], first[layout.F_SLOTS]))
    model.allotted = [int(mask).bit_length() for mask in model.fields[2]]
    model.width = 1 + int(model.fields[0].max())
    t = model.t
    t.fw, t.fs, t.fm = (packed(row) for row in model.fields)
    t.row = packed(np.zeros(model.width, np.int64))
    p[layout.WIDTH] = model.width


def _widths(model: Model) -> tuple[list[int], dict[int, int]]:
    """The bits that each field needs, and the numbers of the first fields of their kinds."""
    setting = model.setting
    programs, tables, vcpus = len(setting.programs), setting.tables, setting.vcpus
    widths = [(len(values) - 1).bit_length() for values in model.values]
    gfns = model.entries**setting.levels
    srcu, log = programs if "srcu" in model.uses else 0, gfns if "log" in model.uses else 0
    found: dict[int, int] = {}
    for name, sizes in (
        (layout.F_READERS, [programs]), (layout.F_WRITER, [programs]), (layout.F_WAITING, [programs]),
        (layout.F_PAGES, [programs]), (layout.F_RCU, [programs]), (layout.F_FREE, [tables]),
        (layout.F_REVOKED, [len(model.revoked)]), (layout.F_PENDING, [programs + 1] * tables),
        (layout.F_FLAGS, [4] * vcpus), (layout.F_TLB, [len(model.held)] * vcpus),
        (layout.F_MARKED, [len(model.held)] * vcpus if setting.machine.ranged else []),
        (layout.F_NODE, [node_bits(model, program) for program in range(programs)]),
        (layout.F_SLOTS, [programs if "slots" in model.uses else 0]), (layout.F_SRCU, [srcu]),
        (layout.F_SYNC, [srcu] * programs), (layout.F_WATCHED, [log]), (layout.F_WRITTEN, [log]),
        (layout.F_PROTECTED, [gfns if "protected" in model.uses else 0]),
        (layout.F_BACKED, [gfns if "backed" in model.uses else 0]), (layout.F_RAN, [model.goal.mask.bit_length()]),
    ):  # fmt: skip
        found[name] = len(widths)
        widths.extend(sizes)
    return widths, found


def _slack(widths: list[int], first: dict[int, int]) -> list[int]:
    """Some bits more, for what is found later: what was hashed cannot be brought into another form."""
    more = list(widths)
    for f in (*range(first[layout.F_READERS]), *range(first[layout.F_NODE], first[layout.F_SLOTS])):
        more[f] += 1
    for f in range(first[layout.F_TLB], first[layout.F_NODE]):
        more[f] = min(more[f] + 8, HELD_BITS)
    return more


def grow(model: Model, most: int) -> None:
    """Room for a quarter more states, not for more than ``most``: free room is part of what a state weighs."""
    t, p = model.t, model.t.p
    if model.compact:
        waiting = int(p[layout.STATES] - p[layout.NEXT])
        if waiting >= p[layout.CAPACITY]:
            states.make_room(t, 2 * int(p[layout.CAPACITY]))
        if 4 * (int(p[layout.STATES]) + 1) > 3 * len(t.index):
            states.rebuild_index(t, 2 * len(t.index))
        return
    capacity = min(int(p[layout.CAPACITY]) * 5 // 4, most)
    states.make_room(t, capacity)
    if 3 * len(t.index) < 4 * capacity:
        states.rebuild_index(t, len(t.index) * 2)


def repack(model: Model) -> None:
    """Tabulate and lay out again, and bring all states into the new form."""
    t, p = model.t, model.t.p
    model.changed = False
    needed = _widths(model)[0]
    if len(needed) == len(model.allotted) and all(n <= has for n, has in zip(needed, model.allotted, strict=True)):
        tabulate(model)
        return
    if model.compact:
        model.met = [max(each, len(mine)) for each, mine in zip(model.met, model.by_program, strict=True)]
        raise Restart
    old_width, old = model.width, model.fields
    first = int(p[layout.F_READERS])
    tabulate(model)
    lay_out(model)
    # Words may have been added, which moves the fields behind them.
    moved = int(p[layout.F_READERS]) - first
    after = [before if before < first else before + moved for before in range(old.shape[1])]
    states.move_rows(t, old_width, moves(old, model.fields[:, after]))
    states.rebuild_index(t, len(t.index))
