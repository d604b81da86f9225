/* SPDX-License-Identifier: MIT */
/* Large regions, by blocks: a blob of the numbers of blocks. What code writes there without a hook shows here. */
#include "store.h"

#include <stdlib.h>

#define BLOCK 256
#define BLOCKS_MAX 1024

struct regions {
	u32 block[REGIONS][BLOCKS_MAX];
	char *shadow[REGIONS];		/* what memory was when it was last looked at */
	void *pristine;
};
#define S (E.regions)

struct region {
	u64 at, bytes;
};
#define NOTHING 1	/* the number of a block of zeros */
static const u64 zeros[BLOCK / 8];

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

static unsigned regions_of(unsigned which, struct region *r)
{
	return which == STRUCTS ? structs(r) : variables(r);
}

static void noticed(u64 at, const u64 *before, u32 words)
{
	for (u32 n = 0; n < words; n++)
		if (((const u64 *)at)[n] != before[n])
			note_write(at + n * 8);
}

/* A region's number; zeros at its end do not count, so that it may be longer later. */
u32 save_region(unsigned which, u32 number)
{
	struct region regions[RANGES_MAX];
	unsigned count = regions_of(which, regions);
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

void load_region(unsigned which, u32 number)
{
	struct region regions[RANGES_MAX];
	unsigned count = regions_of(which, regions);
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

bool begin_regions(void)
{
	for (unsigned n = 0; n < REGIONS; n++) {
		free(S->shadow[n]);
		S->shadow[n] = calloc(1, BLOCKS_MAX * BLOCK);
		memset(S->block[n], 0, sizeof(S->block[n]));
	}
	return S->shadow[STRUCTS] && S->shadow[VARIABLES] && intern(zeros, BLOCK) == NOTHING;
}
