/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_zap_gfn_range, kvm_mmu_zap_all_fast, kvm_mmu_zap_all and kvm_arch_flush_shadow_memslot of mmu.c and
 * x86.c. Needs: SRCU where zap_gfn_range looks at slots; slots_lock for the fast zap and a slot's; nobody runs any
 * more for zap_all; no other lock. Flushes: zap_gfn_range before it drops mmu_lock; the fast zap has every vCPU leave
 * its root, asked for in the write section that makes roots invalid; a slot's own leaves before the lock is dropped;
 * zap_all nobody.
 */
#include "driver.h"

void sd_zap_gfn_range(gfn_t start, gfn_t end)
{
#ifdef SD_ZAP_BLOCKS_ALL
	gfn_t first = 0, last = -1ull;
#else
	gfn_t first = start, last = end;
#endif

	write_lock(&sd_kvm->mmu_lock);
	sd_invalidate_begin(first, last);
	if (kvm_tdp_mmu_zap_leafs(sd_kvm, start, end, false))
#ifdef SD_FLUSH_WITH_ADDRESS
		kvm_flush_remote_tlbs_with_address(sd_kvm, start, end - start);
#else
		kvm_flush_remote_tlbs_range(sd_kvm, start, end - start);
#endif
	sd_invalidate_end();
	write_unlock(&sd_kvm->mmu_lock);
}

static void invalidate_roots(void)
{
#ifdef SD_INVALIDATE_ROOTS_TYPES
	kvm_tdp_mmu_invalidate_roots(sd_kvm, KVM_VALID_ROOTS);
#else
	kvm_tdp_mmu_invalidate_all_roots(sd_kvm);
#endif
	sd_request_all(SD_REQ_FREE_OBSOLETE_ROOTS);
}

static void zap_invalidated_roots(void)
{
#ifdef SD_ZAP_INVALIDATED_SHARED
	kvm_tdp_mmu_zap_invalidated_roots(sd_kvm, true);
#else
	kvm_tdp_mmu_zap_invalidated_roots(sd_kvm);
#endif
}

void sd_zap_all_fast(void)
{
	write_lock(&sd_kvm->mmu_lock);
	invalidate_roots();
	write_unlock(&sd_kvm->mmu_lock);
	zap_invalidated_roots();
}

void sd_zap_all(void)
{
	write_lock(&sd_kvm->mmu_lock);
	kvm_tdp_mmu_zap_all(sd_kvm);
	write_unlock(&sd_kvm->mmu_lock);
}

/* kvm_mmu_notifier_release */
void sd_release(void)
{
	int idx = srcu_read_lock(&sd_kvm->srcu);

	sd_zap_all();
	srcu_read_unlock(&sd_kvm->srcu, idx);
}

void sd_flush_shadow_memslot(struct kvm_memory_slot *slot)
{
#ifdef SD_SLOT_ZAP_CHOICE
	struct kvm_gfn_range range;

	if (!sd->config.slot_zap_all && sd_in_slot(slot, 0, -1ull, true, &range)) {
		write_lock(&sd_kvm->mmu_lock);
		if (kvm_tdp_mmu_unmap_gfn_range(sd_kvm, &range, false))
			kvm_flush_remote_tlbs(sd_kvm);
		write_unlock(&sd_kvm->mmu_lock);
		return;
	}
#endif
	(void)slot;
	sd_zap_all_fast();
}
