/* SPDX-License-Identifier: MIT */
/* What an operation promises once it is over, what the host maps, and what must be true when all is at rest. */
#include "engine.h"

u64 sd_logged(void) __attribute__((weak));

u64 sd_real_gfn(u64 gfn)
{
	u64 real = 0;

	for (unsigned level = 0; level < 5; level++)
		real |= (gfn >> E.bits * level & (E.s.entries - 1)) << 9 * level;
	return real;
}

u64 sd_test_gfn(u64 real)
{
	u64 gfn = 0;

	for (unsigned level = 0; level < 5; level++)
		gfn |= (real >> 9 * level & (E.s.entries - 1)) << E.bits * level;
	return gfn;
}

u64 sd_real_pfn(u64 page)
{
	return E.s.pfn_base + sd_real_gfn(page);
}

u64 sd_host_pfn(u64 gfn)
{
	return load_at(&REST->host[gfn].pfn, 8, SITE);
}

unsigned sd_host_level(u64 gfn)
{
	unsigned level = load_at(&REST->host[gfn].level, 4, SITE);

	return sd_level_at(sd_real_gfn(gfn), REST->host[gfn].pfn, level);
}

bool sd_host_writable(u64 gfn)
{
	return load_at(&REST->host[gfn].writable, 4, SITE);
}

void sd_set_host_pfn(u64 gfn, u64 pfn)
{
	store_at(&REST->host[gfn].pfn, pfn, 8, SITE);
}

void sd_set_host_level(u64 gfn, unsigned level)
{
	store_at(&REST->host[gfn].level, level, 4, SITE);
}

void sd_set_host_writable(u64 gfn, bool writable)
{
	store_at(&REST->host[gfn].writable, writable, 4, SITE);
}

/* A step of its own, which may make what vCPUs hold a breach. */
static void promise(int kind, u64 what, u64 pc)
{
	point(kind, NULL, 0, pc);
	E.marks = true;
	record(kind, NULL, what, what, pc);
}

void sd_revoke(u64 pfn)
{
	promise(REVOKE, pfn, SITE);
	for (unsigned n = 0; n < REST->revokeds; n++)
		if (REST->revoked[n] == pfn)
			return;
	if (REST->revokeds < REVOKED_MAX)
		REST->revoked[REST->revokeds++] = pfn;
	else
		broken(SD_STOPPED, -1, 0, SITE, "more than %u pages are taken back", REVOKED_MAX);
}

/* Does a set give a translation, with no fewer rights? Whether the page is dirty is no matter. */
static bool gives(const struct hw *h, u64 token)
{
	u64 place = ~(15ull << 40);

	for (unsigned n = 0; n < h->tokens; n++)
		if ((h->token[n] & place) == (token & place) && !(T_RIGHTS(token) & ~T_RIGHTS(h->token[n]) & 7))
			return true;
	return false;
}

/* Mark every vCPU that holds a translation of a range which memory does not give. */
void sd_forget(u64 first, u64 end)
{
	u64 mask = (end >= 64 ? 0 : ~0ull << end) ^ ~0ull << first;

	promise(FORGET, mask, SITE);
	for (unsigned v = 0; v < E.s.vcpus; v++) {
		struct hw *h = &G->hw[v], held = *h;
		int root = root_of(v);

		if (!h->level || root < 0)
			continue;
		memset(h->token, 0, sizeof(h->token));
		h->tokens = 0;
		h->root = root;
		close_set(v);
		for (unsigned n = 0; n < held.tokens; n++) {
			u64 t = held.token[n];

			if (T_LEAF(t) && T_ROOT(t) == (unsigned)root && gfns_of(t) & mask && !gives(h, t))
				held.flags |= HOLDS_STALE;
		}
		*h = held;
	}
}

void sd_protect(u64 gfns)
{
	promise(PROTECT, gfns, SITE);
	REST->protected |= gfns;
}

void sd_watch(u64 gfns)
{
	promise(WATCH, gfns, SITE);
	REST->watched |= gfns;
}

void sd_unwatch(u64 gfns)
{
	promise(UNWATCH, gfns, SITE);
	REST->watched &= ~gfns;
	REST->written &= ~gfns;
}

void sd_harvest(u64 gfns)
{
	promise(HARVEST, gfns, SITE);
	REST->written &= ~gfns;
}

void sd_back(u64 gfns)
{
	promise(BACK, gfns, SITE);
	REST->backed |= gfns;
}

void sd_mmio_access(u64 gfn)
{
	point(MMIO, NULL, 0, SITE);
	record(MMIO, NULL, gfn, gfn, SITE);
	if (gfn < SD_GFNS_MAX && REST->backed & BIT(gfn))
		broken(SD_PASSES_FOR_MMIO, -1, 0, SITE, "an access to gfn %llu, which is memory, passes for MMIO", gfn);
}

/* All tasks of the host are over, each vCPU is between two rounds and no callback waits: is a table lost? */
bool leaks(void)
{
	u64 linked, live = 0, last;

	if (!sd_listed_roots || REST->callbacks)
		return false;
	for (unsigned n = 0; n < E.s.tasks; n++)
		if (G->cpu[n].kind != END && !(vcpu_of(n) >= 0 && G->cpu[n].idle))
			return false;
	for (unsigned n = 0; n < E.s.tables; n++)
		if (G->page[n] == LIVE)
			live |= BIT(n);
	linked = sd_listed_roots();
	do {
		last = linked;
		for (unsigned n = 0; n < E.s.tables; n++)
			for (unsigned i = 0; linked & live & BIT(n) && i < E.s.entries; i++)
				if (what_of(table(n)[i]) == 2)
					linked |= BIT(((table(n)[i] & (BIT(52) - PAGE)) - SD_PHYSICAL) / PAGE);
	} while (linked != last);
	return (live & ~linked) != 0;
}

/* Where nobody owes anything: pages that a guest wrote and no log knows of. */
u64 lost_writes(void)
{
	if (!REST->written)
		return 0;
	for (unsigned n = 0; n < E.s.tasks; n++)
		if (G->cpu[n].kind != END && !(vcpu_of(n) >= 0 && (G->cpu[n].idle || G->cpu[n].kind == GUEST)))
			return 0;
	return REST->written & ~(sd_logged ? sd_logged() : 0);
}

/* What the host is told of its pages is a statistic here. */
void kvm_set_pfn_dirty(u64 pfn);
void kvm_set_pfn_dirty(u64 pfn)
{
	(void)pfn;
}

void kvm_set_pfn_accessed(u64 pfn);
void kvm_set_pfn_accessed(u64 pfn)
{
	(void)pfn;
}
