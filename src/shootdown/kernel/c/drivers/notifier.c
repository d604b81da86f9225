/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_notifier_invalidate_range_start and _end, __kvm_handle_hva_range, kvm_mmu_invalidate_begin, _end
 * and _range_add of kvm_main.c, with kvm_unmap_gfn_range of mmu.c; and for the checks that faults make. Needs: no lock
 * held. Flushes: before mmu_lock is dropped, if something was zapped. Between start and end the host changes its page.
 *
 * The host's addresses are numbered as the gfns are. Ranges under invalidation at the same time become one that holds
 * all. Without a slot in the range nothing is locked or counted.
 */
#include "driver.h"

/* May the host be changing its page of gfn, or have changed it since seq was read? Without mmu_lock only a hint. */
bool sd_is_retry(gfn_t gfn, unsigned long seq, bool locked)
{
	struct kvm *kvm = sd_kvm;

	if (READ_ONCE(kvm->mmu_invalidate_in_progress) && gfn >= READ_ONCE(kvm->mmu_invalidate_range_start) &&
	    gfn < READ_ONCE(kvm->mmu_invalidate_range_end))
		return true;
	if (locked)
		smp_rmb();
	return READ_ONCE(kvm->mmu_invalidate_seq) != seq;
}

static void range_add(gfn_t start, gfn_t end)
{
	struct kvm *kvm = sd_kvm;

	WRITE_ONCE(kvm->mmu_invalidate_range_start, min(kvm->mmu_invalidate_range_start, start));
	WRITE_ONCE(kvm->mmu_invalidate_range_end, max(kvm->mmu_invalidate_range_end, end));
}

void sd_invalidate_begin(gfn_t start, gfn_t end)
{
	struct kvm *kvm = sd_kvm;

	WRITE_ONCE(kvm->mmu_invalidate_in_progress, kvm->mmu_invalidate_in_progress + 1);
	if (kvm->mmu_invalidate_in_progress != 1) {
		range_add(start, end);
		return;
	}
	WRITE_ONCE(kvm->mmu_invalidate_range_start, start);
	WRITE_ONCE(kvm->mmu_invalidate_range_end, end);
}

/* The sequence first: who sees no invalidation running sees it changed. */
void sd_invalidate_end(void)
{
	struct kvm *kvm = sd_kvm;

	WRITE_ONCE(kvm->mmu_invalidate_seq, kvm->mmu_invalidate_seq + 1);
	smp_wmb();
	WRITE_ONCE(kvm->mmu_invalidate_in_progress, kvm->mmu_invalidate_in_progress - 1);
}

static void note_range(bool first, gfn_t start, gfn_t end, const struct kvm_gfn_range *of_slot)
{
#ifdef SD_RANGE_BY_SLOT
	start = of_slot->start;
	end = of_slot->end;
#else
	(void)of_slot;
	if (!first)
		return;
#endif
	if (first)
		sd_invalidate_begin(start, end);
	else
		range_add(start, end);
}

/* The part of a range of the host's that lies in a slot, if any does. */
bool sd_in_slot(struct kvm_memory_slot *slot, gfn_t start, gfn_t end, bool may_block, struct kvm_gfn_range *range)
{
	if (!slot || slot->base_gfn >= end || start >= slot->base_gfn + slot->npages)
		return false;
	memset(range, 0, sizeof(*range));
	range->slot = slot;
	range->start = max(start, slot->base_gfn);
	range->end = min(end, slot->base_gfn + (gfn_t)slot->npages);
	range->may_block = may_block;
#ifdef SD_ATTR_FILTER
	range->attr_filter = KVM_FILTER_SHARED;
#endif
	return true;
}

void sd_range_start(gfn_t start, gfn_t end, bool may_block)
{
	struct kvm_gfn_range range;
	bool locked = false, flush = false;
	int as_id, i, idx;

	sd_may_sleep(may_block);
	spin_lock(&sd->mn_invalidate_lock);
	WRITE_ONCE(sd->mn_active_invalidate_count, sd->mn_active_invalidate_count + 1);
	spin_unlock(&sd->mn_invalidate_lock);
	idx = srcu_read_lock(&sd_kvm->srcu);
	for (as_id = 0; as_id < SD_AS; as_id++) {
		struct kvm_memslots *slots = __kvm_memslots(sd_kvm, as_id);

		for (i = 0; i < SD_SLOTS; i++) {
			struct kvm_memory_slot *slot = container_of(slots, struct sd_memslots, base)->slot[i];

			if (!sd_in_slot(slot, start, end, may_block, &range))
				continue;
			if (!locked)
				write_lock(&sd_kvm->mmu_lock);
			note_range(!locked, start, end, &range);
			locked = true;
			flush |= kvm_tdp_mmu_unmap_gfn_range(sd_kvm, &range, false);
		}
	}
	if (flush)
		kvm_flush_remote_tlbs(sd_kvm);
	if (locked)
		write_unlock(&sd_kvm->mmu_lock);
	srcu_read_unlock(&sd_kvm->srcu, idx);
	sd_may_sleep(true);
}

void sd_range_end(gfn_t start, gfn_t end)
{
	struct kvm_gfn_range range;
	bool found = false;
	int as_id, i, idx;

	idx = srcu_read_lock(&sd_kvm->srcu);
	for (as_id = 0; as_id < SD_AS && !found; as_id++)
		for (i = 0; i < SD_SLOTS && !found; i++)
			found = sd_in_slot(sd_slot(as_id, i), start, end, true, &range);
	if (found) {
		write_lock(&sd_kvm->mmu_lock);
		sd_invalidate_end();
		write_unlock(&sd_kvm->mmu_lock);
	}
	srcu_read_unlock(&sd_kvm->srcu, idx);
	spin_lock(&sd->mn_invalidate_lock);
	WRITE_ONCE(sd->mn_active_invalidate_count, sd->mn_active_invalidate_count - 1);
	spin_unlock(&sd->mn_invalidate_lock);
}
