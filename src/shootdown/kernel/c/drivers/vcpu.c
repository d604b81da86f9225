/* SPDX-License-Identifier: MIT */
/*
 * Stands for vcpu_enter_guest and kvm_vcpu_exit_request of x86.c: a vCPU serves requests, enters the guest, serves its
 * fault. Needs: the vCPU's thread, no lock held. Flushes: what others asked for, before the guest is entered.
 *
 * Requests are looked at again after the mode says that the guest runs: one made later sees the mode and interrupts.
 */
#include "driver.h"

static void serve_requests(struct kvm_vcpu *vcpu, u64 requests)
{
	unsigned int id = vcpu->vcpu_id;

	if (requests & SD_REQ_FREE_OBSOLETE_ROOTS) {
		sd_clear_request(id, SD_REQ_FREE_OBSOLETE_ROOTS);
		sd_free_obsolete_roots(vcpu);
	}
	if (requests & SD_REQ_TLB_FLUSH) {
		sd_clear_request(id, SD_REQ_TLB_FLUSH);
		sd_flush_tlb(id);
	}
	if (requests & SD_REQ_UPDATE_CPU_DIRTY_LOGGING)
		sd_clear_request(id, SD_REQ_UPDATE_CPU_DIRTY_LOGGING);
}

/* Its fault as hooks.h has it, or 0; stays out of the guest if there is a ring to be read, or no memory for a root. */
u64 sd_vcpu_enter_guest(struct kvm_vcpu *vcpu)
{
	unsigned int id = vcpu->vcpu_id;
	u64 requests = sd_requests(id), fault = 0;

	if (sd_ring_full(vcpu, requests))
		return 0;
	if (requests)
		serve_requests(vcpu, requests);
	if (!VALID_PAGE(vcpu->arch.mmu->root.hpa) && sd_mmu_load(vcpu))
		return 0;
	sd_irq_disable(id);
	sd_set_mode(id, SD_IN_GUEST_MODE);
	if (sd_mode(id) != SD_EXITING_GUEST_MODE && !sd_requests(id))
		fault = sd_enter_guest(id, vcpu->arch.mmu->root.hpa, vcpu->arch.mmu->root_role.level);
	sd_set_mode(id, SD_OUTSIDE_GUEST_MODE);
	sd_irq_enable(id);
	return fault;
}

/* One round of the vCPU's thread. */
void sd_vcpu_run(struct kvm_vcpu *vcpu)
{
	u64 fault;

	sd_vcpu_load(vcpu);
	fault = sd_vcpu_enter_guest(vcpu);
	if (fault)
		sd_page_fault(vcpu, sd_real_gfn(sd_fault_gfn(fault)), sd_fault_code(fault));
	sd_vcpu_put();
}
