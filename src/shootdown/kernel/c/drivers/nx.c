/* SPDX-License-Identifier: MIT */
/*
 * Stands for track_possible_nx_huge_page and untrack_ (account_huge_nx_page and unaccount_ in 6.1), called with the
 * pages lock or mmu_lock held for write, and for kvm_recover_nx_huge_pages (kvm_recover_nx_lpages in 6.1) of mmu.c.
 * Recovery needs: no lock held; takes SRCU, mmu_lock for write (for read from 6.18 on), RCU. Flushes: inside its RCU
 * section, so that a table is not freed before, and before each yield.
 */
#include "driver.h"

#ifdef SD_NX_LPAGE_DISALLOWED		/* 6.1: the mark is the list's */
#define link lpage_disallowed_link
#define mark lpage_disallowed

void account_huge_nx_page(struct kvm *kvm, struct kvm_mmu_page *sp)
{
	(void)kvm;
	if (sp->mark)
		return;
	sd_kvm->stat.nx_lpage_splits++;
	list_add_tail(&sp->link, &sd->nx_list);
	sp->mark = true;
}

void unaccount_huge_nx_page(struct kvm *kvm, struct kvm_mmu_page *sp)
{
	(void)kvm;
	sd_kvm->stat.nx_lpage_splits--;
	sp->mark = false;
	list_del(&sp->link);
}
#else
#define link possible_nx_huge_page_link
#ifdef SD_NX_TRACK_TYPE
#define TYPE , enum kvm_mmu_type type
#else
#define TYPE
#endif

void track_possible_nx_huge_page(struct kvm *kvm, struct kvm_mmu_page *sp TYPE)
{
	(void)kvm;
	if (!list_empty(&sp->link))
		return;
	sd_kvm->stat.nx_lpage_splits++;
	list_add_tail(&sp->link, &sd->nx_list);
}

void untrack_possible_nx_huge_page(struct kvm *kvm, struct kvm_mmu_page *sp TYPE)
{
	(void)kvm;
	if (list_empty(&sp->link))
		return;
	sd_kvm->stat.nx_lpage_splits--;
	list_del_init(&sp->link);
}

static void unaccount(struct kvm_mmu_page *sp)
{
	sp->nx_huge_page_disallowed = false;
#ifdef SD_NX_TRACK_TYPE
	untrack_possible_nx_huge_page(sd_kvm, sp, KVM_TDP_MMU);
#else
	untrack_possible_nx_huge_page(sd_kvm, sp);
#endif
}

/* A huge page cannot come back in a logged slot. While there is one, the kernel wants each table to have a slot. */
static bool is_logged(struct kvm_mmu_page *sp)
{
	struct kvm_memory_slot *slot;

	if (!READ_ONCE(sd->nr_dirty_logging))
		return false;
	slot = __gfn_to_memslot(__kvm_memslots(sd_kvm, sp->role.smm), sp->gfn);
#ifdef SD_NX_WANTS_SLOT
	WARN_ON_ONCE(!slot);
#endif
	return slot && kvm_slot_dirty_track_enabled(slot);
}
#endif

#ifdef SD_NX_ZAP_POSSIBLE
#define LOCK(l) read_lock(l)
#define UNLOCK(l) read_unlock(l)
#define RESCHED(l) cond_resched_rwlock_read(l)
#else
#define LOCK(l) write_lock(l)
#define UNLOCK(l) write_unlock(l)
#define RESCHED(l) cond_resched_rwlock_write(l)
#endif

static bool recover(struct kvm_mmu_page *sp)
{
#if defined(SD_NX_ZAP_POSSIBLE)
	unaccount(sp);
	spin_unlock(&sd_kvm->arch.tdp_mmu_pages_lock);
	return !is_logged(sp) && kvm_tdp_mmu_zap_possible_nx_huge_page(sd_kvm, sp);
#else
#ifndef SD_NX_LPAGE_DISALLOWED
	if (is_logged(sp)) {
		unaccount(sp);
		return false;
	}
#endif
	return kvm_tdp_mmu_zap_sp(sd_kvm, sp);
#endif
}

/* The oldest table on the list; from 6.18 on with the pages lock held. */
static struct kvm_mmu_page *first(void)
{
#ifdef SD_NX_ZAP_POSSIBLE
	spin_lock(&sd_kvm->arch.tdp_mmu_pages_lock);
	if (list_empty(&sd->nx_list))
		spin_unlock(&sd_kvm->arch.tdp_mmu_pages_lock);
#endif
	return list_empty(&sd->nx_list) ? NULL : list_first_entry(&sd->nx_list, struct kvm_mmu_page, link);
}

/* Up to so many of them; the kernel computes the number from how many there are. */
void sd_recover_nx(u64 tables)
{
	struct kvm_mmu_page *sp;
	bool flush = false;
	int idx;

	idx = srcu_read_lock(&sd_kvm->srcu);
	LOCK(&sd_kvm->mmu_lock);
	rcu_read_lock();
	for (; tables && (sp = first()); tables--) {
		flush |= recover(sp);
		if (!need_resched() && !rwlock_needbreak(&sd_kvm->mmu_lock))
			continue;
		if (flush)
			kvm_flush_remote_tlbs(sd_kvm);
		rcu_read_unlock();
		RESCHED(&sd_kvm->mmu_lock);
		flush = false;
		rcu_read_lock();
	}
	if (flush)
		kvm_flush_remote_tlbs(sd_kvm);
	rcu_read_unlock();
	UNLOCK(&sd_kvm->mmu_lock);
	srcu_read_unlock(&sd_kvm->srcu, idx);
}
