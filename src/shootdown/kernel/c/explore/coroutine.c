/* SPDX-License-Identifier: MIT */
/* CPUs as coroutines, each with its own stack in the arena, and where they stop. */
#include "engine.h"

#include <sys/mman.h>

const u8 kind_flags[KIND_COUNT] = {
#define K(name, text, flags) [name] = flags,
	KINDS(K)
#undef K
};

#define CLEARED 1536

/* Save what a call preserves, leave by one stack, return by another. */
void sd_switch(u64 *save, u64 to);
__asm__(".text\n.globl sd_switch\n.hidden sd_switch\n.type sd_switch, @function\nsd_switch:\n"
	"	push %rbp\n	push %rbx\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, (%rdi)\n	mov %rsi, %rsp\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbx\n	pop %rbp\n	ret\n"
	".size sd_switch, . - sd_switch\n");

static void stop(struct cpu *c, int kind, const volatile void *object, unsigned arg, u64 pc)
{
	c->kind = kind;
	c->object = (u64)object;
	c->arg = arg;
	c->pc = pc;
	sd_switch(&c->sp, E.main_sp);
	c->idle = 0;
	if (kind != YIELD && kind != CHOOSE && kind != FAIL) {
		c->fresh = 1;
		c->asked = 0;
	}
}

/*
 * A CPU is about to do something that others may see or disturb: returns when it is its turn. Movers are glued as
 * check/program/steps.py says: right movers, one other step, left movers are one step of the schedule.
 */
void point(int kind, const volatile void *object, unsigned arg, u64 pc)
{
	unsigned flags = kind_flags[kind];
	struct cpu *c;

	if (E.cur < 0 || E.silent)
		return;
	c = &G->cpu[E.cur];
	if (E.cur >= SD_CPUS_MAX) {
		if (blocked_by(kind, (u64)object, E.cur))
			broken(SD_BROKEN, -1, (u64)object, pc, "what runs before exploring would wait for ever");
		return;
	}
	if (!E.broken && !(flags & STOPS)) {
		if (flags & GLUED)
			return;
		if (E.s.movers && E.past && flags & LEFT)
			return;
		if (E.s.movers && !E.past && !(E.takes && flags & WAITS)) {
			E.blockers = blocked_by(kind, (u64)object, E.cur);
			if (!E.blockers) {
				E.past = !(flags & RIGHT);
				E.takes |= (flags & TAKES) != 0;
				c->fresh = 1;
				c->asked = 0;
				return;
			}
			E.rejected = true;
		}
	}
	stop(c, kind, object, arg, pc);
}

/* A choice among n, all of which are followed. */
unsigned choose(int kind, unsigned n, u64 pc)
{
	if (E.cur < 0 || E.cur >= SD_CPUS_MAX || E.silent)
		return 0;
	stop(&G->cpu[E.cur], kind, NULL, n, pc);
	return E.choice;
}

unsigned sd_choose(unsigned n)
{
	unsigned result = choose(CHOOSE, n, SITE);

	record(CHOOSE, NULL, n, result, SITE);
	return result;
}

/* Each run of a task begins on a stack as clear as the first did. */
static __attribute__((noinline)) void clear_below(void)
{
	char below[CLEARED];

	__builtin_memset(below, 0, CLEARED);
	__asm__ volatile("" : : "r"(below) : "memory");
}

static void run_task(void)
{
	for (;;) {
		const struct sd_task *t = &E.s.task[E.cur];
		struct cpu *c = &G->cpu[E.cur];

		clear_below();
		c->idle = 1;
		c->yields = E.s.yields;
		c->failures = E.s.failures;
		sd_ops[t->op].run(t->arg);
		if (c->held || c->rcu || c->srcu)
			broken(SD_LOCKDEP, -1, 0, 0, "a task is over with a lock or an RCU section held");
		if (!t->again)
			break;
	}
	E.ended |= ME;
	stop(&G->cpu[E.cur], END, NULL, 0, 0);
	__builtin_trap();
}

static void make(unsigned cpu, void (*function)(void))
{
	u64 *sp = (u64 *)STACK_TOP(cpu);

	memset((void *)STACK_BASE(cpu), 0, STACK_BYTES);
	*--sp = 0;		/* a function begins with the stack 8 modulo 16 */
	*--sp = (u64)function;
	sp -= 6;
	memset(&G->cpu[cpu], 0, sizeof(struct cpu));
	G->cpu[cpu].sp = (u64)sp;
	G->cpu[cpu].kind = START;
}

/* Put a task's CPU at the task's first point. */
void start_cpu(unsigned cpu)
{
	make(cpu, run_task);
	resume(cpu);
}

static void run_function(void)
{
	E.aside();
	sd_switch(&E.dead_sp, E.main_sp);
	__builtin_trap();
}

/* Run a function to its end on a CPU that is no task's. */
void run_aside(unsigned cpu, void (*function)(void))
{
	make(cpu, run_function);
	E.aside = function;
	resume(cpu);
	memset(&G->cpu[cpu], 0, sizeof(struct cpu));
}

/*
 * Let a CPU run up to its next point. What earlier calls left below its stack is cleared, since what a frame has not
 * written yet would be part of the state.
 */
void resume(unsigned cpu)
{
	unsigned flags = kind_flags[G->cpu[cpu].kind];
	u64 sp = G->cpu[cpu].sp, low = sp - STACK_BASE(cpu) > CLEARED ? sp - CLEARED : STACK_BASE(cpu);

	memset((void *)low, 0, sp - low);
	E.past = !E.s.movers || !(flags & RIGHT) || flags & LEFT;
	E.takes = (flags & TAKES) != 0;
	E.rejected = false;
	E.cur = cpu;
	E.ran |= BIT(cpu);
	E.sequence++;
	E.running = true;
	sd_switch(&E.main_sp, G->cpu[cpu].sp);
	E.running = false;
	E.cur = -1;
}

void map_arena(void)
{
	void *at;

	if (E.mapped)
		return;
	at = mmap((void *)SD_ARENA, ARENA_BYTES, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at != (void *)SD_ARENA) {
		broken(SD_BROKEN, -1, 0, 0, "cannot map the arena at its address");
		return;
	}
	for (unsigned n = 0; n < STACKS; n++)
		mprotect((void *)(STACK_BASE(n) - GUARD_BYTES), GUARD_BYTES, PROT_NONE);
	E.mapped = true;
}
