/* SPDX-License-Identifier: MIT */
/* What machine.c and calls.c share. */
#ifndef SD_NATIVE_H
#define SD_NATIVE_H
#include "../drivers/driver.h"

#define NOTES		4096		/* in each list of what happened; more are counted only */
#define HOST_PARTS	(1u << 15)	/* of so many pages each, which the host can have otherwise than usual */
#define HOST_PART	512u

struct note { u64 kind, a, b, c; };
struct notes { struct note note[NOTES]; unsigned long count; };
/* RANGES: flushes of a range, and their pages; REQUESTS: to all vCPUs at once */
enum { DIRTY_PFNS, ACCESSED_PFNS, LOCAL_FLUSHES, RANGES, RANGE_PAGES, REQUESTS, COUNTERS };

/*
 * flushes   kind 0: all, 1: b pages from gfn a on
 * freed     tables: kind is the level, a the gfn, b 1 for system management mode, c 1 for an invalid root
 * problems  kind 0: WARN, 1: BUG; a the file, b the line, c what
 * used      headers and pages of tables that are allocated
 */
extern struct native {
	struct notes flushes, freed, problems;
	unsigned long tables_max, used[2];
	u64 counters[COUNTERS];
	unsigned int host_level;
	long resched_every, resched_calls;	/* calls since need_resched last said yes */
	void *bug_frame[5];
} native;

bool sd_machine_reset(unsigned long tables_max);
void sd_make_tracked(const struct kvm_memory_slot *slot, gfn_t gfn);
#endif
