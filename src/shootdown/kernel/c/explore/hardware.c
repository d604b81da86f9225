/* SPDX-License-Identifier: MIT */
/*
 * What CPUs may have cached: for each vCPU the greatest set, as check/search/hardware.py has it. In the guest it is closed:
 * from the root, and from every table that it leads to, each present entry of memory is in it.
 */
#include "engine.h"

#define SPTE_LARGE BIT(7)
#define SPTE_NX BIT(63)
#define SPTE_PRESENT BIT(11)	/* to KVM: SPTE_MMU_PRESENT_MASK; nothing to hardware */
#define ADDRESS(spte) ((spte) & (BIT(52) - PAGE))
#define NPT_RESERVED BIT(51)

/* Does an entry lead to a table of ours? Host pages have other addresses. */
bool is_table(u64 spte)
{
	return ADDRESS(spte) - SD_PHYSICAL < PAGES_BYTES;
}

unsigned rights_of(u64 spte)
{
	if (E.s.ept)
		return spte & 7;
	if (!(spte & 1))
		return 0;
	return MAY_READ | (spte & 2 ? MAY_WRITE : 0) | (spte & SPTE_NX ? 0 : MAY_EXECUTE);
}

/* 1: a leaf, 2: a table, 0: not present, -1: a walk ends here with a fault of its own kind. */
int what_of(u64 spte)
{
	if (E.s.ept ? (spte & 3) == 2 : spte & 1 && spte & NPT_RESERVED)
		return -1;
	if (!rights_of(spte))
		return 0;
	return is_table(spte) && !(spte & SPTE_LARGE) ? 2 : 1;
}

/* Is an entry a leaf that a CPU or a lock-free fault may give D or W at any time? */
bool may_change(u64 spte)
{
	if (what_of(spte) != 1)
		return false;
	if (rights_of(spte) & MAY_WRITE)
		return E.s.dirty && !(spte & E.s.dirty);
	return (spte & E.s.mmu_writable) != 0;
}

static unsigned pages_log(unsigned level)
{
	return E.bits * (level - 1);
}

/* The gfns of a test that an entry translates. */
u64 gfns_of(u64 token)
{
	unsigned count = 1u << pages_log(T_LEVEL(token));
	u64 mask = count >= 64 ? ~0ull : BIT(count) - 1;

	return T_GFN(token) < 64 ? mask << T_GFN(token) : 0;
}

static bool insert(struct hw *h, u64 token)
{
	unsigned low = 0, high = h->tokens;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (h->token[middle] < token)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < h->tokens && h->token[low] == token)
		return false;
	if (h->tokens == TOKENS_MAX) {
		broken(SD_STOPPED, -1, 0, 0, "a vCPU may hold more than %u translations", TOKENS_MAX);
		return false;
	}
	memmove(&h->token[low + 1], &h->token[low], (h->tokens - low) * sizeof(u64));
	h->token[low] = token;
	h->tokens++;
	return true;
}

/* Only of a vCPU in the guest is it amiss what it could go through; of another it is only asked what memory gives. */
static void add_table(struct hw *h, unsigned number, unsigned level, u64 gfn)
{
	const u64 *at = table(number);

	for (unsigned i = 0; i < E.s.entries; i++) {
		u64 spte = at[i], target;
		int what = what_of(spte);
		unsigned dirty = E.s.dirty && spte & E.s.dirty ? IS_DIRTY : 0;

		if (what <= 0)
			continue;
		if (!(spte & SPTE_PRESENT) && h->in_guest)
			broken(SD_UNKNOWN_IN_REACH, h - G->hw, (u64)&at[i], 0,
			       "a CPU may go through an entry that KVM takes for none: 0x%llx", spte);
		if (what == 2 && level == 1)
			what = 1;
		target = what == 2 ? (ADDRESS(spte) - SD_PHYSICAL) / PAGE : ADDRESS(spte) / PAGE;
		if (what == 1 && level > 1 && !(spte & SPTE_LARGE)) {
			if (h->in_guest)
				broken(SD_BROKEN, -1, (u64)&at[i], 0, "an entry leads to no table: 0x%llx", spte);
			continue;
		}
		insert(h, TOKEN(h->root, level, gfn | (u64)i << pages_log(level), what == 1,
				rights_of(spte) | (what == 1 ? dirty : 0), target));
	}
}

/* All that the vCPU could come to hold now. Entries are visited from the top, so one pass is enough. */
void close_set(unsigned vcpu)
{
	struct hw *h = &G->hw[vcpu];

	E.sets |= BIT(vcpu);
	if (G->page[h->root] != LIVE)
		return;
	add_table(h, h->root, h->level, 0);
	for (unsigned n = 0; n < h->tokens; n++) {
		u64 t = h->token[n];

		if (T_ROOT(t) == h->root && !T_LEAF(t) && G->page[T_TARGET(t)] == LIVE)
			add_table(h, T_TARGET(t), T_LEVEL(t) - 1, T_GFN(t));
	}
}

static bool leads_to(const struct hw *h, u64 tables)
{
	for (unsigned n = 0; n < h->tokens; n++)
		if (!T_LEAF(h->token[n]) && tables & BIT(T_TARGET(h->token[n])))
			return true;
	return false;
}

int sd_vcpu_root(unsigned vcpu) __attribute__((weak));

/* The root that a vCPU is on, be it that its thread has switched since it was in the guest; -1: none. */
int root_of(unsigned vcpu)
{
	if (sd_vcpu_root)
		return sd_vcpu_root(vcpu);
	return G->hw[vcpu].level ? G->hw[vcpu].root : -1;
}

/* A table is free: mark those who may reach it. */
void table_freed(unsigned number)
{
	E.marks = true;
	for (unsigned v = 0; v < E.s.vcpus; v++) {
		struct hw *h = &G->hw[v];

		if (root_of(v) == (int)number || leads_to(h, BIT(number))) {
			h->flags |= HOLDS_FREED;
			E.sets |= BIT(v);
		}
	}
}

/* Has the host, at some time, the page there that a leaf translates a gfn to? */
static bool is_there(u64 gfn, u64 pfn)
{
	bool any = true;

	for (unsigned n = 0; n < E.s.frames && E.s.frame[n].gfn <= gfn; n++) {
		if (E.s.frame[n].gfn == gfn && E.s.frame[n].pfn == pfn)
			return true;
		any = any && E.s.frame[n].gfn != gfn;
	}
	return any;
}

/* What no leaf may be that a CPU goes through, whoever wrote it, as check/program/amiss.py has it. */
static void check_leaf(unsigned vcpu, u64 t)
{
	u64 gfns = gfns_of(t);

	if (E.s.nx && T_LEVEL(t) > 1 && T_RIGHTS(t) & MAY_EXECUTE)
		broken(SD_EXECUTABLE_IN_REACH, vcpu, 0, 0,
		       "vCPU %u may execute a huge page, though the NX mitigation is on", vcpu);
	for (; E.s.frames && gfns; gfns &= gfns - 1) {
		u64 gfn = __builtin_ctzll(gfns);

		if (!is_there(gfn, T_TARGET(t) + E.real[gfn] - E.real[T_GFN(t)]))
			broken(SD_OTHER_IN_REACH, vcpu, 0, 0,
			       "vCPU %u may reach a page that the host never had at gfn %llu", vcpu, gfn);
	}
}

static void check_set(unsigned vcpu)
{
	const struct hw *h = &G->hw[vcpu];

	if (h->flags & HOLDS_FREED)
		broken(SD_FREED_IN_REACH, vcpu, 0, 0, "vCPU %u may walk a freed table", vcpu);
	if (h->flags & HOLDS_STALE)
		broken(SD_STALE, vcpu, 0, 0, "vCPU %u holds a translation that was promised to be gone", vcpu);
	for (unsigned n = 0; n < h->tokens; n++) {
		u64 t = h->token[n], pages = 1ull << 9 * (T_LEVEL(t) - 1);

		if (!T_LEAF(t)) {
			if (G->page[T_TARGET(t)] != LIVE)
				broken(SD_FREED_IN_REACH, vcpu, (u64)table(T_TARGET(t)), 0,
				       "vCPU %u may walk a freed table", vcpu);
			continue;
		}
		E.reached |= BIT(vcpu);
		for (unsigned r = 0; r < REST->revokeds; r++)
			if (REST->revoked[r] - T_TARGET(t) < pages)
				broken(SD_REVOKED_IN_REACH, vcpu, 0, 0,
				       "vCPU %u may reach a page that the host took back", vcpu);
		if (T_RIGHTS(t) & MAY_WRITE && gfns_of(t) & REST->protected)
			broken(SD_WRITABLE_IN_REACH, vcpu, 0, 0,
			       "vCPU %u may write a page that is write-protected", vcpu);
		check_leaf(vcpu, t);
	}
}

/* Does a leaf under one of these tables map a page of the host? Its rights do not matter: code will yet zap it. */
static bool maps(u64 roots, u64 pfn)
{
	u64 below;

	for (unsigned level = E.s.root_level; level; level--, roots = below) {
		below = 0;
		for (unsigned n = 0; n < E.s.tables; n++)
			for (unsigned i = 0; roots & BIT(n) && G->page[n] == LIVE && i < E.s.entries; i++) {
				u64 spte = table(n)[i];

				if (what_of(spte) == 2 && level > 1)
					below |= BIT((ADDRESS(spte) - SD_PHYSICAL) / PAGE);
				else if (!is_table(spte) && (level == 1 || spte & SPTE_LARGE) &&
					 pfn - ADDRESS(spte) / PAGE < 1ull << 9 * (level - 1))
					return true;
			}
	}
	return false;
}

/*
 * What was taken back stays unmapped: else the host would hear of it, when it is zapped, that it was written or used.
 * Looked at whenever something was mapped, not only as it is taken back: so that this step may move.
 */
static void check_unmapped(void)
{
	bool silent = E.silent;
	u64 roots;

	E.silent = true;
	roots = sd_listed_roots();
	E.silent = silent;
	for (unsigned r = 0; r < REST->revokeds && !E.broken; r++)
		if (maps(roots, REST->revoked[r]))
			broken(SD_STILL_MAPPED, -1, REST->revoked[r], 0,
			       "a root maps a page that was given back: 0x%llx", REST->revoked[r]);
}

/* After a step, hardware fills what it may hold, and promises are looked at; cpu: who took the step. */
void settle(int cpu)
{
	for (unsigned v = 0; v < E.s.vcpus; v++) {
		struct hw *h = &G->hw[v];
		bool own = cpu_of(v) == cpu;

		if (!h->in_guest || !(own || E.marks || E.written))
			continue;
		if (own || E.written & BIT(h->root) || leads_to(h, E.written))
			close_set(v);
		if (!E.broken)
			check_set(v);
	}
	if (REST->revokeds && (E.written || E.marks) && sd_listed_roots)
		check_unmapped();
}

/* A flush at its word: a table goes if the range covers all that it maps, a leaf if it touches the range. */
void flush_range(unsigned vcpu, u64 first, u64 end)
{
	struct hw *h = &G->hw[vcpu];
	unsigned kept = 0;

	for (unsigned n = 0; n < h->tokens; n++) {
		u64 t = h->token[n], from = sd_real_gfn(T_GFN(t)), to = from + (1ull << 9 * (T_LEVEL(t) - 1));
		bool goes = T_LEAF(t) ? from < end && to > first : from >= first && to <= end;

		if (!goes)
			h->token[kept++] = t;
	}
	memset(&h->token[kept], 0, (h->tokens - kept) * sizeof(u64));
	h->tokens = kept;
	E.sets |= BIT(vcpu);
	if (h->in_guest)
		close_set(vcpu);
}
