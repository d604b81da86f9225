/* SPDX-License-Identifier: MIT */
/*
 * Stands for handle_mmio_page_fault, get_mmio_spte and check_mmio_spte of mmu.c: a fault at an entry that is there only
 * to fault. Needs: SRCU, the vCPU's thread; enters RCU. Flushes: nothing. The vCPU's own cache of the last such address
 * is left out: it would only hide what the tables say.
 */
#include "driver.h"

/* Slots of the other address space are not promised anything. */
void sd_passes_for_mmio(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	if (!vcpu->arch.mmu->root_role.smm)
		sd_mmio_access(sd_test_gfn(gfn));
}

int sd_handle_mmio_fault(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	u64 sptes[PT64_ROOT_MAX_LEVEL + 1], spte, gen;
	int leaf, root_level;

	kvm_tdp_mmu_walk_lockless_begin();
	leaf = kvm_tdp_mmu_get_walk(vcpu, gfn << PAGE_SHIFT, sptes, &root_level);
	kvm_tdp_mmu_walk_lockless_end();
	spte = leaf < 0 ? 0 : sptes[leaf];
#ifdef SD_IS_MMIO_KVM
	if (!is_mmio_spte(vcpu->kvm, spte))
		return RET_PF_RETRY;
#else
	if (!is_mmio_spte(spte))
		return RET_PF_RETRY;
#endif
	gen = READ_ONCE(kvm_vcpu_memslots(vcpu)->generation);
	if (gen & SD_UPDATE_IN_PROGRESS || (gen & MMIO_SPTE_GEN_MASK) != get_mmio_spte_generation(spte))
		return RET_PF_INVALID;
	sd_passes_for_mmio(vcpu, gfn);
	return RET_PF_EMULATE;
}
