"""Building a Linux tree's page table code: which trees are taken, what is told where one does not build."""

import dataclasses
import errno
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import jsonschema
import pytest
import zstandard

from shootdown.errors import InputError
from shootdown.kernel.library import build as build_module
from shootdown.kernel.library.build import COVERAGE, EXPLORE, NATIVE, Library, build
from shootdown.kernel.library.build_errors import explain
from shootdown.kernel.library.limited import Limits
from shootdown.kernel.source.cache import entry
from shootdown.kernel.source.debian import debian_tree
from shootdown.kernel.source.likeness import likeness
from shootdown.kernel.source.probes import PROBES, X86, switches
from shootdown.kernel.source.tree import NEEDED, Tree, find_tree, sources
from shootdown.mmu.behaviour import BEHAVIOURS
from tests import toy_tree
from tests.test_cli import schemas
from tests.trees import tree

TDP = X86 + "mmu/tdp_mmu.c"
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shootdown"


def toy(folder: Path, files: dict[str, str] | None = None) -> Tree:
    """A toy tree."""
    return find_tree(str(toy_tree.make(folder, files)))


def built(folder: Path, made: Tree) -> Library:
    """Its library."""
    return build(made, toy_tree.TOLD, folder / "drivers")


# Trees


def test_a_tree_says_its_version(tmp_path: Path) -> None:
    """The version is the Makefile's, extra version included."""
    assert toy(tmp_path).version == "6.99.3-toy"


def test_a_folder_that_is_no_tree_is_refused_by_name(tmp_path: Path) -> None:
    """What is missing is named: all of it for a folder that is no tree, one file for a tree without that."""
    with pytest.raises(InputError, match="no Linux tree: it has no Makefile"):
        find_tree(str(tmp_path))
    with pytest.raises(InputError, match="no such folder or file"):
        find_tree(str(tmp_path / "nothing"))
    made = toy_tree.make(tmp_path)
    (made / TDP).unlink()
    with pytest.raises(InputError, match=f"no {TDP}"):
        find_tree(str(made))
    (made / X86 / "mmu.h").unlink()
    with pytest.raises(InputError, match=r"no arch/x86/kvm/mmu\.h and 1 more"):
        find_tree(str(made))


@pytest.mark.parametrize("form", ["tar", "gz", "xz", "zst", "deb"])
def test_a_tarball_is_as_good_as_the_folder(tmp_path: Path, form: str) -> None:
    """A tar file, packed or not, or a Debian package of one gives the same tree; it is unpacked once."""
    made = toy_tree.make(tmp_path)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.add(made, "linux-6.99")
    packed = {
        "tar": lambda raw: raw, "gz": gzip.compress, "xz": lzma.compress,
        "zst": lambda raw: zstandard.ZstdCompressor().compress(raw), "deb": package,
    }[form](plain.getvalue())  # fmt: skip
    path = tmp_path / f"linux.{form}"
    path.write_bytes(packed)
    tarball, folder = find_tree(str(path)), find_tree(str(made))
    assert tarball.version == folder.version
    assert sources(tarball) == sources(folder)
    before = tarball.folder.stat().st_ino
    assert find_tree(str(path)).folder.stat().st_ino == before


def package(tar: bytes) -> bytes:
    """A Debian package with a tarball in it, as linux-source-VERSION is made."""
    inner = lzma.compress(tar)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as outer:
        info = tarfile.TarInfo("./usr/src/linux-source-6.99.tar.xz")
        info.size = len(inner)
        outer.addfile(info, io.BytesIO(inner))
    raw = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0"), ("data.tar.xz", data.getvalue())):
        raw += f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}".encode() + b"`\n" + content
        raw += b"\n" * (len(content) % 2)
    return raw


@pytest.mark.parametrize("raw", [b"", b"no tarball", b"\x28\xb5\x2f\xfdxx", b"\x1f\x8bxx", b"!<arch>\nxx"])
def test_what_is_no_tarball_is_refused_in_one_line(tmp_path: Path, raw: bytes) -> None:
    """A file that cannot be unpacked is bad input, and nothing of it stays in the cache."""
    path = tmp_path / "linux.tar.xz"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"linux\.tar\.xz: no"):
        find_tree(str(path))
    assert not list((tmp_path / "cache").rglob("Makefile"))


def test_a_tarball_cannot_write_outside(tmp_path: Path) -> None:
    """Names with .. in a tarball are left out."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name in ("linux/arch/x86/kvm/../../../../../../escaped", "linux/Makefile"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    path = tmp_path / "linux.tar"
    path.write_bytes(raw.getvalue())
    with pytest.raises(InputError, match="no "):
        find_tree(str(path))
    assert not list(tmp_path.rglob("escaped"))


def test_only_what_is_included_is_read(tmp_path: Path) -> None:
    """The files of a build are those that are compiled and what they include, of the tree; three headers are ours."""
    files = sources(toy(tmp_path))
    assert X86 + "mmu/spte.h" in files and X86 + "mmu/mmu.c" not in files and X86 + "x86.h" not in files
    outside = toy(tmp_path, {TDP: '#include "/etc/passwd"\n'})
    with pytest.raises(InputError, match=r"tdp_mmu\.c includes /etc/passwd, from outside"):
        sources(outside)
    with pytest.raises(InputError, match=r"includes arch/x86/kvm/none\.h, which is not there"):
        sources(toy(tmp_path, {TDP: '#include "none.h"\n'}))


# Debian's package


def test_debians_package_is_downloaded_once_and_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--debian`` has apt-get download the package, keeps what concerns KVM, and asks no second time."""
    made = toy_tree.make(tmp_path)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.add(made, "linux-source-6.1")
    (tmp_path / "ready.deb").write_bytes(package(plain.getvalue()))
    apt_get(tmp_path, monkeypatch, f"cp {tmp_path}/ready.deb linux-source-6.1_all.deb; echo $* >> {tmp_path}/asked")
    for _ in range(2):
        found = debian_tree("6.1")
        assert found.version == "6.99.3-toy" and found.name == "Debian's 6.1"
    assert (tmp_path / "asked").read_text() == "download -q linux-source-6.1\n"
    assert not list((tmp_path / "cache").rglob("*.deb"))


def apt_get(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of that name first in the path."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_apt_gets_complaint_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package cannot be had, apt-get's own words say why."""
    apt_get(tmp_path, monkeypatch, "echo 'E: Unable to locate package linux-source-6.12' >&2; exit 100")
    with pytest.raises(InputError, match=r"E: Unable to locate package linux-source-6\.12; run apt-get update"):
        debian_tree("6.12")


# Probes


def test_every_flag_of_a_behaviour_is_probed() -> None:
    """A tree is asked about each flag of mmu/behaviour.py, so that none is missed; switches are asked for once."""
    flags = {name for name in dir(BEHAVIOURS["6.1"]) if not name.startswith("_")} - {"name", "frozen"}
    assert {probe.flag for probe in PROBES if probe.flag} == flags
    names = [probe.switch for probe in PROBES if probe.switch]
    assert len({*names}) == len(names)
    assert all(bool(probe.means) == bool(probe.switch) for probe in PROBES)
    assert all(probe.flag or probe.switch for probe in PROBES)


def test_no_probe_is_made_twice() -> None:
    """One that is a switch and a flag stands in one row of the table."""
    looks = [(probe.file, probe.pattern, probe.function) for probe in PROBES]
    assert len({*looks}) == len(looks)


def test_each_switch_of_the_c_code_is_probed() -> None:
    """A switch that our C asks for is one that a probe or a machine sets."""
    known = {probe.switch for probe in PROBES} | {"SD_EXPLORE", "SD_ASKS_RESCHED", "SD_MAY_FAIL"}
    for path in build_module.C.rglob("*.[ch]"):
        for line in path.read_text().splitlines():
            if line.startswith(("#if", "#elif")):
                asked = {word.strip("()") for word in line.replace("defined", " ").split() if "SD_" in word}
                asked = {word for word in asked if not word.endswith("_H")}
                assert asked <= known, f"{path.name}: {line}"


def test_comments_do_not_count(tmp_path: Path) -> None:
    """A name in a comment is not there; one in code is, however it is broken into lines."""
    name = X86 + "mmu/tdp_mmu.h"
    assert "SD_PUT_ROOT_SHARED" not in switches(
        toy(tmp_path, {name: "/* void kvm_tdp_mmu_put_root(struct kvm *kvm, bool shared); */\n"}).read
    )
    text = "void kvm_tdp_mmu_put_root(struct kvm *kvm,\n\t\t\t  bool shared);\n"
    assert "SD_PUT_ROOT_SHARED" in switches(toy(tmp_path, {name: text}).read)


# Building


@needs_gcc
def test_a_build_is_kept_until_something_changes(tmp_path: Path) -> None:
    """The same files give the library that is there; a changed one or another machine another; one unread the same."""
    first = built(tmp_path, toy(tmp_path))
    assert built(tmp_path, toy(tmp_path)).path.stat().st_mtime_ns == first.path.stat().st_mtime_ns
    other = toy_tree.TDP_MMU.replace("return -1", "return -2")
    assert built(tmp_path, toy(tmp_path, {TDP: other})).path != first.path
    assert built(tmp_path, toy(tmp_path, {X86 + "mmu/mmu.c": "int x;\n"})).path == first.path
    quick = dataclasses.replace(toy_tree.TOLD, tree=("-O1", "-fsanitize-coverage=trace-pc"))
    assert build(toy(tmp_path), quick, tmp_path / "drivers").path != first.path


@needs_gcc
def test_a_build_leaves_the_tree_alone_and_says_what_it_is(tmp_path: Path) -> None:
    """Nothing is written to the tree; the library's folder says whose code it holds and under which licence."""
    made = toy(tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in made.folder.rglob("*"))
    library = built(tmp_path, made)
    assert sorted((path, path.stat().st_mtime_ns) for path in made.folder.rglob("*")) == before
    about = json.loads((library.folder / "about.json").read_text())
    assert about["version"] == "6.99.3-toy" and "GPL-2.0" in about["licence"]
    assert not list(library.folder.glob("*.o"))


MISSING = {
    "function": ("	new_thing(index);\n", "tdp_mmu.c:18 calls new_thing, which our shims do not know"),
    "constant": ("	old = NEW_ONE;\n", "tdp_mmu.c:18 names NEW_ONE, which our shims do not know"),
    "members": (
        "	struct kvm *kvm = 0;\n	kvm->new_one = NEW_TWO;\n",
        "tdp_mmu.c:19 wants a member new_one, which our shims leave out (also: NEW_TWO)",
    ),
    "type": ("	new_type_t x;\n", "tdp_mmu.c:18 names the type new_type_t, which our shims do not know"),
    "driver": (
        "	extern void kvm_elsewhere(void);\n	kvm_elsewhere();\n",
        "tdp_mmu.c:19 calls kvm_elsewhere, which no file that is built defines",
    ),
    "vendor": ("	static_call(kvm_x86_newest)(index);\n", "tdp_mmu.c:18 calls the vendor module's newest"),
    "header": ("#include <linux/newest.h>\n", "tdp_mmu.c:18 includes linux/newest.h, which is neither next to it"),
    "arguments": ("	toy_present(1, 2);\n", "tdp_mmu.c:18 calls toy_present with other arguments"),
    "syntax": ("	old = ;\n", "tdp_mmu.c:18 does not compile: expected expression"),
}


@needs_gcc
@pytest.mark.parametrize("case", MISSING)
def test_a_build_error_names_what_is_missing(tmp_path: Path, case: str) -> None:
    """What a newer tree brings is named in one line, with its place and what to do; nothing is left in the cache."""
    line, message = MISSING[case]
    text = toy_tree.TDP_MMU.replace("	walk.level =", f"{line}	walk.level =")
    assert text.splitlines()[17] == line.splitlines()[0]
    with pytest.raises(InputError) as error:
        built(tmp_path, toy(tmp_path, {TDP: text}))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "shootdown" / "kernel").iterdir())


DOUBLED = "".join(f"#define A{n + 1} A{n} A{n}\n" for n in range(60))
GREEDY = {
    "time": f"#define A0 1 +\n{DOUBLED}int blown = A60 0;\n",
    "memory": "#include </dev/zero>\n",
    "room": "char large[1ul << 40] = { 1 };\n",
    "patience": "#include <{fifo}>\n",
}


@needs_gcc
@pytest.mark.parametrize("case", GREEDY)
def test_a_source_that_has_no_end_ends_at_a_limit(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Macros that grow, a device or a pipe that is included, an object that fills the disk: one line, nothing left."""
    monkeypatch.setattr(build_module, "LIMITS", Limits(1, 3, 512, 16))
    os.mkfifo(tmp_path / "fifo")
    text = GREEDY[case].replace("{fifo}", str(tmp_path / "fifo"))
    with pytest.raises(InputError) as error:
        built(tmp_path, toy(tmp_path, {TDP: toy_tree.TDP_MMU + text}))
    assert "tdp_mmu.c: the compiler comes up against its limits (1 s, 512 MiB, 16 MiB a file): " in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "shootdown" / "kernel").iterdir())


@needs_gcc
def test_a_source_that_includes_itself_is_told(tmp_path: Path) -> None:
    """It comes to its end by itself, and the line is named."""
    with pytest.raises(InputError, match=r"tdp_mmu\.c:\d+ does not compile: #include nested depth 200"):
        built(tmp_path, toy(tmp_path, {TDP: '#include "tdp_mmu.c"\n'}))


@needs_gcc
def test_the_command_ends_at_a_limit_as_at_other_errors(tmp_path: Path) -> None:
    """One line, and bad input's exit code."""
    done = run("kernel", "build", str(toy(tmp_path, {TDP: GREEDY["room"]}).folder))
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "comes up against its limits" in done.stderr


def test_without_gcc_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiler: one line that names it."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    build_module.compiler.cache_clear()
    with pytest.raises(InputError, match="gcc is not found"):
        built(tmp_path, toy(tmp_path))
    build_module.compiler.cache_clear()


def test_a_compiler_that_the_environment_names_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, with words after it, or clang: the message is not about a gcc that is missing."""
    said = {"ccache gcc": "CC says 'ccache gcc', and there is no such program", str(tmp_path / "cc"): "is clang"}
    (tmp_path / "cc").write_text("#!/bin/sh\necho clang version 1\n")
    (tmp_path / "cc").chmod(0o755)
    for named, message in said.items():
        monkeypatch.setenv("CC", named)
        build_module.compiler.cache_clear()
        with pytest.raises(InputError, match=message):
            built(tmp_path, toy(tmp_path))
    build_module.compiler.cache_clear()


def test_a_cache_that_is_full_is_named_and_not_what_was_read(tmp_path: Path) -> None:
    """Where the system has no room, and where the compiler says so."""

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"cache/shootdown/tree: cannot write: no space .*; set XDG_CACHE_HOME"):
        entry("tree", "1", full)
    said = "tdp_mmu.c:3: fatal error: error writing to x.s: No space left on device\n"
    assert "cache/shootdown: cannot write: no space" in str(explain(toy(tmp_path), said, build_module.C))


@needs_gcc
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is named, and the variable that moves it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write: .*; set XDG_CACHE_HOME"):
        built(tmp_path, toy(tmp_path))


# Real trees


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("version", ["6.1", "6.12", "6.13", "6.14", "6.18", "6.19"])
def test_real_trees_build_unmodified(version: str) -> None:
    """Each kernel that the docs name builds for every machine, and shows what the library offers."""
    real = find_tree(tree(version))
    for machine in (NATIVE, EXPLORE, COVERAGE):
        library = build(real, machine)
        assert library.path.stat().st_size > 100_000
        listed = sorted(path.relative_to(library.folder).as_posix() for path in library.folder.rglob("*.c"))
        assert listed == sorted(f"tree/{X86}mmu/{name}" for name in ("spte.c", "tdp_iter.c", "tdp_mmu.c"))


@pytest.mark.parametrize(
    ("version", "behaviour"),
    [("6.1", "6.1"), ("6.12", "6.12"), ("6.13", "6.13"), ("6.14", "6.13"), ("6.18", "6.18"), ("6.19", "6.18")],
)
def test_a_tree_has_the_behaviour_that_ours_of_its_name_has(version: str, behaviour: str) -> None:
    """What our MMU says about a kernel is what that kernel's source looks like, flag by flag."""
    like = likeness(find_tree(tree(version)))
    assert (like.behaviour, like.differs) == (behaviour, ())


def test_old_and_new_names_exclude_each_other() -> None:
    """Of two probes that stand for the old and the new way, a tree has one."""
    old, new = (switches(find_tree(tree(version)).read) for version in ("6.1", "6.12"))
    assert "SD_FLUSH_WITH_ADDRESS" in old and "SD_FLUSH_WITH_ADDRESS" not in new
    assert "SD_ALLOC_ROOT" in new and "SD_ALLOC_ROOT" not in old


# The commands


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """What the program prints."""
    return subprocess.run([sys.executable, "-m", "shootdown", *words], capture_output=True, text=True, check=False)


@needs_gcc
@pytest.mark.slow
def test_kernel_build_says_what_was_built(tmp_path: Path) -> None:
    """The version, the behaviour, the libraries and the licence; as JSON, as its schema says."""
    source = tree("6.12")
    done = run("kernel", "build", source)
    assert done.returncode == 0 and "Linux 6.12" in done.stdout and "page tables as our 6.12" in done.stdout
    assert "GPL-2.0" in done.stdout
    document = json.loads(run("kernel", "build", source, "--json").stdout)
    jsonschema.validate(document, schemas()["kernel-build"])
    assert [library["machine"] for library in document["libraries"]] == ["native", "explore"]


def test_kernel_build_refuses_in_one_line(tmp_path: Path) -> None:
    """No tree, or two, is bad input."""
    for words in ([], ["here", "--debian", "6.1"], [str(tmp_path)]):
        done = run("kernel", "build", *words)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and not done.stdout


def test_doctor_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing that is missing is named with what does not work without it; then the exit code is 3."""
    document = json.loads(run("doctor", "--json").stdout)
    jsonschema.validate(document, schemas()["doctor"])
    names = [check["name"] for check in document["checks"]]
    assert {"python", "compiled", "gcc", "objdump", "addr2line", "gdb", "apt-get", "trace-cmd", "room"} == set(names)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("doctor")
    assert done.returncode == 3
    assert "gdb        MISSING: a schedule of the kernel's C cannot be stepped through" in done.stdout
    assert all(len(line) <= 80 or " " not in line.strip() for line in done.stdout.splitlines())  # a path is not cut


def test_the_tree_needs_what_the_docs_say() -> None:
    """docs/kernel.md lists every file of a tree that is looked for."""
    text = (Path(__file__).parent.parent / "docs" / "kernel.md").read_text()
    assert [name for name in NEEDED if name not in text] == []
