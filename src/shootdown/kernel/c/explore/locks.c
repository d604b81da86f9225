/* SPDX-License-Identifier: MIT */
/* Locks: readers and a writer, whose waiting keeps new readers out; spinning and sleeping ones; who waits for whom. */
#include "engine.h"

static void taken(u64 mine, const void *lock, u64 pc)
{
	if (E.cur < 0)
		return;
	if (mine & ME)
		broken(SD_LOCKDEP, -1, (u64)lock, pc, "a lock is taken twice by one task");
	G->cpu[E.cur].held++;
}

static void dropped(u64 mine, const void *lock, u64 pc)
{
	if (E.cur < 0)
		return;
	if (!(mine & ME))
		broken(SD_LOCKDEP, -1, (u64)lock, pc, "a lock is dropped that the task does not hold");
	else
		G->cpu[E.cur].held--;
}

static void lock(int kind, struct spin *l, u64 pc)
{
	point(kind, l, 0, pc);
	drain();
	touch(l, pc);
	taken(l->owner, l, pc);
	race_lock(l, false);
	l->owner |= ME;
	record(kind, l, 0, 0, pc);
}

static void unlock(int kind, struct spin *l, u64 pc)
{
	point(kind, l, 0, pc);
	drain();
	touch(l, pc);
	dropped(l->owner, l, pc);
	l->owner &= ~ME;
	record(kind, l, 0, 0, pc);
}

void spin_lock(struct spin *l);
void spin_lock(struct spin *l)
{
	lock(SPIN_LOCK, l, SITE);
}

void spin_unlock(struct spin *l);
void spin_unlock(struct spin *l)
{
	unlock(SPIN_UNLOCK, l, SITE);
}

void sd_may_sleep(bool may)
{
	if (E.cur >= 0)
		G->cpu[E.cur].atomic = !may;
}

/* A task is about to wait for what may take long, or to give way. */
void sleeps(u64 pc)
{
	if (E.cur >= 0 && G->cpu[E.cur].atomic)
		broken(SD_LOCKDEP, -1, 0, pc, "a task gives way whose caller may not sleep");
}

void sd_mutex_lock(void *mutex)
{
	sleeps(SITE);
	lock(MUTEX_LOCK, mutex, SITE);
}

void sd_mutex_unlock(void *mutex)
{
	unlock(MUTEX_UNLOCK, mutex, SITE);
}

static void lock_to_read(struct rwlock *l, u64 pc)
{
	point(READ_LOCK, l, 0, pc);
	drain();
	taken(l->readers, l, pc);
	race_lock(l, true);
	l->readers |= ME;
	record(READ_LOCK, l, 0, 0, pc);
}

static void unlock_read(struct rwlock *l, u64 pc)
{
	point(READ_UNLOCK, l, 0, pc);
	drain();
	dropped(l->readers, l, pc);
	l->readers &= ~ME;
	record(READ_UNLOCK, l, 0, 0, pc);
}

static void lock_to_write(struct rwlock *l, u64 pc)
{
	point(WRITE_WAIT, l, 0, pc);
	drain();
	l->waiting |= ME;
	record(WRITE_WAIT, l, 0, 0, pc);
	point(WRITE_LOCK, l, 0, pc);
	taken(l->writer, l, pc);
	race_lock(l, true);
	l->waiting &= ~ME;
	l->writer |= ME;
	record(WRITE_LOCK, l, 0, 0, pc);
}

static void unlock_write(struct rwlock *l, u64 pc)
{
	point(WRITE_UNLOCK, l, 0, pc);
	drain();
	dropped(l->writer, l, pc);
	l->writer &= ~ME;
	record(WRITE_UNLOCK, l, 0, 0, pc);
}

void read_lock(struct rwlock *l);
void read_lock(struct rwlock *l)
{
	lock_to_read(l, SITE);
}

void read_unlock(struct rwlock *l);
void read_unlock(struct rwlock *l)
{
	unlock_read(l, SITE);
}

void write_lock(struct rwlock *l);
void write_lock(struct rwlock *l)
{
	lock_to_write(l, SITE);
}

void write_unlock(struct rwlock *l);
void write_unlock(struct rwlock *l)
{
	unlock_write(l, SITE);
}

/*
 * Giving way: need_resched and rwlock_needbreak are one choice, asked again in the same place only after a step: a walk
 * over entries that do not take part would else ask for each.
 */
static __attribute__((noinline)) bool gives_way(struct cpu *c, u64 pc)
{
	unsigned yields;

	c->fresh = 0;
	c->asked = pc;
	yields = choose(YIELD, 2, pc);
	record(YIELD, NULL, 0, yields, pc);
	if (yields && c->yields > 0)
		c->yields--;
	return yields;
}

bool need_resched(void);
bool need_resched(void)
{
	struct cpu *c;

	if (E.cur < 0 || E.cur >= SD_CPUS_MAX)
		return false;
	c = &G->cpu[E.cur];
	return c->yields && (c->fresh || c->asked != SITE) && gives_way(c, SITE);
}

bool rwlock_needbreak(struct rwlock *l);
bool rwlock_needbreak(struct rwlock *l)
{
	(void)l;
	return false;
}

int cond_resched_rwlock_read(struct rwlock *l);
int cond_resched_rwlock_read(struct rwlock *l)
{
	sleeps(SITE);
	unlock_read(l, SITE);
	lock_to_read(l, SITE);
	return 1;
}

int cond_resched_rwlock_write(struct rwlock *l);
int cond_resched_rwlock_write(struct rwlock *l)
{
	sleeps(SITE);
	unlock_write(l, SITE);
	lock_to_write(l, SITE);
	return 1;
}

void cpu_relax(void);
void cpu_relax(void)
{
	point(RELAX, NULL, 0, SITE);
	record(RELAX, NULL, 0, 0, SITE);
}

void sd_lockdep(void *l, int kind, const char *file, int line);
void sd_lockdep(void *l, int kind, const char *file, int line)
{
	static const char *const names[] = { "held", "held to read", "held to write", "held" };
	const struct rwlock *rw = l;
	const struct spin *s = l;
	bool held;

	if (E.cur < 0)
		return;
	if (kind & (4 | 8))	/* a spinning or sleeping lock */
		held = (s->owner & ME) != 0;
	else
		held = (kind & 1 && rw->readers & ME) || (kind & 2 && rw->writer & ME);
	if (!held)
		broken(SD_LOCKDEP, -1, (u64)l, SITE, "%s:%d: %s is not %s", file, line, sd_name_of((u64)l),
		       names[kind & 3]);
}

/* Who holds up what a CPU wants to do next: a mask, 0 if it may go on. */
u64 blocked_by(unsigned kind, u64 object, unsigned cpu)
{
	const struct rwlock *rw = (const struct rwlock *)object;
	u64 found = 0;

	switch (kind) {
	case READ_LOCK:
		return rw->writer | rw->waiting;
	case WRITE_LOCK:
		return rw->writer | rw->readers;
	case SPIN_LOCK:
	case MUTEX_LOCK:
		return ((const struct spin *)object)->owner;
	case SRCU_SYNC:
	case RCU_SYNC:
		return cpu < SD_CPUS_MAX ? REST->sync[cpu] : 0;
	case RCU_BARRIER:
		for (unsigned n = 0; n < REST->callbacks; n++)
			found |= REST->callback[n].readers | (E.s.late ? BIT(CPU_RCU) : 0);
		return found;
	case WAIT_IPI:
		return G->hw[object].flags & IPI ? BIT(cpu_of(object)) : 0;
	}
	return 0;
}

/* Those among the waiting that can never go on: they wait for one that is stuck, or over. */
u64 stuck_of(u64 waiting, u64 ended, const u64 *blockers)
{
	u64 stuck = waiting, last;

	do {
		last = stuck;
		for (unsigned cpu = 0; cpu < E.s.tasks; cpu++)
			if (stuck & BIT(cpu) && !(blockers[cpu] & (stuck | ended)))
				stuck &= ~BIT(cpu);
	} while (stuck != last);
	return stuck;
}
