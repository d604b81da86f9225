/* SPDX-License-Identifier: MIT */
/* Bytes that are stored once each, and found again by a number. */
#include "store.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK (1u << 20)

struct blobs {
	struct array blob;		/* struct blob by number */
	u64 *chunk;
	u64 chunk_left, bytes, chunks;
	u32 *index, count;		/* by hash, a number, and above it the bits of the hash that no number reaches */
	u64 index_room;
	void **chunk_list;
	u64 chunk_list_room;
	bool full;
};
#define B (E.blobs)
#define HUGE_PAGE (2ull << 20)

/* Memory that is reached all over: with large pages, where there are any, an access misses the TLB less often. */
static void *map(u64 bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at != MAP_FAILED && bytes >= HUGE_PAGE)
		madvise(at, bytes, MADV_HUGEPAGE);
	return at == MAP_FAILED ? NULL : at;
}

u32 *index_of(u64 room)
{
	return map(room * sizeof(u32));
}

void free_index(u32 *index, u64 room)
{
	if (index)
		munmap(index, room * sizeof(u32));
}

void *more(struct array *a, u64 bytes)
{
	if (a->used + bytes > a->room) {
		u64 room = a->room ? a->room * 2 : CHUNK;
		void *at;

		while (room < a->used + bytes)
			room *= 2;
		at = a->at ? mremap(a->at, a->room, room, MREMAP_MAYMOVE) : map(room);
		if (!at || at == MAP_FAILED)
			return NULL;
		if (room >= HUGE_PAGE)
			madvise(at, room, MADV_HUGEPAGE);
		a->at = at;
		a->room = room;
	}
	a->used += bytes;
	return a->at + a->used - bytes;
}

void empty(struct array *a)
{
	if (a->at)
		munmap(a->at, a->room);
	memset(a, 0, sizeof(*a));
}

static u64 mix(u64 a, u64 b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

u64 hash_of(const u64 *at, u32 words)
{
	u64 h = 0x9e3779b97f4a7c15ull ^ words, other = 0;

	/* Two at a time: neither product waits for the other. */
	for (; words >= 4; words -= 4, at += 4) {
		h = mix(at[0] ^ 0xa0761d6478bd642full ^ h, at[1] ^ 0xe7037ed1a0b428dbull);
		other = mix(at[2] ^ 0x2545f4914f6cdd1dull ^ other, at[3] ^ 0xd6e8feb86659fd93ull);
	}
	h ^= other;
	for (; words >= 2; words -= 2, at += 2)
		h = mix(at[0] ^ 0xa0761d6478bd642full ^ h, at[1] ^ 0xe7037ed1a0b428dbull);
	if (words)
		h = mix(at[0] ^ 0x8ebc6af09c88c6e3ull, h ^ 0x589965cc75374cc3ull);
	return mix(h, 0x1d8e4e27c47d124full);
}

struct blob *blob(u32 number)
{
	return (struct blob *)B->blob.at + number;
}

static bool grow_index(void)
{
	u64 room = B->index_room ? B->index_room * 2 : 1 << 14;
	u32 *index = index_of(room);

	if (!index)
		return false;
	for (u32 n = 1; n < B->count; n++) {
		u64 at = blob(n)->hash & (room - 1);

		while (index[at])
			at = (at + 1) & (room - 1);
		index[at] = (blob(n)->hash & ~(u32)(room - 1)) | n;
	}
	free_index(B->index, B->index_room);
	B->index = index;
	B->index_room = room;
	return true;
}

static u64 *blob_room(u32 bytes)
{
	u64 *at;

	if (B->chunk_left < bytes) {
		u64 size = bytes > CHUNK ? bytes : CHUNK;

		if (B->chunks == B->chunk_list_room) {
			u64 room = B->chunk_list_room ? B->chunk_list_room * 2 : 64;
			void **list = realloc(B->chunk_list, room * sizeof(*list));

			if (!list)
				return NULL;
			B->chunk_list = list;
			B->chunk_list_room = room;
		}
		B->chunk = malloc(size);
		if (!B->chunk)
			return NULL;
		B->chunk_list[B->chunks++] = B->chunk;
		B->chunk_left = size;
	}
	at = B->chunk;
	B->chunk += bytes / 8;
	B->chunk_left -= bytes;
	return at;
}

u32 intern(const void *bytes, u32 size)
{
	u32 hash = hash_of(bytes, size / 8), numbers;
	struct blob *b;
	u64 at;

	if (B->count * 2ull >= B->index_room && !grow_index()) {
		B->full = true;
		return 1;
	}
	numbers = B->index_room - 1;
	for (at = hash & numbers; B->index[at]; at = (at + 1) & numbers) {
		if ((B->index[at] ^ hash) & ~numbers)
			continue;
		b = blob(B->index[at] & numbers);
		if (b->bytes == size && !memcmp(b->at, bytes, size))
			return B->index[at] & numbers;
	}
	b = more(&B->blob, sizeof(*b));
	if (b) {
		b->at = blob_room(size);
		b->bytes = size;
		b->hash = hash;
	}
	if (!b || !b->at) {
		B->full = true;
		return 1;
	}
	memcpy(b->at, bytes, size);
	B->bytes += size;
	B->index[at] = (hash & ~numbers) | B->count;
	return B->count++;
}

bool same(u32 number, const void *bytes, u32 size)
{
	const struct blob *b = blob(number);

	return number && b->bytes == size && !memcmp(b->at, bytes, size);
}

bool blobs_full(void)
{
	return B->full;
}

/* Memory that blobs take: all, and how many there are, and their own bytes. */
u64 blobs_bytes(u64 *count, u64 *bytes)
{
	*count = B->count;
	*bytes = B->bytes;
	return B->index_room * 4 + B->blob.used + B->chunks * CHUNK;
}

bool begin_blobs(void)
{
	if (!B)
		B = calloc(1, sizeof(*B));
	if (!B)
		return false;
	for (u64 n = 0; n < B->chunks; n++)
		free(B->chunk_list[n]);
	free(B->chunk_list);
	free_index(B->index, B->index_room);
	empty(&B->blob);
	memset(B, 0, sizeof(*B));
	B->count = 1;
	return more(&B->blob, sizeof(struct blob)) != NULL;
}
