/* SPDX-License-Identifier: MIT */
/* Where states are kept: arrays that grow, bytes that are stored once, and what memory is brought back from them. */
#ifndef SD_STORE_H
#define SD_STORE_H

#include "engine.h"

/* blobs.c: a growing array in memory of its own; bytes by number, equal ones have equal numbers, 0 is none. */
struct array {
	char *at;
	u64 used, room;
};
void *more(struct array *a, u64 bytes);
void empty(struct array *a);
u32 *index_of(u64 room);	/* that many zeros */
void free_index(u32 *index, u64 room);

struct blob {
	u64 *at;
	u32 bytes, hash;
};
bool begin_blobs(void);
struct blob *blob(u32 number);
u32 intern(const void *bytes, u32 size);	/* size: a multiple of 8 */
bool same(u32 number, const void *bytes, u32 size);
bool blobs_full(void);
u64 blobs_bytes(u64 *count, u64 *bytes);
u64 hash_of(const u64 *at, u32 words);

/* regions.c: memory that seldom changes, by blocks: structs of tables, variables of code and drivers. */
enum { STRUCTS, VARIABLES, REGIONS };
bool begin_regions(void);
u32 save_region(unsigned which, u32 number);
void load_region(unsigned which, u32 number);

/* snapshot.c: all of it, as a vector of numbers of blobs. */
#define PARTS_MAX (SD_CPUS_MAX + SD_VCPUS_MAX + 4)
bool begin_snapshots(void);
u32 parts(void);
const u32 *save_parts(void);
void load_parts(const u32 *wanted);

#endif
