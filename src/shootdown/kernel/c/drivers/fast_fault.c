/* SPDX-License-Identifier: MIT */
/*
 * Stands for fast_page_fault and page_fault_can_be_fast of mmu.c: rights come back to an entry without mmu_lock.
 * Needs: SRCU, the vCPU's thread; enters RCU. Flushes: nobody: rights only grow.
 *
 * It looks neither at invalidations nor at the root: the exchange succeeds on the exact entry only. The page is marked
 * dirty after that, since nothing keeps a log from being harvested and the page from being protected again before.
 */
#include "driver.h"

#define TRIES 5

/* From 6.13 on KVM keeps A itself where the CPU does not. */
#ifdef SD_AD_VARIABLE
#define SD_SOFTWARE_ACCESSED shadow_accessed_mask
#else
#define SD_SOFTWARE_ACCESSED 0
#endif

static bool can_be_fast(const struct kvm_page_fault *fault)
{
	if (fault->rsvd)
		return false;
	return fault->present ? fault->write : !sd_ad_enabled();
}

static bool allowed(const struct kvm_page_fault *fault, u64 spte)
{
	bool may_write = is_writable_pte(spte), may_run = is_executable_pte(spte);

	return fault->exec ? may_run : fault->write ? may_write : (spte & PT_PRESENT_MASK) != 0;
}

/* The entry with what rights it may have; as it is where a huge page of a logged slot would become writable. */
static u64 better(const struct kvm_page_fault *fault, u64 spte, int level)
{
	u64 new = spte;

	if (!sd_ad_enabled() && is_access_track_spte(spte))
		new = restore_acc_track_spte(new) | SD_SOFTWARE_ACCESSED;
	if (fault->write && is_mmu_writable_spte(spte)) {
		if (level > PG_LEVEL_4K && kvm_slot_dirty_track_enabled(fault->slot))
			return spte;
		new |= PT_WRITABLE_MASK;
	}
	return new;
}

int sd_fast_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	int r = RET_PF_INVALID, tries;
	u64 spte = 0, new, *sptep;

	if (!can_be_fast(fault))
		return r;
	kvm_tdp_mmu_walk_lockless_begin();
	for (tries = 0; tries < TRIES; tries++) {
#ifdef SD_LAST_SPTEP_GFN
		sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu, fault->gfn, &spte);
#else
		sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu, fault->addr, &spte);
#endif
		if (!sptep || !is_shadow_present_pte(spte))
			break;
		if (!is_last_spte(spte, sptep_to_sp(sptep)->role.level))
			break;
		if (allowed(fault, spte)) {
			r = RET_PF_SPURIOUS;
			break;
		}
		new = better(fault, spte, sptep_to_sp(sptep)->role.level);
		if (new == spte || !allowed(fault, new))
			break;
		if (try_cmpxchg64(sptep, &spte, new)) {
			if (is_writable_pte(new) && !is_writable_pte(spte))
				mark_page_dirty_in_slot(vcpu->kvm, fault->slot, fault->gfn);
			r = RET_PF_FIXED;
			break;
		}
	}
	kvm_tdp_mmu_walk_lockless_end();
	if (r != RET_PF_INVALID)
		vcpu->stat.pf_fast++;
	return r;
}
