/* SPDX-License-Identifier: MIT */
/*
 * What schedules call the words that the drivers and the MMU's structs hold. Stands for no code of the kernel's. Needs:
 * nothing, and takes no step. Flushes: nothing.
 */
#include "driver.h"
#ifdef SD_EXPLORE

/* Of a name alone, and of one with a number in it. */
#define IS(what, name) \
	if ((const volatile char *)word - (const volatile char *)&(what) >= 0 && \
	    (size_t)((const volatile char *)word - (const volatile char *)&(what)) < sizeof(what)) \
		return sd_text(text, size, "%s", name)
#define IS_OF(what, format, number) \
	if ((const volatile char *)word - (const volatile char *)&(what) >= 0 && \
	    (size_t)((const volatile char *)word - (const volatile char *)&(what)) < sizeof(what)) \
		return sd_text(text, size, format, (int)(number))

static void in_struct_of_table(const volatile void *word, const struct kvm_mmu_page *sp, char *text, unsigned size)
{
	int table = sp->spt ? sd_table_number(sp->spt) : -1;

	if (table < 0)
		return sd_text(text, size, "%s", "a table's struct");
	IS_OF(sp->tdp_mmu_root_count, "T%d.root_count", table);
	IS_OF(sp->role, "T%d.role", table);
	IS_OF(sp->rcu_head, "T%d", table);
	sd_text(text, size, "T%d's struct", table);
}

static void in_vcpu(const volatile void *word, int number, char *text, unsigned size)
{
	struct sd_vcpu *mine = &sd->vcpu[number];
	int i;

	IS_OF(mine->ring_pushed, "vCPU%d.pushed", number);
	IS_OF(mine->ring_reset, "vCPU%d.reset", number);
	for (i = 0; i < SD_RING; i++) {
		char entry[24];

		sd_text(entry, sizeof(entry), "vCPU%d.ring[%%d]", number);
		IS_OF(mine->ring[i].flags, entry, i);
		IS(mine->ring[i].place, "place of a ring's entry");
	}
	sd_text(text, size, "vCPU%d's struct", number);
}

static void in_slots(const volatile void *word, int as_id, char *text, unsigned size)
{
	int i;

	IS_OF(sd->active[as_id], "memslots of as_id %d", as_id);
	for (i = 0; i < 2; i++)
		IS_OF(sd->sets[as_id][i].base.generation, "memslots generation of as_id %d", as_id);
	IS_OF(sd->sets[as_id], "set of memslots of as_id %d", as_id);
}

void sd_describe(const volatile void *word, const void *in_table, char *text, unsigned size)
{
	int i;

	if (in_table)
		return in_struct_of_table(word, in_table, text, size);
	for (i = 0; i < SD_VCPUS; i++)
		if ((const volatile char *)word >= (char *)&sd->vcpu[i] && (const volatile char *)word < (char *)(&sd->vcpu[i] + 1))
			return in_vcpu(word, i, text, size);
	for (i = 0; i < SD_AS && !*text; i++)
		in_slots(word, i, text, size);
	if (*text)
		return;
	for (i = 0; i < SD_SLOT_COPIES; i++)
		IS_OF(sd->copies[i], "slot%d", sd->copies[i].id);
	IS(sd_kvm->mmu_lock, "mmu_lock");
	IS(sd_kvm->slots_lock, "slots_lock");
	IS(sd_kvm->arch.tdp_mmu_pages_lock, "tdp_mmu_pages_lock");
	IS(sd->mn_invalidate_lock, "mn_invalidate_lock");
	IS(sd_kvm->mmu_invalidate_seq, "mmu_invalidate_seq");
	IS(sd_kvm->mmu_invalidate_in_progress, "mmu_invalidate_in_progress");
	IS(sd_kvm->mmu_invalidate_range_start, "mmu_invalidate_range_start");
	IS(sd_kvm->mmu_invalidate_range_end, "mmu_invalidate_range_end");
	IS(sd->mn_active_invalidate_count, "mn_active_invalidate_count");
	IS(sd->nr_dirty_logging, "nr_memslots_dirty_logging");
	IS(sd_kvm->arch.tdp_mmu_roots, "tdp_mmu_roots");
	IS(sd->nx_list, "NX list");
	sd_describe_storage(word, text, size);
}
#endif
