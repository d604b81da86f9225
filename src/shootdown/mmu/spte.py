"""SPTEs: what the 64 bits of an entry of KVM's second-level page tables mean, for NPT (AMD) and EPT (Intel).

SPTEs are signed 64-bit everywhere (bit 63 set is negative), since compiled code has no unsigned 64-bit integer; print
them with ``unsigned``. Source of every bit and value: arch/x86/kvm/mmu/spte.h and spte.c of 6.1 and 6.12.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

PRESENT: Final[i64] = 0x800
"""Bit 11, ``SPTE_MMU_PRESENT_MASK``: KVM's own test of presence, on both vendors."""
LARGE: Final[i64] = 0x80
WRITABLE: Final[i64] = 0x2
PFN: Final[i64] = 0x000F_FFFF_FFFF_F000
AD_FIELD: Final[i64] = 0x0030_0000_0000_0000
AD_DISABLED: Final[i64] = 0x0010_0000_0000_0000
AD_WRPROT_ONLY: Final[i64] = 0x0020_0000_0000_0000
NX: Final[i64] = -0x8000_0000_0000_0000
"""Bit 63: NX on NPT; on EPT it suppresses #VE."""

EMPTY_61: Final[i64] = 0
EMPTY_612: Final[i64] = -0x8000_0000_0000_0000
FROZEN_61: Final[i64] = 0x5A0
FROZEN_612: Final[i64] = -0x7FFF_FFFF_FFFF_FA60
"""``REMOVED_SPTE`` of 6.1 and ``FROZEN_SPTE`` of 6.12: an entry that one CPU owns and everyone else leaves alone."""

EPT_READ: Final[i64] = 1
EPT_EXEC: Final[i64] = 4
RIGHTS: Final[i64] = 7
"""R, W and X of EPT."""
SAVED_RIGHTS: Final[i64] = 5
"""R and X, which an access-tracked entry of EPT keeps in bits 54 and 56."""
ACC_TRACK_SHIFT: Final = 54
TRACKED_RIGHTS: Final[i64] = 0x0140_0000_0000_0000
TRACKED_X: Final[i64] = 0x0100_0000_0000_0000

LEVEL_MAX: Final = 5
"""The highest level that page tables have."""
PAGES: Final = (0, 1, 512, 512**2, 512**3, 512**4, 512**5)
"""4 KiB pages that an entry of each level covers; the index is the level (1: 4K, 2: 2M, 3: 1G)."""


SIZES: Final = ("", "4K", "2M", "1G", "512G", "256T")
"""What an entry of each level covers, in words."""


class SpteFormat:
    """The bits in which vendors and CPUs differ.

    name           "NPT" or "EPT"; ``ept``: it is EPT
    ad             the CPU sets A and D; else every SPTE says so in its AD field, and KVM tracks accesses by faults
    accessed, dirty  the bits A and D, 0 where there are none
    host_writable, mmu_writable  software bits: the host may write the page; the MMU may let the guest write it again
    mmio_mask, mmio_value        what all entries of MMIO hold; 0 where the CPU leaves no bit for it: there are none
    encrypted      the bit of an address in encrypted RAM (``shadow_me_value``), 0 if the host does not encrypt it
    frame          the bits of an address (``SPTE_BASE_ADDR_MASK``): all but ``encrypted``
    guard          bits of an address that entries of MMIO have set, lest a CPU with L1TF reads what lies there
                   (``shadow_nonpresent_or_rsvd_mask``)
    """

    def __init__(
        self,
        name: str,
        ad: bool,
        accessed: i64,
        dirty: i64,
        mmio_mask: i64,
        mmio_value: i64,
        encrypted: i64 = 0,
        guard: i64 = 0,
    ) -> None:
        self.name = name
        self.ept = name == "EPT"
        self.ad = ad
        self.accessed = accessed
        self.dirty = dirty
        self.host_writable: i64 = 0x0200_0000_0000_0000 if self.ept else 0x200
        self.mmu_writable: i64 = 0x0400_0000_0000_0000 if self.ept else 0x400
        self.mmio_mask = mmio_mask
        self.mmio_value = mmio_value
        self.encrypted = encrypted
        self.frame = PFN & ~encrypted
        self.guard = guard


NPT: Final = SpteFormat("NPT", True, 0x20, 0x40, 0x0008_0000_0000_0001, 0x0008_0000_0000_0001)
EPT: Final = SpteFormat("EPT", True, 0x100, 0x200, 7, 6)
EPT_NO_AD: Final = SpteFormat("EPT", False, 0, 0, 7, 6)
"""EPT on a CPU without A/D bits, or with them switched off (``ept_ad=0``)."""


def software_ad(fmt: SpteFormat) -> SpteFormat:
    """Of a format without A and D the one of later kernels, which keep them in software; ``Kvm`` picks it."""
    if fmt.ad or fmt.accessed != 0:
        return fmt
    return SpteFormat("EPT", False, 0x100, 0x200, fmt.mmio_mask, fmt.mmio_value, fmt.encrypted, fmt.guard)


def encrypted_npt(c_bit: i64, phys_bits: i64) -> SpteFormat:
    """NPT on a host that encrypts its memory (SME) by bit ``c_bit``, with so many bits of physical addresses besides.

    Source: ``svm_adjust_mmio_mask``, ``svm_hardware_setup``.
    """
    lowest = phys_bits + 1 if phys_bits == c_bit else phys_bits
    mmio: i64 = 0
    if lowest < 52:
        mmio = address_bits(lowest, 51) | 1
    return SpteFormat("NPT", True, 0x20, 0x40, mmio, mmio, address_bits(c_bit, c_bit))


def guarded(fmt: SpteFormat, cache_bits: i64) -> SpteFormat:
    """A format of EPT on a CPU with L1TF, whose caches know so many bits of an address.

    Source: ``kvm_mmu_reset_all_pte_masks``.
    """
    guard = address_bits(cache_bits - 5, cache_bits - 1)
    return SpteFormat(fmt.name, fmt.ad, fmt.accessed, fmt.dirty, fmt.mmio_mask, fmt.mmio_value, fmt.encrypted, guard)


def address_bits(low: i64, high: i64) -> i64:
    """Bits ``low`` to ``high``, up to 61. Source: ``rsvd_bits``."""
    return (0x7FFF_FFFF_FFFF_FFFF >> (62 - high)) & ~(0x7FFF_FFFF_FFFF_FFFF >> (63 - low))


def unsigned(spte: i64) -> int:
    """The SPTE as the kernel prints it."""
    value: int = int(spte)
    return value + 2**64 if value < 0 else value


def signed(raw: int) -> int:
    """What the kernel prints, as an SPTE is here."""
    return raw - 2**64 if raw >> 63 else raw


def is_present(spte: i64) -> bool:
    """``is_shadow_present_pte``."""
    return spte & PRESENT != 0


def is_last(spte: i64, level: i64) -> bool:
    """``is_last_spte``: would map memory, if present; like the kernel's, it does not test presence."""
    return level == 1 or spte & LARGE != 0


def is_leaf(spte: i64, level: i64) -> bool:
    """Present, and maps guest memory."""
    return spte & PRESENT != 0 and (level == 1 or spte & LARGE != 0)


def is_table(spte: i64, level: i64) -> bool:
    """Present, and points to a table of the level below."""
    return spte & PRESENT != 0 and level > 1 and spte & LARGE == 0


def is_frozen(spte: i64) -> bool:
    """``is_removed_spte`` (6.1) or ``is_frozen_spte`` (6.12)."""
    return spte == FROZEN_61 or spte == FROZEN_612


def is_empty(spte: i64) -> bool:
    """The value of an entry that maps nothing, of either kernel."""
    return spte == EMPTY_61 or spte == EMPTY_612


def spte_pfn(spte: i64) -> i64:
    """``Kvm.pfn`` for those who know no format: of a host that does not encrypt its memory."""
    return (spte & PFN) >> 12


def is_writable(spte: i64) -> bool:
    """``is_writable_pte``; like the kernel's, it does not test presence, and EPT's entries of MMIO have the bit."""
    return spte & WRITABLE != 0


def is_mmu_writable(spte: i64, fmt: SpteFormat) -> bool:
    """``is_mmu_writable_spte``: may the guest write again as soon as it tries?"""
    return spte & fmt.mmu_writable != 0


def ad_enabled(spte: i64) -> bool:
    """``spte_ad_enabled``: does the CPU set A and D of a present entry?"""
    return spte & AD_FIELD != AD_DISABLED


def needs_write_protect(spte: i64) -> bool:
    """``spte_ad_need_write_protect``: must W be cleared to see a write, D not being enough?"""
    return spte & AD_FIELD != 0


def is_access_track(spte: i64) -> bool:
    """``is_access_track_spte``, EPT without A/D bits: R, W and X are off, R and X saved in bits 54 and 56."""
    return spte & AD_FIELD == AD_DISABLED and spte & RIGHTS == 0


def is_accessed(spte: i64, fmt: SpteFormat) -> bool:
    """``is_accessed_spte``, of a present leaf."""
    if fmt.accessed != 0:
        return spte & fmt.accessed != 0
    return not is_access_track(spte)


def is_dirty(spte: i64, fmt: SpteFormat) -> bool:
    """``is_dirty_spte``, of a present leaf."""
    return spte & (fmt.dirty if fmt.dirty != 0 else WRITABLE) != 0


def mark_for_access_track(spte: i64, fmt: SpteFormat) -> i64:
    """A present leaf as it is until the guest's next access, which sets A or faults.

    Source: ``mark_spte_for_access_track``.
    """
    if ad_enabled(spte):
        return spte & ~fmt.accessed
    if is_access_track(spte):
        return spte
    return (spte | (spte & SAVED_RIGHTS) << ACC_TRACK_SHIFT) & ~(RIGHTS | fmt.accessed)


def restore_acc_track(spte: i64) -> i64:
    """An access-tracked leaf with its R and X again; W stays off. Source: ``restore_acc_track_spte``."""
    return (spte & ~(RIGHTS | TRACKED_RIGHTS)) | ((spte & TRACKED_RIGHTS) >> ACC_TRACK_SHIFT)


def is_mmio(spte: i64, fmt: SpteFormat) -> bool:
    """Does the value mark MMIO, on either kernel? A kernel tests a little more (mmio.py)."""
    return spte & fmt.mmio_mask == fmt.mmio_value and fmt.mmio_value != 0


def mmio_generation(spte: i64) -> i64:
    """The low 19 bits of the generation of the slots that an entry of MMIO was made in: bits 10:3 and 62:52.

    Source: spte.h, ``get_mmio_spte_generation``.
    """
    return ((spte >> 3) & 0xFF) | ((spte >> 52) & 0x7FF) << 8


def is_executable(spte: i64, fmt: SpteFormat) -> bool:
    """May the guest execute what a present leaf maps (once it is not access-tracked any more)?"""
    if not fmt.ept:
        return spte & NX == 0
    return spte & (TRACKED_X if is_access_track(spte) else EPT_EXEC) != 0


def table_index(gfn: i64, level: i64) -> i64:
    """Index (0 to 511) of the entry for ``gfn`` in a table whose entries are of ``level``."""
    return (gfn >> (9 * (level - 1))) & 511


def differs_beyond_hardware(held: i64, seen: i64, level: i64, fmt: SpteFormat) -> bool:
    """Can the CPU alone not have made ``seen`` of ``held``? It may set A, and D of a writable leaf; it clears nothing.

    Source: AMD APM vol. 2, 15.25; Intel SDM vol. 3, 29.3.5.
    """
    if held == seen:
        return False
    if held & PRESENT == 0:
        return True
    settable = fmt.accessed
    if (level == 1 or held & LARGE != 0) and held & WRITABLE != 0:
        settable |= fmt.dirty
    if held & AD_FIELD == AD_DISABLED and fmt.ept:
        settable = 0
    return (held | settable) != (seen | settable) or held & ~seen != 0


def set_executable(spte: i64, fmt: SpteFormat, on: bool) -> i64:
    """A present leaf that may be executed, or not; one that is access-tracked stays so.

    Source: ``make_spte_executable``, ``make_spte_nonexecutable``.
    """
    if not fmt.ept:
        return spte & ~NX if on else spte | NX
    execute = TRACKED_X if is_access_track(spte) else EPT_EXEC
    return spte | execute if on else spte & ~execute


def small_spte(huge: i64, level: i64, pages: i64, executable: bool, fmt: SpteFormat) -> i64:
    """What an entry of the table that replaces the leaf ``huge`` of ``level`` holds, ``pages`` pages into it.

    ``executable``: the NX huge page mitigation is on, and 4 KiB pages get X back.
    Source: ``make_huge_page_split_spte``, later ``make_small_spte``.
    """
    frame = fmt.frame
    child = (huge & ~frame) | (((huge & frame) + (pages << 12)) & frame)
    if level == 2:
        child &= ~LARGE
        if executable:
            return set_executable(child, fmt, True)
    return child


def split_child(huge: i64, level: i64, index: i64, executable: bool, fmt: SpteFormat) -> i64:
    """``small_spte`` by index in a table of 512 entries."""
    return small_spte(huge, level, index * PAGES[level - 1], executable, fmt)


def format_of(spte: i64, level: i64) -> SpteFormat | None:
    """The format that a present SPTE must be of, None where the value fits both.

    A table's entry always has A set on NPT (bit 5, which no EPT table entry has); leaf values of EPT carry a software
    bit among 52 to 58, which NPT leaves 0.
    """
    if spte & PRESENT == 0:
        return None
    if level > 1 and spte & LARGE == 0:
        return NPT if spte & 0x20 != 0 else EPT
    if spte & 0x07F0_0000_0000_0000 != 0:
        return EPT
    if spte & 0x600 == 0x600 or spte & 0x18 == 0:
        return NPT if spte & 0x38 != 0x30 else None
    return None


def describe(spte: i64, level: i64, fmt: SpteFormat) -> str:
    """An SPTE in words: "4K pfn 1a2b3 rwx A D host-w mmu-w", "table pfn 1a2b3", "empty", "frozen", "mmio gen 8"."""
    if is_empty(spte):
        return "empty"
    if is_frozen(spte):
        return "frozen"
    if spte & PRESENT == 0:
        return _describe_mmio(spte, fmt)
    size = SIZES[level] if 0 < level < 6 else f"level {int(level)}"
    what = size if is_last(spte, level) else "table"
    words = [what, f"pfn {int((spte & fmt.frame) >> 12):x}"]
    if fmt.ept:
        rights = ("r" if spte & 1 else "-") + ("w" if spte & 2 else "-") + ("x" if spte & 4 else "-")
    else:
        rights = ("r" if spte & 1 else "-") + ("w" if spte & 2 else "-") + ("-" if spte & NX else "x")
    words.append(rights)
    if spte & fmt.encrypted:
        words.append("encrypted")
    if spte & fmt.accessed:
        words.append("A")
    if is_last(spte, level):
        if spte & fmt.dirty:
            words.append("D")
        words += _describe_software(spte, fmt)
    if spte & AD_FIELD == AD_DISABLED:
        words.append("ad-off")
    elif spte & AD_FIELD == AD_WRPROT_ONLY:
        words.append("ad-wrprot")
    return " ".join(words)


def _describe_software(spte: i64, fmt: SpteFormat) -> list[str]:
    words = []
    if spte & fmt.host_writable:
        words.append("host-w")
    if spte & fmt.mmu_writable:
        words.append("mmu-w")
    if fmt.ept:
        if is_access_track(spte):
            saved = (spte >> ACC_TRACK_SHIFT) & 5
            words.append("tracked(" + ("r" if saved & 1 else "") + ("x" if saved & 4 else "") + ")")
        memory_type = ("UC", "WC", "2", "3", "WT", "WP", "WB", "7")[(spte >> 3) & 7]
        words.append(memory_type + ("+ipat" if spte & 0x40 else ""))
    return words


def _describe_mmio(spte: i64, fmt: SpteFormat) -> str:
    if not is_mmio(spte, fmt):
        return "non-present"
    return f"mmio gen {int(mmio_generation(spte))}"
