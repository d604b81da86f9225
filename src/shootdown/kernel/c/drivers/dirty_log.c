/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_slot_apply_flags (x86.c), kvm_mmu_slot_remove_write_access, kvm_mmu_slot_leaf_clear_dirty and
 * kvm_arch_mmu_enable_log_dirty_pt_masked (mmu.c), kvm_get_dirty_log_protect and kvm_clear_dirty_log_protect
 * (kvm_main.c). Needs: slots_lock, which the last two take, and no other lock; enable_log_masked: mmu_lock for write,
 * which it drops and retakes if it splits. Flushes: the slot, after mmu_lock was dropped: always when logging begins,
 * and else because a bit was cleared, not because an entry changed.
 */
#include "driver.h"

void sd_remove_write_access(struct kvm_memory_slot *slot, int level)
{
	read_lock(&sd_kvm->mmu_lock);
	kvm_tdp_mmu_wrprot_slot(sd_kvm, slot, level);
	read_unlock(&sd_kvm->mmu_lock);
}

void sd_leaf_clear_dirty(struct kvm_memory_slot *slot)
{
	read_lock(&sd_kvm->mmu_lock);
	kvm_tdp_mmu_clear_dirty_slot(sd_kvm, slot);
	read_unlock(&sd_kvm->mmu_lock);
}

/* The flags are published; slot is NULL where it has gone. */
void sd_apply_flags(struct kvm_memory_slot *slot, u32 old_flags, bool flags_only)
{
	u32 flags = slot ? slot->flags : 0;
	bool log = flags & SD_LOG_DIRTY_PAGES, changed = (flags ^ old_flags) & SD_LOG_DIRTY_PAGES;

	if (changed && sd->config.pml && (log ? sd->nr_dirty_logging == 1 : !sd->nr_dirty_logging))
		sd_request_all(SD_REQ_UPDATE_CPU_DIRTY_LOGGING);
	if (!flags_only || !changed || flags & SD_READONLY)
		return;
	if (!log) {
		sd_collapse(slot);
		return;
	}
	if (sd->config.initially_set)
		return;
	if (sd->config.eager_split)
		sd_split_slot(slot);
	if (sd->config.pml)
		sd_leaf_clear_dirty(slot);
	sd_remove_write_access(slot, sd->config.pml ? PG_LEVEL_2M : PG_LEVEL_4K);
	sd_flush_memslot(slot);
}

/* See to it that the next write to the pages in mask, from page offset of the slot on, is noted. */
void sd_enable_log_masked(struct kvm_memory_slot *slot, u64 offset, unsigned long mask)
{
	gfn_t base = slot->base_gfn + offset, huge = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M) - 1;

	if (sd->config.initially_set) {
		gfn_t first = base + __ffs(mask), last = base + 63 - __builtin_clzl(mask);
#ifdef SD_SPLIT_END_SHORT
		gfn_t end = last;
#else
		gfn_t end = last + 1;
#endif
		if (sd->config.eager_split)
			kvm_tdp_mmu_try_split_huge_pages(sd_kvm, slot, first, end, PG_LEVEL_4K, false);
		kvm_tdp_mmu_write_protect_gfn(sd_kvm, slot, first, PG_LEVEL_2M);
		/* Both rounded up, as the kernel asks whether they lie in different huge pages. */
		if (((first + huge) & ~huge) != ((last + huge) & ~huge))
			kvm_tdp_mmu_write_protect_gfn(sd_kvm, slot, last, PG_LEVEL_2M);
	}
	kvm_tdp_mmu_clear_dirty_pt_masked(sd_kvm, slot, base, mask, !sd->config.pml);
}

/* vCPUs leave the guest, at which they hand over what the CPU has logged; nobody waits for them. */
static void sync_dirty_log(void)
{
	if (sd->config.pml)
		sd_kick_all();
}

/* The words of the bitmap that are not 0, how many; unless manual, they begin anew. Words beyond ``most`` are a WARN. */
int sd_get_dirty_log(struct kvm_memory_slot *slot, bool manual, struct sd_word *found, int most)
{
	int count = 0;
	u64 n, mask;

	mutex_lock(&sd_kvm->slots_lock);
	sync_dirty_log();
	if (!manual)
		write_lock(&sd_kvm->mmu_lock);
	for (n = sd_next_word(slot, 0); 64 * n < slot->npages; n = sd_next_word(slot, n + 1)) {
		mask = READ_ONCE(*sd_dirty_word(slot, n));
		if (!mask || WARN_ON(count == most))
			continue;
		if (!manual) {
			mask = sd_fetch_and(sd_dirty_word(slot, n), 0);
			sd_enable_log_masked(slot, 64 * n, mask);
		}
		found[count++] = (struct sd_word){ n, mask };
	}
	if (!manual)
		write_unlock(&sd_kvm->mmu_lock);
	if (count && !manual)
		sd_flush_memslot(slot);
	mutex_unlock(&sd_kvm->slots_lock);
	return count;
}

void sd_clear_dirty_log(struct kvm_memory_slot *slot, const struct sd_word *words, int count)
{
	bool flush = false;
	u64 mask;
	int i;

	mutex_lock(&sd_kvm->slots_lock);
	sync_dirty_log();
	write_lock(&sd_kvm->mmu_lock);
	for (i = 0; i < count; i++) {
		mask = words[i].mask & sd_fetch_and(sd_dirty_word(slot, words[i].word), ~words[i].mask);
		if (!mask)
			continue;
		flush = true;
		sd_enable_log_masked(slot, 64 * words[i].word, mask);
	}
	write_unlock(&sd_kvm->mmu_lock);
	if (flush)
		sd_flush_memslot(slot);
	mutex_unlock(&sd_kvm->slots_lock);
}
