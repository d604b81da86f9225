/* SPDX-License-Identifier: MIT */
/*
 * Types, words of the compiler, bits, error numbers and diagnostics, as KVM's page table code names them.
 *
 * With SD_EXPLORE all that an explorer may want to see is a call of a function named sd_...; without, it is what plain C
 * offers. SD_API marks what a library shows to whoever loads it; all else is hidden.
 */
#ifndef SD_BASE_H
#define SD_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8, __u8;
typedef uint16_t u16, __u16;
typedef uint32_t u32, __u32;
typedef unsigned long long u64, __u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef long long s64;
typedef unsigned int gfp_t;
typedef u64 phys_addr_t;

#define SD_API __attribute__((visibility("default")))

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *one, const void *other, size_t size);

#define CONFIG_64BIT 1
#define CONFIG_X86_64 1
/* Assertions are on (#ifdef), but nothing is done otherwise for their sake, as in a distribution (IS_ENABLED). */
#define CONFIG_KVM_PROVE_MMU 0
#define KBUILD_MODNAME "kvm"

/* Notes to the kernel's own tools. */
#define __rcu
#define __user
#define __percpu
#define __iomem
#define __init
#define __exit
#define __read_mostly
#define __ro_after_init
#define __must_check
#define __force
#define __acquires(x)
#define __releases(x)

#define __maybe_unused __attribute__((unused))
#define __always_unused __attribute__((unused))
#define __always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
#define ____cacheline_aligned
#define fallthrough __attribute__((fallthrough))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define unreachable() __builtin_unreachable()

/* What stands at the outermost level and is followed by a semicolon, but means nothing here. */
#define SD_NOTHING struct sd_nothing
#define EXPORT_SYMBOL(x) SD_NOTHING
#define EXPORT_SYMBOL_GPL(x) SD_NOTHING
#define EXPORT_SYMBOL_FOR_KVM_INTERNAL(x) SD_NOTHING
#define module_param(...) SD_NOTHING
#define module_param_named(...) SD_NOTHING
#define MODULE_PARM_DESC(...) SD_NOTHING

#define static_assert(...) SD_ASSERT_(__VA_ARGS__, #__VA_ARGS__, )
#define SD_ASSERT_(holds, text, ...) _Static_assert(holds, text)
#define BUILD_BUG_ON(x) ((void)sizeof((int)(x)))	/* may hold only once the optimiser has looked */
#define BUILD_BUG_ON_MSG(x, text) BUILD_BUG_ON(x)
#define BUILD_BUG_ON_INVALID(x) ((void)sizeof((long)(x)))
#define BUILD_BUG() ((void)0)

/* IS_ENABLED(X): is X defined as 1? The name that 1 makes has a comma in it, which moves the answer to its place. */
#define IS_ENABLED(x) SD_ENABLED_(x)
#define IS_BUILTIN(x) SD_ENABLED_(x)
#define IS_MODULE(x) 0
#define SD_ENABLED_(x) SD_ENABLED2_(SD_ENABLED_IS_##x)
#define SD_ENABLED_IS_1 0,
#define SD_ENABLED2_(comma) SD_ENABLED3_(comma 1, 0)
#define SD_ENABLED3_(skip, answer, ...) answer

#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define min(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ < b_ ? a_ : b_; })
#define max(a, b) ({ __auto_type a_ = (a); __auto_type b_ = (b); a_ > b_ ? a_ : b_; })
#define min_t(t, a, b) min((t)(a), (t)(b))
#define max_t(t, a, b) max((t)(a), (t)(b))
#define clamp(v, low, high) min(max(v, low), high)
#define swap(a, b) do { __auto_type c_ = (a); (a) = (b); (b) = c_; } while (0)
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a) - 1)) == 0)
#define round_down(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define round_up(x, a) ((((x) - 1) | ((__typeof__(x))(a) - 1)) + 1)
#define ALIGN(x, a) round_up(x, a)
#define ALIGN_DOWN(x, a) round_down(x, a)
#define upper_32_bits(x) ((u32)((u64)(x) >> 32))
#define lower_32_bits(x) ((u32)(x))

#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(high, low) ((~0UL >> (63 - (high))) & (~0UL << (low)))
#define GENMASK_ULL(high, low) ((~0ULL >> (63 - (high))) & (~0ULL << (low)))
#define BITS_PER_LONG 64
#define BITS_PER_LONG_LONG 64
#define DECLARE_BITMAP(name, bits) unsigned long name[((bits) + 63) / 64]
#define __ffs(x) ((unsigned long)__builtin_ctzl(x))
#define __fls(x) (63UL - __builtin_clzl(x))
#define hweight64(x) ((unsigned int)__builtin_popcountll(x))
#define is_power_of_2(x) ((x) && !((x) & ((x) - 1)))
#define hweight_long(x) hweight64(x)

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (~(PAGE_SIZE - 1))

#define ENOENT 2
#define EINTR 4
#define EIO 5
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define EINVAL 22
#define ENOSPC 28
#define EOPNOTSUPP 95
#define MAX_ERRNO 4095
#define IS_ERR_VALUE(x) ((unsigned long)(x) >= (unsigned long)-MAX_ERRNO)
#define IS_ERR(p) IS_ERR_VALUE(p)
#define PTR_ERR(p) ((long)(p))
#define ERR_PTR(n) ((void *)(long)(n))

/*
 * Diagnostics. A warning is an answer about the code under test, so each is told, not only the first.
 */
void sd_warn(const char *file, int line, const char *what);
void sd_bug(const char *file, int line, const char *what) __attribute__((noreturn));
#define WARN_ON(x) ({							\
	bool w_ = !!(x);						\
	if (unlikely(w_))						\
		sd_warn(__FILE__, __LINE__, #x);			\
	unlikely(w_); })
#define WARN_ON_ONCE(x) WARN_ON(x)
#define WARN(x, ...) WARN_ON(x)
#define WARN_ONCE(x, ...) WARN_ON(x)
#define BUG() sd_bug(__FILE__, __LINE__, "BUG")
#define BUG_ON(x) do { if (unlikely(x)) sd_bug(__FILE__, __LINE__, #x); } while (0)
#define KVM_BUG_ON(x, kvm) WARN_ON(x)
#define KVM_BUG(x, kvm, ...) WARN_ON(x)
#define KVM_BUG_ON_DATA_CORRUPTION(x, kvm) WARN_ON(x)

#define SD_SAY_(...) do { } while (0)
#define printk SD_SAY_
#define pr_err SD_SAY_
#define pr_warn SD_SAY_
#define pr_info SD_SAY_
#define pr_debug SD_SAY_
#define pr_err_once SD_SAY_
#define pr_warn_once SD_SAY_
#define pr_info_once SD_SAY_
#define pr_err_ratelimited SD_SAY_
#define pr_warn_ratelimited SD_SAY_
#define trace_printk SD_SAY_

/*
 * Accesses of ours that stand for marked ones of the kernel's, but are no steps of their own. They matter only where a
 * build looks for accesses that are not marked.
 */
#if defined(SD_EXPLORE) && defined(__SANITIZE_THREAD__)
u64 sd_peek(const volatile void *p, unsigned int size);
void sd_poke(volatile void *p, u64 value, unsigned int size);
#define SD_PEEK(x) ((__typeof__(x))sd_peek(&(x), sizeof(x)))
#define SD_POKE(x, v) sd_poke(&(x), (u64)(v), sizeof(x))
#else
#define SD_PEEK(x) (x)
#define SD_POKE(x, v) ((void)((x) = (v)))
#endif
#endif
