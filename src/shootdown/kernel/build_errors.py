"""What the compiler says about a tree, in words: which name is missing, and what that means."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import InputError
from .tree import Tree

_NAMES = (
    (r"implicit declaration of function '(\w+)'", "calls {name}, which our shims do not know"),
    (r"'(\w+)' undeclared", "names {name}, which our shims do not know"),
    (r"unknown type name '(\w+)'", "names the type {name}, which our shims do not know"),
    (r"'[^']*?(?:struct|union|enum) (\w+)'? has no member named '(\w+)'", "wants member {member} of {name}"),
    (r"has no member named '(\w+)'", "wants a member {name}"),
    (r"invalid use of undefined type '(?:struct|union|enum) (\w+)'", "looks into {name}, which our shims do not know"),
    (r"(?:incomplete type|storage size of) '?(?:struct|union|enum)? ?(\w*)", "needs to know all of a type {name}"),
    (r"fatal error: ([^:\n]+): No such file", "includes {name}, which is neither next to it nor in our shims"),
    (r"(?:too few|too many) arguments to function '(\w+)'", "calls {name} with other arguments than ours take"),
    (r"conflicting types for '(\w+)'", "declares {name} in another way than we do"),
)
_LINE = re.compile(r"^([^\s:][^:\n]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", re.MULTILINE)
_UNDEFINED = re.compile(r"^(?:.*?[/ ])?([\w.-]+\.[ch]):(\d+):.*undefined reference to `(\w+)'", re.MULTILINE)
_NEWER = "a newer kernel or a patch brings something new: say what it is in {shims}, as CONTRIBUTING.md tells"


def explain(tree: Tree, said: str, ours: Path) -> InputError:
    """The first of a compiler's errors as one line, and how many other names there are."""
    said = said.replace("\u2018", "'").replace("\u2019", "'")
    found = [(m[1], int(m[2]), m[3]) for m in _LINE.finditer(said)]
    if found:
        return _compile_error(tree, found, ours)
    undefined = [(m[1], int(m[2]), m[3]) for m in _UNDEFINED.finditer(said)]
    if undefined:
        file, line, name = undefined[0]
        more = _more({each for _, _, each in undefined} - {name})
        return InputError(
            f"{tree.name}: {file}:{line} calls {name}, which none of the files that are built defines{more}",
            advice=f"it needs a driver in {ours / 'drivers'}",
        )
    first = next((line for line in said.splitlines() if "error" in line), said.strip().partition("\n")[0])
    return InputError(f"{tree.name}: does not build: {first}", advice="see shootdown doctor")


def _compile_error(tree: Tree, found: list[tuple[str, int, str]], ours: Path) -> InputError:
    file, line, text = found[0]
    if file.startswith(str(ours)):
        place = f"our {Path(file).relative_to(ours)}:{line}"
    else:
        place = f"{file}:{line}"
    what, name = _said(text)
    more = _more({_said(other)[1] for _, _, other in found} - {name, ""})
    if not name:
        return InputError(f"{tree.name}: {place}: {what}", advice="does the tree build by itself?")
    return InputError(f"{tree.name}: {place} {what}{more}", advice=_NEWER.format(shims=ours / "shims" / "sd_kvm.h"))


def _said(text: str) -> tuple[str, str]:
    for pattern, words in _NAMES:
        match = re.search(pattern, text if "fatal" not in pattern else f"fatal error: {text}")
        if match:
            member = match[2] if match.re.groups > 1 else ""
            return words.format(name=match[1], member=member), member or match[1]
    return text, ""


def _more(names: set[str]) -> str:
    return f" (nor {', '.join(sorted(names)[:6])})" if names else ""
