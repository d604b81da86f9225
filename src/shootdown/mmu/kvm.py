"""``Kvm``: what the MMU's functions are told about their VM. It never changes; what changes lives in the machine."""

from __future__ import annotations

from mypy_extensions import i64

from ..machine.interface import Machine
from .behaviour import Behaviour
from .memory_type import GuestCaching
from .policies.policy import AS_VERSION, RECOVER, ZAP_TABLES, Policy
from .spte import SpteFormat, software_ad


def power_of_two(exponent: i64) -> i64:
    """``2**exponent``, up to 61: compiled code must not shift a small constant, and does not box this one."""
    return 0x2000_0000_0000_0000 >> (61 - exponent)


class Kvm:
    """One VM.

    m              the machine that it runs on
    fmt            bits of its SPTEs: NPT, EPT, EPT_NO_AD, or a form of these (spte.py), as the kernel gives it
    behaviour      version of the kernel that it behaves as
    policy         how the removal of tables and translations is made visible to vCPUs
    collapse       how huge pages come back when dirty logging ends: the policy's form, or else the version's
    root_level     level of the entries in a root, 1 to 5, where a role does not say another
    vcpus          how many it has
    nx_huge_pages  no huge page may be executable (the mitigation of CVE-2018-12207)
    slots          how many memory slots it may have; 0: all of its memory is one slot that never changes
    pml            the CPU logs pages that the guest dirties (Intel's Page Modification Logging)
    eager_split    huge pages are split when dirty logging begins, not when they are written (``eager_page_split``)
    initially_set  a slot's bitmap begins all ones, and nothing is protected before it is cleared for the first time
                   (``KVM_DIRTY_LOG_INITIALLY_SET``)
    ring_size      entries of each vCPU's dirty ring, 0 where dirty pages go to bitmaps
    slot_zap_all   a deleted slot takes all that is mapped with it (``KVM_X86_QUIRK_SLOT_ZAP_ALL``)
    ring_soft_limit  so many of them in use make the vCPU leave to user space
    noncoherent_dma  a device of the VM bypasses caches, so that the guest's memory types count
    caching        what the guest says of caching, which counts then
    phys_bits      of physical addresses that the host's CPU has: beyond, nothing is mapped or looked for
    device_pfn     from this frame of the host on there is no RAM, but devices
    """

    def __init__(
        self,
        m: Machine,
        fmt: SpteFormat,
        behaviour: Behaviour,
        policy: Policy,
        root_level: i64,
        vcpus: i64,
        nx_huge_pages: bool = False,
        slots: i64 = 0,
        pml: bool = False,
        eager_split: bool = True,
        initially_set: bool = False,
        ring_size: i64 = 0,
        ring_soft_limit: i64 = 0,
        noncoherent_dma: bool = False,
        device_pfn: i64 = 0x100_0000_0000,
        slot_zap_all: bool = True,
        phys_bits: i64 = 57,
        caching: GuestCaching | None = None,
    ) -> None:
        self.m = m
        self.fmt = software_ad(fmt) if behaviour.software_ad else fmt
        self.behaviour = behaviour
        self.policy = policy
        self.collapse = policy.collapse
        if policy.collapse == AS_VERSION:
            self.collapse = RECOVER if behaviour.promote else ZAP_TABLES
        self.root_level = root_level
        self.vcpus = vcpus
        self.nx_huge_pages = nx_huge_pages
        self.slots = slots
        self.pml = pml
        self.eager_split = eager_split
        self.initially_set = initially_set
        self.ring_size = ring_size
        self.ring_soft_limit = ring_soft_limit
        self.noncoherent_dma = noncoherent_dma
        self.device_pfn = device_pfn
        self.caching = GuestCaching() if caching is None else caching
        self.slot_zap_all = slot_zap_all
        self.gfn_end = power_of_two(phys_bits - 12)
        self.frame = self.fmt.frame
        self.bits = m.bits
        self.entries = power_of_two(m.bits)
        self.empty = behaviour.empty
        self.frozen = behaviour.frozen

    def pfn(self, spte: i64) -> i64:
        """``spte_to_pfn``: of a leaf the first mapped frame, else the frame of the table below."""
        return (spte & self.frame) >> 12

    def pages(self, level: i64) -> i64:
        """4 KiB pages that an entry of ``level`` covers."""
        return power_of_two(self.bits * (level - 1))

    def round(self, gfn: i64, level: i64) -> i64:
        """First gfn of the entry of ``level`` that covers ``gfn``."""
        shift = self.bits * (level - 1)
        return gfn >> shift << shift

    def index(self, gfn: i64, level: i64) -> i64:
        """Index of the entry for ``gfn`` in a table whose entries are of ``level``."""
        return (gfn >> (self.bits * (level - 1))) & (self.entries - 1)

    def is_last_entry(self, sptep: i64) -> bool:
        """Is there no entry after this one in its table?"""
        return (sptep + 1) & (self.entries - 1) == 0
