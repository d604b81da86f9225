/* SPDX-License-Identifier: MIT */
/*
 * How a test's VM comes to its start, run before all tasks and alone: sd_vm_create, and the first of sd_ops, whose
 * arguments are gfns of the test. "vm" comes before all others.
 */
#include "driver.h"

#ifdef SD_EXPLORE
void sd_vm_create(const struct sd_scenario *scenario)
{
	struct sd_config config = {
		.format = scenario->ept ? scenario->accessed ? 1 : 2 : 0,
		.levels = scenario->root_level,
		.vcpus = scenario->vcpus,
		.pml = scenario->logs,
		.eager_split = 1,
		.slot_zap_all = 1,
	};
	unsigned n;

	sd_ignore(&sd_kvm->stat, sizeof(sd_kvm->stat));
	for (n = 0; n < SD_VCPUS; n++)
		sd_ignore(&sd->vcpu[n].vcpu.stat, sizeof(sd->vcpu[n].vcpu.stat));
	sd_vm_init(&config);
}

/* What a fresh table is filled with. */
u64 sd_empty_spte(void)
{
#ifdef SD_NONPRESENT
	return SHADOW_NONPRESENT_VALUE;
#else
	return 0;
#endif
}

_Static_assert(sizeof(struct kvm_mmu_page) <= SD_HEADER_BYTES, "a header is larger than the explorer's room for it");
#endif

/* nx_huge_pages eager_split initially_set slot_zap_all ring_size: what sd_vm_create was not told */
void sd_start_vm(const u64 *arg)
{
	sd->config.nx_huge_pages = nx_huge_pages = arg[0];
	sd->config.eager_split = arg[1];
	sd->config.initially_set = arg[2];
	sd->config.slot_zap_all = arg[3];
	sd->config.ring_size = sd->config.ring_soft_limit = arg[4];
}

/* slot as_id base pages flags */
void sd_start_slot(const u64 *arg)
{
	gfn_t base = sd_real_gfn(arg[2]);

	sd_set_memory_region(arg[0], arg[1], base, sd_real_gfn(arg[2] + arg[3]) - base, arg[4]);
}

/* vcpu role: a root of its own, or that of all vCPUs of the role */
void sd_start_load(const u64 *arg)
{
	struct kvm_vcpu *vcpu = &sd->vcpu[arg[0]].vcpu;

	sd_reset_context(vcpu, arg[1]);
	sd_mmu_load(vcpu);
}

/* vcpu gfn keep set: what the leaf for gfn has of its bits, and which it gets; the vCPU has a root */
void sd_start_leaf(const u64 *arg)
{
	struct kvm_vcpu *vcpu = &sd->vcpu[arg[0]].vcpu;
	u64 spte, *sptep;

#ifdef SD_LAST_SPTEP_GFN
	sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu, sd_real_gfn(arg[1]), &spte);
#else
	sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu, sd_real_gfn(arg[1]) << PAGE_SHIFT, &spte);
#endif
	WRITE_ONCE(*sptep, (spte & arg[2]) | arg[3]);
}

/* gfn level writable: what the host has there */
void sd_start_host(const u64 *arg)
{
	sd_set_host_level(arg[0], arg[1]);
	sd_set_host_writable(arg[0], arg[2]);
}

/* slot flags: nothing that their change would entail is done */
void sd_start_flags(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);

	sd->nr_dirty_logging += !!(arg[1] & SD_LOG_DIRTY_PAGES) - !!(slot->flags & SD_LOG_DIRTY_PAGES);
	slot->flags = arg[1];
}

/*
 * watched backed protected, masks of gfns: whose writes the user relies on being logged, which are memory though entries
 * of MMIO were made there before, and which no vCPU may write
 */
void sd_start_promises(const u64 *arg)
{
	if (arg[0])
		sd_watch(arg[0]);
	if (arg[1])
		sd_back(arg[1]);
	if (arg[2])
		sd_protect(arg[2]);
}

/* slot gfn: the page is dirty */
void sd_start_dirty(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);
	u64 offset = sd_real_gfn(arg[1]) - slot->base_gfn;

	sd_fetch_or(sd_dirty_word(slot, offset / 64), 1ull << offset % 64);
}
