/* SPDX-License-Identifier: MIT */
/*
 * All that page tables, vCPUs and slots hold, as rows of four numbers, the same that kernel/compare/state.py makes of our MMU:
 * tables are named by where they are, not by their frames. Roots come in the order of their list, the newest first.
 */
#include "native.h"

#define ROW_ROOT	0
#define ROW_NX		100
#define ROW_VCPU	101
#define ROW_VM		102
#define ROOTS		64

static u64 *rows, most, used;
static gfn_t first, end;	/* of entries only those of tables that map some of these gfns */
static struct kvm_mmu_page *roots[ROOTS];
static unsigned int root_count;

static void row(u64 kind, u64 a, u64 b, u64 c)
{
	if (used + 4 <= most) {
		rows[used] = kind;
		rows[used + 1] = a;
		rows[used + 2] = b;
		rows[used + 3] = c;
	}
	used += 4;
}

/* 1: the NX mitigation alone caused the table; 2: it is on the list of those that may be recovered. */
static u64 nx_marks(struct kvm_mmu_page *sp)
{
#ifdef SD_NX_LPAGE_DISALLOWED
	return sp->lpage_disallowed << 1;
#else
	return sp->nx_huge_page_disallowed | !list_empty(&sp->possible_nx_huge_page_link) << 1;
#endif
}

static void table(u64 *spt, int level, gfn_t gfn)
{
	gfn_t pages = KVM_PAGES_PER_HPAGE(level);
	int i;

	for (i = 0; i < 512; i++, gfn += pages) {
		u64 spte = spt[i];

#ifdef SD_NONPRESENT
		if (spte == SHADOW_NONPRESENT_VALUE)
			continue;
#else
		if (!spte)
			continue;
#endif
		if (is_shadow_present_pte(spte) && !is_last_spte(spte, level)) {
			struct kvm_mmu_page *sp = sptep_to_sp(__va(spte & SPTE_BASE_ADDR_MASK));

			row(level, gfn, spte & ~SPTE_BASE_ADDR_MASK, nx_marks(sp));
			if (gfn < end && first < gfn + pages)
				table(sp->spt, level - 1, gfn);
		} else {
			row(level, gfn, spte, 0);
		}
	}
}

static u64 role_of(struct kvm_mmu_page *root)
{
	return root->role.smm | root->role.guest_mode << 1 | root->role.level << SD_ROLE_LEVEL_SHIFT;
}

/* The number of a root from 1 on, 0 for none. */
static u64 number_of(hpa_t root)
{
	unsigned int n;

	for (n = 0; VALID_PAGE(root) && n < root_count; n++)
		if (__pa(roots[n]->spt) == root)
			return n + 1;
	return 0;
}

static void vcpu_row(struct sd_vcpu *mine)
{
	u64 prev = number_of(mine->prev[0]) | number_of(mine->prev[1]) << 8 | number_of(mine->prev[2]) << 16;

	row(ROW_VCPU, number_of(mine->vcpu.arch.mmu->root.hpa), prev, mine->vcpu.requests);
}

static void all_rows(u64 *out, u64 room, gfn_t from, gfn_t to)
{
	struct kvm_mmu_page *sp;
	int i;

	rows = out;
	most = room;
	first = from;
	end = to;
	root_count = used = 0;
	list_for_each_entry(sp, &sd_kvm->arch.tdp_mmu_roots, link)
		if (root_count < ROOTS)
			roots[root_count++] = sp;
	for (i = 0; i < (int)root_count; i++) {
		sp = roots[i];
		row(ROW_ROOT, role_of(sp), sp->role.invalid, refcount_read(&sp->tdp_mmu_root_count));
		if (first < end)
			table(sp->spt, sp->role.level, 0);
	}
#ifdef SD_NX_LPAGE_DISALLOWED
	list_for_each_entry(sp, &sd->nx_list, lpage_disallowed_link)
#else
	list_for_each_entry(sp, &sd->nx_list, possible_nx_huge_page_link)
#endif
		row(ROW_NX, sp->gfn, sp->role.level, 0);
	for (i = 0; i < sd->config.vcpus; i++)
		vcpu_row(&sd->vcpu[i]);
	row(ROW_VM, sd_kvm->mmu_invalidate_seq, sd_kvm->mmu_invalidate_in_progress, 0);
	for (i = 0; i < SD_AS; i++)
		row(ROW_VM, sd->active[i]->base.generation, i, 0);
}

/* The rows, how many numbers; only so many are stored. */
SD_API s64 sd_native_rows(u64 *out, u64 room, gfn_t from, gfn_t to)
{
	all_rows(out, room, from, to);
	return used;
}

#define PRIME 4398046511093ull	/* 2 to the 42, less 11 */

/* A number that differs, as good as always, where the rows do. */
SD_API s64 sd_native_digest(gfn_t from, gfn_t to)
{
	static u64 buffer[1 << 22];
	u64 digest = 0, n;

	all_rows(buffer, ARRAY_SIZE(buffer), from, to);
	for (n = 0; n < used && n < most; n++) {
		digest = (digest * 1000003 + (u32)buffer[n]) % PRIME;
		digest = (digest * 1000003 + (buffer[n] >> 32)) % PRIME;
	}
	return digest;
}
