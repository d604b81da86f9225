/* SPDX-License-Identifier: MIT */
/*
 * The operations that tasks of a litmus test run, by the names of src/shootdown/check/program/programs.py: each a driver with
 * the promises that its caller relies on. Arguments are gfns of the test, in the order of the keys there; what prefault
 * and prefetch map is mapped by the vCPU's thread. The host maps gfn n to page n at first.
 */
#include "driver.h"

/* A range of the test's: what lies between real gfns that are none of the test's is its as well. */
#define START(arg) sd_real_gfn((arg)[0])
#define END(arg) sd_real_gfn((arg)[1])

static struct kvm_vcpu *vcpu_of(u64 number)
{
	return &sd->vcpu[number].vcpu;
}

/* Of the test's gfns, those of a slot. */
static u64 mask_of(const struct kvm_memory_slot *slot)
{
	u64 mask = 0;
	int gfn;

	for (gfn = 0; gfn < SD_GFNS_MAX; gfn++)
		if (sd_real_gfn(gfn) >= slot->base_gfn && sd_real_gfn(gfn) < slot->base_gfn + slot->npages)
			mask |= 1ull << gfn;
	return mask;
}

static void harvest(const struct kvm_memory_slot *slot, const struct sd_word *words, int count)
{
	u64 gfns = mask_of(slot), found = 0, offset;
	int i;

	for (; gfns; gfns &= gfns - 1) {
		offset = sd_real_gfn(__ffs(gfns)) - slot->base_gfn;
		for (i = 0; i < count; i++)
			if (words[i].word == offset / 64 && words[i].mask >> offset % 64 & 1)
				found |= gfns & -gfns;
	}
	sd_harvest(found);
}

static void revoke(u64 gfns)
{
	for (; gfns; gfns &= gfns - 1)
		sd_revoke(sd_real_pfn(__ffs(gfns)));
}

static void set_flags(u64 number, u32 flags)
{
	struct kvm_memory_slot *slot = sd_find_slot(number);

	sd_set_memory_region(number, slot->as_id, slot->base_gfn, slot->npages, flags);
}

/* vcpu */
static void op_vcpu(const u64 *arg)
{
	sd_vcpu_run(vcpu_of(arg[0]));
}

/* vcpu gfn: the thread maps a page before the guest asks for it, if it has a root */
static void op_ahead(const u64 *arg)
{
	struct kvm_vcpu *vcpu = vcpu_of(arg[0]);

	sd_vcpu_run(vcpu);
	if (!VALID_PAGE(vcpu->arch.mmu->root.hpa))
		return;
	sd_vcpu_load(vcpu);
	sd_prefetch(vcpu, sd_real_gfn(arg[1]));
	sd_vcpu_put();
}

/* vcpu role: the guest may have entered or left a nested guest, which has a root of its own */
static void op_switching(const u64 *arg)
{
	sd_new_pgd(vcpu_of(arg[0]), arg[1] | (sd_choose(2) ? SD_ROLE_GUEST_MODE : 0));
	sd_vcpu_run(vcpu_of(arg[0]));
}

/* a vCPU that only holds a root */
static void op_parked(const u64 *arg)
{
	(void)arg;
}

/* start end refill may_block read_only: refill pages further on come in the place of each; -1: none does */
static void op_unmap(const u64 *arg)
{
	u64 gfn;

	sd_range_start(START(arg), END(arg), arg[3]);
	for (gfn = arg[0]; gfn < arg[1]; gfn++)
		sd_revoke(sd_real_pfn(gfn));
	for (gfn = arg[0]; gfn < arg[1]; gfn++) {
		sd_set_host_pfn(gfn, (s64)arg[2] < 0 ? SD_NO_PFN : sd_real_pfn(gfn + arg[2]));
		if (arg[4]) {
			sd_set_host_writable(gfn, false);
			sd_protect(1ull << gfn);
		}
	}
	sd_range_end(START(arg), END(arg));
}

/* start end gfn refill: a huge page of the host is broken up, then one of its pages is refill further on */
static void op_migrate(const u64 *arg)
{
	u64 gfn;

	sd_range_start(START(arg), END(arg), true);
	for (gfn = arg[0]; gfn < arg[1]; gfn++)
		sd_set_host_level(gfn, PG_LEVEL_4K);
	sd_range_end(START(arg), END(arg));
	op_unmap((u64[]){ arg[2], arg[2] + 1, arg[3], true, false });
}

/* start end: what is promised holds at the zap's end, before others zap anew what was mapped since */
static void op_zap_range(const u64 *arg)
{
#ifndef SD_ZAP_BLOCKS_ALL
	int idx = srcu_read_lock(&sd_kvm->srcu);
#endif

	sd_zap_gfn_range(START(arg), END(arg));
	sd_forget(arg[0], arg[1]);
#ifndef SD_ZAP_BLOCKS_ALL
	srcu_read_unlock(&sd_kvm->srcu, idx);
#endif
}

/* start end: of what is promised; slots_lock is not taken */
static void op_zap_all_fast(const u64 *arg)
{
	sd_zap_all_fast();
	sd_forget(arg[0], arg[1]);
}

/* start end: all of them in one slot */
static void op_collapse(const u64 *arg)
{
	struct kvm_memory_slot part = *__gfn_to_memslot(__kvm_memslots(sd_kvm, 0), START(arg));

	part.base_gfn = START(arg);
	part.npages = END(arg) - START(arg);
	sd_collapse(&part);
}

/* tables rounds: of the one worker */
static void op_recover_nx(const u64 *arg)
{
	u64 left = arg[1];

	while (left--)
		sd_recover_nx(arg[0]);
}

/* vcpu gfn code */
static void op_prefault(const u64 *arg)
{
	sd_vcpu_load(vcpu_of(arg[0]));
	sd_page_fault(vcpu_of(arg[0]), sd_real_gfn(arg[1]), arg[2]);
	sd_vcpu_put();
}

/* vcpu gfn */
static void op_prefetch(const u64 *arg)
{
	sd_vcpu_load(vcpu_of(arg[0]));
	sd_prefetch(vcpu_of(arg[0]), sd_real_gfn(arg[1]));
	sd_vcpu_put();
}

/* slot */
static void op_log_on(const u64 *arg)
{
	u64 gfns = mask_of(sd_find_slot(arg[0]));

	set_flags(arg[0], SD_LOG_DIRTY_PAGES);
	sd_watch(gfns);
}

/* slot */
static void op_log_off(const u64 *arg)
{
	sd_unwatch(mask_of(sd_find_slot(arg[0])));
	set_flags(arg[0], 0);
}

/* slot */
static void op_get_log(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);
	struct sd_word words[SD_WORDS];
	int count = sd_get_dirty_log(slot, false, words, SD_WORDS);

	harvest(slot, words, count);
}

/* slot */
static void op_clear_log(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);
	struct sd_word words[SD_WORDS];
	int count = sd_get_dirty_log(slot, true, words, SD_WORDS);

	sd_clear_dirty_log(slot, words, count);
	harvest(slot, words, count);
}

/* vcpu */
static void op_reset_ring(const u64 *arg)
{
	s64 place, places[SD_RING];
	u64 found = 0;
	u32 count = 0, i;

	while (count < SD_RING && (place = sd_ring_harvest(arg[0], count)) >= 0)
		places[count++] = place;
	sd_reset_rings();
	for (i = 0; i < count; i++)
		found |= 1ull << sd_test_gfn(sd_slot_at_place(places[i]));
	sd_harvest(found);
}

/* start end */
static void op_age(const u64 *arg)
{
	sd_age(START(arg), END(arg), true);
}

/* start end */
static void op_clear_young(const u64 *arg)
{
	sd_age(START(arg), END(arg), false);
}

/* gfn */
static void op_test_young(const u64 *arg)
{
	sd_test_age(START(arg));
}

/* gfn refill: the page refill further on comes in its place */
static void op_change_pte(const u64 *arg)
{
	gfn_t gfn = START(arg);
	u64 pfn = sd_real_pfn(arg[0] + arg[1]);

	sd_range_start(gfn, gfn + 1, true);
	sd_set_host_writable(arg[0], false);
	sd_set_host_pfn(arg[0], pfn);
	sd_change_pte(gfn, pfn, false);
	sd_revoke(sd_real_pfn(arg[0]));
	sd_range_end(gfn, gfn + 1);
}

/* slot, gfn: who tracks writes has them noticed; the promise is made before mmu_lock is dropped */
static void op_write_protect(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);

	write_lock(&sd_kvm->mmu_lock);
	sd_track_locked(slot, sd_real_gfn(arg[1]));
	sd_protect(1ull << arg[1]);
	write_unlock(&sd_kvm->mmu_lock);
}

/* gfn */
static void op_host_writable(const u64 *arg)
{
	sd_set_host_writable(arg[0], true);
}

static void op_release(const u64 *arg)
{
	(void)arg;
	sd_release();
}

/* slot */
static void op_delete_slot(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);
	u64 gfns = mask_of(slot);

	sd_set_memory_region(arg[0], slot->as_id, 0, 0, 0);
	revoke(gfns);
}

/*
 * slot base backed flags given logged: masks of gfns that are memory from then on, for good; whose log the user gives
 * up; and whose writes are logged from then on
 */
static void op_move_slot(const u64 *arg)
{
	struct kvm_memory_slot *slot = sd_find_slot(arg[0]);
	u64 gfns = mask_of(slot);

	if (arg[4])
		sd_unwatch(arg[4]);
	sd_set_memory_region(arg[0], slot->as_id, END(arg), slot->npages, arg[3]);
	sd_back(arg[2]);
	if (arg[5])
		sd_watch(arg[5]);
	revoke(gfns);
}

/* slot base pages backed as_id flags logged: mask of gfns whose writes are logged from then on */
static void op_create_slot(const u64 *arg)
{
	sd_set_memory_region(arg[0], arg[4], END(arg), sd_real_gfn(arg[1] + arg[2]) - END(arg), arg[5]);
	sd_back(arg[3]);
	if (arg[6])
		sd_watch(arg[6]);
}

/* slot base pages backed gfn */
static void op_create_shadowed(const u64 *arg)
{
	op_create_slot((u64[]){ arg[0], arg[1], arg[2], arg[3], 0, 0, 0 });
	op_write_protect((u64[]){ arg[0], arg[4] });
}

#define OP(name) { #name, op_##name }
const struct sd_op sd_ops[] = {
	{ "vm", sd_start_vm }, { "slot", sd_start_slot }, { "load", sd_start_load }, { "leaf", sd_start_leaf },
	{ "host", sd_start_host }, { "flags", sd_start_flags }, { "dirty", sd_start_dirty },
	{ "promises", sd_start_promises },
	OP(vcpu), OP(ahead), OP(switching), OP(parked), OP(unmap), OP(migrate), OP(zap_range), OP(zap_all_fast),
	OP(collapse),
	OP(recover_nx), OP(prefault), OP(prefetch), OP(log_on), OP(log_off), OP(get_log), OP(clear_log),
	OP(reset_ring), OP(age), OP(clear_young), OP(test_young), OP(change_pte), OP(write_protect), OP(host_writable),
	OP(release), OP(delete_slot), OP(move_slot), OP(create_slot), OP(create_shadowed),
};
const unsigned sd_op_count = ARRAY_SIZE(sd_ops);
