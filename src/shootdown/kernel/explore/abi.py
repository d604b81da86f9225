"""The structs of ``c/explore/hooks.h`` for ctypes; a test holds their sizes against the C compiler's."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char, c_double, c_int, c_uint, c_ulonglong

GFNS_MAX, CPUS_MAX, VCPUS_MAX, ARGS_MAX, WORDS = 64, 8, 4, 12, 32768
STARTS_MAX, RANGES_MAX, ACCESSES_MAX, TABLES_MAX, FRAMES_MAX = 32, 256, 16, 64, 256


class TaskStruct(Structure):
    """``struct sd_task``."""

    _fields_ = [*((name, c_int) for name in ("op", "vcpu", "again", "args")), ("arg", c_ulonglong * ARGS_MAX)]


class AccessStruct(Structure):
    """``struct sd_access``."""

    _fields_ = [("gfn", c_uint), ("code", c_uint)]


class GuestStruct(Structure):
    """``struct sd_guest``."""

    _fields_ = [
        ("accesses", c_uint), ("pad", c_uint), ("writes", c_ulonglong), ("access", AccessStruct * ACCESSES_MAX),
    ]  # fmt: skip


class RangeStruct(Structure):
    """``struct sd_range``."""

    _fields_ = [("offset", c_ulonglong), ("bytes", c_ulonglong)]


class FrameStruct(Structure):
    """``struct sd_frame``."""

    _fields_ = [("gfn", c_ulonglong), ("pfn", c_ulonglong)]


NUMBERS = ("levels", "entries", "root_level", "tables", "vcpus", "tasks", "starts", "ranges", "replays")
BUDGETS = ("yields", "failures")
SWITCHES = ("movers", "reuse", "late", "ranged", "tso", "races", "ept", "sets_accessed", "logs", "mmio", "nx",
            "frames")  # fmt: skip
MASKS = ("accessed", "dirty", "mmu_writable", "states_max", "bytes_max")


class ScenarioStruct(Structure):
    """``struct sd_scenario``."""

    _fields_ = [
        *((name, c_uint) for name in NUMBERS), *((name, c_int) for name in BUDGETS),
        *((name, c_uint) for name in SWITCHES), *((name, c_ulonglong) for name in MASKS),
        ("seconds_max", c_double), ("pfn_base", c_ulonglong), ("host_pfn", c_ulonglong * GFNS_MAX),
        ("host_level", c_uint * GFNS_MAX), ("host_writable", c_uint * GFNS_MAX), ("guest", GuestStruct * VCPUS_MAX),
        ("task", TaskStruct * CPUS_MAX), ("start", TaskStruct * STARTS_MAX), ("range", RangeStruct * RANGES_MAX),
        ("frame", FrameStruct * FRAMES_MAX),
        ("written", c_ulonglong * (WORDS // 64)), ("replay", POINTER(c_uint)),
    ]  # fmt: skip


class EventStruct(Structure):
    """``struct sd_event``."""

    _fields_ = [
        *((name, c_int) for name in ("cpu", "kind", "table", "index", "vcpu", "last", "name", "pad")),
        *((name, c_ulonglong) for name in ("object", "before", "after", "pc")),
    ]


class HeldStruct(Structure):
    """``struct sd_held``."""

    _fields_ = [
        *((name, c_int) for name in ("event", "vcpu", "root", "level", "leaf", "rights", "dirty", "gfn")),
        ("target", c_ulonglong),
    ]


class RaceStruct(Structure):
    """``struct sd_race``."""

    _fields_ = [
        ("address", c_ulonglong), ("pc", c_ulonglong * 2), ("cpu", c_int * 2), ("write", c_int * 2),
        ("marked", c_int * 2),
    ]  # fmt: skip


COUNTS = ("states", "transitions", "bytes", "blobs", "blob_bytes", "pc", "address", "restarts")


class ResultStruct(Structure):
    """``struct sd_result``."""

    _fields_ = [
        *((name, c_int) for name in ("verdict", "cpu", "vcpu", "table")),
        *((name, c_uint) for name in ("depth", "choices", "events", "helds", "races", "ended", "reached", "pad")),
        *((name, c_ulonglong) for name in COUNTS), ("seconds", c_double), ("message", c_char * 512),
        ("written", c_ulonglong * (WORDS // 64)), ("choice", POINTER(c_uint)), ("event", POINTER(EventStruct)),
        ("held", POINTER(HeldStruct)), ("race", POINTER(RaceStruct)),
    ]  # fmt: skip
