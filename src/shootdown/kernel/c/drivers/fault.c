/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_page_fault, kvm_tdp_mmu_page_fault (direct_page_fault in 6.1), kvm_faultin_pfn and
 * is_page_fault_stale of mmu.c. Needs: a root, no lock held, the caller is the vCPU's thread. Takes SRCU, then mmu_lock
 * for read. Flushes: kvm_tdp_mmu_map itself, where it must.
 *
 * The sequence is read before the host's page: what is mapped was true at some moment since. A write has the host make
 * a page its own first, in place. A page in no slot is never memory; one that the host has not just now is waited for.
 */
#include "driver.h"

static bool is_stale(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	struct kvm_mmu_page *root = sptep_to_sp(__va(vcpu->arch.mmu->root.hpa));

	if (root->role.invalid)
		return true;
	return fault->slot && sd_is_retry(fault->gfn, fault->mmu_seq, true);
}

static int no_slot(struct kvm_page_fault *fault)
{
	fault->map_writable = false;
	fault->pfn = KVM_PFN_NOSLOT;
	fault->slot = NULL;
	if (!enable_mmio_caching || fault->gfn > kvm_mmu_max_gfn())
		return RET_PF_EMULATE;
	return RET_PF_CONTINUE;
}

static int faultin_pfn(struct kvm_page_fault *fault)
{
	u64 pfn;

	fault->mmu_seq = READ_ONCE(sd_kvm->mmu_invalidate_seq);
	smp_rmb();
	if (!fault->slot)
		return no_slot(fault);
	if (fault->slot->flags & SD_SLOT_INVALID)
		return RET_PF_RETRY;
#ifdef SD_FAULT_CHECK_EARLY
	if (sd_is_retry(fault->gfn, fault->mmu_seq, false))
		return RET_PF_RETRY;
#endif
	if (fault->write && fault->slot->flags & SD_READONLY)
		return RET_PF_EMULATE;
	pfn = sd_host_pfn(sd_test_gfn(fault->gfn));
	if (pfn == SD_NO_PFN)
		return RET_PF_RETRY;
	fault->pfn = pfn;
	if (!(fault->slot->flags & SD_READONLY)) {
		fault->map_writable = sd_host_writable(sd_test_gfn(fault->gfn));
		if (fault->write && !fault->map_writable) {
			sd_set_host_writable(sd_test_gfn(fault->gfn), true);
			fault->map_writable = true;
		}
	}
#ifdef SD_FAULT_CHECK_EARLY
	if (sd_is_retry(fault->gfn, fault->mmu_seq, false))
		return RET_PF_RETRY;
#endif
	return RET_PF_CONTINUE;
}

static int refused(void)
{
#ifdef SD_RET_WRITE_PROTECTED
	return RET_PF_WRITE_PROTECTED;
#else
	return RET_PF_EMULATE;
#endif
}

/* mmu_topup_memory_caches: what the map takes later cannot fail. Who explores has few tables: are there enough? */
static bool topup(struct kvm_vcpu *vcpu)
{
#ifdef SD_EXPLORE
	return sd_tables_left() + 1 >= (unsigned)vcpu->arch.mmu->root_role.level;
#else
	return vcpu;
#endif
}

int kvm_tdp_page_fault(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	int r;

#ifndef SD_FAULT_HAS_SLOT
	fault->gfn = fault->addr >> PAGE_SHIFT;
	fault->slot = kvm_vcpu_gfn_to_memslot(vcpu, fault->gfn);
#endif
	if (!fault->rsvd && fault->present && fault->write && sd_is_tracked(fault->slot, fault->gfn))
		return refused();
	r = sd_fast_page_fault(vcpu, fault);
	if (r != RET_PF_INVALID)
		return r;
	if (!topup(vcpu))
		return RET_PF_RETRY;
	r = faultin_pfn(fault);
	if (r == RET_PF_CONTINUE) {
		read_lock(&sd_kvm->mmu_lock);
		r = is_stale(vcpu, fault) ? RET_PF_RETRY : kvm_tdp_mmu_map(vcpu, fault);
		if (r == RET_PF_EMULATE && !fault->slot)
			sd_passes_for_mmio(vcpu, fault->gfn);
		read_unlock(&sd_kvm->mmu_lock);
	}
	return r;
}

/* One number for a result, whatever the tree's is. */
static s64 result(int r)
{
	switch (r) {
	case RET_PF_CONTINUE:	return SD_PF_CONTINUE;
	case RET_PF_RETRY:	return SD_PF_RETRY;
	case RET_PF_EMULATE:	return SD_PF_EMULATE;
	case RET_PF_INVALID:	return SD_PF_INVALID;
	case RET_PF_FIXED:	return SD_PF_FIXED;
	case RET_PF_SPURIOUS:	return SD_PF_SPURIOUS;
#ifdef SD_RET_WRITE_PROTECTED
	case RET_PF_WRITE_PROTECTED: return SD_PF_WRITE_PROTECTED;
#endif
	}
	return r;
}

static s64 serve(struct kvm_vcpu *vcpu, gfn_t gfn, u64 code, bool prefetch)
{
	int r = RET_PF_INVALID, idx;

	idx = srcu_read_lock(&sd_kvm->srcu);
	if (code & PFERR_RSVD_MASK)
		r = sd_handle_mmio_fault(vcpu, gfn);
	if (r == RET_PF_INVALID) {
#ifdef SD_DO_FAULT_LEVEL
		r = kvm_mmu_do_page_fault(vcpu, gfn << PAGE_SHIFT, code, prefetch, NULL, NULL);
#else
		r = kvm_mmu_do_page_fault(vcpu, gfn << PAGE_SHIFT, code, prefetch, NULL);
#endif
	}
	srcu_read_unlock(&sd_kvm->srcu, idx);
	return result(r);
}

s64 sd_page_fault(struct kvm_vcpu *vcpu, gfn_t gfn, u64 code)
{
	return serve(vcpu, gfn, code, false);
}

s64 sd_prefetch(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return serve(vcpu, gfn, 0, true);
}
