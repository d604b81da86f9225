/* SPDX-License-Identifier: MIT */
/*
 * What KVM's page table code uses of KVM's own structures, in our order: only members that the code built here names.
 *
 * Every file of a library is compiled against these, so that their layout does not matter. What a tree says itself
 * (tables, faults, iterators, entries) is never here. The build passes the switches that say which tree it is.
 */
#ifndef SD_KVM_H
#define SD_KVM_H
#include "sd_base.h"
#include "sd_shared.h"
#include "sd_list.h"
#include "sd_memory.h"
#include "sd_trace.h"
#include "sd_cpu.h"

typedef u64 gpa_t, gfn_t, hpa_t, hfn_t, kvm_pfn_t;
typedef unsigned long gva_t, hva_t;

enum pg_level { PG_LEVEL_NONE, PG_LEVEL_4K, PG_LEVEL_2M, PG_LEVEL_1G, PG_LEVEL_512G, PG_LEVEL_256T, PG_LEVEL_NUM };

#define KVM_MAX_HUGEPAGE_LEVEL PG_LEVEL_1G
#define KVM_NR_PAGE_SIZES 3
#define KVM_HPAGE_GFN_SHIFT(level) (((level) - 1) * 9)
#define KVM_HPAGE_SHIFT(level) (PAGE_SHIFT + KVM_HPAGE_GFN_SHIFT(level))
#define KVM_HPAGE_SIZE(level) (1UL << KVM_HPAGE_SHIFT(level))
#define KVM_HPAGE_MASK(level) (~(KVM_HPAGE_SIZE(level) - 1))
#define KVM_PAGES_PER_HPAGE(level) (1UL << KVM_HPAGE_GFN_SHIFT(level))
#define PT64_ROOT_MAX_LEVEL 5

/* Addresses that are none. Bits 62 and 63 of a page's number say that there is no page. */
#define INVALID_PAGE (~(hpa_t)0)
#define INVALID_GPA (~(gpa_t)0)
#define VALID_PAGE(x) ((x) != INVALID_PAGE)
#define KVM_HVA_ERR_BAD PAGE_MASK
#define KVM_PFN_ERR_MASK (0x7ffULL << 52)
#define KVM_PFN_ERR_FAULT KVM_PFN_ERR_MASK
#define KVM_PFN_NOSLOT (1ULL << 63)
#define is_error_pfn(n) (((n) & KVM_PFN_ERR_MASK) != 0)
#define is_noslot_pfn(n) ((n) == KVM_PFN_NOSLOT)
#define is_error_noslot_pfn(n) (((n) & (KVM_PFN_ERR_MASK | KVM_PFN_NOSLOT)) != 0)
#define pfn_to_hpa(n) ((hpa_t)(n) << PAGE_SHIFT)
#define gfn_to_gpa(n) ((gpa_t)(n) << PAGE_SHIFT)
#define gpa_to_gfn(a) ((gfn_t)(a) >> PAGE_SHIFT)

/* What a fault tells: the low bits are the CPU's, the high ones KVM's. */
#define PFERR_PRESENT_MASK BIT(0)
#define PFERR_WRITE_MASK BIT(1)
#define PFERR_USER_MASK BIT(2)
#define PFERR_RSVD_BIT 3
#define PFERR_RSVD_MASK BIT(3)
#define PFERR_FETCH_MASK BIT(4)
#define PFERR_PK_MASK BIT(5)
#define PFERR_SS_MASK BIT(6)
#define PFERR_GUEST_FINAL_MASK BIT_ULL(32)
#define PFERR_GUEST_PAGE_MASK BIT_ULL(33)
#define PFERR_IMPLICIT_ACCESS BIT_ULL(48)
#define PFERR_PRIVATE_ACCESS BIT_ULL(49)
#define EMULTYPE_WRITE_PF_TO_SP BIT(8)

#define KVM_MEM_LOG_DIRTY_PAGES 1u
#define KVM_MEM_READONLY 2u
#define KVM_X86_TDX_VM 5

enum kvm_mmu_type { KVM_SHADOW_MMU, KVM_TDP_MMU, KVM_NR_MMU_TYPES };	/* 6.18 */

/* Requests, as bits of struct kvm_vcpu's requests. */
#define KVM_REQ_TLB_FLUSH 0
#define KVM_REQ_MMU_FREE_OBSOLETE_ROOTS 1
#define KVM_REQ_OUTSIDE_GUEST_MODE 2

union kvm_mmu_page_role {
	u32 word;
	struct {
		u32 level:4, has_4_byte_gpte:1, quadrant:2, direct:1;
		u32 access:3, invalid:1, efer_nx:1, cr0_wp:1, smep_andnot_wp:1, smap_andnot_wp:1;
		u32 ad_disabled:1, guest_mode:1, passthrough:1, is_mirror:1, :4;
		u32 smm:8;
	};
};

struct x86_exception;
struct kvm;
struct kvm_vcpu;
struct kvm_mmu_page;
struct kvm_page_fault;

struct kvm_rmap_head { unsigned long val; };
struct rsvd_bits_validate { u64 rsvd_bits_mask[2][PT64_ROOT_MAX_LEVEL]; u64 bad_mt_xwr; };
struct kvm_mmu_memory_cache { unsigned int kind; };	/* SD_HEADER or SD_TABLE */
struct kvm_mmu_root_info { gpa_t pgd; hpa_t hpa; };
struct kvm_memslots { u64 generation; };

struct kvm_memory_slot {
	gfn_t base_gfn;
	unsigned long npages;
	u32 flags;
	short id;
	u16 as_id;
};

enum kvm_gfn_range_filter { KVM_FILTER_SHARED = BIT(0), KVM_FILTER_PRIVATE = BIT(1) };

struct kvm_gfn_range {
	struct kvm_memory_slot *slot;
	gfn_t start, end;
	pte_t pte;				/* 6.1 */
	union { pte_t pte; u64 attributes; } arg;
	enum kvm_gfn_range_filter attr_filter;	/* 6.13 */
	bool may_block, lockless;
};

struct kvm_mmu {
	int (*page_fault)(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
	struct kvm_mmu_root_info root;
	hpa_t mirror_root_hpa;
	union kvm_mmu_page_role root_role;
	u32 pkru_mask;
	u16 permissions[16];
	struct rsvd_bits_validate shadow_zero_check;
};

struct kvm_arch {
	bool tdp_mmu_enabled, disable_nx_huge_pages, shadow_root_allocated;
	bool has_private_mem, has_protected_state, pre_fault_allowed, has_mapped_host_mmio;
	int vm_type, cpu_dirty_log_size;
	u8 mmu_valid_gen;
	unsigned int n_used_mmu_pages;
	u64 shadow_mmio_value, gfn_direct_bits;
	struct list_head tdp_mmu_roots;
#ifdef SD_PAGES_ATOMIC
	atomic64_t tdp_mmu_pages;
#else
	struct list_head tdp_mmu_pages;
#endif
	spinlock_t tdp_mmu_pages_lock;
};

struct kvm {
	rwlock_t mmu_lock;
	struct mutex slots_lock;
	struct srcu_struct srcu;
	refcount_t users_count;
	int created_vcpus;
	long mmu_invalidate_in_progress;
	unsigned long mmu_invalidate_seq;
	gfn_t mmu_invalidate_range_start, mmu_invalidate_range_end;
	struct { atomic64_t pages[KVM_NR_PAGE_SIZES]; u64 nx_lpage_splits; } stat;
	struct kvm_arch arch;
};

struct kvm_vcpu {
	struct kvm *kvm;
	int vcpu_id, mode;
	u64 requests;
	struct {
		struct kvm_mmu *mmu, root_mmu, guest_mmu, nested_mmu;
		struct kvm_mmu_memory_cache mmu_page_header_cache, mmu_shadow_page_cache, mmu_external_spt_cache;
		unsigned long cr3;
		u32 pkru;
	} arch;
	struct { u64 pf_taken, pf_fixed, pf_emulate, pf_spurious, pf_fast, pf_mmio_spte_created; } stat;
};

/* ---- facts of the host: shims/sd_facts.c ---- */
struct kvm_x86_ops {
	int cpu_dirty_log_size;			/* pages that the CPU logs by itself; 0: none */
	u8 (*get_mt_mask)(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio);	/* NULL with NPT */
	int (*remove_external_spte)(struct kvm *kvm, gfn_t gfn, enum pg_level level, kvm_pfn_t pfn);
};
struct kvm_host_values { int maxphyaddr; };
extern struct kvm_x86_ops kvm_x86_ops;
extern struct kvm_host_values kvm_host;
u8 sd_ept_mt_mask(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio);	/* for get_mt_mask, with EPT */
extern bool tdp_enabled;

/* ---- what drivers and machines supply ---- */
void kvm_flush_remote_tlbs(struct kvm *kvm);
void kvm_flush_remote_tlbs_range(struct kvm *kvm, gfn_t gfn, u64 pages);
void kvm_flush_remote_tlbs_memslot(struct kvm *kvm, const struct kvm_memory_slot *slot);
bool kvm_make_all_cpus_request(struct kvm *kvm, unsigned int request);
void kvm_set_pfn_dirty(kvm_pfn_t pfn);
void kvm_set_pfn_accessed(kvm_pfn_t pfn);
void mark_page_dirty_in_slot(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn);
struct kvm_memslots *__kvm_memslots(struct kvm *kvm, int as_id);
struct kvm_memory_slot *__gfn_to_memslot(struct kvm_memslots *slots, gfn_t gfn);

static inline void *kvm_mmu_memory_cache_alloc(struct kvm_mmu_memory_cache *cache)
{
	return sd_alloc(cache->kind);
}

#define kvm_arch_vcpu_memslots_id(vcpu) ((vcpu)->arch.mmu->root_role.smm)
#define kvm_vcpu_memslots(vcpu) __kvm_memslots((vcpu)->kvm, kvm_arch_vcpu_memslots_id(vcpu))
#define kvm_vcpu_gfn_to_memslot(vcpu, gfn) __gfn_to_memslot(kvm_vcpu_memslots(vcpu), gfn)
#define kvm_slot_dirty_track_enabled(slot) (((slot)->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0)
#define kvm_account_pgtable_pages(p, n) ((void)0)
#define kvm_prepare_memory_fault_exit(...) ((void)0)
#define kvm_check_request(request, vcpu) ((bool)(sd_fetch_and(&(vcpu)->requests, ~BIT_ULL(request)) >> (request) & 1))
#define kvm_make_request(request, vcpu) ((void)sd_fetch_or(&(vcpu)->requests, BIT_ULL(request)))

/* ---- calls into the vendor's module: one name, whichever way it is spelt ---- */
#define kvm_x86_call(op) sd_op_##op
#define static_call(op) SD_STATIC_CALL_(op)
#define static_call_cond(op) SD_STATIC_CALL_(op)
#define SD_STATIC_CALL_(op) sd_static_##op
#define sd_static_kvm_x86_get_mt_mask sd_op_get_mt_mask
#define sd_static_kvm_x86_get_rflags sd_op_get_rflags
#define sd_static_kvm_x86_load_mmu_pgd sd_op_load_mmu_pgd
#define sd_static_kvm_x86_link_external_spt sd_op_link_external_spt
#define sd_static_kvm_x86_set_external_spte sd_op_set_external_spte
#define sd_static_kvm_x86_free_external_spt sd_op_free_external_spt
#define sd_static_kvm_x86_remove_external_spte sd_op_remove_external_spte
#define sd_op_get_mt_mask(vcpu, gfn, mmio) (kvm_x86_ops.get_mt_mask ? kvm_x86_ops.get_mt_mask(vcpu, gfn, mmio) : 0)
#define sd_op_get_rflags(vcpu) 0UL
#define sd_op_load_mmu_pgd(vcpu, root, level) ((void)0)
/* No VM here has a second set of tables that firmware keeps. */
static inline int sd_external_(const char *what)
{
	sd_warn(__FILE__, __LINE__, what);
	return -EIO;
}
#define sd_op_link_external_spt(...) sd_external_("link_external_spt")
#define sd_op_set_external_spte(...) sd_external_("set_external_spte")
#define sd_op_free_external_spt(...) sd_external_("free_external_spt")
#define sd_op_remove_external_spte(...) sd_external_("remove_external_spte")

/* ---- what three headers of KVM would say, which are left out: kvm_cache_regs.h, x86.h, cpuid.h ---- */
#define kvm_read_cr3(vcpu) ((vcpu)->arch.cr3)
#define kvm_read_cr4_bits(vcpu, bits) 0UL
#define kvm_is_cr4_bit_set(vcpu, bit) false
#define guest_cpu_cap_has(vcpu, feature) false
#define guest_can_use(vcpu, feature) false
#define static_branch_unlikely(key) false
#define static_branch_likely(key) false
#endif
