/* SPDX-License-Identifier: MIT */
/* vCPUs' modes, requests and interrupts, and the flushes made of them, as mmu/requests.py has it. */
#include "engine.h"

struct kvm;

int vcpu_of(int cpu)
{
	return cpu >= 0 && cpu < (int)E.s.tasks ? E.s.task[cpu].vcpu : -1;
}

int cpu_of(unsigned vcpu)
{
	for (unsigned n = 0; n < E.s.tasks; n++)
		if (E.s.task[n].vcpu == (int)vcpu)
			return n;
	return -1;
}

/* What runs before exploring counts as the last. */
unsigned sd_this_cpu(void)
{
	return E.cur < 0 || E.cur >= SD_CPUS_MAX ? SD_CPUS_MAX - 1 : E.cur;
}

u64 sd_requests(unsigned vcpu)
{
	return load_at(&REST->requests[vcpu], 8, SITE);
}

void sd_make_request(unsigned vcpu, u64 request)
{
	change_at(OR, &REST->requests[vcpu], NULL, request, 8, SITE);
}

void sd_clear_request(unsigned vcpu, u64 request)
{
	change_at(AND, &REST->requests[vcpu], NULL, ~request, 8, SITE);
}

unsigned sd_mode(unsigned vcpu)
{
	return load_at(&REST->mode[vcpu], 8, SITE);
}

/* A store with a barrier behind it: no request is looked at before the mode shows. */
void sd_set_mode(unsigned vcpu, unsigned mode)
{
	change_at(STORE, &REST->mode[vcpu], NULL, mode, 8, SITE);
}

static unsigned exchange_mode(unsigned vcpu, u64 pc)
{
	u64 expected = SD_IN_GUEST_MODE;

	return change_at(CMPXCHG, &REST->mode[vcpu], &expected, SD_EXITING_GUEST_MODE, 8, pc);
}

static void send_ipi(unsigned vcpu, u64 pc)
{
	point(SEND_IPI, (void *)(u64)vcpu, 0, pc);
	if (G->hw[vcpu].flags & IRQ_OFF)
		G->hw[vcpu].flags |= IPI;
	E.sets |= BIT(vcpu);
	record(SEND_IPI, (void *)(u64)vcpu, 0, 0, pc);
}

static bool request_all(u64 request, u64 pc)
{
	u64 kicked = 0;

	for (unsigned v = 0; v < E.s.vcpus; v++) {
		change_at(OR, &REST->requests[v], NULL, request, 8, pc);
		if (exchange_mode(v, pc) != SD_OUTSIDE_GUEST_MODE)
			kicked |= BIT(v);
	}
	for (unsigned v = 0; v < E.s.vcpus; v++)
		if (kicked & BIT(v))
			send_ipi(v, pc);
	for (unsigned v = 0; v < E.s.vcpus; v++)
		if (kicked & BIT(v)) {
			point(WAIT_IPI, (void *)(u64)v, 0, pc);
			record(WAIT_IPI, (void *)(u64)v, 0, 0, pc);
		}
	return kicked != 0;
}

bool sd_request_all(u64 request)
{
	return request_all(request, SITE);
}

void sd_kick_all(void)
{
	for (unsigned v = 0; v < E.s.vcpus; v++)
		if (exchange_mode(v, SITE) == SD_IN_GUEST_MODE)
			send_ipi(v, SITE);
}

void sd_irq_disable(unsigned vcpu)
{
	point(IRQ_DISABLE, (void *)(u64)vcpu, 0, SITE);
	G->hw[vcpu].flags |= IRQ_OFF;
	E.sets |= BIT(vcpu);
	record(IRQ_DISABLE, (void *)(u64)vcpu, 0, 0, SITE);
}

void sd_irq_enable(unsigned vcpu)
{
	point(IRQ_ENABLE, (void *)(u64)vcpu, 0, SITE);
	G->hw[vcpu].flags &= ~(IRQ_OFF | IPI);
	E.sets |= BIT(vcpu);
	record(IRQ_ENABLE, (void *)(u64)vcpu, 0, 0, SITE);
}

void sd_flush_tlb(unsigned vcpu)
{
	struct hw *h = &G->hw[vcpu];

	point(FLUSH, (void *)(u64)vcpu, 0, SITE);
	memset(h->token, 0, h->tokens * sizeof(u64));
	h->tokens = 0;
	h->root = h->level = 0;
	h->flags &= IRQ_OFF | IPI;
	E.sets |= BIT(vcpu);
	record(FLUSH, (void *)(u64)vcpu, 0, 0, SITE);
}

void kvm_flush_remote_tlbs(struct kvm *kvm);
void kvm_flush_remote_tlbs(struct kvm *kvm)
{
	(void)kvm;
	request_all(SD_REQ_TLB_FLUSH, SITE);
}

/* The test's gfns whose real ones lie in a range. */
static u64 gfns_between(u64 first, u64 end)
{
	u64 mask = 0;

	for (unsigned gfn = 0; gfn < SD_GFNS_MAX; gfn++)
		if (sd_real_gfn(gfn) >= first && sd_real_gfn(gfn) < end)
			mask |= BIT(gfn);
	return mask;
}

/* The vCPUs' caches are flushed from outside, one after another in any order, and exactly where it was asked. */
static void ranged(u64 first, u64 pages, u64 pc)
{
	unsigned left = E.s.vcpus;
	u64 todo = BIT(E.s.vcpus) - 1;

	if (!E.s.ranged) {
		request_all(SD_REQ_TLB_FLUSH, pc);
		return;
	}
	for (; todo; left--) {
		unsigned skip = choose(FLUSH_RANGE, left, pc);
		u64 from = todo;

		while (skip--)
			from &= from - 1;
		drain();
		todo &= ~(from & -from);
		flush_range(__builtin_ctzll(from), first, first + pages);
		record(FLUSH_RANGE, (void *)(u64)__builtin_ctzll(from), gfns_between(first, first + pages), 0, pc);
	}
}

void kvm_flush_remote_tlbs_range(struct kvm *kvm, u64 gfn, u64 pages);
void kvm_flush_remote_tlbs_range(struct kvm *kvm, u64 gfn, u64 pages)
{
	(void)kvm;
	ranged(gfn, pages, SITE);
}

void kvm_flush_remote_tlbs_with_address(struct kvm *kvm, u64 gfn, u64 pages);
void kvm_flush_remote_tlbs_with_address(struct kvm *kvm, u64 gfn, u64 pages)
{
	(void)kvm;
	ranged(gfn, pages, SITE);
}

bool kvm_make_all_cpus_request(struct kvm *kvm, unsigned request);
bool kvm_make_all_cpus_request(struct kvm *kvm, unsigned request)
{
	(void)kvm;
	return request_all(BIT(request), SITE);
}
