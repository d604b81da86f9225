/* SPDX-License-Identifier: MIT */
/* What the toy MMU takes from the explorer's hooks, as the shims give it to a kernel's files. */
#ifndef TOY_H
#define TOY_H

#include <stdbool.h>
#include <stddef.h>

#include "hooks.h"

typedef sd_u64 u64;
typedef struct { unsigned owner; } spinlock_t;
typedef struct { int writer; unsigned readers; } rwlock_t;
struct rcu_head { struct rcu_head *next; void (*func)(struct rcu_head *); };
struct kvm;

u64 sd_ld(const volatile void *p, unsigned size);
void sd_st(volatile void *p, u64 value, unsigned size);
u64 sd_xchg(volatile void *p, u64 value, unsigned size);
bool sd_cmpxchg(volatile void *p, u64 *old, u64 value, unsigned size);
u64 sd_fetch_and(volatile void *p, u64 mask);
u64 sd_fetch_or(volatile void *p, u64 mask);
void sd_point_ref(void *count, int by);
void spin_lock(spinlock_t *l);
void spin_unlock(spinlock_t *l);
void read_lock(rwlock_t *l);
void read_unlock(rwlock_t *l);
void write_lock(rwlock_t *l);
void write_unlock(rwlock_t *l);
void rcu_read_lock(void);
void rcu_read_unlock(void);
void call_rcu(struct rcu_head *head, void (*f)(struct rcu_head *));
void rcu_barrier(void);
bool need_resched(void);
int cond_resched_rwlock_read(rwlock_t *l);
int cond_resched_rwlock_write(rwlock_t *l);
void cpu_relax(void);
void sd_lockdep(void *l, int kind, const char *file, int line);
void sd_warn(const char *file, int line, const char *what);
void sd_bug(const char *file, int line, const char *what) __attribute__((noreturn));
void *sd_alloc(unsigned kind);
void sd_free(unsigned kind, void *p);
void kvm_flush_remote_tlbs(struct kvm *kvm);
void kvm_flush_remote_tlbs_range(struct kvm *kvm, u64 gfn, u64 pages);

#define READ_ONCE(x) ((__typeof__(x))sd_ld(&(x), sizeof(x)))
#define WRITE_ONCE(x, v) sd_st(&(x), (u64)(v), sizeof(x))
#define xchg(p, v) ((__typeof__(*(p)))sd_xchg((p), (u64)(v), sizeof(*(p))))
#define try_cmpxchg64(p, o, n) sd_cmpxchg((p), (o), (n), 8)
#define BUG_ON(c) do { if (c) sd_bug(__FILE__, __LINE__, #c); } while (0)
#define WARN_ON(c) ({ bool c_ = (c); if (c_) sd_warn(__FILE__, __LINE__, #c); c_; })

#endif
