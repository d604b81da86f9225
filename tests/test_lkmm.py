"""The machine's memory, locks and RCU against the Linux memory model's litmus tests, and against brute force."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.litmus_c import VARIABLES, Op, OutOfScope, Test, folder, read
from tests.litmus_oracle import outcomes
from tests.lkmm import BEGIN, END, PAGE, finals, occurs, row, table, word

FILES = sorted(folder().glob("*.litmus")) if folder() else []  # type: ignore[union-attr]
needs_kernel = pytest.mark.skipif(
    not FILES, reason="set SHOOTDOWN_LINUX to a folder with linux-source-6.1, whose litmus tests are not copied here"
)


@needs_kernel
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_verdict_is_that_of_the_comment_where_x86_decides_so(path: Path) -> None:
    """The checker says what ``Result:`` says, unless only a weaker CPU, or a store buffer, does what that allows."""
    found = row(path)
    if found.ours != "-":
        assert "Sometimes" not in (found.ours, found.tso) or found.result == "Sometimes"
        assert found.note or found.ours == found.tso == found.result
        test = read(path.read_text())
        assert finals(test) == finals(test, movers=False) == outcomes(test, tso=False)
        assert finals(test, buffers=2) == finals(test, movers=False, buffers=2) == outcomes(test, tso=True)


@needs_kernel
def test_a_dozen_files_agree_and_the_table_is_theirs() -> None:
    """The table in docs/model.md is what the files give; at least twelve agree with their comment."""
    rows = [row(path) for path in FILES]
    assert sum(each.ours == each.result for each in rows) >= 21
    assert sum(each.tso == each.result for each in rows) >= 24
    text = PAGE.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == table(rows)


OWN = {
    "never": ("Never", "", "WRITE_ONCE(*x, 1); smp_wmb(); WRITE_ONCE(*y, 1);",
              "int r0; int r1; r0 = READ_ONCE(*y); smp_rmb(); r1 = READ_ONCE(*x);", "1:r0=1 /\\ 1:r1=0"),
    "sometimes": ("Sometimes", "", "WRITE_ONCE(*x, 1); WRITE_ONCE(*y, 1);",
                  "int r0; int r1; r0 = READ_ONCE(*y); r1 = READ_ONCE(*x);", "1:r0=0 /\\ 1:r1=1"),
    "if": ("Never", "x=2;", "int r0; r0 = READ_ONCE(*x); if (r0 == 2) { WRITE_ONCE(*y, 1); } else WRITE_ONCE(*y, 7);",
           "WRITE_ONCE(*x, 3);", "y=1 /\\ 0:r0=3"),
    "grace": ("Never", "", "rcu_read_lock(); WRITE_ONCE(*x, 1); WRITE_ONCE(*y, 1); rcu_read_unlock();",
              "int r0; int r1; r0 = READ_ONCE(*x); synchronize_rcu(); r1 = READ_ONCE(*y);", "1:r0=1 /\\ 1:r1=0"),
    "no grace": ("Sometimes", "", "rcu_read_lock(); WRITE_ONCE(*x, 1); WRITE_ONCE(*y, 1); rcu_read_unlock();",
                 "int r0; int r1; r0 = READ_ONCE(*x); r1 = READ_ONCE(*y);", "1:r0=1 /\\ 1:r1=0"),
    "pointer": ("Sometimes", "p=x; y=5;", "rcu_assign_pointer(*p, y);",
                "int *r0; int r1; r0 = rcu_dereference(*p); r1 = READ_ONCE(*r0);", "1:r0=y /\\ 1:r1=5"),
    "once": ("Never", "", "int r0; r0 = cmpxchg(x, 0, 1);", "int r0; r0 = cmpxchg(x, 0, 2);", "0:r0=0 /\\ 1:r0=0"),
}  # fmt: skip


def written(start: str, first: str, second: str, exists: str, result: str = "Never") -> str:
    """The text of a file."""
    bodies = "".join(
        f"P{n}(int *x, int *y, int **p, spinlock_t *l)\n{{\n\t{re.sub('; ?', ';' + chr(10) + chr(9), body)}\n}}\n\n"
        for n, body in enumerate((first, second))
    )
    return f"C own\n\n(*\n * Result: {result}\n *)\n\n{{\n{start}\n}}\n\n{bodies}exists ({exists}) (* Bad outcome. *)\n"


@pytest.mark.parametrize("name", OWN)
def test_our_own_files_are_read_and_decided(name: str) -> None:
    """Conditionals, pointers, grace periods and atomic accesses mean what they mean in C."""
    result, start, first, second, exists = OWN[name]
    test = read(written(start, first, second, exists, result))
    assert word(occurs(test, finals(test))) == test.result == result
    assert finals(test) == outcomes(test, tso=False)


@pytest.mark.parametrize(
    "body",
    ["int r0; r0 = spin_is_locked(l);", "y = 1;", "int r0; r0 = atomic_inc_return(x);", "int r0; r0 = xchg(x, 1);"],
)
def test_what_the_machine_has_not_is_out_of_scope(body: str) -> None:
    """A file that needs more is named, not decided."""
    with pytest.raises(OutOfScope):
        finals(read(written("", body, "WRITE_ONCE(*x, 1);", "x=1")))


def test_store_buffering_takes_a_store_buffer() -> None:
    """It is x86-TSO's alone, and a fence or an atomic access in between ends it."""
    for between, expected in (("", True), ("smp_mb();", False), ("r1 = cmpxchg(p, 5, 5);", False)):
        first = f"int r0; int r1; WRITE_ONCE(*x, 1); {between} r0 = READ_ONCE(*y);"
        second = f"int r0; int r1; WRITE_ONCE(*y, 1); {between} r0 = READ_ONCE(*x);"
        test = read(written("", first, second, "0:r0=0 /\\ 1:r0=0"))
        assert occurs(test, finals(test, buffers=1)) == occurs(test, outcomes(test, tso=True)) == expected
        assert not occurs(test, finals(test))


@st.composite
def threads(draw: Any) -> list[tuple[Op, ...]]:
    """Two or three tasks of a few accesses to two variables, some under a lock, some in a section."""
    address = st.sampled_from([str(VARIABLES), str(VARIABLES + 1)])
    value = st.sampled_from(["1", "2", "r0"])
    access = st.one_of(
        st.builds(lambda a: Op("load", "r0", a), address),
        st.builds(lambda a: Op("load", "r1", a), address),
        st.builds(lambda a, v: Op("store", "", a, v), address, value),
        st.builds(lambda a, v: Op("cmpxchg", "r1", a, v, "0"), address, value),
        st.builds(lambda a: Op("if", value="r0 == 1", body=(Op("store", "", a, "3"),)), address),
        st.just(Op("fence")),
    )
    found = []
    for _ in range(draw(st.integers(2, 3))):
        ops = draw(st.lists(access, min_size=1, max_size=3))
        around = draw(st.sampled_from(["", "", "lock", "section", "sync"]))
        if around == "lock":
            ops = [Op("lock", address="0"), *ops[:2], Op("unlock", address="0"), *ops[2:]]
        elif around == "section":
            ops = [Op("enter"), *ops[:2], Op("leave"), *ops[2:]]
        elif around == "sync":
            ops = [*ops[:1], Op("sync"), *ops[1:]]
        found.append(tuple(ops))
    return found


WAITED_FOR = [
    (Op("enter"), Op("load", "r0", str(VARIABLES)), Op("store", "", str(VARIABLES + 1), "1"), Op("leave")),
    (Op("store", "", str(VARIABLES), "1"), Op("sync"), Op("load", "r0", str(VARIABLES + 1))),
]
"""What a section stored is in memory when the grace period is over that waited for it."""


@given(threads())
@example(WAITED_FOR)
@settings(max_examples=40, deadline=None)
def test_final_states_are_those_of_brute_force(tasks: list[tuple[Op, ...]]) -> None:
    """Of generated tasks, the checker finds exactly the final states that there are, with and without glued steps.

    With store buffers as well: these hold more stores than a task makes.
    """
    names = [["r0", "r1"]] * len(tasks)
    test = Test("own", "", tasks, names, {}, {"x": VARIABLES, "y": VARIABLES + 1}, "True", {"l": 0})
    assert finals(test) == finals(test, movers=False) == outcomes(test, tso=False)
    assert finals(test, buffers=4) == finals(test, movers=False, buffers=4) == outcomes(test, tso=True)
