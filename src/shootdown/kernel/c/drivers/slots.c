/* SPDX-License-Identifier: MIT */
/*
 * Stands for __kvm_set_memory_region, kvm_set_memslot and kvm_swap_active_memslots of kvm_main.c, and the look-up of
 * slots. Readers are in an SRCU section or hold slots_lock. To change slots takes slots_lock, with no other lock held;
 * a deleted or moved slot has no page whose writes are tracked. Flushes: sd_flush_shadow_memslot and sd_apply_flags.
 *
 * Each address space has two states that take turns: the one that nobody reads is changed, published, and, when all
 * readers of the other have gone, the change is made there too. The host's addresses are numbered as the gfns are.
 */
#include "driver.h"

struct kvm_memslots *__kvm_memslots(struct kvm *kvm, int as_id)
{
	(void)kvm;
	return &READ_ONCE(sd->active[as_id])->base;
}

struct kvm_memory_slot *__gfn_to_memslot(struct kvm_memslots *slots, gfn_t gfn)
{
	struct sd_memslots *set = container_of(slots, struct sd_memslots, base);
	struct kvm_memory_slot *slot;
	int i;

	for (i = 0; i < SD_SLOTS; i++) {
		slot = set->slot[i];
		if (slot && gfn - slot->base_gfn < slot->npages)
			return slot;
	}
	return NULL;
}

/* A slot by its number, or NULL. */
struct kvm_memory_slot *sd_slot(int as_id, int number)
{
	return container_of(__kvm_memslots(sd_kvm, as_id), struct sd_memslots, base)->slot[number];
}

static struct kvm_memory_slot *new_copy(const struct kvm_memory_slot *of)
{
	struct kvm_memory_slot *copy = sd->copies;

	while (copy->npages)
		copy++;
	*copy = *of;
	return copy;
}

static struct sd_memslots *inactive(int as_id)
{
	return &sd->sets[as_id][sd->active[as_id] == &sd->sets[as_id][0]];
}

/* No notifier is between its start and its end at the moment when the state is published. */
static void swap_active(int as_id)
{
	struct sd_memslots *set = inactive(as_id);
	u64 gen = sd->active[as_id]->base.generation;

	WRITE_ONCE(set->base.generation, gen | SD_UPDATE_IN_PROGRESS);
	for (;;) {
		spin_lock(&sd->mn_invalidate_lock);
		if (!READ_ONCE(sd->mn_active_invalidate_count))
			break;
		spin_unlock(&sd->mn_invalidate_lock);
		cpu_relax();
	}
	WRITE_ONCE(sd->active[as_id], set);
	spin_unlock(&sd->mn_invalidate_lock);
	synchronize_srcu(&sd_kvm->srcu);
	gen += SD_AS;
	if (!(gen & MMIO_SPTE_GEN_MASK & ~(u64)(SD_AS - 1)))
		sd_zap_all_fast();
	WRITE_ONCE(set->base.generation, gen);
}

/* Slot ``number`` is what ``new`` is, in both states. */
static void activate(int as_id, int number, struct kvm_memory_slot *new)
{
	inactive(as_id)->slot[number] = new;
	swap_active(as_id);
	inactive(as_id)->slot[number] = new;
}

static struct kvm_memory_slot *invalidate(struct kvm_memory_slot *old)
{
	struct kvm_memory_slot *invalid = new_copy(old);

	invalid->flags |= SD_SLOT_INVALID;
	inactive(old->as_id)->slot[old->id] = invalid;
	swap_active(old->as_id);
	sd_flush_shadow_memslot(old);
	return invalid;
}

static bool has_bitmap(const struct kvm_memory_slot *slot)
{
	return slot && slot->flags & SD_LOG_DIRTY_PAGES && !sd->config.ring_size;
}

static void prepare(const struct kvm_memory_slot *old, struct kvm_memory_slot *new)
{
	u64 word, pages = new->npages, left;

	if (!has_bitmap(new) || has_bitmap(old) || !sd->config.initially_set)
		return;
	for (word = sd_next_word(new, 0); 64 * word < pages; word = sd_next_word(new, word + 1)) {
		left = pages - 64 * word;
		WRITE_ONCE(*sd_dirty_word(new, word), left >= 64 ? ~0ull : (1ull << left) - 1);
	}
}

static void commit(struct kvm_memory_slot *old, struct kvm_memory_slot *new, bool flags_only)
{
	u32 old_flags = old ? old->flags : 0, new_flags = new ? new->flags : 0;
	int logging = !!(new_flags & SD_LOG_DIRTY_PAGES) - !!(old_flags & SD_LOG_DIRTY_PAGES);

	WRITE_ONCE(sd->nr_dirty_logging, sd->nr_dirty_logging + logging);
	sd_apply_flags(new, old_flags, flags_only);
	if (has_bitmap(old) && !has_bitmap(new))
		sd_clear_dirty(old);
	if (old)
		memset(old, 0, sizeof(*old));
}

/* Of whichever address space. */
struct kvm_memory_slot *sd_find_slot(int number)
{
	struct kvm_memory_slot *slot = sd_slot(0, number);

	return slot ? slot : sd_slot(1, number);
}

static void set_memslot(struct kvm_memory_slot *old, struct kvm_memory_slot *new)
{
	struct kvm_memory_slot *invalid = NULL;
	struct kvm_memory_slot *one = old ? old : new;
	int as_id = one->as_id, id = one->id;
	bool stays = old && new && old->base_gfn == new->base_gfn;

	if (old && !stays)
		invalid = invalidate(old);
	if (new)
		prepare(old, new);
	activate(as_id, id, new);
	if (invalid)
		memset(invalid, 0, sizeof(*invalid));
	commit(old, new, stays);
}

/* 0 pages delete it. Refuses nothing: whoever calls has looked. */
int sd_set_memory_region(int number, int as_id, gfn_t base, u64 pages, u32 flags)
{
	struct kvm_memory_slot *old, *new = NULL, as_asked = {
		.base_gfn = base, .npages = pages, .flags = flags, .id = number, .as_id = as_id };

	mutex_lock(&sd_kvm->slots_lock);
	old = sd_find_slot(number);
	if (pages && (!old || base != old->base_gfn || flags != old->flags))
		new = new_copy(&as_asked);
	if (new || (old && !pages))
		set_memslot(old, new);
	mutex_unlock(&sd_kvm->slots_lock);
	return 0;
}
