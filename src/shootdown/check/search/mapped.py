"""Is a page that the host took back still mapped, by whichever root?"""

from __future__ import annotations

from mypy_extensions import i64

from .layout import ENTRIES, F_REVOKED, LEVELS, ROOTS_WORD, TABLES, VALUES, Tables, bit_of, get


def mapping(t: Tables, word: i64, value: i64) -> bool:
    """Does a value map a page, or link a table that may?"""
    x = word * t.p[VALUES] + value
    return t.pfn[x] >= 0 or t.what[x] == 2


def any_mapped(t: Tables) -> bool:
    """Is any page still mapped that was taken back?"""
    x = get(t.row, 0, t.p[F_REVOKED], t.fw, t.fs, t.fm)
    number: i64 = 0
    while x != 0:
        if x & 1 != 0 and still_mapped(t, number):
            return True
        x >>= 1
        number += 1
    return False


def still_mapped(t: Tables, number: i64) -> bool:
    """Does a leaf under a root on the list map a pfn that is taken back? Rights do not matter: KVM will zap it."""
    p = t.p
    fw, fs, fm, row = t.fw, t.fs, t.fm, t.row
    entries, values = p[ENTRIES], p[VALUES]
    words = p[TABLES] * entries
    if p[ROOTS_WORD] < 0:
        return False
    here = t.child[p[ROOTS_WORD] * values + get(row, 0, p[ROOTS_WORD], fw, fs, fm)]
    gone = t.gone[number]
    pages: i64 = 1
    level = p[LEVELS]
    while level > 1:
        pages *= entries
        level -= 1
    while pages > 0:
        below: i64 = 0
        word: i64 = 0
        while word < words:
            if here & bit_of(word // entries) != 0:
                x = word * values + get(row, 0, word, fw, fs, fm)
                first = t.pfn[x]
                if first >= 0 and first <= gone and gone < first + pages:
                    return True
                if t.what[x] == 2:
                    below |= bit_of(t.child[x])
            word += 1
        here = below
        pages //= entries
    return False
