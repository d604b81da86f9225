"""``shootdown kernel``: the page table code of the user's own Linux tree."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from ..errors import InputError
from ..figures import count
from ..kernel.library.build import EXPLORE, LICENCE, NATIVE, Library, build
from ..kernel.source.debian import VERSIONS, debian_tree, is_cached
from ..kernel.source.likeness import likeness
from ..kernel.source.series import PATCH_MAX, Patch, apply, read_series
from ..kernel.source.tree import Tree, find_tree, sources
from .options import JSON
from .progress import covering
from .report import dump, wrap

MACHINES = (NATIVE, EXPLORE)
"""What ``kernel build`` builds."""


@click.group("kernel")
def command() -> None:
    """Build, compare and time the C of your own Linux tree.

    What is built from a tree holds code of the kernel: it is under GPL-2.0
    and stays in your cache folder. Building compiles, and checking runs, what
    is in the tree and in the patches that you give.
    """


def tree_of(name: str | None, debian: str | None) -> Tree:
    """The tree that the arguments name, exactly one of a folder or tarball and a version of Debian's."""
    if (name is None) == (debian is None):
        raise InputError("give a Linux tree (a folder or tarball), or --debian VERSION, and not both")
    if debian is None:
        assert name is not None
        return find_tree(name)
    if not is_cached(debian):
        print(f"downloading Debian's linux-source-{debian}, about 150 MB", file=sys.stderr)
    return debian_tree(debian)


def patches_of(names: tuple[str, ...]) -> list[Patch]:
    """The patches that ``--patch`` names."""
    return read_series(names, sys.stdin.buffer.read(PATCH_MAX + 1) if "-" in names else b"")


def patched(tree: Tree, patches: list[Patch]) -> tuple[Tree, bool]:
    """The tree with patches, and whether something of them is built; what is not is told on standard error."""
    done = apply(tree, patches)
    built = sources(done.tree)
    changed = dict.fromkeys(hunk.file for hunk in done.hunks)
    left = [file for file in changed if file not in built]
    if left:
        what = f"{', '.join(left)}: changed by a patch, and not built: here ours stands for it, or nothing"
        print("\n".join(wrap(f"note: {what}", "  ", "")), file=sys.stderr)
    return done.tree, len(left) < len(changed) or not patches


TREE = click.argument("tree_name", metavar="[TREE]", required=False)
DEBIAN = click.option("--debian", type=click.Choice(VERSIONS), help="Debian's source package, downloaded once.")
PATCH = click.option(
    "--patch",
    "patch_names",
    multiple=True,
    metavar="FILE|FOLDER",
    help="With this diff, mail, mailbox or folder of them (-: standard input); repeatable.",
)


@command.command("build")
@TREE
@DEBIAN
@PATCH
@JSON
def build_command(tree_name: str | None, debian: str | None, patch_names: tuple[str, ...], as_json: bool) -> int:
    """Build the TDP MMU of a Linux tree (a folder, or a tarball).

    tdp_mmu.c, tdp_iter.c and spte.c are compiled as they are, against headers
    of ours; the tree needs no configuration and is not changed. Patches are
    applied to a copy. What was built before is found again.

    \b
    Example: shootdown kernel build ~/linux
             shootdown kernel build --debian 6.12 --patch series.mbox
    Exit codes: 0 built, 1 bad input or it does not build.
    """
    tree = tree_of(tree_name, debian)
    patches = patches_of(patch_names)
    tree, _ = patched(tree, patches)
    like = likeness(tree)
    built: list[tuple[Library, float]] = []
    with covering(lambda: f"{len(built)} of {count(len(MACHINES), 'library', 'libraries')} of {tree.name} built"):
        for machine in MACHINES:
            start = time.monotonic()
            built.append((build(tree, machine), time.monotonic() - start))
    if as_json:
        print(dump("kernel build", _document(tree, patches, built)))
        return 0
    print(f"{tree.name}: Linux {tree.version}")
    print("\n".join(wrap(f"page tables as our {like}", "  ")))
    for patch in patches:
        print("\n".join(wrap(f"with {patch}", "    ", "  ")))
    for library, seconds in built:
        print(f"  {library.machine.name:8}{seconds:5.1f} s  {library.path}")
    print("\n".join(wrap(f"Each {LICENCE}.")))
    return 0


def _document(tree: Tree, patches: list[Patch], built: list[tuple[Library, float]]) -> dict[str, Any]:
    like = likeness(tree)
    return {
        "tree": tree.name,
        "version": tree.version,
        "behaviour": {"like": like.behaviour, "differs": list(like.differs)},
        "patches": [str(patch) for patch in patches],
        "libraries": [
            {
                "machine": library.machine.name,
                "path": str(library.path),
                "switches": list(library.switches),
                "seconds": round(seconds, 2),
            }
            for library, seconds in built
        ],
        "licence": "GPL-2.0",
    }
