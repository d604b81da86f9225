/* SPDX-License-Identifier: MIT */
/*
 * A toy MMU with the primitives of the real one: a root and tables below it, faults under the lock for reading,
 * operations that take pages and tables away. What an operation does wrong is its argument: 0 is right.
 */
#include "toy.h"

#define RWX 7ull
#define KNOWN (1ull << 11)	/* the explorer holds that what a CPU goes through is present to the MMU too */
#define WRITABLE 2ull
#define ADDRESS ((1ull << 52) - 4096)
#define LARGE (1ull << 7)
#define MMIO 6ull	/* W and X without R: a fault of its own kind */
#define RESERVED 8u	/* PFERR bit of that */
#define MAYBE (5ull | 1ull << 9)	/* not writable, but a fault may make it so without the lock */

struct sp {
	struct rcu_head rcu;
	u64 *spt;
	u64 first;		/* the test's gfn that its first entry maps */
};

static rwlock_t mmu_lock;
static spinlock_t a_lock, b_lock;
static u64 *root;
static unsigned long seq, in_progress;
static u64 bitmap, logging;
static u64 word, plain;
static struct sp *kept;

u64 sd_empty_spte(void)
{
	return 0;
}

u64 sd_logged(void)
{
	return bitmap;
}

u64 sd_listed_roots(void)
{
	return 1ull << sd_table_number(root);
}

static u64 pa(const void *p)
{
	return (u64)p - SD_ARENA + SD_PHYSICAL;
}

static u64 *va(u64 spte)
{
	return (u64 *)((spte & ADDRESS) - SD_PHYSICAL + SD_ARENA);
}

static struct sp *struct_of(u64 *spt)
{
	extern void *sd_mem_map;

	return ((struct sp **)sd_mem_map)[sd_table_number(spt)];
}

static u64 *make_table(u64 first)
{
	extern void *sd_mem_map;
	struct sp *sp = sd_alloc(0);
	u64 *spt = sd_alloc(1);

	if (!sp || !spt)
		return NULL;
	sp->spt = spt;
	sp->first = first;
	((struct sp **)sd_mem_map)[sd_table_number(spt)] = sp;
	return spt;
}

static void free_table(struct sp *sp)
{
	sd_free(1, sp->spt);
	sd_free(0, sp);
}

static void free_callback(struct rcu_head *head)
{
	free_table((struct sp *)head);
}

void sd_vm_create(const struct sd_scenario *scenario)
{
	(void)scenario;
	sd_name(&mmu_lock, "mmu_lock");
	sd_name(&a_lock, "a_lock");
	sd_name(&b_lock, "b_lock");
	root = make_table(0);
}

enum { RIGHT, OUTSIDE_RCU, NO_RETRY, PLAIN_STORE, SETS_DIRTY, NO_LOG };

/* Map a gfn, or make it writable. */
static void fault(u64 gfn, unsigned code, unsigned wrong)
{
	unsigned long before = READ_ONCE(seq);
	u64 pfn = sd_host_pfn(gfn), *spt, old, new;

	if (pfn == SD_NO_PFN)
		return;
	read_lock(&mmu_lock);
	if (wrong != OUTSIDE_RCU)
		rcu_read_lock();
	if (wrong != NO_RETRY && (in_progress || seq != before))
		goto out;
	old = READ_ONCE(root[gfn >> 1]);
	if (!(old & RWX)) {
		spt = make_table(gfn & ~1ull);
		if (!spt || !try_cmpxchg64(&root[gfn >> 1], &old, pa(spt) | KNOWN | RWX)) {
			if (spt)
				free_table(struct_of(spt));
			goto out;
		}
		old = pa(spt) | KNOWN | RWX;
	}
	spt = va(old);
	old = READ_ONCE(spt[gfn & 1]);
	new = pfn << 12 | KNOWN | (code & 2 || !logging ? RWX : MAYBE);
	if (new & WRITABLE && logging && wrong != NO_LOG)
		WRITE_ONCE(bitmap, bitmap | 1ull << gfn);
	if (old & WRITABLE)
		goto out;
	if (wrong == PLAIN_STORE)
		WRITE_ONCE(spt[gfn & 1], new);
	else
		try_cmpxchg64(&spt[gfn & 1], &old, new);
out:
	if (wrong != OUTSIDE_RCU)
		rcu_read_unlock();
	read_unlock(&mmu_lock);
}

/* The entry of MMIO that the guest met: is it still there? Then the access is to MMIO, be it that others did more. */
static void believe(u64 gfn)
{
	sd_srcu_read_lock();
	if (READ_ONCE(root[gfn >> 1]) == MMIO) {
		xchg(&word, 1);
		sd_mmio_access(gfn);
	}
	sd_srcu_read_unlock();
}

/* One round of a vCPU: vcpu, what its faults do wrong, whether it looks at requests before the mode only. */
static void vcpu(const u64 *arg)
{
	unsigned v = arg[0];
	u64 requests = sd_requests(v), left = 0;

	if (requests & SD_REQ_TLB_FLUSH) {
		sd_clear_request(v, SD_REQ_TLB_FLUSH);
		sd_flush_tlb(v);
	}
	sd_irq_disable(v);
	sd_set_mode(v, SD_IN_GUEST_MODE);
	if (arg[2] || (sd_mode(v) == SD_IN_GUEST_MODE && !sd_requests(v)))
		left = sd_enter_guest(v, pa(root), 2);
	sd_set_mode(v, SD_OUTSIDE_GUEST_MODE);
	sd_irq_enable(v);
	if (sd_fault_code(left) & RESERVED)
		believe(sd_fault_gfn(left));
	else if (left)
		fault(sd_fault_gfn(left), sd_fault_code(left), arg[1]);
}

/* Map a page before anything runs. */
static void map(const u64 *arg)
{
	fault(arg[0], 2, RIGHT);
}

enum { NO_FLUSH = 1, NARROW, BEFORE_FLUSH, LEAVES };

/* The host takes the pages of a range back: first gfn, end, what is wrong. */
static void unmap(const u64 *arg)
{
	bool flush = false;
	u64 gfn, pfns[4] = { 0 };

	write_lock(&mmu_lock);
	in_progress++;
	for (gfn = arg[0]; gfn < arg[1]; gfn++) {
		u64 old = READ_ONCE(root[gfn >> 1]);

		if (!(old & RWX))
			continue;
		if (READ_ONCE(va(old)[gfn & 1]) & RWX)
			flush = true;
		if (arg[2] != LEAVES)
			xchg(&va(old)[gfn & 1], 0);
	}
	if (arg[2] == BEFORE_FLUSH)
		sd_revoke(sd_real_pfn(arg[0]));
	if (flush && arg[2] == NARROW)
		kvm_flush_remote_tlbs_range(NULL, sd_real_gfn(arg[0]), 1);
	else if (flush && arg[2] != NO_FLUSH)
		kvm_flush_remote_tlbs_range(NULL, sd_real_gfn(arg[0]), arg[1] - arg[0]);
	write_unlock(&mmu_lock);
	for (gfn = arg[0]; gfn < arg[1]; gfn++) {
		pfns[gfn] = sd_real_pfn(gfn);
		sd_set_host_pfn(gfn, SD_NO_PFN);
	}
	for (gfn = arg[0]; gfn < arg[1]; gfn++)
		sd_revoke(pfns[gfn]);
	write_lock(&mmu_lock);
	seq++;
	in_progress--;
	write_unlock(&mmu_lock);
}

enum { UNFLUSHED = 1, AT_ONCE, FLUSH_AFTER_RCU, TWICE, TOUCHES_LATER, STRUCT_LATER, READS_STRUCT };

/* Take a whole table away: index in the root, what is wrong. */
static void zap_table(const u64 *arg)
{
	u64 old;
	struct sp *sp;

	read_lock(&mmu_lock);
	rcu_read_lock();
	old = READ_ONCE(root[arg[0]]);
	if (!(old & RWX) || !try_cmpxchg64(&root[arg[0]], &old, 0))
		goto out;
	sp = struct_of(va(old));
	if (arg[1] == AT_ONCE) {
		kvm_flush_remote_tlbs(NULL);
		free_table(sp);
		goto out;
	}
	if (arg[1] != UNFLUSHED && arg[1] != FLUSH_AFTER_RCU)
		kvm_flush_remote_tlbs(NULL);
	call_rcu(&sp->rcu, free_callback);
	if (arg[1] == FLUSH_AFTER_RCU) {
		rcu_read_unlock();
		kvm_flush_remote_tlbs(NULL);
		read_unlock(&mmu_lock);
		return;
	}
	if (arg[1] == TWICE) {
		rcu_read_unlock();
		rcu_read_lock();
		free_table(sp);
	}
	if (arg[1] >= TOUCHES_LATER) {
		rcu_read_unlock();
		if (arg[1] == TOUCHES_LATER)
			READ_ONCE(va(old)[0]);
		else if (arg[1] == STRUCT_LATER)
			sp->first = 1;
		else
			WRITE_ONCE(word, sp->first & 1);
		read_unlock(&mmu_lock);
		return;
	}
out:
	rcu_read_unlock();
	read_unlock(&mmu_lock);
}

/* Two tasks that take two locks: which first. */
static void locks(const u64 *arg)
{
	spin_lock(arg[0] ? &b_lock : &a_lock);
	READ_ONCE(word);
	spin_lock(arg[0] ? &a_lock : &b_lock);
	WRITE_ONCE(word, arg[0]);
	spin_unlock(&a_lock);
	spin_unlock(&b_lock);
}

enum { ENDLESS = 1, NULL_POINTER, BUGGY, WARNS, OVERFLOWS, UNLOCKED, FORGETS_LOCK, FREED_POINTER };

static unsigned deep(volatile char *up)
{
	volatile char here[1024];

	here[0] = *up + 1;
	return deep(here) + here[1];
}

/* Everything that can go wrong in one task: what. */
static void wrong(const u64 *arg)
{
	WRITE_ONCE(word, 1);
	switch (arg[0]) {
	case ENDLESS:
		for (;;)
			__asm__ volatile("" ::: "memory");
	case NULL_POINTER:
		*(volatile u64 *)(READ_ONCE(word) + 7) = 1;
		break;
	case BUGGY:
		BUG_ON(READ_ONCE(word));
		break;
	case WARNS:
		WARN_ON(READ_ONCE(word));
		break;
	case OVERFLOWS:
		WRITE_ONCE(word, deep((char *)&word));
		break;
	case UNLOCKED:
		sd_lockdep(&mmu_lock, 2, __FILE__, __LINE__);
		break;
	case FORGETS_LOCK:
		spin_lock(&a_lock);
		break;
	case FREED_POINTER:
		kept = sd_alloc(0);
		sd_free(0, kept);
		*kept->spt = 1;
		break;
	}
	WRITE_ONCE(word, 2);
}

enum { PROTECT_NOT = 1, FLUSH_NOT };

/* Logging of all pages begins: write-protect, flush, promise. */
static void log_on(const u64 *arg)
{
	write_lock(&mmu_lock);
	logging = 1;
	for (u64 gfn = 0; gfn < 2; gfn++) {
		u64 old = READ_ONCE(root[gfn >> 1]);

		if (old & RWX && arg[0] != PROTECT_NOT && READ_ONCE(va(old)[gfn & 1]) & RWX)
			xchg(&va(old)[gfn & 1], (sd_real_pfn(gfn) << 12) | KNOWN | MAYBE);
	}
	if (arg[0] != FLUSH_NOT)
		kvm_flush_remote_tlbs(NULL);
	sd_watch(3);
	write_unlock(&mmu_lock);
}

/* Plain writes to one word, with a lock or without. */
static void plainly(const u64 *arg)
{
	if (arg[0])
		spin_lock(&a_lock);
	else
		READ_ONCE(root[0]);
	plain ^= 1;
	if (arg[0])
		spin_unlock(&a_lock);
}

/* Fill tables beyond the entries that take part, twice; each must keep what was written there, and begin empty. */
static void fills(const u64 *arg)
{
	for (unsigned round = 0; round < 2; round++) {
		u64 *spt = make_table(0);

		WARN_ON(READ_ONCE(spt[300]));
		for (unsigned n = 0; n < 512; n++)
			spt[n] = 8 + 8 * arg[0];
		xchg(&word, arg[0]);
		WARN_ON(READ_ONCE(spt[300]) != 8 + 8 * arg[0]);
		xchg(&spt[301], 16 * round);
		xchg(&word, arg[0]);
		WARN_ON(READ_ONCE(spt[301]) != 16 * round);
		free_table(struct_of(spt));
		xchg(&word, arg[0]);
	}
}

/* A store that another CPU may not see yet, and a look at what that one stored: index of the own entry. */
static void store_load(const u64 *arg)
{
	WRITE_ONCE(root[arg[0]], 8ull + arg[0]);
	if (!READ_ONCE(root[!arg[0]]))
		WARN_ON(xchg(&word, 1));
}

/* Give way once, and count: what a budget of yields and of failures allows. */
static void yields(const u64 *arg)
{
	(void)arg;
	for (unsigned n = 0; n < 4; n++) {
		if (need_resched())
			WRITE_ONCE(word, word + 1);
		else
			WRITE_ONCE(word, word);
	}
}

/* Asked twice, in two places, with nothing between that others see. */
static void gives_way(const u64 *arg)
{
	(void)arg;
	if (!need_resched())
		WARN_ON(need_resched());
}

/* Gives way under the lock, as a task whose caller may sleep, or may not. */
static void sleeps_at_will(const u64 *arg)
{
	sd_may_sleep(arg[0]);
	write_lock(&mmu_lock);
	cond_resched_rwlock_write(&mmu_lock);
	write_unlock(&mmu_lock);
	sd_may_sleep(true);
	sd_synchronize_srcu();
}

static void fails(const u64 *arg)
{
	void *p = sd_alloc(1 | SD_MAY_FAIL);

	WARN_ON(!p && arg[0]);
	sd_free(1, p);
}

/* Counts up without a lock, by load and store: how many times. */
static void counts(const u64 *arg)
{
	for (u64 n = 0; n < arg[0]; n++)
		WRITE_ONCE(word, READ_ONCE(word) + 1);
}

/* The first two gfns are MMIO. */
static void mmio(const u64 *arg)
{
	(void)arg;
	WRITE_ONCE(root[0], MMIO);
}

enum { STAYS = 1, NOBODY_WAITS };

/* They become memory: the entry goes, those who may have seen it are waited for; what is wrong. */
static void back(const u64 *arg)
{
	if (arg[0] != STAYS)
		WRITE_ONCE(root[0], 0);
	if (arg[0] != NOBODY_WAITS)
		sd_synchronize_srcu();
	sd_back(3);
}

/* A huge page comes for the next two gfns: the page that is its first, rights. */
static void huge(const u64 *arg)
{
	WRITE_ONCE(root[1], (sd_real_pfn(arg[0]) << 12) | KNOWN | LARGE | arg[1]);
}

/* A round of a vCPU, and a word that says that there was one. */
static void vcpu_tells(const u64 *arg)
{
	vcpu(arg);
	WRITE_ONCE(word, 1);
}

/* After that an entry is there for a moment that no CPU may go through, and a promise is made: does it lead nowhere? */
static void hides(const u64 *arg)
{
	if (!READ_ONCE(word))
		return;
	WRITE_ONCE(root[1], (sd_real_pfn(2) << 12) | (arg[0] ? KNOWN : LARGE) | RWX);
	sd_forget(0, 4);
	WRITE_ONCE(root[1], 0);
}

const struct sd_op sd_ops[] = {
	{ "vcpu", vcpu }, { "map", map }, { "unmap", unmap }, { "zap_table", zap_table }, { "locks", locks },
	{ "wrong", wrong }, { "log_on", log_on }, { "store_load", store_load }, { "yields", yields },
	{ "fails", fails }, { "counts", counts }, { "plainly", plainly },
	{ "fills", fills }, { "gives_way", gives_way }, { "mmio", mmio },
	{ "back", back }, { "huge", huge }, { "vcpu_tells", vcpu_tells }, { "hides", hides },
	{ "sleeps_at_will", sleeps_at_will },
};
const unsigned sd_op_count = sizeof(sd_ops) / sizeof(*sd_ops);
