/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_max_mapping_level, kvm_mmu_hugepage_adjust and disallowed_hugepage_adjust of mmu.c, and for the
 * part of kvm_alloc_memslot_metadata (x86.c) that says where huge pages cannot be: how large a page may be mapped.
 * Needs: SRCU or slots_lock for the slot; mmu_lock for an answer to rely on. Flushes: nothing.
 *
 * sd_host_level() answers for the page that the gfn has just then, where it lies (sd_level_at).
 */
#include "driver.h"

static bool disallowed(const struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	gfn_t pages = KVM_PAGES_PER_HPAGE(level), first = gfn & -pages;

	if (first < slot->base_gfn || first + pages > slot->base_gfn + slot->npages)
		return true;
	return READ_ONCE(*sd_tracked(slot, level, gfn)) != 0;
}

static int max_level_of(const struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	while (level > PG_LEVEL_4K && disallowed(slot, gfn, level))
		level--;
	if (level == PG_LEVEL_4K)
		return level;
	return min(level, (int)sd_host_level(sd_test_gfn(gfn)));
}

#if defined(SD_MAX_LEVEL_FAULT)		/* from 6.18 on */
int kvm_mmu_max_mapping_level(struct kvm *kvm, struct kvm_page_fault *fault,
			      const struct kvm_memory_slot *slot, gfn_t gfn)
{
	(void)kvm;
	(void)fault;
	return max_level_of(slot, gfn, KVM_MAX_HUGEPAGE_LEVEL);
}
#elif defined(SD_MAX_LEVEL_3)		/* from 6.13 on */
int kvm_mmu_max_mapping_level(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn)
{
	(void)kvm;
	return max_level_of(slot, gfn, KVM_MAX_HUGEPAGE_LEVEL);
}
#else
int kvm_mmu_max_mapping_level(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn, int max_level)
{
	(void)kvm;
	return max_level_of(slot, gfn, min(max_level, KVM_MAX_HUGEPAGE_LEVEL));
}
#endif

void kvm_mmu_hugepage_adjust(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	int level;

	(void)vcpu;
	fault->huge_page_disallowed = fault->exec && fault->nx_huge_page_workaround_enabled;
	if (fault->max_level == PG_LEVEL_4K || !fault->slot || kvm_slot_dirty_track_enabled(fault->slot))
		return;
	level = max_level_of(fault->slot, fault->gfn, fault->max_level);
	fault->req_level = level;
	if (level > PG_LEVEL_4K && !fault->huge_page_disallowed) {
		fault->goal_level = level;
		fault->pfn &= -KVM_PAGES_PER_HPAGE(level);
	}
}

void disallowed_hugepage_adjust(struct kvm_page_fault *fault, u64 spte, int level)
{
	if (level == PG_LEVEL_4K || level != fault->goal_level || !is_shadow_present_pte(spte) || is_large_pte(spte))
		return;
#ifdef SD_NX_MARKS_REFUSED
	if (!spte_to_child_sp(spte)->nx_huge_page_disallowed)
		return;
#endif
	fault->pfn |= fault->gfn & (KVM_PAGES_PER_HPAGE(level) - KVM_PAGES_PER_HPAGE(level - 1));
	fault->goal_level--;
}
