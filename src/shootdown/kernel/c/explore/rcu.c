/* SPDX-License-Identifier: MIT */
/* RCU and SRCU: a callback waits for all sections that were open when it was queued. */
#include "engine.h"

typedef void (*rcu_callback)(struct rcu_head *);

bool callback_ready(unsigned number)
{
	return number < REST->callbacks && !REST->callback[number].readers;
}

/* Run one whose grace period is over, in one go. */
void run_callback(unsigned number)
{
	struct callback *c = &REST->callback[number], ready = *c;

	memmove(c, c + 1, (REST->callbacks - number - 1) * sizeof(*c));
	memset(&REST->callback[--REST->callbacks], 0, sizeof(*c));
	E.silent = true;
	record(CALLBACK, (void *)ready.head, 0, 0, ready.function + 1);
	((rcu_callback)ready.function)((struct rcu_head *)ready.head);
	E.silent = false;
}

/* Those whose grace period is over run at once, unless the moment is to be a step of its own. */
void run_callbacks(void)
{
	bool later = E.s.late && E.cur >= 0 && E.cur < SD_CPUS_MAX;

	for (unsigned n = 0; !later && !E.broken && n < REST->callbacks; )
		if (callback_ready(n)) {
			run_callback(n);
			n = 0;
		} else {
			n++;
		}
}

/* The CPU left its outermost section. */
void leave_rcu(void)
{
	E.marks = true;
	for (unsigned n = 0; n < REST->callbacks; n++)
		REST->callback[n].readers &= ~ME;
	for (unsigned n = 0; n < SD_CPUS_MAX; n++)
		if (G->cpu[n].kind == RCU_SYNC)
			REST->sync[n] &= ~ME;
	run_callbacks();
}

void rcu_read_lock(void);
void rcu_read_lock(void)
{
	if (E.cur < 0)
		return;
	if (!G->cpu[E.cur].rcu)
		point(RCU_LOCK, NULL, 0, SITE);
	G->cpu[E.cur].rcu++;
	record(RCU_LOCK, NULL, 0, 0, SITE);
}

void rcu_read_unlock(void);
void rcu_read_unlock(void)
{
	if (E.cur < 0)
		return;
	if (G->cpu[E.cur].rcu == 1)
		point(RCU_UNLOCK, NULL, 0, SITE);
	record(RCU_UNLOCK, NULL, 0, 0, SITE);
	if (!G->cpu[E.cur].rcu)
		broken(SD_LOCKDEP, -1, 0, SITE, "an RCU section is left that was not entered");
	else if (!--G->cpu[E.cur].rcu)
		leave_rcu();
}

static u64 readers(void)
{
	u64 mask = 0;

	for (unsigned n = 0; n < E.s.tasks; n++)
		if (G->cpu[n].rcu)
			mask |= BIT(n);
	return mask;
}

void call_rcu(struct rcu_head *head, rcu_callback function);
void call_rcu(struct rcu_head *head, rcu_callback function)
{
	struct callback *c;

	point(CALL_RCU, head, 0, SITE);
	touch(head, SITE);
	record(CALL_RCU, head, 0, 0, SITE);
	E.marks = true;
	for (unsigned n = 0; n < REST->callbacks; n++)
		if (REST->callback[n].head == (u64)head)
			broken(SD_DOUBLE_FREE, -1, (u64)head, SITE, "a callback is queued twice");
	if (REST->callbacks == CALLBACKS_MAX) {
		broken(SD_STOPPED, -1, 0, SITE, "more than %u RCU callbacks wait", CALLBACKS_MAX);
		return;
	}
	c = &REST->callback[REST->callbacks++];
	c->head = (u64)head;
	c->function = (u64)function;
	c->readers = readers();
	run_callbacks();
}

void rcu_barrier(void);
void rcu_barrier(void)
{
	sleeps(SITE);
	point(RCU_BARRIER, NULL, 0, SITE);
	record(RCU_BARRIER, NULL, 0, 0, SITE);
}

void sd_synchronize_rcu(void)
{
	sleeps(SITE);
	point(RCU_WAIT, NULL, 0, SITE);
	if (E.cur < 0 || E.cur >= SD_CPUS_MAX)
		return;
	REST->sync[E.cur] = readers();
	record(RCU_WAIT, NULL, 0, 0, SITE);
	point(RCU_SYNC, NULL, 0, SITE);
	record(RCU_SYNC, NULL, 0, 0, SITE);
}

void sd_srcu_read_lock(void)
{
	if (E.cur < 0)
		return;
	if (!G->cpu[E.cur].srcu)
		point(SRCU_LOCK, NULL, 0, SITE);
	G->cpu[E.cur].srcu++;
	REST->srcu |= ME;
	record(SRCU_LOCK, NULL, 0, 0, SITE);
}

void sd_srcu_read_unlock(void)
{
	if (E.cur < 0)
		return;
	if (G->cpu[E.cur].srcu == 1)
		point(SRCU_UNLOCK, NULL, 0, SITE);
	record(SRCU_UNLOCK, NULL, 0, 0, SITE);
	if (!G->cpu[E.cur].srcu) {
		broken(SD_LOCKDEP, -1, 0, SITE, "an SRCU section is left that was not entered");
		return;
	}
	if (--G->cpu[E.cur].srcu)
		return;
	REST->srcu &= ~ME;
	for (unsigned n = 0; n < SD_CPUS_MAX; n++)
		if (G->cpu[n].kind != RCU_SYNC)
			REST->sync[n] &= ~ME;
}

void sd_synchronize_srcu(void)
{
	sleeps(SITE);
	point(SRCU_WAIT, NULL, 0, SITE);
	if (E.cur < 0 || E.cur >= SD_CPUS_MAX)
		return;
	REST->sync[E.cur] = REST->srcu;
	record(SRCU_WAIT, NULL, 0, 0, SITE);
	point(SRCU_SYNC, NULL, 0, SITE);
	record(SRCU_SYNC, NULL, 0, 0, SITE);
}
