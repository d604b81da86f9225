/* SPDX-License-Identifier: MIT */
/*
 * Plain accesses, where the library is built with the compiler's hooks for them (-fsanitize=thread, whose own library
 * is not used). Each may touch no freed memory. With the option "races", accesses to the same bytes are told, one of
 * them a write and one plain, that two CPUs can do next in one state while no lock that one of them holds alone keeps
 * them apart.
 */
#include "engine.h"

#include <stdlib.h>

#define ACCESSES_MAX 4096	/* of the steps from one state */
#define HEADS 1024
#define RACES_MAX 256
#define LOCKS_MAX 16

struct access {
	u64 address, pc, shared, alone;	/* masks of locks: held with others, held alone */
	u32 bytes, next;
	u8 cpu, write, marked;
};

struct races {
	struct access access[ACCESSES_MAX];
	unsigned accesses, count, locks, round;
	struct { u32 first, round; } head[HEADS];	/* by word: the last access there, from 1 */
	struct { u64 at; bool rw; } lock[LOCKS_MAX];
	struct sd_race race[RACES_MAX];
};
#define R (E.races)

/* A lock exists: whether an access is made with it held is asked of the lock itself. */
void race_lock(const void *lock, bool rw)
{
	if (!E.s.races)
		return;
	for (unsigned n = 0; n < R->locks; n++)
		if (R->lock[n].at == (u64)lock)
			return;
	if (R->locks == LOCKS_MAX)
		return;
	R->lock[R->locks].at = (u64)lock;
	R->lock[R->locks++].rw = rw;
}

static void held(struct access *a)
{
	for (unsigned n = 0; n < R->locks; n++) {
		const struct rwlock *rw = (const void *)R->lock[n].at;
		const struct spin *spin = (const void *)R->lock[n].at;

		if (R->lock[n].rw ? rw->writer & ME : spin->owner & ME)
			a->alone |= BIT(n);
		else if (R->lock[n].rw && rw->readers & ME)
			a->shared |= BIT(n);
	}
}

static bool conflict(const struct access *a, const struct access *b)
{
	if (a->cpu == b->cpu || !(a->write || b->write) || (a->marked && b->marked))
		return false;
	if (a->address >= b->address + b->bytes || b->address >= a->address + a->bytes)
		return false;
	return !(a->alone & (b->alone | b->shared)) && !(b->alone & a->shared);
}

static void found(const struct access *a, const struct access *b)
{
	struct sd_race *r;

	for (unsigned n = 0; n < R->count; n++) {
		const u64 *pc = R->race[n].pc;

		if ((pc[0] == a->pc && pc[1] == b->pc) || (pc[1] == a->pc && pc[0] == b->pc))
			return;
	}
	if (R->count == RACES_MAX)
		return;
	r = &R->race[R->count++];
	*r = (struct sd_race){ a->address > b->address ? a->address : b->address, { a->pc, b->pc },
		{ a->cpu, b->cpu }, { a->write, b->write }, { a->marked, b->marked } };
}

static bool is_same(const struct access *a, const struct access *b)
{
	return a->address == b->address && a->pc == b->pc && a->cpu == b->cpu && a->write == b->write &&
		a->shared == b->shared && a->alone == b->alone;
}

static void at_word(u64 word, const struct access *a)
{
	unsigned h = (word ^ word >> 10) % HEADS, n;

	if (R->head[h].round != R->round) {
		R->head[h].round = R->round;
		R->head[h].first = 0;
	}
	for (n = R->head[h].first; n; n = R->access[n].next)
		if (is_same(&R->access[n], a))
			return;
	for (n = R->head[h].first; n; n = R->access[n].next)
		if (conflict(&R->access[n], a))
			found(&R->access[n], a);
	if (R->accesses == ACCESSES_MAX - 1)
		return;
	R->access[++R->accesses] = *a;
	R->access[R->accesses].next = R->head[h].first;
	R->head[h].first = R->accesses;
}

/* A CPU that runs a task touches memory. */
void race_access(u64 address, u32 bytes, bool write, bool marked, u64 pc)
{
	struct access a = { address, pc, 0, 0, bytes, 0, E.cur, write, marked };

	if (!E.s.races || !E.exploring || E.recording || E.cur < 0 || E.cur >= SD_CPUS_MAX || E.silent)
		return;
	held(&a);
	for (u64 word = address / 8; word * 8 < address + bytes; word++)
		at_word(word, &a);
}

/* All steps from a state have been taken: others meet no more. */
void race_state(void)
{
	if (!E.s.races)
		return;
	R->accesses = 0;
	R->round++;
}

bool race_reset(void)
{
	if (!R)
		R = calloc(1, sizeof(*R));
	if (R) {
		R->accesses = R->count = 0;
		R->round++;
	}
	return R != NULL;
}

void race_report(struct sd_result *result)
{
	result->race = R ? R->race : NULL;
	result->races = R ? R->count : 0;
}

/* The shims' accesses that are marked, and no steps. */

u64 sd_peek(const volatile void *p, unsigned size);
u64 sd_peek(const volatile void *p, unsigned size)
{
	race_access((u64)p, size, false, true, SITE);
	touch(p, SITE);
	return size == 8 ? *(const volatile u64 *)p : *(const volatile u32 *)p;
}

void sd_poke(volatile void *p, u64 value, unsigned size);
void sd_poke(volatile void *p, u64 value, unsigned size)
{
	race_access((u64)p, size, true, true, SITE);
	touch(p, SITE);
	if (size == 8)
		*(volatile u64 *)p = value;
	else
		*(volatile u32 *)p = value;
}

/* The compiler's hooks. */

static inline void plain(const void *p, u32 bytes, bool write, u64 pc)
{
	u64 address = (u64)p;

	if (address - SD_ARENA < STACKS_AT - SD_ARENA) {
		u64 header = address - HEADERS_AT;

		if (header < HEADERS_BYTES && REST->header[header / SD_HEADER_BYTES] == FREED)
			broken(SD_USE_AFTER_FREE, -1, address, pc, "code uses the struct of a freed table");
		else if (address - PAGES_AT < PAGES_BYTES && G->page[(address - PAGES_AT) / PAGE] == FREED)
			broken(SD_USE_AFTER_FREE, -1, address, pc, "code uses table %llu, which is free",
			       (address - PAGES_AT) / PAGE);
	}
	if (E.s.races && address - STACKS_AT >= SD_ARENA + ARENA_BYTES - STACKS_AT)
		race_access(address, bytes, write, false, pc);
}

#define HOOKS(size) \
	void __tsan_read##size(void *p); \
	void __tsan_write##size(void *p); \
	void __tsan_unaligned_read##size(void *p); \
	void __tsan_unaligned_write##size(void *p); \
	void __tsan_read##size(void *p) { plain(p, size, false, SITE); } \
	void __tsan_write##size(void *p) { plain(p, size, true, SITE); } \
	void __tsan_unaligned_read##size(void *p) { plain(p, size, false, SITE); } \
	void __tsan_unaligned_write##size(void *p) { plain(p, size, true, SITE); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes);
void __tsan_read_range(void *p, unsigned long bytes) { plain(p, bytes, false, SITE); }
void __tsan_write_range(void *p, unsigned long bytes) { plain(p, bytes, true, SITE); }
void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);
void __tsan_init(void) { }
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void) { }
void __tsan_atomic_thread_fence(int order) { (void)order; }
void __tsan_atomic_signal_fence(int order) { (void)order; }
