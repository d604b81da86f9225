"""The toy MMU of ``toy/``, built with the explorer, and a search for shortest schedules that is written differently."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory, mkdtemp

from shootdown.kernel.explore import abi
from shootdown.kernel.explore.child import scenario_of
from shootdown.kernel.explore.run import request_of
from shootdown.kernel.explore.scenario import Budget, Guest, Hardware, Options, Scenario, Schedule, Task
from tests.edits import Edit, edited

HERE = Path(__file__).resolve().parent
EXPLORER = HERE.parent / "src" / "shootdown" / "kernel" / "c" / "explore"
PLAIN = ("-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
MMU_WRITABLE = 1 << 9
DIRTY = Hardware(accessed=1 << 8, dirty=1 << 9, mmu_writable=MMU_WRITABLE)
WRITES = ((0, 2), (1, 2))


@cache
def toy(*flags: str) -> Path:
    """The library; ``flags`` are for the toy's own code."""
    return _built(EXPLORER, flags)


@cache
def wrong_explorer(file: str, *edits: Edit) -> Path:
    """The toy with an explorer that has edits in one of its files."""
    with TemporaryDirectory(prefix="shootdown-explorer") as folder:
        copy = Path(copytree(EXPLORER, Path(folder) / "explore"))
        text = (copy / file).read_text(encoding="utf-8")
        for edit in edits:
            text = edited(text, edit)
        (copy / file).write_text(text, encoding="utf-8")
        return _built(copy, ())


def _built(explorer: Path, flags: tuple[str, ...]) -> Path:
    folder = Path(mkdtemp(prefix="shootdown-toy"))
    common = ["gcc", "-std=gnu11", "-O2", "-g", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{explorer}", "-c"]
    for number, source in enumerate([HERE / "toy" / "toy.c", *sorted(explorer.glob("*.c"))]):
        mine = ["-Wno-infinite-recursion", *flags] if number == 0 else []
        subprocess.run([*common, *mine, str(source), "-o", str(folder / f"{number}.o")], check=True)
    objects = sorted(str(path) for path in folder.glob("*.o"))
    subprocess.run(["gcc", "-shared", "-Wl,-z,defs", *objects, "-o", str(folder / "toy.so")], check=True)
    return folder / "toy.so"


def tasks(*host: Task, mapped: tuple[int, ...] = (), options: Options | None = None) -> Scenario:
    """Tasks of the host alone."""
    start = tuple(Task("map", (gfn,)) for gfn in mapped)
    return Scenario(2, host, start=start, root_level=2, options=options or Options())


def guests(
    *host: Task, vcpus: int = 1, fault: int = 0, early: bool = False, mapped: tuple[int, ...] = (0, 1),
    writes: tuple[int, ...] = (), hardware: Hardware | None = None, options: Options | None = None,
) -> Scenario:  # fmt: skip
    """vCPUs that write gfns 0 and 1, beside tasks; ``fault`` and ``early``: what vCPUs do wrong (toy.c)."""
    threads = tuple(Task("vcpu", (v, fault, int(early)), v, True) for v in range(vcpus))
    return Scenario(
        2, (*threads, *host), (Guest(WRITES, writes),) * vcpus, tuple(Task("map", (gfn,)) for gfn in mapped),
        root_level=2, hardware=hardware or Hardware(), options=options or Options(),
    )  # fmt: skip


class Player:
    """Plays schedules of a scenario in this process: no states are kept, each schedule begins at the start."""

    def __init__(self, library: Path, scenario: Scenario, written: tuple[int, ...]) -> None:
        request = request_of(library, scenario, Budget(), Schedule((0,), written))
        loaded = ctypes.CDLL(str(library))
        loaded.sd_op_name.restype = ctypes.c_char_p
        names: list[str] = []
        while (name := loaded.sd_op_name(len(names))) is not None:
            names.append(name.decode())
        for task in (*request["task"], *request["start"]):
            task[0] = names.index(task[0])
        self.struct, self.result, self.loaded = scenario_of(request), abi.ResultStruct(), loaded
        self.cpus = len(scenario.tasks)

    def play(self, choices: tuple[int, ...]) -> tuple[int, str]:
        """What a schedule breaks (0: nothing), and the message."""
        array = (ctypes.c_uint * len(choices))(*choices)
        self.struct.replay, self.struct.replays = array, len(choices)
        self.loaded.sd_explore(ctypes.byref(self.struct), ctypes.byref(self.result))
        return self.result.verdict, self.result.message.decode()

    def shortest(self, most: int, candidates: tuple[int, ...]) -> int:
        """Steps of the shortest schedule that breaks something, by trying all that are no longer; 0 if none does."""
        for length in range(1, most + 1):
            if self._try((), length, candidates):
                return length
        return 0

    def _try(self, before: tuple[int, ...], length: int, candidates: tuple[int, ...]) -> bool:
        for cpu in range(self.cpus):
            for choice in candidates:
                schedule = (*before, cpu << 16 | choice)
                verdict, message = self.play(schedule)
                if "cannot be taken" in message:
                    continue
                if verdict:
                    return True
                if len(schedule) < length and self._try(schedule, length, candidates):
                    return True
        return False


def without_movers(scenario: Scenario) -> Scenario:
    """The same, each access a step."""
    return replace(scenario, options=replace(scenario.options, movers=False))
