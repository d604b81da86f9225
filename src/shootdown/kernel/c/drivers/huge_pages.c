/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_zap_collapsible_sptes (kvm_mmu_recover_huge_pages from 6.13 on), kvm_mmu_slot_try_split_huge_pages
 * and kvm_flush_remote_tlbs_memslot: a slot's pages made huge again, or small. Needs: slots_lock; takes mmu_lock for
 * read. Flushes: collapsing itself; splitting nobody, since both translations agree.
 */
#include "driver.h"

void sd_collapse(struct kvm_memory_slot *slot)
{
	read_lock(&sd_kvm->mmu_lock);
#ifdef SD_RECOVER_HUGE_PAGES
	kvm_tdp_mmu_recover_huge_pages(sd_kvm, slot);
#else
	kvm_tdp_mmu_zap_collapsible_sptes(sd_kvm, slot);
#endif
	read_unlock(&sd_kvm->mmu_lock);
}

void sd_split_slot(struct kvm_memory_slot *slot)
{
	read_lock(&sd_kvm->mmu_lock);
	kvm_tdp_mmu_try_split_huge_pages(sd_kvm, slot, slot->base_gfn, slot->base_gfn + slot->npages, PG_LEVEL_4K, true);
	read_unlock(&sd_kvm->mmu_lock);
}

void sd_flush_memslot(const struct kvm_memory_slot *slot)
{
#ifdef SD_FLUSH_WITH_ADDRESS
	kvm_flush_remote_tlbs_with_address(sd_kvm, slot->base_gfn, slot->npages);
#else
	kvm_flush_remote_tlbs_range(sd_kvm, slot->base_gfn, slot->npages);
#endif
}

#ifndef SD_FLUSH_WITH_ADDRESS
void kvm_flush_remote_tlbs_memslot(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	(void)kvm;
	sd_flush_memslot(slot);
}
#endif
