"""Patches to a Linux tree: how they are read, put in order and applied, and what became of each hunk."""

import base64
import ctypes
import gzip
import shutil
from pathlib import Path

import pytest

from shootdown.errors import InputError
from shootdown.kernel.library.account import EXECUTED, FOLDED, NEVER, NO_CODE, NOT_COMPILED, account, idle
from shootdown.kernel.library.build import COVERAGE, build
from shootdown.kernel.library.coverage import code_of, read_code
from shootdown.kernel.source.probes import X86
from shootdown.kernel.source.series import apply, read_series
from shootdown.kernel.source.statements import Shape
from shootdown.kernel.source.tree import find_tree
from tests import toy_tree
from tests.test_kernel_build import cache
from tests.trees import tree

__all__ = ["cache"]
TDP, SPTE_H, MMU_C = X86 + "mmu/tdp_mmu.c", X86 + "mmu/spte.h", X86 + "mmu/mmu.c"
KCONFIG = X86 + "Kconfig"
DIFF = f"""\
--- a/{TDP}
+++ b/{TDP}
@@ -15,3 +15,4 @@ int toy_map(u64 *table, int index, bool write)
 \tstruct toy_walk walk;
 \tu64 old;
+\tu64 more;
"""


def mail(number: int, count: int, body: str, subject: str = "Try", head: str = "") -> str:
    """A mail with a patch, as git format-patch makes it."""
    return (
        f"From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@b.c>\n"
        f"Subject: [PATCH v2 {number}/{count}] {subject} {number}\n{head}\nWhy.\n---\n{body}-- \n2.39.2\n\n"
    )


def change(file: str, old: str, new: str) -> str:
    """A diff that puts a line in the place of another, wherever that is."""
    before = "".join(f"-{line}\n" for line in old.splitlines())
    after = "".join(f"+{line}\n" for line in new.splitlines())
    counts = f"-1,{len(old.splitlines())} +1,{len(new.splitlines())}"
    return f"--- a/{file}\n+++ b/{file}\n@@ {counts} @@\n{before}{after}"


# Reading


def test_mails_of_a_mailbox_are_patches_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """The cover letter and replies are none; a mailbox may be packed."""
    first, second = change(TDP, "\tu64 old;", "\tu64 one;"), change(TDP, "\tu64 one;", "\tu64 old;")
    box = (
        mail(2, 2, second)
        + mail(0, 2, "No diff.\n")
        + mail(1, 2, first)
        + mail(1, 2, first).replace("[PATCH", "Re: [PATCH")
    )
    for name, raw in (("box.mbox", box.encode()), ("box.mbox.gz", gzip.compress(box.encode()))):
        (tmp_path / name).write_bytes(raw)
        patches = read_series([str(tmp_path / name)])
        assert [(patch.number, patch.title) for patch in patches] == [(1, "Try 1"), (2, "Try 2")]
    assert patches[1].hunks[0].where == f"{tmp_path}/box.mbox.gz:{box[: box.index('@@ ')].count(chr(10)) + 1}"


def test_a_folder_is_a_series(tmp_path: Path) -> None:
    """Its files by name, or as the file ``series`` says."""
    for n in (1, 2):
        (tmp_path / f"{n:04}-x.patch").write_text(mail(n, 2, change(TDP, "a", f"b{n}")))
    (tmp_path / "notes.txt").write_text("no patch")
    assert [patch.title for patch in read_series([str(tmp_path)])] == ["Try 1", "Try 2"]
    (tmp_path / "series").write_text("0002-x.patch -p1\n# 0001-x.patch\n")
    assert [patch.title for patch in read_series([str(tmp_path)])] == ["Try 2"]


def test_mails_may_be_encoded(tmp_path: Path) -> None:
    """A mail in base64 or quoted-printable is decoded."""
    body = base64.encodebytes(change(TDP, "\tu64 old;", "\tu64 one; // é").encode()).decode()
    head = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n"
    text = f"From x Mon Sep 17 00:00:00 2001\nFrom: A <a@b.c>\nSubject: [PATCH] Try\n{head}\n{body}"
    (tmp_path / "one.eml").write_text(text)
    (patch,) = read_series([str(tmp_path / "one.eml")])
    assert patch.hunks[0].body[-1] == ("+", "\tu64 one; // é")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "no hunk of a unified diff in it"),
        (mail(1, 2, change(TDP, "a", "b")) * 2, "two patches have the number 1"),
        (DIFF.replace("@@ -15,3", "@@ -15,9"), "the hunk is cut short"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """In one line, with the file."""
    (tmp_path / "x.patch").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_series([str(tmp_path / "x.patch")])
    assert str(error.value).startswith(str(tmp_path / "x.patch"))


# Applying


def test_patches_apply_to_the_text_of_a_tree(tmp_path: Path) -> None:
    """In their order, new files too; the tree itself is not touched, and each hunk knows its lines."""
    made = find_tree(str(toy_tree.make(tmp_path)))
    new = f"--- /dev/null\n+++ b/{X86}mmu/new.h\n@@ -0,0 +1,2 @@\n+#define NEW 1\n+\n"
    (tmp_path / "1.diff").write_text(change(TDP, "\tu64 old;", "\tu64 one;") + new)
    (tmp_path / "2.diff").write_text(change(TDP, "\tu64 one;", "\tu64 two;\n\tu64 old;"))
    patched = apply(made, read_series([str(tmp_path / "1.diff"), str(tmp_path / "2.diff")]))
    text = patched.tree.read(TDP)
    assert "\tu64 two;\n\tu64 old;\n" in text and "one" not in text
    assert patched.tree.read(X86 + "mmu/new.h") == "#define NEW 1\n\n"
    assert made.read(TDP) == toy_tree.TDP_MMU and text.count("\n") == toy_tree.TDP_MMU.count("\n") + 1
    assert [line.by is patched.hunks[2] for line in patched.lines[TDP]].count(True) == 2


def test_a_patch_that_does_not_apply_is_named(tmp_path: Path) -> None:
    """With the hunk's number, the file, and where the hunk is; and a file that is not there by its name."""
    made = find_tree(str(toy_tree.make(tmp_path)))
    second = "@@ -1 +1 @@\n-nothing like that\n+b\n"
    (tmp_path / "1.diff").write_text(change(TDP, "\tu64 old;", "\tu64 one;") + second)
    with pytest.raises(
        InputError, match=rf"1\.diff:1: does not apply at hunk 2 of {TDP} \(.*1\.diff:6\); the tree is 6.99"
    ):
        apply(made, read_series([str(tmp_path / "1.diff")]))
    (tmp_path / "2.diff").write_text(change("kernel/none.c", "a", "b"))
    with pytest.raises(InputError, match=r"2\.diff:3: kernel/none\.c is not in .*\(6\.99\.3-toy\)"):
        apply(made, read_series([str(tmp_path / "2.diff")]))


def test_files_that_were_not_extracted_are_not_missing(tmp_path: Path) -> None:
    """Of a tarball only KVM's part is there: a patch to another file that Linux may have is accounted for."""
    made = find_tree(str(toy_tree.make(tmp_path)))
    (made.folder / "Kbuild").unlink()
    (tmp_path / "1.diff").write_text(change("mm/none.c", "a", "b") + change("Documentation/x.rst", "a", "b"))
    patched = apply(find_tree(made.name), read_series([str(tmp_path / "1.diff")]))
    parts = account(patched, read_code("", {}), frozenset())
    assert [(str(part), part.state) for part in parts] == [
        ("mm/none.c:1", NOT_COMPILED),
        ("Documentation/x.rst:1", NO_CODE),
    ]
    for file in (X86 + "none.c", "src/mmu/none.py"):
        (tmp_path / "2.diff").write_text(change(file, "a", "b"))
        with pytest.raises(InputError, match=f"{file} is not in"):
            apply(find_tree(made.name), read_series([str(tmp_path / "2.diff")]))


# Accounting: name, a change of the toy (file, old, new), and what becomes of it when toy_run(0, 1) has run

CASES = [
    ("a statement that ran", TDP, "\t\treturn walk.level;", "\t\treturn walk.level + 1;", [("toy_map", EXECUTED)]),
    ("a later line of one that ran", TDP, "\t\twrite) {", "\t\twrite && 1) {", [("toy_map", EXECUTED)]),
    ("a statement that did not", TDP, "\t\ttable[0] = 7;", "\t\ttable[0] = 8;", [("toy_map", NEVER)]),
    ("a statement that says nothing", TDP, '\t\tpr_err("far");', '\t\tpr_err("near");', [("toy_map", FOLDED)]),
    ("what a constant decides", TDP, "\t\ttable[0] = 7;", "\t\tif (0)\n\t\t\ttable[0] = 8;", [("toy_map", FOLDED)]),
    ("the same that ran", TDP, "\twalk.level = TWICE(index);", "\tif (1)\n\t\twalk.level = 2;",
     [("toy_map", EXECUTED)]),
    ("a block that a constant leaves out", TDP, '\t\tpr_err("far");',
     "\t\tif (IS_ENABLED(TOY)) {\n\t\t\ttable[1] = 7;\n\t\t}", [("toy_map", FOLDED)]),
    ("what only gcc checks", TDP, '\t\tpr_err("far");', "\t\tstatic_assert(sizeof(u64) == 8);", [("toy_map", NO_CODE)]),
    ("an #if in a function", TDP, '\t\tpr_err("far");', "#ifdef TOY\n\t\ttable[1] = 7;\n#endif",
     [("toy_map", NOT_COMPILED)]),
    ("left out by the preprocessor", TDP, "\treturn 1;", "\treturn 2;", [("toy_never", NOT_COMPILED)]),
    ("a comment", TDP, "/* What the walk found. */", "/* What it found. */", [("", NO_CODE)]),
    ("a macro that is used", TDP, "#define TWICE(x) ((x) * 2)", "#define TWICE(x) ((x) << 1)", [("", EXECUTED)]),
    ("a macro that is not", TDP, "#define UNUSED(x) ((x) * 3)", "#define UNUSED(x) 0", [("", NOT_COMPILED)]),
    ("a member that is used", TDP, "\tint level;", "\tlong level;", [("", EXECUTED)]),
    ("a member that is not", TDP, "\tint spare;", "\tlong spare;", [("", NOT_COMPILED)]),
    ("a variable that is used", TDP, "\tu64 old;", "\tu64 more, old;", [("toy_map", EXECUTED)]),
    ("an inline function", SPTE_H, "\treturn spte & 1;", "\treturn spte & 3;", [("toy_present", EXECUTED)]),
    ("a file not built", MMU_C, "\ttoy_map(0, 0, false);", "\ttoy_map(0);", [("toy_driver", NOT_COMPILED)]),
    ("a comment in one", MMU_C, "/* Not built. */", "/* Not at all. */", [("", NO_CODE)]),
    ("a variable of one", MMU_C, "int toy_limit = 4;", "int toy_limit = 5;", [("", NOT_COMPILED)]),
    ("Kconfig", KCONFIG, "\ttristate TWICE", "\tbool TWICE", [("", NOT_COMPILED)]),
    ("a comment in it", KCONFIG, "# walk level", "# walk", [("", NO_CODE)]),
    ("a Makefile", "Makefile", "EXTRAVERSION = -toy", "EXTRAVERSION = -x", [("", NOT_COMPILED)]),
    ("documentation", "Documentation/y.rst", "Words.", "Other words.", [("", NO_CODE)]),
    ("a statement removed that ran", TDP, "\twalk.level = TWICE(index);", "", [("toy_map", EXECUTED)]),
    ("one removed that did not", TDP, "\t\ttable[0] = 7;", "", [("toy_map", NEVER)]),
    ("a comment removed", TDP, "/* What the walk found. */", "", [("", NO_CODE)]),
    ("a macro removed that was not used", TDP, "#define UNUSED(x) ((x) * 3)", "", [("", NO_CODE)]),
    ("code made a comment that did not run", TDP, "\t\ttable[0] = 7;", "\t\t/* None. */", [("toy_map", NEVER)]),
    ("code made a comment that ran", TDP, "\twalk.level = TWICE(index);", "\t/* None. */", [("toy_map", EXECUTED)]),
    ("code made nothing in a file not built", MMU_C, "\ttoy_map(0, 0, false);", "\t;", [("toy_driver", NOT_COMPILED)]),
    ("a comment made another where nothing ran", TDP, "\t\ttable[0] = 7;\n\t}", "\t\ttable[0] = 7; /* x */\n\t}",
     [("toy_map", NEVER)]),
    ("a brace moved", TDP, "\t\ttable[0] = 7;\n\t}", "\t}\n\t\ttable[0] = 7;", [("toy_map", NEVER)]),
    ("a brace alone", TDP, "\t}\n\treturn -1;", "\t} {\n\t}\n\treturn -1;", [("toy_map", NEVER)]),
    ("an else alone", TDP, "\t}\n\tif (index > toy_limit) {", "\t}\n\telse\n\tif (index > toy_limit) {",
     [("toy_map", NEVER)]),
    ("what never ran beside what did", TDP, "\twalk.level = TWICE(index);",
     "\twalk.level = 2;\n\tif (index > 9)\n\t\ttable[1] = 7;", [("toy_map", EXECUTED), ("toy_map", NEVER)]),
    ("what an assertion guards beside it", TDP, "\twalk.level = TWICE(index);",
     "\twalk.level = 2;\n\tif (WARN_ON_ONCE(index > 9)) {\n\t\ttable[1] = 7;\n\t}", [("toy_map", EXECUTED)]),
    ("what only tells beside it", TDP, "\twalk.level = TWICE(index);", '\twalk.level = 2;\n\tpr_err("near");',
     [("toy_map", EXECUTED)]),
    ("what is left out beside it", TDP, "\twalk.level = TWICE(index);",
     "\twalk.level = 2;\n#ifdef TOY\n\ttable[1] = 7;\n#endif", [("toy_map", EXECUTED), ("toy_map", NOT_COMPILED)]),
    ("a condition of the preprocessor that keeps all", TDP, "\twalk.level = TWICE(index);",
     "#ifndef TOY\n\twalk.level = 2;\n#endif", [("toy_map", EXECUTED)]),
    ("what a constant leaves out beside it", TDP, "\twalk.level = TWICE(index);",
     "\twalk.level = 2;\n\tif (0)\n\t\ttable[1] = 7;", [("toy_map", EXECUTED), ("toy_map", FOLDED)]),
    ("a macro in a branch that is left out", TDP, "#define TWICE(x) ((x) * 2)",
     "#ifdef TOY\n#define TWICE(x) ((x) * 3)\n#else\n#define TWICE(x) ((x) * 2)\n#endif",
     [("", EXECUTED), ("", NOT_COMPILED)]),
    (
        "a hunk with more", TDP, "\treturn -1;\n}\n\n#ifdef CONFIG_TOY_NEVER", "\treturn -2;\n}\n\n#if 0",
        [("toy_map", NEVER), ("", NOT_COMPILED)],
    ),
]  # fmt: skip


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("objdump") is None, reason="no gcc or objdump")
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_each_hunk_is_accounted_for(tmp_path: Path, case: tuple) -> None:
    """Each hunk is said to be executed, never executed, folded away, not compiled or no code, function by function."""
    _, file, old, new, expected = case
    made = find_tree(str(toy_tree.make(tmp_path)))
    (tmp_path / "x.diff").write_text(change(file, old, new))
    patched = apply(made, read_series([str(tmp_path / "x.diff")]))
    library = build(patched.tree, toy_tree.TOLD, tmp_path / "drivers")
    loaded = ctypes.CDLL(str(library.path))
    loaded.toy_run(0, 1)
    places = (ctypes.c_uint * 1000)()
    count = loaded.sd_ran(places, 1000)
    code = code_of(library)
    parts = account(patched, code, code.ran(places[:count]))
    assert [(part.function, part.state) for part in parts] == expected
    assert [part.state in (NEVER, FOLDED, NOT_COMPILED) for part in parts] == [part in idle(parts) for part in parts]
    assert all(bool(part.why) == (part.state in (FOLDED, NOT_COMPILED)) for part in parts)


@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("objdump") is None, reason="no gcc or objdump")
@pytest.mark.parametrize("later", ['\t\tpr_err("far");', '\t\tpr_err("far");\n\t}'], ids=["above", "on both sides"])
def test_what_a_patch_removed_is_known_after_a_later_one(tmp_path: Path, later: str) -> None:
    """Where that one changes what stood around it, too."""
    made = find_tree(str(toy_tree.make(tmp_path)))
    (tmp_path / "1.diff").write_text(change(TDP, "\t\ttable[0] = 7;", ""))
    (tmp_path / "2.diff").write_text(change(TDP, later, later.replace("far", "near").replace("\t}", "\t} /* x */")))
    patched = apply(made, read_series([str(tmp_path / "1.diff"), str(tmp_path / "2.diff")]))
    library = build(patched.tree, toy_tree.TOLD, tmp_path / "drivers")
    parts = account(patched, code_of(library), frozenset())
    assert [part.state for part in parts if part.hunk is patched.hunks[0]] == [NEVER]


def test_accounting_for_many_names_ends(tmp_path: Path) -> None:
    """A header of macros, each of which names all others, is accounted for: no line is looked at again and again."""
    names = [f"M{n}" for n in range(60)]
    text = "".join(f"#define {name} ({' + '.join(other for other in names if other != name)})\n" for name in names)
    made = find_tree(str(toy_tree.make(tmp_path, {SPTE_H: text})))
    (tmp_path / "x.diff").write_text(change(SPTE_H, text.split("\n")[0], "#define M0 1"))
    patched = apply(made, read_series([str(tmp_path / "x.diff")]))
    (part,) = account(patched, read_code("", {}), frozenset())
    assert part.state == NOT_COMPILED


def test_statements_and_functions_are_found() -> None:
    """Heads, bodies, declarations and braces of a file are told apart, with the lines that they take."""
    shape = Shape(toy_tree.TDP_MMU)
    assert [(f.name, f.first) for f in shape.functions] == [("toy_map", 13), ("toy_never", 33)]
    texts = {piece.text: (piece.first, piece.last, piece.kind) for piece in shape.pieces}
    assert texts["if (toy_present(old) && write)"] == (20, 21, "code")
    assert texts["u64 old;"] == (16, 16, "declaration")
    assert texts["int toy_map(u64 *table, int index, bool write)"] == (13, 13, "head")
    assert shape.directives[4] == "TWICE" and shape.directives[32] == ""


def test_a_block_ends_at_a_jump() -> None:
    """What stands behind a jump, with no call of its own that tells, is not said to have run."""
    listing = """\
0000000000001000 <f>:
f():
/t/a.c:1
    1000:	push   %rbp
    1001:	call   2000 <__sanitizer_cov_trace_pc>
/t/a.c:2
    1006:	test   %al,%al
    1008:	je     1020 <f+0x20>
/t/a.c:3
    100a:	mov    %al,%bl
/t/a.c:4
    100c:	call   2000 <__sanitizer_cov_trace_pc>
    1011:	ret
"""
    code = read_code(listing, {"/t/": ""})
    assert code.ran([0x1006]) == {("a.c", 1), ("a.c", 2)}
    assert code.ran([0x1011]) == {("a.c", 4)}
    assert code.compiled == {("a.c", n) for n in (1, 2, 3, 4)}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_all_statements_of_a_real_tree_are_known(version: str) -> None:
    """Few statements of the three files have no line in the library: few hunks are called not compiled wrongly."""
    real = find_tree(tree(version))
    code = code_of(build(real, COVERAGE))
    shape = Shape(real.read(TDP))
    known = [
        any((TDP, line) in code.compiled for line in range(piece.first, piece.last + 1))
        for piece in shape.pieces
        if piece.kind == "code" and piece.function
    ]
    assert len(known) > 300 and known.count(False) < len(known) // 20
