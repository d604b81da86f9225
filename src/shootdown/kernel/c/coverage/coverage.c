/* SPDX-License-Identifier: MIT */
/*
 * Which blocks of code ran: gcc calls __sanitizer_cov_trace_pc at the start of each one, and where that call returns to
 * is remembered. No state of the explorer: what ran once has run, whatever is restored. Counters as of gcov would not
 * do: gcc derives most of them from others, which is wrong where code is left in the middle and entered there again.
 */
#include <stdint.h>

#define SIZE (1ul << 21)
extern const char __ehdr_start[] __attribute__((visibility("hidden")));	/* where the library begins */
static uint8_t sd_coverage[SIZE];

void __sanitizer_cov_trace_pc(void)
{
	uintptr_t offset = (uintptr_t)__builtin_return_address(0) - (uintptr_t)__ehdr_start;

	if (offset < SIZE)
		sd_coverage[offset] = 1;
}

/* The places that were returned to, up to ``most`` of them; how many there are. */
__attribute__((visibility("default"))) unsigned sd_ran(unsigned *places, unsigned most)
{
	unsigned count = 0, offset;

	for (offset = 0; offset < SIZE; offset++)
		if (sd_coverage[offset] && count++ < most)
			places[count - 1] = offset;
	return count;
}
