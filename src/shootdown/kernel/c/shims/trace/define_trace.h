/* SPDX-License-Identifier: MIT */
/* Nothing is left to be made of trace events. */
