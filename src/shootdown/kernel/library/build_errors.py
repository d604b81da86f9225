"""What the compiler says about a tree, in words: which name is missing, and what that means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ...errors import InputError
from ..source.tree import Tree
from .limited import OVER, Limits

_SAYINGS: Final = (
    (r"implicit declaration of function '(\w+)'", "calls {0}, which our shims do not know"),
    (r"'(\w+)' undeclared", "names {0}, which our shims do not know"),
    (r"unknown type name '(\w+)'", "names the type {0}, which our shims do not know"),
    (r"has no member named '(\w+)'", "wants a member {0}, which our shims leave out"),
    (r"undefined type '(?:struct|union|enum) (\w+)'", "looks into {0}, which our shims do not know"),
    (r"storage size of '(\w+)' isn't known", "declares {0}, of a type that our shims do not know"),
    (r"^([^\s:]+): No such file", "includes {0}, which is neither next to it nor in our shims"),
    (r"(?:too few|too many) arguments to function '(\w+)'", "calls {0} with other arguments than our shims say"),
    (r"macro \"(\w+)\" (?:requires|passed) \d+ arguments", "calls {0} with other arguments than our shims say"),
    (r"conflicting types for '(\w+)'", "declares {0} in another way than our shims"),
)
_LINE: Final = re.compile(r"^([^\s:][^:\n]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", re.MULTILINE)
_UNDEFINED: Final = re.compile(r"^(?:.*?[/ ])?([\w.-]+\.[ch]):(\d+):.*undefined reference to `(\w+)'", re.MULTILINE)
_VENDOR: Final = re.compile(r"sd_(?:op|static_kvm_x86)_(\w+)")
_NEW: Final = "what a newer kernel or a patch brings is to be said in {}: see docs/kernel.md"
OTHERS_MAX: Final = 6


def explain(tree: Tree, said: str, ours: Path) -> InputError:
    """The first of a compiler's errors as one line, with the other names that are missing."""
    said = said.replace("\u2018", "'").replace("\u2019", "'")
    found = [(f"our {Path(file).relative_to(ours)}" if file.startswith(str(ours)) else file, line, text)
             for file, line, text in _LINE.findall(said)]  # fmt: skip
    if found:
        file, line, text = found[0]
        what, name = _meant(text)
        others = _others({_meant(other)[1] for _, _, other in found} - {name, ""})
        advice = _NEW.format(ours / "shims" / "sd_kvm.h") if name else "does the tree build by itself?"
        return InputError(f"{tree.name}: {file}:{line} {what}{others}", advice=advice)
    undefined = _UNDEFINED.findall(said)
    if undefined:
        file, line, name = undefined[0]
        others = _others({_callee(each) for _, _, each in undefined} - {_callee(name)})
        return InputError(
            f"{tree.name}: {file}:{line} calls {_callee(name)}, which no file that is built defines{others}",
            advice=_NEW.format(ours / "drivers"),
        )
    first = next((line for line in said.splitlines() if "error" in line.lower()), said.strip().partition("\n")[0])
    return InputError(f"{tree.name}: does not build: {first}", advice="see shootdown doctor")


def gave_up(tree: Tree, file: str, said: str, limits: Limits) -> InputError:
    """A run of the compiler that came up against a limit, as one line."""
    last = next((line for line in reversed(said.splitlines()) if any(word in line for word in OVER)), said.strip())
    may = f"{limits.seconds} s, {limits.memory_mib} MiB, {limits.file_mib} MiB a file"
    return InputError(
        f"{tree.name}: {file}: the compiler comes up against its limits ({may}): {last}",
        advice="does the tree build by itself?",
    )


def _meant(text: str) -> tuple[str, str]:
    """An error in words, and the name that it is about; "" if it is about none that could be missing."""
    for pattern, words in _SAYINGS:
        match = re.search(pattern, text)
        if match:
            return words.format(_callee(match[1])), _callee(match[1])
    return f"does not compile: {text}", ""


def _callee(name: str) -> str:
    vendor = _VENDOR.fullmatch(name)
    return f"the vendor module's {vendor[1]}" if vendor else name


def _others(names: set[str]) -> str:
    listed = sorted(names)[:OTHERS_MAX]
    more = len(names) - len(listed)
    return f" (also: {', '.join(listed)}{f' and {more} more' if more else ''})" if names else ""
