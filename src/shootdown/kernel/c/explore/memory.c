/* SPDX-License-Identifier: MIT */
/* Tables and their structs: given out lowest first, poisoned when they are freed. */
#include "engine.h"

#define POISON 0x6b	/* eight of them are an address that cannot exist */

/* Where the tree finds the struct page of a table; its stride is the shims' business. */
void *sd_mem_map = (void *)MAP_AT;

u64 *table(unsigned number)
{
	return (u64 *)(PAGES_AT + number * PAGE);
}

int sd_table_number(const volatile void *address)
{
	u64 offset = (u64)address - PAGES_AT;

	return offset < PAGES_BYTES ? (int)(offset / PAGE) : -1;
}

/* All memory as it is when a run begins. */
void reset_memory(void)
{
	memset((void *)PAGES_AT, 0, STACKS_AT - PAGES_AT);
	E.pages_high = E.headers_high = 0;
	E.empty = sd_empty_spte();
}

/* An access to memory of tables by a hook: false if the memory is not there any more. */
bool touch(const volatile void *address, u64 pc)
{
	int number = sd_table_number(address);

	if (number < 0) {
		u64 offset = (u64)address - HEADERS_AT;

		if (offset < HEADERS_BYTES && REST->header[offset / SD_HEADER_BYTES] != LIVE) {
			broken(SD_USE_AFTER_FREE, -1, (u64)address, pc, "code uses the struct of a freed table");
			return false;
		}
		return true;
	}
	if (G->page[number] != LIVE) {
		broken(SD_USE_AFTER_FREE, -1, (u64)address, pc, "code uses table %d, which is free", number);
		return false;
	}
	if (G->untouched[number])	/* what was written without a hook before is looked at once more */
		E.tails |= BIT(number);
	G->untouched[number] = 0;
	return true;
}

static int lowest(const u8 *states, unsigned high, unsigned count)
{
	if (E.s.reuse)
		for (unsigned n = 0; n < high; n++)
			if (states[n] != LIVE)
				return n;
	return high < count ? (int)high : -1;
}

/*
 * Without re-use a table that never was given out is next; how far that went is in the state, as a freed table
 * never is unused again.
 */
static unsigned used(const u8 *states)
{
	unsigned n = 0;

	while (n < E.s.tables && states[n] != UNUSED)
		n++;
	return n;
}

unsigned sd_tables_left(void)
{
	unsigned left = 0;

	for (unsigned n = 0; n < E.s.tables; n++)
		left += E.s.reuse ? G->page[n] != LIVE : G->page[n] == UNUSED;
	return left;
}

static void *take_page(void)
{
	int number = lowest(G->page, used(G->page), E.s.tables);
	u64 *at;

	if (number < 0)
		return NULL;
	at = table(number);
	for (unsigned n = 0; n < PAGE / 8; n++)
		at[n] = E.empty;
	G->page[number] = LIVE;
	G->untouched[number] = 1;
	if ((unsigned)number >= E.pages_high)
		E.pages_high = number + 1;
	return at;
}

static void *take_header(void)
{
	int number = lowest(REST->header, used(REST->header), E.s.tables);
	void *at = (void *)(HEADERS_AT + number * SD_HEADER_BYTES);

	if (number < 0)
		return NULL;
	REST->header[number] = LIVE;
	if ((unsigned)number >= E.headers_high)
		E.headers_high = number + 1;
	return memset(at, 0, SD_HEADER_BYTES);
}

void *sd_alloc(unsigned kind);
void *sd_alloc(unsigned kind)
{
	void *at;

	point(ALLOC, NULL, kind, SITE);
	if (kind & SD_MAY_FAIL && E.cur >= 0 && E.cur < SD_CPUS_MAX && G->cpu[E.cur].failures) {
		unsigned fails = choose(FAIL, 2, SITE);

		record(FAIL, NULL, 0, fails, SITE);
		if (fails) {
			if (G->cpu[E.cur].failures > 0)
				G->cpu[E.cur].failures--;
			return NULL;
		}
	}
	at = kind & 1 ? take_page() : take_header();
	if (!at && !(kind & SD_MAY_FAIL))
		broken(SD_STOPPED, -1, 0, SITE, "more than %u tables are needed", E.s.tables);
	record(ALLOC, at, 0, 0, SITE);
	return at;
}

static void free_page_of(unsigned number, u64 pc)
{
	u64 *at = table(number);

	if (G->page[number] != LIVE) {
		broken(SD_DOUBLE_FREE, -1, (u64)at, pc, "table %u is freed twice", number);
		return;
	}
	memset(at, POISON, E.hot);
	G->page[number] = FREED;
	G->untouched[number] = 0;
	table_freed(number);
}

void sd_free(unsigned kind, void *address);
void sd_free(unsigned kind, void *address)
{
	u64 pc = SITE, offset = (u64)address - HEADERS_AT;

	if (!address)
		return;
	point(FREE, address, kind, pc);
	record(FREE, address, 0, 0, pc);
	if (kind & 1) {
		int number = sd_table_number(address);

		if (number < 0)
			broken(SD_DOUBLE_FREE, -1, (u64)address, pc, "what is freed is no table");
		else
			free_page_of(number, pc);
	} else if (offset >= HEADERS_BYTES || offset % SD_HEADER_BYTES) {
		broken(SD_DOUBLE_FREE, -1, (u64)address, pc, "what is freed is no struct of a table");
	} else if (REST->header[offset / SD_HEADER_BYTES] != LIVE) {
		broken(SD_DOUBLE_FREE, -1, (u64)address, pc, "the struct of a table is freed twice");
	} else {
		REST->header[offset / SD_HEADER_BYTES] = FREED;
		memset(address, POISON, SD_HEADER_BYTES);
	}
}

/* A write to the struct of a freed table shows: the poison is not what it was. */
void check_poison(void)
{
	for (unsigned n = 0; n < E.s.tables; n++) {
		const u64 *at = (const u64 *)(HEADERS_AT + n * SD_HEADER_BYTES);

		for (unsigned i = 0; REST->header[n] == FREED && i < SD_HEADER_BYTES / 8; i++)
			if (at[i] != 0x6b6b6b6b6b6b6b6bull)
				broken(SD_USE_AFTER_FREE, -1, (u64)&at[i], 0, "code writes the struct of a freed table");
	}
}
