/* SPDX-License-Identifier: MIT */
/* A schedule, access by access, when one is played again. */
#include "engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NAMES_MAX 32
#define NAME_BYTES 64

void sd_describe(const volatile void *word, const void *in_table, char *text, unsigned size) __attribute__((weak));

struct recorder {
	struct sd_event *event;
	struct sd_held *held;
	unsigned events, events_room, helds, helds_room;
	struct hw last[SD_VCPUS_MAX];
	struct { u64 object; char name[NAME_BYTES]; } name[NAMES_MAX];
	char (*text)[NAME_BYTES];
	unsigned names, texts, texts_room;
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
	R->events = R->helds = R->texts = 0;
	memset(R->last, 0, sizeof(R->last));
	E.recording = true;
}

/* Debuggers stop here: the event of that number of a schedule is done (gdb_rows.py). */
void sd_event_done(unsigned number);
__attribute__((noinline)) void sd_event_done(unsigned number)
{
	__asm__ volatile("" : : "r"(number));
}

static int name_of_event(int kind, u64 object);

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
	e->name = name_of_event(kind, (u64)object);
	e->object = (u64)object;
	e->before = before;
	e->after = after;
	e->pc = pc;
	sd_event_done(R->events - 1);
}

/* A step is over (or what comes before all steps): mark its last access, and say what vCPUs may hold now. */
void record_sets(bool step)
{
	if (!E.recording)
		return;
	if (R->events && step)
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

void sd_text(char *text, unsigned size, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(text, size, format, list);
	va_end(list);
}

void sd_name(const volatile void *object, const char *name)
{
	unsigned n = 0;

	if (!have())
		return;
	while (n < R->names && R->name[n].object != (u64)object)
		n++;
	if (n == NAMES_MAX)
		return;
	if (n == R->names)
		R->names++;
	R->name[n].object = (u64)object;
	sd_text(R->name[n].name, NAME_BYTES, "%s", name);
}

/* The explorer's own words, and what somebody gave a name. */
static void describe(u64 object, char *text)
{
	u64 in_host = object - (u64)REST->host, in_header = object - HEADERS_AT;

	*text = 0;
	for (unsigned n = 0; R && n < R->names; n++)
		if (R->name[n].object == object)
			return sd_text(text, NAME_BYTES, "%s", R->name[n].name);
	for (unsigned v = 0; v < SD_VCPUS_MAX; v++) {
		if (object == (u64)&REST->mode[v])
			return sd_text(text, NAME_BYTES, "vCPU%u.mode", v);
		if (object == (u64)&REST->requests[v])
			return sd_text(text, NAME_BYTES, "vCPU%u.requests", v);
	}
	if (in_host < sizeof(REST->host)) {
		u64 field = in_host % sizeof(struct host);

		return sd_text(text, NAME_BYTES, field == offsetof(struct host, pfn) ? "host pfn of gfn %u" :
			       field == offsetof(struct host, level) ? "host level of gfn %u" : "host may write gfn %u",
			       (unsigned)(in_host / sizeof(struct host)));
	}
	if (sd_describe && object)
		sd_describe((void *)object, in_header < HEADERS_BYTES ?
			    (void *)(HEADERS_AT + in_header / SD_HEADER_BYTES * SD_HEADER_BYTES) : NULL, text, NAME_BYTES);
	if (!*text && object)
		sd_text(text, NAME_BYTES, "a word");
}

const char *sd_name_of(u64 object)
{
	static char text[NAME_BYTES];

	describe(object, text);
	return text;
}

/* The number of a name that a schedule has. */
static int named(const char *name)
{
	unsigned n = 0;

	while (n < R->texts && strcmp(R->text[n], name))
		n++;
	if (n == R->texts) {
		R->text = one_more(R->text, R->texts, &R->texts_room, NAME_BYTES);
		sd_text(R->text[R->texts++], NAME_BYTES, "%s", name);
	}
	return n;
}

const char *sd_recorded_name(int name)
{
	return R && name >= 0 && name < (int)R->texts ? R->text[name] : "";
}

static int name_of_event(int kind, u64 object)
{
	char text[NAME_BYTES] = "";

	switch (kind) {
	case SEND_IPI: case WAIT_IPI: case IRQ_DISABLE: case IRQ_ENABLE: case FLUSH: case FLUSH_RANGE:
		sd_text(text, NAME_BYTES, "vCPU%u", (unsigned)object);
		break;
	default:
		if (sd_table_number((void *)object) < 0)
			describe(object, text);
	}
	return named(text);
}
