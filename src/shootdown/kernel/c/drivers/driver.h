/* SPDX-License-Identifier: MIT */
/*
 * What the drivers share: the VM, its vCPUs and slots, and what a machine must supply.
 *
 * A driver stands for code of mmu.c, kvm_main.c or x86.c around the three files of a tree that are run as they are.
 * All that drivers change lies in sd_the_vm (and, exploring, in storage.c). What several CPUs may touch is reached
 * through READ_ONCE, WRITE_ONCE, the sd_fetch_ functions or under a lock, so that a machine that explores sees it.
 */
#ifndef SD_DRIVER_H
#define SD_DRIVER_H
#include "mmu.h"
#include "mmu_internal.h"
#include "tdp_iter.h"
#include "tdp_mmu.h"
#include "spte.h"
#include "../explore/hooks.h"

#define SD_VCPUS	SD_VCPUS_MAX
#define SD_SLOT_COPIES	(3 * SD_SLOTS)
#define SD_PREV_ROOTS	3
#ifdef SD_EXPLORE
#define SD_SLOTS	8	/* numbers of slots; each belongs to one address space */
#define SD_RING		8	/* entries of a dirty ring at most */
#else				/* as native.py has them */
#define SD_SLOTS	32
#define SD_RING		1024
#endif
#define SD_AS		2	/* address spaces: 0, and 1 of system management mode */

/* Requests besides those of hooks.h; flags of a slot; bits of a role: as src/shootdown/machine/words.py has them. */
#define SD_REQ_DIRTY_RING_SOFT_FULL 4ull
#define SD_REQ_UPDATE_CPU_DIRTY_LOGGING 8ull
enum { SD_LOG_DIRTY_PAGES = 1, SD_READONLY = 2, SD_SLOT_INVALID = 4 };
enum { SD_ROLE_SMM = 1, SD_ROLE_GUEST_MODE = 2, SD_ROLE_LEVEL_SHIFT = 4 };
#define SD_UPDATE_IN_PROGRESS	(1ull << 63)	/* in the generation of slots while they change */

/* Results of a fault, numbered as src/shootdown/mmu/page_fault.py does; kernels differ. */
enum { SD_PF_CONTINUE, SD_PF_RETRY, SD_PF_EMULATE, SD_PF_INVALID, SD_PF_FIXED, SD_PF_SPURIOUS, SD_PF_WRITE_PROTECTED };

/* How a VM is made; numbers as in src/shootdown/mmu/kvm.py. */
struct sd_config {
	int format;		/* 0: NPT, 1: EPT, 2: EPT without A/D */
	int levels;		/* of a root, where its role does not say another */
	int vcpus;
	int nx_huge_pages, pml, eager_split, initially_set, slot_zap_all;
	int ring_size, ring_soft_limit;
};

struct sd_memslots {		/* one state of an address space; two take turns */
	struct kvm_memslots base;
	struct kvm_memory_slot *slot[SD_SLOTS];
};

struct sd_word { u64 word, mask; };	/* of a bitmap */
#define SD_WORDS 16			/* that an operation of sd_ops can hold */

struct sd_ring_entry { u64 place, flags; };	/* place: slot << 32 | offset */
enum { SD_ENTRY_DIRTY = 1, SD_ENTRY_RESET = 2 };

struct sd_vcpu {
	struct kvm_vcpu vcpu;
	hpa_t prev[SD_PREV_ROOTS];
	u32 ring_pushed, ring_reset;
	struct sd_ring_entry ring[SD_RING];
};

struct sd_vm {
	struct kvm kvm;
	spinlock_t mn_invalidate_lock;
	long mn_active_invalidate_count;
	int nr_dirty_logging;
	struct list_head nx_list;	/* tables that NX recovery may zap, oldest first */
	struct sd_memslots sets[SD_AS][2], *active[SD_AS];
	struct kvm_memory_slot copies[SD_SLOT_COPIES];
	struct sd_vcpu vcpu[SD_VCPUS];
	struct kvm_vcpu *running[SD_CPUS_MAX];	/* by CPU: the vCPU whose thread runs there */
	struct sd_config config;
};

extern struct sd_vm sd_the_vm;
#define sd		(&sd_the_vm)
#ifdef SD_AD_VARIABLE		/* from 6.13 on */
#define sd_ad_enabled() (kvm_ad_enabled)
#else
#define sd_ad_enabled() kvm_ad_enabled()
#endif
#define sd_kvm		(&sd->kvm)
#define sd_vcpu_of(v)	container_of(v, struct sd_vcpu, vcpu)

/* ---- what a machine supplies, besides what the shims' headers and hooks.h name; gfns here are real ones ---- */
void kvm_flush_remote_tlbs_with_address(struct kvm *kvm, u64 gfn, u64 pages);	/* as _range, in 6.1 */
unsigned int sd_this_cpu(void);			/* who runs, below SD_CPUS_MAX */

/* ---- storage of slots: storage.c, or the native machine's own ---- */
u64 *sd_dirty_word(const struct kvm_memory_slot *slot, u64 word);	/* 64 bits of its bitmap, zeros at first */
u64 sd_next_word(const struct kvm_memory_slot *slot, u64 word);	/* this one, or the next that may ever have a bit */
void sd_clear_dirty(const struct kvm_memory_slot *slot);		/* the whole bitmap */
u64 *sd_tracked(const struct kvm_memory_slot *slot, int level, gfn_t gfn);	/* users who track writes below there */

#ifdef SD_EXPLORE
void sd_describe_storage(const volatile void *word, char *text, unsigned size);	/* for names.c */
#endif

/* ---- the drivers ---- */
void sd_vm_init(const struct sd_config *config);			/* vm.c */
void sd_vcpu_init(int number);
union kvm_mmu_page_role sd_role(unsigned role);

struct kvm_memory_slot *sd_slot(int as_id, int slot);			/* slots.c */
struct kvm_memory_slot *sd_find_slot(int slot);
int sd_set_memory_region(int slot, int as_id, gfn_t base, u64 pages, u32 flags);

s64 sd_page_fault(struct kvm_vcpu *vcpu, gfn_t gfn, u64 code);		/* fault.c */
s64 sd_prefetch(struct kvm_vcpu *vcpu, gfn_t gfn);
int sd_fast_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);	/* fast_fault.c */
int sd_handle_mmio_fault(struct kvm_vcpu *vcpu, gfn_t gfn);		/* mmio.c */
void sd_passes_for_mmio(struct kvm_vcpu *vcpu, gfn_t gfn);
bool sd_is_retry(gfn_t gfn, unsigned long seq, bool locked);		/* notifier.c */

void sd_invalidate_begin(gfn_t start, gfn_t end);			/* notifier.c */
void sd_invalidate_end(void);
void sd_range_start(gfn_t start, gfn_t end, bool may_block);
void sd_range_end(gfn_t start, gfn_t end);
bool sd_in_slot(struct kvm_memory_slot *slot, gfn_t start, gfn_t end, bool may_block, struct kvm_gfn_range *range);
bool sd_age(gfn_t start, gfn_t end, bool flush);			/* aging.c */
bool sd_test_age(gfn_t gfn);
void sd_change_pte(gfn_t gfn, u64 pfn, bool writable);

void sd_zap_gfn_range(gfn_t start, gfn_t end);				/* zap.c */
void sd_zap_all_fast(void);
void sd_zap_all(void);
void sd_release(void);
void sd_flush_shadow_memslot(struct kvm_memory_slot *slot);

bool sd_is_tracked(const struct kvm_memory_slot *slot, gfn_t gfn);	/* write_track.c */
void sd_track_locked(struct kvm_memory_slot *slot, gfn_t gfn);
void sd_track(struct kvm_memory_slot *slot, gfn_t gfn);
void sd_untrack(struct kvm_memory_slot *slot, gfn_t gfn);

void sd_collapse(struct kvm_memory_slot *slot);				/* huge_pages.c */
void sd_split_slot(struct kvm_memory_slot *slot);
void sd_flush_memslot(const struct kvm_memory_slot *slot);
void sd_recover_nx(u64 tables);						/* nx.c */

void sd_apply_flags(struct kvm_memory_slot *slot, u32 old_flags, bool flags_only);	/* dirty_log.c */
void sd_remove_write_access(struct kvm_memory_slot *slot, int level);
void sd_leaf_clear_dirty(struct kvm_memory_slot *slot);
int sd_get_dirty_log(struct kvm_memory_slot *slot, bool manual, struct sd_word *found, int most);
void sd_clear_dirty_log(struct kvm_memory_slot *slot, const struct sd_word *words, int count);
void sd_enable_log_masked(struct kvm_memory_slot *slot, u64 offset, unsigned long mask);
bool sd_ring_full(struct kvm_vcpu *vcpu, u64 requests);			/* dirty_ring.c */
gfn_t sd_slot_at_place(u64 place);
s64 sd_ring_harvest(int vcpu, u32 index);
int sd_reset_rings(void);

int sd_mmu_load(struct kvm_vcpu *vcpu);					/* roots.c */
void sd_free_obsolete_roots(struct kvm_vcpu *vcpu);
bool sd_new_pgd(struct kvm_vcpu *vcpu, unsigned role);
void sd_reset_context(struct kvm_vcpu *vcpu, unsigned role);
u64 sd_vcpu_enter_guest(struct kvm_vcpu *vcpu);				/* vcpu.c */
void sd_vcpu_run(struct kvm_vcpu *vcpu);

/* start.c, see there */
void sd_start_vm(const u64 *arg);
void sd_start_slot(const u64 *arg);
void sd_start_load(const u64 *arg);
void sd_start_leaf(const u64 *arg);
void sd_start_host(const u64 *arg);
void sd_start_flags(const u64 *arg);
void sd_start_dirty(const u64 *arg);
void sd_start_promises(const u64 *arg);

static inline void sd_vcpu_load(struct kvm_vcpu *vcpu)
{
	sd->running[sd_this_cpu()] = vcpu;
}

static inline void sd_vcpu_put(void)
{
	sd->running[sd_this_cpu()] = NULL;
}
#endif
