"""Walk ring-buffer pages: where each event's data lies and when it happened.

Source: kernel/trace/ring_buffer.c (``rb_event_length``, ``rb_update_event``) and include/linux/ring_buffer.h; the flags
in ``commit`` from ``ring_buffer_read_page``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .formats import PageLayout

Ints = NDArray[np.int64]
Words = NDArray[np.uint32]

DATA_MAX, PADDING, TIME_EXTEND, TIME_STAMP = 28, 29, 30, 31
COMMIT_MASK, MISSED_EVENTS, MISSED_STORED = (1 << 27) - 1, 1 << 31, 1 << 30
MISSED_MAX = 1 << 48
"""No kernel drops more events than this; a larger count is damage."""
ABSOLUTE_BITS = 59
"""A TIME_STAMP holds 59 bits; the upper ones are those of its page's time."""

NOT_FIXED, PAGE_ENDS = 1 << 30, 1 << 40
WORDS = np.arange(1, 33)
"""Words that an event takes, by the kind in its header; ``NOT_FIXED`` where the next word tells."""
WORDS[[0, PADDING]] = NOT_FIXED
WORDS[[TIME_EXTEND, TIME_STAMP]] = 2


@dataclass(slots=True)
class Records:
    """Events found on pages, page by page and in order within each.

    offset  of the event's data, bytes from the first page's start (always a multiple of 4)
    length  bytes of the data
    time    as the clock gave it
    page    number of the page
    broken  pages whose events could not be followed to their end
    missed  (page, its time, count or -1) where the kernel dropped events before a page
    """

    offset: Ints
    length: Ints
    time: Ints
    page: Ints
    broken: list[int]
    missed: list[tuple[int, int, int]]


def walk(pages: NDArray[np.uint8], layout: PageLayout) -> Records:
    """Find the events on ``pages``, an array of shape (pages, bytes a page)."""
    count, size = pages.shape
    words: Words = pages.reshape(-1).view("<u4")
    base = np.arange(count) * (size >> 2)
    stamp = pages[:, layout.timestamp : layout.timestamp + 8].copy().view("<i8").reshape(-1)
    commit = words[base + (layout.commit >> 2)].astype(np.int64)
    room = size - layout.data
    used = np.minimum(commit & COMMIT_MASK, room)
    at, counts, broken = _follow(words, base + (layout.data >> 2), base + ((layout.data + used) >> 2))
    broken[commit & COMMIT_MASK > room] = True

    word = words.take(at)
    kind, delta = word & np.uint32(31), word >> np.uint32(5)
    page = np.repeat(np.arange(count), counts)
    time = _times(delta, kind, words, at, counts, stamp)
    data = np.flatnonzero(kind <= DATA_MAX)
    if data.size < at.size:
        at, page, time, kind = at.take(data), page.take(data), time.take(data), kind.take(data)
    offset, length = (at + 1) << 2, kind.astype(np.int64) << 2
    long = np.flatnonzero(kind == 0)
    offset[long] += 4
    length[long] = _following(words, at[long]) - 4
    missed = _missed(pages, commit, used, stamp, layout)
    return Records(offset, length, time, page, np.flatnonzero(broken).tolist(), missed)


def _follow(words: Words, at: Ints, end: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Indices of all events' headers in order, how many each page has, and where one runs out of its page's events.

    All pages are followed in step, an event of each at a time: a few array operations over a thousand pages take the
    place of a loop over events, so that this needs no compiled code.
    """
    counts, broken = np.zeros(at.size, np.int64), np.zeros(at.size, np.bool_)
    page = np.flatnonzero(at < end)
    at, end = at[page], end[page]
    steps: list[tuple[Ints, Ints]] = []
    while at.size:
        following = at + WORDS.take(words.take(at) & 31)
        live = following < end
        if live.all():
            steps.append((page, at))
            at = following
            continue
        counts[page] = len(steps)
        odd = np.flatnonzero(following >= NOT_FIXED)
        following[odd] = at[odd] + _told(words, at[odd])
        # An empty padding ends its page; anything else that runs past the end of what is in use is damage.
        inside = following <= end
        broken[page[~inside & (following < PAGE_ENDS)]] = True
        page, at, end, following = page[inside], at[inside], end[inside], following[inside]
        steps.append((page, at))
        counts[page] = len(steps)
        live = following < end
        page, at, end = page[live], following[live], end[live]
    return _in_order(steps, counts), counts, broken


def _in_order(steps: list[tuple[Ints, Ints]], counts: Ints) -> Ints:
    """Turn steps (the n-th event of every page that has one) into pages with their events in order."""
    first = np.cumsum(counts) - counts
    found = np.empty(int(counts.sum()), np.int64)
    before, place = None, first
    for n, (page, at) in enumerate(steps):
        if page is not before:
            before, place = page, first.take(page)
        found[place + n] = at
    return found


def _following(words: Words, at: Ints) -> Ints:
    """The words after these; behind the last word comes the last again."""
    return words.take(at + 1, mode="clip").astype(np.int64)


def _told(words: Words, at: Ints) -> Ints:
    """Words taken by long data and by padding: the word after the header tells the bytes, itself included."""
    header, told = words[at], _following(words, at)
    taken = 1 + ((told + 3) >> 2)
    taken[told < 4] = NOT_FIXED
    taken[header == PADDING] = PAGE_ENDS
    return taken


def _times(delta: Words, kind: Words, words: Words, at: Ints, counts: Ints, stamp: Ints) -> Ints:
    """When each event happened: its page's time and all deltas since, or since an absolute time in between."""
    step = delta.astype(np.int64)
    extended = np.flatnonzero(kind >= TIME_EXTEND)
    step[extended] += _following(words, at[extended]) << 27
    total = np.cumsum(step)
    used = np.flatnonzero(counts)
    begins = (np.cumsum(counts) - counts)[used]
    moved = stamp[used] + step[begins] - total[begins]
    absolute = np.flatnonzero(kind == TIME_STAMP)
    if absolute.size:
        its_page = used[np.searchsorted(begins, absolute, "right") - 1]
        known = (stamp[its_page] >> ABSOLUTE_BITS << ABSOLUTE_BITS) | step[absolute]
        # Where a page begins with an absolute time, that comes last of the two and counts.
        begins, moved = np.concatenate([begins, absolute]), np.concatenate([moved, known - total[absolute]])
        order = np.argsort(begins, kind="stable")
        begins, moved = begins[order], moved[order]
    total += np.repeat(moved, np.diff(begins, append=total.size))
    return total


def _missed(
    pages: NDArray[np.uint8], commit: Ints, used: Ints, stamp: Ints, layout: PageLayout
) -> list[tuple[int, int, int]]:
    found = []
    for page in np.flatnonzero(commit & MISSED_EVENTS).tolist():
        number = -1
        stored_at = layout.data + int(used[page])
        if int(commit[page]) & MISSED_STORED and stored_at + layout.commit_size <= pages.shape[1]:
            stored = pages[page, stored_at : stored_at + layout.commit_size].tobytes()
            number = int.from_bytes(stored, "little")
        found.append((page, int(stamp[page]), number if number <= MISSED_MAX else -1))
    return found
