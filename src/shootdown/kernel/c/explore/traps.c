/* SPDX-License-Identifier: MIT */
/* What goes wrong: how it is noted, and how memory faults and endless loops become verdicts. */
#include "engine.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

struct engine sd_engine;

void sd_switch(u64 *save, u64 to);

#define TICK_US 250000
#define TICKS 8		/* so long (of CPU time) may one step take */

/* Something is broken; the first thing counts. */
void broken(int verdict, int vcpu, u64 address, u64 pc, const char *format, ...)
{
	struct sd_result *r = E.result;
	va_list list;

	if (E.broken)
		return;
	E.broken = verdict;
	r->verdict = verdict;
	r->cpu = E.cur >= 0 ? E.cur : E.stepping;
	r->vcpu = vcpu;
	r->table = sd_table_number((void *)address);
	r->address = address;
	r->pc = pc;
	va_start(list, format);
	vsnprintf(r->message, sizeof(r->message), format, list);
	va_end(list);
}

static void bail(void)
{
	sd_switch(&E.dead_sp, E.main_sp);
	__builtin_trap();
}

/* Never go on with what runs now. */
static void give_up(void)
{
	if (E.running)
		bail();
	__builtin_trap();
}

void sd_warn(const char *file, int line, const char *what);
void sd_warn(const char *file, int line, const char *what)
{
	broken(SD_WARN, -1, 0, SITE, "%s:%d: WARN_ON(%s)", file, line, what);
}

void sd_bug(const char *file, int line, const char *what) __attribute__((noreturn));
void sd_bug(const char *file, int line, const char *what)
{
	broken(SD_BUG, -1, 0, SITE, "%s:%d: BUG_ON(%s)", file, line, what);
	give_up();
	__builtin_unreachable();
}

static void escape(ucontext_t *context)
{
	context->uc_mcontext.gregs[REG_RSP] = (greg_t)(E.scratch + sizeof(E.scratch) - 8);
	context->uc_mcontext.gregs[REG_RIP] = (greg_t)(void *)bail;
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
	u64 address = (u64)info->si_addr;
	ucontext_t *u = context;
	u64 pc = u->uc_mcontext.gregs[REG_RIP];

	if (!E.running) {	/* between steps: the explorer, or a function of the drivers' that it asks */
		Dl_info in;

		if (dladdr((void *)pc, &in) && in.dli_fbase)
			dprintf(STDERR_FILENO, "fault at %llx\n", pc - (u64)in.dli_fbase + 1);
		signal(signal_number, SIG_DFL);
		return;
	}
	if (address >= STACKS_AT && address < SD_ARENA + ARENA_BYTES)
		broken(SD_OVERFLOW, -1, address, pc + 1, "a stack of %llu bytes overflows", STACK_BYTES);
	else if (signal_number == SIGILL || signal_number == SIGTRAP)
		broken(SD_BUG, -1, address, pc + 1, "an instruction that must not be reached");
	else if (signal_number == SIGFPE)
		broken(SD_FAULTED, -1, address, pc + 1, "division by zero or overflow");
	else if (address)
		broken(SD_FAULTED, -1, address, pc + 1, "memory fault at address 0x%llx", address);
	else
		broken(SD_FAULTED, -1, address, pc + 1, u->uc_mcontext.gregs[REG_TRAPNO] == 13 ?
		       "memory fault at an address that cannot exist (freed memory reads so)" :
		       "memory fault at address 0");
	escape(u);
}

static void on_tick(int signal_number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)signal_number;
	(void)info;
	if (E.sequence != E.last_sequence || !E.running) {
		E.last_sequence = E.sequence;
		E.ticks = 0;
	} else if (++E.ticks >= TICKS) {
		broken(SD_ENDLESS, -1, 0, u->uc_mcontext.gregs[REG_RIP] + 1,
		       "runs for %d s without a step: an endless loop", TICKS * TICK_US / 1000000);
		E.ticks = 0;
		escape(u);
	}
}

static const int caught[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE };

void catch_traps(void)
{
	stack_t alternate = { .ss_sp = E.signal_stack, .ss_size = sizeof(E.signal_stack) };
	struct itimerval every = { { 0, TICK_US }, { 0, TICK_US } };
	struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigaltstack(&alternate, &E.stack_before);
	action.sa_sigaction = on_fault;
	for (unsigned n = 0; n < 5; n++)
		sigaction(caught[n], &action, &E.actions_before[n]);
	action.sa_flags |= SA_RESTART;
	action.sa_sigaction = on_tick;
	sigaction(SIGVTALRM, &action, &E.actions_before[5]);
	setitimer(ITIMER_VIRTUAL, &every, NULL);
}

void release_traps(void)
{
	struct itimerval never = { { 0, 0 }, { 0, 0 } };

	setitimer(ITIMER_VIRTUAL, &never, NULL);
	for (unsigned n = 0; n < 5; n++)
		sigaction(caught[n], &E.actions_before[n], NULL);
	sigaction(SIGVTALRM, &E.actions_before[5], NULL);
	sigaltstack(&E.stack_before, NULL);
}
