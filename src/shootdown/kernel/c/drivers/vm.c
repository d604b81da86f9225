/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_create_vm, kvm_mmu_init_vm and kvm_mmu_create: a VM and its vCPUs, before anything runs; and for what
 * the vendor modules tell the MMU about SPTEs. Needs: sd_the_vm all zeros. Flushes: nothing is cached yet.
 */
#include "driver.h"

#ifdef CONFIG_KVM_PROVE_MMU
#define SD_USERS 1
#endif

struct sd_vm sd_the_vm;
bool tdp_enabled = true;
#ifdef SD_TDP_ENABLED_GLOBAL
bool tdp_mmu_enabled = true;
#endif
int nx_huge_pages;
struct kmem_cache *mmu_page_header_cache;

/* Memory is write-back whatever the guest says, since no device of the VM bypasses caches. */
static u8 write_back(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio)
{
	(void)vcpu;
	(void)gfn;
	return is_mmio ? 0 : X86_MEMTYPE_WB << VMX_EPT_MT_EPTE_SHIFT | VMX_EPT_IPAT_BIT;
}

static void init_masks(int format)
{
	static bool once;

	if (!once)
		kvm_mmu_spte_module_init();
	once = true;
	kvm_x86_ops.get_mt_mask = format > 0 ? write_back : NULL;
	kvm_mmu_reset_all_pte_masks();
	if (format > 0)
		kvm_mmu_set_ept_masks(format == 1, true);
}

void sd_vm_init(const struct sd_config *config)
{
	struct kvm *kvm = sd_kvm;
	int as_id, i;

	sd->config = *config;
	nx_huge_pages = config->nx_huge_pages;
	kvm_x86_ops.cpu_dirty_log_size = config->pml ? 512 : 0;
	init_masks(config->format);
	refcount_set(&kvm->users_count, 1);
	kvm->created_vcpus = config->vcpus;
	kvm->arch.tdp_mmu_enabled = true;
	kvm->arch.shadow_mmio_value = shadow_mmio_value;
#ifdef SD_CPU_DIRTY_LOG_SIZE_VM
	kvm->arch.cpu_dirty_log_size = kvm_x86_ops.cpu_dirty_log_size;
#endif
	INIT_LIST_HEAD(&sd->nx_list);
	kvm_mmu_init_tdp_mmu(kvm);
	for (as_id = 0; as_id < SD_AS; as_id++) {
		for (i = 0; i < 2; i++)
			sd->sets[as_id][i].base.generation = as_id;
		sd->active[as_id] = &sd->sets[as_id][0];
	}
	for (i = 0; i < config->vcpus; i++)
		sd_vcpu_init(i);
}

/* The role of roots of a vCPU: the page tables are the host's own, so that all rights come from SPTEs. */
union kvm_mmu_page_role sd_role(unsigned role)
{
	union kvm_mmu_page_role found = { .word = 0 };
	unsigned level = role >> SD_ROLE_LEVEL_SHIFT;

	found.level = level ? level : (unsigned)sd->config.levels;
	found.direct = 1;
	found.access = 7;
	found.efer_nx = 1;
	found.cr0_wp = 1;
	found.ad_disabled = !sd_ad_enabled();
	found.smm = !!(role & SD_ROLE_SMM);
	found.guest_mode = !!(role & SD_ROLE_GUEST_MODE);
	return found;
}

void sd_vcpu_init(int number)
{
	struct sd_vcpu *mine = &sd->vcpu[number];
	struct kvm_vcpu *vcpu = &mine->vcpu;
	int i;

	vcpu->kvm = sd_kvm;
	vcpu->vcpu_id = number;
	vcpu->arch.mmu = &vcpu->arch.root_mmu;
	vcpu->arch.mmu_page_header_cache.kind = 0;
	vcpu->arch.mmu_shadow_page_cache.kind = 1;
	vcpu->arch.mmu->page_fault = kvm_tdp_page_fault;
	vcpu->arch.mmu->root_role = sd_role(0);
	vcpu->arch.mmu->root.hpa = INVALID_PAGE;
	for (i = 0; i < SD_PREV_ROOTS; i++)
		mine->prev[i] = INVALID_PAGE;
}
