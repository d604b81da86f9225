/* SPDX-License-Identifier: MIT */
/* What a guest can do while it runs, as check/program/guest.py: leave by an interrupt or a fault, write, touch. */
#include "engine.h"

#define CODE_PERMISSION 1u
#define CODE_WRITE 2u
#define CODE_RESERVED 8u
#define CODE_FETCH 16u
enum { ABSENT, LACKING, UNKNOWN, FAULT_KINDS };

void sd_pml(unsigned vcpu, u64 gfn) __attribute__((weak));

/* For each level, the tables (a mask) that a walk for a gfn may be at. */
static void walk(const struct hw *h, u64 gfn, u64 at[8])
{
	memset(at, 0, 8 * sizeof(u64));
	at[h->level] = BIT(h->root);
	for (unsigned n = 0; n < h->tokens; n++) {
		u64 t = h->token[n];
		unsigned level = T_LEVEL(t);

		if (T_ROOT(t) == h->root && !T_LEAF(t) && T_GFN(t) == (gfn >> E.bits * (level - 1) << E.bits * (level - 1)))
			at[level - 1] |= BIT(T_TARGET(t));
	}
}

static u64 *entry(unsigned number, u64 gfn, unsigned level)
{
	return table(number) + (gfn >> E.bits * (level - 1) & (E.s.entries - 1));
}

/* May a walk meet an entry of that kind (what_of)? */
static bool meets(const struct hw *h, u64 at[8], u64 gfn, int what)
{
	for (unsigned level = h->level; level; level--)
		for (u64 left = at[level]; left; left &= left - 1) {
			unsigned number = __builtin_ctzll(left);

			if (G->page[number] == LIVE && what_of(*entry(number, gfn, level)) == what)
				return true;
		}
	return false;
}

static bool holds(const struct hw *h, u64 gfn, unsigned rights, unsigned wanted)
{
	for (unsigned n = 0; n < h->tokens; n++) {
		u64 t = h->token[n];

		if (T_ROOT(t) == h->root && T_LEAF(t) && gfns_of(t) & BIT(gfn) && (T_RIGHTS(t) & rights) == wanted)
			return true;
	}
	return false;
}

static unsigned needs(unsigned code)
{
	return code & CODE_WRITE ? MAY_WRITE : code & CODE_FETCH ? MAY_EXECUTE : MAY_READ;
}

static bool faults(const struct hw *h, u64 at[8], const struct sd_access *a, unsigned kind)
{
	switch (kind) {
	case ABSENT:
		return meets(h, at, a->gfn, 0);
	case LACKING:
		return a->code & (CODE_WRITE | CODE_FETCH) && holds(h, a->gfn, needs(a->code), 0);
	default:
		return E.s.mmio && meets(h, at, a->gfn, -1);
	}
}

/* A leaf after the CPU set A, or A and D, in it; the same if it would not. */
static u64 touched(u64 spte, bool writes)
{
	unsigned rights = rights_of(spte);

	if (!writes)
		return rights ? spte | E.s.accessed : spte;
	return rights & MAY_WRITE && E.s.dirty ? spte | E.s.accessed | E.s.dirty : spte;
}

static bool writes_unseen(const struct hw *h, u64 gfn)
{
	u64 log = REST->watched & BIT(gfn);

	if ((REST->written & log) == log)
		return false;	/* it could, and nothing would change */
	if (E.s.dirty)
		return holds(h, gfn, MAY_WRITE | IS_DIRTY, MAY_WRITE | IS_DIRTY);
	return holds(h, gfn, MAY_WRITE, MAY_WRITE);
}

static unsigned leafs(const struct hw *h, u64 at[8], u64 gfn, bool writes, unsigned act, u16 *choices)
{
	unsigned count = 0;

	for (unsigned level = h->level; level; level--)
		for (u64 left = at[level]; left; left &= left - 1) {
			unsigned number = __builtin_ctzll(left);
			u64 spte = *entry(number, gfn, level);

			if (G->page[number] == LIVE && what_of(spte) == 1 && touched(spte, writes) != spte)
				choices[count++] = act | gfn << 6 | number;
		}
	return count;
}

/* All that the guest of a vCPU can do now. */
unsigned guest_choices(unsigned vcpu, u16 *choices)
{
	const struct sd_guest *g = &E.s.guest[vcpu];
	const struct hw *h = &G->hw[vcpu];
	unsigned count = 0;
	u64 at[8], touches = 0;

	choices[count++] = 0;
	for (unsigned n = 0; n < g->accesses; n++) {
		walk(h, g->access[n].gfn, at);
		touches |= BIT(g->access[n].gfn);
		for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
			if (faults(h, at, &g->access[n], kind))
				choices[count++] = 1 + n * FAULT_KINDS + kind;
	}
	for (unsigned gfn = 0; gfn < SD_GFNS_MAX; gfn++) {
		if (!((touches | g->writes) & BIT(gfn)))
			continue;
		walk(h, gfn, at);
		if (g->writes & BIT(gfn)) {
			if (writes_unseen(h, gfn))
				choices[count++] = ACT_WRITES | gfn;
			if (E.s.dirty)
				count += leafs(h, at, gfn, true, ACT_DIRTIES, choices + count);
		}
		if (touches & BIT(gfn) && E.s.sets_accessed && E.s.accessed)
			count += leafs(h, at, gfn, false, ACT_TOUCHES, choices + count);
	}
	return count;
}

/* The guest writes or touches a page and goes on. */
void guest_acts(unsigned vcpu, unsigned choice)
{
	struct hw *h = &G->hw[vcpu];
	u64 gfn = choice & ACT_WRITES ? choice & 63 : choice >> 6 & 63, at[8];
	bool writes = !(choice & ACT_TOUCHES);
	unsigned number = choice & 63;

	if (!(choice & ACT_WRITES)) {
		walk(h, gfn, at);
		for (unsigned level = h->level; level; level--)
			if (at[level] & BIT(number)) {
				u64 *spte = entry(number, gfn, level), before = *spte;

				if (what_of(before) != 1)
					continue;
				*spte = touched(before, writes);
				E.written |= BIT(number);
				record(GUEST, spte, before, *spte, G->cpu[E.cur].pc);
				break;
			}
		if (!writes)
			return;
		if (E.s.logs && sd_pml)
			sd_pml(vcpu, gfn);
	} else {
		record(GUEST, NULL, vcpu, SD_WROTE | gfn << 16, G->cpu[E.cur].pc);
	}
	REST->written |= REST->watched & BIT(gfn);
}

/* The fault with which the guest leaves, 0 for an interrupt. */
static u64 fault_of(unsigned vcpu, unsigned choice)
{
	const struct sd_access *a;
	unsigned code;

	if (!choice)
		return 0;
	a = &E.s.guest[vcpu].access[(choice - 1) / FAULT_KINDS];
	code = a->code;
	switch ((choice - 1) % FAULT_KINDS) {
	case LACKING:
		code |= CODE_PERMISSION;
		break;
	case UNKNOWN:
		code = E.s.ept ? CODE_RESERVED : code | CODE_RESERVED | CODE_PERMISSION;
	}
	return SD_FAULT | (u64)a->gfn << 16 | code;
}

u64 sd_enter_guest(unsigned vcpu, u64 root, unsigned level)
{
	struct hw *h = &G->hw[vcpu];
	struct cpu *c = &G->cpu[E.cur];
	u64 pc = SITE, fault;
	int number = sd_table_number((void *)(root - SD_PHYSICAL + SD_ARENA));

	if (E.cur < 0 || E.cur >= SD_CPUS_MAX)
		return 0;
	if (c->held || c->rcu || c->srcu)
		broken(SD_LOCKDEP, vcpu, 0, pc, "the guest is entered with a lock or an RCU section held");
	if (number < 0) {
		broken(SD_BROKEN, vcpu, root, pc, "the guest is entered without a root");
		return 0;
	}
	if (G->page[number] != LIVE)
		broken(SD_FREED_IN_REACH, vcpu, (u64)table(number), pc, "vCPU %u enters the guest on a freed root", vcpu);
	h->root = number;
	h->level = level;
	h->in_guest = 1;
	fault = fault_of(vcpu, choose(GUEST, vcpu, pc));
	h->in_guest = 0;
	E.sets |= BIT(vcpu);
	record(GUEST, NULL, vcpu, fault, pc);
	return fault;
}
