/* SPDX-License-Identifier: MIT */
/*
 * Pages for tables, and structures that go with them.
 *
 * The machine maps one arena for tables, at SD_BASE (exploring: always there) or at sd_base. SD_PHYS is the physical
 * address that it stands for, and sd_mem_map[n] the structure of its n-th page.
 */
#ifndef SD_MEMORY_H
#define SD_MEMORY_H
#include "sd_base.h"

struct page { unsigned long private; };
struct kmem_cache { int unused; };

#define SD_PHYS 0x100000000UL
#ifdef SD_EXPLORE
#define SD_BASE 0x100000000000UL
#else
extern unsigned long sd_base;
#define SD_BASE sd_base
#endif
extern struct page *sd_mem_map;

#define __pa(p) ((unsigned long)(p) - SD_BASE + SD_PHYS)
#define __va(x) ((void *)((unsigned long)(x) - SD_PHYS + SD_BASE))
#define virt_to_phys(p) __pa(p)
#define phys_to_virt(x) __va(x)
#define pfn_to_page(n) (sd_mem_map + ((unsigned long)(n) - (SD_PHYS >> PAGE_SHIFT)))
#define virt_to_page(p) pfn_to_page(__pa(p) >> PAGE_SHIFT)
#define page_private(p) ((p)->private)
#define set_page_private(p, v) ((void)((p)->private = (v)))

/*
 * SD_HEADER: the structure of a table, all zeros. SD_TABLE: a table, all entries empty (SHADOW_NONPRESENT_VALUE where
 * the tree has that, else zero). The caches that are filled before a fault always have one; with SD_MAY_FAIL the answer
 * may be NULL.
 */
#ifndef SD_MAY_FAIL
#define SD_MAY_FAIL 2u
#endif
enum { SD_HEADER = 0, SD_TABLE = 1 };
void *sd_alloc(unsigned int kind);
void sd_free(unsigned int kind, void *p);

#define GFP_KERNEL 0u
#define GFP_KERNEL_ACCOUNT 0u
#define GFP_ATOMIC 0u
#define GFP_NOWAIT 0u
#define __GFP_ACCOUNT 0u
#define __GFP_ZERO 1u
#define kmem_cache_alloc(cache, flags) sd_alloc(SD_HEADER | SD_MAY_FAIL)
#define kmem_cache_zalloc(cache, flags) sd_alloc(SD_HEADER | SD_MAY_FAIL)
#define kmem_cache_free(cache, p) sd_free(SD_HEADER, p)
#define __get_free_page(flags) ((unsigned long)sd_alloc(SD_TABLE | SD_MAY_FAIL))
#define get_zeroed_page(flags) ((unsigned long)sd_alloc(SD_TABLE | SD_MAY_FAIL))

static inline void free_page(unsigned long address)
{
	if (address)
		sd_free(SD_TABLE, (void *)address);
}

typedef struct { u64 pte; } pte_t;		/* of the host's own tables: bit 0 says writable */
#define pte_huge(p) 0
#define pte_write(p) ((p).pte & 1)
#define pte_pfn(p) ((p).pte >> PAGE_SHIFT)

/* All of the host's pages are plain memory. */
#define pfn_valid(n) true
#define is_zero_pfn(n) ((n) == 0)
#define my_zero_pfn(address) 0UL
#define PageReserved(p) false
#define pat_enabled() true
#define pat_pfn_immune_to_uc_mtrr(n) false
#define e820__mapped_raw_any(start, end, type) 1
#define E820_TYPE_RAM 1
#define kvm_pfn_to_refcounted_page(n) ((struct page *)NULL)
#define is_zone_device_page(p) false
#endif
