/* SPDX-License-Identifier: MIT */
/* The host that every library sees: 46 bits of physical address, all memory write-back. */
#include "sd_kvm.h"

struct cpuinfo_x86 boot_cpu_data = { 46, 46, 0x80000008 };
struct kvm_host_values kvm_host = { 46 };
struct kvm_x86_ops kvm_x86_ops;

u8 sd_ept_mt_mask(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio)
{
	(void)vcpu;
	(void)gfn;
	return (is_mmio ? X86_MEMTYPE_UC : X86_MEMTYPE_WB) << VMX_EPT_MT_EPTE_SHIFT;
}
