/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_notifier_clear_flush_young, _clear_young, _test_young and _change_pte of kvm_main.c with
 * kvm_age_gfn, kvm_test_age_gfn and kvm_set_spte_gfn of mmu.c. Needs: no lock held; change_pte: between an
 * invalidation's start and end. Flushes: clear_flush_young before it drops the lock if a page was young (not from 6.13
 * on); change_pte, if an entry changed.
 */
#include "driver.h"

typedef bool handler_t(struct kvm *kvm, struct kvm_gfn_range *range);

static bool handle_range(gfn_t start, gfn_t end, u64 pte, handler_t *handler, bool flush, bool lockless)
{
	struct kvm_gfn_range range;
	bool locked = false, r = false;
	int as_id, i, idx;

	idx = srcu_read_lock(&sd_kvm->srcu);
	for (as_id = 0; as_id < SD_AS; as_id++) {
		struct kvm_memslots *slots = __kvm_memslots(sd_kvm, as_id);

		for (i = 0; i < SD_SLOTS; i++) {
			struct kvm_memory_slot *slot = container_of(slots, struct sd_memslots, base)->slot[i];

			if (!sd_in_slot(slot, start, end, true, &range))
				continue;
#ifdef SD_CHANGE_PTE
			range.pte = (pte_t){ pte };
#else
			(void)pte;
#endif
			if (!locked && !lockless)
				write_lock(&sd_kvm->mmu_lock);
			locked = true;
			r |= handler(sd_kvm, &range);
		}
	}
	if (r && flush)
		kvm_flush_remote_tlbs(sd_kvm);
	if (locked && !lockless)
		write_unlock(&sd_kvm->mmu_lock);
	srcu_read_unlock(&sd_kvm->srcu, idx);
	return r;
}

#ifdef SD_AGE_LOCKLESS
#define AGE_LOCKLESS true
#else
#define AGE_LOCKLESS false
#endif

bool sd_age(gfn_t start, gfn_t end, bool flush)
{
#ifdef SD_NO_FLUSH_YOUNG
	flush = false;
#endif
	return handle_range(start, end, 0, kvm_tdp_mmu_age_gfn_range, flush, AGE_LOCKLESS);
}

bool sd_test_age(gfn_t gfn)
{
	return handle_range(gfn, gfn + 1, 0, kvm_tdp_mmu_test_age_gfn, false, AGE_LOCKLESS);
}

#ifdef SD_CHANGE_PTE
static bool change_spte(struct kvm *kvm, struct kvm_gfn_range *range)
{
	if (range->slot->flags & SD_SLOT_INVALID)
		return false;
	return kvm_tdp_mmu_set_spte_gfn(kvm, range);
}
#endif

void sd_change_pte(gfn_t gfn, u64 pfn, bool writable)
{
#ifdef SD_CHANGE_PTE
	if (READ_ONCE(sd_kvm->mmu_invalidate_in_progress))
		handle_range(gfn, gfn + 1, pfn << PAGE_SHIFT | writable, change_spte, true, false);
#else
	(void)gfn;
	(void)pfn;
	(void)writable;
#endif
}
