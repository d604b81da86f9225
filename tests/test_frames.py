"""Places of programs as values: what the MMU keeps in its objects is compared by content."""

from __future__ import annotations

from librt.vecs import append, vec
from mypy_extensions import i64

from shootdown.check.frames import frozen


def test_vectors_are_compared_by_content() -> None:
    """Two vectors of words are equal exactly if their words are, and none equals a list."""
    one, two = vec[i64]([1, 2]), append(vec[i64]([1]), 2)
    assert frozen(one, {}, {}) == frozen(two, {}, {})
    assert frozen(one, {}, {}) != frozen(vec[i64]([2, 1]), {}, {})
    assert frozen(one, {}, {}) != frozen(vec[i64](), {}, {})
    assert frozen(one, {}, {}) != frozen([1, 2], {}, {})


def test_a_vector_that_two_variables_share_is_told_from_two_vectors() -> None:
    """A change through one variable shows in the other only where they share the vector."""
    shared, other = vec[i64]([1]), vec[i64]([1])
    assert frozen([shared, shared], {}, {}) != frozen([shared, other], {}, {})
