/* SPDX-License-Identifier: MIT */
/*
 * All states that were found: the vector of each (snapshot.c), whole, so that no hash stands for one;
 * with its parent, and the step that led from there.
 */
#include "store.h"

#include <stdlib.h>

/*
 * seen: by hash, a state's number from 1 on in the lower bits, as many as the room needs, and bits of the hash above
 * them: a state that is another is told by these, mostly, and not by a row that lies elsewhere in memory.
 */
struct states {
	struct array state;
	u32 count, width;
	u32 *seen;
	u64 seen_room;
};
#define S (E.states)

/* States by number: the vector, then parent and action. */

static u32 *state(u32 number)
{
	return (u32 *)S->state.at + (u64)number * (S->width + 2);
}

u32 parent_of(u32 number, u32 *action)
{
	*action = state(number)[S->width + 1];
	return state(number)[S->width];
}

u32 state_count(void)
{
	return S->count;
}

static u64 place_of(const u32 *vector)
{
	u64 words[PARTS_MAX / 2 + 1];

	words[S->width / 2] = 0;
	memcpy(words, vector, S->width * 4);
	return hash_of(words, (S->width + 1) / 2);
}

/* What is kept of a hash beside a number: the upper half's bits that no number reaches. */
static u32 mark_of(u64 hash, u64 room)
{
	return hash >> 32 & ~(u32)(room - 1);
}

static bool grow_seen(void)
{
	u64 room = S->seen_room ? S->seen_room * 2 : 1 << 14;
	u32 *seen = index_of(room);

	if (!seen)
		return false;
	for (u32 n = 0; n < S->count; n++) {
		u64 hash = place_of(state(n)), at = hash & (room - 1);

		while (seen[at])
			at = (at + 1) & (room - 1);
		seen[at] = mark_of(hash, room) | (n + 1);
	}
	free_index(S->seen, S->seen_room);
	S->seen = seen;
	S->seen_room = room;
	return true;
}

/* A step was not taken after all, and left memory somewhere in the middle of it. */
void forget_step(void)
{
	save_parts();
}

/* The number of the state that memory is in. */
u32 add_state(u32 parent, u32 action, bool *is_new)
{
	const u32 *now;
	u64 hash, at;
	u32 *place, mark, numbers;

	*is_new = false;
	now = save_parts();
	if (blobs_full() || (S->count * 3ull >= S->seen_room * 2 && !grow_seen()))
		goto full;
	hash = place_of(now);
	mark = mark_of(hash, S->seen_room);
	numbers = S->seen_room - 1;
	for (at = hash & numbers; S->seen[at]; at = (at + 1) & numbers)
		if ((S->seen[at] & ~numbers) == mark &&
		    !memcmp(state((S->seen[at] & numbers) - 1), now, S->width * 4))
			return (S->seen[at] & numbers) - 1;
	place = more(&S->state, (S->width + 2) * 4);
	if (!place)
		goto full;
	memcpy(place, now, S->width * 4);
	place[S->width] = parent;
	place[S->width + 1] = action;
	S->seen[at] = mark | ++S->count;
	*is_new = true;
	return S->count - 1;
full:
	broken(SD_STOPPED, -1, 0, 0, "memory is used up");
	return 0;
}

void restore_state(u32 number)
{
	u32 wanted[PARTS_MAX];

	memcpy(wanted, state(number), S->width * 4);
	load_parts(wanted);
}

/* Memory that states take: all of it, that of blobs too. */
u64 state_bytes(u64 *blobs, u64 *blob_bytes)
{
	return S->state.used + S->seen_room * 4 + blobs_bytes(blobs, blob_bytes);
}

bool begin_states(void)
{
	if (!S)
		S = calloc(1, sizeof(*S));
	if (!S)
		return false;
	free_index(S->seen, S->seen_room);
	empty(&S->state);
	memset(S, 0, sizeof(*S));
	S->width = parts();
	return begin_snapshots();
}
