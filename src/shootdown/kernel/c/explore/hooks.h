/* SPDX-License-Identifier: MIT */
/*
 * The explored machine: what drivers may ask of it, what they must give it, and the interface to Python.
 *
 * All gfns here are those of the test (0, 1, 2, ...), masks of gfns have bit g for gfn g; sd_real_gfn and
 * sd_test_gfn convert. pfns are real ones. Each call marked "step" is a scheduling point.
 */
#ifndef SD_HOOKS_H
#define SD_HOOKS_H

typedef unsigned long long sd_u64;

#define SD_ARENA 0x100000000000ull	/* where the shims' SD_BASE must be */
#define SD_PHYSICAL 0x100000000ull	/* the physical address that it stands for, the shims' SD_PHYS */
#define SD_TABLES_MAX 64
#define SD_HEADER_BYTES 256		/* most that a struct kvm_mmu_page may take */
#define SD_CPUS_MAX 8
#define SD_VCPUS_MAX 4
#define SD_GFNS_MAX 64
#define SD_ARGS_MAX 12
#define SD_FRAMES_MAX 256
#define SD_MEMORY_WORDS 32768

/* The gfn whose index at level i+1 is the i-th digit (base: entries a table) of the test's gfn, and back. */
sd_u64 sd_real_gfn(sd_u64 gfn);
sd_u64 sd_test_gfn(sd_u64 real);
/* The real pfn of a test's page: the scenario's base plus the real gfn of that number. */
sd_u64 sd_real_pfn(sd_u64 page);

/* vCPUs. Modes and requests as the kernel numbers them: a request here is a mask. */
#define SD_OUTSIDE_GUEST_MODE 0
#define SD_IN_GUEST_MODE 1
#define SD_EXITING_GUEST_MODE 2
#define SD_REQ_TLB_FLUSH 1ull
#define SD_REQ_FREE_OBSOLETE_ROOTS 2ull
sd_u64 sd_requests(unsigned vcpu);				/* step */
void sd_make_request(unsigned vcpu, sd_u64 request);		/* step */
void sd_clear_request(unsigned vcpu, sd_u64 request);		/* step */
unsigned sd_mode(unsigned vcpu);				/* step */
void sd_set_mode(unsigned vcpu, unsigned mode);			/* step */
/* Request, mode, interrupt, wait for each vCPU as kvm_make_all_cpus_request; was one interrupted? */
_Bool sd_request_all(sd_u64 request);
/* Interrupts those in guest mode and waits for none, as kvm_vcpu_kick of each. */
void sd_kick_all(void);
void sd_irq_disable(unsigned vcpu);
void sd_irq_enable(unsigned vcpu);
void sd_flush_tlb(unsigned vcpu);	/* the vCPU's own CPU drops all that it cached */
/* Run the guest until it leaves: 0, or SD_FAULT | test's gfn << 16 | PFERR bits. Interrupts must be off. */
#define SD_FAULT (1ull << 63)
#define SD_WROTE (1ull << 62)	/* in a schedule: it wrote there, and went on */
sd_u64 sd_enter_guest(unsigned vcpu, sd_u64 root, unsigned level);
#define sd_fault_gfn(fault) (((fault) & ~SD_FAULT) >> 16)
#define sd_fault_code(fault) ((fault) & 0xffff)

/* The host's page table, by gfn. A pfn of SD_NO_PFN: nothing is there. Each is one step, if it can change. */
#define SD_NO_PFN (~0ull)
sd_u64 sd_host_pfn(sd_u64 gfn);
unsigned sd_host_level(sd_u64 gfn);
_Bool sd_host_writable(sd_u64 gfn);
/*
 * By what level the host can map the page at a real gfn, which it was told to map by ``level``: no host has a huge page
 * in which a page has another place than the guest's gfn has.
 */
static inline unsigned sd_level_at(sd_u64 real_gfn, sd_u64 pfn, unsigned level)
{
	while (pfn != SD_NO_PFN && level > 1 && (pfn ^ real_gfn) & ((1ull << 9 * (level - 1)) - 1))
		level--;
	return level;
}
void sd_set_host_pfn(sd_u64 gfn, sd_u64 pfn);
void sd_set_host_level(sd_u64 gfn, unsigned level);
void sd_set_host_writable(sd_u64 gfn, _Bool writable);

/* Promises, as check/program/steps.py has them. */
void sd_revoke(sd_u64 pfn);
void sd_forget(sd_u64 first, sd_u64 end);
void sd_protect(sd_u64 gfns);
void sd_watch(sd_u64 gfns);
void sd_unwatch(sd_u64 gfns);
void sd_harvest(sd_u64 gfns);
void sd_back(sd_u64 gfns);
/* An access passes for one to MMIO, which user space will emulate. */
void sd_mmio_access(sd_u64 gfn);

/* Whether the running task may sleep, or give way: not where its caller may not. Of each task it may at first. */
void sd_may_sleep(_Bool may);
/* Sleeping locks, SRCU, and the end of a grace period. spin_lock and so on are as the shims declare them. */
void sd_mutex_lock(void *mutex);
void sd_mutex_unlock(void *mutex);
void sd_srcu_read_lock(void);
void sd_srcu_read_unlock(void);
void sd_synchronize_srcu(void);
void sd_synchronize_rcu(void);
/* A choice among n, all of which are followed; and whether an allocation that may fail does. */
unsigned sd_choose(unsigned n);
/* sd_alloc(kind): kind 0 a header, 1 a page of a table; with SD_MAY_FAIL it may return NULL. */
#define SD_MAY_FAIL 2u
/* Free tables that are left, so that a cache can be filled before a lock is taken. */
unsigned sd_tables_left(void);
/* Statistics, which nobody decides by: no part of a state. To be said in sd_vm_create. */
void sd_ignore(const volatile void *from, sd_u64 bytes);
unsigned sd_this_cpu(void);	/* who runs, below SD_CPUS_MAX */
/* Gives a lock or a word a name in schedules. */
void sd_name(const volatile void *object, const char *name);
void sd_text(char *text, unsigned size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What drivers supply. */
struct sd_scenario;
struct sd_op {
	const char *name;
	void (*run)(const sd_u64 *arg);
};
extern const struct sd_op sd_ops[];
extern const unsigned sd_op_count;
void sd_vm_create(const struct sd_scenario *scenario);	/* VM, vCPUs, locks; runs before everything */
sd_u64 sd_empty_spte(void);				/* what a fresh table is filled with */
/* Optional (weak). Gfns that a bitmap or an unread ring entry says are dirty; what PML does with a gfn; the
 * root (sd_table_number) that a vCPU would enter its guest on, -1 for none: without it, the one that it was on last;
 * the tables (mask of numbers) that are roots on the VM's list; the name that a word has in schedules, if any: a text
 * that is empty before (in_table: the struct kvm_mmu_page that it is in, or NULL). None of them may take a step. */
sd_u64 sd_logged(void);
void sd_pml(unsigned vcpu, sd_u64 gfn);
int sd_vcpu_root(unsigned vcpu);
sd_u64 sd_listed_roots(void);
void sd_describe(const volatile void *word, const void *in_table, char *text, unsigned size);
int sd_table_number(const volatile void *address);	/* of a table or anything in it; -1: none */

/* Between Python and the explorer; abi.py mirrors these, sd_layout is there so that it can test that. */
struct sd_task {
	int op, vcpu, again, args;	/* vcpu: -1 for a task of the host; tasks of vCPUs are the first */
	sd_u64 arg[SD_ARGS_MAX];
};

struct sd_access {
	unsigned gfn, code;		/* PFERR_WRITE and PFERR_FETCH, or neither */
};

struct sd_guest {
	unsigned accesses, pad;
	sd_u64 writes;			/* mask of the gfns that it writes without a fault, where it can */
	struct sd_access access[16];
};

struct sd_range {
	sd_u64 offset, bytes;		/* variables of the library that code may change, from its base */
};

struct sd_frame {
	sd_u64 gfn, pfn;		/* a page that the host has there at some time */
};

struct sd_scenario {
	unsigned levels, entries, root_level, tables;
	unsigned vcpus, tasks, starts, ranges, replays;
	int yields, failures;		/* a task may give way or fail to allocate so often; -1: always */
	unsigned movers, reuse, late, ranged, tso, races;
	unsigned ept, sets_accessed, logs, mmio, nx, frames;
	sd_u64 accessed, dirty, mmu_writable;
	sd_u64 states_max, bytes_max;
	double seconds_max;
	sd_u64 pfn_base;
	sd_u64 host_pfn[SD_GFNS_MAX];
	unsigned host_level[SD_GFNS_MAX], host_writable[SD_GFNS_MAX];
	struct sd_guest guest[SD_VCPUS_MAX];
	struct sd_task task[SD_CPUS_MAX], start[32];
	struct sd_range range[256];
	struct sd_frame frame[SD_FRAMES_MAX];	/* in order of gfns; of a gfn without one, any page is right */
	sd_u64 written[SD_MEMORY_WORDS / 64];	/* of a schedule: the words that were known to be written when it was found */
	const unsigned *replay;		/* replays choices (cpu << 16 | choice): no search */
};

enum sd_verdict {
	SD_HOLDS, SD_STOPPED, SD_USE_AFTER_FREE, SD_FREED_IN_REACH, SD_REVOKED_IN_REACH, SD_WARN, SD_DOUBLE_FREE,
	SD_STALE, SD_DEADLOCK, SD_LEAK, SD_LOST_WRITE, SD_WRITABLE_IN_REACH, SD_OVERWRITTEN, SD_BUG, SD_LOCKDEP,
	SD_FAULTED, SD_OVERFLOW, SD_ENDLESS, SD_STILL_MAPPED, SD_BROKEN, SD_UNKNOWN_IN_REACH,
	SD_EXECUTABLE_IN_REACH, SD_OTHER_IN_REACH, SD_PASSES_FOR_MMIO,
};

struct sd_event {
	int cpu, kind, table, index, vcpu, last;	/* last: the end of one step of the schedule */
	int name, pad;			/* for sd_recorded_name */
	sd_u64 object, before, after, pc;
};

struct sd_held {
	int event, vcpu, root, level, leaf, rights, dirty, gfn;
	sd_u64 target;			/* a leaf's pfn, else the number of a table */
};

struct sd_race {
	sd_u64 address, pc[2];
	int cpu[2], write[2], marked[2];
};

struct sd_result {
	int verdict, cpu, vcpu, table;
	unsigned depth, choices, events, helds, races, ended, reached, pad;
	sd_u64 states, transitions, bytes, blobs, blob_bytes, pc, address, restarts;
	double seconds;
	char message[512];
	sd_u64 written[SD_MEMORY_WORDS / 64];
	unsigned *choice;
	struct sd_event *event;
	struct sd_held *held;
	struct sd_race *race;
};

#define SD_SHOWN __attribute__((visibility("default")))
SD_SHOWN void sd_explore(const struct sd_scenario *scenario, struct sd_result *result);
SD_SHOWN void sd_layout(sd_u64 sizes[8]);
SD_SHOWN const char *sd_op_name(unsigned number);	/* NULL behind the last */
SD_SHOWN const char *sd_name_of(sd_u64 object);	/* as memory is now */
SD_SHOWN const char *sd_recorded_name(int name);	/* as it was when it was recorded */
SD_SHOWN const char *sd_kind_name(int kind);

#endif
