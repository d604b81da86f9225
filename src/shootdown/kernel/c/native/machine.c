/* SPDX-License-Identifier: MIT */
/*
 * The machine for native runs: one CPU, so that locks are nothing, nobody runs beside, a flush is an entry in a list,
 * and RCU's callbacks wait until they are drained. One VM at a time; calls.c is what Python sees of it.
 */
#include "native.h"

void *mmap(void *at, unsigned long bytes, int protection, int flags, int file, long offset);
int munmap(void *at, unsigned long bytes);

#define HEADER		512ul			/* bytes of a table's header */
#define TRACKED		96			/* pages whose writes are tracked, three levels each */

struct native native;
struct page *sd_mem_map;
unsigned long sd_base;

static char *headers;
static unsigned long high[2];
static void *unused[2];
static struct rcu_head *pending, **pending_end = &pending;

static void note(struct notes *list, u64 kind, u64 a, u64 b, u64 c)
{
	if (list->count < NOTES)
		list->note[list->count] = (struct note){ kind, a, b, c };
	list->count++;
}

/* ---- what goes wrong in the tree's code ---- */

static void problem(u64 kind, const char *file, int line, const char *what)
{
	note(&native.problems, kind, (u64)file, line, (u64)what);
}

void sd_warn(const char *file, int line, const char *what)
{
	problem(0, file, line, what);
}

void sd_bug(const char *file, int line, const char *what)
{
	problem(1, file, line, what);
	__builtin_longjmp(native.bug_frame, 1);
}

/* ---- memory: tables lie where the tree's __va and __pa expect them ---- */

void *sd_alloc(unsigned int asked)
{
	unsigned int kind = asked & ~SD_MAY_FAIL;
	void *p = unused[kind];

	if (p)
		unused[kind] = *(void **)p;
	else if (high[kind] < native.tables_max)
		p = (kind ? (char *)SD_BASE + 4096 * high[kind] : headers + HEADER * high[kind]), high[kind]++;
	else
		sd_bug(__FILE__, __LINE__, "no memory for tables is left: give the VM more");
	native.used[kind]++;
	memset(p, 0, kind ? 4096 : sizeof(struct kvm_mmu_page));
#ifdef SD_NONPRESENT
	if (kind)
		for (int i = 0; i < 512; i++)
			((u64 *)p)[i] = SHADOW_NONPRESENT_VALUE;
#endif
	return p;
}

void sd_free(unsigned int kind, void *p)
{
	struct kvm_mmu_page *sp = p;

	if (!p)
		return;
	if (!kind)
		note(&native.freed, sp->role.level, sp->gfn, sp->role.smm, sp->role.invalid);
	native.used[kind]--;
	*(void **)p = unused[kind];
	unused[kind] = p;
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *))
{
	head->func = func;
	head->next = NULL;
	*pending_end = head;
	pending_end = &head->next;
}

void rcu_barrier(void)
{
	struct rcu_head *head;

	while ((head = pending)) {
		pending = head->next;
		if (!pending)
			pending_end = &pending;
		head->func(head);
	}
}

/*
 * ---- the host: gfn n is page n in pages of host_level, writable, unless told otherwise ----
 * What was told is kept by parts of 512 pages, which are looked for by their number.
 */

struct host_page { u64 pfn; u8 level, has_pfn, read_only; };
static struct host_part { u64 key, place; struct host_page page[HOST_PART]; } *host;
static u64 host_used;				/* parts */
static u32 host_place[2 * HOST_PARTS];		/* by a hash of its key: a part's number, from 1 on */

static u32 *place_of(u64 key)
{
	u64 n = key * 0x9e3779b97f4a7c15ull >> 32;

	for (n %= 2 * HOST_PARTS; host_place[n] && host[host_place[n] - 1].key != key; n = (n + 1) % (2 * HOST_PARTS))
		;
	return &host_place[n];
}

static const struct host_page *host_page(u64 gfn)
{
	static const struct host_page usual;
	u32 number = host_used ? *place_of(gfn / HOST_PART) : 0;

	return number ? &host[number - 1].page[gfn % HOST_PART] : &usual;
}

static struct host_page *told_page(u64 gfn)
{
	u32 *place = place_of(gfn / HOST_PART);

	if (!*place) {
		if (host_used == HOST_PARTS)
			sd_bug(__FILE__, __LINE__, "the host is told of too many pages: use fewer");
		host[host_used].key = gfn / HOST_PART;
		host[host_used].place = place - host_place;
		*place = ++host_used;
	}
	return &host[*place - 1].page[gfn % HOST_PART];
}

u64 sd_real_gfn(u64 gfn) { return gfn; }
u64 sd_test_gfn(u64 gfn) { return gfn; }
u64 sd_real_pfn(u64 page) { return page; }

u64 sd_host_pfn(u64 gfn)
{
	const struct host_page *page = host_page(gfn);

	return page->has_pfn ? page->pfn : gfn;
}

unsigned sd_host_level(u64 gfn)
{
	const struct host_page *page = host_page(gfn);

	return sd_level_at(gfn, page->has_pfn ? page->pfn : gfn, page->level ? page->level : native.host_level);
}

bool sd_host_writable(u64 gfn)
{
	return !host_page(gfn)->read_only;
}

void sd_set_host_pfn(u64 gfn, u64 pfn)
{
	struct host_page *page = told_page(gfn);

	page->has_pfn = 1;
	page->pfn = pfn;
}

void sd_set_host_level(u64 gfn, unsigned level)
{
	told_page(gfn)->level = level;
}

void sd_set_host_writable(u64 gfn, bool writable)
{
	if (!writable || host_page(gfn)->read_only)
		told_page(gfn)->read_only = !writable;
}

static void forget_host(void)
{
	u64 n;

	for (n = 0; n < host_used; n++)
		host_place[host[n].place] = 0;
	memset(host, 0, host_used * sizeof(*host));
	host_used = 0;
}

void kvm_set_pfn_dirty(kvm_pfn_t pfn)
{
	(void)pfn;
	native.counters[DIRTY_PFNS]++;
}

void kvm_set_pfn_accessed(kvm_pfn_t pfn)
{
	(void)pfn;
	native.counters[ACCESSED_PFNS]++;
}

/* ---- slots' bitmaps, and users who track writes ---- */

static u64 *bitmaps[SD_SLOTS];
static unsigned long bitmap_words[SD_SLOTS];
static struct { u64 key, users; } tracked[TRACKED];

u64 *sd_dirty_word(const struct kvm_memory_slot *slot, u64 word)
{
	u64 words = (slot->npages + 63) / 64;

	if (bitmap_words[slot->id] < words) {
		/* A slot's pages change only where it is made anew, when its bitmap is clear. */
		if (bitmaps[slot->id])
			munmap(bitmaps[slot->id], 8 * bitmap_words[slot->id]);
		bitmaps[slot->id] = mmap(NULL, 8 * words, 3, 0x22, -1, 0);
		bitmap_words[slot->id] = words;
	}
	return &bitmaps[slot->id][word];
}

u64 sd_next_word(const struct kvm_memory_slot *slot, u64 word)
{
	(void)slot;
	return word;
}

void sd_clear_dirty(const struct kvm_memory_slot *slot)
{
	memset(sd_dirty_word(slot, 0), 0, 8 * ((slot->npages + 63) / 64));
}

/* A few pages are tracked at a time: they are looked for. */
u64 *sd_tracked(const struct kvm_memory_slot *slot, int level, gfn_t gfn)
{
	static u64 none;
	u64 key = (u64)(slot->id + 1) << 56 | (u64)level << 48 | gfn >> KVM_HPAGE_GFN_SHIFT(level);
	int i;

	for (i = 0; i < TRACKED && tracked[i].key; i++)
		if (tracked[i].key == key)
			return &tracked[i].users;
	none = 0;
	return &none;
}

/* Have sd_tracked find the counts of a page. */
void sd_make_tracked(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	int level, i;

	for (level = 1; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		u64 key = (u64)(slot->id + 1) << 56 | (u64)level << 48 | gfn >> KVM_HPAGE_GFN_SHIFT(level);

		for (i = 0; i < TRACKED - 1 && tracked[i].key && tracked[i].key != key; i++)
			;
		if (tracked[i].key != key)
			tracked[i].users = 0;
		tracked[i].key = key;
	}
}

/* ---- vCPUs: none of them is in its guest when somebody asks ---- */

bool sd_request_all(u64 request)
{
	int i;

	native.counters[REQUESTS]++;
	for (i = 0; i < sd->config.vcpus; i++)
		sd->vcpu[i].vcpu.requests |= request;
	return false;
}

static void flush(u64 kind, u64 gfn, u64 count)
{
	note(&native.flushes, kind, gfn, count, 0);
	native.counters[RANGES] += kind;
	native.counters[RANGE_PAGES] += count;
	sd_request_all(SD_REQ_TLB_FLUSH);
}

void kvm_flush_remote_tlbs(struct kvm *kvm)
{
	(void)kvm;
	flush(0, 0, 0);
}

void kvm_flush_remote_tlbs_range(struct kvm *kvm, gfn_t gfn, u64 count)
{
	(void)kvm;
	flush(1, gfn, count);
}

void kvm_flush_remote_tlbs_with_address(struct kvm *kvm, u64 gfn, u64 count)
{
	(void)kvm;
	flush(1, gfn, count);
}

u64 sd_requests(unsigned vcpu) { return sd->vcpu[vcpu].vcpu.requests; }
void sd_make_request(unsigned vcpu, u64 request) { sd->vcpu[vcpu].vcpu.requests |= request; }
void sd_clear_request(unsigned vcpu, u64 request) { sd->vcpu[vcpu].vcpu.requests &= ~request; }
unsigned sd_mode(unsigned vcpu) { return sd->vcpu[vcpu].vcpu.mode; }
void sd_set_mode(unsigned vcpu, unsigned mode) { sd->vcpu[vcpu].vcpu.mode = mode; }
void sd_kick_all(void) { }
void sd_irq_disable(unsigned vcpu) { (void)vcpu; }
void sd_irq_enable(unsigned vcpu) { (void)vcpu; }
unsigned sd_this_cpu(void) { return 0; }
void sd_revoke(u64 pfn) { (void)pfn; }
void sd_forget(u64 first, u64 end) { (void)first; (void)end; }
void sd_protect(u64 gfns) { (void)gfns; }
void sd_may_sleep(bool may) { (void)may; }
void sd_watch(u64 gfns) { (void)gfns; }
void sd_unwatch(u64 gfns) { (void)gfns; }
void sd_harvest(u64 gfns) { (void)gfns; }
void sd_back(u64 gfns) { (void)gfns; }
void sd_mmio_access(u64 gfn) { (void)gfn; }
unsigned sd_choose(unsigned n) { (void)n; return 0; }

u64 sd_enter_guest(unsigned vcpu, u64 root, unsigned level)
{
	(void)vcpu;
	(void)root;
	(void)level;
	return 0;
}

void sd_flush_tlb(unsigned vcpu)
{
	(void)vcpu;
	native.counters[LOCAL_FLUSHES]++;
}

bool need_resched(void)
{
	if (!native.resched_every || ++native.resched_calls < native.resched_every)
		return false;
	native.resched_calls = 0;
	return true;
}

static bool sd_map_tables(unsigned long bytes)
{
	sd_base = (unsigned long)mmap(NULL, bytes, 3, 0x4022, -1, 0);
	return sd_base != -1ul;
}

/* Everything as it was before the first VM, with room for so many tables; false: the host has no memory. */
bool sd_machine_reset(unsigned long tables_max)
{
	int i;

	bool fits = headers && native.tables_max == tables_max;

	if (headers && !fits) {
		munmap((void *)SD_BASE, 4096 * native.tables_max);
		munmap(headers, HEADER * native.tables_max);
		munmap(sd_mem_map, sizeof(struct page) * native.tables_max);
	}
	forget_host();
	memset(&native, 0, sizeof(native));
	memset(&sd_the_vm, 0, sizeof(sd_the_vm));
	memset(high, 0, sizeof(high));
	memset(unused, 0, sizeof(unused));
	memset(tracked, 0, sizeof(tracked));
	for (i = 0; i < SD_SLOTS; i++)
		if (bitmaps[i])
			memset(bitmaps[i], 0, 8 * bitmap_words[i]);
	pending = NULL;
	pending_end = &pending;
	native.tables_max = tables_max;
	if (fits)
		return true;
	/* Readable, writable; private, anonymous, without a reservation. */
	headers = mmap(NULL, HEADER * tables_max, 3, 0x4022, -1, 0);
	sd_mem_map = mmap(NULL, sizeof(struct page) * tables_max, 3, 0x4022, -1, 0);
	if (!host)
		host = mmap(NULL, HOST_PARTS * sizeof(*host), 3, 0x4022, -1, 0);
	return sd_map_tables(4096 * tables_max) && headers != (char *)-1 && host != (void *)-1;
}
