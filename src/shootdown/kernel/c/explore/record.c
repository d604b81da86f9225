/* SPDX-License-Identifier: MIT */
/* A schedule, access by access, when one is played again. */
#include "engine.h"

#include <stdlib.h>

struct recorder {
	struct sd_event *event;
	struct sd_held *held;
	unsigned events, events_room, helds, helds_room;
	struct hw last[SD_VCPUS_MAX];
	struct { u64 object; char name[48]; } name[32];
	unsigned names;
};
#define R (E.recorder)

static const char *const kind_names[KIND_COUNT] = {
#define K(name, text, flags) [name] = text,
	KINDS(K)
#undef K
};

const char *sd_kind_name(int kind)
{
	return kind >= 0 && kind < KIND_COUNT ? kind_names[kind] : "";
}

static bool have(void)
{
	if (!R)
		R = calloc(1, sizeof(*R));
	return R != NULL;
}

static void *one_more(void *at, unsigned count, unsigned *room, size_t size)
{
	if (count < *room)
		return at;
	*room = *room ? *room * 2 : 256;
	return realloc(at, *room * size);
}

void begin_record(void)
{
	if (!have())
		return;
	R->events = R->helds = 0;
	memset(R->last, 0, sizeof(R->last));
	E.recording = true;
}

/* Debuggers stop here: the event of that number of a schedule is done (gdb_rows.py). */
void sd_event_done(unsigned number);
__attribute__((noinline)) void sd_event_done(unsigned number)
{
	__asm__ volatile("" : : "r"(number));
}

/* Something was done by the CPU that runs; the values are those of the word before and after. */
void record(int kind, const volatile void *object, u64 before, u64 after, u64 pc)
{
	struct sd_event *e;

	if (!E.recording || (sd_table_number(object) >= 0 && (u64)object % PAGE >= E.hot))
		return;		/* entries that do not take part are told to nobody */
	R->event = one_more(R->event, R->events, &R->events_room, sizeof(*R->event));
	e = &R->event[R->events++];
	memset(e, 0, sizeof(*e));
	e->cpu = E.cur;
	e->kind = kind;
	e->table = sd_table_number(object);
	e->index = e->table < 0 ? -1 : (int)((u64)object % PAGE / 8);
	e->vcpu = vcpu_of(E.cur);
	e->object = (u64)object;
	e->before = before;
	e->after = after;
	e->pc = pc;
	sd_event_done(R->events - 1);
}

/* A step is over: mark its last access, and say what vCPUs may hold now where that is something else. */
void record_sets(void)
{
	if (!E.recording)
		return;
	if (R->events)
		R->event[R->events - 1].last = 1;
	for (unsigned v = 0; v < E.s.vcpus; v++) {
		const struct hw *h = &G->hw[v];

		if (!memcmp(h, &R->last[v], sizeof(*h)))
			continue;
		R->last[v] = *h;
		for (unsigned n = 0; n <= h->tokens; n++) {
			u64 t = n < h->tokens ? h->token[n] : 0;
			struct sd_held *held;

			R->held = one_more(R->held, R->helds, &R->helds_room, sizeof(*R->held));
			held = &R->held[R->helds++];
			/* The last of a set stands for its end: level 0, and whether the vCPU is in the guest. */
			*held = (struct sd_held){ R->events - 1, v, h->root, 0, h->in_guest, h->flags, 0, 0, 0 };
			if (n < h->tokens)
				*held = (struct sd_held){ R->events - 1, v, T_ROOT(t), T_LEVEL(t), T_LEAF(t),
					T_RIGHTS(t) & 7, T_RIGHTS(t) >> 3, T_GFN(t), T_TARGET(t) };
		}
	}
	E.result->event = R->event;
	E.result->events = R->events;
	E.result->held = R->held;
	E.result->helds = R->helds;
}

const char *sd_op_name(unsigned number)
{
	return number < sd_op_count ? sd_ops[number].name : NULL;
}

void sd_name(const volatile void *object, const char *name)
{
	unsigned n = 0;

	if (!have())
		return;
	while (n < R->names && R->name[n].object != (u64)object)
		n++;
	if (n == 32)
		return;
	if (n == R->names)
		R->names++;
	R->name[n].object = (u64)object;
	strncpy(R->name[n].name, name, sizeof(R->name[n].name) - 1);
}

const char *sd_name_of(u64 object)
{
	for (unsigned n = 0; R && n < R->names; n++)
		if (R->name[n].object == object)
			return R->name[n].name;
	for (unsigned v = 0; v < SD_VCPUS_MAX; v++) {
		static const char *const modes[] = { "mode of vCPU0", "mode of vCPU1", "mode of vCPU2", "mode of vCPU3" };
		static const char *const requests[] = {
			"requests of vCPU0", "requests of vCPU1", "requests of vCPU2", "requests of vCPU3" };

		if (object == (u64)&REST->mode[v])
			return modes[v];
		if (object == (u64)&REST->requests[v])
			return requests[v];
	}
	if (object - (u64)REST->host < sizeof(REST->host))
		return "the host's mapping";
	return object ? "a word" : "";
}
