/* SPDX-License-Identifier: MIT */
/*
 * What Python calls of a native library: flat, with numbers and arrays only; native.py has the same list. A call that
 * ends in BUG answers SD_BUGGED, and the VM is of no further use.
 */
#include "native.h"

#define SD_BUGGED (-1000LL)
/* Whether setjmp comes back is not the compiler's to guess: what is called lies in other files. */
#define CALL(what) do {							\
	if (__builtin_setjmp(native.bug_frame))				\
		return SD_BUGGED;					\
	return (what);							\
} while (0)
#define DO(what) CALL(((what), 0))

static struct kvm_vcpu *vcpu_of(int number)
{
	return &sd->vcpu[number].vcpu;
}

/* ---- the VM ---- */

/* config: the members of struct sd_config in order */
SD_API s64 sd_native_create(const int *config, u64 tables_max, unsigned int host_level, long resched_every)
{
	struct sd_config c;

	memcpy(&c, config, sizeof(c));
	if (!sd_machine_reset(tables_max))
		return -1;
	native.host_level = host_level;
	native.resched_every = resched_every;
	DO(sd_vm_init(&c));
}

static void set_host(u64 gfn, u64 count, s64 pfn, int level, int writable)
{
	for (; count; count--, gfn++) {
		if (pfn >= -1)
			sd_set_host_pfn(gfn, pfn < 0 ? SD_NO_PFN : (u64)pfn++);
		if (level > 0)
			sd_set_host_level(gfn, level);
		if (writable >= 0)
			sd_set_host_writable(gfn, writable);
	}
}

SD_API s64 sd_native_host(u64 gfn, u64 count, s64 pfn, int level, int writable)
{
	DO(set_host(gfn, count, pfn, level, writable));
}

/* of pages that were not told another */
SD_API void sd_native_host_level(unsigned int level)
{
	native.host_level = level;
}

/* ---- vCPUs ---- */

static s64 as_vcpu(int number, u64 first, u64 last, u64 step, u64 code, bool prefetch)
{
	s64 r = 0;

	sd_vcpu_load(vcpu_of(number));
	for (; first < last; first += step)
		r = prefetch ? sd_prefetch(vcpu_of(number), first) : sd_page_fault(vcpu_of(number), first, code);
	sd_vcpu_put();
	return r;
}

/* faults at every step-th gfn of a range: the last one's result */
SD_API s64 sd_native_fault(int vcpu, u64 first, u64 last, u64 step, u64 code)
{
	CALL(as_vcpu(vcpu, first, last, step, code, false));
}

static s64 run_faults(int vcpu, u64 first, u64 last, u64 code)
{
	for (; first < last; first++) {
		sd_vcpu_enter_guest(vcpu_of(vcpu));
		as_vcpu(vcpu, first, first + 1, 1, code, false);
	}
	return 0;
}

/* the vCPU runs, and leaves with a fault at each gfn of a range */
SD_API s64 sd_native_run_faults(int vcpu, u64 first, u64 last, u64 code)
{
	CALL(run_faults(vcpu, first, last, code));
}

SD_API s64 sd_native_prefetch(int vcpu, u64 gfn)
{
	CALL(as_vcpu(vcpu, gfn, gfn + 1, 1, 0, true));
}

SD_API s64 sd_native_enter(int vcpu)
{
	CALL((s64)sd_vcpu_enter_guest(vcpu_of(vcpu)));
}

SD_API s64 sd_native_new_pgd(int vcpu, unsigned int role)
{
	CALL(sd_new_pgd(vcpu_of(vcpu), role));
}

SD_API s64 sd_native_reset_context(int vcpu, unsigned int role)
{
	DO(sd_reset_context(vcpu_of(vcpu), role));
}

/* ---- the host ---- */

SD_API s64 sd_native_range_start(u64 first, u64 last, int may_block) { DO(sd_range_start(first, last, may_block)); }
SD_API s64 sd_native_range_end(u64 first, u64 last) { DO(sd_range_end(first, last)); }
SD_API s64 sd_native_zap_range(u64 first, u64 last) { DO(sd_zap_gfn_range(first, last)); }
SD_API s64 sd_native_zap_all_fast(void) { DO(sd_zap_all_fast()); }
SD_API s64 sd_native_release(void) { DO(sd_release()); }
SD_API s64 sd_native_age(u64 first, u64 last, int flush) { CALL(sd_age(first, last, flush)); }
SD_API s64 sd_native_test_age(u64 gfn) { CALL(sd_test_age(gfn)); }
SD_API s64 sd_native_change_pte(u64 gfn, u64 pfn, int writable) { DO(sd_change_pte(gfn, pfn, writable)); }
SD_API s64 sd_native_recover_nx(u64 tables) { DO(sd_recover_nx(tables)); }

/* ---- slots: operations on a slot that is not there do nothing ---- */

SD_API s64 sd_native_set_region(int slot, int as_id, u64 base, u64 pages, unsigned int flags)
{
	CALL(sd_set_memory_region(slot, as_id, base, pages, flags));
}

enum { TRACK, UNTRACK, COLLAPSE, SPLIT, PROTECT, CLEAR_DIRTY };

static s64 slot_operation(struct kvm_memory_slot *slot, int what, u64 gfn)
{
	switch (what) {
	case TRACK:
		sd_make_tracked(slot, gfn);
		sd_track(slot, gfn);
		break;
	case UNTRACK:
		sd_untrack(slot, gfn);
		break;
	case COLLAPSE:
		sd_collapse(slot);
		break;
	case SPLIT:
		sd_split_slot(slot);
		break;
	case PROTECT:
		sd_remove_write_access(slot, gfn);
		break;
	case CLEAR_DIRTY:
		sd_leaf_clear_dirty(slot);
		break;
	}
	return 0;
}

SD_API s64 sd_native_slot(int slot, int what, u64 gfn)
{
	CALL(sd_find_slot(slot) ? slot_operation(sd_find_slot(slot), what, gfn) : -1);
}

/* found: pairs of a word's number and its bits */
SD_API s64 sd_native_get_log(int slot, int manual, u64 *found, int most)
{
	CALL(sd_get_dirty_log(sd_find_slot(slot), manual, (struct sd_word *)found, most));
}

SD_API s64 sd_native_clear_log(int slot, const u64 *words, int count)
{
	DO(sd_clear_dirty_log(sd_find_slot(slot), (const struct sd_word *)words, count));
}

SD_API s64 sd_native_harvest(int vcpu, unsigned int index) { CALL(sd_ring_harvest(vcpu, index)); }
SD_API s64 sd_native_reset_rings(void) { CALL(sd_reset_rings()); }

/* One of sd_ops by its name, its gfns real ones, that no call of its own here does. */
SD_API s64 sd_native_operation(const char *name, const u64 *arg)
{
	unsigned int n;

	for (n = 0; n < sd_op_count; n++)
		if (!__builtin_strcmp(sd_ops[n].name, name))
			DO(sd_ops[n].run(arg));
	return -1;
}

/* ---- what there is ---- */

SD_API s64 sd_native_drain(void)
{
	DO(rcu_barrier());
}

/* Numbers of Python's COUNTERS, in that order. */
SD_API void sd_native_counters(u64 *out)
{
	int i;

	for (i = 0; i < 3; i++)
		*out++ = atomic64_read(&sd_kvm->stat.pages[i]);
	*out++ = sd_kvm->stat.nx_lpage_splits;
	*out++ = native.flushes.count;
	*out++ = native.used[SD_TABLE];
	*out++ = native.counters[DIRTY_PFNS];
	*out++ = native.counters[ACCESSED_PFNS];
	*out++ = native.counters[LOCAL_FLUSHES];
	for (*out = i = 0; i < sd->config.vcpus; i++)
		*out += sd->vcpu[i].vcpu.stat.pf_fast;
	for (*++out = i = 0; i < sd->config.vcpus; i++)
		*out += sd->vcpu[i].vcpu.stat.pf_mmio_spte_created;
	*++out = native.resched_calls;
	*++out = native.counters[RANGES];
	*++out = native.counters[RANGE_PAGES];
	*++out = native.freed.count;
	*++out = native.counters[REQUESTS];
}

/* list 0: flushes, 1: freed tables, 2: problems; how many there are beyond ``from`` */
SD_API s64 sd_native_notes(int list, u64 from, u64 *out, int most)
{
	struct notes *notes = list == 0 ? &native.flushes : list == 1 ? &native.freed : &native.problems;
	s64 count = notes->count - from, n;

	for (n = 0; n < count && n < most && from + n < NOTES; n++)
		memcpy(out + 4 * n, &notes->note[from + n], sizeof(struct note));
	return count;
}

SD_API void sd_native_forget_notes(void)
{
	native.flushes.count = native.freed.count = native.problems.count = 0;
}

/* 64 bits of an SPTE are changed: so a test plants a difference. */
SD_API s64 sd_native_poke(int vcpu, u64 gfn, u64 flip)
{
	u64 spte, *sptep;

	if (!VALID_PAGE(vcpu_of(vcpu)->arch.mmu->root.hpa))
		return -1;
#ifdef SD_LAST_SPTEP_GFN
	sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu_of(vcpu), gfn, &spte);
#else
	sptep = kvm_tdp_mmu_fast_pf_get_last_sptep(vcpu_of(vcpu), gfn << PAGE_SHIFT, &spte);
#endif
	*sptep = spte ^ flip;
	return 0;
}
