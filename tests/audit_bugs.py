"""Litmus tests in which somebody looks (audit.py), and the bugs that only this shows; docs/bugs.md has the table."""

from __future__ import annotations

from dataclasses import dataclass

from .audit import Audited


@dataclass(frozen=True)
class Audit:
    """A litmus test with an audit.

    text     the file; "": the test of the suite with the audit's name
    who      looks: a program of audit.py, or nobody: what everything else shows suffices
    gfn_end  pages that the host's CPU can address, if fewer than the test has
    """

    text: str = ""
    who: str = "audit"
    gfn_end: int = 0


GEOMETRY = 'behaviours = ["6.12", "6.1", "6.18"]\n[geometry]\nlevels = 2\ntables = 4\nvcpus = 1\n'
HUGE = """promise = "Huge pages that come and are split are counted."
""" + GEOMETRY + """
[start]
host = [[0, 2]]
nx = true

[[vcpu]]
gfns = [0]
[[host]]
name = "pre-fault"
run = "prefault"
gfn = 0
execute = true
"""  # fmt: skip
LOGGED = """promise = "A huge page that is split ahead of logging is counted as its parts."
""" + GEOMETRY + """
[start]
map = [[0, 2]]
host = [[0, 2]]

[[slot]]
base = 0
pages = 2

[[vcpu]]
gfns = [0]
parked = true
[[host]]
name = "ioctl"
run = "log_on"
[[host]]
name = "pre-fault"
run = "prefault"
gfn = 1
"""  # fmt: skip
UNUSED = """promise = "A page that was aged is said to have been used only if it was."
""" + GEOMETRY + """
[start]
map = [[0, 1]]
format = "EPT"
hardware_ad = true

[[vcpu]]
gfns = [1]
[[host]]
name = "pre-fault"
run = "prefetch"
gfn = 0
"""  # fmt: skip
SLOT = """promise = "What is in a slot from now on does not pass for MMIO, whatever was there before."
""" + GEOMETRY + """
[[slot]]
pages = 0

[[vcpu]]
gfns = [0]
[[host]]
name = "ioctl"
run = "create_slot"
pages = 1
"""  # fmt: skip
BEYOND = """promise = "Nothing is left of a VM, whatever its guest touched."
""" + GEOMETRY + """
[[slot]]
base = 0
pages = 2

[[vcpu]]
gfns = [0, 2]
[[host]]
name = "ioctl"
run = "zap_all_fast"
"""  # fmt: skip

DYING = """promise = "Huge pages are split ahead of logging while a root that has them dies."
""" + GEOMETRY + """
[start]
map = [[0, 2]]
host = [[0, 2]]

[[slot]]
base = 0
pages = 2

[[vcpu]]
gfns = [0]
parked = true
[[host]]
name = "ioctl"
run = "log_on"
[[host]]
name = "other ioctl"
run = "zap_all_fast"
"""  # fmt: skip

SMM = """promise = "NX recovery finds the slot of a table in the address space of its root."
""" + GEOMETRY + """
[start]
host = [[0, 2]]
map_as1 = [[0, 1]]
nx = true

[[slot]]
base = 2
pages = 2
flags = ["log"]
[[slot]]
base = 0
pages = 2
as_id = 1

[[vcpu]]
gfns = [0]
as_id = 1
execute = true
[[host]]
name = "worker"
run = "recover_nx"
"""  # fmt: skip
AUDITS: dict[str, Audit] = {
    "huge pages": Audit(HUGE),
    "split pages": Audit(LOGGED),
    "unused pages": Audit(UNUSED, "unused"),
    "a new slot": Audit(SLOT, "wary"),
    "a dying root": Audit(DYING),
    "a table of SMM": Audit(SMM),
    "a high page": Audit(BEYOND, "nobody", 2),
    "collapse-zap": Audit(),
    "nx-recovery": Audit(),
}
"""By name."""

AUDITED = (
    Audited(
        "I-20: a table's record names the entry after the one that it is linked to",
        (("mmu/link.py", "m.store(SP_PARENT, table, it.sptep)", "m.store(SP_PARENT, table, it.sptep ^ 1)"),),
        "huge pages", "P6",
    ),
    Audited(
        "I-21: the parts of a huge page that is split are not counted",
        (("mmu/split.py", "    kvm.m.count(PAGES, level - 1, kvm.entries)\n", ""),),
        "split pages", "P7",
    ),
    Audited(
        "I-21: the parts are counted though the split came too late",
        (("mmu/split.py", "    fill_split(kvm, table, it.old_spte, level)\n",
          "    fill_split(kvm, table, it.old_spte, level)\n    kvm.m.count(PAGES, level - 1, kvm.entries)\n"),
         ("mmu/split.py", "        return False\n    kvm.m.count(PAGES, level - 1, kvm.entries)\n",
          "        return False\n")),
        "split pages", "P7",
    ),
    Audited(
        "I-21: entries of a table that was cut off still count",
        (("mmu/change.py",
          "            handle_changed_spte(kvm, batch, gfn, old, kvm.frozen, level, shared)\n        else:",
          "            pass\n        else:"),),
        "collapse-zap", "P7",
    ),
    Audited(
        "I-21: a leaf is counted before it is known to be there",
        (("mmu/change.py", "    found = kvm.m.cmpxchg(it.sptep, it.old_spte, new)\n    if found",
          "    if new & PRESENT != 0 and it.level == 1 and it.old_spte & PRESENT == 0:\n"
          "        kvm.m.count(PAGES, 1, 1)\n    found = kvm.m.cmpxchg(it.sptep, it.old_spte, new)\n    if found"),
         ("mmu/change.py", "    if was_leaf != is_leaf:\n        kvm.m.count",
          "    if was_leaf != is_leaf and not (shared and is_leaf and level == 1):\n        kvm.m.count")),
        "huge pages", "P7",
    ),
    Audited(
        "I-21: a table that NX recovery zapped is still counted as one for it",
        (("mmu/table_lists.py", "        kvm.m.count(NX_SPLITS, 0, -1)\n", ""),),
        "nx-recovery", "P7",
    ),
    Audited(
        "I-24: an entry of MMIO is believed while slots change",
        (("mmu/mmio.py", "    if now & UPDATE_IN_PROGRESS != 0:\n        return False\n", ""),),
        "a new slot", "P5",
    ),
    Audited(
        "I-30: a page that was mapped ahead counts as used",
        (("mmu/make_spte.py", "    if not prefetch:\n        spte |= fmt.accessed\n", "    spte |= fmt.accessed\n"),
         ("mmu/make_spte.py", "    if prefetch:\n        return mark_for_access_track(spte, fmt)\n", "")),
        "unused pages", "P5",
    ),
    Audited(
        "I-30: pages are asked after and left as they were",
        (("mmu/aging.py", "            age_leaf(kvm, batch, it)\n", ""),),
        "unused pages", "P5",
    ),
    Audited(
        "B29: entries of MMIO are made beyond what the host's CPU can address",
        (("mmu/fault.py", "        if kvm.fmt.mmio_value == 0 or fault.gfn >= kvm.gfn_end:\n",
          "        if kvm.fmt.mmio_value == 0:\n"),),
        "a high page", "P6",
    ),
    Audited(
        "B13: huge pages are split in invalid roots, too: in vain, and nothing is left behind",
        (("mmu/split.py", "    root = next_root(kvm, NO_TABLE, as_id, True)\n",
          "    root = next_root(kvm, NO_TABLE, as_id, False)\n"),
         ("mmu/split.py", "        root = next_root(kvm, root, as_id, True)\n",
          "        root = next_root(kvm, root, as_id, False)\n")),
        "a dying root", "",
    ),
    Audited(
        "B13: the same where a table is linked before it is on its list: who zaps the root comes in between",
        (("mmu/split.py", "    root = next_root(kvm, NO_TABLE, as_id, True)\n",
          "    root = next_root(kvm, NO_TABLE, as_id, False)\n"),
         ("mmu/split.py", "        root = next_root(kvm, root, as_id, True)\n",
          "        root = next_root(kvm, root, as_id, False)\n")),
        "a dying root", "P6", "6.1",
    ),
    Audited(
        "B35: NX recovery looks for the slot in address space 0, and warns",
        (("mmu/huge_pages.py", "find_slot(kvm, role & ROLE_SMM, gfn)", "find_slot(kvm, 0, gfn)"),),
        "a table of SMM", "P6",
    ),
)  # fmt: skip
"""Each with the audit that finds it."""
