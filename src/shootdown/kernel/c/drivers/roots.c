/* SPDX-License-Identifier: MIT */
/*
 * Stands for kvm_mmu_load, kvm_mmu_free_roots, kvm_mmu_free_obsolete_roots, kvm_mmu_new_pgd and kvm_mmu_reset_context
 * of mmu.c: the roots of a vCPU, the one that it runs on and those before. Needs: the vCPU's thread, no lock held; puts
 * roots under mmu_lock (for write in 6.1). Flushes: what this CPU has cached, when a root is loaded.
 */
#include "driver.h"

static struct kvm_mmu_page *sp_of(hpa_t root)
{
	return sptep_to_sp(__va(root));
}

static union kvm_mmu_page_role role_of(hpa_t root)
{
	return (union kvm_mmu_page_role){ .word = READ_ONCE(sp_of(root)->role.word) };
}

enum { CURRENT = 1, ALL = (2 << SD_PREV_ROOTS) - 1 };	/* of a vCPU's roots; previous ones are the bits above */

static void put(hpa_t *root)
{
	struct kvm_mmu_page *sp = sp_of(*root);

	*root = INVALID_PAGE;
#ifdef SD_PUT_ROOT_SHARED
	kvm_tdp_mmu_put_root(sd_kvm, sp, false);
#else
	kvm_tdp_mmu_put_root(sd_kvm, sp);
#endif
}

/* Those of the roots that the mask names and that there are, in one section, the present one last. */
static void free_roots(struct kvm_vcpu *vcpu, unsigned int mask)
{
	hpa_t *root = &vcpu->arch.mmu->root.hpa, *prev = sd_vcpu_of(vcpu)->prev;
	int i;

	if (!VALID_PAGE(*root))
		mask &= ~CURRENT;
	for (i = 0; i < SD_PREV_ROOTS; i++)
		if (!VALID_PAGE(prev[i]))
			mask &= ~(2 << i);
	if (!mask)
		return;
#ifdef SD_PUT_ROOT_SHARED
	write_lock(&sd_kvm->mmu_lock);
#else
	read_lock(&sd_kvm->mmu_lock);
#endif
	for (i = 0; i < SD_PREV_ROOTS; i++)
		if (mask & 2 << i)
			put(&prev[i]);
	if (mask & CURRENT)
		put(root);
#ifdef SD_PUT_ROOT_SHARED
	write_unlock(&sd_kvm->mmu_lock);
#else
	read_unlock(&sd_kvm->mmu_lock);
#endif
}

/* Not 0 if there is no memory for a root, which who explores has little of: mmu_topup_memory_caches. */
int sd_mmu_load(struct kvm_vcpu *vcpu)
{
#ifdef SD_EXPLORE
	if (!sd_tables_left())
		return -ENOMEM;
#endif
#if defined(SD_ALLOC_ROOT_PRIVATE)	/* from 6.14 on */
	kvm_tdp_mmu_alloc_root(vcpu, false);
#elif defined(SD_ALLOC_ROOT)
	kvm_tdp_mmu_alloc_root(vcpu);
#else
	write_lock(&sd_kvm->mmu_lock);
	vcpu->arch.mmu->root.hpa = kvm_tdp_mmu_get_vcpu_root_hpa(vcpu);
	write_unlock(&sd_kvm->mmu_lock);
#endif
	sd_flush_tlb(vcpu->vcpu_id);
	return 0;
}

static bool is_obsolete(hpa_t root)
{
	return VALID_PAGE(root) && role_of(root).invalid;
}

void sd_free_obsolete_roots(struct kvm_vcpu *vcpu)
{
	unsigned int mask = is_obsolete(vcpu->arch.mmu->root.hpa) ? CURRENT : 0;
	int i;

	for (i = 0; i < SD_PREV_ROOTS; i++)
		if (is_obsolete(sd_vcpu_of(vcpu)->prev[i]))
			mask |= 2 << i;
	free_roots(vcpu, mask);
}

void sd_reset_context(struct kvm_vcpu *vcpu, unsigned role)
{
	free_roots(vcpu, ALL);
	vcpu->arch.mmu->root_role = sd_role(role);
}

static bool usable(hpa_t root, union kvm_mmu_page_role role)
{
	return VALID_PAGE(root) && role_of(root).word == role.word;
}

/* The present root becomes the latest of the previous ones; which it then is, if any fits, is the one that fits. */
static bool keep_current(struct kvm_vcpu *vcpu, union kvm_mmu_page_role role)
{
	hpa_t *root = &vcpu->arch.mmu->root.hpa, *prev = sd_vcpu_of(vcpu)->prev, found;
	int i;

	if (usable(*root, role))
		return true;
	for (i = 0; i < SD_PREV_ROOTS; i++) {
		found = prev[i];
		prev[i] = *root;
		*root = found;
		if (usable(found, role))
			return true;
	}
	free_roots(vcpu, CURRENT);
	return false;
}

static bool without_current(hpa_t *root, hpa_t *prev, union kvm_mmu_page_role role)
{
	int i;

	for (i = 0; i < SD_PREV_ROOTS; i++)
		if (usable(prev[i], role))
			break;
	if (i == SD_PREV_ROOTS)
		return false;
	*root = prev[i];
	for (; i < SD_PREV_ROOTS - 1; i++)
		prev[i] = prev[i + 1];
	prev[i] = INVALID_PAGE;
	return true;
}

/* A root of another role, as for a nested guest; false: it gets one when it enters the guest. */
bool sd_new_pgd(struct kvm_vcpu *vcpu, unsigned role)
{
	hpa_t *root = &vcpu->arch.mmu->root.hpa, *prev = sd_vcpu_of(vcpu)->prev;
	union kvm_mmu_page_role new_role = sd_role(role);

	vcpu->arch.mmu->root_role = new_role;
	return VALID_PAGE(*root) ? keep_current(vcpu, new_role) : without_current(root, prev, new_role);
}
