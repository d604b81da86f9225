"""A toy Linux tree of our own, with the files that a build looks for, and a driver for it."""

from __future__ import annotations

from pathlib import Path

from shootdown.kernel.library.build import Machine
from shootdown.kernel.source.probes import X86
from shootdown.kernel.source.tree import NEEDED

TOLD = Machine("toy", (), ("coverage/*.c",), (), ("-O0", "-fsanitize-coverage=trace-pc"))
"""A machine that runs the toy as it is, and tells what ran."""

TDP_MMU = """\
#include "mmu.h"
#include "spte.h"

#define TWICE(x) ((x) * 2)
#define UNUSED(x) ((x) * 3)

/* What the walk found. */
struct toy_walk {
	int level;
	int spare;
};

int toy_map(u64 *table, int index, bool write)
{
	struct toy_walk walk;
	u64 old;

	walk.level = TWICE(index);
	old = READ_ONCE(table[index]); /* "UNUSED" is named here only. */
	if (toy_present(old) &&
		write) {
		WRITE_ONCE(table[index], old | 2);
		return walk.level;
	}
	if (index > toy_limit) {
		pr_err("far");
		table[0] = 7;
	}
	return -1;
}

#ifdef CONFIG_TOY_NEVER
int toy_never(void)
{
	return 1;
}
#endif
"""

SPTE_H = """\
#ifndef TOY_SPTE_H
#define TOY_SPTE_H
static inline bool toy_present(u64 spte)
{
	return spte & 1;
}
#endif
"""

MMU_H = """\
#ifndef TOY_MMU_H
#define TOY_MMU_H
#include <linux/kvm_host.h>
#include "x86.h"
int toy_map(u64 *table, int index, bool write);
extern int toy_limit;
#endif
"""

MMU_C = """\
/* Not built. */
int toy_limit = 4;
static void toy_driver(void)
{
	toy_map(0, 0, false);
}
"""

DRIVER = """\
#include "mmu.h"
void sd_warn(const char *file, int line, const char *what) { (void)file; (void)line; (void)what; }
int toy_limit = 100;
static u64 table[512] = { 1 };
SD_API int toy_run(int index, int write) { return toy_map(table, index, write); }
"""

FILES = {
    "Makefile": "# A toy.\nVERSION = 6\nPATCHLEVEL = 99\nSUBLEVEL = 3\nEXTRAVERSION = -toy\n",
    X86 + "Kconfig": "config TOY\n\ttristate TWICE\n# walk level\n",
    X86 + "mmu.h": MMU_H,
    X86 + "mmu/mmu.c": MMU_C,
    X86 + "mmu/spte.h": SPTE_H,
    X86 + "mmu/tdp_mmu.c": TDP_MMU,
}


def make(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Write a toy tree, perhaps with other text in some files; its folder. The driver is in ``drivers`` next to it."""
    for name in NEEDED:
        text = {**FILES, **(files or {})}.get(name, "/* Nothing of it is needed. */\n")
        (folder / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "toy" / name).write_text(text)
    (folder / "toy" / "Kbuild").write_text("")
    (folder / "toy" / "Documentation").mkdir(exist_ok=True)
    (folder / "toy" / "Documentation" / "y.rst").write_text("Words.\n")
    (folder / "drivers").mkdir(exist_ok=True)
    (folder / "drivers" / "toy.c").write_text(DRIVER)
    return folder / "toy"
