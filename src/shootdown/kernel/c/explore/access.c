/* SPDX-License-Identifier: MIT */
/*
 * Marked accesses: entries of tables are steps; words of code and drivers are steps too, a load of one only where
 * somebody writes it. That is learnt: when a word proves to be written that was loaded as if nobody did, the search
 * begins anew (E.restart), knowing better.
 */
#include "engine.h"

#include <stdlib.h>

/* By eight bytes: has it been written while exploring, has it been loaded without a step? */
struct words {
	u64 written[SD_MEMORY_WORDS / 64], quiet[SD_MEMORY_WORDS / 64];
};

/* Number of the word that holds an address, or -1 where nobody ever writes. */
static int word_of(u64 address)
{
	u64 number = 0;

	if (address >= HEADERS_AT && address < MACHINE_AT)
		return (address - HEADERS_AT) / 8;
	number = (MACHINE_AT - HEADERS_AT) / 8;
	if (address >= MACHINE_AT && address < MACHINE_AT + sizeof(struct machine))
		return number + (address - MACHINE_AT) / 8;
	number += sizeof(struct machine) / 8 + 1;
	for (unsigned n = 0; n < E.s.ranges; n++) {
		const struct sd_range *r = &E.s.range[n];

		if (address - r->offset < r->bytes) {
			number += (address - r->offset) / 8;
			return number < SD_MEMORY_WORDS ? (int)number : -1;
		}
		number += r->bytes / 8 + 1;
	}
	return -1;
}

void reset_access(void)
{
	if (!E.words)
		E.words = malloc(sizeof(*E.words));
	if (!E.words)
		return;
	memset(E.words, 0, sizeof(*E.words));
	memcpy(E.words->written, E.s.written, sizeof(E.words->written));
}

/* What was learnt, so that a schedule can be played again. */
void report_access(void)
{
	memcpy(E.result->written, E.words->written, sizeof(E.words->written));
}

/* Something wrote a word, with a hook or without. */
void note_write(u64 address)
{
	int word = word_of(address);

	if (word < 0 || E.words->written[word / 64] & BIT(word % 64))
		return;
	E.words->written[word / 64] |= BIT(word % 64);
	if (E.words->quiet[word / 64] & BIT(word % 64))
		E.restart = true;
}

static bool is_written(u64 address)
{
	int word = word_of(address);

	if (word < 0)
		return false;
	if (E.words->written[word / 64] & BIT(word % 64))
		return true;
	E.words->quiet[word / 64] |= BIT(word % 64);
	return false;
}

static bool on_stack(u64 address)
{
	return address >= STACKS_AT && address < SD_ARENA + ARENA_BYTES;
}

/* Is an access one to an entry that takes part? */
static bool is_hot(u64 address)
{
	return address - PAGES_AT < PAGES_BYTES && address % PAGE < E.hot;
}

static void before_load(const volatile void *p, u64 pc)
{
	u64 address = (u64)p;

	if (E.cur < 0)
		return;
	if (address - PAGES_AT < PAGES_BYTES ? is_hot(address) : is_written(address))
		point(LOAD, p, 0, pc);
	touch(p, pc);
}

static void before_write(int kind, const volatile void *p, u64 pc)
{
	u64 address = (u64)p;

	if (E.cur < 0)
		return;
	if (address - PAGES_AT < PAGES_BYTES ? is_hot(address) : !on_stack(address))
		point(kind, p, 0, pc);
	if (E.exploring && address - PAGES_AT >= PAGES_BYTES)
		note_write(address);
	touch(p, pc);
}

static u64 get(const volatile void *p, unsigned size)
{
	switch (size) {
	case 8: return *(const volatile u64 *)p;
	case 4: return *(const volatile u32 *)p;
	case 2: return *(const volatile u16 *)p;
	default: return *(const volatile u8 *)p;
	}
}

static void put(volatile void *p, u64 value, unsigned size)
{
	switch (size) {
	case 8: *(volatile u64 *)p = value; break;
	case 4: *(volatile u32 *)p = value; break;
	case 2: *(volatile u16 *)p = value; break;
	default: *(volatile u8 *)p = value;
	}
	if (is_hot((u64)p))
		E.written |= BIT(sd_table_number(p));
	else if (sd_table_number(p) >= 0)
		E.tails |= BIT(sd_table_number(p));
}

/* The oldest buffered store of a CPU reaches memory. */
void drain_one(unsigned cpu)
{
	struct cpu *c = &G->cpu[cpu];
	u64 *at = (u64 *)c->store_at[0], before = *at;

	if (G->page[sd_table_number(at)] != LIVE)
		broken(SD_USE_AFTER_FREE, -1, (u64)at, c->pc, "a buffered store reaches a freed table");
	put(at, c->store_value[0], 8);
	record(DRAIN, at, before, c->store_value[0], c->pc);
	c->stored--;
	memmove(c->store_at, c->store_at + 1, sizeof(u64) * (BUFFERED - 1));
	memmove(c->store_value, c->store_value + 1, sizeof(u64) * (BUFFERED - 1));
	c->store_at[c->stored] = c->store_value[c->stored] = 0;
}

/* A locked operation: all that was buffered reaches memory first. */
void drain(void)
{
	if (E.cur >= 0)
		while (G->cpu[E.cur].stored)
			drain_one(E.cur);
}

u64 load_at(const volatile void *p, unsigned size, u64 pc)
{
	struct cpu *c = &G->cpu[E.cur < 0 ? CPU_SETUP : E.cur];
	u64 value;

	before_load(p, pc);
	race_access((u64)p, size, false, true, pc);
	value = get(p, size);
	for (unsigned n = 0; n < c->stored; n++)
		if (c->store_at[n] == (u64)p)
			value = c->store_value[n];
	record(LOAD, p, value, value, pc);
	return value;
}

void store_at(volatile void *p, u64 value, unsigned size, u64 pc)
{
	struct cpu *c = &G->cpu[E.cur < 0 ? CPU_SETUP : E.cur];
	u64 before;

	before_write(STORE, p, pc);
	race_access((u64)p, size, true, true, pc);
	before = get(p, size);
	if (E.exploring && is_hot((u64)p) && may_change(before))
		broken(SD_OVERWRITTEN, -1, (u64)p, pc,
		       "an entry that hardware or a lock-free fault may change is overwritten without looking");
	if (E.s.tso && E.cur >= 0 && E.cur < SD_CPUS_MAX && is_hot((u64)p)) {
		if (c->stored == BUFFERED)
			drain_one(E.cur);
		c->store_at[c->stored] = (u64)p;
		c->store_value[c->stored++] = value;
	} else {
		put(p, value, size);
	}
	record(STORE, p, before, value, pc);
}

/* A locked operation. CMPXCHG: *old is what is expected, and becomes what was there. */
u64 change_at(int kind, volatile void *p, u64 *old, u64 value, unsigned size, u64 pc)
{
	u64 before, after = value;

	before_write(kind, p, pc);
	race_access((u64)p, size, true, true, pc);
	drain();
	before = get(p, size);
	if (kind == AND)
		after = before & value;
	else if (kind == OR)
		after = before | value;
	else if (kind == CMPXCHG && before != *old)
		after = before;
	if (after != before)
		put(p, after, size);
	record(kind, p, before, after, pc);
	return before;
}

/* Most accesses by far: to entries that do not take part, one after another, of a table with nothing to note. */
static bool is_aside(const volatile void *p)
{
	u64 offset = (u64)p - PAGES_AT;

	return offset < PAGES_BYTES && offset % PAGE >= E.hot && !E.s.races &&
		G->page[offset / PAGE] == LIVE && !G->untouched[offset / PAGE];
}

u64 sd_ld(const volatile void *p, unsigned size);
u64 sd_ld(const volatile void *p, unsigned size)
{
	return is_aside(p) ? get(p, size) : load_at(p, size, SITE);
}

void sd_st(volatile void *p, u64 value, unsigned size);
void sd_st(volatile void *p, u64 value, unsigned size)
{
	store_at(p, value, size, SITE);
}

u64 sd_xchg(volatile void *p, u64 value, unsigned size);
u64 sd_xchg(volatile void *p, u64 value, unsigned size)
{
	u64 before;

	if (!is_aside(p) || E.s.tso)
		return change_at(XCHG, p, NULL, value, size, SITE);
	before = get(p, size);
	if (before != value)
		put(p, value, size);
	return before;
}

bool sd_cmpxchg(volatile void *p, u64 *old, u64 value, unsigned size);
bool sd_cmpxchg(volatile void *p, u64 *old, u64 value, unsigned size)
{
	u64 expected = *old;

	if (size == 4)
		expected = (u32)expected;
	*old = change_at(CMPXCHG, p, &expected, value, size, SITE);
	return *old == expected;
}

u64 sd_fetch_and(volatile void *p, u64 mask);
u64 sd_fetch_and(volatile void *p, u64 mask)
{
	return change_at(AND, p, NULL, mask, 8, SITE);
}

u64 sd_fetch_or(volatile void *p, u64 mask);
u64 sd_fetch_or(volatile void *p, u64 mask)
{
	return change_at(OR, p, NULL, mask, 8, SITE);
}

/* A reference count is about to change, unless it is 0. */
void sd_point_ref(void *count, int by);
void sd_point_ref(void *count, int by)
{
	u32 now;

	point(REF, count, 0, SITE);
	touch(count, SITE);
	drain();
	now = *(u32 *)count;
	record(REF, count, now, now ? now + by : 0, SITE);
}
