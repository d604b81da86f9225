/* SPDX-License-Identifier: MIT */
/*
 * States. A state is a vector of numbers of blobs, one for each CPU (with its stack), each vCPU's cached set, the
 * tables, the structs of tables, the variables of code and drivers, and the rest. Equal blobs have equal numbers and
 * are stored once; states are stored whole (no hash stands for one), each with its parent.
 */
#include "engine.h"

#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK 256
#define PARTS_MAX (SD_CPUS_MAX + SD_VCPUS_MAX + 4)
#define BLOCKS_MAX 1024
#define CHUNK (1u << 20)

/* A growing array in memory of its own. */
struct array {
	char *at;
	u64 used, room;
};

static void *more(struct array *a, u64 bytes)
{
	if (a->used + bytes > a->room) {
		u64 room = a->room ? a->room * 2 : CHUNK;
		void *at;

		while (room < a->used + bytes)
			room *= 2;
		at = a->at ? mremap(a->at, a->room, room, MREMAP_MAYMOVE) :
			mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED)
			return NULL;
		a->at = at;
		a->room = room;
	}
	a->used += bytes;
	return a->at + a->used - bytes;
}

static void empty(struct array *a)
{
	if (a->at)
		munmap(a->at, a->room);
	memset(a, 0, sizeof(*a));
}

struct blob {
	u64 *at;
	u32 bytes, hash;
};

struct states {
	/* blobs */
	struct array blob;		/* struct blob by number; 0 is none */
	u64 *chunk;
	u64 chunk_left, blob_bytes, chunks;
	u32 *index, blobs;
	u64 index_room;
	void **chunk_list;
	u64 chunk_list_room;
	/* states */
	struct array state;
	u32 count, width;
	u32 *seen;
	u64 seen_room;
	/* what memory holds now */
	u32 now[PARTS_MAX], block[2][BLOCKS_MAX], tail[SD_TABLES_MAX];
	u64 tables[SD_TABLES_MAX * 16 + 1];
	char *shadow[2];		/* of the regions */
	void *pristine;
	bool full;
};
#define S (E.states)

static u64 mix(u64 a, u64 b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

static u64 hash_of(const u64 *at, u32 words)
{
	u64 h = 0x9e3779b97f4a7c15ull ^ words;

	for (; words >= 2; words -= 2, at += 2)
		h = mix(at[0] ^ 0xa0761d6478bd642full ^ h, at[1] ^ 0xe7037ed1a0b428dbull);
	if (words)
		h = mix(at[0] ^ 0x8ebc6af09c88c6e3ull, h ^ 0x589965cc75374cc3ull);
	return mix(h, 0x1d8e4e27c47d124full);
}

static struct blob *blob(u32 number)
{
	return (struct blob *)S->blob.at + number;
}

static bool grow_index(void)
{
	u64 room = S->index_room ? S->index_room * 2 : 1 << 14;
	u32 *index = calloc(room, sizeof(u32));

	if (!index)
		return false;
	for (u32 n = 1; n < S->blobs; n++) {
		u64 at = blob(n)->hash & (room - 1);

		while (index[at])
			at = (at + 1) & (room - 1);
		index[at] = n;
	}
	free(S->index);
	S->index = index;
	S->index_room = room;
	return true;
}

static u64 *blob_room(u32 bytes)
{
	u64 *at;

	if (S->chunk_left < bytes) {
		u64 size = bytes > CHUNK ? bytes : CHUNK;

		if (S->chunks == S->chunk_list_room) {
			u64 room = S->chunk_list_room ? S->chunk_list_room * 2 : 64;
			void **list = realloc(S->chunk_list, room * sizeof(*list));

			if (!list)
				return NULL;
			S->chunk_list = list;
			S->chunk_list_room = room;
		}
		S->chunk = malloc(size);
		if (!S->chunk)
			return NULL;
		S->chunk_list[S->chunks++] = S->chunk;
		S->chunk_left = size;
	}
	at = S->chunk;
	S->chunk += bytes / 8;
	S->chunk_left -= bytes;
	return at;
}

/* The number of these bytes (a multiple of 8). */
static u32 intern(const void *bytes, u32 size)
{
	u32 hash = hash_of(bytes, size / 8);
	struct blob *b;
	u64 at;

	if (S->blobs * 2ull >= S->index_room && !grow_index()) {
		S->full = true;
		return 1;
	}
	for (at = hash & (S->index_room - 1); S->index[at]; at = (at + 1) & (S->index_room - 1)) {
		b = blob(S->index[at]);
		if (b->hash == hash && b->bytes == size && !memcmp(b->at, bytes, size))
			return S->index[at];
	}
	b = more(&S->blob, sizeof(*b));
	if (b) {
		b->at = blob_room(size);
		b->bytes = size;
		b->hash = hash;
	}
	if (!b || !b->at) {
		S->full = true;
		return 1;
	}
	memcpy(b->at, bytes, size);
	S->blob_bytes += size;
	S->index[at] = S->blobs;
	return S->blobs++;
}

static bool same(u32 number, const void *bytes, u32 size)
{
	const struct blob *b = blob(number);

	return number && b->bytes == size && !memcmp(b->at, bytes, size);
}

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

/* Large regions, by blocks: a blob of blobs' numbers. */

struct region {
	u64 at, bytes;
};
#define NOTHING 1	/* the number of a block of zeros */
static const u64 zeros[BLOCK / 8];

static void noticed(u64 at, const u64 *before, u32 words)
{
	for (u32 n = 0; n < words; n++)
		if (((const u64 *)at)[n] != before[n])
			note_write(at + n * 8);
}

/* A region's number; zeros at its end do not count, so that it may be longer later. */
static u32 save_region(unsigned which, const struct region *regions, unsigned count, u32 number)
{
	u32 *block = S->block[which], used = 0;
	char *shadow = S->shadow[which];
	bool changed = !number;

	for (unsigned r = 0; r < count && !changed; shadow += regions[r].bytes, r++)
		changed = memcmp(shadow, (void *)regions[r].at, regions[r].bytes) != 0;
	if (!changed)
		return number;
	shadow = S->shadow[which];
	for (unsigned r = 0; r < count; shadow += regions[r].bytes, r++)
		for (u64 done = 0; done < regions[r].bytes; done += BLOCK, used++) {
			u64 at = regions[r].at + done, left = regions[r].bytes - done;
			u32 bytes = left < BLOCK ? left : BLOCK;

			if (number && block[used] && !memcmp(shadow + done, (void *)at, bytes))
				continue;
			if (number && E.exploring)
				noticed(at, (u64 *)(shadow + done), bytes / 8);
			memcpy(shadow + done, (void *)at, bytes);
			block[used] = memcmp((void *)at, zeros, bytes) ? intern((void *)at, bytes) : NOTHING;
		}
	for (u32 n = used; n < BLOCKS_MAX && block[n]; n++)
		block[n] = 0;
	while (used && block[used - 1] == NOTHING)
		used--;
	{
		u32 kept = block[used];

		block[used] = 0;
		number = intern(block, (used + 2) / 2 * 8);
		block[used] = kept;
	}
	return number;
}

static void load_region(unsigned which, const struct region *regions, unsigned count, u32 number)
{
	const u32 *wanted = (const u32 *)blob(number)->at;
	u32 *block = S->block[which], used = 0, known = blob(number)->bytes / 4;
	char *shadow = S->shadow[which];

	for (unsigned r = 0; r < count; shadow += regions[r].bytes, r++)
		for (u64 done = 0; done < regions[r].bytes; done += BLOCK, used++) {
			u64 left = regions[r].bytes - done;
			u32 bytes = left < BLOCK ? left : BLOCK, want = used < known ? wanted[used] : 0;
			const void *from = want > NOTHING ? (const void *)blob(want)->at : zeros;

			want = want ? want : NOTHING;
			if (block[used] == want)
				continue;
			block[used] = want;
			memcpy((void *)(regions[r].at + done), from, bytes);
			memcpy(shadow + done, from, bytes);
		}
}

static unsigned structs(struct region *r)
{
	r[0] = (struct region){ MAP_AT, SD_TABLES_MAX * 8 };
	r[1] = (struct region){ HEADERS_AT, E.headers_high * SD_HEADER_BYTES };
	return 2;
}

static unsigned variables(struct region *r)
{
	for (unsigned n = 0; n < E.ranges; n++)
		r[n] = (struct region){ E.range[n].offset, E.range[n].bytes };
	return E.ranges;
}

/* Whole words only: what shares one with something else stays. */
void sd_ignore(const volatile void *from, u64 bytes)
{
	u64 first = ((u64)from + 7) & -8ull, end = ((u64)from + bytes) & -8ull;

	for (unsigned n = 0; n < E.ranges && first < end; n++) {
		struct sd_range *r = &E.range[n];
		u64 tail = r->offset + r->bytes;

		if (first < r->offset || end > tail)
			continue;
		if (E.ranges == RANGES_MAX)
			return;
		r->bytes = first - r->offset;
		E.range[E.ranges++] = (struct sd_range){ end, tail - end };
		return;
	}
}

static u32 rest_bytes(void)
{
	unsigned gfns = 1u << E.bits * E.s.levels;

	return offsetof(struct rest, host) + (gfns > SD_GFNS_MAX ? SD_GFNS_MAX : gfns) * sizeof(struct host);
}

static void save(u32 *now)
{
	struct region regions[RANGES_MAX];
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
	now[p] = save_region(0, regions, structs(regions), before);
	if (now[p] != before)
		check_poison();
	p++;
	now[p] = save_region(1, regions, variables(regions), now[p]);
	p++;
	if (!same(now[p], REST, rest_bytes()))
		now[p] = intern(REST, rest_bytes());
	E.ran = E.sets = 0;
}

static void load(const u32 *wanted)
{
	struct region regions[RANGES_MAX];
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
		load_region(0, regions, structs(regions), wanted[p]);
	p++;
	if (now[p] != wanted[p])
		load_region(1, regions, variables(regions), wanted[p]);
	p++;
	if (now[p] != wanted[p])
		memcpy(REST, blob(wanted[p])->at, rest_bytes());
	memcpy(now, wanted, S->width * 4);
}

/* States by number: the vector, then parent and action. */

static u32 *state(u32 number)
{
	return (u32 *)S->state.at + (u64)number * (S->width + 2);
}

u32 parent_of(u32 number, u32 *action)
{
	*action = state(number)[S->width + 1];
	return state(number)[S->width];
}

u32 state_count(void)
{
	return S->count;
}

static u64 place_of(const u32 *vector)
{
	u64 words[PARTS_MAX / 2 + 1];

	words[S->width / 2] = 0;
	memcpy(words, vector, S->width * 4);
	return hash_of(words, (S->width + 1) / 2);
}

static bool grow_seen(void)
{
	u64 room = S->seen_room ? S->seen_room * 2 : 1 << 14;
	u32 *seen = calloc(room, sizeof(u32));

	if (!seen)
		return false;
	for (u32 n = 0; n < S->count; n++) {
		u64 at = place_of(state(n)) & (room - 1);

		while (seen[at])
			at = (at + 1) & (room - 1);
		seen[at] = n + 1;
	}
	free(S->seen);
	S->seen = seen;
	S->seen_room = room;
	return true;
}

/* A step was not taken after all, and left memory somewhere in the middle of it. */
void forget_step(void)
{
	save(S->now);
}

/* The number of the state that memory is in. */
u32 add_state(u32 parent, u32 action, bool *is_new)
{
	u64 at;
	u32 *place;

	*is_new = false;
	save(S->now);
	if (S->full || (S->count * 3ull >= S->seen_room * 2 && !grow_seen()))
		goto full;
	for (at = place_of(S->now) & (S->seen_room - 1); S->seen[at]; at = (at + 1) & (S->seen_room - 1))
		if (!memcmp(state(S->seen[at] - 1), S->now, S->width * 4))
			return S->seen[at] - 1;
	place = more(&S->state, (S->width + 2) * 4);
	if (!place)
		goto full;
	memcpy(place, S->now, S->width * 4);
	place[S->width] = parent;
	place[S->width + 1] = action;
	S->seen[at] = ++S->count;
	*is_new = true;
	return S->count - 1;
full:
	broken(SD_STOPPED, -1, 0, 0, "memory is used up");
	return 0;
}

void restore_state(u32 number)
{
	u32 wanted[PARTS_MAX];

	memcpy(wanted, state(number), S->width * 4);
	load(wanted);
}

/* Memory that states take: all of it, that of blobs too. */
u64 state_bytes(u64 *blobs, u64 *blob_bytes)
{
	*blobs = S->blobs;
	*blob_bytes = S->blob_bytes;
	return S->state.used + S->seen_room * 4 + S->index_room * 4 + S->blob.used + S->chunks * CHUNK;
}

bool begin_states(void)
{
	void *pristine;

	if (!S)
		S = calloc(1, sizeof(*S));
	if (!S)
		return false;
	for (u64 n = 0; n < S->chunks; n++)
		free(S->chunk_list[n]);
	free(S->chunk_list);
	free(S->index);
	free(S->seen);
	empty(&S->blob);
	empty(&S->state);
	free(S->shadow[0]);
	free(S->shadow[1]);
	pristine = S->pristine;
	memset(S, 0, sizeof(*S));
	S->pristine = pristine;
	S->width = E.s.tasks + E.s.vcpus + 4;
	S->shadow[0] = calloc(1, BLOCKS_MAX * BLOCK);
	S->shadow[1] = calloc(1, BLOCKS_MAX * BLOCK);
	if (!S->shadow[0] || !S->shadow[1] || !more(&S->blob, sizeof(struct blob)))
		return false;
	S->blobs = 1;
	return intern(zeros, BLOCK) == NOTHING && !S->full;
}

/* Variables as they were when the library was loaded. */

void save_pristine(void)
{
	u64 total = 1;
	char *at;

	if (!S)
		S = calloc(1, sizeof(*S));
	if (!S || S->pristine)
		return;
	for (unsigned n = 0; n < E.s.ranges; n++)
		total += E.s.range[n].bytes;
	at = S->pristine = malloc(total);
	for (unsigned n = 0; at && n < E.s.ranges; at += E.s.range[n].bytes, n++)
		memcpy(at, (void *)E.s.range[n].offset, E.s.range[n].bytes);
}

void restore_pristine(void)
{
	char *at = S->pristine;

	for (unsigned n = 0; n < E.s.ranges; at += E.s.range[n].bytes, n++)
		memcpy((void *)E.s.range[n].offset, at, E.s.range[n].bytes);
	E.ranges = E.s.ranges;
	memcpy(E.range, E.s.range, sizeof(E.s.range));
}
