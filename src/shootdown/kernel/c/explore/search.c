/* SPDX-License-Identifier: MIT */
/* All orders of steps, shortest first: breadth first over whole states. */
#include "engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ACTION(cpu, choice) ((u32)(cpu) << 16 | (choice))

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void create(void)
{
	sd_vm_create(&E.s);
	for (unsigned n = 0; n < E.s.starts && !E.broken; n++)
		sd_ops[E.s.start[n].op].run(E.s.start[n].arg);
	if (G->cpu[CPU_SETUP].held || G->cpu[CPU_SETUP].rcu)
		broken(SD_BROKEN, -1, 0, 0, "what runs before exploring ends with a lock held");
}

/* Bring all memory to the start of the test, and each task to its first point. */
static void begin(bool recording)
{
	E.exploring = false;
	E.cur = E.stepping = -1;
	E.broken = SD_HOLDS;
	E.restart = false;
	E.marks = E.silent = false;
	E.written = E.tails = 0;
	restore_pristine();
	reset_memory();
	for (unsigned n = 0; n < SD_GFNS_MAX; n++)
		REST->host[n] = (struct host){ E.s.host_pfn[n], E.s.host_level[n], E.s.host_writable[n] };
	run_aside(CPU_SETUP, create);
	if (recording)
		begin_record();
	for (unsigned n = 0; n < E.s.tasks && !E.broken; n++)
		start_cpu(n);
	E.ran = E.sets = ~0ull;
	E.exploring = true;
}

static void callback_runs(void)
{
	run_callback(E.choice);
}

/* One step of the schedule; false if it cannot be taken after all. */
static bool take(unsigned cpu, unsigned choice)
{
	E.written = E.new_pages = E.new_headers = 0;
	E.marks = false;
	E.choice = choice;
	E.rejected = false;
	E.sequence++;
	E.stepping = cpu;
	if (cpu == CPU_RCU) {
		run_aside(cpu, callback_runs);
	} else if (choice == CHOICE_DRAIN) {
		E.ran |= BIT(cpu);
		drain_one(cpu);
	} else if (G->cpu[cpu].kind == GUEST && choice >= ACT_WRITES) {
		E.cur = cpu;
		guest_acts(vcpu_of(cpu), choice);
		E.cur = -1;
	} else {
		resume(cpu);
	}
	if (E.rejected && !E.broken)
		return false;
	settle(cpu);
	record_sets(true);
	return true;
}

static unsigned choices_of(unsigned cpu, u16 *choices)
{
	const struct cpu *c = &G->cpu[cpu];

	if (c->kind == GUEST)
		return guest_choices(c->arg, choices);
	if (c->kind == CHOOSE || c->kind == YIELD || c->kind == FAIL || c->kind == FLUSH_RANGE) {
		for (unsigned n = 0; n < c->arg; n++)
			choices[n] = n;
		return c->arg;
	}
	choices[0] = 0;
	return c->kind == END ? 0 : 1;
}

/* The state that is expanded. */
struct expansion {
	u32 current, action;		/* action: the step that broke something */
	bool dirty;			/* memory is not in this state any more */
	u64 waiting, ended, blockers[SD_CPUS_MAX];
};

/* What is wrong with a state as such. */
static void check_state(const struct expansion *x)
{
	u64 stuck, hosts = 0, lost;

	for (unsigned n = 0; n < E.s.tasks; n++)
		if (E.s.task[n].vcpu < 0)
			hosts |= BIT(n);
	stuck = x->waiting ? stuck_of(x->waiting, x->ended, x->blockers) : 0;
	if (stuck) {
		broken(SD_DEADLOCK, -1, stuck, 0, "tasks wait for one another, and never go on");
	} else if ((x->ended & hosts) == hosts) {
		if (E.s.vcpus && leaks())
			broken(SD_LEAK, -1, 0, 0, "a table is neither free nor linked");
		lost = lost_writes();
		if (lost)
			broken(SD_LOST_WRITE, -1, lost, 0, "a page was written, and no log says so");
	}
}

static bool over_budget(double begun)
{
	u64 blobs, bytes;

	if (E.s.states_max && state_count() >= E.s.states_max)
		broken(SD_STOPPED, -1, 0, 0, "more than %llu states", E.s.states_max);
	else if (E.s.bytes_max && state_bytes(&blobs, &bytes) > E.s.bytes_max)
		broken(SD_STOPPED, -1, 0, 0, "states need more than %llu bytes", E.s.bytes_max);
	else if (E.s.seconds_max > 0 && seconds() - begun > E.s.seconds_max)
		broken(SD_STOPPED, -1, 0, 0, "%g s are over", E.s.seconds_max);
	return E.broken != 0;
}

static void back(struct expansion *x)
{
	if (x->dirty)
		restore_state(x->current);
	x->dirty = false;
}

/* Take a step from the state; false if that ends the search. */
static bool follow(struct expansion *x, unsigned cpu, unsigned choice)
{
	bool is_new;

	back(x);
	x->dirty = true;
	if (!take(cpu, choice)) {
		x->waiting |= BIT(cpu);
		x->blockers[cpu] = E.blockers;
		forget_step();
		return !E.restart;
	}
	E.result->transitions++;
	x->action = ACTION(cpu, choice);
	add_state(x->current, x->action, &is_new);
	return !E.broken && !E.restart;
}

static bool follow_cpu(struct expansion *x, unsigned cpu)
{
	const struct cpu *c = &G->cpu[cpu];
	u16 choices[512];
	unsigned count;

	back(x);
	if (c->stored && !follow(x, cpu, CHOICE_DRAIN))
		return false;
	back(x);
	if (c->kind == END)
		x->ended |= BIT(cpu);
	x->blockers[cpu] = blocked_by(c->kind, c->object, cpu);
	if (x->blockers[cpu]) {
		x->waiting |= BIT(cpu);
		return true;
	}
	count = choices_of(cpu, choices);
	for (unsigned n = 0; n < count; n++)
		if (!follow(x, cpu, choices[n]))
			return false;
	return true;
}

/* All steps from a state; false if the search is over, or must begin anew. */
static bool expand(struct expansion *x, u32 current)
{
	memset(x, 0, sizeof(*x));
	x->current = current;
	x->dirty = true;
	for (unsigned cpu = 0; cpu < E.s.tasks; cpu++)
		if (!follow_cpu(x, cpu))
			return false;
	back(x);
	for (unsigned n = 0; E.s.late && n < REST->callbacks; n++) {
		if (callback_ready(n) && !follow(x, CPU_RCU, n))
			return false;
		back(x);
	}
	race_state();
	x->action = ~0u;
	E.stepping = -1;
	check_state(x);
	return !E.broken;
}

/* The steps from the start to a state. */
static void path_to(u32 number, u32 last)
{
	struct sd_result *r = E.result;
	u32 action, at, length = last != ~0u;

	for (at = number; at; at = parent_of(at, &action))
		length++;
	r->choices = r->depth = length;
	free(E.path);
	r->choice = E.path = malloc((length + 1) * sizeof(*r->choice));
	if (!r->choice)
		return;
	if (last != ~0u)
		r->choice[--length] = last;
	for (at = number; at; ) {
		at = parent_of(at, &action);
		r->choice[--length] = action;
	}
}

/* Explore until something breaks or all is seen; what is learnt on the way may make it begin anew. */
static void search(void)
{
	struct expansion x = { .action = ~0u };
	double begun = seconds();
	u32 current = 0;
	bool is_new, more = true;

	do {
		if (E.restart)
			E.result->restarts++;
		E.result->transitions = 0;
		begin(false);
		if (!begin_states() || !race_reset())
			broken(SD_STOPPED, -1, 0, 0, "memory is used up");
		if (E.broken)
			break;
		settle(-1);
		add_state(0, 0, &is_new);
		more = !E.broken && !E.restart;
		x.action = ~0u;
		for (current = 0; more && current < state_count(); current++) {
			if (current % 256 == 0 && over_budget(begun))
				break;
			more = expand(&x, current);
			if (!more)
				break;
		}
	} while (E.restart && E.broken != SD_STOPPED);
	E.result->seconds = seconds() - begun;
	E.result->states = state_count();
	E.result->bytes = state_bytes(&E.result->blobs, &E.result->blob_bytes);
	if (E.broken && E.broken != SD_STOPPED)
		path_to(x.current, x.action);
	else if (state_count())
		path_to(state_count() - 1, ~0u);
}

/* What is wrong with the state that memory is in. */
static void check_now(void)
{
	struct expansion x = { 0 };
	struct sd_result kept = *E.result;
	bool is_new;

	if (!begin_states())
		return;
	add_state(0, 0, &is_new);
	for (unsigned cpu = 0; cpu < E.s.tasks; cpu++) {
		const struct cpu *c = &G->cpu[cpu];

		back(&x);
		if (c->kind == END) {
			x.ended |= BIT(cpu);
			continue;
		}
		x.blockers[cpu] = blocked_by(c->kind, c->object, cpu);
		if (!x.blockers[cpu] && kind_flags[c->kind] & RIGHT) {
			x.dirty = true;
			if (!take(cpu, 0))
				x.blockers[cpu] = E.blockers;
			forget_step();
			E.broken = SD_HOLDS;
		}
		if (x.blockers[cpu])
			x.waiting |= BIT(cpu);
	}
	back(&x);
	*E.result = kept;
	check_state(&x);
}

static bool can_take(unsigned cpu, unsigned choice)
{
	u16 choices[512];
	unsigned count;

	if (blocked_by(G->cpu[cpu].kind, G->cpu[cpu].object, cpu))
		return false;
	count = choices_of(cpu, choices);
	for (unsigned n = 0; n < count; n++)
		if (choices[n] == choice)
			return true;
	return false;
}

/* Play choices again from the start, and note each access. */
static void replay(const unsigned *choices, unsigned count)
{
	begin(true);
	record_sets(false);
	for (unsigned n = 0; n < count && !E.broken; n++) {
		unsigned cpu = choices[n] >> 16, choice = choices[n] & 0xffff;
		bool able = cpu == CPU_RCU ? callback_ready(choice) : cpu < E.s.tasks;

		if (able && cpu != CPU_RCU)
			able = choice == CHOICE_DRAIN ? G->cpu[cpu].stored : can_take(cpu, choice);
		if (!able || !take(cpu, choice))
			broken(SD_BROKEN, -1, 0, 0, "step %u of the schedule cannot be taken", n + 1);
		check_poison();
		E.result->depth = n + 1;
	}
	E.recording = false;
	if (!E.broken)
		check_now();
}

static bool is_sane(const struct sd_scenario *s)
{
	u64 bytes = 0;

	for (unsigned n = 0; n < s->ranges; n++)
		bytes += s->range[n].bytes;
	if (s->tasks > SD_CPUS_MAX || s->vcpus > SD_VCPUS_MAX || s->tables > SD_TABLES_MAX || s->starts > 32 ||
	    s->ranges > 256 || s->frames > SD_FRAMES_MAX || (s->entries != 2 && s->entries != 4))
		broken(SD_BROKEN, -1, 0, 0, "the scenario is too large");
	else if (bytes / 8 + 2 * s->ranges > SD_MEMORY_WORDS / 2)
		broken(SD_BROKEN, -1, 0, 0, "code and drivers have %llu bytes of variables, too many", bytes);
	return !E.broken;
}

/* Explore a scenario, or play one of its schedules again. The result's arrays stay valid up to the next call. */
void sd_explore(const struct sd_scenario *scenario, struct sd_result *result)
{
	Dl_info info;

	memset(result, 0, sizeof(*result));
	E.result = result;
	E.broken = SD_HOLDS;
	E.cur = -1;
	E.s = *scenario;
	E.ended = E.reached = 0;
	if (!is_sane(scenario) || !dladdr(sd_ops, &info))
		return;
	E.hot = E.s.entries * 8;
	E.bits = __builtin_ctz(E.s.entries);
	for (unsigned gfn = 0; gfn < SD_GFNS_MAX; gfn++)
		E.real[gfn] = sd_real_gfn(gfn);
	for (unsigned n = 0; n < E.s.ranges; n++)
		E.s.range[n].offset += (u64)info.dli_fbase;
	map_arena();
	if (E.broken)
		return;
	save_pristine();
	catch_traps();
	reset_access();
	race_reset();
	if (E.s.replays)
		replay(E.s.replay, E.s.replays);
	else
		search();
	result->verdict = E.broken;
	result->ended = E.ended;
	result->reached = E.reached;
	report_access();
	race_report(result);
	if (!E.s.replays && E.broken && E.broken != SD_STOPPED && result->choice) {
		replay(result->choice, result->choices);
		if (E.broken != result->verdict) {
			E.broken = SD_HOLDS;
			broken(SD_BROKEN, -1, 0, 0, "the schedule, played again, does not break the same");
		}
		result->verdict = E.broken;
	}
	release_traps();
}

void sd_layout(u64 sizes[8])
{
	sizes[0] = sizeof(struct sd_scenario);
	sizes[1] = sizeof(struct sd_result);
	sizes[2] = sizeof(struct sd_event);
	sizes[3] = sizeof(struct sd_held);
	sizes[4] = sizeof(struct sd_race);
	sizes[5] = sd_op_count;
	sizes[6] = CPU_RCU;
	sizes[7] = offsetof(struct sd_scenario, replay);
}
