/* SPDX-License-Identifier: MIT */
/*
 * What memory holds, as a vector of numbers of blobs: of each CPU with its stack, of each vCPU's
 * cached set, of the tables, their structs, the variables of code and drivers, and the rest. Only
 * what differs from what memory holds is looked at, or brought back.
 */
#include "store.h"

#include <stdlib.h>

struct snapshot {
	u32 now[PARTS_MAX], tail[SD_TABLES_MAX];	/* what memory holds now */
	u64 tables[SD_TABLES_MAX * 16 + 1];
};
#define S (E.snapshot)

/* CPUs: what is kept of one, and its stack from the stack pointer up. */

static u32 cpu_bytes(void)
{
	return E.s.tso ? sizeof(struct cpu) : CPU_BYTES;
}

static u32 save_cpu(unsigned n)
{
	u64 buffer[(STACK_BYTES + sizeof(struct cpu)) / 8];
	struct cpu *c = &G->cpu[n];
	u32 kept = cpu_bytes(), stack = c->kind == END ? 0 : STACK_TOP(n) - c->sp;

	if (c->kind == END)
		c->sp = c->pc = c->object = 0;
	memcpy(buffer, c, kept);
	memcpy((char *)buffer + kept, (void *)(STACK_TOP(n) - stack), stack);
	return intern(buffer, kept + stack);
}

static void load_cpu(unsigned n, u32 number)
{
	const struct blob *b = blob(number);
	u32 kept = cpu_bytes();

	memcpy(&G->cpu[n], b->at, kept);
	memcpy((void *)(STACK_TOP(n) - (b->bytes - kept)), (char *)b->at + kept, b->bytes - kept);
}

/* Tables: of each the entries that take part, and the number of a blob with all others. */

static u32 save_tail(unsigned n)
{
	const char *tail = (const char *)table(n) + E.hot;

	if (!S->tail[n] || G->untouched[n] || E.tails & BIT(n))
		if (!same(S->tail[n], tail, PAGE - E.hot))
			S->tail[n] = intern(tail, PAGE - E.hot);
	return S->tail[n];
}

static u32 save_tables(u32 number)
{
	u64 *at = S->tables;

	for (unsigned n = 0; n < E.pages_high; n++) {
		u64 tail = G->page[n] == LIVE ? save_tail(n) : 0;

		/* What a table had when it was freed is not known any more. */
		S->tail[n] = tail;
		*at++ = tail << 16 | G->untouched[n] << 8 | G->page[n];
		if (G->page[n] == LIVE) {
			memcpy(at, table(n), E.hot);
			at += E.hot / 8;
		}
	}
	*at++ = E.pages_high;
	E.tails = 0;
	if (same(number, S->tables, (at - S->tables) * 8))
		return number;
	return intern(S->tables, (at - S->tables) * 8);
}

static void load_tables(u32 number)
{
	const struct blob *b = blob(number);
	const u64 *at = b->at, *end = at + b->bytes / 8 - 1;
	unsigned n = 0;

	for (; at < end; n++) {
		u32 tail = *at >> 16;

		G->page[n] = *at & 255;
		G->untouched[n] = *at++ >> 8 & 255;
		if (G->page[n] != LIVE) {
			memset(table(n), 0x6b, E.hot);
			S->tail[n] = 0;
			continue;
		}
		memcpy(table(n), at, E.hot);
		at += E.hot / 8;
		if (S->tail[n] != tail || E.tails & BIT(n)) {
			memcpy((char *)table(n) + E.hot, blob(tail)->at, PAGE - E.hot);
			S->tail[n] = tail;
		}
	}
	for (; n < E.pages_high; n++) {
		G->page[n] = UNUSED;
		G->untouched[n] = 0;
		S->tail[n] = 0;
	}
	E.pages_high = *end;
	E.tails = 0;
}

static u32 rest_bytes(void)
{
	unsigned gfns = 1u << E.bits * E.s.levels;

	return offsetof(struct rest, host) + (gfns > SD_GFNS_MAX ? SD_GFNS_MAX : gfns) * sizeof(struct host);
}

/* A number for each part of the vector. */
u32 parts(void)
{
	return E.s.tasks + E.s.vcpus + 4;
}

const u32 *save_parts(void)
{
	u32 *now = S->now;
	unsigned p = 0;
	u32 before;

	for (unsigned n = 0; n < E.s.tasks; n++, p++)
		if (!now[p] || E.ran & BIT(n))
			now[p] = save_cpu(n);
	for (unsigned n = 0; n < E.s.vcpus; n++, p++)
		if (!now[p] || E.sets & BIT(n))
			now[p] = intern(&G->hw[n], offsetof(struct hw, token) + G->hw[n].tokens * 8);
	now[p] = save_tables(now[p]);
	p++;
	before = now[p];
	now[p] = save_region(STRUCTS, before);
	if (now[p] != before)
		check_poison();
	p++;
	now[p] = save_region(VARIABLES, now[p]);
	p++;
	if (!same(now[p], REST, rest_bytes()))
		now[p] = intern(REST, rest_bytes());
	E.ran = E.sets = 0;
	return now;
}

void load_parts(const u32 *wanted)
{
	u32 *now = S->now;
	unsigned p = 0;

	for (unsigned n = 0; n < E.s.tasks; n++, p++)
		if (now[p] != wanted[p])
			load_cpu(n, wanted[p]);
	for (unsigned n = 0; n < E.s.vcpus; n++, p++)
		if (now[p] != wanted[p]) {
			struct hw *h = &G->hw[n];
			unsigned tokens = h->tokens;

			memcpy(h, blob(wanted[p])->at, blob(wanted[p])->bytes);
			if (tokens > h->tokens)
				memset(&h->token[h->tokens], 0, (tokens - h->tokens) * 8);
		}
	if (now[p] != wanted[p])
		load_tables(wanted[p]);
	p++;
	if (now[p] != wanted[p])
		load_region(STRUCTS, wanted[p]);
	p++;
	if (now[p] != wanted[p])
		load_region(VARIABLES, wanted[p]);
	p++;
	if (now[p] != wanted[p])
		memcpy(REST, blob(wanted[p])->at, rest_bytes());
	memcpy(now, wanted, parts() * 4);
}

bool begin_snapshots(void)
{
	if (!S)
		S = malloc(sizeof(*S));
	if (S)
		memset(S, 0, sizeof(*S));
	return S && begin_blobs() && begin_regions();
}
