/* SPDX-License-Identifier: MIT */
/* What the files of the explorer share: kinds of steps, the state of the machine, the engine's own state. */
#ifndef SD_ENGINE_H
#define SD_ENGINE_H

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hooks.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef sd_u64 u64;

#define BIT(n) (1ull << (n))
#define SITE ((u64)__builtin_return_address(0))

/* name, may be glued behind a step (LEFT), before one (RIGHT), holds up others (TAKES), may have to wait (WAITS) */
#define LEFT 1
#define RIGHT 2
#define TAKES 4
#define WAITS 8
#define GLUED 16	/* part of the access before it in any case */
#define STOPS 32	/* nothing is glued across it */
#define KINDS(K) \
	K(START, "start", 0) K(END, "end", STOPS) \
	K(LOAD, "load", 0) K(STORE, "store", 0) K(XCHG, "exchange", 0) K(CMPXCHG, "compare-exchange", 0) \
	K(AND, "and", 0) K(OR, "or", 0) K(REF, "refcount", 0) K(RELAX, "relax", 0) \
	K(READ_LOCK, "read_lock", RIGHT | TAKES | WAITS) K(READ_UNLOCK, "read_unlock", LEFT) \
	K(WRITE_WAIT, "write_wait", 0) K(WRITE_LOCK, "write_lock", WAITS) K(WRITE_UNLOCK, "write_unlock", LEFT) \
	K(SPIN_LOCK, "spin_lock", RIGHT | TAKES | WAITS) K(SPIN_UNLOCK, "spin_unlock", LEFT) \
	K(MUTEX_LOCK, "mutex_lock", RIGHT | TAKES | WAITS) K(MUTEX_UNLOCK, "mutex_unlock", LEFT) \
	K(RCU_LOCK, "rcu_read_lock", RIGHT) K(RCU_UNLOCK, "rcu_read_unlock", LEFT) \
	K(CALL_RCU, "call_rcu", LEFT) K(RCU_WAIT, "rcu_wait", 0) K(RCU_SYNC, "rcu_sync", WAITS) \
	K(RCU_BARRIER, "rcu_barrier", WAITS) K(CALLBACK, "callback", 0) \
	K(SRCU_LOCK, "srcu_read_lock", RIGHT | TAKES) K(SRCU_UNLOCK, "srcu_read_unlock", LEFT) \
	K(SRCU_WAIT, "srcu_wait", 0) K(SRCU_SYNC, "srcu_sync", WAITS) \
	K(GUEST, "guest", STOPS) K(SEND_IPI, "send_ipi", 0) K(WAIT_IPI, "wait_ipi", WAITS) \
	K(IRQ_DISABLE, "irq_disable", RIGHT | TAKES) K(IRQ_ENABLE, "irq_enable", LEFT) \
	K(FLUSH, "flush", 0) K(FLUSH_RANGE, "flush_range", STOPS) \
	K(CHOOSE, "choose", STOPS) K(YIELD, "need_resched", STOPS) K(FAIL, "allocation", STOPS) \
	K(ALLOC, "alloc", LEFT | RIGHT) K(FREE, "free", LEFT) K(DRAIN, "drain", 0) \
	K(REVOKE, "revoke", LEFT) K(FORGET, "forget", LEFT | GLUED) K(PROTECT, "protect", LEFT) \
	K(WATCH, "watch", LEFT | GLUED) K(UNWATCH, "unwatch", LEFT | GLUED) K(HARVEST, "harvest", LEFT | GLUED) \
	K(BACK, "back", LEFT | GLUED) K(MMIO, "mmio", LEFT | GLUED)
enum kind {
#define K(name, text, flags) name,
	KINDS(K)
#undef K
	KIND_COUNT
};
extern const u8 kind_flags[KIND_COUNT];

/* Choices beyond those of a program: acts of a guest, and what happens by itself. */
#define ACT_WRITES 0x1000u
#define ACT_DIRTIES 0x2000u
#define ACT_TOUCHES 0x4000u
#define CHOICE_DRAIN 0x8000u
#define CPU_SETUP SD_CPUS_MAX		/* what runs before exploring */
#define CPU_RCU (SD_CPUS_MAX + 1)	/* callbacks that run by themselves */
#define STACKS (SD_CPUS_MAX + 2)

/* The arena. */
#define PAGE 4096ull
#define PAGES_BYTES (SD_TABLES_MAX * PAGE)
#define PAGES_AT SD_ARENA
#define HEADERS_AT (PAGES_AT + PAGES_BYTES)
#define HEADERS_BYTES (SD_TABLES_MAX * SD_HEADER_BYTES)
#define MAP_AT (HEADERS_AT + HEADERS_BYTES)	/* the array of struct page */
#define MAP_STRIDE_MAX 64
#define MACHINE_AT (MAP_AT + SD_TABLES_MAX * MAP_STRIDE_MAX)
#define MACHINE_BYTES 0x8000ull
#define STACK_BYTES 0x4000ull
#define GUARD_BYTES 0x4000ull
#define STACKS_AT (MACHINE_AT + MACHINE_BYTES)
#define ARENA_BYTES (STACKS_AT + STACKS * (STACK_BYTES + GUARD_BYTES) - SD_ARENA)
#define STACK_BASE(n) (STACKS_AT + (n) * (STACK_BYTES + GUARD_BYTES) + GUARD_BYTES)
#define STACK_TOP(n) (STACK_BASE(n) + STACK_BYTES)

#define BUFFERED 4
struct cpu {
	u64 sp, pc, object, asked;
	u16 kind, arg;
	int16_t yields, failures;
	u8 rcu, srcu, fresh, idle, held, stored, atomic, pad;
	u64 store_at[BUFFERED], store_value[BUFFERED];	/* with tso: the store buffer */
};
#define CPU_BYTES offsetof(struct cpu, store_at)

#define RANGES_MAX 320
#define TOKENS_MAX 61
struct hw {
	u16 tokens;
	u8 root, level, in_guest, flags, pad[2];
	u64 token[TOKENS_MAX];
};
#define IRQ_OFF 1
#define IPI 2
#define HOLDS_FREED 4
#define HOLDS_STALE 8
/* A translation or a step to a table below; in ascending order a table's entries come before those of lower ones. */
#define TOKEN(root, level, gfn, leaf, rights, target) ((u64)(root) << 58 | (u64)(7 - (level)) << 55 | \
	(u64)(gfn) << 45 | (u64)(leaf) << 44 | (u64)(rights) << 40 | (target))
#define T_ROOT(t) ((unsigned)((t) >> 58))
#define T_LEVEL(t) (7 - (unsigned)((t) >> 55 & 7))
#define T_GFN(t) ((t) >> 45 & 1023)
#define T_LEAF(t) ((unsigned)((t) >> 44 & 1))
#define T_RIGHTS(t) ((unsigned)((t) >> 40 & 15))
#define T_TARGET(t) ((t) & (BIT(40) - 1))
#define MAY_READ 1
#define MAY_WRITE 2
#define MAY_EXECUTE 4
#define IS_DIRTY 8

#define CALLBACKS_MAX 16
#define REVOKED_MAX 16
struct host {
	u64 pfn;
	u32 level, writable;
};
struct callback {
	u64 head, function, readers;
};
struct rest {
	u32 callbacks, revokeds;
	struct callback callback[CALLBACKS_MAX];
	u64 revoked[REVOKED_MAX], protected, watched, written, backed;
	u64 srcu, sync[SD_CPUS_MAX];		/* readers; those that a waiter still waits for */
	u64 mode[SD_VCPUS_MAX], requests[SD_VCPUS_MAX];
	u8 header[SD_TABLES_MAX];
	struct host host[SD_GFNS_MAX];
};
enum { UNUSED, LIVE, FREED };
struct machine {
	struct cpu cpu[STACKS];
	struct hw hw[SD_VCPUS_MAX];
	struct rest rest;
	u8 page[SD_TABLES_MAX], untouched[SD_TABLES_MAX];
};
#define G ((struct machine *)MACHINE_AT)
#define REST (&G->rest)

struct spin { u32 owner; };
struct rwlock { u16 writer, waiting; u32 readers; };
struct rcu_head;

/* Everything that is no part of a state is in here, so that Python can tell it from the library's other variables. */
struct engine {
	struct sd_scenario s;
	struct sd_result *result;
	int cur;			/* the CPU that runs, -1 for the search itself */
	int stepping;			/* whose step was the last */
	u64 main_sp, dead_sp;
	unsigned choice;
	bool running, past, takes, rejected, exploring, recording, restart, marks, silent;
	u64 new_pages, new_headers;	/* masks: what was given out in this step */
	u64 blockers, written, tails, ran, sets;	/* masks: CPUs, tables, tables, CPUs, vCPUs */
	u64 sequence;			/* steps so far, for the watchdog */
	u64 hot, bits;			/* bytes of a table whose accesses are steps; bits of an index */
	u64 real[SD_GFNS_MAX];		/* by gfn of the test */
	int broken;			/* enum sd_verdict */
	unsigned pages_high, headers_high;
	u64 ended;			/* tasks that came to an end somewhere */
	u64 reached;			/* vCPUs that could reach a page somewhere */
	/* coroutine.c, traps.c */
	bool mapped;
	void (*aside)(void);
	u64 last_sequence;
	unsigned ticks;
	struct sigaction actions_before[6];
	stack_t stack_before;
	char scratch[16384] __attribute__((aligned(16))), signal_stack[65536];
	/* memory.c */
	u64 empty;			/* what a fresh table is filled with */
	/* access.c */
	struct words *words;
	/* regions.c: the scenario's ranges without what is ignored */
	unsigned ranges;
	struct sd_range range[RANGES_MAX];
	/* blobs.c, regions.c, snapshot.c, states.c, record.c, search.c, races.c */
	struct blobs *blobs;
	struct regions *regions;
	struct snapshot *snapshot;
	struct states *states;
	struct recorder *recorder;
	struct races *races;
	unsigned *path;
};
extern struct engine sd_engine;
#define E sd_engine
#define ME BIT(E.cur)

/* coroutine.c */
void point(int kind, const volatile void *object, unsigned arg, u64 pc);
unsigned choose(int kind, unsigned n, u64 pc);
void start_cpu(unsigned cpu);
void run_aside(unsigned cpu, void (*function)(void));
void resume(unsigned cpu);
void map_arena(void);
/* traps.c */
void catch_traps(void);
void release_traps(void);
void broken(int verdict, int vcpu, u64 address, u64 pc, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* memory.c */
void reset_memory(void);
u64 *table(unsigned number);
void check_poison(void);
bool touch(const volatile void *address, u64 pc);
/* access.c */
u64 load_at(const volatile void *p, unsigned size, u64 pc);
void store_at(volatile void *p, u64 value, unsigned size, u64 pc);
u64 change_at(int kind, volatile void *p, u64 *old, u64 value, unsigned size, u64 pc);
void drain(void);
void drain_one(unsigned cpu);
void note_write(u64 address);
void reset_access(void);
void report_access(void);
/* locks.c */
u64 blocked_by(unsigned kind, u64 object, unsigned cpu);
void sleeps(u64 pc);
u64 stuck_of(u64 waiting, u64 ended, const u64 *blockers);
/* rcu.c */
void run_callbacks(void);
void run_callback(unsigned number);
bool callback_ready(unsigned number);
void leave_rcu(void);
/* hardware.c */
void settle(int cpu);
void table_freed(unsigned number);
int root_of(unsigned vcpu);
void close_set(unsigned vcpu);
void flush_range(unsigned vcpu, u64 first, u64 end);
bool is_table(u64 spte);
int what_of(u64 spte);
unsigned rights_of(u64 spte);
bool may_change(u64 spte);
u64 gfns_of(u64 token);
/* guest.c */
unsigned guest_choices(unsigned vcpu, u16 *choices);
void guest_acts(unsigned vcpu, unsigned choice);
/* vcpu.c */
int vcpu_of(int cpu);
int cpu_of(unsigned vcpu);
/* promises.c */
u64 sd_listed_roots(void) __attribute__((weak));
bool leaks(void);
u64 lost_writes(void);
/* states.c, regions.c */
bool begin_states(void);
void forget_step(void);
u32 add_state(u32 parent, u32 action, bool *is_new);
void restore_state(u32 number);
u32 parent_of(u32 number, u32 *action);
u32 state_count(void);
u64 state_bytes(u64 *blobs, u64 *blob_bytes);
void save_pristine(void);
void restore_pristine(void);
/* record.c */
void record(int kind, const volatile void *object, u64 before, u64 after, u64 pc);
void record_sets(bool step);
void begin_record(void);
/* races.c */
void race_lock(const void *lock, bool rw);
void race_access(u64 address, u32 bytes, bool write, bool marked, u64 pc);
void race_state(void);
bool race_reset(void);
void race_report(struct sd_result *result);

#endif
