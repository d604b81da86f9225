/* SPDX-License-Identifier: MIT */
/*
 * Memory that CPUs share: marked accesses, atomics, reference counts, locks, RCU, and leave to run on.
 *
 * With SD_EXPLORE a machine that explores supplies the functions declared here; each may hand over to another CPU before
 * it acts. Without, accesses are the compiler's own, and there is one CPU, so that locks are nothing; RCU's callbacks
 * are the machine's.
 */
#ifndef SD_SHARED_H
#define SD_SHARED_H
#include "sd_base.h"

typedef struct { int counter; } atomic_t;
typedef struct { s64 counter; } atomic64_t;
typedef atomic64_t atomic_long_t;
typedef struct { int refs; } refcount_t;

/* ---- marked accesses ---- */
#ifdef SD_EXPLORE
u64 sd_ld(const volatile void *p, unsigned int size);
void sd_st(volatile void *p, u64 value, unsigned int size);
u64 sd_xchg(volatile void *p, u64 value, unsigned int size);
bool sd_cmpxchg(volatile void *p, u64 *old, u64 value, unsigned int size);	/* if not, *old is what is there */
u64 sd_fetch_and(volatile void *p, u64 mask);
u64 sd_fetch_or(volatile void *p, u64 mask);
#define READ_ONCE(x) ((__typeof__(x))sd_ld(&(x), sizeof(x)))
#define WRITE_ONCE(x, v) sd_st(&(x), (u64)(v), sizeof(x))
#define xchg(p, v) ((__typeof__(*(p)))sd_xchg((p), (u64)(v), sizeof(*(p))))
#define try_cmpxchg(p, old, v) ({					\
	u64 o_ = (u64)*(old);						\
	bool done_ = sd_cmpxchg((p), &o_, (u64)(v), sizeof(*(p)));	\
	if (!done_)							\
		*(old) = (__typeof__(*(old)))o_;			\
	done_; })
#else
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) ((void)(*(volatile __typeof__(x) *)&(x) = (v)))
#define xchg(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define try_cmpxchg(p, old, v) \
	__atomic_compare_exchange_n((p), (old), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#define sd_fetch_and(p, mask) __atomic_fetch_and((u64 *)(p), (mask), __ATOMIC_SEQ_CST)
#define sd_fetch_or(p, mask) __atomic_fetch_or((u64 *)(p), (mask), __ATOMIC_SEQ_CST)
#endif
#define try_cmpxchg64(p, old, v) try_cmpxchg(p, old, v)
#define cmpxchg(p, old, v) ({						\
	__typeof__(*(p)) was_ = (old);					\
	(void)try_cmpxchg(p, &was_, v);					\
	was_; })
#define cmpxchg64(p, old, v) cmpxchg(p, old, v)
#define smp_load_acquire(p) READ_ONCE(*(p))
#define smp_store_release(p, v) WRITE_ONCE(*(p), v)
#define smp_store_mb(x, v) ((void)xchg(&(x), v))
#define smp_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define smp_rmb() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define smp_wmb() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define smp_mb__after_atomic() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#define smp_mb__after_srcu_read_lock() smp_mb__after_atomic()
#define smp_mb__after_srcu_read_unlock() smp_mb__after_atomic()
#define barrier() __asm__ volatile("" ::: "memory")
#define rcu_dereference(p) (p)
#define rcu_dereference_raw(p) (p)
#define rcu_dereference_check(p, held) (p)
#define rcu_dereference_protected(p, held) (p)
#define rcu_access_pointer(p) (p)
#define rcu_assign_pointer(p, v) ((void)((p) = (v)))
#define data_race(x) (x)

/* ---- counters: statistics, which no CPU decides by ---- */
#define atomic_read(v) SD_PEEK((v)->counter)
#define atomic_set(v, n) SD_POKE((v)->counter, n)
#define atomic_add(n, v) SD_POKE((v)->counter, SD_PEEK((v)->counter) + (n))
#define atomic_sub(n, v) atomic_add(-(n), v)
#define atomic_inc(v) atomic_add(1, v)
#define atomic_dec(v) atomic_add(-1, v)
#define atomic64_read(v) SD_PEEK((v)->counter)
#define atomic64_set(v, n) SD_POKE((v)->counter, n)
#define atomic64_add(n, v) SD_POKE((v)->counter, SD_PEEK((v)->counter) + (n))
#define atomic64_sub(n, v) atomic64_add(-(s64)(n), v)
#define atomic64_inc(v) atomic64_add(1, v)
#define atomic64_dec(v) atomic64_add(-1, v)
/* These two serve as an atomic change of an entry. */
#define atomic64_fetch_and(mask, v) ((s64)sd_fetch_and((v), (u64)(mask)))
#define atomic64_fetch_or(mask, v) ((s64)sd_fetch_or((v), (u64)(mask)))

/* ---- reference counts ---- */
#ifdef SD_EXPLORE
void sd_point_ref(void *count, int by);	/* a CPU is about to look at a count, or to change it */
#else
#define sd_point_ref(count, by) ((void)0)
#endif

static inline void refcount_set(refcount_t *count, int n)
{
	SD_POKE(count->refs, n);
}

static inline int refcount_read(const refcount_t *count)
{
	return SD_PEEK(count->refs);
}

static inline bool refcount_inc_not_zero(refcount_t *count)
{
	int n;

	sd_point_ref(count, 1);
	n = SD_PEEK(count->refs);
	if (!n)
		return false;
	SD_POKE(count->refs, n + 1);
	return true;
}

static inline void refcount_inc(refcount_t *count)
{
	WARN_ON(!refcount_inc_not_zero(count));
}

static inline bool refcount_dec_and_test(refcount_t *count)
{
	int n;

	sd_point_ref(count, -1);
	n = SD_PEEK(count->refs);
	WARN_ON(n <= 0);
	SD_POKE(count->refs, n - 1);
	return n == 1;
}

/* ---- locks, RCU, leave to run on ---- */
typedef struct { int owner; } spinlock_t;
typedef struct { int writer; unsigned int readers; } rwlock_t;
struct mutex { int owner; };
struct srcu_struct { unsigned int readers; };
struct rcu_head { struct rcu_head *next; void (*func)(struct rcu_head *); };

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *));
void rcu_barrier(void);
bool need_resched(void);		/* of an explorer, a choice */
#define spin_lock_init(l) ((void)((l)->owner = 0))
#define rwlock_init(l) ((void)((l)->writer = 0, (l)->readers = 0))
#define mutex_init(l) ((void)((l)->owner = 0))

#ifdef SD_EXPLORE
void spin_lock(spinlock_t *lock);
void spin_unlock(spinlock_t *lock);
void read_lock(rwlock_t *lock);
void read_unlock(rwlock_t *lock);
void write_lock(rwlock_t *lock);
void write_unlock(rwlock_t *lock);
void sd_mutex_lock(void *mutex);
void sd_mutex_unlock(void *mutex);
void rcu_read_lock(void);
void rcu_read_unlock(void);
void sd_srcu_read_lock(void);
void sd_srcu_read_unlock(void);
void sd_synchronize_srcu(void);
void sd_synchronize_rcu(void);
bool rwlock_needbreak(rwlock_t *lock);
int cond_resched_rwlock_read(rwlock_t *lock);	/* always drops the lock and takes it again */
int cond_resched_rwlock_write(rwlock_t *lock);
void cpu_relax(void);			/* until another CPU has done something */
enum { SD_HELD_READ = 1, SD_HELD_WRITE = 2, SD_HELD = 3, SD_HELD_SPIN = 4, SD_HELD_MUTEX = 8 };
void sd_lockdep(void *lock, int kind, const char *file, int line);
#define mutex_lock(l) sd_mutex_lock(l)
#define mutex_unlock(l) sd_mutex_unlock(l)
#define srcu_read_lock(s) ((void)(s), sd_srcu_read_lock(), 0)
#define srcu_read_unlock(s, index) ((void)(s), (void)(index), sd_srcu_read_unlock())
#define synchronize_srcu(s) ((void)(s), sd_synchronize_srcu())
#define synchronize_rcu() sd_synchronize_rcu()
/* Which kind of lock is asked about. */
#define SD_KIND_(l, rw) _Generic((l), \
	spinlock_t *: SD_HELD_SPIN, const spinlock_t *: SD_HELD_SPIN, \
	struct mutex *: SD_HELD_MUTEX, const struct mutex *: SD_HELD_MUTEX, default: (rw))
#define lockdep_assert_held(l) sd_lockdep((void *)(l), SD_KIND_(l, SD_HELD), __FILE__, __LINE__)
#define lockdep_assert_held_read(l) sd_lockdep((void *)(l), SD_HELD_READ, __FILE__, __LINE__)
#define lockdep_assert_held_write(l) sd_lockdep((void *)(l), SD_HELD_WRITE, __FILE__, __LINE__)
/* Whoever asks has a complaint if not. */
#define lockdep_is_held(l) (lockdep_assert_held(l), true)
#define lockdep_is_held_type(l, read) \
	(sd_lockdep((void *)(l), (read) ? SD_HELD_READ : SD_HELD_WRITE, __FILE__, __LINE__), true)
#define lockdep_assert(x) WARN_ON(!(x))
#define lockdep_assert_once(x) WARN_ON(!(x))
#else
#define spin_lock(l) ((void)(l))
#define spin_unlock(l) ((void)(l))
#define read_lock(l) ((void)(l))
#define read_unlock(l) ((void)(l))
#define write_lock(l) ((void)(l))
#define write_unlock(l) ((void)(l))
#define mutex_lock(l) ((void)(l))
#define mutex_unlock(l) ((void)(l))
#define rcu_read_lock() ((void)0)
#define rcu_read_unlock() ((void)0)
#define srcu_read_lock(s) ((void)(s), 0)
#define srcu_read_unlock(s, index) ((void)(s), (void)(index))
#define synchronize_srcu(s) ((void)(s))
#define synchronize_rcu() rcu_barrier()
#define rwlock_needbreak(l) ((void)(l), false)
#define cond_resched_rwlock_read(l) ((void)(l), 0)
#define cond_resched_rwlock_write(l) ((void)(l), 0)
#define cpu_relax() ((void)0)
#define lockdep_assert_held(l) ((void)(l))
#define lockdep_assert_held_read(l) ((void)(l))
#define lockdep_assert_held_write(l) ((void)(l))
#define lockdep_is_held(l) ((void)(l), true)
#define lockdep_is_held_type(l, read) ((void)(l), true)
#define lockdep_assert(x) ((void)0)
#define lockdep_assert_once(x) ((void)0)
#endif
#define rcu_read_lock_held() (true)
#define cond_resched() ((void)0)
#define rwlock_is_contended(l) rwlock_needbreak(l)
#define lockdep_assert_in_rcu_read_lock() lockdep_assert(rcu_read_lock_held())
#define might_sleep() ((void)0)
#define preempt_disable() ((void)0)
#define preempt_enable() ((void)0)
#define local_irq_disable() ((void)0)
#define local_irq_enable() ((void)0)

/* ---- guard(kind)(lock): held until the block is left ---- */
#define SD_GUARD_TYPE_(kind, type, enter, leave)			\
static inline type *sd_enter_##kind##_(type *l)				\
{									\
	enter(l);							\
	return l;							\
}									\
static inline void sd_leave_##kind##_(type **l)				\
{									\
	leave(*l);							\
}
#define SD_RCU_ENTER_(l) rcu_read_lock()
#define SD_RCU_LEAVE_(l) ((void)(l), rcu_read_unlock())
SD_GUARD_TYPE_(rcu, void, SD_RCU_ENTER_, SD_RCU_LEAVE_)
SD_GUARD_TYPE_(spinlock, spinlock_t, spin_lock, spin_unlock)
SD_GUARD_TYPE_(read_lock, rwlock_t, read_lock, read_unlock)
SD_GUARD_TYPE_(write_lock, rwlock_t, write_lock, write_unlock)
SD_GUARD_TYPE_(mutex, struct mutex, mutex_lock, mutex_unlock)
#define SD_PASTE_(a, b) SD_PASTE2_(a, b)
#define SD_PASTE2_(a, b) a##b
#define SD_GUARD_(kind, type, lock) type *SD_PASTE_(guard_, __COUNTER__) \
	__attribute__((cleanup(sd_leave_##kind##_), unused)) = sd_enter_##kind##_(lock)
#define guard(kind) sd_guard_##kind
#define sd_guard_rcu() SD_GUARD_(rcu, void, NULL)
#define sd_guard_spinlock(l) SD_GUARD_(spinlock, spinlock_t, l)
#define sd_guard_read_lock(l) SD_GUARD_(read_lock, rwlock_t, l)
#define sd_guard_write_lock(l) SD_GUARD_(write_lock, rwlock_t, l)
#define sd_guard_mutex(l) SD_GUARD_(mutex, struct mutex, l)
#define scoped_guard(kind, ...) for (int once_ = 1; once_; ) for (guard(kind)(__VA_ARGS__); once_; once_ = 0)
#endif
