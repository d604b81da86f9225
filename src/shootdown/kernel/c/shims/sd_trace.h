/* SPDX-License-Identifier: MIT */
/* Trace events: each is a function of its name that does nothing, so that new ones cost nothing. */
#ifndef SD_TRACE_H
#define SD_TRACE_H
#include "sd_base.h"

#define TP_PROTO(...) __VA_ARGS__
#define TP_ARGS(...)
#define TP_STRUCT__entry(...)
#define TP_fast_assign(...)
#define TP_printk(...)
#define TRACE_DEFINE_ENUM(x) SD_NOTHING
#define DECLARE_EVENT_CLASS(...) SD_NOTHING
#define TRACE_EVENT(name, proto, ...)					\
static inline void trace_##name(proto)					\
{									\
}									\
static inline bool trace_##name##_enabled(void)				\
{									\
	return false;							\
}									\
SD_NOTHING
#define TRACE_EVENT_CONDITION(name, proto, ...) TRACE_EVENT(name, TP_PROTO(proto))
#define DEFINE_EVENT(class, name, proto, ...) TRACE_EVENT(name, TP_PROTO(proto))
#define DEFINE_EVENT_PRINT(class, name, proto, ...) TRACE_EVENT(name, TP_PROTO(proto))
#endif
