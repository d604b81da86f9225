"""Compiles the hot modules with mypyc; where that is impossible, installs them as plain Python.

The variable SHOOTDOWN_COMPILE decides: ``require`` refuses the plain fallback, ``no`` does not compile, unset tries.
Nothing is compiled while pip only asks for metadata: ``NATIVE`` holds the place of the extensions until they are built.
"""

import os
import sys
from pathlib import Path
from textwrap import shorten

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED = [
    "src/shootdown/build_info.py",
    "src/shootdown/check/search/breaches.py",
    "src/shootdown/check/search/compact.py",
    "src/shootdown/check/search/core.py",
    "src/shootdown/check/search/flushes.py",
    "src/shootdown/check/search/hardware.py",
    "src/shootdown/check/search/layout.py",
    "src/shootdown/check/search/locks.py",
    "src/shootdown/check/search/logs.py",
    "src/shootdown/check/search/mapped.py",
    "src/shootdown/check/search/stakes.py",
    "src/shootdown/check/search/states.py",
    "src/shootdown/check/program/steps.py",
    "src/shootdown/kernel/compare/state.py",
    "src/shootdown/machine/interface.py",
    "src/shootdown/machine/native.py",
    "src/shootdown/machine/store.py",
    "src/shootdown/machine/tables.py",
    "src/shootdown/machine/vcpus.py",
    "src/shootdown/machine/words.py",
    "src/shootdown/mmu/access.py",
    "src/shootdown/mmu/aging.py",
    "src/shootdown/mmu/batch.py",
    "src/shootdown/mmu/behaviour.py",
    "src/shootdown/mmu/change.py",
    "src/shootdown/mmu/change_pte.py",
    "src/shootdown/mmu/clear_dirty.py",
    "src/shootdown/mmu/dirty_log.py",
    "src/shootdown/mmu/dirty_ring.py",
    "src/shootdown/mmu/fast_fault.py",
    "src/shootdown/mmu/fault.py",
    "src/shootdown/mmu/huge_pages.py",
    "src/shootdown/mmu/iter.py",
    "src/shootdown/mmu/kvm.py",
    "src/shootdown/mmu/levels.py",
    "src/shootdown/mmu/link.py",
    "src/shootdown/mmu/make_spte.py",
    "src/shootdown/mmu/mark_dirty.py",
    "src/shootdown/mmu/memory_region.py",
    "src/shootdown/mmu/memory_type.py",
    "src/shootdown/mmu/mmio.py",
    "src/shootdown/mmu/mmu_lock.py",
    "src/shootdown/mmu/notifier.py",
    "src/shootdown/mmu/page_fault.py",
    "src/shootdown/mmu/policies/collect.py",
    "src/shootdown/mmu/policies/collect_as_posted.py",
    "src/shootdown/mmu/policies/eager.py",
    "src/shootdown/mmu/policies/kernel_61.py",
    "src/shootdown/mmu/policies/kernel_612.py",
    "src/shootdown/mmu/policies/leaf_zap.py",
    "src/shootdown/mmu/policies/policy.py",
    "src/shootdown/mmu/policies/promote.py",
    "src/shootdown/mmu/policies/promote_rfc.py",
    "src/shootdown/mmu/policies/rcu.py",
    "src/shootdown/mmu/policies/rcu_literal.py",
    "src/shootdown/mmu/policies/rcu_roots.py",
    "src/shootdown/mmu/policies/registry.py",
    "src/shootdown/mmu/requests.py",
    "src/shootdown/mmu/resched.py",
    "src/shootdown/mmu/roots.py",
    "src/shootdown/mmu/slots.py",
    "src/shootdown/mmu/split.py",
    "src/shootdown/mmu/spte.py",
    "src/shootdown/mmu/table_lists.py",
    "src/shootdown/mmu/vcpu.py",
    "src/shootdown/mmu/vcpu_roots.py",
    "src/shootdown/mmu/walk.py",
    "src/shootdown/mmu/write_protect.py",
    "src/shootdown/mmu/write_track.py",
    "src/shootdown/mmu/zap.py",
    "src/shootdown/trace/changes.py",
    "src/shootdown/trace/codes.py",
    "src/shootdown/trace/findings.py",
    "src/shootdown/trace/infer.py",
    "src/shootdown/trace/lifetime.py",
    "src/shootdown/trace/op.py",
    "src/shootdown/trace/operations.py",
    "src/shootdown/trace/rebuild.py",
    "src/shootdown/trace/roots.py",
    "src/shootdown/trace/state.py",
    "src/shootdown/trace/tables.py",
    "src/shootdown/trace/task.py",
]

GROUP = "shootdown_native"
NATIVE = Extension(f"{GROUP}__mypyc", sources=[])

# Without the first two, every call of a method goes through the PLT and most are not inlined. mypyc's error paths make
# functions look long to gcc, so that it inlines too few: the limit makes walks a fifth faster, the result 4 % larger.
# mypyc sets -Werror, but a warning that only a newer compiler knows must not cost the compiled build.
GCC_FLAGS = ["-fvisibility=hidden", "-fno-semantic-interposition", "-finline-limit=600", "-Wno-error"]
CFLAGS = [] if sys.platform == "win32" else GCC_FLAGS

# mypy's checks belong to the test run; here it only has to infer types, without the other dependencies installed.
MYPY_FLAGS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]


def mode() -> str:
    """What SHOOTDOWN_COMPILE says: ``try``, ``require`` or ``no``."""
    value = os.environ.get("SHOOTDOWN_COMPILE", "") or "try"
    if value not in ("try", "require", "no"):
        raise SystemExit(f"setup.py: SHOOTDOWN_COMPILE={value}: use 'require', 'no', or leave it unset")
    return value


def native_extensions() -> list[Extension]:
    """The compiled modules, all in one group, so that calls between them are C calls."""
    from mypyc.build import mypycify

    extensions = mypycify([*MYPY_FLAGS, *COMPILED], opt_level="3", group_name=GROUP)
    for extension in extensions:
        extension.extra_compile_args = [*extension.extra_compile_args, *CFLAGS]
    return extensions


class BuildNative(build_ext):
    """Builds the compiled modules, or warns in one line and leaves them out."""

    def run(self) -> None:
        """Build all compiled modules or none: half of a group could not be imported."""
        self.remove_built()
        try:
            self.extensions = native_extensions()
            self.build()
        except (Exception, SystemExit) as error:  # no mypyc, no compiler, no headers; mypyc exits on type errors
            cause = "mypyc's messages are above" if isinstance(error, SystemExit) else str(error) or repr(error)
            reason = f"cannot compile ({shorten(cause, 100, placeholder=' ...')})"
            if mode() == "require":
                raise SystemExit(
                    f"setup.py: {reason} and SHOOTDOWN_COMPILE=require; "
                    "install a C compiler and Python's headers (python3-dev), or unset SHOOTDOWN_COMPILE"
                ) from error
            self.warn(f"{reason}; installing plain Python, which is slow")
            self.remove_built()
            self.distribution.ext_modules = [NATIVE]
            self.extensions = []

    def build(self) -> None:
        """Let a second command of the same options build: this one was set up before the extensions were known."""
        self.distribution.ext_modules = self.extensions
        command = build_ext(self.distribution)
        for option in ("build_lib", "build_temp", "debug", "editable_mode", "force", "inplace", "parallel"):
            setattr(command, option, getattr(self, option))
        command.ensure_finalized()
        command.run()

    def remove_built(self) -> None:
        """Start from nothing: what an earlier build left behind would be installed too."""
        for suffix in ("so", "pyd"):
            for path in Path(self.build_lib).rglob(f"*.{suffix}"):
                path.unlink()


setup(
    ext_modules=[] if mode() == "no" else [NATIVE],
    cmdclass={"build_ext": BuildNative},
)
