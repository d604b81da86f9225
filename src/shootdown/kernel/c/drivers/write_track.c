/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_write_track_add_gfn and _remove_gfn (kvm_slot_page_track_add_page in 6.1) of page_track.c, with
 * kvm_mmu_slot_gfn_write_protect and mmu_try_to_unsync_pages of mmu.c: pages whose writes somebody must see, as those
 * that hold page tables of a nested guest. Needs: SRCU or slots_lock; takes mmu_lock for write. Flushes: before it
 * drops the lock, if the guest could write.
 *
 * A page counts as tracked if the slot of either address space says so; huge pages are forbidden in the one only.
 */
#include "driver.h"

static bool tracked_in(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	return slot && READ_ONCE(*sd_tracked(slot, PG_LEVEL_4K, gfn)) != 0;
}

bool sd_is_tracked(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	if (!slot)
		return false;
	return tracked_in(slot, gfn) || tracked_in(__gfn_to_memslot(__kvm_memslots(sd_kvm, slot->as_id ^ 1), gfn), gfn);
}

int mmu_try_to_unsync_pages(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn, bool can_unsync,
			    bool prefetch)
{
	(void)kvm;
	(void)can_unsync;
	(void)prefetch;
	return sd_is_tracked(slot, gfn) ? -1 : 0;
}

static void count(struct kvm_memory_slot *slot, gfn_t gfn, u64 number)
{
	int level;

	for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		WRITE_ONCE(*sd_tracked(slot, level, gfn), *sd_tracked(slot, level, gfn) + number);
}

/* mmu_lock is held for write. */
void sd_track_locked(struct kvm_memory_slot *slot, gfn_t gfn)
{
	count(slot, gfn, 1);
	if (kvm_tdp_mmu_write_protect_gfn(sd_kvm, slot, gfn, PG_LEVEL_4K))
		kvm_flush_remote_tlbs(sd_kvm);
}

void sd_track(struct kvm_memory_slot *slot, gfn_t gfn)
{
	write_lock(&sd_kvm->mmu_lock);
	sd_track_locked(slot, gfn);
	write_unlock(&sd_kvm->mmu_lock);
}

void sd_untrack(struct kvm_memory_slot *slot, gfn_t gfn)
{
	write_lock(&sd_kvm->mmu_lock);
	count(slot, gfn, -1ull);
	write_unlock(&sd_kvm->mmu_lock);
}
