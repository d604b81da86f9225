/* SPDX-License-Identifier: MIT */
/* Bits of x86's registers and of EPT entries, as the vendors' manuals number them, and one CPU to run on. */
#ifndef SD_CPU_H
#define SD_CPU_H
#include "sd_base.h"

#define X86_CR0_WP BIT(16)
#define X86_CR0_PG BIT(31)
#define X86_CR3_PCID_MASK 0xfffUL
#define X86_CR3_LAM_U57 BIT(61)
#define X86_CR3_LAM_U48 BIT(62)
#define X86_CR4_PSE BIT(4)
#define X86_CR4_PAE BIT(5)
#define X86_CR4_LA57 BIT(12)
#define X86_CR4_PCIDE BIT(17)
#define X86_CR4_SMEP BIT(20)
#define X86_CR4_SMAP BIT(21)
#define X86_CR4_PKE BIT(22)
#define X86_EFLAGS_AC BIT(18)
#define EFER_LME BIT(8)
#define EFER_NX BIT(11)

#define VMX_EPT_READABLE_MASK 1ull
#define VMX_EPT_WRITABLE_MASK 2ull
#define VMX_EPT_EXECUTABLE_MASK 4ull
#define VMX_EPT_RWX_MASK 7ull
#define VMX_EPT_MT_EPTE_SHIFT 3
#define VMX_EPT_MT_MASK (7ull << VMX_EPT_MT_EPTE_SHIFT)
#define VMX_EPT_IPAT_BIT (1ull << 6)
#define VMX_EPT_ACCESS_BIT (1ull << 8)
#define VMX_EPT_DIRTY_BIT (1ull << 9)
#define VMX_EPT_SUPPRESS_VE_BIT (1ull << 63)
#define VMX_EPT_MISCONFIG_WX_VALUE 6ull
#define X86_MEMTYPE_UC 0
#define X86_MEMTYPE_WB 6

struct cpuinfo_x86 { u8 x86_phys_bits, x86_cache_bits; u32 extended_cpuid_level; };
extern struct cpuinfo_x86 boot_cpu_data;	/* shims/sd_facts.c */

/* A CPU without the faults that entries are to hide from, nor encrypted memory. */
#define X86_BUG_L1TF 0
#define X86_BUG_MMIO_STALE_DATA 1
#define X86_FEATURE_LAM 0
#define X86_FEATURE_GBPAGES 1
#define boot_cpu_has_bug(bug) 0
#define boot_cpu_has(feature) 0
#define cpu_feature_enabled(feature) 0
#define cpuid_eax(leaf) ((unsigned int)boot_cpu_data.x86_phys_bits)
#endif
