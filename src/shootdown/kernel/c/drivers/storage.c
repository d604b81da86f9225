/* SPDX-License-Identifier: MIT */
/*
 * Where exploring keeps slots' bitmaps and counts of tracked pages: only for gfns that a test has, of which two share a
 * word; a slot of the test's spans gigabytes. Native runs have storage of their own (native.c).
 */
#include "driver.h"
#ifdef SD_EXPLORE

static u64 bitmaps[SD_SLOTS][SD_GFNS_MAX / 2], tracked[SD_AS][KVM_MAX_HUGEPAGE_LEVEL][SD_GFNS_MAX];

/* The first gfn of the test's that lies at gfn or beyond. */
static u64 next_test_gfn(gfn_t gfn)
{
	u64 test = 0;

	while (test < SD_GFNS_MAX && sd_real_gfn(test) < gfn)
		test++;
	return test;
}

u64 sd_next_word(const struct kvm_memory_slot *slot, u64 word)
{
	u64 test = next_test_gfn(slot->base_gfn + 64 * word);

	return test == SD_GFNS_MAX ? slot->npages : (sd_real_gfn(test) - slot->base_gfn) / 64;
}

u64 *sd_dirty_word(const struct kvm_memory_slot *slot, u64 word)
{
	return &bitmaps[slot->id][next_test_gfn(slot->base_gfn + 64 * word) / 2 % (SD_GFNS_MAX / 2)];
}

void sd_clear_dirty(const struct kvm_memory_slot *slot)
{
	memset(bitmaps[slot->id], 0, sizeof(bitmaps[slot->id]));
}

u64 *sd_tracked(const struct kvm_memory_slot *slot, int level, gfn_t gfn)
{
	u64 test = next_test_gfn(gfn & -KVM_PAGES_PER_HPAGE(level));

	return &tracked[slot->as_id][level - 1][test % SD_GFNS_MAX];
}

/* What schedules call them; a bitmap's word is that of two gfns. */
void sd_describe_storage(const volatile void *word, char *text, unsigned size)
{
	const volatile u64 *at = word;
	u64 n;

	if (at >= &bitmaps[0][0] && at < &bitmaps[0][0] + sizeof(bitmaps) / 8) {
		n = at - &bitmaps[0][0];
		sd_text(text, size, "slot%d.bitmap", (int)(n / (SD_GFNS_MAX / 2)));
	} else if (at >= &tracked[0][0][0] && at < &tracked[0][0][0] + sizeof(tracked) / 8) {
		n = at - &tracked[0][0][0];
		sd_text(text, size, "track count of gfn %d L%d", (int)(n % SD_GFNS_MAX),
			(int)(n / SD_GFNS_MAX % KVM_MAX_HUGEPAGE_LEVEL) + 1);
	}
}

/* ---- what the explorer asks; none of it is a step ---- */

static struct kvm_memory_slot *slot_at(int as_id, gfn_t gfn)
{
	return __gfn_to_memslot(&sd->active[as_id]->base, gfn);
}

u64 sd_logged(void)
{
	u64 test, found = 0, offset;
	int as_id, i, n;

	for (as_id = 0; as_id < SD_AS; as_id++)
		for (test = 0; test < SD_GFNS_MAX; test++) {
			struct kvm_memory_slot *slot = slot_at(as_id, sd_real_gfn(test));

			offset = slot ? sd_real_gfn(test) - slot->base_gfn : 0;
			if (slot && *sd_dirty_word(slot, offset / 64) >> offset % 64 & 1)
				found |= 1ull << test;
		}
	for (i = 0; i < sd->config.vcpus; i++)
		for (n = 0; n < SD_RING; n++) {
			struct sd_ring_entry *entry = &sd->vcpu[i].ring[n];

			if (entry->flags == SD_ENTRY_DIRTY)
				found |= 1ull << sd_test_gfn(sd_slot_at_place(entry->place));
		}
	return found;
}

/* The CPU has logged a page that the guest made dirty: as if it had been handed over. It does not log nested guests. */
void sd_pml(unsigned vcpu, sd_u64 gfn)
{
	union kvm_mmu_page_role role = sd->vcpu[vcpu].vcpu.arch.mmu->root_role;
	struct kvm_memory_slot *slot = slot_at(role.smm, sd_real_gfn(gfn));
	u64 offset = slot ? sd_real_gfn(gfn) - slot->base_gfn : 0;

	if (!role.guest_mode && slot && kvm_slot_dirty_track_enabled(slot))
		*sd_dirty_word(slot, offset / 64) |= 1ull << offset % 64;
}

int sd_vcpu_root(unsigned vcpu)
{
	hpa_t root = sd->vcpu[vcpu].vcpu.arch.mmu->root.hpa;

	return VALID_PAGE(root) ? sd_table_number(__va(root)) : -1;
}

sd_u64 sd_listed_roots(void)
{
	struct kvm_mmu_page *root;
	sd_u64 found = 0;

	list_for_each_entry(root, &sd_kvm->arch.tdp_mmu_roots, link)
		found |= 1ull << sd_table_number(root->spt);
	return found;
}
#endif
