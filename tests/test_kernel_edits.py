"""Edits by description do what they say to a C file, and nothing else."""

from __future__ import annotations

import pytest

from shootdown.errors import InputError
from tests.edits import AFTER, BEFORE, DROP, FIRST, LAST, REPLACE, Edit, edited

TEXT = """\
/* flush(); in a comment */
#define flush_all() flush()
static int first(int a)
{
	return a;
}

static void second(struct kvm *kvm, bool flush_it)
{
	const char *name = "flush(kvm); }";

	lock(kvm);
	if (flush_it)
		flush(kvm,
			1);
	else
		skip(kvm);
	for (;;) {
		step(kvm, pick(kvm));
		done = check(kvm) && more;
	}
	unlock(kvm);
}
"""


def squeezed(text: str) -> str:
    """Without what only lays out."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("edit", "gone", "there"),
    [
        (Edit("second", DROP, r"flush\b"), "flush(kvm, 1);", "if (flush_it) ; else skip(kvm);"),
        (Edit("second", DROP, r"skip"), "skip(kvm);", "else ; for"),
        (Edit("second", DROP, r"check"), "done = check(kvm) && more;", "pick(kvm)); ; }"),
        (Edit("second", REPLACE, r"pick\(kvm\)", "0"), "pick", "step(kvm, 0);"),
        (Edit("second", BEFORE, r"unlock", r"lock"), "} unlock(kvm);", "unlock(kvm); lock(kvm);"),
        (Edit("second", AFTER, r"flush\b", r"unlock"), "if (flush_it) flush", "unlock(kvm); flush(kvm, 1);"),
        (Edit("second", FIRST, r"done"), "pick(kvm)); done", "{ done = check(kvm) && more; step"),
        (Edit("second", LAST, r"step"), "for (;;) { step", "&& more; step(kvm, pick(kvm)); }"),
        (Edit("second", LAST, r"lock\b"), '}"; lock(kvm);', "unlock(kvm); lock(kvm); }"),
    ],
    ids=str,
)  # fmt: skip
def test_an_edit_changes_the_statement_that_it_names(edit: Edit, gone: str, there: str) -> None:
    """What is described goes or moves; strings, comments and other functions are left alone."""
    text = edited(TEXT, edit)
    assert gone not in squeezed(text)
    assert there in squeezed(text)
    assert text.startswith(TEXT[: TEXT.index("static void second")])
    assert '"flush(kvm); }"' in text


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (Edit("third", DROP, "flush"), "no function third"),
        (Edit("first", DROP, "flush"), "found 0 times"),
        (Edit("second", DROP, "kvm", nth=40), "found"),
    ],
    ids=str,
)
def test_an_edit_that_does_not_fit_is_refused(edit: Edit, error: str) -> None:
    """An edit never passes by doing nothing."""
    with pytest.raises(InputError, match=error):
        edited(TEXT, edit)
