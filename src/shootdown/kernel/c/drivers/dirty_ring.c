/* SPDX-License-Identifier: MIT */
/*
 * Stands for mark_page_dirty_in_slot (kvm_main.c) and dirty_ring.c: pages that a vCPU dirtied, in its ring or in the
 * slot's bitmap. Marking needs: SRCU, and a vCPU's thread for a ring. Resetting takes slots_lock, and mmu_lock for
 * write. Flushes: resetting, once, outside of all locks, if there was an entry.
 */
#include "driver.h"

static bool soft_full(struct sd_vcpu *mine)
{
	return READ_ONCE(mine->ring_pushed) - READ_ONCE(mine->ring_reset) >= (u32)sd->config.ring_soft_limit;
}

static void push(struct kvm_vcpu *vcpu, u64 place)
{
	struct sd_vcpu *mine = sd_vcpu_of(vcpu);
	struct sd_ring_entry *entry = &mine->ring[mine->ring_pushed % sd->config.ring_size];

	WARN_ON(mine->ring_pushed - READ_ONCE(mine->ring_reset) >= (u32)sd->config.ring_size);
	WRITE_ONCE(entry->place, place);
	WRITE_ONCE(entry->flags, SD_ENTRY_DIRTY);
	WRITE_ONCE(mine->ring_pushed, mine->ring_pushed + 1);
#ifdef SD_RING_FULL_BY_REQUEST
	if (soft_full(mine))
		sd_make_request(vcpu->vcpu_id, SD_REQ_DIRTY_RING_SOFT_FULL);
#endif
}

void mark_page_dirty_in_slot(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct kvm_vcpu *vcpu = sd->running[sd_this_cpu()];
	u64 offset;

	(void)kvm;
	if (!slot || !kvm_slot_dirty_track_enabled(slot))
		return;
	offset = gfn - slot->base_gfn;
	if (sd->config.ring_size && vcpu)
		push(vcpu, (u64)slot->id << 32 | offset);
	else if (!sd->config.ring_size)
		sd_fetch_or(sd_dirty_word(slot, offset / 64), 1ull << offset % 64);
}

/* Must the vCPU leave to user space, which has a ring to read, rather than enter the guest? */
bool sd_ring_full(struct kvm_vcpu *vcpu, u64 requests)
{
	if (!sd->config.ring_size)
		return false;
#ifdef SD_RING_FULL_BY_REQUEST
	if (!(requests & SD_REQ_DIRTY_RING_SOFT_FULL))
		return false;
	sd_clear_request(vcpu->vcpu_id, SD_REQ_DIRTY_RING_SOFT_FULL);
	if (!soft_full(sd_vcpu_of(vcpu)))
		return false;
	sd_make_request(vcpu->vcpu_id, SD_REQ_DIRTY_RING_SOFT_FULL);
	return true;
#else
	(void)requests;
	return soft_full(sd_vcpu_of(vcpu));
#endif
}

/* What user space does: the index-th entry ever pushed, slot << 32 | offset, given back; -1 if there is none yet. */
s64 sd_ring_harvest(int vcpu, u32 index)
{
	struct sd_ring_entry *entry = &sd->vcpu[vcpu].ring[index % sd->config.ring_size];

	if (READ_ONCE(entry->flags) != SD_ENTRY_DIRTY)
		return -1;
	WRITE_ONCE(entry->flags, SD_ENTRY_RESET);
	return entry->place;
}

/* The gfn that an entry is about, or that it was about when its slot has gone. */
gfn_t sd_slot_at_place(u64 place)
{
	struct kvm_memory_slot *slot = sd_find_slot(place >> 32);

	return (slot ? slot->base_gfn : 0) + (place & 0xffffffff);
}

static void reset_gfns(u64 place, u64 mask)
{
	struct kvm_memory_slot *slot = mask ? sd_find_slot(place >> 32) : NULL;
	u64 offset = place & 0xffffffff;

	if (!slot || offset + 63 - __builtin_clzll(mask) >= slot->npages)
		return;
	write_lock(&sd_kvm->mmu_lock);
	sd_enable_log_masked(slot, offset, mask);
	write_unlock(&sd_kvm->mmu_lock);
}

/* One ring: entries that lie close together, up or down, go into one mask. */
static int reset_ring(struct sd_vcpu *mine)
{
	u64 place = 0, next, mask = 0;
	int count = 0;

	for (;;) {
		struct sd_ring_entry *entry = &mine->ring[mine->ring_reset % sd->config.ring_size];
		s64 delta;

		if (READ_ONCE(entry->flags) != SD_ENTRY_RESET)
			break;
		next = READ_ONCE(entry->place);
		WRITE_ONCE(entry->flags, 0);
		WRITE_ONCE(mine->ring_reset, mine->ring_reset + 1);
		count++;
		delta = next - place;
		if (mask && next >> 32 == place >> 32 && delta >= 0 && delta < 64) {
			mask |= 1ull << delta;
			continue;
		}
		if (mask && next >> 32 == place >> 32 && delta < 0 && delta > -64 && mask << -delta >> -delta == mask) {
			mask = mask << -delta | 1;
			place = next;
			continue;
		}
		reset_gfns(place, mask);
		place = next;
		mask = 1;
	}
	reset_gfns(place, mask);
	return count;
}

int sd_reset_rings(void)
{
	int i, count = 0;

	mutex_lock(&sd_kvm->slots_lock);
	for (i = 0; i < sd->config.vcpus; i++)
		count += reset_ring(&sd->vcpu[i]);
	mutex_unlock(&sd_kvm->slots_lock);
	if (count)
		kvm_flush_remote_tlbs(sd_kvm);
	return count;
}
